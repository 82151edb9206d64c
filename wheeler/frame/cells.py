"""The frame's half of the code: a number written into the cells of perturbation-proof patterns, and read back.

Row 0 and column 0 of every tile are a fixed fence (tiles.py), which cuts a band of rows out of
the torus. Behind it cells are chosen in raster order. What a choice must know of its past is one status for each cell
of the row above: occupied (-1), dominated (+1, touches a -1 already) or needy (+1, can only be dominated from below). A
row can always be completed, and the next one too, if no two needy cells are adjacent and none stands above a cell that
the fence forbids to occupy: such a row can be filled greedily, which leaves no needy cell at all. Within a row, a
backward sum over the row's completions, with a weight for each status, gives the probability of every choice. To reach
the limit itself, the weights would have to be the leading eigenvector of a transfer matrix over all rows.

**Free rows.** Once the cells say the number as exactly as it has to be said, the rows that follow may be any that a
walk can have. The writer takes, row by row, the one that agrees best with a field that it is given (ngrams.py), found
by dynamic programming over the row's states (Viterbi 1967). A reader needs to know nothing of that.
"""

import random
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from wheeler.dynamics.compiled import jit
from wheeler.dynamics.tiles import TILE, fence_line
from wheeler.frame.arithmetic import (
    DIGIT,
    LEAST_BITS,
    RESOLUTION_BITS,
    Interval,
    digits_of,
    interval_of,
    looked_up,
    narrow,
    new_coder,
)

OCCUPIED, DOMINATED, NEEDY = 0, 1, 2                                         # status of a cell when its row is done
W_OCCUPIED, W_DOMINATED, W_NEEDY = 0.85, 1.0, 0.45                            # their weights: by search, a flat optimum
ONE = 1 << RESOLUTION_BITS                                                    # of the probabilities of cells


