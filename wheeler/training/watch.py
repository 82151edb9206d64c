"""Training that one can watch: the curves of runs, and what their stories become as frames, while they are written.

    python app.py --watch checkpoints                       # a page that follows a run, or all runs of a folder
    python app.py --watch runs/a runs/b                     # the same for several, side by side
    python train.py --plot checkpoints                      # the curves as a PNG

    from wheeler.training.watch import watch                # in a notebook
    watch("checkpoints")                                    # the last state; step=500 looks back

The page is in wheeler/app/runs.py. Reads metrics.jsonl and nothing else: no checkpoint, no model. Of a file that grows
only what is new is read, and of long curves 500 points are drawn. Texts of a metrics.jsonl are shown as text, never as
HTML.
"""

import binascii
import os
import re
import textwrap
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wheeler.cli import brief, plain, reason
from wheeler.dynamics.pictures import frame_image
from wheeler.figures import figure_png, label, new_figure, save_figure
from wheeler.training.run_folder import MetricsRows, UsageError, read_metrics

MOST_RUNS, MOST_POINTS, MOST_STORIES, MOST_TEXT = 8, 500, 3, 4000             # shown: points a curve, characters
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")     # of runs
EARLIER = re.compile(r"earlier-\d+")                                          # what `set_aside` makes
# Title -> {entry of a row: (what its curve is called after the run's name, whether it is pale)}. Titles longer than
# these are cut off on a telephone.
PANELS = {
    "training loss (nats a token)": {"loss": ("", False)},
    "validation loss (3 parts)": {"validation_loss": ("", False)},
    "unseen texts, bits a token": {"bits_per_token": (", no tiles", True), "bits_per_token_given_meaning": ("", False)},
    "unseen texts, exact match": {"grid/exact_match": ("", False)},
}


# ---- what a metrics.jsonl says --------------------------------------------------------------------------------------


class Story(NamedTuple):
    """A fixed story at an evaluation: see `stories_in_frames`. frame (side, side) float32 of -1 and +1; verdict: how it
    came back; room: what its words cost, and what the frame holds."""

    text: str
    frame: np.ndarray
    read: str
    verdict: str
    room: str


def shown(text: str) -> str:
    """The beginning of a text, without control characters and halves of characters."""
    if not isinstance(text, str):
        raise TypeError("no text")
    return plain(text[:MOST_TEXT])


def stories_of(row: dict) -> list[Story]:
    """The stories of a row, [] where it has none; what is not as train.py writes it is left out."""
    out, entries = [], row.get("stories")
    for entry in entries[:MOST_STORIES] if isinstance(entries, list) else []:
        try:
            side, packed = entry["side"], b64decode(entry["frame"], validate=True)
            text, read = shown(entry["text"]), shown(entry["read"])
            verdict = {"words": "exact" if entry["exact"] is True else "all tokens, other characters", "gist": "gist",
                       "nothing": "nothing to be read", "foreign": "of other weights"}[entry["kind"]]
            room = f"{float(entry['bits']):,.0f} of {float(entry['holds']):,.0f} bits"
            if type(side) is not int or not 16 <= side <= 128 or len(packed) * 8 != side * side:
                raise ValueError("no frame")
        except (ValueError, KeyError, TypeError, OverflowError, binascii.Error):
            continue
        bits = np.unpackbits(np.frombuffer(packed, np.uint8)).reshape(side, side)
        out.append(Story(text, 1 - 2 * bits.astype(np.float32), read, verdict, room))
    return out


