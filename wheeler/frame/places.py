"""Where frames stand in a picture: by their corner marks, else by the cells themselves; numpy, and scipy to label.

A marked frame has a mark of 5 x 5 cells outside each corner (see `MARKS`). The four differ, so they tell turns and
mirror images; as long as they are found, nothing is asked of the frame, which may be noise. Without marks a frame is
known by what holds for every written one: its -1 cells never touch, so each is a square of its own, and all four
edges have some; its fence tells which way up it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wheeler.dynamics.tiles import TILE, fence_line, split_tiles, tile_codebook, tile_numbers

MARK, GAP, QUIET = 5, 2, 2                                                    # cells: a mark, to the frame, around
MARGIN = QUIET + MARK + GAP                                                   # cells around a frame
BETWEEN = MARK + 2 * GAP                                                      # so much farther apart are marks' centres
SIDES = range(2 * TILE, 16 * TILE + 1, TILE)                                  # of frames, cells
INNER = 0.6                                                                   # of a cell's side: edges may be blurred
SMALLEST_MARK, MOST_SPOTS, MOST_FRAMES = 8, 50_000, 1000                      # side, pixels; in one picture

Box = tuple[float, float, float, float]                                       # top, left, bottom, right, pixels


def _marks() -> np.ndarray:
    """(4, 5, 5) bool, True for dark, of the corners top left, top right, bottom left, bottom right. All have a dark
    rim. Inside: dark, a dark cross, light, light. Each looks the same turned or mirrored."""
    marks = np.ones((4, MARK, MARK), dtype=bool)
    marks[1, 1:4:2, 1], marks[1, 1:4:2, 3] = False, False
    marks[2:, 1:4, 1:4] = False
    return marks


MARKS = _marks()


# ---- pixels to cells -------------------------------------------------------------------------------------------------


def _means(pixels: np.ndarray, low: float, high: float, count: int, part: float) -> np.ndarray:
    """(n, ...) -> (count, ...): [low, high] in pixels, cut into `count` cells; the mean over the inner part of each, an
    area mean that takes fractions of a pixel as such."""
    step = (high - low) / count
    centres, half = low + (np.arange(count) + 0.5) * step, part * step / 2
    sums = np.concatenate([np.zeros_like(pixels[:1], np.float64), np.cumsum(pixels, 0, dtype=np.float64)])

    def upto(at):
        at = np.clip(at, 0, len(pixels))
        whole = np.minimum(at.astype(int), len(pixels) - 1)
        return sums[whole] + (at - whole).reshape(-1, *[1] * (pixels.ndim - 1)) * pixels[whole]

    return (upto(centres + half) - upto(centres - half)) / (2 * half)


def cell_means(grey: np.ndarray, box: Box, rows: int, columns: int) -> np.ndarray:
    """(rows, columns) mean brightness of the inner part of each cell of a box in a picture (H, W)."""
    top, left, bottom, right = box
    y, x = max(0, int(top)), max(0, int(left))
    cut = grey[y : int(np.ceil(bottom)), x : int(np.ceil(right))]
    inner = _means(cut, top - y, bottom - y, rows, INNER)
    return _means(inner.T, left - x, right - x, columns, INNER).T


def _otsu(counts: np.ndarray) -> int:
    """The level, of those that `counts` (256,) counts, up to which the dark ones go: where the two classes differ most
    (Otsu 1979); in the middle where several levels are as good."""
    levels, total = np.arange(len(counts)), counts.sum()
    below = np.cumsum(counts)
    mass = np.cumsum(counts * levels)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mass[-1] * below / total - mass) ** 2 / (below * (total - below))
    between = np.nan_to_num(between, posinf=0.0)
    return int(np.flatnonzero(between >= between.max() * (1 - 1e-9)).mean())


def thresholds(grey: np.ndarray) -> list[int]:
    """Levels that may part dark from light in a picture (H, W) uint8: of all of it, of its dark and of its light part,
    since what surrounds a frame may be darker or lighter than both its colours. Empty: it is of one level."""
    counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    if np.count_nonzero(counts) < 2:
        return []
    middle, levels = _otsu(counts), np.arange(256)
    parts = [counts * (levels <= middle), counts * (levels > middle)]
    return list(dict.fromkeys([middle] + [_otsu(part) for part in parts if np.count_nonzero(part) > 1]))


def binary(grey: np.ndarray) -> Iterator[np.ndarray]:
    """Pictures (H, W) bool of what may be dark in a frame: both sides of each threshold, the likelier first."""
    for level in thresholds(grey):
        yield grey <= level
        yield grey > level


@dataclass
class Spots:
    """Connected areas of a binary picture: (n,) arrays, in pixels; `bottom` and `right` are behind the last one."""

    top: np.ndarray
    left: np.ndarray
    bottom: np.ndarray
    right: np.ndarray
    area: np.ndarray

    @property
    def height(self) -> np.ndarray:
        return self.bottom - self.top

    @property
    def width(self) -> np.ndarray:
        return self.right - self.left

    def where(self, chosen: np.ndarray) -> "Spots":
        return Spots(*(values[chosen] for values in vars(self).values()))


def spots(dark: np.ndarray, smallest: int = 1) -> Spots:
    """The areas of at least so many pixels that touch by their sides; none where a picture has too many."""
    from scipy.ndimage import find_objects, label  # slow to import, and only pictures need it

    labels, count = label(dark)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    chosen = areas >= smallest
    chosen[0] = False
    kept = np.flatnonzero(chosen)
    if not 0 < len(kept) <= MOST_SPOTS:
        return Spots(*np.zeros((5, 0), int))
    number = np.zeros(count + 1, np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    found = find_objects(number[labels])
    corners = np.array([(y.start, x.start, y.stop, x.stop) for y, x in found])
    return Spots(*corners.T, areas[kept])


# ---- marked frames ---------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """A marked frame in a picture. box: of the frame alone; rows, columns: cells of the picture's axes; turned: the
    frame's rows run down the picture, then its sides are (columns, rows); flips: whether the picture's (y, x) axes run
    against the frame's; dark, light: brightness of -1 and +1."""

    box: Box
    rows: int
    columns: int
    turned: bool
    flips: tuple[bool, bool]
    dark: float
    light: float

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the frame, cells."""
        return (self.columns, self.rows) if self.turned else (self.rows, self.columns)

    @property
    def centre(self) -> np.ndarray:
        return np.array([self.box[0] + self.box[2], self.box[1] + self.box[3]]) / 2

    def frame(self, grey: np.ndarray) -> np.ndarray:
        """The frame (H, W) float32 in [-1, 1], the right way up."""
        levels = cell_means(grey, self.box, self.rows, self.columns)
        values = (2 * (levels - self.dark) / (self.light - self.dark) - 1).clip(-1, 1).astype(np.float32)
        values = values[:: -1 if self.flips[0] else 1, :: -1 if self.flips[1] else 1]
        return values.T.copy() if self.turned else values.copy()


def find_marks(dark: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(kinds (n,), boxes (n, 4)) of the marks in a binary picture. Kinds: 0 top left, 1 top right, 2 one of the two
    below, which are the same."""
    found = spots(dark, SMALLEST_MARK**2 // 2)
    height, width = found.height, found.width
    # A rim of 16 of 25 cells is dark: thinner figures, and long ones, are something else.
    good = (np.minimum(height, width) >= SMALLEST_MARK) & (height < 1.5 * width) & (width < 1.5 * height)
    found = found.where(good & (found.area > 0.5 * height * width))
    boxes = np.stack([found.top, found.left, found.bottom, found.right], axis=1)
    full = found.area > (1 - 1.5 / MARK**2) * found.height * found.width      # the cells of frames are, and many
    kinds = np.where(full, 0, -1)
    for i in np.flatnonzero(~full):
        wrong = (cell_means(dark, boxes[i], MARK, MARK) > 0.5) != MARKS[:3]
        errors = wrong.sum((1, 2))
        if errors.min() <= 1:
            kinds[i] = errors.argmin()
    return kinds[kinds >= 0], boxes[kinds >= 0].astype(np.float64)


def _fours(kinds: np.ndarray, boxes: np.ndarray) -> Iterator[np.ndarray]:
    """(4,) numbers of marks that stand around one frame, in the order of `MARKS`."""
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    for p in np.flatnonzero(kinds == 1)[:MOST_FRAMES]:                        # top right: the rarest figure elsewhere
        size = sizes[p]
        like = (np.abs(sizes - size) <= np.maximum(2, 0.2 * size)).all(1)
        away = np.abs(centres - centres[p])
        level, cells = away < 0.3 * size, away / size * MARK - BETWEEN        # (n, 2): same y, same x; sides between
        below = np.flatnonzero(like & (kinds == 2))
        fits = []
        for axis in (0, 1):                                                   # along which the frame's rows run
            # The nearest that a frame fits between: farther ones belong to the next frames of a sheet.
            tops = np.flatnonzero(like & (kinds == 0) & level[:, 1 - axis] & (cells[:, axis] > SIDES[0] - 6))
            rights = below[level[below, axis] & (cells[below, 1 - axis] > SIDES[0] - 6)]
            for s in tops[np.argsort(away[tops, axis])[:3]]:
                for r in rights[np.argsort(away[rights, 1 - axis])[:3]]:
                    last = np.abs(centres[below] - centres[s] - centres[r] + centres[p])
                    fourth = below[(last < 0.4 * size).all(1)]
                    if len(fourth):
                        fits.append((away[s].sum() + away[r].sum(), (s, p, fourth[0], r)))
        if fits:
            yield np.array(min(fits)[1])


def _sides_between(distance: float, mark: float, wanted: int | None) -> list[int]:
    """Sides that a frame can have between marks so far apart, the likeliest first."""
    cells = distance / mark * MARK - BETWEEN
    if wanted is not None and abs(cells - wanted) < 3 + 0.1 * wanted:
        return [wanted]
    return [side for side in sorted(SIDES, key=lambda side: abs(side - cells)) if abs(side - cells) < 2 + 0.05 * side]


def _place(grey: np.ndarray, boxes: np.ndarray, sides: tuple[int | None, int | None]) -> Place | None:
    """The frame between the marks with these boxes (4, 4), in the order of `MARKS`."""
    levels = np.stack([cell_means(grey, box, MARK, MARK) for box in boxes])
    dark, light = np.median(levels[MARKS]), np.median(levels[~MARKS])
    centres, mark = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).mean(0)
    along = int(np.abs(centres[1] - centres[0]).argmax())                     # the picture's axis of the frame's rows
    start = np.array([(centres[0] + centres[1]) / 2, (centres[0] + centres[2]) / 2])           # top, left edge
    end = np.array([(centres[2] + centres[3]) / 2, (centres[1] + centres[3]) / 2])             # bottom, right edge
    axes = [1 - along, along]                                                 # of the frame's columns, its rows
    first, last = start[[0, 1], axes], end[[0, 1], axes]
    best = None
    for height in _sides_between(abs(last[0] - first[0]), mark[axes[0]], sides[0]):
        for width in _sides_between(abs(last[1] - first[1]), mark[axes[1]], sides[1]):
            cells, corners = [height, width], np.empty((2, 2))
            for k, axis in enumerate(axes):
                step = (last[k] - first[k]) / (cells[k] + BETWEEN)
                corners[axis] = sorted([first[k] + step * BETWEEN / 2, last[k] - step * BETWEEN / 2])
            turned, flip = along == 0, last < first
            rows, columns = (width, height) if turned else (height, width)
            place = Place((*corners[:, 0], *corners[:, 1]), rows, columns, turned,
                          (bool(flip[1]), bool(flip[0])) if turned else (bool(flip[0]), bool(flip[1])), dark, light)
            # With a wrong number of cells they straddle edges, and are neither dark nor light.
            sharp = np.abs(place.frame(grey)).mean()
            if best is None or sharp > best[0]:
                best = sharp, place
    return best and best[1]