@lru_cache(maxsize=16)
def _fence(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(barred, may_need, occupied), (H, W) bool each: cells that a -1 of the fence touches, cells that may stay needy,
    and the fence's own -1 cells."""
    occupied = np.zeros((height, width), dtype=bool)
    # Fences stand where a band begins, so bands do not touch each other and can be written one by one.
    occupied[0], occupied[:, 0] = fence_line(width), fence_line(height)
    # A -1 cell needs +1 neighbours: what touches the fence's -1 cells can never be -1 itself.
    barred = sum(np.roll(occupied, shift, axis) for shift in (1, -1) for axis in (0, 1)) > 0
    # A needy cell waits for a -1 below it; under the last row and above a barred cell none can come.
    may_need = (np.arange(height)[:, None] < height - 1) & ~np.roll(barred, -1, axis=0)
    return barred, may_need, occupied


@jit
def _completions(above, barred, may_need, sums):
    """sums[j, s]: summed weight of all ways to go on after cell j in state s, to the end of the row.

    States: 0 occupied, 1 dominated, 2 open, 3 open with a needy cell on the left (so it must not become needy)."""
    last = len(above) - 1
    # From the right: the last cell of a row may be open only if it is allowed to need.
    sums[last, 0], sums[last, 1], sums[last, 2], sums[last, 3] = 1.0, 1.0, W_NEEDY if may_need[last] else 0.0, 0.0
    for j in range(last - 1, -1, -1):
        # The next cell may be occupied unless the fence or the row above forbids it.
        after, up = sums[j + 1], above[j + 1]
        occupy = 0.0 if barred[j + 1] or up == OCCUPIED else W_OCCUPIED * after[0]
        # A needy cell above has to be dominated now: this cell must be -1, it cannot be left.
        if up == NEEDY:
            leave_closed = leave_open = leave_after_needy = 0.0
        else:
            leave_closed = W_DOMINATED * after[1]
            covered = barred[j + 1] or up == OCCUPIED
            leave_open = leave_closed if covered else after[2]
            leave_after_needy = (leave_closed if covered else after[3]) * (W_NEEDY if may_need[j] else 0.0)
        # In the order of the states; state 0 is occupied, so the next cell is dominated at once.
        sums[j, 0], sums[j, 1] = leave_closed, occupy + leave_open
        sums[j, 2], sums[j, 3] = occupy * W_DOMINATED + leave_after_needy, occupy * W_DOMINATED


@jit
def _probability(after, up, state, barred, left_may_need):
    """Of a -1 in 2^24ths, given the sums after the cell and what stands above it and on its left; 0 and 2^24: there is
    no choice."""
    covered = barred or up == OCCUPIED
    # The weight of a choice is what it scores itself times all ways to complete the row after it.
    occupy = 0.0 if covered or state == 0 else W_OCCUPIED * after[0] * (W_DOMINATED if state >= 2 else 1.0)
    if up == NEEDY or state == 3 or (state == 2 and not left_may_need):
        leave = 0.0
    else:
        leave = W_NEEDY if state == 2 else 1.0
        leave *= W_DOMINATED * after[1] if covered or state == 0 else after[3 if state == 2 else 2]
    # Never quite 0 or 1 where there is a choice: else a rounding could make a cell impossible that was written.
    if leave == 0:
        return ONE
    return 0 if occupy == 0 else min(max(int(occupy / (occupy + leave) * ONE), 1), ONE - 1)


@jit
def _agreeing(above, barred, may_need, field, below, best, cells):
    """Set the cells (W,) bool, True for -1, of a row to those of all that may follow that agree best with the field
    (W,) int64: the sum of the field at +1 cells, less that at -1 cells. below (W,): the field of the next row, which
    has a -1 under each needy cell. best (W, 4) int64: room. The row's states are those of `_completions`."""
    last, none = len(above) - 1, -(1 << 40)
    best[last] = 0, 0, -below[last] if may_need[last] else none, none
    for j in range(last - 1, -1, -1):
        for state in range(4):
            best[j, state] = max(_agreement(above, barred, may_need, field, below, best, j + 1, state))
    state = 1
    for j in range(1, last + 1):
        occupied, left = _agreement(above, barred, may_need, field, below, best, j, state)
        covered = barred[j] or above[j] == OCCUPIED or state == 0
        cells[j] = occupied > left
        state = 0 if cells[j] else 1 if covered else 3 if state == 2 else 2


@jit
def _agreement(above, barred, may_need, field, below, best, j, state):
    """(as -1, as +1): the best that a row can reach from cell j on after a `state`."""
    none, covered = -(1 << 40), barred[j] or above[j] == OCCUPIED or state == 0
    occupied = none if covered else best[j, 0] - field[j]
    if above[j] == NEEDY or state == 3 or (state == 2 and not may_need[j - 1]):
        return occupied, none
    left = best[j, 1 if covered else 3 if state == 2 else 2] + field[j]
    return occupied, left - below[j - 1] if state == 2 else left


@jit
def _walk(cells, barred, may_need, reads, coder, digits, low_coder, low, field, moved, least):
    """Visit the cells (H, W) bool, True for -1, of a band in raster order. Unless it `reads` them they are set as the
    number says that coder and digits hold. What was chosen narrows low_coder, low. Returns how many cells no walk can
    have; in their place, the walk's own are set.

    field (H, W) int64: what free rows agree with; rows are free when low_coder has moved on by `moved` digits and its r
    is `least` or less, or by more digits."""
    height, width = cells.shape
    above, row = np.full(width, DOMINATED), np.full(width, DOMINATED)
    sums, best, wrong = np.empty((width, 4)), np.empty((width, 4), np.int64), 0
    for i in range(1, height):
        # All that a row needs to know of its past is in `above`: one status a cell, whatever the frame's height.
        _completions(above, barred[i], may_need[i], sums)
        free = not reads and (low_coder[1] > moved or low_coder[1] == moved and low_coder[0] <= least)
        if free:
            _agreeing(above, barred[i], may_need[i], field[i], field[min(i + 1, height - 1)], best, cells[i])
        row[:] = DOMINATED
        state = 1                                                             # the fence's cell needs nothing
        for j in range(1, width):
            q = _probability(sums[j], above[j], state, barred[i, j], may_need[i, j - 1])
            if q == 0 or q == ONE:
                occupy = q == ONE
                wrong += reads and cells[i, j] != occupy
            else:
                occupy = cells[i, j] if reads or free else looked_up(coder, ONE) < q
                start, end = (0, q) if occupy else (q, ONE)
                narrow(low_coder, low, start, end, ONE, False)
                if not (reads or free):
                    narrow(coder, digits, start, end, ONE, True)
            cells[i, j] = occupy
            if occupy:
                row[j], state = OCCUPIED, 0
            else:
                if state >= 2:
                    row[j - 1] = NEEDY
                covered = barred[i, j] or above[j] == OCCUPIED
                state = 1 if covered or state == 0 else 3 if state == 2 else 2
        if state >= 2:
            row[width - 1] = NEEDY
        # Statuses, not cells, go down to the next row.
        above[:] = row
    return wrong


def check_sides(height: int, width: int) -> None:
    for name, side in (("height", height), ("width", width)):
        if side % TILE or not 2 * TILE <= side <= 16 * TILE:
            raise ValueError(f"{name} = {side}: the sides of a frame must be multiples of {TILE} in {2 * TILE} .. "
                             f"{16 * TILE}")


def number_bits(height: int, width: int) -> int:
    """Length of the numbers that stand between text and frame: with room to spare above what a frame holds."""
    # 0.325 bit a cell is the limit of such frames, so half a bit a cell and 256 more are always enough.
    return height * width // 2 + 256


Region = tuple[int, int, int, int]                                            # top, left, height, width, cells


def word_regions(height: int, width: int, rows: int) -> list[Region]:
    """Where the words stand that take `rows` rows of tiles, 0 .. H/8: one band or none."""
    return [(height - rows * TILE, 0, rows * TILE, width)] if rows else []


def meaning_count(height: int, width: int, rows: int) -> int:
    """Meaning tiles of a frame whose words take `rows` rows of tiles."""
    return 0 if rows == height // TILE else (height // TILE - rows) * (width // TILE) - 1


def _free_from(enough: Interval | None) -> tuple[np.uint64, np.uint64]:
    """(digits moved on, r): what a coder must have narrowed to, so that what it says lies in the interval `enough`, if
    it says a number of that interval's middle half."""
    # A quarter of its size reaches from nowhere in the middle half beyond its ends.
    size = enough.size // 4 if enough else 0
    moved = (enough.bits - size.bit_length()) // DIGIT + 1 if size else 0
    k = enough.bits - LEAST_BITS - DIGIT * moved if size else -1
    if k < 0:                                                                 # never
        return np.uint64(1 << 62), np.uint64(0)
    return np.uint64(moved), np.uint64(size >> k)


def fill_regions(frame: np.ndarray, regions: list[Region], number: int, enough: Interval | None = None,
                 field: np.ndarray | None = None) -> Interval:
    """Write a number of `number_bits` bits into regions of a frame (H, W), in place. Returns the interval of all
    numbers that would have filled them so: what they have in common can be read back.

    enough: an interval with the number in its middle half. Rows that are not needed to say a number of it are filled as
    agrees best with the field (H, W), integers: + where +1 is wanted, - where -1 is."""
    bits = number_bits(*frame.shape)
    if not 0 <= number < 1 << bits:
        raise ValueError(f"the number must be in [0, 2^{bits})")
    field = np.zeros(frame.shape, np.int64) if field is None else field.astype(np.int64)
    # Decoding with cells as symbols: the number says which cell comes next, as if it had been written by them.
    digits, low = digits_of(number, bits), np.zeros(bits // DIGIT, np.uint64)
    coder, low_coder = new_coder(digits), new_coder(low)
    for top, left, height, width in regions:
        barred, may_need, occupied = _fence(height, width)
        cells = occupied.copy()
        wanted = np.ascontiguousarray(field[top : top + height, left : left + width])
        _walk(cells, barred, may_need, False, coder, digits, low_coder, low, wanted, *_free_from(enough))
        frame[top : top + height, left : left + width] = np.where(cells, -1, 1)
    return interval_of(low_coder, low)


def read_regions(frame: np.ndarray, regions: list[Region]) -> tuple[int, Interval, int]:
    """(number, interval, contradictions) of the regions of a frame (H, W); only signs count, 0 counts as +1.

    contradictions: cells that no frame of this code can have. 0 for an intact frame; in a damaged one they are read
    as what they must be, and what was written before the first of them is still right.
    """
    # The same walk as in writing; where the frame has a cell that no walk allows, the walk's own cell is taken.
    low, wrong = np.zeros(number_bits(*frame.shape) // DIGIT, np.uint64), 0
    coder = new_coder(low)
    for top, left, height, width in regions:
        barred, may_need, occupied = _fence(height, width)
        cells = np.asarray(frame)[top : top + height, left : left + width] < 0
        # The fence is known, so each of its cells that differs is damage too.
        wrong += int((cells[0] != occupied[0]).sum() + (cells[1:, 0] != occupied[1:, 0]).sum())
        wrong += _walk(cells, barred, may_need, True, coder, low, coder, low, np.zeros((height, width), np.int64),
                       *_free_from(None))
    interval = interval_of(coder, low)
    return interval.low + interval.size // 2, interval, wrong


@lru_cache(maxsize=64)
def words_bits(height: int, width: int, rows: int) -> float:
    """Bits that `rows` rows of tiles hold, the mean over 8 random numbers; single frames differ by a few bits."""
    # Random numbers from Python's own generator: the same mean on every machine.
    rng, regions = random.Random(0), word_regions(height, width, rows)
    numbers = [rng.getrandbits(number_bits(height, width)) for _ in range(8)]
    return sum(fill_regions(np.ones((height, width)), regions, number).spent() for number in numbers) / 8


def plausible(frame: np.ndarray) -> np.ndarray:
    """A copy of a frame (H, W) with 0 in -1 cells that have two or more -1 neighbours. No written frame has such cells;
    an erased area is full of them once the dynamics have run."""
    frame = np.array(frame, dtype=np.float32)
    low = frame < 0
    # One neighbour can be a flipped cell of a whole frame; two are what the dynamics make of an erased area.
    near = sum(np.roll(low, shift, axis).astype(np.int8) for shift in (1, -1) for axis in (0, 1))
    frame[low & (near >= 2)] = 0
    return frame


def without_edges(frame: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """A copy of `clean`, what `plausible` makes of a frame (H, W), with 0 in -1 cells beside those that it took out: at
    the edge of what was an erased area before the dynamics ran, cells of -1 have one such neighbour alone."""
    gone = (clean == 0) & (frame != 0)
    near = sum(np.roll(gone, shift, axis) for shift in (1, -1) for axis in (0, 1))
    return np.where((clean < 0) & near, 0, clean)


def views(frame: np.ndarray, clean: np.ndarray) -> Iterator[np.ndarray]:
    """What of `clean`, which `plausible` makes of a frame (H, W), may be left where an area was erased: all of it, but
    for its edges; then, where noise lies on the frame and so on the area, without what is nearer to 0 than noise leaves
    -1 and +1: cells below 0.5, and surroundings of 5 x 5 cells that are below 0.62 in the mean."""
    seen, size = without_edges(frame, clean), np.abs(frame).astype(np.float64)
    yield seen
    if ((size > 0) & (size < 0.99)).any():
        yield np.where(size < 0.5, 0, seen)
        around = lambda x: sum(np.roll(x, (i, j), (0, 1)) for i in range(-2, 3) for j in range(-2, 3))
        # Wider by what the mean blurs.
        yield np.where(around(around(size) < 0.62 * 25), 0, seen)
