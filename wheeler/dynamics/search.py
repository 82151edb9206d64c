"""The Wheeler dynamics on checked frames: ticks and attractors, with numba and in plain numpy. See wheeler_cpu.py."""

import numbers
import operator

import numba
import numpy as np

from wheeler.cli import brief
from wheeler.dynamics.kernels import (
    CALM_TICKS,
    CHECK_EVERY,
    CLIMB,
    FIRST_CHECK,
    LANES,
    MAX_PERIOD,
    NEW_RATES,
    PUSH,
    TIE_BREAKS,
    TOLERANCE,
    VARIANTS,
    WINDOW,
    run,
    run_batch,
    scratch,
)

RULES = ("v0.2", "v0.3")


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


def refuse(frames):
    """ValueError that names the first value outside [-1, 1]."""
    b, i, j = np.argwhere(~(np.abs(frames) <= 1))[0]
    raise ValueError(f"value {frames[b, i, j]} at row {i}, column {j} of frame {b}; values must be in [-1, 1]")


def positive(name, value):
    try:
        value = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {brief(value)}; it must be an integer of at least 1") from None
    if value < 1:
        raise ValueError(f"{name} is {value}; it must be at least 1")
    return value


def tie_named(name):
    if name not in TIE_BREAKS:
        raise ValueError(f"tie_break is {brief(name)}; it must be one of {', '.join(TIE_BREAKS)}")
    return name


def variant_named(rule, tie_break):
    """The key of VARIANTS for a rule and its tie-break, None for the rule's own; ValueError for what there is not."""
    if rule == "v0.2":
        return "min" if tie_break is None else tie_named(tie_break)
    if rule != "v0.3":
        raise ValueError(f"rule is {brief(rule)}; it must be one of {', '.join(RULES)}")
    if tie_break not in (None, "none"):
        raise ValueError(f'tie_break is {brief(tie_break)}; with rule "v0.3" it must be "none" or left out: flat cells '
                         "stay")
    return rule


def stable_below(value):
    """stability_threshold as a float; ValueError unless it is a number above 0 and at most 1."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 < value <= 1:
        raise ValueError(f"stability_threshold is {brief(value)}; it must be a number above 0 and at most 1")
    return float(value)


def search_attractors(frames, max_ticks, variant, search=True, threshold=TOLERANCE):
    """run on checked frames (B, H, W): finals like frames, ticks (B,) int64, periods (B,) int64."""
    (b, h, w), dtype = frames.shape, frames.dtype
    finals, tie = np.empty_like(frames), VARIANTS[variant]
    threads = min(b, numba.get_num_threads()) if b > 1 else 1
    ticks, periods = np.empty(b, np.int64), np.empty(b, np.int64)
    if threads == 1:
        buffers = scratch(1, h, w, dtype, tie)
        for k in range(b):
            ticks[k], periods[k] = run(frames[k], finals[k], *buffers, max_ticks, search, tie, threshold)
    else:
        # get_thread_id counts all threads of the pool, also beyond a lowered number
        slabs = scratch(numba.config.NUMBA_NUM_THREADS, h, w, dtype, tie)
        run_batch(frames, finals, ticks, periods, *slabs, max_ticks, search, tie, threshold)
    if (ticks[0] if b == 1 else ticks.min()) < 0:
        refuse(frames)
    return finals, ticks, periods


def tick(frames, ticks=1, tie_break=None, rule="v0.2"):
    """The frame (H, W) or frames (B, H, W) after exactly `ticks` ticks, as a new array of the same shape and dtype.

    Frames, tie_break, rule and ValueError as in WheelerMemoryCPU and its run_dynamics.

    >>> tick(np.array([[0.0, 0.5], [-0.5, 1.0]]))   # -0.5 is a minimum, 1 a maximum, 0 climbs to 0.5, 0.5 climbs to 1
    array([[ 0.1  ,  0.6  ],
           [-0.675,  1.   ]])
    """
    frames, batch = as_frames(frames)
    finals = search_attractors(frames, positive("ticks", ticks), variant_named(rule, tie_break), search=False)[0]
    return finals if batch else finals[0]


def tick_numpy(frame, variant="min"):
    """One tick of frame (H, W) in plain numpy: the rule to read, and the baseline of the speed table.

    variant: a tie-break of rule v0.2, or "v0.3". Returns (new frame, column sums of |new - old|).
    """
    push, rate = NEW_RATES if variant == "v0.3" else (PUSH, CLIMB)
    up, down, left, right = (np.roll(frame, shift, axis) for axis in (0, 1) for shift in (1, -1))
    hi = np.maximum(np.maximum(up, down), np.maximum(left, right))
    lo = np.minimum(np.minimum(up, down), np.minimum(left, right))
    low, high = frame <= lo, frame >= hi
    fall, rise, climb = (-1 - frame) * push, (1 - frame) * push, (hi - frame) * rate
    first, second = (np.where(high, rise, climb), low) if variant == "min" else (np.where(low, fall, climb), high)
    new = np.clip(frame + np.where(second, fall if variant == "min" else rise, first), -1, 1)
    if variant in ("none", "v0.3"):
        new = np.where(low & high, frame, new)
    return new, np.abs(new - frame).sum(axis=0)


def mean_of(columns, cells):
    """The mean change of a tick from its column sums, in the order that wheeler_cpu.py documents."""
    lanes = np.zeros((-(-len(columns) // LANES), LANES), columns.dtype)
    lanes.reshape(-1)[: len(columns)] = columns
    return float(lanes.cumsum(axis=0)[-1].cumsum()[-1]) / cells  # cumsum adds left to right, sum need not


def percentile_99(change):
    """The 99th percentile of an array of changes, in float64, as wheeler_cpu.py defines it."""
    place, rest = divmod(99 * (change.size - 1), 100)
    low, high = np.sort(change, axis=None)[place : place + 2].astype(np.float64)
    return low + (high - low) * (rest / 100)


def run_numpy(frame, max_ticks, variant, threshold=TOLERANCE):
    """The search in plain numpy: (final, ticks, period) of one checked frame."""
    h, w = frame.shape
    window, calm = [], 0
    for i in range(max_ticks):
        old = frame
        frame, columns = tick_numpy(old, variant)
        if variant == "v0.3":
            calm = calm + 1 if percentile_99(np.abs(frame - old)) < threshold else 0
        if calm == CALM_TICKS or variant != "v0.3" and mean_of(columns, h * w) < threshold:
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
