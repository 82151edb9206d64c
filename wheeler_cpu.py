"""The Wheeler dynamics: a cellular automaton on frames in [-1, 1], run to its attractor.

    from wheeler_cpu import WheelerMemoryCPU
    dynamics = WheelerMemoryCPU(64, 64)                  # width, height
    trajectory = dynamics.run_dynamics(frame)            # array or torch tensor, (64, 64) or (B, 64, 64)
    trajectory.state, trajectory.ticks, trajectory.final_frame, trajectory.history

    python wheeler_cpu.py frame.npy --gif out.gif        # run one frame, animate it
    python wheeler_cpu.py --random 0 --strip out.png     # the same for a uniform random frame
    python wheeler_cpu.py --bench                        # speed table (bench.py dynamics)

The rule. A frame is an (H, W) torus, H, W >= 2. With hi and lo the maximum and minimum of the four neighbours
(up, down, left, right) of a cell v, tested in this order, all cells at once, arithmetic in the frame's dtype:

    v <= lo     minimum, role -1:   v' = v + (-1 - v) * 0.35
    v >= hi     maximum, role +1:   v' = v + ( 1 - v) * 0.35
    otherwise   slope,   role  0:   v' = v + (hi - v) * 0.20

A flat cell passes both tests. `tie_break` says what it does: "min" (default) it is a minimum, "max" it is a maximum,
"none" it keeps its value bit for bit. The rule's final clip to [-1, 1] is a no-op on frames in range and is not
computed: (1 - v) * 0.35 <= 1 - v and (hi - v) * 0.20 <= hi - v also after rounding, and rounding is monotone, so v'
never passes the value it moves to. The same monotony makes the sign of a zero neighbour irrelevant.

The search. Tick until mean(|v' - v|) < 1e-4: CONVERGED. Otherwise, at tick index 60, 70, 80, ..., look at the role maps
of the last 20 frames (a flat cell is -1 in every variant): of the cells that changed role, count those with role[t] ==
role[t + p]; the first p of 2..10 whose count is at least 1% of all cells wins: OSCILLATING. After max_ticks: CHAOTIC.

The mean is defined down to the last bit, so that ticks do not depend on threads or vector width: absolute differences
add up per column from row 0 to row H - 1; column sums add up left to right in 16 lanes (column mod 16); the lanes add
up left to right; all in the frame's dtype; then one float64 division by H * W.

Source: the public Wheeler Memory project (fantomx42/wheeler-memory, commit f8e5f35), its rule, none of its code.
"""

import argparse
import io
import operator
import sys
import threading
from functools import cached_property
from pathlib import Path

import numba
import numpy as np
from numba import njit, prange

CONVERGED, OSCILLATING, CHAOTIC = "CONVERGED", "OSCILLATING", "CHAOTIC"
PUSH, CLIMB, TOLERANCE = 0.35, 0.20, 1e-4  # rates of extrema and slopes, convergence threshold
WINDOW, FIRST_CHECK, CHECK_EVERY, MAX_PERIOD = 20, 60, 10, 10  # oscillation test: frames, tick indices, periods
MASK = 2**40 - 1  # i & MASK tells LLVM that i is not negative, so that it drops numba's test for a wrapped index
LANES = 16  # columns of a frame start and end on a multiple of 16 in the work buffers: one AVX-512 register of float32

jit = njit(error_model="numpy", nogil=True, cache=True)  # no fastmath: LLVM then neither reorders nor contracts to FMA


# ------------------------------------------------------------------------------------------------------------- kernels
# A work buffer is (H + 2, LANES + W rounded up + LANES): cell (i, j) sits at [i + 1, LANES + j], with a halo of one
# cell around. Columns between W and its round-up hold junk in [-1, 1], computed and ignored: the inner loop then has no
# remainder. A tick goes from one buffer to the other.


@jit
def _wrap(x, h, w):
    """Fill the halo of work buffer x from its cells."""
    for i in range(1, h + 1):
        x[i, LANES - 1] = x[i, LANES + w - 1]
        x[i, LANES + w] = x[i, LANES]
    for j in range(x.shape[1]):  # the whole row: aligned stores can be forwarded to the next tick's loads
        x[0, j] = x[h, j]
        x[h + 1, j] = x[1, j]


