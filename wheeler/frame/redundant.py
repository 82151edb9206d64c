"""Redundant frames: what is to be said in tiles, with Reed-Solomon redundancy over them.

Flips: a byte a tile, in 256 tiles that differ in 8 cells at least, so that a tile with a few wrong cells is still told.
Erasures: 13 bits a tile, in 8,192 of all tiles; more of a frame may be lost, but a wrong cell costs its tile.
"""

import zlib
from collections.abc import Iterator

import numpy as np
import reedsolo

from wheeler.dynamics.tiles import TILE, join_tiles, split_tiles, tile_codebook, tile_words
from wheeler.frame.completion import FIELD, SYMBOL_BITS, completed, sum_of, unknown_from_known

KINDS = ("flips", "erasures")
HEADERS = 3                                                                   # tiles with the length
REDUNDANT_MEANING = 7                                                         # meaning tiles, where they can be spared
_LONGEST = 192                                                                # symbols that the first tile can tell of
_MOST = 1 << 24                                                               # ways to complete tiles, of all lengths


def kind_of(redundant: bool | str) -> str:
    """"flips", "erasures", or "" for plain frames; True means flips. ValueError for anything else."""
    if isinstance(redundant, bool):
        return KINDS[0] if redundant else ""
    if redundant not in ("", *KINDS):
        raise ValueError(f"redundant is {redundant!r:.40}; it must be True, False, {' or '.join(map(repr, KINDS))}")
    return redundant


def tile_count(height: int, width: int) -> int:
    """Tiles of a redundant frame. ValueError where such a frame cannot be made."""
    count = height // TILE * (width // TILE)
    if height % TILE or width % TILE or not HEADERS + 3 <= count <= HEADERS + 255:
        raise ValueError(f"a redundant frame is made of {HEADERS + 3} to {HEADERS + 255} tiles of {TILE} x {TILE} "
                         f"cells, {height} x {width} cells are not")
    return count


def redundant_bits(height: int, width: int, kind: str) -> float:
    """The most bits that a redundant frame can say, with no redundancy left."""
    count = tile_count(height, width)
    # A byte a tile, without the tiles of the length and the two bytes of the checksum; or 13 bits, without the first.
    return 8.0 * max(0, count - HEADERS - 2) if kind == KINDS[0] else float(SYMBOL_BITS * min(count - 1, _LONGEST))


def seems_redundant(tiles: np.ndarray) -> bool:
    """Whether tiles (n, 64) in {-1, 0, +1}, 0 unknown, are those of a redundant frame, damaged perhaps: nearly all are
    near to the tiles of bytes, or of symbols. Meaning tiles may be any."""
    tiles = tiles[np.abs(tiles).sum(1) > TILE**2 / 2]
    scores = tiles @ tile_words().T
    if not len(tiles) or (scores.max(1) / np.abs(tiles).sum(1)).mean() < 0.8:                  # words: 0.74 at most
        return False
    nearest = scores.argmax(1)
    return max(np.isin(nearest, tile_codebook()).mean(), (nearest < 1 << SYMBOL_BITS).mean()) > 0.9


# ---- against flips ----


