"""Train the Wheeler text autoencoder.

    python train.py --dataset sample --grid_size 32 --d_model 128 --max_seq_len 64 --max_steps 100  # a minute
    python train.py                                           # TinyStories from the hub, the default 21M model
    python train.py --batch_size 64 --grid_size 64 --d_model 256 --epochs 10 --fp16                    # on a GPU
    python train.py --resume                                  # go on where checkpoints/last.pt stopped, with its flags
    python train.py --resume runs/a/last.pt                   # the same for a run in another folder
    python train.py --plot checkpoints                        # curves of a run as a PNG

Writes <output_dir>/last.pt and best.pt (lowest validation loss: the sum of those from grid, frame and nothing),
metrics.jsonl (one JSON object a line) and run.json (flags, commit, versions). Every step decodes a share of the batch
from the frame alone, a share from nothing (the language model that wheeler_code.py needs) and the rest from the grid.
A new run in a folder that holds one moves the files of that one to <output_dir>/earlier-1, 2, ... Ctrl-C ends a run
after the step at hand, saves last.pt and exits with 130; what can be mended on the command line exits with 2.
"""

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from data import EpochBatches, add_data_flags, build_dataset, get_tokenizer, load_texts
from evaluate import PATHS, check_device, reconstruct, score, teacher_forced
from models import WheelerConfig, WheelerTextAutoencoder, read_checkpoint
from tokenizer import vocabulary_size

MODEL_FLAGS = ("grid_size", "d_model", "patch_size", "max_seq_len", "encoder_layers", "grid_layers", "decoder_layers",
               "num_heads", "dropout", "frame_code", "aligned_start")
ORDER_FLAGS = ("batch_size", "accumulation_steps", "seed")  # what decides which texts a step sees
RUN_FILES = ("last.pt", "best.pt", "metrics.jsonl", "run.json")
TRAINING_STATE = {"step", "skipped", "optimizer", "scaler", "rng", "flags", "data_content"}


