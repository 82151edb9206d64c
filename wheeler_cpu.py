"""The Wheeler dynamics: a cellular automaton on frames in [-1, 1], run to its attractor.

    from wheeler_cpu import WheelerMemoryCPU
    dynamics = WheelerMemoryCPU(64, 64)                  # width, height
    trajectory = dynamics.run_dynamics(frame)            # array or torch tensor, (64, 64) or (B, 64, 64)
    trajectory.state, trajectory.ticks, trajectory.final_frame, trajectory.history

    python wheeler_cpu.py frame.npy --gif out.gif        # run one frame, animate it
    python wheeler_cpu.py --random 0 --strip out.png     # the same for a uniform random frame
    python wheeler_cpu.py --bench                        # speed table (bench.py dynamics)

The rules. There are two, "v0.2" (the default) and "v0.3". A frame is an (H, W) torus, H, W >= 2. With hi and lo the
maximum and minimum of the four neighbours (up, down, left, right) of a cell v, tested in this order, all cells at once,
arithmetic in the frame's dtype:

    v <= lo     minimum, role -1:   v' = v + (-1 - v) * push
    v >= hi     maximum, role +1:   v' = v + ( 1 - v) * push
    otherwise   slope,   role  0:   v' = v + (hi - v) * climb

              push   climb   flat cells      converged when, with |v' - v| of all cells               states
    "v0.2"    0.35   0.20    by tie_break    its mean is below the threshold                          C, O, X
    "v0.3"    0.57   0.55    stay            its 99th percentile is, for the third tick in a row      C, D, O, X

The threshold is `stability_threshold`, 1e-4 unless given. C is CONVERGED, D DEGENERATE, O OSCILLATING, X CHAOTIC.

A flat cell, one that equals its four neighbours, passes both tests. `tie_break` says what it does: "min" (default of
v0.2) it is a minimum, "max" it is a maximum, "none" (v0.3) it keeps its value bit for bit. The rules' final clip to
[-1, 1] is a no-op on frames in range and is not computed: (1 - v) * push <= 1 - v and (hi - v) * climb <= hi - v also
after rounding, and rounding is monotone, so v' never passes the value it moves to. The same monotony makes the sign of
a zero neighbour irrelevant.

The search. Tick until the frame is still enough: CONVERGED, or under v0.3 DEGENERATE if fewer than 5% of the cells of
the final frame are beyond 0.33 in absolute value. Otherwise, at tick index 60, 70, 80, ..., look at the role maps of
the last 20 frames (a flat cell is -1 in every variant): of the cells that changed role, count those with role[t] ==
role[t + p]; the first p of 2..10 whose count is at least 1% of all cells wins: OSCILLATING. After max_ticks: CHAOTIC.

Mean and percentile are defined down to the last bit, so that ticks do not depend on threads or vector width. The mean:
absolute differences add up per column from row 0 to row H - 1; column sums add up left to right in 16 lanes (column mod
16); the lanes add up left to right; all in the frame's dtype; then one float64 division by H * W. The percentile: with
n cells, the differences sorted as d[0] to d[n - 1], and 99 * (n - 1) = 100 * k + r, it is d[k] + (d[k + 1] - d[k]) *
(r / 100) in float64.

Source: the public Wheeler Memory project (fantomx42/wheeler-memory), its rules, none of its code: v0.2 at commit
f8e5f35; v0.3 from what its versions 0.3.x (March to May 2026) do.
"""

import argparse
import io
import subprocess
import sys
from base64 import b64encode
from functools import cached_property
from pathlib import Path

import numpy as np

from wheeler.cli import Parser, complaint, counted, load_array
from wheeler.dynamics.kernels import TOLERANCE, VARIANTS, record, scratch
from wheeler.dynamics.pictures import add_noise, frame_image
from wheeler.dynamics.search import (
    as_frames,
    positive,
    refuse,
    roles,
    run_numpy,
    search_attractors,
    stable_below,
    tick,
    tick_numpy,
    variant_named,
)

