"""Train the Wheeler text autoencoder.

    python train.py --dataset sample --grid_size 32 --d_model 128 --max_seq_len 64 --max_steps 100  # a minute
    python train.py                                           # TinyStories from the hub, the default 24M model
    python train.py --batch_size 64 --grid_size 64 --d_model 256 --epochs 10 --fp16                    # on a GPU
    python train.py --resume                                  # go on where checkpoints/last.pt stopped, with its flags
    python train.py --resume runs/a/last.pt                   # the same for a run in another folder
    python train.py --init_from checkpoints/best.pt --dataset stories.jsonl --output_dir tuned         # fine-tune
    torchrun --nproc_per_node=2 train.py ...                  # several GPUs (or processes); wheeler/training/ranks.py
    python train.py --plot checkpoints                        # curves of a run as a PNG
    python train.py --doctor --fp16 --batch_size 64           # check the machine, time and memory of these flags

Writes <output_dir>/last.pt and best.pt (lowest validation loss: the sum of those from grid, meaning tiles and nothing),
metrics.jsonl (one JSON object a line) and run.json (flags, commit, versions). Every step decodes a share of the batch
from a random number of each text's meaning tiles, a share as a language model, and the rest from the grid.
A new run in a folder that holds one moves the files of that one to <output_dir>/earlier-1, 2, ... Ctrl-C ends a run
after the step at hand, saves last.pt and exits with 130, SIGTERM and a closed terminal likewise; what can be mended on
the command line exits with 2.
"""

import argparse
import math
import random
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from models import WheelerTextAutoencoder
from wheeler.cli import open_console, progress
from wheeler.figures import unwritten
from wheeler.training.cost import compiled_graphs, compiler_problem
from wheeler.training.data import EpochBatches, prepare
from wheeler.training.doctor import report
from wheeler.training.flags import parse
from wheeler.training.opening import fit_batch_size, new_model, open_data
from wheeler.training.ranks import Ranks, StopSignal, start_worker
from wheeler.training.run import LEAST_LOSS_SCALE, Run
from wheeler.training.run_folder import UsageError, explain, run_lock
from wheeler.training.scores import check_device
from wheeler.training.step import TokenLoss, autocast_of, draw_tiles, get_lr, rows_without_grid
from wheeler.training.texts import DataError
from wheeler.training.watch import plot


def train(args: argparse.Namespace, checkpoint: dict | None, ranks: Ranks, lock: int | None) -> int:
    """Train; the exit code: 0, or 128 + the signal that stopped the run."""
    # -- device and seeds
    device = check_device(ranks.device_name(args.device))
    ranks.start(device)
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    # -- data and model: those of a checkpoint, or new ones
    model, state = None, None
    if checkpoint is not None:
        model = WheelerTextAutoencoder.from_checkpoint(checkpoint, "the checkpoint")
        state = checkpoint["training"] if args.resume is not None else None
        if model.tokenizer is None:
            raise UsageError(f"--{'init_from' if state is None else 'resume'} {args.resume or args.init_from}: it has "
                             "no tokenizer")
    # Data before the model: its tokenizer decides the size of the vocabulary, its texts where the meaning starts.
    data = open_data(args, model, state, ranks)
    model = new_model(args, data) if model is None else model
    model.to(device).train()
    model.encoder.grad_checkpointing = model.decoder.grad_checkpointing = args.grad_checkpointing
    fit_batch_size(args, model, data, device, ranks)

    # -- optimizer and where the run stands
    # Made on every process, in the same order, so that all have the same parameters in the same groups.
    run = Run(args, model, data, ranks, device)
    if ranks.rank:
        torch.manual_seed(args.seed + (ranks.rank << 32))                     # dropout of its own
    if state is not None:
        run.resume(state)
    if args.compile:
        compile_model(run)
    token_loss = TokenLoss(model)
    if ranks.count > 1:
        token_loss = torch.nn.parallel.DistributedDataParallel(token_loss, broadcast_buffers=False,
                                                               find_unused_parameters=True)

    # -- the loop
    bar = None
    try:
        run.open_record(resumed=state is not None)
        bar = progress(None, None, ranks.main, leave=True, total=run.total_steps, initial=run.step, unit="step",
                       dynamic_ncols=True)
        with StopSignal(quiet=not ranks.main, echo=5 if ranks.count > 1 else 0) as stop:
            stopping = loop(run, token_loss, bar, stop, lock)
    finally:
        if bar is not None:
            bar.close()
        run.close()

    # -- what next
    if run.compiled:
        ranks.say(f"compiled    {compiled_graphs() - run.graphs_before} graphs for {len(data.tokens.buckets)} padded "
                  "lengths")
    # The wrapper first: later it would end the group's threads while it holds the lock that they wait for (the GIL).
    del token_loss
    ranks.stop()
    if stopping and run.step < run.total_steps:
        ranks.say(f"stopped     at step {run.step:,}, saved {run.out / 'last.pt'}; to go on: python train.py --resume "
                  f"{run.out / 'last.pt'}")
        return 128 + stopping
    # The next command, ready to be copied: figures come from evaluate.py, not from the log.
    ranks.say(f"saved       {run.out / 'last.pt'} (step {run.step:,}) and {run.out / 'best.pt'} (validation loss "
              f"{run.best:.4f}); curves: python train.py --plot {run.out}\n"
              f"next        python evaluate.py --checkpoint {run.out / 'best.pt'} --dataset {args.dataset}")
    return 0