@jit
def _load(frame, x, y):
    """Copy frame (H, W) into work buffer x, clear the junk columns of both; False if a value is NaN or out of range."""
    h, w = frame.shape
    bad = False
    for i in range(h):
        for j in range(w):
            x[i + 1, LANES + j] = frame[i, j]
        for j in range(w):
            bad |= not (abs(frame[i, j]) <= 1)
    for i in range(h + 2):
        for j in range(LANES + w, x.shape[1]):
            x[i, j] = 0
            y[i, j] = 0
    _wrap(x, h, w)
    return not bad


@jit
def _store(x, frame):
    for i in range(frame.shape[0]):
        for j in range(frame.shape[1]):
            frame[i, j] = x[i + 1, LANES + j]


@jit
def _cell(v, up, down, left, right, one, push, climb, tie):
    """The rule: 14 vector instructions for 16 cells (6 min/max, 2 compares, 3 blends, subtract, multiply, add)."""
    v_hi = up if up > down else down
    v_lo = up if up < down else down
    h_hi = left if left > right else right
    h_lo = left if left < right else right
    hi = v_hi if v_hi > h_hi else h_hi
    lo = v_lo if v_lo < h_lo else h_lo
    target, rate = hi, climb
    if len(tie) == 1:
        if v <= lo:
            target, rate = -one, push
        if v >= hi:
            target, rate = one, push
    else:
        if v >= hi:
            target, rate = one, push
        if v <= lo:
            target, rate = -one, push
    new = v + (target - v) * rate
    if len(tie) == 2 and v <= lo and v >= hi:
        new = v
    return new