def marked_places(grey: np.ndarray, height: int | None = None, width: int | None = None) -> list[Place]:
    """Every marked frame of a picture (H, W) uint8, in reading order. height, width: sides that are likely, cells."""
    from scipy.ndimage import uniform_filter

    found: list[Place] = []
    for smooth in (False, True):                                              # dithered, noisy: specks spoil figures
        pixels = uniform_filter(grey, 3) if smooth else grey
        for dark in binary(pixels):
            kinds, boxes = find_marks(dark)
            fours = list(_fours(kinds, boxes))
            for four in fours:
                place = _place(grey, boxes[four], (height, width))
                if place is not None and abs(place.light - place.dark) > 4 and not any(
                        _inside(place.centre, other.box) for other in found):
                    found.append(place)
            if found and len(fours) == (kinds == 1).sum():                    # no mark is left without its frame
                return _in_order(found)
        if found:
            break
    return _in_order(found)


def _inside(point: np.ndarray, box: Box) -> bool:
    return box[0] < point[0] < box[2] and box[1] < point[1] < box[3]


def _in_order(places: list[Place]) -> list[Place]:
    """Row by row as the frames themselves are turned, each row from its left."""
    if not places:
        return []
    first = places[0]
    sign = [-1 if flip else 1 for flip in first.flips]
    axes = (1, 0) if first.turned else (0, 1)                                 # of the picture: down, right of the frame
    at = np.array([[place.centre[axis] * sign[axis] for axis in axes] for place in places])    # (n, 2)
    height = np.median([place.box[2 + axes[0]] - place.box[axes[0]] for place in places])
    order = np.argsort(at[:, 0], kind="stable")
    row = np.zeros(len(places), int)
    row[order] = np.concatenate([[0], np.cumsum(np.diff(at[order, 0]) > height / 2)])
    return [places[i] for i in np.lexsort((at[:, 1], row))]