def compile_model(run: Run) -> None:
    problem = compiler_problem(run.device)
    if problem:
        run.ranks.say(f"note        --compile: no working compiler here ({problem}); going on without")
        return
    run.compiled, run.graphs_before = True, compiled_graphs()
    torch._dynamo.config.recompile_limit = len(run.data.tokens.buckets)       # one graph a padded length, no more
    run.model.compile(dynamic=False)                                          # in place: checkpoint keys stay clean


def loop(run: Run, token_loss: torch.nn.Module, bar: tqdm, stop: StopSignal, lock: int | None) -> int:
    """All steps that are left. Returns the signal that all processes agree to stop for, or 0."""
    args, ranks, blocks, stopping = run.args, run.ranks, run.data.blocks, 0
    if run.step == 0:
        run.evaluate()
        stopping = ranks.highest(stop.received)                               # the others wait here
    run.start_clock()
    while run.step < run.total_steps and not stopping:
        epoch, done = (0, run.done) if blocks else divmod(run.step, run.steps_per_epoch)
        batches = run.data.batches(args, ranks, epoch)
        steps = len(batches) // args.accumulation_steps if blocks else run.steps_per_epoch
        if blocks:
            blocks.prepare()
        order = range(done * args.accumulation_steps, steps * args.accumulation_steps)
        loader, numbers = open_loader(run, batches, order, lock), iter(order)
        for run.done in range(done + 1, steps + 1):
            lr, loss_sum, norm = take_step(run, token_loss, batches, loader, numbers)
            bar.update()
            stopping = ranks.highest(stop.received)
            last = run.step == run.total_steps
            logging = last or run.step % args.log_every == 0
            evaluating = last or (args.eval_every > 0 and run.step % args.eval_every == 0)
            saving = last or stopping or (args.save_every > 0 and run.step % args.save_every == 0)
            if logging or evaluating or saving:                               # float(loss) waits for the device
                loss = ranks.sum(float(loss_sum))
                run.check_loss(loss, norm)
            if logging:
                run.log_step(loss, norm, lr, bar)
            if evaluating:
                run.evaluate()
                stopping = ranks.highest(stop.received)
            if saving or stopping:
                run.save("last.pt")
            if last or stopping:
                break
        else:
            if blocks:
                next_block(run)
    if stopping and run.step == 0:
        run.save("last.pt")
    return stopping