__all__ = ["NUMBA_AVAILABLE", "Trajectory", "WheelerMemoryCPU", "add_noise", "as_frames", "frame_image", "roles",
           "tick", "tick_numpy"]  # fmt: skip

NUMBA_AVAILABLE = True  # others ask for this name before they use a fast automaton; numba is a requirement here
CONVERGED, DEGENERATE, OSCILLATING, CHAOTIC = "CONVERGED", "DEGENERATE", "OSCILLATING", "CHAOTIC"
FAR, FEW = 0.33, 0.05  # rule v0.3: a frame with a smaller share than FEW of cells beyond FAR holds nothing


class Trajectory:
    """What run_dynamics returns: where one frame or a batch of B frames ended, and how it got there.

    final_frame  (H, W) or (B, H, W), dtype of the input (16-bit floats: float32)
    ticks        int, or (B,) int64 array
    state        "CONVERGED", "DEGENERATE" (rule v0.3 only), "OSCILLATING" or "CHAOTIC", or (B,) array of such strings
    period       int, or (B,) int64 array: 0 converged or degenerate, 2..10 oscillating, -1 chaotic
    rule, tie_break   of the run
    history      (ticks + 1, H, W), the input first; of a batch a list of B such arrays. Computed from a private copy of
                 the input when first read (as long as the run took), then kept.

    A batch also works as a sequence: len(trajectory), trajectory[b], iteration.
    """

    def __init__(self, frames, finals, ticks, periods, tie_break, batch, rule="v0.2"):
        self._frames, self._finals, self._ticks, self._periods = frames, finals, ticks, periods
        self.tie_break, self.batch, self.rule = tie_break, batch, rule

    def _one(self, values):
        return values if self.batch else values[0]

    final_frame = property(lambda self: self._one(self._finals))
    ticks = property(lambda self: self._ticks if self.batch else int(self._ticks[0]))
    period = property(lambda self: self._periods if self.batch else int(self._periods[0]))

    @property
    def state(self):
        names = np.where(self._periods == 0, CONVERGED, np.where(self._periods > 0, OSCILLATING, CHAOTIC))
        if self.rule == "v0.3":
            far = np.count_nonzero(np.abs(self._finals) > FAR, axis=(1, 2)) / self._finals[0].size
            names = np.where((self._periods == 0) & (far < FEW), DEGENERATE, names)
        return names if self.batch else str(names[0])

    @cached_property
    def history(self):
        out, tie = [], VARIANTS[variant_named(self.rule, self.tie_break)]
        for frame, ticks in zip(self._frames, self._ticks):
            history = np.empty((int(ticks) + 1, *frame.shape), frame.dtype)
            record(frame, history, *scratch(1, *frame.shape, frame.dtype, tie)[:3], tie)
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
        return Trajectory(*parts, self.tie_break, batch=False, rule=self.rule)

    def __repr__(self):
        h, w = self._finals.shape[1:]
        if self.batch:
            return f"Trajectory(batch of {len(self)}, {h}x{w}, ticks {self._ticks.min()} to {self._ticks.max()})"
        return f"Trajectory({self.state}, {counted(self.ticks, 'tick')}, {h}x{w})"

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
        return Trajectory(*parts, self.tie_break, batch=True, rule=self.rule)


