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
from wheeler.figures import label, new_figure, save_figure
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
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)                                                  # the new name too survives a power cut
        finally:
            os.close(folder)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror or error}): stopped, and what was saved before is "
                         "kept") from None
    finally:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass


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


def read_metrics(run: str) -> list[dict]:
    """Rows of <run>/metrics.jsonl by step, of each at most one of training and one of an evaluation. Where a run was
    resumed from before its last row, the later rows count; a line that a crash cut off is left out."""
    try:
        lines = (Path(run) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--plot {run}: no readable metrics.jsonl ({reason(error)})") from None
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
            step, training = row["step"], "loss" in row
        except (ValueError, KeyError, TypeError):
            continue
        if type(step) is not int:
            continue
        if any(step < old["step"] or step == old["step"] and training == ("loss" in old) for old in rows[-2:]):
            rows = [earlier for earlier in rows if earlier["step"] < step]
        rows.append(row)
    if not rows:
        raise UsageError(f"--plot {run}: its metrics.jsonl has no rows yet")
    return rows


def plot(runs: list[str], path: Path) -> None:
    """Loss, bits of unseen texts and exact match of run folders against optimizer steps, as a PNG."""
    def values(rows: list[dict], key: str) -> list[float]:
        return [row[key] if isinstance(row.get(key), (int, float)) else math.nan for row in rows]

    figure = new_figure(13, 3.8)
    axes = figure.subplots(1, 3)
    for i, run in enumerate(runs):
        rows, name = read_metrics(run), label(Path(run).resolve().name or run)
        train, evals = [r for r in rows if "loss" in r], [r for r in rows if "grid/exact_match" in r]
        axes[0].plot(values(train, "step"), values(train, "loss"), f"C{i}", lw=0.8, label=name)
        for key, style, what in (("bits_per_token", "--", "as a language model"), ("bits_per_token_given_meaning", "-",
                                                                            "given meaning tiles")):
            axes[1].plot(values(evals, "step"), values(evals, key), style, color=f"C{i}", marker=".",
                         label=f"{name}, {what}")
        axes[2].plot(values(evals, "step"), values(evals, "grid/exact_match"), color=f"C{i}", marker=".",
                     label=name)
    for axis, title in zip(axes, ("training loss (nats a token)", "unseen texts, bits a token",
                                  "unseen texts read from the grid, exact match"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("optimizer steps")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    axes[0].set_yscale("log")
    save_figure(figure, path.parent, path.stem)


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
