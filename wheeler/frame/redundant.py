"""Redundant frames: bytes in tiles that differ in many cells, with Reed-Solomon redundancy over them."""

import zlib

import numpy as np
import reedsolo

from wheeler.dynamics.tiles import TILE, join_tiles, split_tiles, tile_codebook, tile_words

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
