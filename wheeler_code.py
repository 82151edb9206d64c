"""Texts as attractors: a text becomes a frame that survives every sign-keeping disturbance, and is read back whole.

    text --decoder as a language model, arithmetic coding--> a number in [0, 1)
         --arithmetic decoding over perturbation-proof frames--> frame of -1 and +1, a fixed point of the rule

The frame is a maximal independent set of the torus: no two -1 cells adjacent, every +1 cell touches a -1 cell. Those
are the fixed points that come back whole from any noise that keeps the signs (the dynamics repair it); they hold
0.325 bit a cell at most. Reading runs the two arithmetic coders backwards. A text fits as long as its cost under the
language model, in bits, is less than what the frame holds: about 1,260 bits of the 1,331 possible at 64 x 64, 299 of
333 at 32 x 32.

**The frame's half.** Row 0 and column 0 are a fixed fence, every third cell -1, which cuts the torus open. Behind it
cells are chosen in raster order. What a choice must know of its past is one status for each cell of the row above:
occupied (-1), dominated (+1, touches a -1 already) or needy (+1, can only be dominated from below). A row can always
be completed, and the next one too, if no two needy cells are adjacent and none stands above a cell that the fence
forbids to occupy: such a row can be filled greedily, which leaves no needy cell at all. Within a row, a backward sum
over the row's completions, with a weight for each status, gives the probability of every choice. To reach the limit
itself, the weights would have to be the leading eigenvector of a transfer matrix over all rows.

**The text's half.** Probabilities of the decoder without context (`Decoder.forward(inputs, None)`), in float64, its
logits rounded to 1/64 and turned into integer frequencies by an exact table, so that two machines agree on them. A
16-bit checksum follows the end token, so that a reader knows whether to trust what was read.

Arithmetic coding: Witten, Neal, Cleary 1987; here with whole integers of thousands of bits instead of a sliding window.
"""

import copy
import decimal
import hashlib
import itertools
import math
import random
import zlib
from functools import lru_cache

import numpy as np
import reedsolo
import torch
from einops import rearrange

from models import WheelerTextAutoencoder

OCCUPIED, DOMINATED, NEEDY = 0, 1, 2                                         # status of a cell when its row is done
WEIGHTS = {OCCUPIED: 0.85, DOMINATED: 1.0, NEEDY: 0.45}                       # found by search; a flat optimum
CELL_BITS = 24                                                                # resolution of a cell's probability
LOGIT_STEP = 64                                                               # logits are rounded to 1/64
CHECKSUM = 1 << 16


# ---- the frame's half -----------------------------------------------------------------------------------------------


def fence_line(n: int) -> np.ndarray:
    """(n,) bool: which cells of row 0, or column 0, are -1. Every third, so that each +1 cell of the fence touches a -1
    of the fence and bars as few cells beside it as can be; the corner is +1, and some gaps are shorter to fit n."""
    whole, rest = divmod(n - 2, 3)
    gaps = ([3] * whole, [3] * (whole - 1) + [2, 2], [3] * whole + [2])[rest]
    return np.isin(np.arange(n), np.cumsum([1, *gaps]))


@lru_cache(maxsize=16)
def _fence(height: int, width: int) -> tuple[list[list[bool]], list[list[bool]], np.ndarray]:
    """(barred, may_need, occupied): cells that a -1 of the fence touches, and cells that may stay needy, as lists of
    rows; the fence's own -1 cells (H, W)."""
    if height < 4 or width < 4:
        raise ValueError(f"a frame of {height} x {width} cells cannot hold a text: its sides must be 4 at least")
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


def number_bits(height: int, width: int) -> int:
    """Length of the numbers that stand between text and frame: with room to spare above what a frame holds."""
    return height * width // 2 + 256


def frame_from_number(number: int, height: int, width: int) -> tuple[np.ndarray, Interval]:
    """The frame (H, W) float32 of -1 and +1 that holds a number of `number_bits` bits, and the interval of all numbers
    with this frame: what they have in common can be read back."""
    interval = Interval(number_bits(height, width))
    if not 0 <= number < interval.size:
        raise ValueError(f"the number must be in [0, 2^{interval.bits})")

    def choose(i: int, j: int, q: int) -> bool:
        occupy = number - interval.low < interval.size * q >> CELL_BITS
        interval.narrow(0 if occupy else q, q if occupy else 1 << CELL_BITS, 1 << CELL_BITS)
        return occupy

    return _walk(height, width, choose), interval