class UsageError(ValueError):
    """Something that the person who typed the command can mend; printed as one line, exit code 2."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage="python train.py [--flag value ...]     (--help explains all of them)")
    c = WheelerConfig
    group = parser.add_argument_group("model")
    group.add_argument("--grid_size", type=int, default=c.grid_size, help="side of the grid, cells")
    group.add_argument("--d_model", type=int, default=c.d_model, help="channels of a grid cell, width of the model")
    group.add_argument("--patch_size", type=int, default=None,
                       help="side of a patch, cells; default: the largest with a patch for every token")
    group.add_argument("--max_seq_len", type=int, default=c.max_seq_len, help="tokens of the longest text")
    group.add_argument("--encoder_layers", type=int, default=c.encoder_layers, help="layers over the text")
    group.add_argument("--grid_layers", type=int, default=c.grid_layers, help="self-attention layers over the patches")
    group.add_argument("--decoder_layers", type=int, default=c.decoder_layers, help="layers of the decoder")
    group.add_argument("--num_heads", type=int, default=None, help="attention heads; default: d_model / 64")
    group.add_argument("--dropout", type=float, default=c.dropout, help="probability, 0 = off")
    group.add_argument("--frame_code", choices=("cells", "tiles"), default=c.frame_code,
                       help="what a patch of the frame shows: free cells, or one of 12,847 tiles of 8 x 8 cells whose "
                            "mixes the dynamics leave as they are")
    group.add_argument("--aligned_start", action=argparse.BooleanOptionalAction, default=c.aligned_start,
                       help="start as an identity from token to patch to token; off: the usual random start")
    group.add_argument("--vocab_size", type=int, default=c.vocab_size, help="size of a tokenizer trained here")
    group.add_argument("--tokenizer", default=None, help="folder or hub name; default: train one on the data")
    add_data_flags(parser)
    group = parser.add_argument_group("training")
    group.add_argument("--batch_size", type=int, default=32, help="texts a batch")
    group.add_argument("--accumulation_steps", type=int, default=1, help="batches an optimizer step")
    group.add_argument("--epochs", type=int, default=10, help="passes over the training texts")
    group.add_argument("--max_steps", type=int, default=-1, help="optimizer steps, -1 = as many as --epochs gives")
    group.add_argument("--lr", type=float, default=3e-4, help="peak learning rate")
    group.add_argument("--warmup_steps", type=int, default=100, help="steps of linear warm-up, then cosine to a tenth")
    group.add_argument("--weight_decay", type=float, default=0.01, help="AdamW, on matrices only")
    group.add_argument("--grad_clip", type=float, default=1.0, help="largest gradient norm, 0 = off")
    group.add_argument("--frame_share", type=float, default=0.375, help="share of a batch decoded from the frame")
    group.add_argument("--blank_share", type=float, default=0.25,
                       help="share decoded from nothing: the decoder as a language model")
    group.add_argument("--attractor_share", type=float, default=0.0,
                       help="part of the rows decoded from the frame that read it after the Wheeler dynamics, 0 = off")
    group.add_argument("--attractor_noise", type=float, default=0.0,
                       help="amplitude of uniform noise on the frame before the dynamics")
    group.add_argument("--attractor_gradient", choices=("straight", "smooth"), default="straight",
                       help="gradient through the dynamics: straight-through, or of 8 ticks of a smooth rule that is "
                            "sharpened from 4 to 40 during training")
    group.add_argument("--commitment", type=float, default=0.25, help="weight of the loss frame - attractor, squared")
    group.add_argument("--random_text_share", type=float, default=0.1,
                       help="share of texts replaced by random tokens, which teach copying of the unseen, 0 to 1")
    group.add_argument("--seed", type=int, default=0, help="seed of weights, data order and dropout")
    group = parser.add_argument_group("hardware")
    group.add_argument("--device", default=None, help="cpu, cuda, cuda:1 ...; default: a GPU if there is one")
    group.add_argument("--fp16", action="store_true", help="float16 autocast with loss scaling")
    group.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    group.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False, help="torch.compile")
    group.add_argument("--num_workers", type=int, default=0, help="processes that prepare batches")
    group = parser.add_argument_group("watching and saving")
    group.add_argument("--output_dir", default="checkpoints", help="folder for checkpoints and logs")
    group.add_argument("--resume", nargs="?", const="", default=None, metavar="CHECKPOINT",
                       help="go on from a checkpoint (default <output_dir>/last.pt), in its folder and with its flags "
                            "where none is given")
    group.add_argument("--eval_every", type=int, default=500, help="steps between evaluations, -1 = first and last")
    group.add_argument("--eval_samples", type=int, default=128, help="unseen texts an evaluation reads back")
    group.add_argument("--show_samples", type=int, default=3, help="of these, how many are printed")
    group.add_argument("--save_every", type=int, default=500, help="steps between saves of last.pt, -1 = at the end")
    group.add_argument("--log_every", type=int, default=10, help="steps between lines of metrics.jsonl")
    group.add_argument("--wandb", action="store_true", help="also log to Weights & Biases")
    group.add_argument("--wandb_project", default="wheeler-ai", help="project name there")
    group.add_argument("--plot", nargs="+", metavar="RUN", default=None,
                       help="draw the curves of these run folders to <output_dir>/curves.png and exit")
    return parser


def check_flags(args: argparse.Namespace) -> None:
    """UsageError that names the flag, its value and its limit."""
    for name in ("batch_size", "accumulation_steps", "epochs", "log_every", "eval_samples"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} {getattr(args, name)} must be at least 1")
    for name in ("max_steps", "eval_every", "save_every", "max_train_samples"):
        if getattr(args, name) == 0 or getattr(args, name) < -1:
            raise UsageError(f"--{name} {getattr(args, name)} must be at least 1, or -1")
    for name in ("warmup_steps", "weight_decay", "grad_clip", "num_workers", "seed", "show_samples", "attractor_noise",
                 "commitment"):
        if not getattr(args, name) >= 0:
            raise UsageError(f"--{name} {getattr(args, name)} must not be negative")
    for name in ("frame_share", "blank_share", "attractor_share", "random_text_share"):
        if not 0 <= getattr(args, name) <= 1:
            raise UsageError(f"--{name} {getattr(args, name)} must be in 0 .. 1")
    if args.frame_share + args.blank_share > 1:
        raise UsageError(f"--frame_share {args.frame_share} and --blank_share {args.blank_share} add up to more than 1")
    for name, low in (("max_seq_len", 2), ("vocab_size", 259 if args.tokenizer is None else 1)):
        if getattr(args, name) < low:
            raise UsageError(f"--{name} {getattr(args, name)} must be at least {low}")
    if not 0 < args.lr < math.inf:
        raise UsageError(f"--lr {args.lr} must be positive and finite")
    if args.weight_decay == math.inf:
        raise UsageError(f"--weight_decay {args.weight_decay} must be finite")
    if args.seed >= 2**63:
        raise UsageError(f"--seed {args.seed} must be below 2**63")
    WheelerConfig(**{name: getattr(args, name) for name in MODEL_FLAGS})      # says what is wrong before data is read
    if args.fp16 and args.bf16:
        raise UsageError("--fp16 and --bf16 exclude each other")


def get_lr(step: int, args: argparse.Namespace, total_steps: int) -> float:
    """Learning rate of optimizer step 0, 1, ...: linear warm-up, then cosine to a tenth. Pure function of step."""
    if step < args.warmup_steps:
        return args.lr * (step + 1) / args.warmup_steps
    progress = min(1.0, (step - args.warmup_steps) / max(1, total_steps - args.warmup_steps))
    return args.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def make_optimizer(model: WheelerTextAutoencoder, args: argparse.Namespace) -> torch.optim.AdamW:
    """AdamW; weight decay on the matrices of linear layers, not on embeddings, positional codes and norms."""
    decayed = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Linear)}
    groups = [{"params": [p for p in model.parameters() if id(p) in decayed], "weight_decay": args.weight_decay},
              {"params": [p for p in model.parameters() if id(p) not in decayed], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95), eps=1e-8, fused=True)


def save_checkpoint(path: Path, state: dict) -> None:
    """Write beside the target, flush to the disk, then rename: what is at `path` is always a whole checkpoint."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def best_loss(path: Path) -> float:
    """The validation loss of the best.pt at `path`, infinite where there is none: what the next one has to beat."""
    try:
        return float(read_checkpoint(path)["training"]["best"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.inf


def set_aside(out: Path) -> None:
    """Move the files of an earlier run in `out` to <out>/earlier-N: starting a run never costs what one has."""
    files = [out / name for name in RUN_FILES if (out / name).exists()]
    if not files:
        return
    n = 1
    while (out / f"earlier-{n}").exists():
        n += 1
    folder = out / f"earlier-{n}"
    folder.mkdir()
    for file in files:
        os.replace(file, folder / file.name)
    print(f"note        {out} held an earlier run: moved to {folder} (--resume goes on with a run instead)")


class StopSignal:
    """Ctrl-C or SIGTERM ends the run after the step at hand, so that what is saved is whole; a second one at once."""

    def __init__(self):
        self.received, self.before, self.process = 0, {}, os.getpid()

    def __call__(self, number, frame) -> None:
        if os.getpid() != self.process:                                       # a worker that was forked just now
            return
        if self.received:
            raise KeyboardInterrupt
        self.received = number
        os.write(2, b"\nstopping after this step (and its evaluation); once more: at once, without saving\n")

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():             # elsewhere Python refuses handlers
            self.before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def leave_signals_to_parent(worker: int) -> None:
    """In a process that prepares batches: the terminal sends Ctrl-C to all processes of a run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def rng_state(device: torch.device) -> dict:
    """State of every generator that training draws from, as plain types."""
    return {"python": random.getstate(), "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None}


def set_rng_state(state: dict, device: torch.device) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


def git_commit() -> str:
    """Commit of the code, with "+changes" where the tree is not clean; "unknown" outside a checkout."""
    run = lambda *words: subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True)
    try:
        commit = run("rev-parse", "--short=12", "HEAD").stdout.strip()
        return (commit + ("+changes" if run("status", "--porcelain").stdout.strip() else "")) or "unknown"
    except OSError:
        return "unknown"


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def read_metrics(run: str) -> list[dict]:
    """Rows of <run>/metrics.jsonl by step. Where a run was resumed from before its last row, the later rows count; a
    line that a crash cut off is left out."""
    try:
        lines = (Path(run) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--plot {run}: no readable metrics.jsonl ({error})") from None
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
            step = int(row["step"])
        except (ValueError, KeyError, TypeError):
            continue
        if rows and step < rows[-1]["step"]:
            rows = [earlier for earlier in rows if earlier["step"] < step]
        rows.append(row)
    if not rows:
        raise UsageError(f"--plot {run}: its metrics.jsonl has no rows yet")
    return rows


def plot(runs: list[str], path: Path) -> None:
    """Loss and free-running scores of run folders against optimizer steps, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for i, run in enumerate(runs):
        rows = read_metrics(run)
        train, evals = [r for r in rows if "loss" in r], [r for r in rows if "grid/exact_match" in r]
        axes[0].plot([r["step"] for r in train], [r["loss"] for r in train], f"C{i}", lw=0.8, label=Path(run).name)
        for path_name, style in zip(PATHS, ("-", "--", ":"), strict=True):
            if not evals or f"{path_name}/exact_match" not in evals[0]:
                continue
            for axis, metric in zip(axes[1:], ("token_accuracy", "exact_match"), strict=True):
                axis.plot([r["step"] for r in evals], [r[f"{path_name}/{metric}"] for r in evals], style, color=f"C{i}",
                          marker=".", label=f"{Path(run).name}, {path_name}")
    for axis, title in zip(axes, ("training loss (nats a token)", "unseen texts, free-running token accuracy",
                                  "unseen texts, free-running exact match"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("optimizer steps")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    axes[0].set_yscale("log")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"wrote {path}")


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, dict | None]:
    """Flags, and the checkpoint to resume from: its flags are the defaults, those typed win."""
    parser = build_parser()
    args, checkpoint = parser.parse_args(argv), None
    if args.resume is not None and not args.plot:
        path = args.resume or os.path.join(args.output_dir, "last.pt")
        path = os.path.join(path, "last.pt") if os.path.isdir(path) else path
        checkpoint = read_checkpoint(path)
        state = checkpoint.get("training") if isinstance(checkpoint, dict) else None
        if not isinstance(state, dict) or not TRAINING_STATE <= state.keys() or "config" not in checkpoint:
            raise UsageError(f"--resume {path}: it has no state of training, so it is not from train.py")
        known = {key: value for key, value in state["flags"].items()
                 if key in vars(args) and key not in ("resume", "plot")}
        known["output_dir"] = os.path.dirname(path) or "."
        for typed, other in (("fp16", "bf16"), ("bf16", "fp16")):
            if getattr(args, typed):
                known[other] = False
        parser.set_defaults(**known)
        args = parser.parse_args(argv)
        args.resume = path
        fixed = {name: checkpoint["config"].get(name) for name in MODEL_FLAGS}
        fixed |= {name: state["flags"].get(name) for name in ("tokenizer", "vocab_size")}
        for name, value in fixed.items():
            if getattr(args, name) not in (None, value):
                raise UsageError(f"--{name} {getattr(args, name)} does not fit the checkpoint, which has {value}")
        for name in ORDER_FLAGS:
            if getattr(args, name) != state["flags"].get(name):
                print(f"note        --{name} {getattr(args, name)} was {state['flags'].get(name)}: from here on the "
                      "texts come in another order, as if it had always been so")
    check_flags(args)
    return args, checkpoint


def train(args: argparse.Namespace, checkpoint: dict | None) -> int:
    """Train; the exit code: 0, or 128 + the signal that stopped the run."""
    # -- device, precision, seeds
    device = check_device(args.device)
    precision = torch.float16 if args.fp16 else torch.bfloat16 if args.bf16 else torch.float32
    autocast = lambda: nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)
    scaler = torch.amp.GradScaler(device.type, enabled=args.fp16)
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    out = Path(args.output_dir)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "run.json.tmp").touch()
        (out / "run.json.tmp").unlink()
    except OSError as error:
        raise UsageError(f"--output_dir {out}: cannot be written ({error.strerror})") from None

    # -- data
    texts = load_texts(args.dataset, "train", args.text_column)
    if checkpoint is None:
        model, tokenizer = None, get_tokenizer(args.tokenizer, texts, args.vocab_size, args.cache_dir)
    else:
        model = WheelerTextAutoencoder.from_checkpoint(checkpoint, "the checkpoint")
        tokenizer = model.tokenizer
        if tokenizer is None:
            raise UsageError(f"--resume {args.resume}: it has no tokenizer")
    held = load_texts(args.dataset, "validation", args.text_column)
    data = build_dataset(texts, tokenizer, args.max_seq_len, args.cache_dir, args.long_texts, args.max_train_samples)
    unseen = build_dataset(held, tokenizer, args.max_seq_len, args.cache_dir, args.long_texts)
    fixed = np.linspace(0, len(unseen) - 1, min(args.eval_samples, len(unseen))).astype(int).tolist()

    # -- model
    if model is None:
        size = vocabulary_size(tokenizer)
        model = WheelerTextAutoencoder(WheelerConfig(
            vocab_size=size, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id, **{name: getattr(args, name) for name in MODEL_FLAGS}), tokenizer)
    paths = PATHS if args.attractor_share else PATHS[:2]
    model.to(device).train()
    optimizer = make_optimizer(model, args)
    if args.batch_size > len(data):
        print(f"--batch_size {args.batch_size} is more than the {len(data)} training texts: this run takes {len(data)}")
        args.batch_size = len(data)
    frame_rows, blank_rows = round(args.frame_share * args.batch_size), int(args.blank_share * args.batch_size)
    frame_rows = min(frame_rows, args.batch_size - blank_rows)
    batches = lambda epoch: EpochBatches(data, args.batch_size, args.seed, epoch, args.random_text_share, blank_rows)
    steps_per_epoch = len(batches(0)) // args.accumulation_steps
    if steps_per_epoch < 1:
        raise UsageError(f"--accumulation_steps {args.accumulation_steps} x --batch_size {args.batch_size} is more "
                         f"than the {len(data)} training texts")
    total_steps = args.max_steps if args.max_steps > 0 else args.epochs * steps_per_epoch
    step, best, skipped = 0, math.inf, 0
    if checkpoint is not None:
        state = checkpoint["training"]
        if state["data_content"] != data.content:
            raise UsageError(f"--dataset {args.dataset} is not what the checkpoint was trained on: its texts, "
                             "--long_texts or --max_train_samples differ")
        if state["step"] >= total_steps:
            raise UsageError(f"--resume {args.resume}: it is at step {state['step']:,} and the run ends at step "
                             f"{total_steps:,}; more --{'max_steps' if args.max_steps > 0 else 'epochs'} go on")
        try:
            optimizer.load_state_dict(state["optimizer"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"--resume {args.resume}: its optimizer state does not fit its model") from None
        if args.fp16 and state["scaler"]:
            scaler.load_state_dict(state["scaler"])
        step, skipped = state["step"], state["skipped"]
        set_rng_state(state["rng"], device)
    if args.compile:
        model.compile()                                                       # in place: checkpoint keys stay clean

    wandb_run = None
    if args.wandb:
        try:
            import wandb

            wandb_run = wandb.init(project=args.wandb_project, config=vars(args), dir=str(out))
        except Exception as error:                                            # not installed, no key, no network
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise UsageError(f"--wandb: {reason}") from None

    # -- report
    c, parameters = model.config, sum(p.numel() for p in model.parameters())
    tokens_per_step = len(data.tokens) / len(data) * args.batch_size * args.accumulation_steps
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"device      {name}, {str(precision).removeprefix('torch.')}{', compiled' if args.compile else ''}\n"
          f"model       {parameters / 1e6:.1f}M parameters, grid {c.grid_size}x{c.grid_size}x{c.d_model}, "
          f"{c.num_patches} patches of {c.patch_size}x{c.patch_size} cells, vocabulary {c.vocab_size:,}\n"
          f"data        {args.dataset}: {len(data):,} texts to train on, {len(unseen):,} unseen; longest kept: "
          f"{c.max_seq_len} tokens")
    if c.aligned_start and not c.frame_holds_code:
        print(f"            {c.num_patches} patches of {c.patch_size}x{c.patch_size} cells are too few or too small to "
              f"show {c.max_seq_len} tokens of {c.vocab_size:,}, one a patch: reading the frame takes long to learn; "
              "a larger --grid_size or a smaller --max_seq_len helps")
    if data.texts_cut or unseen.texts_cut:
        print(f"            {data.texts_cut:,} training and {unseen.texts_cut:,} unseen texts are longer and were CUT "
              "there (--max_seq_len, --long_texts)")
    print(f"run         steps {step:,} to {total_steps:,} ({total_steps / steps_per_epoch:.1f} epochs), "
          f"{args.batch_size * args.accumulation_steps} texts and about {tokens_per_step:,.0f} tokens a step, "
          f"of {args.batch_size} rows {frame_rows} are decoded from the frame, {blank_rows} from nothing")
    if checkpoint is not None and os.path.samefile(out, os.path.dirname(args.resume) or "."):
        best = best_loss(out / "best.pt")                                     # may be newer than the checkpoint
    else:
        set_aside(out)
    (out / "run.json").write_text(json.dumps({
        "flags": vars(args), "config": vars(c), "parameters": parameters, "commit": git_commit(), "device": name,
        "torch": torch.__version__, "python": sys.version.split()[0], "data_content": data.content}, indent=1))
    metrics = open(out / "metrics.jsonl", "a", buffering=1, encoding="utf-8")

    def log(row: dict) -> None:
        metrics.write(json.dumps(row) + "\n")
        if wandb_run:
            wandb_run.log(row, step=row["step"])

    def save(name: str) -> None:
        save_checkpoint(out / name, model.to_checkpoint() | {"training": {
            "step": step, "best": best, "skipped": skipped, "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(), "rng": rng_state(device), "flags": vars(args),
            "data_content": data.content}})

    def evaluate() -> None:
        """Teacher-forced loss and free-running scores on the fixed unseen texts; best.pt if the loss is a new low."""
        nonlocal best
        model.eval()
        row, read = {"step": step}, {}
        with autocast():
            for path in paths:
                read[path] = reconstruct(model, unseen, fixed, path, args.batch_size)
                row |= {f"{path}/{key}": value for key, value in score(*read[path]).items() if key != "interval"}
                row |= {f"{path}/{key}": value for key, value in
                        teacher_forced(model, unseen, fixed, path, args.batch_size).items()}
            blank = teacher_forced(model, unseen, fixed, "blank", args.batch_size)["teacher_forced_loss"]
        model.train()
        row["bits_per_token"] = blank / math.log(2)                           # as a language model
        row["validation_loss"] = blank + sum(row[f"{path}/teacher_forced_loss"] for path in paths)
        log(row)
        tqdm.write(f"step {step:,}: {len(fixed)} unseen texts, read back free-running: " + "; ".join(
            f"{path} {row[f'{path}/exact_match']:.1%} exact, {row[f'{path}/token_accuracy']:.2%} of tokens"
            for path in paths) + f"; {row['bits_per_token']:.2f} bits a token from nothing")
        for i in range(min(args.show_samples, len(fixed))):
            to_text = lambda ids: tokenizer.decode(ids, skip_special_tokens=True).replace("\n", " ")
            reference = read[paths[0]][0][i]
            tqdm.write(f"   text   {to_text(reference):.110}")
            for path in paths:
                prediction = read[path][1][i]
                mark = "=" if prediction == reference else "x"
                tqdm.write(f" {mark} {path:<6} {to_text(prediction):.110}")
        if row["validation_loss"] < best:
            best = row["validation_loss"]
            save("best.pt")

    # -- the dynamics in training: straight-through gradient, frames drawn to their attractors, ticks annealed
    attractor_rows, distance = round(args.attractor_share * frame_rows), []

    def through_dynamics(frames: torch.Tensor) -> torch.Tensor:
        from wheeler_torch import relaxed, through

        progress, frame = step / total_steps, frames[:attractor_rows]
        noise = args.attractor_noise * (2 * torch.rand_like(frame) - 1)
        ticks = None if progress >= 0.5 else 1 + int(100 * progress)          # to the attractor in the second half
        noisy = (frame + noise).clamp(-1, 1)
        final = through(noisy, ticks=ticks)
        if args.attractor_gradient == "smooth":
            soft = relaxed(noisy, 8, 4 * 10**progress)
            final = final.detach() + (soft - soft.detach())
        distance[:] = [F.mse_loss(frame, final.detach())]
        return torch.cat([final, frames[attractor_rows:]])

    dynamics = through_dynamics if attractor_rows else None

    # -- loop
    stop = StopSignal()
    bar = tqdm(total=total_steps, initial=step, unit="step", dynamic_ncols=True, disable=None)
    try:
        with stop:
            if step == 0:
                evaluate()
            started, started_at, announced = time.monotonic(), step, False
            while step < total_steps and not stop.received:
                epoch, done = divmod(step, steps_per_epoch)
                order = range(done * args.accumulation_steps, steps_per_epoch * args.accumulation_steps)
                # A generator of its own: the loader draws a seed when it starts, also where a resumed run starts one.
                loader = iter(torch.utils.data.DataLoader(
                    batches(epoch), batch_size=None, sampler=order, num_workers=args.num_workers,
                    worker_init_fn=leave_signals_to_parent, pin_memory=device.type == "cuda",
                    generator=torch.Generator()))
                for _ in range(done, steps_per_epoch):
                    lr = get_lr(step, args, total_steps)
                    for group in optimizer.param_groups:
                        group["lr"] = lr
                    loss_sum = 0.0
                    for _ in range(args.accumulation_steps):
                        ids, mask = (x.to(device, non_blocking=True) for x in next(loader))
                        with autocast():
                            logits, _ = model(ids, mask, frame_rows, blank_rows, dynamics)
                            target = ids.masked_fill(~mask, -100)             # padding never counts
                            loss = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), ignore_index=-100)
                        if attractor_rows:
                            loss = loss + args.commitment * distance[0]
                        scaler.scale(loss / args.accumulation_steps).backward()
                        loss_sum = loss_sum + loss.detach() / args.accumulation_steps
                    scaler.unscale_(optimizer)
                    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), args.grad_clip or math.inf)
                    scale = scaler.get_scale()
                    scaler.step(optimizer)
                    scaler.update()
                    skipped += scaler.get_scale() < scale
                    optimizer.zero_grad(set_to_none=True)
                    step += 1
                    bar.update()
                    last = step == total_steps
                    logging = last or step % args.log_every == 0
                    evaluating = last or (args.eval_every > 0 and step % args.eval_every == 0)
                    saving = last or stop.received or (args.save_every > 0 and step % args.save_every == 0)
                    if logging or evaluating or saving:                       # float(loss) waits for the device
                        loss_value = float(loss_sum)
                        # The scaler leaves out steps whose gradient overflows; without it they spoil the weights.
                        if not math.isfinite(loss_value) or not (args.fp16 or math.isfinite(norm)):
                            raise UsageError(f"the loss is {loss_value}, the gradient norm {float(norm)} at step "
                                             f"{step}: stopped, and what was saved before is kept; lower --lr"
                                             f"{', or --bf16 instead of --fp16' if args.fp16 else ''}")
                    if logging:
                        elapsed = time.monotonic() - started
                        speed = (step - started_at) / elapsed
                        row = {"step": step, "loss": loss_value, "lr": lr, "grad_norm": float(norm),
                               "tokens_per_s": speed * tokens_per_step, "ms_per_step": 1000 / speed}
                        if args.fp16:
                            row |= {"loss_scale": scaler.get_scale(), "skipped_steps": skipped}
                        log(row)
                        bar.set_postfix(loss=f"{loss_value:.4f}", lr=f"{lr:.1e}", tok_s=f"{row['tokens_per_s']:,.0f}")
                        if not announced and step - started_at >= 20:
                            announced = True
                            tqdm.write(f"speed       {1000 / speed:.0f} ms a step, {speed * tokens_per_step:,.0f} "
                                       f"tokens/s: about {duration(steps_per_epoch / speed)} an epoch, "
                                       f"{duration((total_steps - step) / speed)} to go, evaluations not counted")
                    if evaluating:
                        before = time.monotonic()
                        evaluate()
                        started += time.monotonic() - before                  # speed means training speed
                    if saving or stop.received:
                        save("last.pt")
                    if last or stop.received:
                        break
            if stop.received and step == 0:
                save("last.pt")
    finally:
        bar.close()
        metrics.close()
        if wandb_run:
            wandb_run.finish()
    if stop.received and step < total_steps:
        print(f"stopped     at step {step:,}, saved {out / 'last.pt'}; to go on: python train.py --resume "
              f"{out / 'last.pt'}")
        return 128 + stop.received
    print(f"saved       {out / 'last.pt'} (step {step:,}) and {out / 'best.pt'} (validation loss {best:.4f}); curves: "
          f"python train.py --plot {out}\n"
          f"next        python evaluate.py --checkpoint {out / 'best.pt'} --dataset {args.dataset}")
    return 0


def main(argv: list[str] | None = None) -> int:
    try:
        args, checkpoint = parse(argv)
        if args.plot:
            plot(args.plot, Path(args.output_dir) / "curves.png")
            return 0
        return train(args, checkpoint)
    except KeyboardInterrupt:                                                 # before the first step, or the second one
        print("train.py: stopped at once, nothing saved since the last save", file=sys.stderr)
        return 130
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, (MemoryError, RuntimeError)):
            if not isinstance(error, MemoryError) and "memory" not in message:
                raise                                                         # a bug of ours keeps its traceback
            message = f"out of memory ({message}); lower --batch_size, --grid_size or --max_seq_len"
        print(f"train.py: {message}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
