"""What a run keeps on disk. A crash, a full disk or a second run never costs what is there already.

Checkpoints and run.json are written beside their target, flushed and renamed. metrics.jsonl grows by whole lines. A run
locks its folder, so that no second one writes there; a new run moves the files of an earlier one aside, and so does one
that goes on from before the newest state.
"""

import argparse
import io
import json
import math
import os
import platform
import random
import shutil
import subprocess
import traceback
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from wheeler.cli import complaint, reason
from wheeler.memory import disk
from wheeler.model.checkpoint import read_checkpoint
from wheeler.model.tokenizer import first_line
from wheeler.training.texts import DataError

ROOT = Path(__file__).resolve().parents[2]                                      # of the project
RUN_FILES = ("last.pt", "best.pt", "metrics.jsonl", "run.json")


class UsageError(ValueError):
    """Something that the person who typed the command can mend; printed as one line, exit code 2."""


def write_whole(path: Path, content) -> None:
    """Write bytes beside the target, flush to the disk, rename: at `path` is the old file or the new one, never a part.
    UsageError that names the file and the reason where the disk refuses."""
    try:
        disk.write_whole(path, lambda file: file.write(content))
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror or error}): stopped, and what was saved before is "
                         "kept") from None


def save_checkpoint(path: Path, state: dict) -> None:
    """Through memory: torch.save hides why a file cannot be written, and half-writes it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getbuffer())


def number_in(path: Path, key: str) -> float:
    """A number in the training state of a checkpoint; NaN where it cannot be read."""
    try:
        state = read_checkpoint(path)
        value = state["training"][key] if isinstance(state, dict) and isinstance(state.get("training"), dict) else None
        return float(value) if type(value) in (int, float) else math.nan
    except (OSError, ValueError, KeyError, OverflowError):
        return math.nan


def best_loss(path: Path) -> float:
    """The validation loss of the best.pt at `path`, infinite where there is none: what the next one has to beat. One
    that cannot be read is moved aside."""
    best = number_in(path, "best")
    if math.isfinite(best):
        return best
    if path.exists():
        set_aside(path.parent, f"{path} cannot be read", ("best.pt",))
    return math.inf


def keep_later(out: Path, resumed: str, step: int) -> None:
    """Before a run goes on from `step` of a checkpoint in `out`: what it would write over moves aside where last.pt is
    later. The rows of metrics.jsonl up to that step stay, and best.pt until there is a better one."""
    last = out / "last.pt"
    if not last.exists() or os.path.samefile(last, resumed):
        return
    later = number_in(last, "step")
    if not later <= step:                                                     # NaN: who knows what is in it
        what = "cannot be read" if math.isnan(later) else f"is at step {later:,.0f}"
        set_aside(out, f"{last} {what}, {resumed} at step {step:,}", ("last.pt",), RUN_FILES[1:])


@contextmanager
def run_lock(out: Path):
    """Make the run folder, clear what a killed run left half-written there, and lock it; gives the lock's descriptor.
    The lock ends with the process, however that ends. UsageError where the folder cannot be had."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "run.json.tmp").touch()
        (out / "run.json.tmp").unlink()
        descriptor = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"--output_dir {out}: cannot be written ({error.strerror})") from None
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(f"--output_dir {out}: another run is writing there") from None
    except (ImportError, OSError):                                            # a file system without locks
        pass
    for name in RUN_FILES:
        for left in out.glob(f"{name}.*.tmp"):
            left.unlink(missing_ok=True)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def set_aside(out: Path, why: str = "", move=RUN_FILES, copy=()) -> None:
    """Move files of an earlier run in `out` to <out>/earlier-N: starting a run never costs what one has."""
    files = [out / name for name in move if (out / name).exists()]
    if not files:
        return
    n = 1
    while (out / f"earlier-{n}").exists():
        n += 1
    folder = out / f"earlier-{n}"
    folder.mkdir()
    for name in copy:
        if (out / name).exists():
            shutil.copy2(out / name, folder)
    for file in files:
        os.replace(file, folder / file.name)
    why = why or f"{out} held an earlier run (--resume goes on with a run instead)"
    print(f"note        {why}: moved to {folder}")


class Metrics:
    """metrics.jsonl of a run, opened to go on after its last whole line."""

    def __init__(self, path: Path):
        self.path = path
        try:
            cut = path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n")
            self.file = open(path, "a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror})") from None
        if cut:
            self.file.write("\n")                                             # a crash cut the last line off

    def write(self, row: dict) -> None:
        """One line; null where a number is not finite, which JSON does not know."""
        row = {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in row.items()}
        try:
            self.file.write(json.dumps(row, allow_nan=False) + "\n")
            self.file.flush()
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written ({error.strerror}): stopped, and what was saved before is "
                             "kept") from None

    def close(self) -> None:
        try:
            self.file.close()
        except OSError:                                                       # the same full disk once more
            pass


