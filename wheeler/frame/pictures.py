"""Frames as pictures that can be sent: drawn with corner marks, found again in whatever came back, and read.

`picture_of` draws a frame, `sheet_of` several; `frames_in` finds them (places.py), and
`read_found` reads them.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageSequence

from wheeler.dynamics.pictures import frame_image
from wheeler.frame.cells import check_sides
from wheeler.frame.code import FrameCode, Reading
from wheeler.frame.places import (
    MARGIN,
    MARK,
    MARKS,
    QUIET,
    broken_cells,
    fence_share,
    marked_places,
    unmarked_frames,
)
from wheeler.model.tokenizer import first_line

SCALES = range(8, 65)                                                         # pixels a cell
MOST_PIXELS, SEARCHED_PIXELS = 40_000_000, 8_000_000                          # of a picture; larger ones are reduced
MOST_FRAMES = 10_000                                                          # of an animation
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "QOI", "PPM", "TGA")
FLAT = 8                                                                      # levels of 255: one colour


# ---- drawing ---------------------------------------------------------------------------------------------------------


def marked(frame: np.ndarray) -> np.ndarray:
    """Frame (H, W) in [-1, 1] -> (H + 18, W + 18) float32: around it 2 cells that are light, its four marks of 5 x 5
    cells, and 2 cells more."""
    frame = np.asarray(frame, dtype=np.float32)
    if frame.ndim != 2:
        raise ValueError(f"a frame has two sides, this has the shape {frame.shape}")
    check_sides(*frame.shape)
    if not np.isfinite(frame).all():
        raise ValueError("the frame has NaN or infinite values")
    out = np.pad(frame, MARGIN, constant_values=1)
    ends = slice(QUIET, QUIET + MARK), slice(-QUIET - MARK, -QUIET)
    for mark, (rows, columns) in zip(MARKS, [(y, x) for y in ends for x in ends], strict=True):
        out[rows, columns] = np.where(mark, -1, 1)
    return out


def picture_of(frame: np.ndarray, scale: int = SCALES[0]) -> Image.Image:
    """PIL image, a palette of 256 colours, of a frame (H, W) in [-1, 1] with its marks: (W + 18) x (H + 18) cells of
    `scale` pixels, 8 to 64. The frame itself is as it was. ValueError for other sides than those of frames."""
    return sheet_of([frame], scale=scale)


def sheet_of(frames: Sequence[np.ndarray], columns: int | None = None, scale: int = SCALES[0]) -> Image.Image:
    """PIL image of N frames (H, W) of the same sides, each with its marks, row by row; columns: as nearly a square as
    can be if None. `frames_in` gives them back in this order. ValueError where it would be too large to be read."""
    if scale not in SCALES:
        raise ValueError(f"scale {scale} must be in {SCALES[0]} .. {SCALES[-1]} pixels a cell")
    if not len(frames):
        raise ValueError("there is no frame to draw")
    tiles = [marked(frame) for frame in frames]
    if len({tile.shape for tile in tiles}) > 1:
        raise ValueError("the frames of a sheet must have the same sides")
    columns = math.ceil(math.sqrt(len(tiles))) if columns is None else columns
    if columns < 1:
        raise ValueError(f"columns {columns} must be at least 1")
    (height, width), columns = tiles[0].shape, min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    if rows * height * columns * width * scale**2 > SEARCHED_PIXELS:
        raise ValueError(f"{len(tiles)} frames, {columns} side by side, {scale} pixels a cell, make a sheet of more "
                         f"than {SEARCHED_PIXELS // 10**6} million pixels")
    sheet = np.ones((rows * height, columns * width), np.float32)
    for i, tile in enumerate(tiles):
        top, left = i // columns * height, i % columns * width
        sheet[top : top + height, left : left + width] = tile
    return frame_image(sheet, scale)


def sheets_of(frames: Sequence[np.ndarray], scale: int = SCALES[0]) -> Iterator[Image.Image]:
    """Frames (F, H, W) of the same sides on sheets, as few as can be read."""
    area = math.prod(scale * (side + 2 * MARGIN) for side in np.shape(frames)[1:])
    most = max(1, math.isqrt(SEARCHED_PIXELS // area)) ** 2
    for start in range(0, len(frames), most):
        yield sheet_of(frames[start : start + most], scale=scale)


# ---- opening ---------------------------------------------------------------------------------------------------------


@contextmanager
def opened(file: str | Path | BinaryIO):
    """A picture file, open, its pixels not read yet. ValueError where it is none. Only kinds of files that hold pixels:
    others start programs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                                       # of damaged files: the error says enough
        Image.init()
        try:
            image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
        except Exception as error:                                            # a damaged file: each format has its own
            raise _unreadable(error) from None
        with image:
            yield image


def _unreadable(error: Exception) -> ValueError:
    reason = "" if isinstance(error, Image.UnidentifiedImageError) else f" ({first_line(error, 100)})"
    return ValueError(f"not a picture that can be read{reason}")