class WheelerMemoryCPU:
    """The dynamics for frames of one size.

    width, height: at least 2. use_numba=False runs the plain numpy rule: same bits, about a hundredth of the speed.
    tie_break: "min", "max" or "none", what a flat cell does; left out, "min" under rule "v0.2" and "none" under "v0.3",
    which takes no other. rule: "v0.2" or "v0.3"; the table at the top of this file has what they are.
    stability_threshold: above 0 and at most 1, what the mean (v0.2) or the 99th percentile (v0.3) of the cells' changes
    in a tick is below in a converged frame. ValueError for anything else.
    """

    def __init__(self, width, height, use_numba=True, tie_break=None, rule="v0.2", stability_threshold=TOLERANCE):
        self.width, self.height = positive("width", width), positive("height", height)
        if min(self.width, self.height) < 2:
            raise ValueError(f"width x height is {self.width} x {self.height}; both must be at least 2")
        self._variant = variant_named(rule, tie_break)
        self.use_numba, self.rule, self.tie_break = bool(use_numba), rule, "none" if rule == "v0.3" else self._variant
        self.stability_threshold = stable_below(stability_threshold)

    def run_dynamics(self, frame, max_ticks=1000, history=False):
        """Run frame (H, W) or frames (B, H, W) to their attractors: a Trajectory.

        frame: array or torch tensor, float16/bfloat16/float32/float64, values in [-1, 1], any memory layout; never
        modified. A batch runs in parallel over frames (numba.set_num_threads). history=True computes the history now
        instead of when it is first read. ValueError: wrong shape or dtype, NaN, value out of range, max_ticks < 1.
        """
        max_ticks = positive("max_ticks", max_ticks)
        frames, batch = as_frames(frame, self.height, self.width)
        frames = frames.copy()  # the history is computed from it later, whatever the caller does to the input
        if self.use_numba:
            finals, ticks, periods = search_attractors(frames, max_ticks, self._variant,
                                                       threshold=self.stability_threshold)  # fmt: skip
        else:
            if not (np.abs(frames) <= 1).all():
                refuse(frames)
            ends = (run_numpy(f, max_ticks, self._variant, self.stability_threshold) for f in frames)
            finals, ticks, periods = map(np.array, zip(*ends))
        trajectory = Trajectory(frames, finals, ticks, periods, self.tie_break, batch, self.rule)
        if history:
            trajectory.history
        return trajectory


# ---- command line ----------------------------------------------------------------------------------------------------


def main(argv=None):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frame", nargs="?", help=".npy file, float array (H, W) or (B, H, W) in [-1, 1]")
    parser.add_argument("--random", type=int, metavar="SEED", help="run a uniform random 64x64 frame instead of a file")
    parser.add_argument("--max_ticks", "--max-ticks", type=int, default=1000,
                        help="give up as CHAOTIC after this many (default 1000)")
    parser.add_argument("--tie_break", "--tie-break",
                        help="what a flat cell does: min, max or none (default min; none under v0.3)")
    parser.add_argument("--rule", default="v0.2", help="v0.2 or v0.3 (default v0.2)")
    parser.add_argument("--stability_threshold", "--stability-threshold", type=float, default=TOLERANCE,
                        help="a frame that changes less has converged (default 1e-4)")
    parser.add_argument("--out", help="write the final frame(s) to this .npy file")
    parser.add_argument("--gif", help="write an animation of the trajectory (one frame only)")
    parser.add_argument("--strip", help="write a strip of frames, input to attractor, as PNG")
    parser.add_argument("--bench", action="store_true", help="print the speed table and stop")
    args = parser.parse_args(argv)
    if args.bench:
        return subprocess.call([sys.executable, str(Path(__file__).with_name("bench.py")), "dynamics"])
    try:
        if (args.frame is None) == (args.random is None):
            raise ValueError("give one frame.npy or --random SEED")
        if args.frame is None:
            frames = np.random.default_rng(args.random).uniform(-1, 1, (64, 64)).astype(np.float32)
        else:
            frames = load_array(args.frame)
        height, width = as_frames(frames)[0].shape[1:]
        dynamics = WheelerMemoryCPU(width, height, tie_break=args.tie_break, rule=args.rule,
                                    stability_threshold=args.stability_threshold)  # fmt: skip
        trajectory = dynamics.run_dynamics(frames, args.max_ticks)
        for one in trajectory if trajectory.batch else [trajectory]:
            print(f"{one.state}  ticks {one.ticks}  period {one.period}  share at -1 "
                  f"{(one.final_frame < 0).mean():.3f}", flush=True)
        if args.out:
            np.save(args.out, trajectory.final_frame)
        if args.gif:
            trajectory.save_gif(args.gif)
        if args.strip:
            trajectory.strip().save(args.strip)
    except (OSError, EOFError, ValueError) as error:
        print(f"{Path(sys.argv[0]).name}: error: {complaint(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
