"""Films: texts of any length as several frames, each of which says where it belongs.

    text --cut--> pieces, one for each frame --FrameCode.write--> frames (F, H, W)
    frames, in any order --FrameCode.read--> pieces and their places --joined--> texts, gaps marked

Every frame is written without regard to the others: its meaning tiles are those of its own piece, and its words cost
what they cost alone. So a lost frame loses its own piece and no other. (What the end of the last piece would save as a
context is in LOG.md.) Before its words a frame says which film it is of, its place and the number of frames: `Part`.

A text that one frame holds is a film of that frame, an ordinary one as `FrameCode.write` gives it.
"""

import math
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from wheeler.dynamics.tiles import TILE
from wheeler.frame.code import FrameCode, Written
from wheeler.frame.contents import FILM, Part, Reading
from wheeler.model.inputs import encode_text

MOST_FRAMES = 1 << 24
SPARE = 24.0                                                                  # bits: frames differ in what they hold
BATCH = 32                                                                    # frames written or read at once
# Where a piece had better end, best first: after a paragraph, a sentence, a word.
_ENDS = tuple(re.compile(end) for end in (r"\n\s*", r"[.!?][\"'”’)]*\s+", r"\s+"))


def film_of(text: str) -> int:
    """The number that names a text's film: CRC-32 of its UTF-8 bytes, the lower 24 bits."""
    return zlib.crc32(text.encode("utf-8")) % FILM


# ---- writing ----


def ends_well(text: str, end: int) -> int:
    """Where a piece of the first `end` characters of a text had better end: after a paragraph, a sentence or a word of
    its last eighth, fifth or half, in this order; else at `end`."""
    if end >= len(text):
        return len(text)
    for pattern, share in zip(_ENDS, (7 / 8, 4 / 5, 1 / 2), strict=True):
        found = [match.end() for match in pattern.finditer(text, int(share * end), end)]
        if found:
            return found[-1]
    return end


def pieces(code: FrameCode, text: str) -> Iterator[str]:
    """The pieces of a text that does not fit into one frame, in order, as long as frames with a header hold."""
    tokenizer, config, rows = code.model.tokenizer, code.config, code.height // TILE - 1
    room = code.room(rows) - Part(0, 0, 1000).bits - 16 - SPARE
    start = 0
    while start < len(text):
        # As many tokens as the model takes; fewer where these cost too much, and again, as a shorter piece has other
        # tiles.
        window = text[start : start + 100 * config.max_seq_len]
        _, piece = encode_text(window, tokenizer, config)
        piece = piece[: ends_well(window, len(piece))]
        while True:
            ids, _ = encode_text(piece, tokenizer, config)
            charges, = code.charges([ids], [code.meaning_tiles([ids], rows)[0]])
            bits = np.log2(charges[:, 2] / (charges[:, 1] - charges[:, 0]).astype(np.float64)).cumsum()
            if bits[-1] <= room or len(piece) < 2:
                break
            # The end token stays, so the words before it have less room.
            fit = int(np.searchsorted(bits, room - (bits[-1] - bits[-2])))
            shorter = len(tokenizer.decode(ids[: max(1, fit)]).rstrip("\ufffd"))
            piece = piece[: max(1, min(ends_well(piece, shorter), len(piece) - 1))]
        yield piece
        start += len(piece)


def frames_needed(code: FrameCode, text: str) -> int:
    """About how many frames a long text takes, by its first piece."""
    return math.ceil(len(text) / len(next(pieces(code, text))))


