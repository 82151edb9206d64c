"""How near two frames are in meaning: Pearson's correlation over the meaning tiles that both have.

A tile of 8 x 8 cells is one number of 64 bits here, a bit for each cell below 0. Tile 0 of a frame is its header and
tells nothing; meaning tiles follow it. So the tiles that two frames have in common are the first of both.
"""

import numpy as np

from wheeler.memory.bits import correlation

CELLS = 64                                                                    # of a tile


def tile_bits(signs: np.ndarray, height: int, width: int) -> np.ndarray:
    """Packed signs (n, words) uint64 of frames with sides of multiples of 8 -> their tiles (n, tiles) uint64."""
    count = height * width // 8
    rows = np.ascontiguousarray(signs).view(np.uint8)[:, :count].reshape(len(signs), height // 8, 8, width // 8)
    return np.ascontiguousarray(rows.swapaxes(2, 3)).view(np.uint64).reshape(len(signs), -1)


def nearness(cue: np.ndarray, of_cue: int, tiles: np.ndarray, of_tiles: np.ndarray) -> np.ndarray:
    """(n,) float64: correlation of one frame with others, -1 where they have no meaning tile in common.

    cue (tiles,) and tiles (n, tiles) uint64: all tiles, the header first; of_cue, of_tiles (n,): meaning tiles.
    """
    common = np.minimum(of_cue, of_tiles)
    most, place = int(common.max(initial=0)), np.maximum(common - 1, 0)
    if not most:
        return np.full(len(tiles), -1.0)
    mine, theirs = cue[1 : most + 1], tiles[:, 1 : most + 1]
    # Counts of cells below 0, and of cells that differ, in the first 1, 2, ... tiles.
    counted = lambda bits: np.bitwise_count(bits).astype(np.int32).cumsum(-1)
    pick = lambda counts: np.take_along_axis(counts, place[:, None], 1)[:, 0]
    cells = CELLS * np.maximum(common, 1)
    a = 1 - 2 * counted(mine)[place] / cells                                  # means of the cells
    b, different = 1 - 2 * pick(counted(theirs)) / cells, pick(counted(theirs ^ mine))
    return np.where(common > 0, correlation(different, a, b, cells), -1.0)
