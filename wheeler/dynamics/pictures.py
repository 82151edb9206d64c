"""Frames as pictures, and noise on them."""

import math
from numbers import Real

import numpy as np
from PIL import Image

from wheeler.cli import brief

# -1 ... +1, RGB. Their brightness (ITU-R 601) grows evenly, so a grey copy says the same.
_STOPS = np.array([[24, 22, 68], [44, 91, 137], [96, 155, 146], [240, 185, 102], [255, 246, 220]])
_PALETTE = np.stack([np.interp(np.linspace(0, 4, 255), range(5), s) for s in _STOPS.T], 1).round().astype(np.uint8)


def add_noise(frames, amplitude, rng):
    """Frames (..., H, W) float32 with uniform noise of that amplitude in every cell, clipped to [-1, 1]; below 1 it
    keeps the sign of cells at -1 and +1. rng: numpy.random.Generator. ValueError for an amplitude that is
    negative or no finite number."""
    if not isinstance(amplitude, Real) or not 0 <= amplitude < math.inf:
        raise ValueError(f"noise is {brief(amplitude)}; it must be a finite number of at least 0")
    return np.clip(frames + amplitude * rng.uniform(-1, 1, frames.shape), -1, 1).astype(np.float32)


def frame_image(frame, scale=4):
    """PIL image of frame (H, W): -1 dark blue, +1 ivory, `scale` pixels a cell; NaN is white. Saves as PNG or GIF."""
    frame = np.asarray(frame)
    index = np.where(np.isnan(frame), 255, np.round((np.clip(np.nan_to_num(frame), -1, 1) + 1) * 127)).astype(np.uint8)
    image = Image.fromarray(np.kron(index, np.ones((scale, scale), np.uint8)))
    image.putpalette(bytes(_PALETTE) + b"\xff\xff\xff")
    return image