def next_block(run: Run) -> None:
    """Go to the next block of a stream. Where it cannot be read, be it a bad line or the network, what was trained
    since the last save is saved first."""
    problem = None
    try:
        run.data.blocks.advance()
    except Exception as error:
        problem = error
    # Saving takes all processes: none may go on alone where another's network failed.
    if run.ranks.highest(int(problem is not None)):
        run.save("last.pt")
        saved = f"stopped at step {run.step:,}, saved {run.out / 'last.pt'}; --resume goes on when it can be read"
        if problem is None or isinstance(problem, DataError):
            raise UsageError(f"{problem or 'another process cannot read the stream'}: {saved}") from None
        raise problem
    run.done = 0


def open_loader(run: Run, batches: EpochBatches, order: range, lock: int | None):
    # A generator of its own: the loader draws a seed when it starts, also where a resumed run starts one.
    return iter(torch.utils.data.DataLoader(
        batches, batch_size=None, sampler=order, num_workers=run.args.num_workers,
        worker_init_fn=partial(start_worker, lock), pin_memory=run.device.type == "cuda", generator=torch.Generator()))


def take_step(run: Run, token_loss: torch.nn.Module, batches: EpochBatches, loader, numbers):
    """One optimizer step over --accumulation_steps batches: (rate, sum of this process's loss, gradient norm)."""
    args, ranks, scaler, optimizer = run.args, run.ranks, run.scaler, run.optimizer
    meaning_rows, blank_rows = rows_without_grid(args)
    # Rows of a batch stand in the order grid, meaning, blank, and go to the processes in turn: these are this one's.
    own_blank_rows = ranks.share(args.batch_size) - ranks.share(args.batch_size - blank_rows)
    own_tiles = slice((ranks.rank - (args.batch_size - meaning_rows - blank_rows)) % ranks.count, None, ranks.count)
    lr, loss_sum = get_lr(run.step - run.skipped, args, run.total_steps), 0.0  # skipped: no step of the schedule
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
    for micro in range(args.accumulation_steps):
        ids, mask = (x.to(run.device, non_blocking=True) for x in next(loader))
        tiles = draw_tiles(run.model, meaning_rows, args.seed, run.step, micro)[own_tiles].to(run.device)
        share = ranks.count / batches.tokens(next(numbers))                   # DDP averages gradients
        last_micro = micro == args.accumulation_steps - 1
        with nullcontext() if ranks.count == 1 or last_micro else token_loss.no_sync():
            with autocast_of(args, run.device):
                loss = token_loss(ids, mask, tiles, own_blank_rows) * share
            scaler.scale(loss / args.accumulation_steps).backward()
        loss_sum = loss_sum + loss.detach() / (args.accumulation_steps * ranks.count)
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), args.grad_clip or math.inf)
    scale = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    run.skipped += scaler.get_scale() < scale
    optimizer.zero_grad(set_to_none=True)
    run.step += 1
    if args.fp16 and scaler.get_scale() < LEAST_LOSS_SCALE:
        raise UsageError(f"the gradients overflow float16 at every loss scale down to {scaler.get_scale()} (step "
                         f"{run.step}): stopped, and what was saved before is kept; lower --lr, or --bf16 instead of "
                         "--fp16")
    return lr, loss_sum, norm


def main(argv: list[str] | None = None) -> int:
    args = ranks = None
    open_console()
    try:
        ranks = Ranks()
        args, checkpoint = parse(argv, ranks.say, __doc__)
        if args.plot:
            unwritten.clear()
            plot(args.plot, Path(args.plot[0]) / "curves.png")
            return 2 if unwritten else 0
        if args.doctor:
            return report(args)
        if args.prepare:
            return prepare(args)
        with run_lock(Path(args.output_dir)) if ranks.main else nullcontext() as lock:
            return train(args, checkpoint, ranks, lock)
    except KeyboardInterrupt:                                                 # before the first step, or the second one
        print("train.py: stopped at once, nothing saved since the last save", file=sys.stderr)
        return 130
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        message = explain(error, args)
        if message is None:
            raise
        if ranks is None or ranks.local == 0 or not isinstance(error, ValueError):      # else all say the same
            print(f"train.py: {message}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
