"""What a frame says, as it is written and as it is read."""

import math
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from wheeler.frame.arithmetic import read_choice

# One damaged frame in 65,536 passes for a whole one. Each bit more would cost every frame that bit.
CHECKSUM = 1 << 16
FILM = 1 << 24                                                                # checksums of whole texts
_LENGTHS = 32                                                                 # bits that a number of frames may have


class Part(NamedTuple):
    """Where a frame belongs. film: checksum of the whole text, below 2^24; place: 0 .. count - 1; count: frames."""

    film: int
    place: int
    count: int

    def choices(self) -> np.ndarray:
        """(4, 3) int64, start, end and total each: what is said before the words."""
        length = (self.count - 1).bit_length()
        said = ((self.film, FILM), (length, _LENGTHS), (self.count - 1, 1 << length), (self.place, self.count))
        return np.array([(value, value + 1, total) for value, total in said], np.int64)

    @classmethod
    def read(cls, coder: np.ndarray, digits: np.ndarray) -> "Part":
        """What a coder says next: `choices` again."""
        film, length = read_choice(coder, digits, FILM), read_choice(coder, digits, _LENGTHS)
        count = read_choice(coder, digits, 1 << length) + 1
        return cls(film, read_choice(coder, digits, count), count)

    @property
    def bits(self) -> float:
        start, end, total = self.choices().T
        return float(np.log2(total / (end - start)).sum())


def checksum(ids: list[int], part: Part | None = None) -> int:
    return zlib.crc32(np.array([*ids, *(part or ())], dtype="<u4").tobytes()) % CHECKSUM


@dataclass
class Written:
    """A text in a frame. frame (H, W) float32 of -1 and +1; fits: whether the words are in it; rows: rows of tiles that
    hold words; tiles: numbers of the meaning tiles; charges (T, 3) int64: start, end and total of every token's
    frequencies, given these tiles; payload: of a redundant frame; part: where a frame of a film belongs."""

    frame: np.ndarray
    fits: bool
    rows: int
    tiles: np.ndarray
    charges: np.ndarray
    ids: list[int]
    payload: bytes | None = None
    part: Part | None = None

    @property
    def cost(self) -> float:
        """Bits of the words, of their checksum and of where the frame belongs."""
        return cost_of(self.charges, self.part)


def choices_of(ids: list[int], charges: np.ndarray, part: Part | None) -> np.ndarray:
    """Where a frame of a film belongs, `Written.charges` and the checksum: of 65,536 that are equally likely."""
    check = checksum(ids, part)
    before = part.choices() if part else np.empty((0, 3), np.int64)
    return np.concatenate([before, charges, [[check, check + 1, CHECKSUM]]])


def bits_of(charges: np.ndarray) -> float:
    start, end, total = charges.T.astype(np.float64)
    return float(np.log2(total / (end - start)).sum())


def cost_of(charges: np.ndarray, part: Part | None = None) -> float:
    """Bits of words with these `Written.charges`, of their checksum, and of a part."""
    return bits_of(charges) + math.log2(CHECKSUM) + (part.bits if part else 0)


@dataclass
class Reading:
    """What a frame says. text: the text, or its gist, "" where there is neither; None where the model has no tokenizer.
    exact: all tokens of the words came back, says their checksum; the characters too, where the tokenizer gives a text
    back. meaning_tiles: how many tell the meaning, a float (a part of one is a part); bits: what the words cost, 0 for
    a gist. ids: token ids, the end token last if it was reached. foreign: other weights wrote the frame. part: where a
    frame of a film belongs, a guess if not exact. kind: one of "words" (exact), "gist", "nothing" (neither words nor
    meaning can be read) and "foreign"."""

    text: str | None
    exact: bool
    meaning_tiles: float
    bits: float
    ids: list[int] = field(repr=False)
    foreign: bool = False
    part: Part | None = None
    kind: str = field(init=False)

    def __post_init__(self):
        self.meaning_tiles = float(self.meaning_tiles)
        told = self.text if self.text is not None else self.ids               # a gist may be nothing but its end
        self.kind = "words" if self.exact else "foreign" if self.foreign else "gist" if told else "nothing"


class ReadOnce:
    """A FrameCode whose `read` decodes a frame once, however often it comes; all else is the FrameCode's. Cells that
    agree to 0.001 make the same frame. most: readings that are kept, the oldest go first; 8 kB each at 64 x 64."""

    def __init__(self, code, most: int = 10_000):
        self._code, self._most, self._known = code, most, {}

    def __getattr__(self, name: str):
        return getattr(self._code, name)

    def read(self, frames: np.ndarray) -> list[Reading]:
        """As `FrameCode.read`."""
        keys = [np.rint(np.asarray(frame) * 1024).astype(np.int16).tobytes() for frame in frames]
        out = {key: self._known[key] for key in keys if key in self._known}
        new = {key: frame for key, frame in zip(keys, frames, strict=True) if key not in out}
        if new:
            out |= dict(zip(new, self._code.read(np.stack([*new.values()])), strict=True))
        self._known |= out
        while len(self._known) > self._most:
            del self._known[next(iter(self._known))]
        return [out[key] for key in keys]
