"""Nearness in meaning of packed frames, against plain correlation."""

import numpy as np
import pytest

from wheeler.dynamics.tiles import split_tiles
from wheeler.memory.bits import pack
from wheeler.memory.nearness import nearness


@pytest.mark.parametrize("height, width", [(16, 16), (64, 64), (24, 40)])
def test_nearness_is_correlation_over_common_tiles(height, width):
    rng = np.random.default_rng(height)
    frames = rng.choice([-1.0, 1.0], (9, height, width)).astype(np.float32)
    most = height * width // 64 - 1
    of_tiles = rng.integers(0, most + 1, 9)
    of_tiles[:2], frames[3], of_tiles[3] = (0, most), 1, most                 # a constant frame is like nothing
    cells, signs = split_tiles(frames), pack(frames)
    found = nearness(signs, of_tiles, signs, of_tiles, height, width)
    for cue in range(9):
        for k in range(9):
            common = min(of_tiles[cue], of_tiles[k])
            a, b = (cells[i, 1 : 1 + common].ravel() for i in (cue, k))
            wanted = -1 if not common else 0 if 3 in (cue, k) else np.corrcoef(a, b)[0, 1]
            assert found[cue, k] == pytest.approx(wanted, abs=1e-6)
    assert nearness(signs[:1], [0], signs, of_tiles, height, width).tolist() == [[-1] * 9]
    assert nearness(signs[:1], [1], signs[:0], of_tiles[:0], height, width).shape == (1, 0)