def write_film(code: FrameCode, text: str) -> list[Written]:
    """A text of any length -> its frames. ValueError where a frame is too small for a piece of a single character, and
    for more than 2^24 frames."""
    ids, kept = encode_text(text, code.model.tokenizer, code.config)
    if kept == text:
        one, = code.write([ids])
        if one.fits:
            return [one]
    parts, film = list(pieces(code, text)), film_of(text)
    if len(parts) > MOST_FRAMES:
        raise ValueError(f"the text takes {len(parts)} frames; a film has {MOST_FRAMES} at most")
    while True:
        rows, out = [encode_text(part, code.model.tokenizer, code.config)[0] for part in parts], []
        for start in range(0, len(rows), BATCH):
            places = range(start, min(start + BATCH, len(rows)))
            out += code.write([rows[k] for k in places], parts=[Part(film, k, len(rows)) for k in places])
        tight = {k for k, one in enumerate(out) if not one.fits}
        if not tight:
            return out
        if any(len(parts[k]) < 2 for k in tight):
            raise ValueError(f"frames of {code.height} x {code.width} cells are too small for a film of this text")
        # A frame held less than it usually does: its piece becomes two.
        halves = lambda part: (part[: len(part) // 2], part[len(part) // 2 :])
        parts = [half for k, part in enumerate(parts) for half in (halves(part) if k in tight else (part,))]


# ---- reading ----


@dataclass
class Film:
    """What frames say of one text. text: the pieces in order; a mark where some are missing, with the gist of a frame
    that is there but damaged. exact: all characters of the text that was written are there, say the checksums. count:
    its frames; missing: (first, last) numbers, from 1, of frames that are missing or damaged, a run each."""

    text: str
    exact: bool
    count: int
    missing: list[tuple[int, int]] = field(default_factory=list)

    @property
    def trouble(self) -> str:
        """Why it is not exact, in a line."""
        runs = [str(a) if a == b else f"{a} to {b}" for a, b in self.missing]
        shown = ", ".join(runs[:10]) + ", ..." * (len(runs) > 10)
        return (f"of {self.count} frames these are missing or damaged: {shown}" if runs else
                f"the {self.count} frames do not make up the text that was written")


def mark(first: int, last: int, count: int, gist: str = "") -> str:
    """What stands in place of frames first .. last, from 1, that cannot be read."""
    if gist:
        return f" [frame {first} of {count} is damaged, its gist: {' '.join(gist.split())}] "
    return f" [frame {first} of {count} is missing] " if first == last else (
        f" [frames {first} to {last} of {count} are missing] ")


def read_film(code: FrameCode, frames: np.ndarray) -> tuple[list[Film], int]:
    """Frames (F, H, W), in any order, also of several texts, also twice -> `films_of` what they say."""
    return films_of(reading for start in range(0, len(frames), BATCH) for reading in code.read(
        frames[start : start + BATCH]))


def films_of(readings: Iterable[Reading]) -> tuple[list[Film], int]:
    """(films, in the order of their first frames; the number of frames that no film could be found for). A frame that
    is not of a film is a film of its own."""
    films: dict[tuple, dict[int, Reading]] = {}
    damaged: list[Reading] = []
    for reading in readings:
        if reading.exact:
            key = (reading.part.film, reading.part.count) if reading.part else (reading.text,)
            films.setdefault(key, {}).setdefault(reading.part.place if reading.part else 0, reading)
        else:
            damaged.append(reading)
    lost, gists = 0, {}
    for reading in damaged:
        # The words of a damaged frame may begin right: then it names a film that other frames name too.
        key = (reading.part.film, reading.part.count) if reading.part else None
        if key in films:
            gists.setdefault((key, reading.part.place), reading.text or "")
        else:
            lost += 1
    return [_joined(key, found, gists) for key, found in films.items()], lost


def told_films(code: FrameCode, frames: np.ndarray) -> str | list[str]:
    """`read_film` as text, a list of several; gaps are marked, and a UserWarning tells of them. ValueError where no
    frame can be read."""
    frames = frames[None] if np.ndim(frames) == 2 else frames
    films, lost = read_film(code, frames)
    if not films:
        raise ValueError(f"none of the {len(frames)} frames can be read: damaged, or written with other weights")
    for film in films:
        if not film.exact:
            warnings.warn(film.trouble, stacklevel=3)
    if lost:
        warnings.warn(f"{lost} frames cannot be read and belong to no film here", stacklevel=3)
    return films[0].text if len(films) == 1 else [film.text for film in films]


def _joined(key: tuple, found: dict[int, Reading], gists: dict) -> Film:
    if len(key) == 1:                                                         # no frame of a film
        return Film(found[0].text or "", True, 1)
    film, count = key
    told = {place: text for (of, place), text in gists.items() if of == key and place not in found}
    out, missing, after = [], [], 0                                           # after: the place that comes next
    # A run of missing frames is one mark: one frame can name millions of others.
    for place in [*sorted(found.keys() | told.keys()), count]:
        if place > after:
            missing.append((after + 1, place))
            out.append(mark(after + 1, place, count))
        if place in found:
            out.append(found[place].text or "")
        elif place < count:
            missing.append((place + 1, place + 1))
            out.append(mark(place + 1, place + 1, count, told[place]))
        after = place + 1
    text = "".join(out)
    return Film(text, not missing and film_of(text) == film, count, missing)
