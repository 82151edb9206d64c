"""Texts as attractors: the meaning of a text and its words in one frame, a fixed point of the Wheeler dynamics.

    text --encoder--> meaning tiles, one of 12,847 each (meaning.py)           what it is about
    text --decoder given those tiles, arithmetic coding--> a number in [0, 1)
         --arithmetic decoding over perturbation-proof patterns--> the rest of the frame       which words, exactly

The frame is a maximal independent set of the torus: no two -1 cells adjacent, every +1 cell touches a -1 cell. Those
are the fixed points that come back whole from any noise that keeps the signs (the dynamics repair it); they hold
0.325 bit a cell at most, 1,331 bits at 64 x 64.

**Layout.** Sides are multiples of 8, from 16 to 128 cells. The tile in the upper left corner is the header: it names
the weights and the number of rows of tiles, counted from below, that hold words. The tiles between are meaning, in
raster order. A writer takes the fewest rows that hold what the decoder charges for the words given the meaning tiles
that are left, and a checksum; where even all rows are too few it writes the meaning alone. (At least half of the rows
are words, see `least_rows`.) With all rows there is no meaning and no header either: a frame without one is read as
words alone.

**The words' cells.** Row 0 and column 0 of every tile are a fixed fence (tiles.py), which cuts a band of rows out of
the torus. Behind it cells are chosen in raster order. What a choice must know of its past is one status for each cell
of the row above: occupied (-1), dominated (+1, touches a -1 already) or needy (+1, can only be dominated from below). A
row can always be completed, and the next one too, if no two needy cells are adjacent and none stands above a cell that
the fence forbids to occupy: such a row can be filled greedily, which leaves no needy cell at all. Within a row, a
backward sum over the row's completions, with a weight for each status, gives the probability of every choice. To reach
the limit itself, the weights would have to be the leading eigenvector of a transfer matrix over all rows.

**Their probabilities** come from the decoder without a grid (`WheelerTextAutoencoder.told`), in float64, its logits
rounded to 1/64 and turned into integer frequencies by an exact table, so that two machines agree on them. A 16-bit
checksum follows the end token, so that a reader knows whether to trust what was read.

Arithmetic coding: Witten, Neal, Cleary 1987; here with whole integers of thousands of bits instead of a sliding window.
"""

import copy
import decimal
import hashlib
import math
import random
import zlib
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import reedsolo
import torch

from models import Teller, WheelerTextAutoencoder
from tiles import TILE, fence_line, join_tiles, split_tiles, tile_codebook, tile_numbers, tile_words

OCCUPIED, DOMINATED, NEEDY = 0, 1, 2                                         # status of a cell when its row is done
WEIGHTS = {OCCUPIED: 0.85, DOMINATED: 1.0, NEEDY: 0.45}                       # found by search; a flat optimum
CELL_BITS = 24                                                                # resolution of a cell's probability
LOGIT_STEP = 64                                                               # logits are rounded to 1/64
CHECKSUM = 1 << 16


# ---- the frame's half -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _fence(height: int, width: int) -> tuple[list[list[bool]], list[list[bool]], np.ndarray]:
    """(barred, may_need, occupied): cells that a -1 of the fence touches, and cells that may stay needy, as lists of
    rows; the fence's own -1 cells (H, W)."""
    occupied = np.zeros((height, width), dtype=bool)
    occupied[0], occupied[:, 0] = fence_line(width), fence_line(height)
    barred = sum(np.roll(occupied, shift, axis) for shift in (1, -1) for axis in (0, 1)) > 0
    may_need = (np.arange(height)[:, None] < height - 1) & ~np.roll(barred, -1, axis=0)
    return barred.tolist(), may_need.tolist(), occupied


def _completions(above: list[int], barred: list[bool], may_need: list[bool]) -> list[tuple]:
    """completions[j][s]: summed weight of all ways to go on after cell j in state s, to the end of the row.

    States: 0 occupied, 1 dominated, 2 open, 3 open with a needy cell on the left (so it must not become needy)."""
    w_occupied, w_dominated, w_needy = WEIGHTS[OCCUPIED], WEIGHTS[DOMINATED], WEIGHTS[NEEDY]
    last = len(above) - 1
    sums = [()] * last + [(1.0, 1.0, w_needy if may_need[last] else 0.0, 0.0)]
    for j in range(last - 1, -1, -1):
        after, up = sums[j + 1], above[j + 1]
        occupy = 0.0 if barred[j + 1] or up == OCCUPIED else w_occupied * after[0]
        if up == NEEDY:
            leave_closed = leave_open = leave_after_needy = 0.0
        else:
            leave_closed = w_dominated * after[1]
            covered = barred[j + 1] or up == OCCUPIED
            leave_open = leave_closed if covered else after[2]
            leave_after_needy = (leave_closed if covered else after[3]) * (w_needy if may_need[j] else 0.0)
        sums[j] = (leave_closed, occupy + leave_open, occupy * w_dominated + leave_after_needy, occupy * w_dominated)
    return sums