def _headers(count: int) -> list[int]:
    return [i * count // HEADERS for i in range(HEADERS)]


def frame_from_bytes(payload: bytes, check: bytes, height: int, width: int) -> np.ndarray | None:
    """A frame of tiles with 1 or more bytes, two bytes of a checksum over them and `check`, and in all other tiles
    Reed-Solomon redundancy; None if the payload is too long: more than H/8 * W/8 - 5 bytes."""
    count = tile_count(height, width)
    data = payload + _two_bytes(payload + check)
    # All that is left becomes redundancy: a short text survives more.
    spare = count - HEADERS - len(data)
    if spare < 0:
        return None
    word = list(reedsolo.RSCodec(spare, nsize=count - HEADERS).encode(data)) if spare else list(data)
    # Three copies of the length, spread over the frame: without it nothing can be read.
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
    # The copies vote with their scores: a damaged one counts less than a clean one.
    length = int(scores[places].sum(0).argmax())
    spare = count - HEADERS - length
    if length < 3 or spare < 0:
        return None
    # The first and second best word of each tile; a small gap means that the tile cannot be trusted.
    scores = np.delete(scores, places, axis=0)
    first, second = np.sort(scores, axis=1)[:, :-3:-1].T
    doubtful, word = np.argsort(first - second, kind="stable").tolist(), scores.argmax(1).tolist()
    # An erasure costs one symbol of redundancy, an error two: naming the doubtful tiles doubles what can be lost.
    for erased in range(0, spare + 1, 2):
        try:
            data = bytes(word) if spare == 0 else bytes(
                reedsolo.RSCodec(spare, nsize=len(word)).decode(bytes(word), erase_pos=doubtful[:erased])[0])
        except reedsolo.ReedSolomonError:
            continue
        # The checksum also says how the frame was written: it is tried with each meaning that it could have.
        for check in checks:
            if _two_bytes(data[:-2] + check) == data[-2:]:
                return data[:-2], check
    return None


# ---- against erasures ----


def _erasure_words() -> np.ndarray:
    """(8192, 64): the tile of each symbol."""
    return tile_words()[: 1 << SYMBOL_BITS]


def _erasure_code(spare: int, count: int) -> reedsolo.RSCodec:
    # Made anew each time: the library keeps the tables of the field that was used last for all codecs.
    return reedsolo.RSCodec(spare, nsize=count, c_exp=SYMBOL_BITS, prim=FIELD)


def frame_from_symbols(symbols: list[int], height: int, width: int) -> np.ndarray | None:
    """A frame of tiles with symbols of 13 bits, and in all other tiles Reed-Solomon redundancy over GF(2^13); None if
    there are too many. The first tile, of the 256 that no header is, tells how many there are."""
    count = tile_count(height, width) - 1
    if not 1 <= len(symbols) <= min(count, _LONGEST):
        return None
    spare = count - len(symbols)
    word = list(_erasure_code(spare, count).encode(symbols)) if spare else symbols
    first = tile_words()[tile_codebook()[255 - len(symbols)]]
    return join_tiles(np.concatenate([first[None], _erasure_words()[word]]), height, width)


def _told_symbols(tiles: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Of tiles (n, 64) in {-1, 0, +1}, 0 unknown: the symbol of each, -1 where it is not the only one that agrees with
    all its known cells; and which symbols do, (n, 8192) bool."""
    known = np.abs(tiles).sum(1)
    possible = tiles @ _erasure_words().T > known[:, None] - 1
    sure = (possible.sum(1) == 1) & (known >= TILE)
    return np.where(sure, possible.argmax(1), -1).tolist(), possible


def symbols_from_frame(frame: np.ndarray) -> Iterator[list[int]]:
    """What a frame of symbols (H, W) may say, its cells -1, +1 or 0 for unknown, the likeliest first; nothing where it
    seems to be no such frame. Tiles of which too little is left are erasures; where there are more of them than the
    redundancy bears, the ways to complete some of them are tried, 2^24 at most."""
    try:
        count = tile_count(*frame.shape) - 1
    except ValueError:
        return
    first, *rest = split_tiles(np.sign(frame).astype(np.float32))
    tiles = np.stack(rest)
    told, possible = _told_symbols(tiles)
    known = count - told.count(-1)
    # Tiles that no symbol has: a plain frame is full of them, and so is an erased area that noise has filled.
    strange = ~possible.any(1)
    filled = strange.sum() > count // 4
    tiles[strange], possible[strange] = 0, True
    named = np.flatnonzero(tile_words()[tile_codebook()] @ first > np.abs(first).sum() - 1)
    lengths = [255 - int(k) for k in named[::-1] if 1 <= 255 - k <= min(count, _LONGEST)]
    lengths = lengths or range(1, min(count, _LONGEST) + 1)
    for length in lengths:
        if filled and not _fits(told, length):
            continue
        if known >= length:
            symbols = _decoded(told, length, tiles)
            if symbols is not None:
                yield symbols
                if length + 2 <= known:                                       # two symbols more than needed agree
                    return
        elif length < count:
            for word in completed(told, possible, length, _MOST // len(lengths)):
                yield word[:length]


def _fits(told: list[int], length: int) -> bool:
    """Whether known symbols, two more than the data at least, are of one code word; -1: unknown. Fast, and with no
    symbol wrong: most of the tiles of a plain frame are no symbols, and others are by chance."""
    known = [k for k, symbol in enumerate(told) if symbol >= 0]
    places, others = known[:length], known[length:]
    if len(others) < 2:
        return False
    missing = np.setdiff1d(np.arange(len(told)), places)
    found = sum_of(unknown_from_known(len(told), places), np.array(told)[places])
    return all(found[np.searchsorted(missing, k)] == told[k] for k in others)


def _decoded(word: list[int], length: int, tiles: np.ndarray) -> list[int] | None:
    """The symbols that a word says, -1 unknown; None where it is none, or where the tiles (n, 64) of the unknown ones,
    as far as cells are known, say otherwise."""
    spare = len(word) - length
    lost = [k for k, symbol in enumerate(word) if symbol < 0]
    if not spare:
        return word if not lost else None
    code = _erasure_code(spare, len(word))
    try:
        symbols = [int(x) for x in code.decode([max(0, symbol) for symbol in word], erase_pos=lost)[0]]
    except (reedsolo.ReedSolomonError, ZeroDivisionError):
        return None
    left = tiles[lost]
    agree = (left * _erasure_words()[np.array(code.encode(symbols))[lost]]).sum()
    # A wrong symbol's tile has a third of its cells wrong; the dynamics change a few beside what is lost.
    return symbols if agree >= 0.6 * np.abs(left).sum() else None
