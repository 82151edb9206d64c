"""Nearness in meaning of packed frames, against plain correlation."""

import numpy as np
import pytest

from wheeler.dynamics.tiles import split_tiles
from wheeler.memory.nearness import nearness, tile_bits


def packed(frames: np.ndarray) -> np.ndarray:
    bits = np.packbits(frames.reshape(len(frames), -1) < 0, axis=1)
    return np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64)


@pytest.mark.parametrize("height, width", [(16, 16), (64, 64), (24, 40)])
def test_nearness_is_correlation_over_common_tiles(height, width):
    rng = np.random.default_rng(height)
    frames = rng.choice([-1.0, 1.0], (9, height, width)).astype(np.float32)
    tiles, cells = tile_bits(packed(frames), height, width), split_tiles(frames)
    assert tiles.shape == (9, height * width // 64)
    most = height * width // 64 - 1
    of_tiles = rng.integers(0, most + 1, 9)
    of_tiles[:2], cells[3, 1:], of_tiles[3] = (0, most), 1, most
    tiles[3, 1:] = 0                                                          # a constant frame is like nothing
    for cue in range(9):
        found = nearness(tiles[cue], of_tiles[cue], tiles, of_tiles)
        for k in range(9):
            common = min(of_tiles[cue], of_tiles[k])
            a, b = (cells[i, 1 : 1 + common].ravel() for i in (cue, k))
            wanted = -1 if not common else 0 if 3 in (cue, k) else np.corrcoef(a, b)[0, 1]
            assert found[k] == pytest.approx(wanted, abs=1e-6)
    assert nearness(tiles[0], 0, tiles, of_tiles).tolist() == [-1] * 9
    assert nearness(tiles[0], 3, tiles[:0], of_tiles[:0]).shape == (0,)