def _walk(height: int, width: int, choose) -> np.ndarray:
    """The frame that the choices lead to. choose(i, j, q) -> True for -1; q / 2^24 is its probability, 0 and 2^24 mean
    that there is no choice."""
    barred, may_need, occupied = _fence(height, width)
    frame = np.where(occupied, -1, 1).astype(np.float32)
    above, one = [DOMINATED] * width, 1 << CELL_BITS
    for i in range(1, height):
        sums = _completions(above, barred[i], may_need[i])
        row, state = [DOMINATED] * width, 1                                   # the fence's cell needs nothing
        for j in range(1, width):
            after, up = sums[j], above[j]
            covered = barred[i][j] or up == OCCUPIED
            occupy = 0.0 if covered or state == 0 else (
                WEIGHTS[OCCUPIED] * after[0] * (WEIGHTS[DOMINATED] if state >= 2 else 1.0))
            if up == NEEDY or state == 3 or (state == 2 and not may_need[i][j - 1]):
                leave = 0.0
            else:
                leave = WEIGHTS[NEEDY] if state == 2 else 1.0
                leave *= (WEIGHTS[DOMINATED] * after[1] if covered or state == 0 else after[3 if state == 2 else 2])
            q = one if leave == 0 else 0 if occupy == 0 else min(max(int(occupy / (occupy + leave) * one), 1), one - 1)
            if choose(i, j, q):
                frame[i, j], row[j] = -1, OCCUPIED
                state = 0
            else:
                if state >= 2:
                    row[j - 1] = NEEDY
                state = 1 if covered or state == 0 else 3 if state == 2 else 2
        if state >= 2:
            row[width - 1] = NEEDY
        above = row
    return frame


class Interval:
    """An interval [low, low + size) of [0, 2^bits), narrowed by one choice after another."""

    def __init__(self, bits: int):
        self.bits, self.low, self.size = bits, 0, 1 << bits

    def narrow(self, start: int, end: int, total: int) -> None:
        """Keep the share [start, end) of total. The size may become 0: more was written than `bits` can hold."""
        first = self.size * start // total
        self.low, self.size = self.low + first, self.size * end // total - first

    def narrowed(self, start: int, end: int, total: int) -> "Interval":
        """A new interval, this one's share [start, end) of total."""
        part = copy.copy(self)
        part.narrow(start, end, total)
        return part

    def __contains__(self, number: int) -> bool:
        return self.low <= number < self.low + self.size

    def spent(self) -> float:
        """Bits written so far."""
        return self.bits - math.log2(self.size) if self.size else math.inf


def check_sides(height: int, width: int) -> None:
    for name, side in (("height", height), ("width", width)):
        if side % TILE or not 2 * TILE <= side <= 16 * TILE:
            raise ValueError(f"{name} = {side}: the sides of a frame must be multiples of {TILE} in {2 * TILE} .. "
                             f"{16 * TILE}")


def number_bits(height: int, width: int) -> int:
    """Length of the numbers that stand between text and frame: with room to spare above what a frame holds."""
    return height * width // 2 + 256


Region = tuple[int, int, int, int]                                            # top, left, height, width, cells


def word_regions(height: int, width: int, rows: int) -> list[Region]:
    """Where the words stand that take `rows` rows of tiles, 0 .. H/8: one band or none."""
    return [(height - rows * TILE, 0, rows * TILE, width)] if rows else []


def meaning_count(height: int, width: int, rows: int) -> int:
    """Meaning tiles of a frame whose words take `rows` rows of tiles."""
    return 0 if rows == height // TILE else (height // TILE - rows) * (width // TILE) - 1


def fill_regions(frame: np.ndarray, regions: list[Region], number: int) -> Interval:
    """Write a number of `number_bits` bits into regions of a frame (H, W), in place. Returns the interval of all
    numbers that would have filled them so: what they have in common can be read back."""
    interval = Interval(number_bits(*frame.shape))
    if not 0 <= number < interval.size:
        raise ValueError(f"the number must be in [0, 2^{interval.bits})")

    def choose(i: int, j: int, q: int) -> bool:
        occupy = number - interval.low < interval.size * q >> CELL_BITS
        interval.narrow(0 if occupy else q, q if occupy else 1 << CELL_BITS, 1 << CELL_BITS)
        return occupy

    for top, left, height, width in regions:
        frame[top : top + height, left : left + width] = _walk(height, width, choose)
    return interval


