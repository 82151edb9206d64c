"""What a memory needs of a model: the frames of texts, how much of each is meaning, and what counts as alike.

Of a model it asks for `frame_code()`, see models.py.
"""

import math
from typing import NamedTuple

import numpy as np

from wheeler.cli import brief

# Correlation of unrelated stories' frames, mean and standard deviation (LOG.md), for memories too few to tell.
UNRELATED = {"frame": (0.24, 0.043), "meaning": (0.36, 0.036)}
FEW = 20


class Frames(NamedTuple):
    """frames (B, H, W) float32; tiles (B,) int64: how many meaning tiles each has; exact (B,) bool: whether the frame
    gives the text back character for character; weights: the name of those that wrote it."""

    frames: np.ndarray
    tiles: np.ndarray
    exact: np.ndarray
    weights: str


def are_texts(cue) -> bool:
    """Whether a cue is a text or several, and not frames. ValueError for what is neither."""
    if cue is None or isinstance(cue, (bytes, bool, int, float)):
        raise ValueError(f"{brief(cue)} is neither a text nor a frame")
    if not isinstance(cue, (list, tuple)):
        return isinstance(cue, str)
    if not cue:
        raise ValueError("an empty list of texts; there must be at least one")
    texts = [isinstance(text, str) for text in cue]
    if any(texts) and not all(texts):
        raise ValueError(f"{brief(cue[texts.index(False)])} in a list of texts is no text")
    return all(texts)


def frames_of_texts(model, texts: list[str]) -> Frames:
    """Writes the frames of texts; a progress bar for many. ValueError without a model."""
    if model is None:
        raise ValueError("this memory has no model, so it takes frames and no texts: WheelerMemory(model=model)")
    code = model.frame_code()
    written = code.write_texts(texts)
    exact = [one.fits and code.text_of(one.ids) == text for one, text in zip(written, texts, strict=True)]
    return Frames(np.stack([one.frame for one in written]), np.array([len(one.tiles) for one in written]),
                  np.array(exact), code.weights_name)


def tiles_of_frames(code, frames: np.ndarray) -> np.ndarray | None:
    """(B,) how many meaning tiles frames (B, H, W) have, damaged ones too; None without the FrameCode, which knows."""
    return None if code is None else np.array([len(code.meaning_cells(frame)) for frame in frames], np.int64)


def floor(similarity: np.ndarray, by: str) -> float:
    """The correlation that the best of so many unrelated memories seldom reaches. similarity (n,): of all memories with
    one cue."""
    middle, spread = UNRELATED[by]
    if len(similarity) >= FEW:                                                # most memories are unrelated to a cue
        middle = float(np.median(similarity))
        spread = 1.4826 * float(np.median(np.abs(similarity - middle)))       # as of a normal distribution
    return middle + (math.sqrt(2 * math.log(max(len(similarity), FEW))) + 0.8) * spread