@jit
def _tick(x, y, h, blocks, tie):
    """One tick from work buffer x to y, `blocks` * LANES columns; the halo of y is left to _wrap."""
    # The column range is written LANES + blocks * LANES and rows start at 1 so that LLVM can prove that there is no
    # remainder and no index below 0 (which numba would wrap): else it runs scalar code, ten times slower.
    one, push, climb = x.dtype.type(1), x.dtype.type(PUSH), x.dtype.type(CLIMB)
    for i in range(1, h + 1):
        for j in range(LANES, LANES + blocks * LANES):
            y[i, j] = _cell(x[i, j], x[i - 1, j], x[i + 1, j], x[i, j - 1], x[i, j + 1], one, push, climb, tie)


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
def _still(x, y, acc, h, w, need):
    """Whether mean(|y - x|) is below TOLERANCE, and how many rows had to be summed to know.

    Adding non-negative numbers is monotone, also rounded: once the mean over the first rows reaches the tolerance the
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
        still = float(_fold(acc, w)) / (h * w) < TOLERANCE
        if done == h or not still:
            return still, done
        stop = min(done + done // 4 + 1, h)


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
def _run(frame, final, x, y, acc, roles, max_ticks, search, tie):
    """Run frame (H, W) and fill final. Returns (ticks, period): period 0 converged, 2..10 oscillating, -1 chaotic;
    ticks is -1 if a value is out of range. Without search exactly max_ticks ticks are run."""
    h, w = frame.shape
    if not _load(frame, x, y):
        return -1, 0
    ticks, period, need, blocks = max_ticks, -1, 1, x.shape[1] // LANES - 2
    for i in range(max_ticks):
        _tick(x, y, h, blocks, tie)
        _wrap(y, h, w)
        x, y = y, x
        if not search:
            continue
        still, need = _still(y, x, acc, h, w, need)
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
def _record(frame, history, x, y, tie):
    """Fill history (T + 1, H, W) with the frame and its next T frames."""
    h, w = frame.shape
    _load(frame, x, y)
    for t in range(history.shape[0]):
        _store(x, history[t])
        _tick(x, y, h, x.shape[1] // LANES - 2, tie)
        _wrap(y, h, w)
        x, y = y, x


@njit(error_model="numpy", nogil=True, cache=True, parallel=True)
def _run_batch(frames, finals, ticks, periods, x, y, acc, roles, max_ticks, search, tie):
    """_run for frames (B, H, W), in parallel over frames; every thread owns one slab of x, y, acc, roles."""
    for b in prange(frames.shape[0]):
        t = numba.get_thread_id()
        ticks[b], periods[b] = _run(frames[b], finals[b], x[t], y[t], acc[t], roles[t], max_ticks, search, tie)


# The tie-break travels as a tuple whose length says which it is: the compiler knows lengths, so that each variant gets
# its own code without a branch, and functions at module level can be cached on disk (closures over functions cannot).
_TIE = {"min": (), "max": (0,), "none": (0, 0)}
_local = threading.local()


def _scratch(threads, h, w, dtype):
    """Work buffers for `threads` threads, kept for the next call of the same size from the same Python thread.

    x, y, acc and roles, uninitialised, with an axis of threads in front unless it is one. Rows are aligned to 64 bytes,
    a cache line and an AVX-512 register.
    """
    key = threads, h, w, dtype
    if getattr(_local, "key", None) != key:
        row = (-(-w // LANES) + 2) * LANES

        def aligned(rows, offset):
            count = threads * rows * row
            raw = np.empty(count + 4096, dtype)
            skip = (offset - raw.ctypes.data) % 4096 // raw.itemsize
            return raw[skip : skip + count].reshape(threads, rows, row)

        # The second buffer starts half a 4 KiB page off the first: with nearly equal low address bits the CPU mistakes
        # loads from one for reads of what was just stored to the other, which costs up to 30%.
        buffers = aligned(h + 2, 0), aligned(h + 2, 2048), aligned(2, 3072)
        _local.key, _local.batch = key, (*buffers, np.empty((threads, WINDOW, h, w), np.int8))
        _local.single = tuple(buffer[0] for buffer in _local.batch)
    return _local.single if threads == 1 else _local.batch


# -------------------------------------------------------------------------------------------------------- public layer


def as_frames(frames, height=None, width=None):
    """Check frames and return (array (B, H, W) C-contiguous float32 or float64, whether the input was a batch).

    Takes an array or a torch tensor (any device, copied to the CPU if it must be; gradients are dropped), (H, W) or
    (B, H, W) with B >= 1 and H, W >= 2. float16 and bfloat16 become float32, which is exact. Values are not looked at.
    The result may share memory with the input. ValueError for anything else.
    """
    if hasattr(frames, "detach"):  # a torch tensor; torch itself is not needed here
        frames = frames.detach().cpu()
        frames = (frames.float() if frames.dtype.is_floating_point and frames.dtype.itemsize == 2 else frames).numpy()
    frames = np.asarray(frames)
    if frames.dtype == np.float16:
        frames = frames.astype(np.float32)
    if frames.dtype.kind != "f" or frames.dtype.itemsize not in (4, 8):
        raise ValueError(f"frame dtype is {frames.dtype}; it must be float32 or float64 (or 16-bit float)")
    if frames.ndim not in (2, 3):
        raise ValueError(f"frame shape is {frames.shape}; it must be (H, W) or (B, H, W)")
    if frames.ndim == 3 and len(frames) == 0:
        raise ValueError("the batch holds 0 frames; it must hold at least 1")
    if min(frames.shape[-2:]) < 2:
        raise ValueError(f"frame shape is {frames.shape}; height and width must be at least 2")
    if height is not None and frames.shape[-2:] != (height, width):
        raise ValueError(f"frame is {frames.shape[-2:]} (height, width); this WheelerMemoryCPU takes {(height, width)}")
    batch = frames.ndim == 3
    frames = np.ascontiguousarray(frames, dtype=frames.dtype.newbyteorder("="))
    return (frames if batch else frames[None]), batch


def _refuse(frames):
    """ValueError that names the first value outside [-1, 1]."""
    b, i, j = np.argwhere(~(np.abs(frames) <= 1))[0]
    raise ValueError(f"value {frames[b, i, j]} at row {i}, column {j} of frame {b}; values must be in [-1, 1]")


def _positive(name, value):
    try:
        value = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; it must be an integer of at least 1") from None
    if value < 1:
        raise ValueError(f"{name} is {value}; it must be at least 1")
    return value


def _tie(name):
    if name not in _TIE:
        raise ValueError(f"tie_break is {name!r}; it must be one of {', '.join(_TIE)}")
    return name


def _search(frames, max_ticks, tie_break, search=True):
    """_run on checked frames (B, H, W): finals like frames, ticks (B,) int64, periods (B,) int64."""
    (b, h, w), dtype = frames.shape, frames.dtype
    finals, tie = np.empty_like(frames), _TIE[tie_break]
    threads = min(b, numba.get_num_threads()) if b > 1 else 1
    ticks, periods = np.empty(b, np.int64), np.empty(b, np.int64)
    if threads == 1:
        scratch = _scratch(1, h, w, dtype)
        for k in range(b):
            ticks[k], periods[k] = _run(frames[k], finals[k], *scratch, max_ticks, search, tie)
    else:
        # get_thread_id counts all threads of the pool, also beyond a lowered number
        slabs = _scratch(numba.config.NUMBA_NUM_THREADS, h, w, dtype)
        _run_batch(frames, finals, ticks, periods, *slabs, max_ticks, search, tie)
    if (ticks[0] if b == 1 else ticks.min()) < 0:
        _refuse(frames)
    return finals, ticks, periods


def tick(frames, ticks=1, tie_break="min"):
    """The frame (H, W) or frames (B, H, W) after exactly `ticks` ticks, as a new array of the same shape and dtype.

    >>> tick(np.array([[0.0, 0.5], [-0.5, 1.0]]))   # -0.5 is a minimum, 1 a maximum, 0 climbs to 0.5, 0.5 climbs to 1
    array([[ 0.1  ,  0.6  ],
           [-0.675,  1.   ]])
    """
    frames, batch = as_frames(frames)
    finals = _search(frames, _positive("ticks", ticks), _tie(tie_break), search=False)[0]
    return finals if batch else finals[0]


def tick_numpy(frame, tie_break="min"):
    """One tick of frame (H, W) in plain numpy: the rule to read, and the baseline of the speed table.

    Returns (new frame, column sums of |new - old|).
    """
    up, down, left, right = (np.roll(frame, shift, axis) for axis in (0, 1) for shift in (1, -1))
    hi = np.maximum(np.maximum(up, down), np.maximum(left, right))
    lo = np.minimum(np.minimum(up, down), np.minimum(left, right))
    low, high = frame <= lo, frame >= hi
    fall, rise, climb = (-1 - frame) * PUSH, (1 - frame) * PUSH, (hi - frame) * CLIMB
    first, second = (np.where(high, rise, climb), low) if tie_break == "min" else (np.where(low, fall, climb), high)
    new = np.clip(frame + np.where(second, fall if tie_break == "min" else rise, first), -1, 1)
    if tie_break == "none":
        new = np.where(low & high, frame, new)
    return new, np.abs(new - frame).sum(axis=0)


def _run_numpy(frame, max_ticks, tie_break):
    """The search in plain numpy: (final, ticks, period) of one checked frame."""
    h, w = frame.shape
    window = []
    for i in range(max_ticks):
        frame, columns = tick_numpy(frame, tie_break)
        lanes = np.zeros((-(-w // LANES), LANES), frame.dtype)
        lanes.reshape(-1)[:w] = columns
        total = lanes.cumsum(axis=0)[-1].cumsum()[-1]  # cumsum adds left to right, sum need not
        if float(total) / (h * w) < TOLERANCE:
            return frame, i + 1, 0
        if i > FIRST_CHECK - WINDOW:
            window = [*window[1 - WINDOW :], roles(frame)]
            if i >= FIRST_CHECK and i % CHECK_EVERY == 0:
                maps = np.stack(window)
                moved = (maps != maps[0]).any(0)
                for p in range(2, MAX_PERIOD + 1):
                    if 100 * ((maps[:-p] == maps[p:]).all(0) & moved).sum() >= h * w:
                        return frame, i + 1, p
    return frame, max_ticks, -1


def roles(frame):
    """Role map of frame (H, W) or (B, H, W), any real dtype: int8, -1 minimum (flat cells too), +1 maximum, 0 slope."""
    frame = np.asarray(frame)
    near = np.stack([np.roll(frame, s, a) for a in (-2, -1) for s in (1, -1)])
    return np.where(frame <= near.min(0), -1, np.where(frame >= near.max(0), 1, 0)).astype(np.int8)


class Trajectory:
    """What run_dynamics returns: where one frame or a batch of B frames ended, and how it got there.

    final_frame  (H, W) or (B, H, W), dtype of the input (16-bit floats: float32)
    ticks        int, or (B,) int64 array
    state        "CONVERGED", "OSCILLATING" or "CHAOTIC", or (B,) array of such strings
    period       int, or (B,) int64 array: 0 converged, 2..10 oscillating, -1 chaotic
    history      (ticks + 1, H, W), the input first; of a batch a list of B such arrays. Computed from a private copy of
                 the input when first read (as long as the run took), then kept.

    A batch also works as a sequence: len(trajectory), trajectory[b], iteration.
    """

    def __init__(self, frames, finals, ticks, periods, tie_break, batch):
        self._frames, self._finals, self._ticks, self._periods = frames, finals, ticks, periods
        self.tie_break, self.batch = tie_break, batch

    def _one(self, values):
        return values if self.batch else values[0]

    final_frame = property(lambda self: self._one(self._finals))
    ticks = property(lambda self: self._ticks if self.batch else int(self._ticks[0]))
    period = property(lambda self: self._periods if self.batch else int(self._periods[0]))

    @property
    def state(self):
        names = np.where(self._periods == 0, CONVERGED, np.where(self._periods > 0, OSCILLATING, CHAOTIC))
        return names if self.batch else str(names[0])

    @cached_property
    def history(self):
        out = []
        for frame, ticks in zip(self._frames, self._ticks):
            history = np.empty((int(ticks) + 1, *frame.shape), frame.dtype)
            _record(frame, history, *_scratch(1, *frame.shape, frame.dtype)[:2], _TIE[self.tie_break])
            out.append(history)
        return self._one(out)

    def __len__(self):
        if not self.batch:
            raise TypeError("this Trajectory is of a single frame and has no length; len(trajectory.history) has one")
        return len(self._finals)

    def __getitem__(self, b):
        if not self.batch:
            raise TypeError("this Trajectory is of a single frame; index its history")
        b = range(len(self))[b]  # IndexError past the end, which also ends iteration
        parts = (a[b : b + 1] for a in (self._frames, self._finals, self._ticks, self._periods))
        return Trajectory(*parts, self.tie_break, batch=False)

    def __repr__(self):
        h, w = self._finals.shape[1:]
        if self.batch:
            return f"Trajectory(batch of {len(self)}, {h}x{w}, ticks {self._ticks.min()} to {self._ticks.max()})"
        return f"Trajectory({self.state}, {self.ticks} ticks, {h}x{w})"

    def strip(self, columns=8, scale=2):
        """PIL image: `columns` frames of the history side by side, input to attractor; of a batch a row each."""
        rows = []
        for history in self.history if self.batch else [self.history]:
            # frames change fast at first and ever slower: quadratic spacing shows the collapse
            picks = np.round(np.linspace(0, 1, min(columns, len(history))) ** 2 * (len(history) - 1)).astype(int)
            picks = np.maximum.accumulate(np.maximum(picks, np.arange(len(picks))))
            gap = np.full((history.shape[1], 2), np.nan)
            row = [part for t in picks for part in (history[t], gap)][:-1]
            rows.append(np.concatenate(row, axis=1))
        width = max(row.shape[1] for row in rows)
        rows = [np.pad(row, ((0, 2), (0, width - row.shape[1])), constant_values=np.nan) for row in rows]
        return frame_image(np.concatenate(rows)[:-2], scale)

    def save_gif(self, file, scale=3, ms=80):
        """Write the history of a single frame as an animated GIF to a path or file; the attractor stays 1.5 s."""
        if self.batch:
            raise ValueError(f"a GIF shows one frame, this is a batch of {len(self)}; use trajectory[b].save_gif(...)")
        first, *rest = (frame_image(frame, scale) for frame in self.history)
        durations = [ms] * len(rest) + [1500]
        first.save(file, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0)

    def _repr_png_(self):
        return (self if not self.batch else self._head()).strip()._repr_png_()

    def _repr_html_(self):
        """The strip, and for a single frame of moderate size the animation, for notebooks."""
        from base64 import b64encode

        shown = self if not self.batch else self._head()
        pictures = [("png", shown._repr_png_())]
        if not self.batch and self._finals.size * (self.ticks + 1) <= 4_000_000:
            data = io.BytesIO()
            self.save_gif(data, scale=2)
            pictures.append(("gif", data.getvalue()))
        images = "".join(f'<img src="data:image/{kind};base64,{b64encode(d).decode()}"> ' for kind, d in pictures)
        return f"<div>{self!r}<br>{images}</div>"

    def _head(self, frames=8):
        parts = (a[:frames] for a in (self._frames, self._finals, self._ticks, self._periods))
        return Trajectory(*parts, self.tie_break, batch=True)


class WheelerMemoryCPU:
    """The dynamics for frames of one size.

    width, height: at least 2. use_numba=False runs the plain numpy rule: same bits, about a hundredth of the speed.
    tie_break: "min", "max" or "none", what a flat cell does (see the top of this file).
    """

    def __init__(self, width, height, use_numba=True, tie_break="min"):
        self.width, self.height = _positive("width", width), _positive("height", height)
        if min(self.width, self.height) < 2:
            raise ValueError(f"width x height is {self.width} x {self.height}; both must be at least 2")
        self.use_numba, self.tie_break = bool(use_numba), _tie(tie_break)

    def run_dynamics(self, frame, max_ticks=1000, history=False):
        """Run frame (H, W) or frames (B, H, W) to their attractors: a Trajectory.

        frame: array or torch tensor, float16/bfloat16/float32/float64, values in [-1, 1], any memory layout; never
        modified. A batch runs in parallel over frames (numba.set_num_threads). history=True computes the history now
        instead of when it is first read. ValueError: wrong shape or dtype, NaN, value out of range, max_ticks < 1.
        """
        max_ticks = _positive("max_ticks", max_ticks)
        frames, batch = as_frames(frame, self.height, self.width)
        frames = frames.copy()  # the history is computed from it later, whatever the caller does to the input
        if self.use_numba:
            finals, ticks, periods = _search(frames, max_ticks, self.tie_break)
        else:
            if not (np.abs(frames) <= 1).all():
                _refuse(frames)
            finals, ticks, periods = map(np.array, zip(*(_run_numpy(f, max_ticks, self.tie_break) for f in frames)))
        trajectory = Trajectory(frames, finals, ticks, periods, self.tie_break, batch)
        if history:
            trajectory.history
        return trajectory


# ------------------------------------------------------------------------------------------------------------ pictures

_STOPS = np.array([[24, 22, 68], [46, 94, 140], [108, 172, 160], [244, 190, 104], [255, 246, 220]])  # -1 ... +1, RGB
_PALETTE = np.stack([np.interp(np.linspace(0, 4, 255), range(5), s) for s in _STOPS.T], 1).round().astype(np.uint8)


def add_noise(frames, amplitude, rng):
    """Frames (..., H, W) float32 with uniform noise of that amplitude in every cell, clipped to [-1, 1]; below 1 it
    keeps the sign of cells at -1 and +1. rng: numpy.random.Generator."""
    return np.clip(frames + amplitude * rng.uniform(-1, 1, frames.shape), -1, 1).astype(np.float32)


def frame_image(frame, scale=4):
    """PIL image of frame (H, W): -1 dark blue, +1 ivory, `scale` pixels a cell; NaN is white. Saves as PNG or GIF."""
    from PIL import Image

    frame = np.asarray(frame)
    index = np.where(np.isnan(frame), 255, np.round((np.clip(np.nan_to_num(frame), -1, 1) + 1) * 127)).astype(np.uint8)
    image = Image.fromarray(np.kron(index, np.ones((scale, scale), np.uint8)))
    image.putpalette(bytes(_PALETTE) + b"\xff\xff\xff")
    return image


# ----------------------------------------------------------------------------------------------------------------- CLI


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line on stderr and exit code 2."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(argv=None):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frame", nargs="?", help=".npy file, float array (H, W) or (B, H, W) in [-1, 1]")
    parser.add_argument("--random", type=int, metavar="SEED", help="run a uniform random 64x64 frame instead of a file")
    parser.add_argument("--max_ticks", "--max-ticks", type=int, default=1000,
                        help="give up as CHAOTIC after this many (default 1000)")
    parser.add_argument("--tie_break", "--tie-break", default="min",
                        help="what a flat cell does: min, max or none (default min)")
    parser.add_argument("--out", help="write the final frame(s) to this .npy file")
    parser.add_argument("--gif", help="write an animation of the trajectory (one frame only)")
    parser.add_argument("--strip", help="write a strip of frames, input to attractor, as PNG")
    parser.add_argument("--bench", action="store_true", help="print the speed table and stop")
    args = parser.parse_args(argv)
    if args.bench:
        import bench

        return bench.main(["dynamics"])
    try:
        if (args.frame is None) == (args.random is None):
            raise ValueError("give one frame.npy or --random SEED")
        if args.frame is None:
            frames = np.random.default_rng(args.random).uniform(-1, 1, (64, 64)).astype(np.float32)
        else:
            frames = np.load(args.frame, allow_pickle=False)
        height, width = as_frames(frames)[0].shape[1:]
        trajectory = WheelerMemoryCPU(width, height, tie_break=args.tie_break).run_dynamics(frames, args.max_ticks)
        if args.out:
            np.save(args.out, trajectory.final_frame)
        if args.gif:
            trajectory.save_gif(args.gif)
        if args.strip:
            trajectory.strip().save(args.strip)
    except (OSError, EOFError, ValueError) as error:
        print(f"{Path(sys.argv[0]).name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for one in trajectory if trajectory.batch else [trajectory]:
        print(f"{one.state}  ticks {one.ticks}  period {one.period}  share at -1 {(one.final_frame < 0).mean():.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