def read_regions(frame: np.ndarray, regions: list[Region]) -> tuple[int, Interval, int]:
    """(number, interval, contradictions) of the regions of a frame (H, W); only signs count, 0 counts as +1.

    contradictions: cells that no frame of this code can have. 0 for an intact frame; in a damaged one they are read
    as what they must be, and what was written before the first of them is still right.
    """
    interval, wrong = Interval(number_bits(*frame.shape)), 0
    for top, left, height, width in regions:
        signs = np.asarray(frame)[top : top + height, left : left + width] < 0

        def choose(i: int, j: int, q: int, signs=signs) -> bool:
            occupy = bool(signs[i, j])
            if q == 0 or q == 1 << CELL_BITS:
                nonlocal wrong
                wrong += occupy == (q == 0)
                return q != 0
            interval.narrow(0 if occupy else q, q if occupy else 1 << CELL_BITS, 1 << CELL_BITS)
            return occupy

        clean = _walk(height, width, choose)
        wrong += int((signs[0] != (clean[0] < 0)).sum() + (signs[1:, 0] != (clean[1:, 0] < 0)).sum())
    return interval.low + interval.size // 2, interval, wrong


@lru_cache(maxsize=64)
def frame_bits(height: int, width: int, rows: int | None = None, redundant: bool = False) -> float:
    """Bits that `rows` rows of tiles hold (None: all), the mean over 8 random numbers; single frames differ by a few
    bits. redundant: the most that tiles hold, without any redundancy left."""
    if redundant:
        return 8.0 * max(0, tile_count(height, width) - HEADERS - 2)
    rng, regions = random.Random(0), word_regions(height, width, height // TILE if rows is None else rows)
    numbers = [rng.getrandbits(number_bits(height, width)) for _ in range(8)]
    return sum(fill_regions(np.ones((height, width)), regions, number).spent() for number in numbers) / 8


# ---- redundant frames -----------------------------------------------------------------------------------------------

HEADERS = 3                                                                   # tiles with the length
REDUNDANT_MEANING = 7                                                         # meaning tiles, where they can be spared


def tile_count(height: int, width: int) -> int:
    """Tiles of a redundant frame. ValueError where such a frame cannot be made."""
    count = height // TILE * (width // TILE)
    if height % TILE or width % TILE or not HEADERS + 3 <= count <= HEADERS + 255:
        raise ValueError(f"a redundant frame is made of {HEADERS + 3} to {HEADERS + 255} tiles of {TILE} x {TILE} "
                         f"cells, {height} x {width} cells are not")
    return count


def _headers(count: int) -> list[int]:
    return [i * count // HEADERS for i in range(HEADERS)]


def frame_from_bytes(payload: bytes, check: bytes, height: int, width: int) -> np.ndarray | None:
    """A frame of tiles with 1 or more bytes, two bytes of a checksum over them and `check`, and in all other tiles
    Reed-Solomon redundancy; None if the payload is too long: more than H/8 * W/8 - 5 bytes."""
    count = tile_count(height, width)
    data = payload + _two_bytes(payload + check)
    spare = count - HEADERS - len(data)
    if spare < 0:
        return None
    word = list(reedsolo.RSCodec(spare, nsize=count - HEADERS).encode(data)) if spare else list(data)
    for place in _headers(count):
        word.insert(place, len(data))
    return join_tiles(tile_words()[tile_codebook()[word]], height, width)


def _two_bytes(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")[:2]


def bytes_from_frame(frame: np.ndarray, checks: list[bytes]) -> tuple[bytes, bytes] | None:
    """The payload of a frame of tiles and which of the `checks` it was written with, or None where none is sure.

    Each tile is the code word that it correlates with most; cells count by their value, so 0 is an erasure. Tiles whose
    first and second choice are close are given to the Reed-Solomon decoder as erasures, more and more of them until the
    checksum agrees (generalised minimum distance decoding, Forney 1966)."""
    try:
        count = tile_count(*frame.shape)
    except ValueError:
        return None
    scores = split_tiles(np.asarray(frame, dtype=np.float32)) @ tile_words()[tile_codebook()].T      # (tiles, 256)
    places = _headers(count)
    length = int(scores[places].sum(0).argmax())
    spare = count - HEADERS - length
    if length < 3 or spare < 0:
        return None
    scores = np.delete(scores, places, axis=0)
    first, second = np.sort(scores, axis=1)[:, :-3:-1].T
    doubtful, word = np.argsort(first - second, kind="stable").tolist(), scores.argmax(1).tolist()
    for erased in range(0, spare + 1, 2):
        try:
            data = bytes(word) if spare == 0 else bytes(
                reedsolo.RSCodec(spare, nsize=len(word)).decode(bytes(word), erase_pos=doubtful[:erased])[0])
        except reedsolo.ReedSolomonError:
            continue
        for check in checks:
            if _two_bytes(data[:-2] + check) == data[-2:]:
                return data[:-2], check
    return None


def plausible(frame: np.ndarray) -> np.ndarray:
    """A copy of a frame (H, W) with 0 in -1 cells that have two or more -1 neighbours. No written frame has such cells;
    an erased area is full of them once the dynamics have run."""
    frame = np.array(frame, dtype=np.float32)
    low = frame < 0
    near = sum(np.roll(low, shift, axis).astype(np.int8) for shift in (1, -1) for axis in (0, 1))
    frame[low & (near >= 2)] = 0
    return frame


# ---- the text's half ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _frequency_table() -> np.ndarray:
    """floor(2^24 exp(-d / 64)), at least 1, for d = 0, 1, ...; exact, where math.exp may differ in its last bit."""
    with decimal.localcontext() as context:
        context.prec = 40
        top = decimal.Decimal(1 << CELL_BITS)
        values = [int(top * (decimal.Decimal(-d) / LOGIT_STEP).exp()) for d in range(math.ceil(17 * LOGIT_STEP))]
    return np.maximum(np.array(values, dtype=np.int64), 1)


def _cumulative(logits: np.ndarray) -> np.ndarray:
    """(..., V) float64 logits -> (..., V + 1) int64 cumulative frequencies, every token at least 1."""
    table = _frequency_table()
    distance = np.rint((logits.max(-1, keepdims=True) - logits) * LOGIT_STEP)
    frequency = table[np.minimum(distance, len(table) - 1).astype(np.int64)]
    return np.concatenate([np.zeros_like(frequency[..., :1]), frequency.cumsum(-1)], -1)


def _checksum(ids: list[int]) -> int:
    return zlib.crc32(np.array(ids, dtype="<u4").tobytes()) % CHECKSUM


@lru_cache(maxsize=1)
def _header_words() -> np.ndarray:
    """Numbers of the tile words that a header can be: all but those of redundant frames, so that neither is taken for
    the other."""
    return np.setdiff1d(np.arange(len(tile_words())), tile_codebook())


WEIGHTS_TOLD = 740                                                            # fingerprints: 12,591 words, 17 rows


@dataclass
class Written:
    """A text in a frame. frame (H, W) float32 of -1 and +1; fits: whether the words are in it; rows: rows of tiles that
    hold words; tiles: numbers of the meaning tiles; charges (T, 3) int64: start, end and total of every token's
    frequencies, given these tiles; payload: of a redundant frame."""

    frame: np.ndarray
    fits: bool
    rows: int
    tiles: np.ndarray
    charges: np.ndarray
    ids: list[int]
    payload: bytes | None = None

    @property
    def cost(self) -> float:
        """Bits of the words and their checksum."""
        return cost_of(self.charges)


@dataclass
class Reading:
    """What a frame says. text: the text, or its gist; None where the model has no tokenizer. exact: the words came back
    whole, says their checksum. meaning_tiles: how many tell the meaning (a part of one is a part); bits: what the words
    cost, 0 for a gist. ids: token ids, the end token last if it was reached. foreign: other weights wrote the frame."""

    text: str | None
    exact: bool
    meaning_tiles: float
    bits: float
    ids: list[int] = field(repr=False)
    foreign: bool = False


def cost_of(charges: np.ndarray) -> float:
    start, end, total = charges.T.astype(np.float64)
    return float(np.log2(total / (end - start)).sum()) + math.log2(CHECKSUM)


class FrameCode:
    """Writes texts into frames with a model, meaning and words, and reads them.

    Holds a float64 copy of the model: make a new one after training on. height, width: sides of the frame, multiples of
    8 in 16 .. 128, default the model's grid_size. Frames written with one model can only be read with the same weights.
    """

    def __init__(self, model: WheelerTextAutoencoder, height: int | None = None, width: int | None = None):
        self.model, self.config = model, model.config
        self.height, self.width = height or model.config.grid_size, width or model.config.grid_size
        check_sides(self.height, self.width)
        self.fingerprint = int(model.fingerprint(), 16)
        tokenizer, model.tokenizer = model.tokenizer, None                    # is not worth copying
        try:
            self.exact = copy.deepcopy(model).double().eval()
        finally:
            model.tokenizer = tokenizer
        self.device = model.encoder.embedding.weight.device

    # ---- writing ----

    @torch.no_grad()
    def meaning_tiles(self, texts: list[list[int]], batch_size: int = 16) -> np.ndarray:
        """(B, M) int64: the numbers of the meaning tiles of texts, as many as a frame without words has."""
        most, out = meaning_count(self.height, self.width, 0), []
        for start in range(0, len(texts), batch_size):
            ids, mask = self.model._padded(texts[start : start + batch_size])
            out.append(self.model.meaning.choose(self.model.meanings(ids, mask), most).cpu().numpy())
        return np.concatenate(out)

    @torch.no_grad()
    def estimates(self, tiles: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers of meaning tiles -> float64 estimates (B, Dm) of the meanings, and how many tiles each has, (B,)."""
        counts = torch.tensor([len(row) for row in tiles], device=self.device)
        numbers = torch.zeros(len(tiles), int(counts.max()), dtype=torch.long, device=self.device)
        for i, row in enumerate(tiles):
            numbers[i, : len(row)] = torch.from_numpy(np.asarray(row, dtype=np.int64))
        present = torch.arange(numbers.shape[1], device=self.device) < counts[:, None]
        codes = self.exact.meaning.codes()[numbers] * present[..., None]
        return self.exact.meaning.estimate(codes, counts.double()), counts

    @torch.no_grad()
    def charges(self, texts: list[list[int]], tiles: list[np.ndarray], batch_size: int = 16) -> list[np.ndarray]:
        """(T, 3) int64 a text, given the numbers of its meaning tiles: see `Written`."""
        out: list[np.ndarray] = [np.empty(0)] * len(texts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids, mask = self.model._padded([texts[i] for i in rows])
            logits = self.exact.told(ids, mask, *self.estimates([tiles[i] for i in rows]))
            for i, of_text in zip(rows, logits.cpu().numpy(), strict=True):
                ends = _cumulative(of_text[: len(texts[i])])                  # (T, V + 1)
                token = np.array(texts[i])[:, None]
                out[i] = np.concatenate([np.take_along_axis(ends, token, 1), np.take_along_axis(ends, token + 1, 1),
                                         ends[:, -1:]], 1)
        return out

    def nested(self, ids: list[int], charges: np.ndarray) -> list[Interval]:
        """The intervals of a text's beginnings: no token, the first, the first two, ..., all, all and the checksum.
        `spent()` is their cost in bits."""
        out = [Interval(number_bits(self.height, self.width))]
        for start, end, total in charges.tolist():
            out.append(out[-1].narrowed(start, end, total))
        check = _checksum(ids)
        return [*out, out[-1].narrowed(check, check + 1, CHECKSUM)]

    def write(self, texts: list[list[int]], redundant: bool = False) -> list[Written]:
        """Token ids of texts, each closed by the end token -> their frames. A text whose words do not fit gets a frame
        of its meaning alone, a plain one also if `redundant`.

        redundant: frames of tiles, which hold less (a byte for 64 cells) but are read back through flipped signs and
        erased areas as well, the better the shorter the text.
        """
        tiles = self.meaning_tiles(texts)
        out = self._write_redundant(texts, tiles) if redundant else self._write_plain(texts, tiles)
        return [written or self._finish(ids, 0, of_text, np.empty((0, 3), np.int64))
                for written, ids, of_text in zip(out, texts, tiles, strict=True)]

    @property
    def least_rows(self) -> int:
        """Rows of tiles that words take at least: half. Two rows of meaning tiles correlate at 0.43, whatever they say,
        by the fence and the cells beside it; any other two at 0.15. So frames with many of them would be near each
        other, and texts of one length. Measured among 500 stories, the first half finds its own in 94.5% with half of
        the rows, 84.5% with one, 68% with six."""
        return self.height // TILE // 2

    def _room(self, rows: int) -> float:
        """Bits that are safe to want of `rows` rows of tiles; single frames differ by a few bits."""
        return frame_bits(self.height, self.width, rows) - 4

    def _write_plain(self, texts: list[list[int]], tiles: np.ndarray) -> list[Written | None]:
        """The frame of each text with the fewest rows of words, `least_rows` or more; None where all are too few."""
        top, least = self.height // TILE, self.least_rows
        # fails: most rows known to be too few; fits: fewest known to do, 0 if none is known yet.
        fails, fits, charges, out = [least - 1] * len(texts), [0] * len(texts), {}, [None] * len(texts)
        usual = [next((r for r in range(least, top) if self._room(r) > 2.9 * len(ids) + 16), top) for ids in texts]
        while True:
            wanted = {}
            for i, ids in enumerate(texts):
                if out[i] is None and fits[i] and fits[i] - 1 == fails[i]:
                    out[i] = self._finish(ids, fits[i], tiles[i], charges[i])
                    if not out[i].fits:                                       # this frame holds less than others do
                        out[i], fails[i], fits[i] = None, fits[i], 0
                if out[i] is None and fails[i] < top:
                    wanted[i] = fits[i] - 1 if fits[i] else max(usual[i], fails[i] + 1)
            if not wanted:
                return out
            given = [tiles[i][: meaning_count(self.height, self.width, rows)] for i, rows in wanted.items()]
            found = self.charges([texts[i] for i in wanted], given)
            for (i, rows), of_text in zip(wanted.items(), found, strict=True):
                if cost_of(of_text) > self._room(rows):
                    fails[i] = rows
                    continue
                fits[i], charges[i] = rows, of_text
                if 0.94 * cost_of(of_text) > self._room(rows - 1):            # a row of tiles more saves less
                    fails[i] = rows - 1

    def _finish(self, ids: list[int], rows: int, tiles: np.ndarray, charges: np.ndarray) -> Written:
        """The frame: header, meaning tiles, words in `rows` rows of tiles."""
        count = self.height * self.width // TILE**2
        cells = np.ones((count, TILE**2), np.float32)
        if rows < self.height // TILE:
            cells[0] = tile_words()[_header_words()[rows * WEIGHTS_TOLD + self.fingerprint % WEIGHTS_TOLD]]
        tiles = tiles[: meaning_count(self.height, self.width, rows)]
        cells[1 : 1 + len(tiles)] = tile_words()[tiles]
        frame, fits = join_tiles(cells, self.height, self.width), False
        for attempt in range(8 if rows else 0):
            interval = self.nested(ids, charges)[-1]
            # Any number of the interval will do. One that looks random gives a frame that does too.
            random_bytes = hashlib.shake_256(repr((ids, attempt)).encode()).digest(interval.bits // 8)
            salt = int.from_bytes(random_bytes, "little")
            number = interval.low + (interval.size * salt >> interval.bits // 8 * 8)
            held = fill_regions(frame, word_regions(self.height, self.width, rows), number)
            fits = interval.low <= held.low and held.low + held.size <= interval.low + interval.size
            if rows < self.height // TILE or self._header(tile_numbers(split_tiles(frame)[0])) is None:
                break                                                         # words may not look like a header
        return Written(frame, fits, rows, tiles, charges, ids)

    def sketch(self, texts: list[list[int]], costs, seed: int = 0) -> list[Written]:
        """Stand-ins for what `write` gives, for memories that nobody reads: header, meaning tiles and rows of words are
        those of the texts, the words' cells hold a random number, which looks as salted words do.
        costs(texts, tiles): bits of the words given numbers of meaning tiles, float32 will do."""
        top, tiles = self.height // TILE, self.meaning_tiles(texts)
        room = [self._room(rows) for rows in range(top + 1)]
        fails, fits = [self.least_rows - 1] * len(texts), [0] * len(texts)
        wanted = {i: next((rows for rows in range(self.least_rows, top) if room[rows] > 2.9 * len(ids) + 16), top)
                  for i, ids in enumerate(texts)}
        while wanted:
            given = [tiles[i][: meaning_count(self.height, self.width, rows)] for i, rows in wanted.items()]
            found, following = costs([texts[i] for i in wanted], given), {}
            for (i, rows), cost in zip(wanted.items(), found, strict=True):
                cost += math.log2(CHECKSUM)
                if cost > room[rows]:
                    # Fewer tiles do not make the words cheaper: so many rows are needed, or more.
                    needed = next((more for more in range(rows + 1, top) if room[more] >= cost), top)
                    fails[i] = max(rows, needed - 1)
                    following |= {i: needed} if rows < top and not fits[i] else {}
                else:
                    fits[i] = rows
                    following |= {i: rows - 1} if fails[i] < rows - 1 and 0.94 * cost <= room[rows - 1] else {}
            wanted = following
        return [self._finish([seed, *ids], rows, of_text, np.empty((0, 3), np.int64))
                for ids, rows, of_text in zip(texts, fits, tiles, strict=True)]

    def _checks(self) -> dict[bytes, int]:
        """What the checksum of a redundant frame covers beside its bytes, and the number of meaning tiles that it
        means: none, or 7 where they leave half of the tiles to redundancy."""
        weights = self.fingerprint.to_bytes(8, "little")
        return {weights + bytes([count]): count for count in (REDUNDANT_MEANING, 0)}

    def _write_redundant(self, texts: list[list[int]], tiles: np.ndarray) -> list[Written | None]:
        """As `_write_plain`, for redundant frames."""
        out, count = [None] * len(texts), tile_count(self.height, self.width)
        book = tile_codebook()
        similar = tile_words()[tiles[:, :REDUNDANT_MEANING]] @ tile_words()[book].T
        symbols = similar.argmax(-1)                                          # (B, 7): a byte a tile
        for check, most in self._checks().items():
            for i, charges in enumerate(self.charges(texts, list(book[symbols[:, :most]]))):
                words = _shortest_bytes(self.nested(texts[i], charges)[-1])
                payload = bytes(symbols[i, :most].tolist()) + words
                if out[i] is not None or (most and 2 * (len(payload) + 2) > count - HEADERS):
                    continue
                frame = frame_from_bytes(payload, check, self.height, self.width)
                if frame is not None:
                    out[i] = Written(frame, True, 0, book[symbols[i, :most]], charges, texts[i], payload)
        return out

    # ---- reading ----

    def look(self, frame: np.ndarray) -> tuple[bool, list[tuple[int, int, np.ndarray]]]:
        """(foreign, candidates): what a frame (H, W) may hold, each candidate a number, the size of the interval around
        it, and the numbers of its meaning tiles. foreign: its header names other weights."""
        clean, top, checks = plausible(frame), self.height // TILE, self._checks()
        cells = split_tiles(clean)
        header = self._header(tile_numbers(cells[0]))
        if header is not None:
            rows, weights = header
            if weights == self.fingerprint % WEIGHTS_TOLD:
                return False, [self._plain_candidate(frame, cells, rows)] if rows else []
        found = bytes_from_frame(clean, list(checks))
        if found is not None:
            payload, most = found[0], checks[found[1]]
            unit = 1 << number_bits(self.height, self.width) - 8 * (len(payload) - most)
            number = int.from_bytes(payload[most:], "big") * unit + unit // 2
            return False, [(number, unit, tile_codebook()[list(payload[:most])])]
        # Damage can make a header of any tile: other weights are named where all that such a frame shows is whole.
        shown = cells[: 1 + meaning_count(self.height, self.width, header[0])] if header is not None else None
        if shown is not None and (tile_numbers(shown) >= 0).all():
            return True, []
        return False, [self._plain_candidate(frame, cells, rows) for rows in range(1, top + 1)]

    def _header(self, number: int) -> tuple[int, int] | None:
        """(rows of words, weights) that a tile word says as a header; None where it is none."""
        place = int(np.searchsorted(_header_words(), number))
        rows, weights = divmod(place, WEIGHTS_TOLD)
        header = place < len(_header_words()) and _header_words()[place] == number and rows < self.height // TILE
        return (rows, weights) if header else None

    def _plain_candidate(self, frame: np.ndarray, cells: np.ndarray, rows: int) -> tuple[int, int, np.ndarray]:
        tiles = cells[1 : 1 + meaning_count(self.height, self.width, rows)]
        numbers = tile_numbers(tiles)
        for k in np.flatnonzero(numbers < 0):                                 # damaged: the nearest
            numbers[k] = (tile_words() @ tiles[k]).argmax()
        number, interval, _ = read_regions(frame, word_regions(self.height, self.width, rows))
        return number, interval.size, numbers

    @torch.no_grad()
    def read(self, frames: np.ndarray) -> list[Reading]:
        """Frames (B, H, W) -> what each says: its text, if the checksum agrees with any way to read it, else the gist
        that its meaning tiles tell."""
        frames = np.asarray(frames, dtype=np.float32)
        if frames.ndim != 3 or frames.shape[1:] != (self.height, self.width):
            raise ValueError(f"frames have shape {frames.shape}, wanted (B, {self.height}, {self.width})")
        if not np.isfinite(frames).all():
            raise ValueError("frames have NaN or infinite values")
        looks = [self.look(frame) for frame in frames]
        every = [(i, candidate) for i, (_, found) in enumerate(looks) for candidate in found]
        out = [Reading(None, False, 0, 0.0, [], foreign=True) if foreign else None for foreign, _ in looks]
        for start in range(0, len(every), 64):
            part = every[start : start + 64]
            for (i, (_, _, tiles)), (ids, exact, bits) in zip(part, self._decode([c for _, c in part]), strict=True):
                if exact:
                    out[i] = Reading(self._text(ids), True, len(tiles), bits, ids)
        lost = [i for i, reading in enumerate(out) if reading is None]
        for start in range(0, len(lost), 64):
            part = lost[start : start + 64]
            for i, reading in zip(part, self._gists(frames[part]), strict=True):
                out[i] = reading
        return out

    def _text(self, ids: list[int]) -> str | None:
        tokenizer = self.model.tokenizer
        return None if tokenizer is None else tokenizer.decode(ids, skip_special_tokens=True)

    def _decode(self, candidates: list[tuple[int, int, np.ndarray]]) -> list[tuple[list[int], bool, float]]:
        """For each candidate of `look` token ids, the end token last, whether the checksum agrees, and bits. A text
        that runs out of bits or positions is returned as far as it goes, with False."""
        length, eos, rows = self.config.max_seq_len, self.config.eos_token_id, range(len(candidates))
        intervals = [Interval(number_bits(self.height, self.width)) for _ in rows]
        ids: list[list[int]] = [[] for _ in rows]
        intact = [False] * len(candidates)
        teller = Teller(self.exact, *self.estimates([tiles for _, _, tiles in candidates]), length)
        going = list(rows)
        tokens = torch.full((len(going), 1), self.config.bos_token_id, device=self.device)
        for t in range(length):
            ends, left = _cumulative(teller.step(tokens, t).cpu().numpy()), []
            for place, row in enumerate(going):
                (number, size, _), interval = candidates[row], intervals[row]
                token = self._next(number, interval, ends[place])
                if token is None or interval.size < size:                     # the frame says no more than this
                    continue
                ids[row].append(token)
                if token != eos:
                    left.append(place)
                    continue
                check = self._next(number, interval, np.arange(CHECKSUM + 1))
                intact[row] = check == _checksum(ids[row])
            if not left:
                break
            if len(left) < len(going):
                teller.keep(left)
                going = [going[place] for place in left]
            tokens = torch.tensor([[ids[row][-1]] for row in going], device=self.device)
        return list(zip(ids, intact, [interval.spent() for interval in intervals], strict=True))

    @staticmethod
    def _next(number: int, interval: Interval, cumulative: np.ndarray) -> int | None:
        """The symbol that `number` says next; narrows the interval."""
        offset, total = number - interval.low, int(cumulative[-1])
        if number not in interval:
            return None
        symbol = int(np.searchsorted(cumulative, ((offset + 1) * total - 1) // interval.size, side="right")) - 1
        interval.narrow(int(cumulative[symbol]), int(cumulative[symbol + 1]), total)
        return symbol

    def recovers(self, written: Written, frame: np.ndarray) -> tuple[bool, float]:
        """Whether `read` would find the written text in a frame (H, W), and the bits of its longest beginning that is
        still there: the number that the frame holds lies in the text's interval. Faster, for it needs no decoder."""
        intervals, best = self.nested(written.ids, written.charges), (False, 0.0)
        for number, _, tiles in self.look(frame)[1]:
            if np.array_equal(tiles, written.tiles):
                kept = max(i.spent() for i in intervals[:-1] if number in i)
                best = max(best, (number in intervals[-1], kept))
        return best

    # ---- the gist ----

    def meaning_cells(self, frame: np.ndarray) -> np.ndarray:
        """The cells of the meaning tiles of a frame (H, W), damaged or not: (M, 64), 0 where a cell says nothing. Where
        the header is lost, the upper half counts as meaning if its tiles are near to tile words; else nothing does."""
        cells = split_tiles(plausible(frame))
        header = self._header(tile_numbers(cells[0]))
        if header is not None:
            return cells[1 : 1 + meaning_count(self.height, self.width, header[0])]
        cells = cells[1 : meaning_count(self.height, self.width, self.height // TILE // 2) + 1]
        known = np.abs(cells).sum(1)
        near = (cells @ tile_words().T).max(1)[known > TILE**2 / 2] / known[known > TILE**2 / 2]
        return cells if len(near) and near.mean() > 0.7 else cells[:0]        # noise has 0.55

    def _gists(self, frames: np.ndarray) -> list[Reading]:
        cells = [self.meaning_cells(frame) for frame in frames]
        most, out = max(map(len, cells)), []
        padded = np.zeros((len(cells), max(1, most), TILE**2), np.float32)
        for i, row in enumerate(cells):
            padded[i, : len(row)] = row
        padded = torch.from_numpy(padded).to(self.device)
        tiles = padded.abs().clamp(max=1).mean(-1).sum(1)                     # (B,)
        meaning = self.model.meaning
        estimate = meaning.estimate(meaning.cells_to_codes(padded), tiles)
        for ids, count in zip(self.model.retell(estimate, tiles), tiles.tolist(), strict=True):
            out.append(Reading(self._text(ids) if count else "", False, count, 0.0, ids if count else []))
        return out


def _shortest_bytes(interval: Interval) -> bytes:
    """The shortest byte string all of whose continuations, as numbers, lie in the interval."""
    for length in range(1, interval.bits // 8):
        unit = 1 << interval.bits - 8 * length
        start = -(-interval.low // unit)
        if (start + 1) * unit <= interval.low + interval.size:
            return start.to_bytes(length, "big")
    return bytes(interval.bits // 8)                                          # too long for any frame
