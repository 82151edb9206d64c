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

**The words' cells** hold the number that arithmetic coding makes of the words: cells.py. Rows that it leaves free show
the text's n-grams (ngrams.py), so that Pearson's correlation of whole frames sees common words there too.

**Their probabilities** come from the decoder without a grid (`WheelerTextAutoencoder.told`) in whole numbers
(integer_decoder.py), its logits rounded to 1/64 and turned into frequencies by an exact table, mixed with those of what
the text itself and a fixed text before it say (cache.py): two machines agree on them. A 16-bit checksum follows the end
token, so that a reader knows whether to trust what was read.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

import numpy as np
import torch
from torch import nn

from wheeler.cli import progress
from wheeler.dynamics.tiles import TILE, join_tiles, split_tiles, tile_codebook, tile_numbers, tile_words
from wheeler.frame.arithmetic import (
    Interval,
    agreement,
    digits_of,
    encode,
    middle,
    new_coder,
    read_choice,
    shortest,
    spent,
)
from wheeler.frame.cells import (
    check_sides,
    fill_regions,
    meaning_count,
    number_bits,
    plausible,
    read_regions,
    views,
    word_regions,
    words_bits,
)
from wheeler.frame.contents import CHECKSUM, Part, Reading, Written, bits_of, checksum, choices_of, cost_of
from wheeler.frame.integer_decoder import IntegerDecoder
from wheeler.frame.ngrams import ngram_field
from wheeler.frame.redundant import (
    HEADERS,
    REDUNDANT_MEANING,
    SYMBOL_BITS,
    bytes_from_frame,
    frame_from_bytes,
    frame_from_symbols,
    kind_of,
    redundant_bits,
    seems_redundant,
    symbols_from_frame,
    tile_count,
)
from wheeler.model.decoding import retell
from wheeler.model.inputs import padded, text_ids

BATCH = 64                                                                    # texts written at once
MOST_WAYS = 64                                                                # to read a frame against erasures