class MetricsRows:
    """The rows of a metrics.jsonl that may still grow, by step, of each step at most one of training and one of an
    evaluation. Where a run was resumed from before its last row, the later rows count; a line that a crash cut off is
    left out. strange: lines so far that are no rows."""

    def __init__(self, path: str | Path):
        self.path, self.rows, self.strange = Path(path), [], 0
        self.file, self.at, self.end = None, 0, b""                           # which file, how many bytes, their last

    def update(self) -> bool:
        """Read what was written since the last time, whole lines only; whether the rows changed. A file that took the
        place of the one before, or was begun anew, is read from its start. OSError where it cannot be read."""
        with open(self.path, "rb") as file:
            about, changed = os.fstat(file.fileno()), False
            file.seek(self.at - len(self.end))
            if self.file != (about.st_dev, about.st_ino) or file.read(len(self.end)) != self.end:
                changed = bool(self.rows or self.strange)
                self.rows, self.strange, self.at, self.end = [], 0, 0, b""
                self.file = about.st_dev, about.st_ino
                file.seek(0)
            new = file.read()
        *lines, rest = new.split(b"\n")
        if _row(rest) is None:                                                # no beginning of a JSON object is one
            new = new[: len(new) - len(rest)]
        else:
            lines.append(rest)
        self.at, self.end = self.at + len(new), (self.end + new)[-64:]
        for line in filter(bytes.strip, lines):
            self._add(_row(line))
            changed = True
        return changed

    def _add(self, row: dict | None) -> None:
        if row is None:
            self.strange += 1
            return
        step, training, rows = row["step"], "loss" in row, self.rows
        if any(step < old["step"] or step == old["step"] and training == ("loss" in old) for old in rows[-2:]):
            while rows and rows[-1]["step"] >= step:
                rows.pop()
        rows.append(row)


def _row(line: bytes) -> dict | None:
    """A line of metrics.jsonl; None where it is none. Values may be of any type, but for "step"."""
    try:
        row = json.loads(line)
        return row if type(row["step"]) is int and 0 <= row["step"] < 1 << 53 else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def read_metrics(run: str) -> list[dict]:
    """The rows of <run>/metrics.jsonl, see `MetricsRows`; UsageError where there are none."""
    metrics = MetricsRows(Path(run) / "metrics.jsonl")
    try:
        metrics.update()
    except OSError as error:
        raise UsageError(f"--plot {run}: no readable metrics.jsonl ({reason(error)})") from None
    if not metrics.rows:
        raise UsageError(f"--plot {run}: its metrics.jsonl has no rows yet")
    return metrics.rows


def rng_state(device: torch.device) -> dict:
    """State of every generator that training draws from, as plain types."""
    return {"python": random.getstate(), "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None}


def set_rng_state(state: dict, device: torch.device) -> None:
    kind, internal, gauss = state["python"]
    random.setstate((kind, tuple(internal), gauss))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """The moments of a checkpoint; what the flags decide (decay, betas) is that of this run. ValueError, KeyError or
    TypeError where they are not those of this model."""
    fresh = optimizer.state_dict()["param_groups"]
    if [group["params"] for group in saved["param_groups"]] != [group["params"] for group in fresh]:
        raise ValueError("other parameters")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": fresh})
    for parameter, moments in optimizer.state.items():
        if (moments.keys() != {"step", "exp_avg", "exp_avg_sq"} or moments["step"].numel() != 1 or
                any(moments[key].shape != parameter.shape for key in ("exp_avg", "exp_avg_sq"))):
            raise ValueError("moments of another shape")


def on_purpose(error: ValueError) -> bool:
    """Whether a `raise` of this project made the error. Those of torch, numpy and Python itself are bugs of ours."""
    frames = traceback.extract_tb(error.__traceback__)[-1:]
    return isinstance(error, (UsageError, DataError)) or any(
        (Path(frame.filename).parent == ROOT or ROOT / "wheeler" in Path(frame.filename).parents)
        and frame.line.startswith("raise") for frame in frames)


def explain(error: Exception, args: argparse.Namespace | None) -> str | None:
    """One line for what can be mended; None for a bug of ours, which keeps its traceback."""
    message = first_line(error, 10_000)
    if isinstance(error, ValueError) and not on_purpose(error):
        return None
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in message:
        sizes = "" if args is None else " with " + ", ".join(
            f"--{name} {getattr(args, name)}" for name in ("batch_size", "grid_size", "max_seq_len"))
        return (f"out of memory{sizes} ({message[:200]}): lower --batch_size and raise --accumulation_steps by "
                "the same factor; --batch_size auto takes the most that fits, --grad_checkpointing and a smaller "
                "--grid_size need less")
    if message.startswith("Caught ") and "DataLoader worker" in message:      # its last line says what happened
        return f"a process that prepares batches failed ({str(error).splitlines()[-1]}); what was saved before is kept"
    if isinstance(error, (ValueError, OSError)):
        return complaint(error)
    if "DataLoader worker" in message:
        return f"{message}; what was saved before is kept"
    if isinstance(error, torch.distributed.DistError) or "gloo" in message:
        return "stopped, because another process of this run stopped or cannot be reached"
    return None


def git_commit() -> str:
    """Commit of the code, with "+changes" where the tree is not clean; "unknown" outside a checkout."""
    run = lambda *words: subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    try:
        commit = run("rev-parse", "--short=12", "HEAD").stdout.strip()
        return (commit + ("+changes" if run("status", "--porcelain").stdout.strip() else "")) or "unknown"
    except OSError:
        return "unknown"


def versions() -> dict[str, str | None]:
    """What a run depends on, for run.json."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "cuda": torch.version.cuda,
             "hip": torch.version.hip}
    for name in ("torch", "numpy", "numba", "tokenizers", "transformers", "datasets"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