def grey_of(image: Image.Image) -> np.ndarray:
    """Brightness (H, W) uint8 of a picture of any mode; what is transparent lies on white, or on black where white
    shows nothing. Reduced by a whole factor to at most 8 million pixels. ValueError, of one line, where it is larger
    than 40 million, is damaged, holds several pictures, or is of one colour."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels, {MOST_PIXELS // 10**6} million are allowed")
    try:
        several = getattr(image, "is_animated", False) and image.format != "MPO"               # a photo of a phone
        grey = _levels(image, 255)
        if np.ptp(grey) < FLAT and image.has_transparency_data:
            grey = _levels(image, 0)
    except Exception as error:
        raise _unreadable(error) from None
    if several:
        raise ValueError("it holds several pictures one after the other")
    if np.ptp(grey) < FLAT:
        raise ValueError("there is no frame in it, it is of one colour")
    factor = math.ceil(math.sqrt(grey.size / SEARCHED_PIXELS))
    return grey if factor == 1 else np.asarray(Image.fromarray(grey).reduce(factor))


def _levels(image: Image.Image, ground: int) -> np.ndarray:
    if image.mode[0] in "IF":                                                 # 16 bits, 32, fractions: convert clips
        levels = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0, neginf=0)
        if image.mode[0] == "F":
            low, high = levels.min(), levels.max()
            levels = (levels - low) * (255 / max(high - low, 1e-6))
        elif image.mode != "I" or levels.max() > 255:
            levels = levels / 257
        return np.rint(levels.clip(0, 255)).astype(np.uint8)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (ground, ground, ground, 255)), image)
    elif image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return np.asarray(image.convert("L"))


# ---- finding and reading ---------------------------------------------------------------------------------------------


def marked_frames(image: Image.Image, height: int | None = None, width: int | None = None) -> list[np.ndarray]:
    """Every frame with marks in a picture, in reading order, turned the right way: (H, W) float32 in [-1, 1]; an empty
    list where there is none. Their sides are what the marks say; height, width: sides that are likely, if known.
    ValueError as `grey_of`."""
    grey = grey_of(image)
    return [place.frame(grey) for place in marked_places(grey, height, width)]


def frames_in(image: Image.Image, height: int, width: int) -> list[np.ndarray]:
    """The frames (height, width) float32 in [-1, 1] that a picture shows: all that have marks, in reading order; where
    there are no marks, what one frame may be, the likeliest first, an empty list where nothing looks like one.
    ValueError as `grey_of`, for sides that no frame has, and where the marks are of frames of other sides."""
    return _found(image, height, width)[0]


def _found(image: Image.Image, height: int, width: int, trusted: bool = False) -> tuple[list[np.ndarray], bool]:
    """`frames_in`, and whether they have marks. trusted: that there is a frame is known, so it may look like none."""
    check_sides(height, width)
    grey = grey_of(image)
    places = marked_places(grey, height, width)
    if places:
        fit = [place.frame(grey) for place in places if place.sides == (height, width)]
        if not fit:
            sides = " x ".join(map(str, places[0].sides))
            raise ValueError(f"it shows a frame of {sides} cells, wanted is one of {height} x {width}")
        return fit, True
    return [frame for frame in unmarked_frames(grey, height, width) if trusted or _looks_written(frame)], False


def _looks_written(frame: np.ndarray) -> bool:
    """Whether a frame (H, W), damaged perhaps, can be one that was written: its fence is there, or some of it and most
    cells keep the rules (a chessboard has 0.63 of the fence)."""
    share = fence_share(frame)
    return share > 0.8 or (share > 0.65 and broken_cells(frame) < 0.15 * frame.size)


def one_frame_in(image: Image.Image, height: int, width: int, trusted: bool = False) -> list[np.ndarray]:
    """What the one frame of a picture may be, the likeliest first, at least one, most often just one. ValueError where
    there is none, or where there are several. trusted: it is known to be a picture of a frame, as by the note in it."""
    frames, have_marks = _found(image, height, width, trusted)
    if not frames:
        raise ValueError(f"there is no frame of {height} x {width} cells in it")
    if have_marks and len(frames) > 1:
        raise ValueError(f"there are {len(frames)} frames in it; cut one out")
    if all(np.ptp(np.sign(frame)) == 0 for frame in frames):
        raise ValueError("the frame in it is blank")
    return frames


def several_frames_in(image: Image.Image, height: int, width: int) -> list[np.ndarray]:
    """All frames (height, width) of an animation or a sheet, in order; an empty list where it is no such picture.
    Pictures of an animation that show no frame are passed over. ValueError for more than 10,000 frames."""
    if not getattr(image, "is_animated", False) or image.format == "MPO":
        frames, have_marks = _found(image, height, width)
        return frames if have_marks and len(frames) > 1 else []
    out: list[np.ndarray] = []
    try:
        for page in ImageSequence.Iterator(image):
            try:
                frames, have_marks = _found(page.convert("RGBA"), height, width)
            except ValueError:                                                # a title, or nothing
                continue
            out += frames if have_marks else frames[:1]
            if len(out) > MOST_FRAMES:
                break
    except (OSError, SyntaxError):                                            # cut off: those before it are there
        if not out:
            raise
    if len(out) > MOST_FRAMES:
        raise ValueError(f"it shows more than {MOST_FRAMES:,} frames")
    if not out:
        raise ValueError(f"there is no frame of {height} x {width} cells in it")
    return out


def read_found(code: FrameCode, found: Sequence[Sequence[np.ndarray]]) -> list[Reading]:
    """What pictures say, given `one_frame_in` of each: of the ways to see a frame the one whose checksum agrees, else
    the one with most meaning; `foreign` where all are of other weights."""
    every = code.read(np.stack([frame for frames in found for frame in frames])) if found else []
    ends = np.cumsum([len(frames) for frames in found])
    ways = [every[end - len(frames) : end] for frames, end in zip(found, ends, strict=True)]
    return [max(readings, key=lambda r: (r.exact, not r.foreign, r.meaning_tiles)) for readings in ways]
