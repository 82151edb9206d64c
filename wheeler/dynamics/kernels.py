"""The Wheeler dynamics compiled with numba: a tick, the search for the attractor, many frames in parallel.

The rule, the search and the order of summation are defined in wheeler_cpu.py. Kernels do not check what they are given.
"""

import threading

import numba
import numpy as np
from numba import prange

from wheeler.dynamics.compiled import jit, parallel

PUSH, CLIMB, TOLERANCE = 0.35, 0.20, 1e-4  # rates of extrema and slopes, convergence threshold
NEW_RATES, CALM_TICKS = (0.57, 0.55), 3  # of rule v0.3: the rates, and how many ticks in a row must be calm
WINDOW, FIRST_CHECK, CHECK_EVERY, MAX_PERIOD = 20, 60, 10, 10  # oscillation test: frames, tick indices, periods
MASK = 2**40 - 1  # i & MASK tells LLVM that i is not negative, so that it drops numba's test for a wrapped index
LANES = 16  # columns of a frame start and end on a multiple of 16 in the work buffers: one AVX-512 register of float32

# A work buffer is (H + 2, LANES + W rounded up + LANES): cell (i, j) sits at [i + 1, LANES + j], with a halo of one
# cell around. Columns between W and its round-up hold junk in [-1, 1], computed and ignored: the inner loop then has no
# remainder. A tick goes from one buffer to the other.


@jit
def _sides(x, i, w):
    """Fill the halo of row i of work buffer x, left and right. In a loop of its own LLVM would scatter: slower."""
    x[i, LANES - 1] = x[i, LANES + w - 1]
    x[i, LANES + w] = x[i, LANES]


@jit
def _ends(x, h):
    """Fill the halo of work buffer x above and below."""
    for j in range(x.shape[1]):  # the whole row: aligned stores can be forwarded to the next tick's loads
        x[0, j] = x[h, j]
        x[h + 1, j] = x[1, j]


@jit
def _load(frame, x, y):
    """Copy frame (H, W) into work buffer x, clear the junk columns of both; False if a value is NaN or out of range."""
    h, w = frame.shape
    bad = False
    for i in range(h + 2):
        for j in range(LANES + w, x.shape[1]):
            x[i, j] = 0
            y[i, j] = 0
    for i in range(h):
        for j in range(w):
            x[i + 1, LANES + j] = frame[i, j]
        for j in range(w):
            bad |= not (abs(frame[i, j]) <= 1)
        _sides(x, i + 1, w)
    _ends(x, h)
    return not bad


@jit
def _store(x, frame):
    for i in range(frame.shape[0]):
        for j in range(frame.shape[1]):
            frame[i, j] = x[i + 1, LANES + j]


@jit
def _cell(v, up, down, left, right, rates, tie):
    """The rule: 14 vector instructions for 16 cells (6 min/max, 2 compares, 3 blends, subtract, multiply, add)."""
    v_hi = up if up > down else down
    v_lo = up if up < down else down
    h_hi = left if left > right else right
    h_lo = left if left < right else right
    hi = v_hi if v_hi > h_hi else h_hi
    lo = v_lo if v_lo < h_lo else h_lo
    one, minus_one, push, climb = rates
    target, rate = hi, climb
    if len(tie) == 1:
        if v <= lo:
            target, rate = minus_one, push
        if v >= hi:
            target, rate = one, push
    else:
        if v >= hi:
            target, rate = one, push
        if v <= lo:
            target, rate = minus_one, push
    new = v + (target - v) * rate
    if len(tie) >= 2 and v <= lo and v >= hi:
        new = v
    return new


@jit
def _tick(x, y, acc, h, w, tie):
    """One tick from work buffer x to y, halo included; the rates come from acc (see scratch)."""
    # The column range is written LANES + blocks * LANES and rows start at 1 so that LLVM can prove that there is no
    # remainder and no index below 0 (which numba would wrap): else it runs scalar code, ten times slower.
    rates = acc[2, 0], acc[2, 1], acc[2, 2], acc[2, 3]
    blocks = x.shape[1] // LANES - 2
    for i in range(1, h + 1):
        for j in range(LANES, LANES + blocks * LANES):
            y[i, j] = _cell(x[i, j], x[i - 1, j], x[i + 1, j], x[i, j - 1], x[i, j + 1], rates, tie)
        _sides(y, i, w)
    _ends(y, h)


