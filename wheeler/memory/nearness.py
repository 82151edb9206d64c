"""How near two frames are in meaning: Pearson's correlation over the meaning tiles that both have.

Tile 0 of a frame is its header and tells nothing; meaning tiles of 8 x 8 cells follow it. So the tiles that two frames
have in common are the first of both, and comparing them is comparing bits under a mask.
"""

from functools import lru_cache

import numpy as np

from wheeler.memory.bits import correlation, counts_within, pack

SIDE = 8                                                                      # of a tile, cells


@lru_cache(maxsize=8)
def first_tiles(height: int, width: int) -> np.ndarray:
    """(tiles, words) uint64: packed signs of a frame with sides of multiples of 8, whose row c has the bits of tiles 1
    to c set, no others."""
    number = np.arange(height)[:, None] // SIDE * (width // SIDE) + np.arange(width) // SIDE
    most = np.arange(height * width // SIDE**2)[:, None, None]
    return pack(np.where((number > 0) & (number <= most), np.int8(-1), np.int8(1)))


def nearness(cues: np.ndarray, of_cues: np.ndarray, signs: np.ndarray, of_signs: np.ndarray, height: int,
             width: int) -> np.ndarray:
    """(Q, n) float64: correlation of frames with others, -1 where they have no meaning tile in common.

    cues (Q, words) and signs (n, words) uint64, packed; of_cues (Q,), of_signs (n,): meaning tiles, in a cue at most
    height * width / 64 - 1.
    """
    common, masks = np.minimum(np.asarray(of_cues)[:, None], of_signs), first_tiles(height, width)
    negative, different = np.empty(common.shape, np.int32), np.empty(common.shape, np.int32)
    counts_within(signs, cues, masks, common, negative, different)
    mine = np.take_along_axis(np.bitwise_count(cues[:, None] & masks).sum(2, dtype=np.int64), common, 1)
    cells = SIDE**2 * np.maximum(common, 1)
    return np.where(common > 0, correlation(different, 1 - 2 * mine / cells, 1 - 2 * negative / cells, cells), -1.0)