def number_from_frame(frame: np.ndarray) -> tuple[int, Interval, int]:
    """(number, interval, contradictions) of a frame (H, W); only signs count, 0 counts as +1.

    contradictions: cells that no frame of this code can have. 0 for an intact frame; in a damaged one they are read
    as what they must be, and what was written before the first of them is still right.
    """
    signs = np.asarray(frame) < 0
    height, width = signs.shape
    interval, wrong = Interval(number_bits(height, width)), 0

    def choose(i: int, j: int, q: int) -> bool:
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


@lru_cache(maxsize=16)
def frame_bits(height: int, width: int, redundant: bool = False) -> float:
    """Bits that a frame holds, the mean over 8 random numbers; single frames differ by a few bits. redundant: the most
    that tiles hold, without any redundancy left."""
    if redundant:
        return 8.0 * max(0, tile_count(height, width) - HEADERS - 2)
    rng = random.Random(0)
    numbers = [rng.getrandbits(number_bits(height, width)) for _ in range(8)]
    return sum(frame_from_number(number, height, width)[1].spent() for number in numbers) / 8


# ---- redundant frames -----------------------------------------------------------------------------------------------

TILE, HEADERS = 8, 3                                                          # side of a tile; tiles with the length


@lru_cache(maxsize=1)
def tile_words() -> np.ndarray:
    """(12847, 64) float32 of -1 and +1: all tiles of 8 x 8 cells, row by row, that stand on the fence and whose other
    cells are independent of each other and of the fence, and dominated, inside the tile. So any mix of them side by
    side is perturbation-proof: 13.65 bits a tile, 0.213 a cell. Of all fences this one has the most tiles."""
    fence = fence_line(TILE)
    rows = np.array([row for row in itertools.product((False, True), repeat=TILE)
                     if not row[0] and not any(a and b for a, b in zip(row, row[1:], strict=False))])  # (34, 8)
    tiles = fence[None, None]                                                 # (n, rows so far, 8)
    for i in range(1, TILE + 1):
        row = np.where(np.arange(TILE) == 0, fence[i % TILE], rows) if i < TILE else fence[None]
        tiles = np.concatenate([np.repeat(tiles, len(row), 0), np.tile(row, (len(tiles), 1))[:, None]], 1)
        last, above = tiles[:, -1], tiles[:, -2]
        good = ~(last & (above | np.roll(last, 1, 1))).any(1)
        if i > 1:                                                             # the row above is complete now
            touched = last | tiles[:, -3] | np.roll(above, 1, 1) | np.roll(above, -1, 1)
            good &= (above | touched)[:, 1:].all(1)
        tiles = tiles[good]
    return np.where(tiles[:, :TILE], -1, 1).reshape(len(tiles), -1).astype(np.float32)


@lru_cache(maxsize=1)
def tile_codebook() -> np.ndarray:
    """(256, 64) float32: of the tile words 256 that differ in at least 8 cells, found greedily: a byte a tile."""
    words = tile_words()
    chosen, similarity = [0], words @ words[0]                                # the smaller the farther
    while len(chosen) < 256:
        chosen.append(int(similarity.argmin()))
        similarity = np.maximum(similarity, words @ words[chosen[-1]])
    return words[chosen]


def _tiles(frame: np.ndarray) -> np.ndarray:
    """(H, W) -> (H/8 * W/8, 64), a view or copy."""
    return rearrange(frame, "(h p) (w q) -> (h w) (p q)", p=TILE, q=TILE)


def tile_count(height: int, width: int) -> int:
    """Tiles of a redundant frame. ValueError where such a frame cannot be made."""
    count = height // TILE * (width // TILE)
    if height % TILE or width % TILE or not HEADERS + 3 <= count <= HEADERS + 255:
        raise ValueError(f"a redundant frame is made of {HEADERS + 3} to {HEADERS + 255} tiles of {TILE} x {TILE} "
                         f"cells, {height} x {width} cells are not")
    return count