@jit
def _fold(acc, w):
    """Sum of the column sums acc[0, LANES : LANES + W] in the documented order; acc[1] is scratch."""
    for j in range(LANES + w, acc.shape[1]):
        acc[0, j] = 0
    for k in range(LANES):
        acc[1, k] = acc[0, LANES + k]
    for j in range(2 * LANES, acc.shape[1] - LANES, LANES):
        for k in range(LANES):
            acc[1, k] += acc[0, j + k]
    total = acc[1, 0]
    for k in range(1, LANES):
        total += acc[1, k]
    return total


@jit
def _still(x, y, acc, h, w, need, threshold):
    """Whether mean(|y - x|) is below the threshold, and how many rows had to be summed to know.

    Adding non-negative numbers is monotone, also rounded: once the mean over the first rows reaches the threshold the
    mean over all rows does, and the other rows need no sum. Most ticks need one to four of 64 rows; `need` is where to
    look first, the answer of the last tick.
    """
    for j in range(acc.shape[1]):
        acc[0, j] = 0
    blocks = acc.shape[1] // LANES - 2
    done, stop = 0, need
    while True:
        for i in range((done & MASK) + 1, stop + 1):
            for j in range(LANES, LANES + blocks * LANES):
                acc[0, j] += abs(y[i, j] - x[i, j])
        done = stop
        still = float(_fold(acc, w)) / (h * w) < threshold
        if done == h or not still:
            return still, done
        stop = min(done + done // 4 + 1, h)


@jit
def _calm(x, y, acc, h, w, threshold):
    """Whether the 99th percentile of |y - x| is below the threshold.

    With the changes sorted it lies between those at places k and k + 1: below the threshold if the change at k + 1 is,
    not below it if that at k is not. A count of the large ones decides, so nothing is sorted, and before the frame is
    nearly still a few rows are enough.
    """
    k, share = 99 * (h * w - 1) // 100, (99 * (h * w - 1) % 100) / 100
    one, zero, blocks = acc[2, 0], acc[2, 0] - acc[2, 0], acc.shape[1] // LANES - 2
    acc[2, 4] = threshold  # in the frame's dtype, rounded up: a change is below this one if it is below the other
    if np.float64(acc[2, 4]) < threshold:
        acc[2, 4] = np.nextafter(acc[2, 4], one + one)
    limit, large = acc[2, 4], 0
    for j in range(acc.shape[1]):
        acc[0, j] = 0
    for i in range(1, h + 1):
        for j in range(LANES, LANES + blocks * LANES):  # a count for each column: one for all would be scalar code
            acc[0, j] += one if abs(y[i, j] - x[i, j]) >= limit else zero
        if i % 4 == 0 or i == h:
            large = 0
            for j in range(LANES, LANES + w):
                large += int(acc[0, j])
            if large >= h * w - k:
                return False
    if large < h * w - k - 1:
        return True
    low, high = 0.0, 2.0
    for i in range(1, h + 1):
        for j in range(LANES, LANES + w):
            change = np.float64(abs(y[i, j] - x[i, j]))
            if change < threshold:
                low = max(low, change)
            else:
                high = min(high, change)
    return low + (high - low) * share < threshold


@jit
def _roles(x, role):
    """Role map (H, W) int8 of the frame in work buffer x: -1 minimum (flat cells too), +1 maximum, 0 slope."""
    for i in range(role.shape[0]):
        for j in range(role.shape[1]):
            v, up, down = x[i + 1, LANES + j], x[i, LANES + j], x[i + 2, LANES + j]
            left, right = x[i + 1, LANES + j - 1], x[i + 1, LANES + j + 1]
            low = (v <= up) & (v <= down) & (v <= left) & (v <= right)
            high = (v >= up) & (v >= down) & (v >= left) & (v >= right)
            role[i, j] = -1 if low else (1 if high else 0)


@jit
def _period(roles, first):
    """The oscillation test on a ring of role maps (WINDOW, H, W) whose oldest is `first`; 0 if no period wins."""
    window, h, w = roles.shape
    matches = np.zeros(MAX_PERIOD + 1, np.int64)
    line = np.empty(window, np.int8)
    for i in range(h):
        for j in range(w):
            candidate = False
            for t in range(window):
                line[t] = roles[(first + t) % window, i, j]
                candidate |= line[t] != line[0]
            if candidate:
                for p in range(2, MAX_PERIOD + 1):
                    same = True
                    for t in range(window - p):
                        same &= line[t] == line[t + p]
                    matches[p] += same
    for p in range(2, MAX_PERIOD + 1):
        if matches[p] * 100 >= h * w:
            return p
    return 0


@jit
def run(frame, final, x, y, acc, roles, max_ticks, search, tie, threshold):
    """Run frame (H, W) and fill final. Returns (ticks, period): period 0 converged, 2..10 oscillating, -1 chaotic;
    ticks is -1 if a value is out of range. Without search exactly max_ticks ticks are run."""
    h, w = frame.shape
    if not _load(frame, x, y):
        return -1, 0
    ticks, period, need, calm = max_ticks, -1, 1, 0
    for i in range(max_ticks):
        _tick(x, y, acc, h, w, tie)
        x, y = y, x
        if not search:
            continue
        if len(tie) == 3:
            calm = calm + 1 if _calm(y, x, acc, h, w, threshold) else 0
            still = calm == CALM_TICKS
        else:
            still, need = _still(y, x, acc, h, w, need, threshold)
        if still:
            ticks, period = i + 1, 0
            break
        if i > FIRST_CHECK - WINDOW:
            _roles(x, roles[i % WINDOW])
            if i >= FIRST_CHECK and i % CHECK_EVERY == 0:
                found = _period(roles, (i + 1) % WINDOW)
                if found > 0:
                    ticks, period = i + 1, found
                    break
    _store(x, final)
    return ticks, period


@jit
def record(frame, history, x, y, acc, tie):
    """Fill history (T + 1, H, W) with the frame and its next T frames."""
    h, w = frame.shape
    _load(frame, x, y)
    for t in range(history.shape[0]):
        _store(x, history[t])
        _tick(x, y, acc, h, w, tie)
        x, y = y, x


@parallel
def run_batch(frames, finals, ticks, periods, x, y, acc, roles, max_ticks, search, tie, threshold):
    """run for frames (B, H, W), in parallel over frames; every thread owns one slab of x, y, acc, roles."""
    for b in prange(frames.shape[0]):
        t = numba.get_thread_id()
        ticks[b], periods[b] = run(frames[b], finals[b], x[t], y[t], acc[t], roles[t], max_ticks, search, tie,
                                   threshold)  # fmt: skip


# The tie-break travels as a tuple whose length says which it is: the compiler knows lengths, so that each variant gets
# its own code without a branch, and functions at module level can be cached on disk (closures over functions cannot).
# Rule v0.3, whose flat cells stay, is the fourth.
TIE_BREAKS = {"min": (), "max": (0,), "none": (0, 0)}
VARIANTS = {**TIE_BREAKS, "v0.3": (0, 0, 0)}
_local = threading.local()


def scratch(threads, h, w, dtype, tie=()):
    """Work buffers for `threads` threads, kept for the next call of the same size and rule from the same Python thread.

    x, y, acc and roles, uninitialised, with an axis of threads in front unless it is one. Rows are aligned to 64 bytes,
    a cache line and an AVX-512 register.
    """
    rates = NEW_RATES if len(tie) == 3 else (PUSH, CLIMB)
    key = threads, h, w, dtype, rates
    if getattr(_local, "key", None) != key:
        row = (-(-w // LANES) + 2) * LANES

        def aligned(rows, offset):
            count = threads * rows * row
            raw = np.empty(count + 4096, dtype)
            skip = (offset - raw.ctypes.data) % 4096 // raw.itemsize
            return raw[skip : skip + count].reshape(threads, rows, row)

        # The second buffer starts half a 4 KiB page off the first: with nearly equal low address bits the CPU mistakes
        # loads from one for reads of what was just stored to the other, which costs up to 30%.
        buffers = aligned(h + 2, 0), aligned(h + 2, 2048), aligned(3, 3072)
        # constants in the code would be loaded for every 16 cells; values from memory stay in registers: 4% of a tick
        buffers[2][:, 2, :4] = 1, -1, *rates
        _local.key, _local.batch = key, (*buffers, np.empty((threads, WINDOW, h, w), np.int8))
        _local.single = tuple(buffer[0] for buffer in _local.batch)
    return _local.single if threads == 1 else _local.batch
