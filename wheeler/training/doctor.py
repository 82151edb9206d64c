"""`train.py --doctor`: is this machine fit to train, how fast, and how much fits.

    python train.py --doctor --fp16 --batch_size 64     # device, kernels, room; seconds and memory of these flags
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import torch

from models import WheelerTextAutoencoder
from wheeler.model.config import WheelerConfig
from wheeler.training.cost import STORIES, compiler_problem, free_memory, largest_batch, step_line, step_seconds
from wheeler.training.device import Report, backend_here, environment, inspect_device, login_groups
from wheeler.training.flags import MODEL_FLAGS
from wheeler.training.scores import check_device
from wheeler.training.step import duration, precision_of
from wheeler.training.texts import load_texts


def count_texts(args: argparse.Namespace) -> int | None:
    """Training texts of --dataset, without a download; None where that cannot be known."""
    if args.dataset in STORIES:
        count = STORIES[args.dataset]
    elif args.dataset == "sample" or Path(args.dataset).exists() and not args.streaming:
        count = len(load_texts(args.dataset, "train", args.text_column))
    else:
        return None
    return count if args.max_train_samples < 0 else min(count, args.max_train_samples)


def report(args: argparse.Namespace) -> int:
    """`train.py --doctor`: everything about this machine and these flags; 1 if a check failed, else 0."""
    out, wanted = Report(), check_device(args.device)                         # ValueError where it cannot be used
    backend = "cpu" if wanted.type == "cpu" else backend_here()
    if inspect_device(out, backend) is None:
        return 1
    problems = environment(backend, os.environ, login_groups())
    for problem in problems:
        out.note(problem)
    out.check("environment", not problems, f"{len(problems)} harmful settings" if problems else "nothing is harmful")
    if args.compile:
        problem = compiler_problem(wanted)
        out.check("torch.compile", problem is None, problem or "works")

    model = WheelerTextAutoencoder(WheelerConfig(vocab_size=args.vocab_size, **{
        name: getattr(args, name) for name in MODEL_FLAGS})).to(wanted).train()
    model.encoder.grad_checkpointing = model.decoder.grad_checkpointing = args.grad_checkpointing
    parameters, length = sum(p.numel() for p in model.parameters()), args.max_seq_len
    for name, needed in (("output_dir", 3 * 3 * 4 * parameters), ("cache_dir", 0)):  # last, best, a new one
        folder = Path(getattr(args, name)).absolute()
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        try:
            tempfile.TemporaryFile(dir=folder).close()
            writable = True
        except OSError:
            writable = False
        out.check(f"--{name} {getattr(args, name)}", writable and free > needed,
                  f"{free / 2**30:.1f} GiB free{f', checkpoints need {needed / 2**30:.2f}' if needed else ''}"
                  f"{'' if writable else ', not writable'}")
    free = free_memory(wanted)
    try:
        batch = args.batch_size if args.batch_size != "auto" else largest_batch(model, args, wanted, length)
        rows = min(batch, 4) if wanted.type == "cpu" else batch
        base, each, _ = step_line(model, args, wanted, length)
        needed = base + each * batch
        out.check("memory", needed < free, f"{free / 2**30:.1f} GiB free; --batch_size {batch} needs about "
                  f"{needed / 2**30:.1f}")
        if args.compile:
            model.compile(dynamic=False)
        out.note(f"measuring steps of {rows} texts: three at least, five seconds or more")
        speed = rows / step_seconds(model, args, wanted, rows, length)
    except (torch.OutOfMemoryError, MemoryError):
        out.check("memory", False, f"{free / 2**30:.1f} GiB free: too little for these flags; --batch_size auto finds "
                  "the most that fits")
        return 1
    out.note(f"speed: {speed:.1f} texts of {length} tokens a second, measured for 5 s with a batch of {rows} in "
             f"{str(precision_of(args)).removeprefix('torch.')} ({parameters / 1e6:.1f}M parameters)")
    count = count_texts(args)
    if count is None:
        out.note(f"an epoch: unknown, since {args.dataset} is not counted without reading it")
    else:
        steps = f", --max_steps {args.max_steps} {duration(args.max_steps * batch * args.accumulation_steps / speed)}"
        out.note(f"an epoch of {count:,} texts takes at most {duration(count / speed)}"
                 f"{steps if args.max_steps > 0 else ''} (shorter texts are padded less)")
    return int(out.failed)