def _headers(count: int) -> list[int]:
    return [i * count // HEADERS for i in range(HEADERS)]


def frame_from_bytes(payload: bytes, height: int, width: int) -> np.ndarray | None:
    """A frame of tiles that holds 1 or more bytes, with a checksum of two and all other tiles as Reed-Solomon
    redundancy; None if the payload is too long: more than H/8 * W/8 - 5 bytes."""
    count = tile_count(height, width)
    data = payload + zlib.crc32(payload).to_bytes(4, "little")[:2]
    spare = count - HEADERS - len(data)
    if spare < 0:
        return None
    word = list(reedsolo.RSCodec(spare, nsize=count - HEADERS).encode(data)) if spare else list(data)
    for place in _headers(count):
        word.insert(place, len(data))
    return rearrange(tile_codebook()[word], "(h w) (p q) -> (h p) (w q)", h=height // TILE, p=TILE)


def bytes_from_frame(frame: np.ndarray) -> bytes | None:
    """The payload of a frame of tiles, or None if there is none to be trusted.

    Each tile is the code word that it correlates with most; cells count by their value, so 0 is an erasure. Tiles whose
    first and second choice are close are given to the Reed-Solomon decoder as erasures, more and more of them until the
    checksum agrees (generalised minimum distance decoding, Forney 1966)."""
    try:
        count = tile_count(*frame.shape)
    except ValueError:
        return None
    tiles, book = _tiles(np.asarray(frame, dtype=np.float32)), tile_codebook()
    fence = (book == book[0]).all(0)                                          # cells that all code words share
    if tiles[:, fence].sum(0) @ book[0, fence] < 0.4 * np.abs(tiles[:, fence]).sum():
        return None                                                           # no tiles here
    scores = tiles @ book.T                                                   # (tiles, 256)
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
        if zlib.crc32(data[:-2]).to_bytes(4, "little")[:2] == data[-2:]:
            return data[:-2]
    return None


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


class FrameCode:
    """Writes texts into perturbation-proof frames with a model's decoder as the language model, and reads them.

    Holds a float64 copy of the decoder: make a new one after training on. height, width: sides of the frame, default
    the model's grid_size. Frames written with one model can only be read with the same weights.
    """

    def __init__(self, model: WheelerTextAutoencoder, height: int | None = None, width: int | None = None):
        self.model, self.config = model, model.config
        self.height, self.width = height or model.config.grid_size, width or model.config.grid_size
        _fence(self.height, self.width)                                       # bad sides fail here
        self.decoder = copy.deepcopy(model.decoder).double().eval()
        self.head = model.encoder.embedding.weight.detach().double()[: model.config.vocab_size]

    @torch.no_grad()
    def nested(self, ids: list[int], bits: int | None = None) -> list[Interval]:
        """The intervals of a text's beginnings: no token, the first, the first two, ..., all, all and the checksum.
        `spent()` is their cost in bits. bits: length of the numbers, default `number_bits` of the frame."""
        inputs = torch.tensor([[self.config.bos_token_id, *ids[:-1]]], device=self.head.device)
        ends = _cumulative((self.decoder(inputs, None)[0] @ self.head.T).cpu().numpy())        # (T, V + 1)
        out = [Interval(bits or number_bits(self.height, self.width))]
        for token, cumulative in zip(ids, ends, strict=True):
            out.append(out[-1].narrowed(int(cumulative[token]), int(cumulative[token + 1]), int(cumulative[-1])))
        check = _checksum(ids)
        return [*out, out[-1].narrowed(check, check + 1, CHECKSUM)]

    def intervals(self, texts: list[list[int]], bits: int | None = None) -> list[Interval]:
        """The interval of each text: token ids, the end token last."""
        return [self.nested(ids, bits)[-1] for ids in texts]

    def write(self, texts: list[list[int]], redundant: bool = False,
              intervals: list[Interval] | None = None) -> tuple[np.ndarray, list[bool]]:
        """Token ids of texts, each closed by the end token -> frames (B, H, W) float32 of -1 and +1, and whether each
        text fits. The frame of one that does not holds its beginning, or, if `redundant`, is blank (+1).

        redundant: frames of tiles, which hold less (a byte for 64 cells) but are read back through flipped signs and
        erased areas as well, the better the shorter the text. Sides must be multiples of 8. intervals: those of the
        texts, where they are at hand.
        """
        frames, fits = [], []
        for ids, interval in zip(texts, intervals or self.intervals(texts), strict=True):
            if redundant:
                frame = self._tile_frame(interval)
                frames.append(np.ones((self.height, self.width), np.float32) if frame is None else frame)
                fits.append(frame is not None)
                continue
            # Any number of the interval will do. One that looks random gives a frame that does too.
            salt = int.from_bytes(hashlib.shake_256(repr(ids).encode()).digest(interval.bits // 8), "little")
            number = interval.low + (interval.size * salt >> interval.bits // 8 * 8)
            frame, held = frame_from_number(number, self.height, self.width)
            frames.append(frame)
            fits.append(interval.size > 0 and interval.low <= held.low
                        and held.low + held.size <= interval.low + interval.size)
        return np.stack(frames), fits

    def _tile_frame(self, interval: Interval) -> np.ndarray | None:
        """The tiles of the shortest byte string all of whose continuations lie in the interval."""
        for length in range(1, interval.bits // 8):
            unit = 1 << interval.bits - 8 * length
            start = -(-interval.low // unit)
            if (start + 1) * unit <= interval.low + interval.size:
                return frame_from_bytes(start.to_bytes(length, "big"), self.height, self.width)
        return None

    def hold(self, frame: np.ndarray) -> tuple[int, int]:
        """(number, size of the interval around it) that a frame of either kind holds."""
        payload = bytes_from_frame(frame)
        if payload is None:
            number, interval, _ = number_from_frame(frame)
            return number, interval.size
        unit = 1 << number_bits(self.height, self.width) - 8 * len(payload)
        return int.from_bytes(payload, "big") * unit + unit // 2, unit

    @torch.no_grad()
    def read(self, frames: np.ndarray) -> list[tuple[list[int], bool]]:
        """Frames (B, H, W) -> for each the token ids, end token last, and whether the checksum agrees. A text that runs
        out of bits or positions is returned as far as it goes, with False."""
        frames = np.asarray(frames)
        if frames.ndim != 3 or frames.shape[1:] != (self.height, self.width):
            raise ValueError(f"frames have shape {frames.shape}, wanted (B, {self.height}, {self.width})")
        length, eos, rows = self.config.max_seq_len, self.config.eos_token_id, range(len(frames))
        held = [self.hold(frame) for frame in frames]
        intervals = [Interval(number_bits(self.height, self.width)) for _ in rows]
        ids: list[list[int]] = [[] for _ in rows]
        intact, caches = [False] * len(frames), self.decoder.new_caches(len(frames), length)
        tokens, going = torch.full((len(frames), 1), self.config.bos_token_id, device=self.head.device), set(rows)
        for t in range(length):
            hidden = self.decoder.step(tokens, None, caches, t)[:, 0]         # (B, D)
            ends = _cumulative((hidden @ self.head.T).cpu().numpy())
            for row in list(going):
                (number, size), interval = held[row], intervals[row]
                token = self._next(number, interval, ends[row])
                if token is None or interval.size < size:      # the frame says no more than this
                    going.discard(row)
                    continue
                ids[row].append(token)
                tokens[row] = token
                if token == eos:
                    check = self._next(number, interval, np.arange(CHECKSUM + 1))
                    intact[row] = check == _checksum(ids[row])
                    going.discard(row)
            if not going:
                break
        return list(zip(ids, intact, strict=True))

    @staticmethod
    def _next(number: int, interval: Interval, cumulative: np.ndarray) -> int | None:
        """The symbol that `number` says next; narrows the interval."""
        offset, total = number - interval.low, int(cumulative[-1])
        if number not in interval:
            return None
        symbol = int(np.searchsorted(cumulative, ((offset + 1) * total - 1) // interval.size, side="right")) - 1
        interval.narrow(int(cumulative[symbol]), int(cumulative[symbol + 1]), total)
        return symbol