def curve(rows: Sequence[dict], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values, float64 (n,), of the finite numbers that rows have under a key. Of more than MOST_POINTS all
    but the last are means of as many rows each as it takes."""
    found = [(row["step"], row[key]) for row in rows if type(row.get(key)) in (int, float) and abs(row[key]) < 1e300]
    points = np.array(found, np.float64).reshape(-1, 2)
    if len(points) > MOST_POINTS:
        starts = np.linspace(0, len(points) - 1, MOST_POINTS).astype(int)
        points = np.add.reduceat(points, starts) / np.diff([*starts, len(points)])[:, None]
    return points[:, 0], points[:, 1]


class Watcher:
    """The runs in folders: of each folder the run that it is, and those right inside of it. Such as are there later
    join then.

    runs: name -> MetricsRows, at most MOST_RUNS; left_out: how many more there are; problems: path -> why a run or a
    folder cannot be read; gone: names of runs whose folder was removed; version: grows with every change. UsageError at
    first, where a folder is missing or is none, or where of all that is there nothing can be read.
    """

    def __init__(self, folders: Sequence[str | os.PathLike]):
        self.folders, self.version, self.left_out = [Path(folder) for folder in folders], 0, 0
        self.runs: dict[str, MetricsRows] = {}
        self.problems: dict[str, str] = {}
        self.gone: set[str] = set()
        for folder in self.folders:
            if not folder.is_dir():
                what = "it is no folder" if folder.exists() else "there is no such folder"
                raise UsageError(f"{folder}: {what}; wanted is a run of train.py, or a folder of runs")
        self.update()
        tried = [run.path for run in self.runs.values()] or self.folders
        if tried and all(str(path) in self.problems for path in tried):
            raise UsageError("{}: {}".format(*next(iter(self.problems.items()))))

    def update(self) -> bool:
        """Read what is new; whether anything is."""
        before, problems, changed = (list(self.runs), self.gone), {}, False
        self.gone, self.left_out = set(), 0
        for path in self._found(problems):
            if any(run.path == path for run in self.runs.values()):
                continue
            if len(self.runs) == MOST_RUNS:
                self.left_out += 1
            else:
                name, known = label(plain(path.parent.resolve().name)), 1
                while name in self.runs:
                    known += 1
                    name = f"{label(plain(path.parent.resolve().name))} ({known})"
                self.runs[name] = MetricsRows(path)
        for name, run in self.runs.items():
            try:
                changed |= run.update()
                if run.strange and not run.rows:
                    problems[str(run.path)] = "no line of it is one that train.py writes"
            except FileNotFoundError:
                if not os.path.exists(run.path.parent):                       # else a new run moved the file aside
                    self.gone.add(name)
            except OSError as error:
                problems[str(run.path)] = reason(error)
        changed |= (list(self.runs), self.gone) != before or problems != self.problems
        self.problems, self.version = problems, self.version + changed
        return changed

    def _found(self, problems: dict[str, str]) -> list[Path]:
        """Every metrics.jsonl, each once."""
        found: dict[Path, Path] = {}
        for folder in self.folders:
            try:
                inside = sorted(child for child in folder.iterdir() if not EARLIER.fullmatch(child.name))
            except OSError as error:
                problems[str(folder)] = reason(error)
                continue
            for run in (folder, *inside):
                path = run / "metrics.jsonl"
                try:
                    if path.is_file():
                        found.setdefault(path.resolve(), path)
                except OSError as error:                                      # a folder that may not be entered
                    problems[str(run)] = reason(error)
        return list(found.values())

    def state(self) -> str:
        """What there is to say: the runs and how far they are."""
        lines = []
        for name, run in self.runs.items():
            far = f"step {run.rows[-1]['step']:,}" if run.rows else "no row yet"
            if run.rows or str(run.path) not in self.problems:
                lines.append(f"{name}: {far}{', its folder is gone' if name in self.gone else ''}")
        lines += [f"{self.left_out} more runs are not shown: name their folders"] if self.left_out else []
        lines += [f"{plain(name)}: {problem}" for name, problem in self.problems.items()]
        return "\n".join(lines) or f"no run yet in {', '.join(plain(str(folder)) for folder in self.folders)}"

    def evaluations(self) -> list[int]:
        """Steps at which any run showed stories, in order."""
        return sorted({row["step"] for run in self.runs.values() for row in run.rows if "stories" in row})

    def stories(self, step: int | None = None) -> dict[str, tuple[int, list[Story]]]:
        """Name of a run -> its last evaluation with stories, of those up to a step if one is given."""
        out = {}
        for name, run in self.runs.items():
            row = next((row for row in reversed(run.rows)
                        if "stories" in row and (step is None or row["step"] <= step)), None)
            stories = stories_of(row) if row else []
            if stories:
                out[name] = row["step"], stories
        return out


# ---- as a picture: --plot, notebooks --------------------------------------------------------------------------------


def pale(colour: str) -> str:
    """A colour "#rrggbb" half-way to white."""
    return "#" + "".join(f"{(int(colour[i : i + 2], 16) + 255) // 2:02x}" for i in (1, 3, 5))


def draw_curves(axes, runs: dict[str, Sequence[dict]]) -> None:
    """The PANELS of runs, their rows by their names, into as many matplotlib axes."""
    for axis, (title, keys) in zip(axes, PANELS.items(), strict=True):
        for i, (name, rows) in enumerate(runs.items()):
            colour = COLOURS[i % len(COLOURS)]
            for key, (what, faint) in keys.items():
                steps, values = curve(rows, key)
                axis.plot(steps, values, color=pale(colour) if faint else colour, lw=1, label=f"{name}{what}",
                          marker=None if key == "loss" and len(steps) > 1 else ".")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("optimizer steps")
        axis.grid(alpha=0.3)
        if title.endswith("exact match"):
            axis.set_ylim(0, 1.05)
        if runs:
            axis.legend(fontsize=8)
    if any(len(line.get_ydata()) for line in axes[0].lines):
        axes[0].set_yscale("log")


def plot(runs: list[str], path: Path) -> None:
    """The curves of run folders as a PNG. UsageError where one has none."""
    figure, named = new_figure(16, 3.8), {}
    for run in runs:
        name, rows = label(Path(run).resolve().name or run), read_metrics(run)
        named[f"{name} ({run})" if name in named else name] = rows
    draw_curves(figure.subplots(1, len(PANELS)), named)
    save_figure(figure, path.parent, path.stem)


def draw(watcher: Watcher, step: int | None = None):
    """A matplotlib Figure: the curves, and below for every run a row of its stories at its last evaluation, of those up
    to a step if one is given."""
    told = watcher.stories(step)
    figure = new_figure(16, 4 + 3.4 * len(told))
    if not watcher.runs:
        figure.text(0.5, 0.5, watcher.state(), ha="center", va="center")
        return figure
    top, *below = np.atleast_1d(figure.subfigures(1 + len(told), 1, height_ratios=[4, *[3.4] * len(told)]))
    draw_curves(top.subplots(1, len(PANELS)), {name: run.rows for name, run in watcher.runs.items()})
    for part, (name, (at, stories)) in zip(below, told.items(), strict=True):
        part.suptitle(f"{name}, step {at:,}", fontsize=10, color=COLOURS[list(watcher.runs).index(name)])
        for cell, story in zip(part.subplots(1, 2 * MOST_STORIES).reshape(-1, 2), stories, strict=False):
            cell[0].imshow(frame_image(story.frame, 1).convert("RGB"), interpolation="nearest")
            lines = [*textwrap.wrap("wrote: " + story.text, 42, max_lines=7, placeholder=" ..."), "",
                     *textwrap.wrap("read: " + story.read, 42, max_lines=7, placeholder=" ...")]
            cell[1].text(0, 1, f"{story.verdict}, {story.room}\n\n" + "\n".join(lines), fontsize=8, va="top")
        for axis in part.axes:
            axis.axis("off")
    return figure


def watch(*folders: str | os.PathLike, step: int | None = None, until: Callable[[], bool] | None = None,
          every: float = 5.0) -> None:
    """In a notebook: show the runs in folders as a picture.

    step: stories as they were then, default their last state. until: the picture is drawn anew where something was
    written, until this returns True or the kernel is interrupted; None: once. every: seconds between two looks.
    ValueError where a folder is no path or `step` no whole number from 0 on, UsageError as of `Watcher`.
    """
    for folder in folders:
        if not isinstance(folder, str | os.PathLike):
            raise ValueError(f"watch takes paths of folders, each on its own, watch(a, b): {brief(folder)} is none")
    if not folders:
        raise ValueError("watch takes paths of folders: none was given")
    if step is not None and (not isinstance(step, int | np.integer) or step < 0):
        raise ValueError(f"step must be None or a whole number from 0 on, not {brief(step)}")
    from IPython.display import Image, display  # only notebooks have it

    watcher, picture = Watcher(folders), lambda: Image(figure_png(draw(watcher, step), dpi=70))
    handle = display(picture(), display_id=True)
    try:
        while until is not None:
            over = until()                                                    # what was written before it counts
            if watcher.update():
                handle.update(picture())
            if over:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        pass