def frame_bits(height: int, width: int, redundant: bool | str = False) -> float:
    """Bits of words that a frame holds; redundant: the most that its tiles hold, with no redundancy left."""
    kind = kind_of(redundant)
    return redundant_bits(height, width, kind) if kind else words_bits(height, width, height // TILE)


@lru_cache(maxsize=1)
def _header_words() -> np.ndarray:
    """Numbers of the tile words that a header can be: all but those of redundant frames, so that neither is taken for
    the other."""
    return np.setdiff1d(np.arange(len(tile_words())), tile_codebook())


# Added to the fingerprint of the weights, so that frames of another format are told as those of other weights are.
# 0: exact fractions instead of 64 bits; 1: the decoder in float64; 2: the decoder alone, without a cache
FRAME_FORMAT = 3
# So many fingerprints as fit beside the number of rows into one tile: a reader with other weights notices.
WEIGHTS_TOLD = 740                                                            # fingerprints: 12,591 words, 17 rows


# What a frame may hold: a number, the size of the interval around it, numbers of meaning tiles, whether of a film.
Candidate = tuple[int, int, np.ndarray, bool]


class FrameCode:
    """Writes texts into frames with a model, meaning and words, and reads them.

    Holds a copy of the decoder: make a new one after training on. height, width: sides of the frame, multiples of
    8 in 16 .. 128, default the model's grid_size. Frames can only be read with the weights that wrote them.
    """

    def __init__(self, model: nn.Module, height: int | None = None, width: int | None = None):
        self.model, self.config = model, model.config
        self.height, self.width = height or model.config.grid_size, width or model.config.grid_size
        check_sides(self.height, self.width)
        for name, weight in model.state_dict().items():                       # compiled code would run astray on them
            if not torch.isfinite(weight).all():
                raise ValueError(f"the weights {name} have NaN or infinite values: no frame can be written or read")
        self.weights_name = model.fingerprint()                               # kept: it hashes all of the weights
        self.fingerprint = (int(self.weights_name, 16) + FRAME_FORMAT) % 2**64
        self.decoder = IntegerDecoder(model)
        self.device = model.device

    # ---- writing ----

    @torch.no_grad()
    def meaning_tiles(self, texts: list[list[int]], rows: int = 0, batch_size: int = 16) -> np.ndarray:
        """(B, M) int64: the numbers of the meaning tiles of texts, as many as a frame with `rows` rows of words has."""
        out = np.empty((len(texts), meaning_count(self.height, self.width, rows)), np.int64)
        # Texts of like length share a batch: padding costs as much as text.
        order = np.argsort([len(ids) for ids in texts], kind="stable")
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            ids, mask = padded([texts[i] for i in part], self.config.pad_token_id, self.device)
            # In float32: the tiles that were chosen stand in the frame, so no reader has to choose them again.
            out[part] = self.model.meaning.choose(self.model.meanings(ids, mask), out.shape[1]).cpu().numpy()
        return out

    def charges(self, texts: list[list[int]], tiles: list[np.ndarray]) -> list[np.ndarray]:
        """(T, 3) int64 a text, given the numbers of its meaning tiles: see `Written`."""
        return self.decoder.charges(texts, tiles)

    def interval(self, ids: list[int], charges: np.ndarray, part: Part | None = None) -> Interval:
        """The numbers that say a text and its checksum, after where a frame of a film belongs."""
        return encode(choices_of(ids, charges, part), number_bits(self.height, self.width))

    def write(self, texts: list[list[int]], redundant: bool | str = False,
              parts: Sequence[Part] = ()) -> list[Written]:
        """Token ids of texts, each closed by the end token -> their frames. A text whose words do not fit gets a frame
        of its meaning alone, a plain one also if `redundant`.

        redundant: frames of tiles, which hold less but are read back through damage, the better the shorter the text:
        "flips" (or True), a byte for 64 cells, through flipped signs and erased areas; "erasures", 13 bits for 64 cells
        and no meaning, through larger erased areas. parts: plain frames of a film, which have a header.
        """
        kind = kind_of(redundant)
        out = (self._write_plain(texts, parts) if not kind else self._write_redundant(texts) if kind == "flips" else
               self._write_symbols(texts))
        # What does not fit keeps its meaning: a frame is never refused, it only says less.
        lost = [i for i, written in enumerate(out) if written is None]
        for i, tiles in zip(lost, self.meaning_tiles([texts[i] for i in lost]), strict=True):
            out[i] = self._finish(texts[i], 0, tiles, np.empty((0, 3), np.int64))
        return out

    def write_texts(self, texts: list[str], redundant: bool = False) -> list[Written]:
        """`write` for texts, any number of them, with a progress bar for many. UserWarnings say how many were cut;
        ValueError where they are no texts."""
        # All in one: what is said of the texts is said once, and counts all of them.
        rows, out = text_ids(texts, self.model.tokenizer, self.config), []
        for start in progress(range(0, len(rows), BATCH), "writing frames", len(rows) > BATCH):
            out += self.write(rows[start : start + BATCH], redundant)
        return out

    @property
    def least_rows(self) -> int:
        """Rows of tiles that words take at least: half. Two rows of meaning tiles correlate at 0.43, whatever they say,
        by the fence and the cells beside it; any other two at 0.15. So frames with many of them, and texts of one
        length, would be near each other (LOG.md)."""
        return self.height // TILE // 2

    def room(self, rows: int) -> float:
        """Bits that are safe to want of `rows` rows of tiles; single frames differ by a few bits."""
        return words_bits(self.height, self.width, rows) - 4

    def _write_plain(self, texts: list[list[int]], parts: Sequence[Part] = ()) -> list[Written | None]:
        """The frame of each text with the fewest rows of words, `least_rows` or more; None where all are too few."""
        # What more meaning saves is only known once the model has run: guess from the length, then step down or up.
        top, least, parts = self.height // TILE, self.least_rows, parts or [None] * len(texts)
        tiles, room = self.meaning_tiles(texts, least), [self.room(rows) for rows in range(top + 1)]
        most = [top - 1 if part else top for part in parts]
        # fails: most rows known to be too few; fits: fewest known to do, 0 if none is known yet.
        fails, fits, charges, out = [least - 1] * len(texts), [0] * len(texts), {}, [None] * len(texts)
        usual = [min(self._usual_rows(ids), limit) for ids, limit in zip(texts, most, strict=True)]
        while True:
            wanted = {}
            for i, ids in enumerate(texts):
                if out[i] is None and fits[i] and fits[i] - 1 == fails[i]:
                    out[i] = self._finish(ids, fits[i], tiles[i], charges[i], parts[i])
                    if not out[i].fits:                                       # this frame holds less than others do
                        out[i], fails[i], fits[i] = None, fits[i], 0
                if out[i] is None and fails[i] < most[i]:
                    wanted[i] = fits[i] - 1 if fits[i] else max(usual[i], fails[i] + 1)
            if not wanted:
                return out
            given = [tiles[i][: meaning_count(self.height, self.width, rows)] for i, rows in wanted.items()]
            found = self.charges([texts[i] for i in wanted], given)
            for (i, rows), of_text in zip(wanted.items(), found, strict=True):
                cost = cost_of(of_text, parts[i])
                if cost > room[rows]:
                    # Fewer tiles do not make the words cheaper: so many rows are needed, or more.
                    fails[i] = next((more for more in range(rows + 1, most[i]) if room[more] >= cost), most[i]) - 1
                    fails[i] = max(fails[i], rows)
                    continue
                fits[i], charges[i] = rows, of_text
                if 0.94 * cost > room[rows - 1]:                              # a row of tiles more saves less
                    fails[i] = rows - 1

    def _usual_rows(self, ids: list[int]) -> int:
        """Rows of words that a story of this length takes, mostly."""
        top = self.height // TILE
        return next((rows for rows in range(self.least_rows, top) if self.room(rows) > 2.4 * len(ids) + 16), top)

    def _finish(self, ids: list[int], rows: int, tiles: np.ndarray, charges: np.ndarray,
                part: Part | None = None) -> Written:
        """The frame: header, meaning tiles, words in `rows` rows of tiles."""
        # Tiles first, the words' band over them: both stand on the same fence.
        count = self.height * self.width // TILE**2
        cells = np.ones((count, TILE**2), np.float32)
        if rows < self.height // TILE:
            # A frame of words alone has no header: its first tile is worth 20 bits of words.
            cells[0] = tile_words()[_header_words()[rows * WEIGHTS_TOLD + self._named(part is not None)]]
        tiles = tiles[: meaning_count(self.height, self.width, rows)]
        cells[1 : 1 + len(tiles)] = tile_words()[tiles]
        frame, fits = join_tiles(cells, self.height, self.width), False
        field = ngram_field(ids[:-1], self.height, self.width) if rows else None
        # A salted number seldom fails to fit by a bit, or looks like a header: the next salt is as good.
        for attempt in range(8 if rows else 0):
            interval = self.interval(ids, charges, part)
            # Any number of the middle half will do. One that looks random gives a frame that does too.
            random_bytes = hashlib.shake_256(repr((ids, attempt)).encode()).digest(interval.bits // 8)
            salt = int.from_bytes(random_bytes, "little")
            number = interval.low + interval.size // 4 + (interval.size // 2 * salt >> interval.bits // 8 * 8)
            # The frame holds a little less than was asked: it fits if all that it says lies in the text's interval.
            held = fill_regions(frame, word_regions(self.height, self.width, rows), number, interval, field)
            fits = interval.size > 0 and interval.holds(held)
            if rows < self.height // TILE or self._header(tile_numbers(split_tiles(frame)[0])) is None:
                break                                                         # words may not look like a header
        return Written(frame, fits, rows, tiles, charges, ids, part=part)

    def _named(self, film: bool) -> int:
        """How a header names the weights; half-way round where the frame is one of a film."""
        return (self.fingerprint + (WEIGHTS_TOLD // 2 if film else 0)) % WEIGHTS_TOLD

    def sketch(self, texts: list[list[int]], costs, seed: int = 0) -> list[Written]:
        """Stand-ins for what `write` gives, for memories that nobody reads: header, meaning tiles, rows of words and
        what fills the free rows are those of the texts; in place of the words stand as many random bits as they cost.
        costs(texts, tiles): bits of the words given numbers of meaning tiles, float32 will do."""
        top, tiles = self.height // TILE, self.meaning_tiles(texts)
        room = [self.room(rows) for rows in range(top + 1)]
        fails, fits, paid = [self.least_rows - 1] * len(texts), [0] * len(texts), np.zeros(len(texts))
        wanted = {i: self._usual_rows(ids) for i, ids in enumerate(texts)}
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
                    fits[i], paid[i] = rows, cost
                    following |= {i: rows - 1} if fails[i] < rows - 1 and 0.94 * cost <= room[rows - 1] else {}
            wanted = following
        rng, out = np.random.default_rng(seed), []
        for ids, rows, of_text, cost in zip(texts, fits, tiles, paid, strict=True):
            bits = rng.integers(0, 2, max(0, round(cost - math.log2(CHECKSUM))))
            out.append(self._finish(ids, rows, of_text, np.stack([bits, bits + 1, np.full_like(bits, 2)], 1)))
        return out

    def _checks(self) -> dict[bytes, int]:
        """What the checksum of a redundant frame covers beside its bytes, and the number of meaning tiles that it
        means: none, or 7 where they leave half of the tiles to redundancy."""
        # The weights are part of what is checked: another model's frame fails here and is not read as nonsense.
        weights = self.fingerprint.to_bytes(8, "little")
        return {weights + bytes([count]): count for count in (REDUNDANT_MEANING, 0)}

    def _write_redundant(self, texts: list[list[int]]) -> list[Written | None]:
        """As `_write_plain`, for redundant frames."""
        tiles = self.meaning_tiles(texts)
        out, count = [None] * len(texts), tile_count(self.height, self.width)
        book = tile_codebook()
        # The nearest of the 256 far words: coarser, but it survives flips.
        similar = tile_words()[tiles[:, :REDUNDANT_MEANING]] @ tile_words()[book].T
        symbols = similar.argmax(-1)                                          # (B, 7): a byte a tile
        for check, most in self._checks().items():
            for i, charges in enumerate(self.charges(texts, list(book[symbols[:, :most]]))):
                words = bytes(shortest(self.interval(texts[i], charges), 8))
                payload = bytes(symbols[i, :most].tolist()) + words
                # Meaning only where half of the tiles stay redundancy: who asks for redundancy wants the words.
                if out[i] is not None or (most and 2 * (len(payload) + 2) > count - HEADERS):
                    continue
                frame = frame_from_bytes(payload, check, self.height, self.width)
                if frame is not None:
                    out[i] = Written(frame, True, 0, book[symbols[i, :most]], charges, texts[i], payload)
        return out

    def _write_symbols(self, texts: list[list[int]]) -> list[Written | None]:
        """As `_write_plain`, for frames against erasures."""
        out, none = [], np.empty(0, np.int64)
        for ids, charges in zip(texts, self.charges(texts, [none] * len(texts)), strict=True):
            symbols = shortest(self.interval(ids, charges), SYMBOL_BITS)
            frame = frame_from_symbols(symbols, self.height, self.width)
            out.append(None if frame is None else Written(frame, True, 0, none, charges, ids))
        return out

    # ---- reading ----

    def look(self, frame: np.ndarray) -> tuple[bool, list[Candidate]]:
        """(foreign, candidates): what a frame (H, W) may hold. foreign: its header names other weights."""
        clean, top, checks = plausible(frame), self.height // TILE, self._checks()
        cells = split_tiles(clean)
        # In the order of how sure each is: a header, then a redundant frame's checksum, then every way to read it.
        header = self._header(tile_numbers(cells[0]))
        if header is not None:
            rows, weights = header
            for film in (False, True):
                if weights == self._named(film):
                    return False, [self._plain_candidate(frame, cells, rows, film)] if rows else []
        found = bytes_from_frame(clean, list(checks))
        if found is not None:
            payload, most = found[0], checks[found[1]]
            # The bytes are the first bits of a number; its middle stands for all that could follow.
            number, unit = middle(payload[most:], 8, number_bits(self.height, self.width))
            return False, [(number, unit, tile_codebook()[list(payload[:most])], False)]
        for seen in views(frame, clean):
            symbols = list(islice(symbols_from_frame(seen), MOST_WAYS))
            if not symbols:
                continue
            return False, [(*middle(some, SYMBOL_BITS, number_bits(self.height, self.width)), np.empty(0, np.int64),
                            False) for some in symbols]
        # Damage can make a header of any tile: other weights are named where all that such a frame shows is whole.
        shown = cells[: 1 + meaning_count(self.height, self.width, header[0])] if header is not None else None
        if shown is not None and (tile_numbers(shown) >= 0).all():
            return True, []
        # No header: words alone, or a damaged one. Every number of rows is tried; the checksum decides.
        return False, [self._plain_candidate(frame, cells, rows, film) for film in (False, True)
                       for rows in range(self.least_rows if film else 1, top + (not film))]

    def _header(self, number: int) -> tuple[int, int] | None:
        """(rows of words, weights) that a tile word says as a header; None where it is none."""
        place = int(np.searchsorted(_header_words(), number))
        rows, weights = divmod(place, WEIGHTS_TOLD)
        header = place < len(_header_words()) and _header_words()[place] == number and rows < self.height // TILE
        return (rows, weights) if header else None

    def _plain_candidate(self, frame: np.ndarray, cells: np.ndarray, rows: int, film: bool = False) -> Candidate:
        tiles = cells[1 : 1 + meaning_count(self.height, self.width, rows)]
        numbers = tile_numbers(tiles)
        # A damaged tile spoils the words' probabilities, unless the nearest word is the right one, so it is tried.
        for k in np.flatnonzero(numbers < 0):                                 # damaged: the nearest
            numbers[k] = (tile_words() @ tiles[k]).argmax()
        number, interval, _ = read_regions(frame, word_regions(self.height, self.width, rows))
        return number, interval.size, numbers, film

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
        told: dict[int, Part] = {}                                            # of frames whose words are damaged
        # All candidates of all frames in one batch: the decoder's cost is that of its slowest row.
        for start in range(0, len(every), 64):
            part = every[start : start + 64]
            for (i, (_, _, tiles, _)), (ids, exact, bits, place) in zip(part, self._decode([c for _, c in part]),
                                                                        strict=True):
                if exact:
                    out[i] = Reading(self.text_of(ids), True, len(tiles), bits, ids, part=place)
                elif place:
                    told.setdefault(i, place)
        lost = [i for i, reading in enumerate(out) if reading is None]
        for start in range(0, len(lost), 64):
            part = lost[start : start + 64]
            for i, reading in zip(part, self._gists(frames[part]), strict=True):
                reading.part, out[i] = told.get(i), reading
        return out

    def text_of(self, ids: list[int]) -> str | None:
        """The text of token ids; None where the model has no tokenizer."""
        tokenizer = self.model.tokenizer
        return None if tokenizer is None else tokenizer.decode(ids, skip_special_tokens=True)

    def _decode(self, candidates: list[Candidate]) -> list[tuple[list[int], bool, float, Part | None]]:
        """For each candidate of `look` token ids, the end token last, whether the checksum agrees, bits, and where it
        belongs. A text that runs out of bits or positions is returned as far as it goes, with False."""
        bits, eos = number_bits(self.height, self.width), self.config.eos_token_id
        digits = np.stack([digits_of(number, bits) for number, *_ in candidates])
        coders = np.stack([new_coder(row) for row in digits])
        # The frame says no more than what lies in the interval around its number.
        most = [Interval(bits, 0, size).spent() for _, size, _, _ in candidates]
        parts = [Part.read(coder, row) if film else None for coder, row, (_, _, _, film) in zip(
            coders, digits, candidates, strict=True)]
        ids: list[list[int]] = [[] for _ in candidates]
        intact, going = [False] * len(candidates), np.arange(len(candidates))
        estimates = self.decoder.estimates([tiles for _, _, tiles, _ in candidates])
        texts = self.decoder.texts(*estimates, self.config.max_seq_len)
        tokens = np.full(len(going), self.config.bos_token_id)
        for _ in range(self.config.max_seq_len):
            left = []
            said = self.decoder.next(texts, going, tokens, coders, digits)
            for row, token in zip(going.tolist(), said.tolist(), strict=True):
                if token < 0 or spent(coders[row]) > most[row]:
                    continue
                ids[row].append(token)
                if token == eos:
                    intact[row] = read_choice(coders[row], digits[row], CHECKSUM) == checksum(ids[row], parts[row])
                else:
                    left.append(row)
            # Rows that are done leave the batch; wrong candidates end early, mostly within a few tokens.
            if not left:
                break
            going, tokens = np.array(left), np.array([ids[row][-1] for row in left])
        return list(zip(ids, intact, map(spent, coders), parts, strict=True))

    def recovers(self, written: Written, frame: np.ndarray) -> tuple[bool, float]:
        """Whether `read` would find the written text in a frame (H, W), and the bits of its longest beginning that is
        still there: the number that the frame holds lies in the text's interval. Faster, for it needs no decoder."""
        # Lets a measure look at thousands of damaged frames: reading each would take a second.
        choices, best = choices_of(written.ids, written.charges, written.part), (False, 0.0)
        for number, _, tiles, film in self.look(frame)[1]:
            if np.array_equal(tiles, written.tiles) and film == (written.part is not None):
                right = agreement(number, choices, number_bits(self.height, self.width))
                best = max(best, (right == len(choices), bits_of(choices[: min(right, len(choices) - 1)])))
        return best

    # ---- the gist ----

    def meaning_cells(self, frame: np.ndarray) -> np.ndarray:
        """The cells of the meaning tiles of a frame (H, W), damaged or not: (M, 64), 0 where a cell says nothing. Where
        the header is lost, the upper half counts as meaning if its tiles are near to tile words; else nothing does."""
        # What cannot be trusted is 0 and says nothing, so a gist fades with the damage and does not turn wrong.
        # The dynamics stop within 1e-4 of a fixed point. In eighths a frame and its attractor are the same, so both
        # have the same gist.
        tiles = split_tiles(plausible(frame))
        cells = np.rint(tiles * 8) / 8
        header = self._header(tile_numbers(cells[0]))
        if header is not None:
            return cells[1 : 1 + meaning_count(self.height, self.width, header[0])]
        cells = cells[1 : meaning_count(self.height, self.width, self.height // TILE // 2) + 1]
        if seems_redundant(np.sign(tiles)):
            return cells[:0]
        known = np.abs(cells).sum(1)
        # Correlation of each tile with its nearest word: that of meaning tiles stays high under damage.
        near = (cells @ tile_words().T).max(1)[known > TILE**2 / 2] / known[known > TILE**2 / 2]
        return cells if len(near) and near.mean() > 0.7 else cells[:0]        # noise has 0.55

    def _gists(self, frames: np.ndarray) -> list[Reading]:
        cells = [self.meaning_cells(frame) for frame in frames]
        most, out = max(map(len, cells)), []
        padded = np.zeros((len(cells), max(1, most), TILE**2), np.float32)
        for i, row in enumerate(cells):
            padded[i, : len(row)] = row
        padded = torch.from_numpy(padded).to(self.device)
        # Half a tile counts half: the estimate must know how much it comes from, or it would be too sure.
        tiles = padded.abs().clamp(max=1).mean(-1).sum(1)                     # (B,)
        meaning = self.model.meaning
        estimate = meaning.estimate(meaning.cells_to_codes(padded), tiles)
        for ids, count in zip(retell(self.model, estimate, tiles), tiles.tolist(), strict=True):
            out.append(Reading(self.text_of(ids) if count else "", False, count, 0.0, ids if count else []))
        return out