# ---- frames without marks --------------------------------------------------------------------------------------------


def _lattice(at: np.ndarray, side: int) -> tuple[float, float]:
    """(pitch, start of a cell), pixels, of the lattice whose cells' centres most of `at` (n,) are; side: of the cells,
    about."""
    at = at[:: 1 + len(at) // 1500]                                           # enough, and the table below stays small
    pitches, middle = side * np.linspace(0.8, 1.6, 321), at.mean()
    turns = np.exp(2j * np.pi * (at - middle)[:, None] / pitches).mean(0)
    best = np.abs(turns).argmax()
    pitch = float(pitches[best])
    return pitch, float(middle + pitch * (np.angle(turns[best]) / (2 * np.pi) - 0.5))


def _squares(dark: np.ndarray, rows: int, columns: int) -> Box | None:
    """The box around `rows` x `columns` cells of a lattice with the most of the small squares that -1 cells are."""
    found = spots(dark)
    fill = np.where(found.area > 30, 0.85, 0.7) * found.height * found.width
    found = found.where((found.area >= fill) & (np.abs(found.height - found.width) <= np.maximum(
        1, 0.3 * found.width)))
    found = found.where(found.area <= (1.2 * max(dark.shape) / min(rows, columns)) ** 2)
    side, fewest = np.sqrt(found.area), rows * columns / 16
    if len(side) < fewest:
        return None
    usual = max(1, int(np.bincount(np.rint(side).astype(int), side**2).argmax()))             # most of the area
    found = found.where(np.abs(side - usual) <= max(1.0, 0.25 * usual))
    if len(found.area) < fewest:
        return None
    pitches, starts, cells = [], [], []
    for low, high in ((found.top, found.bottom), (found.left, found.right)):
        pitch, start = _lattice((low + high) / 2, usual)
        number = np.floor(((low + high) / 2 - start) / pitch).astype(int)
        pitches.append(pitch)
        starts.append(start + pitch * number.min())
        cells.append(number - number.min())
    # A page's letters have parts like cells too, but nowhere so many.
    counts = np.zeros((cells[0].max() + rows + 1, cells[1].max() + columns + 1), np.int32)
    np.add.at(counts, (cells[0] + 1, cells[1] + 1), 1)
    for axis, n in enumerate((rows, columns)):
        counts = np.cumsum(counts, axis)
        counts = np.take(counts, range(n, counts.shape[axis]), axis) - np.take(counts, range(counts.shape[axis] - n),
                                                                               axis)
    first = np.unravel_index(counts.argmax(), counts.shape)
    if counts[first] < fewest:
        return None
    top, left = (start + pitch * k for start, pitch, k in zip(starts, pitches, first, strict=True))
    return top, left, top + rows * pitches[0], left + columns * pitches[1]


def _content(grey: np.ndarray) -> Box | None:
    """The box around all that is not of the colour of the picture's corner; None where it has no border."""
    other = np.abs(grey.astype(np.int16) - int(grey[0, 0])) > 32
    rows, columns = np.flatnonzero(other.any(1)), np.flatnonzero(other.any(0))
    if not len(rows) or (len(rows) == len(other) and len(columns) == other.shape[1]):
        return None
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def fence_share(frame: np.ndarray) -> float:
    """Share of the first row and column of a frame (H, W) that are those of every written one; erased cells, nearer to
    0 than 0.25, say nothing. 0 where fewer than a quarter of the cells are known."""
    edge = np.concatenate([frame[0] * np.where(fence_line(frame.shape[1]), -1, 1),
                           frame[:, 0] * np.where(fence_line(len(frame)), -1, 1)])
    known = edge[np.abs(edge) > 0.25]
    return float((known > 0).mean()) if known.size > edge.size / 4 else 0.0


def broken_cells(frame: np.ndarray) -> int:
    """Cells of a frame (H, W) that break the rules of every written one: -1 cells beside each other, +1 cells that
    touch no -1 cell."""
    low = frame < 0
    near = sum(np.roll(low, shift, axis) for shift in (1, -1) for axis in (0, 1)) > 0          # bool: any of the four
    return int((low == near).sum())


def _fences(frame: np.ndarray) -> tuple[int, int]:
    """(score, rows): how well the fences of tiles and of the words' band fit, in cells, for the best number of rows of
    tiles that hold words. A wrong cell weighs as much as three right ones."""
    height, width = frame.shape
    top = height // TILE
    fits = lambda cells, line: np.where((cells < 0) == line, 1, -3)
    rows = fits(frame[::TILE], fence_line(width)).sum(1)                      # (top,): the first row of every tile row
    columns = fits(frame[:, ::TILE], fence_line(height)[:, None])             # (H, W/8)
    columns[::TILE] = 0                                                       # counted with the rows
    tiles, band = columns.sum(1).reshape(top, TILE).sum(1), columns[:, 0].reshape(top, TILE).sum(1)
    scores = [(rows + tiles)[: top - k].sum() + (rows[top - k] if k else 0) + band[top - k :].sum()
              for k in range(top + 1)]
    best = int(np.argmax(scores))
    return int(scores[best]), best


def _fit(frame: np.ndarray, rows: int, mirrored: bool) -> float:
    """What else tells a frame from its mirror image along the diagonal, whose fences can be the same: tiles of a
    redundant frame; that pictures are turned more often than mirrored. The cells of a frame of words alone do not."""
    redundant = 0.0 if rows else np.isin(tile_numbers(split_tiles(frame)), tile_codebook()).mean()
    return 64 * (redundant > 0.25) * redundant + (not mirrored)


def unmarked_frames(grey: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """What a picture (H, W) uint8 may show as one frame of these sides without marks, the likeliest first: frames
    (height, width) float32 in [-1, 1]. Two where the cells alone do not tell a frame from its mirror image."""
    best = []
    for box, rows, columns in _boxes(grey, height, width):
        cells = _signed(cell_means(grey, box, rows, columns))
        if cells is None:
            continue
        flips = [(cells[::y, ::x], y != x) for y in (1, -1) for x in (1, -1)]
        ways = flips + [(way.T, not mirrored) for way, mirrored in flips]
        scored = [(*_fences(way), mirrored, way) for way, mirrored in ways if way.shape == (height, width)]
        most, broken = max(score for score, *_ in scored), broken_cells(cells)
        scored = [(score + _fit(way, k, mirrored) - 3 * broken, way.copy()) for score, k, mirrored, way in scored
                  if score > most - (height + width)]
        scored.sort(key=lambda pair: -pair[0])
        if not best or scored[0][0] > best[0][0]:
            best = scored
        if not broken and fence_share(best[0][1]) == 1:
            break                                                             # all is as it was written
    return [way for score, way in best[:2] if score > best[0][0] - (height + width) / 4]


def _boxes(grey: np.ndarray, height: int, width: int) -> Iterator[tuple[Box, int, int]]:
    """(box, rows, columns) where a frame may stand, the cheapest first; none smaller than a pixel a cell."""
    every = [lambda rows, columns: (0, 0, *grey.shape), lambda rows, columns: _content(grey)]
    every += [lambda rows, columns, dark=dark: _squares(dark, rows, columns) for dark in binary(grey)]
    for find in every:
        for rows, columns in dict.fromkeys([(height, width), (width, height)]):
            box = find(rows, columns)
            if box is not None and box[2] - box[0] >= rows and box[3] - box[1] >= columns:
                yield box, rows, columns


def _signed(levels: np.ndarray) -> np.ndarray | None:
    """Brightness of cells -> values in [-1, 1], the darker colour -1 unless the rules of frames say that it is +1. None
    where all are alike."""
    dark, light = np.percentile(levels, (4, 96))                              # also where half of it is erased
    if light - dark < 4:
        return None
    values = (2 * (levels - dark) / (light - dark) - 1).clip(-1, 1).astype(np.float32)
    return values if broken_cells(values) <= broken_cells(-values) else -values
