"""Train the Wheeler text autoencoder.

    python train.py --dataset sample --grid_size 32 --d_model 128 --max_seq_len 64 --max_steps 100  # a minute
    python train.py                                           # TinyStories from the hub, the default 25M model
    python train.py --batch_size 64 --grid_size 64 --d_model 256 --epochs 10 --fp16                    # on a GPU
    python train.py --resume                                  # go on where checkpoints/last.pt stopped, with its flags
    python train.py --resume runs/a/last.pt                   # the same for a run in another folder
    python train.py --init_from checkpoints/best.pt --dataset stories.jsonl --output_dir tuned         # fine-tune
    torchrun --nproc_per_node=2 train.py ...                  # several GPUs (or processes); see ranks.py
    python train.py --plot checkpoints                        # curves of a run as a PNG
    python train.py --doctor --fp16 --batch_size 64           # check the machine, time and memory of these flags

Writes <output_dir>/last.pt and best.pt (lowest validation loss: the sum of those from grid, meaning tiles and nothing),
metrics.jsonl (one JSON object a line) and run.json (flags, commit, versions). Every step decodes a share of the batch
from a random number of each text's meaning tiles, a share from nothing (a language model), and the rest from the grid.
A new run in a folder that holds one moves the files of that one to <output_dir>/earlier-1, 2, ... Ctrl-C ends a run
after the step at hand, saves last.pt and exits with 130; what can be mended on the command line exits with 2.
"""

import argparse
import json
import math
import os
import random
import sys
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from aligned_start import start_meaning
from data import (
    TOKENIZER_TEXTS,
    DataError,
    EpochBatches,
    TextStream,
    TokenBlocks,
    build_dataset,
    get_tokenizer,
    load_texts,
)
from flags import MODEL_FLAGS, parse
from metrics import check_device, reconstruct, score, teacher_forced
from models import WheelerConfig, WheelerTextAutoencoder
from ranks import Ranks, StopSignal, start_worker
from run_folder import (
    Metrics,
    UsageError,
    best_loss,
    explain,
    git_commit,
    keep_later,
    plot,
    restore_optimizer,
    rng_state,
    run_lock,
    save_checkpoint,
    set_aside,
    set_rng_state,
    versions,
    write_whole,
)
from tokenizer import first_line, vocabulary_size

LEAST_LOSS_SCALE = 2.0**-10  # below it every gradient overflowed for dozens of steps


def get_lr(step: int, args: argparse.Namespace, total_steps: int) -> float:
    """Learning rate of optimizer step 0, 1, ...: linear warm-up, then cosine to a tenth. Pure function of step."""
    if step < args.warmup_steps:
        return args.lr * (step + 1) / args.warmup_steps
    progress = min(1.0, (step - args.warmup_steps) / max(1, total_steps - args.warmup_steps))
    return args.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


MEANING_RATE = 3.0  # times --lr: little of it stands at the start, and the rest of the model is sensitive to haste


def make_optimizer(model: WheelerTextAutoencoder, args: argparse.Namespace) -> torch.optim.AdamW:
    """AdamW; weight decay on the matrices of linear layers, not on embeddings, positional codes and norms. Each group
    has a `factor` of the learning rate."""
    decayed = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Linear)}
    of_meaning = {id(p) for p in model.meaning.parameters()} if hasattr(model, "meaning") else set()
    groups = [{"params": [p for p in model.parameters() if (id(p) in decayed) == decay and
                          (id(p) in of_meaning) == meaning],
               "weight_decay": args.weight_decay if decay else 0.0, "factor": MEANING_RATE if meaning else 1.0}
              for meaning in (False, True) for decay in (True, False)]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95), eps=1e-8, fused=True)


class TokenLoss(torch.nn.Module):
    """Loss of a batch, nats, summed over its tokens without padding, in float32. One module, so that DDP sees which
    parameters its output depends on."""

    def __init__(self, model: WheelerTextAutoencoder):
        super().__init__()
        self.model = model

    def forward(self, ids, mask, meaning_tiles, blank_rows):
        logits, _ = self.model(ids, mask, meaning_tiles, blank_rows)
        target = ids.masked_fill(~mask, -100)                                 # padding never counts
        return F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), ignore_index=-100, reduction="sum")


def rows_without_grid(args: argparse.Namespace) -> tuple[int, int]:
    """Rows of a batch that are decoded from meaning tiles, and from nothing."""
    blank = int(args.blank_share * args.batch_size)
    return min(round(args.meaning_share * args.batch_size), args.batch_size - blank), blank


def draw_tiles(model: WheelerTextAutoencoder, rows: int, *key: int) -> torch.Tensor:
    """(rows,) int64: how many meaning tiles each row is decoded with, any number from 1 to all. A pure function of
    `key`, non-negative numbers, so that a resumed run draws the same."""
    most = model.config.meaning_tiles
    return torch.from_numpy(np.random.default_rng(key).integers(min(1, most), most + 1, rows))


def precision_of(args: argparse.Namespace) -> torch.dtype:
    return torch.float16 if args.fp16 else torch.bfloat16 if args.bf16 else torch.float32


def autocast_of(args: argparse.Namespace, device: torch.device):
    precision = precision_of(args)
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)


@contextmanager
def eager(compiled: bool):
    """Inside, nothing is compiled: evaluations have shapes of all kinds."""
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        yield


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def train(args: argparse.Namespace, checkpoint: dict | None, ranks: Ranks, lock: int | None) -> int:
    """Train; the exit code: 0, or 128 + the signal that stopped the run."""
    # -- device, precision, seeds
    say = print if ranks.main else lambda *words: None
    device, out = check_device(ranks.device_name(args.device)), Path(args.output_dir)
    ranks.start(device)
    scaler = torch.amp.GradScaler(device.type, enabled=args.fp16)
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    # -- data
    model, state, stream = None, None, None
    if checkpoint is not None:
        model = WheelerTextAutoencoder.from_checkpoint(checkpoint, "the checkpoint")
        state = checkpoint["training"] if args.resume is not None else None
        if model.tokenizer is None:
            raise UsageError(f"--{'init_from' if state is None else 'resume'} {args.resume or args.init_from}: it has "
                             "no tokenizer")
    with ranks.one_first():                                                   # the others find its cache entries
        if args.streaming:
            stream = TextStream(args.dataset, args.text_column, args.max_train_samples)
            texts = lambda: stream.block(stream.start, TOKENIZER_TEXTS)[0]
            held = stream.held_out
        else:
            train_texts = load_texts(args.dataset, "train", args.text_column)
            texts = lambda: train_texts
            held = load_texts(args.dataset, "validation", args.text_column)
        tokenizer = model.tokenizer if model is not None else get_tokenizer(args.tokenizer, texts(), args.vocab_size,
                                                                            args.cache_dir)
        unseen = build_dataset(held, tokenizer, args.max_seq_len, args.cache_dir, args.long_texts)
        if not args.streaming:
            data = build_dataset(train_texts, tokenizer, args.max_seq_len, args.cache_dir, args.long_texts,
                                 args.max_train_samples)
    content = stream.content(args.long_texts, unseen.content) if stream else data.content
    if state is not None and state["data_content"] != content:
        raise UsageError(f"--dataset {args.dataset} is not what the checkpoint was trained on: its texts, "
                         "--text_column, --long_texts, --streaming or --max_train_samples differ")
    if stream:
        place = {"number": 0, "position": None, "done": 0}
        if state is not None:
            try:
                place = stream.check_place(state.get("stream"))
            except DataError as error:
                raise UsageError(f"--resume {args.resume}: {error}") from None
        blocks = TokenBlocks(stream, tokenizer, args.max_seq_len, args.long_texts, place["number"], place["position"])
        data = blocks.tokens
        if not len(data):
            raise UsageError(f"--dataset {args.dataset}: the stream has no text where this run begins")
    fixed = np.linspace(0, len(unseen) - 1, min(args.eval_samples, len(unseen))).astype(int).tolist()

    # -- model
    if model is None:
        size = vocabulary_size(tokenizer)
        model = WheelerTextAutoencoder(WheelerConfig(
            vocab_size=size, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id, **{name: getattr(args, name) for name in MODEL_FLAGS}), tokenizer)
        start_meaning(model, data)
        if args.teacher:
            from teacher import teach_meaning  # needed once, by few

            teach_meaning(model, data, train_texts, args.teacher)
    model.to(device).train()
    model.encoder.grad_checkpointing = model.decoder.grad_checkpointing = args.grad_checkpointing
    if args.batch_size == "auto":
        from doctor import largest_batch

        most = largest_batch(model, args, device, data.buckets[-1], ranks.here)
        args.batch_size = ranks.lowest(most) * ranks.count
        say(f"memory      --batch_size auto: {args.batch_size} texts fit")
    if args.batch_size > len(data):
        say(f"--batch_size {args.batch_size} is more than the {len(data)} training texts: this run takes {len(data)}")
        args.batch_size = len(data)
    if args.batch_size < ranks.count:
        raise UsageError(f"--batch_size {args.batch_size} must be at least 1 for each of the {ranks.count} processes")
    optimizer = make_optimizer(model, args)
    meaning_rows, blank_rows = rows_without_grid(args)
    batches = lambda data, epoch: EpochBatches(data, args.batch_size, args.seed, epoch, args.random_text_share,
                                               meaning_rows + blank_rows, ranks.rank, ranks.count)
    steps_per_epoch = len(batches(data, 0)) // args.accumulation_steps
    if steps_per_epoch < 1:
        raise UsageError(f"--accumulation_steps {args.accumulation_steps} x --batch_size {args.batch_size} is more "
                         f"than the {len(data)} training texts")
    total_steps = args.max_steps if args.max_steps > 0 else args.epochs * steps_per_epoch
    step, best, skipped, done = 0, math.inf, 0, 0
    if ranks.rank:
        torch.manual_seed(args.seed + (ranks.rank << 32))                     # dropout of its own
    if state is not None:
        try:
            step, skipped, done = int(state["step"]), int(state["skipped"]), place["done"] if stream else 0
            restore_optimizer(optimizer, state["optimizer"])
            if args.fp16 and state["scaler"]:
                scaler.load_state_dict(state["scaler"])
            others = state.get("rng_of_others", [])
            if ranks.main:
                set_rng_state(state["rng"], device)
            elif len(others) == ranks.count - 1:
                set_rng_state(others[ranks.rank - 1], device)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
            raise UsageError(f"--resume {args.resume}: its optimizer, scaler or generators do not fit its model "
                             f"({first_line(error, 100)})") from None
        if not 0 <= skipped <= step:
            raise UsageError(f"--resume {args.resume}: {skipped} skipped steps of {step} are not possible")
        if step >= total_steps:
            raise UsageError(f"--resume {args.resume}: it is at step {step:,} and the run ends at step "
                             f"{total_steps:,}; more --{'max_steps' if args.max_steps > 0 else 'epochs'} go on")
    compiled, graphs_before = False, 0
    if args.compile:
        from doctor import compiled_graphs, compiler_problem

        problem = compiler_problem(device)
        if problem:
            say(f"note        --compile: no working compiler here ({problem}); going on without")
        else:
            compiled, graphs_before = True, compiled_graphs()
            torch._dynamo.config.recompile_limit = len(data.buckets)          # one graph a padded length, no more
            model.compile(dynamic=False)                                      # in place: checkpoint keys stay clean
    token_loss = TokenLoss(model)
    if ranks.count > 1:
        token_loss = torch.nn.parallel.DistributedDataParallel(token_loss, broadcast_buffers=False,
                                                               find_unused_parameters=True)

    wandb_run = None
    if args.wandb and ranks.main:
        try:
            import wandb

            wandb_run = wandb.init(project=args.wandb_project, config=vars(args), dir=str(out))
        except Exception as error:                                            # not installed, no key, no network
            raise UsageError(f"--wandb: {first_line(error)}") from None

    # -- report
    c, parameters = model.config, sum(p.numel() for p in model.parameters())
    tokens_per_step = len(data.tokens) / len(data) * args.batch_size * args.accumulation_steps
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    say(f"device      {name}, {str(precision_of(args)).removeprefix('torch.')}{', compiled' if compiled else ''}"
        f"{f', {ranks.count} processes' if ranks.count > 1 else ''}\n"
          f"model       {parameters / 1e6:.1f}M parameters, grid {c.grid_size}x{c.grid_size}x{c.d_model}, "
          f"{c.num_patches} patches of {c.patch_size}x{c.patch_size} cells, vocabulary {c.vocab_size:,}\n"
          f"data        {args.dataset}: {'the first ' if stream else ''}{len(data):,} texts to train on, "
          f"{len(unseen):,} unseen; longest kept: {c.max_seq_len} tokens")
    if data.texts_cut or unseen.texts_cut:
        say(f"            {data.texts_cut:,} training and {unseen.texts_cut:,} unseen texts are longer and were CUT "
              "there (--max_seq_len, --long_texts)")
    epochs = "" if stream else f" ({total_steps / steps_per_epoch:.1f} epochs)"
    say(f"run         steps {step:,} to {total_steps:,}{epochs}, "
          f"{args.batch_size * args.accumulation_steps} texts and about {tokens_per_step:,.0f} tokens a step, "
          f"of {args.batch_size} rows {meaning_rows} are decoded from meaning tiles, {blank_rows} from nothing")
    if state is not None and os.path.samefile(out, os.path.dirname(args.resume) or "."):
        if ranks.main:
            keep_later(out, args.resume, step)
            best = best_loss(out / "best.pt")                                 # may be newer than the checkpoint
    elif ranks.main:
        set_aside(out)
    metrics = None
    if ranks.main:
        write_whole(out / "run.json", json.dumps({
            "flags": vars(args), "config": vars(c), "parameters": parameters, "commit": git_commit(), "device": name,
            "processes": ranks.count, "versions": versions(), "data_content": content}, indent=1).encode())
        metrics = Metrics(out / "metrics.jsonl")

    def log(row: dict) -> None:
        metrics.write(row)
        if wandb_run:
            wandb_run.log(row, step=row["step"])

    def save(name: str) -> None:
        """All processes call this for last.pt: each has generators of its own."""
        generators = ranks.gather(rng_state(device)) if name == "last.pt" else [rng_state(device)]
        if not ranks.main:
            return
        training = {"step": step, "best": best, "skipped": skipped, "optimizer": optimizer.state_dict(),
                    "scaler": scaler.state_dict(), "rng": generators[0], "flags": vars(args), "data_content": content}
        if ranks.count > 1:
            training["rng_of_others"] = generators[1:]
        if stream:
            training["stream"] = {"number": blocks.number, "position": blocks.position, "done": done}
        save_checkpoint(out / name, model.to_checkpoint() | {"training": training})

    def evaluate() -> None:
        """Teacher-forced loss and free-running scores on the fixed unseen texts; best.pt if the loss is a new low."""
        nonlocal best
        model.eval()
        with autocast_of(args, device), eager(compiled):
            references, predictions = reconstruct(model, unseen, fixed, "grid", args.batch_size)
            scores = score(references, predictions) | teacher_forced(model, unseen, fixed, "grid", args.batch_size)
            blank, told = (teacher_forced(model, unseen, fixed, path, args.batch_size)["teacher_forced_loss"]
                           for path in ("blank", "meaning"))
        model.train()
        row = {"step": step} | {f"grid/{key}": value for key, value in scores.items() if key != "interval"}
        row["bits_per_token"] = blank / math.log(2)                           # as a language model
        row["bits_per_token_given_meaning"] = told / math.log(2)
        row["validation_loss"] = blank + told + scores["teacher_forced_loss"]
        log(row)
        tqdm.write(f"step {step:,}: {len(fixed)} unseen texts, read back free-running: grid "
                   f"{scores['exact_match']:.1%} exact, {scores['token_accuracy']:.2%} of tokens; "
                   f"{row['bits_per_token']:.2f} bits a token from nothing, "
                   f"{row['bits_per_token_given_meaning']:.2f} given meaning tiles")
        for reference, prediction in list(zip(references, predictions, strict=True))[: args.show_samples]:
            to_text = lambda ids: tokenizer.decode(ids, skip_special_tokens=True).replace("\n", " ")
            tqdm.write(f"   text   {to_text(reference):.110}\n"
                       f" {'=' if prediction == reference else 'x'} grid   {to_text(prediction):.110}")
        if row["validation_loss"] < best:
            best = row["validation_loss"]
            save("best.pt")

    own_blank_rows = ranks.share(args.batch_size) - ranks.share(args.batch_size - blank_rows)  # of this process
    own_tiles = slice((ranks.rank - (args.batch_size - meaning_rows - blank_rows)) % ranks.count, None, ranks.count)

    # -- loop
    stop = StopSignal(quiet=not ranks.main, echo=5 if ranks.count > 1 else 0)
    bar = tqdm(total=total_steps, initial=step, unit="step", dynamic_ncols=True, disable=None if ranks.main else True)
    stopping = 0                                                              # the signal that all processes agree on
    try:
        with stop:
            if step == 0:
                if ranks.main:
                    evaluate()
                stopping = ranks.highest(stop.received)
            started, started_at, announced = time.monotonic(), step, False
            while step < total_steps and not stopping:
                if stream:
                    epoch_batches = batches(blocks.tokens, blocks.number)
                    steps = len(epoch_batches) // args.accumulation_steps
                    blocks.prepare()
                else:
                    epoch, done = divmod(step, steps_per_epoch)
                    epoch_batches, steps = batches(data, epoch), steps_per_epoch
                order = range(done * args.accumulation_steps, steps * args.accumulation_steps)
                # A generator of its own: the loader draws a seed when it starts, also where a resumed run starts one.
                loader = iter(torch.utils.data.DataLoader(
                    epoch_batches, batch_size=None, sampler=order, num_workers=args.num_workers,
                    worker_init_fn=partial(start_worker, lock), pin_memory=device.type == "cuda",
                    generator=torch.Generator()))
                numbers = iter(order)
                for _ in range(done, steps):
                    lr = get_lr(step - skipped, args, total_steps)            # skipped: no step of the schedule
                    for group in optimizer.param_groups:
                        group["lr"] = lr * group["factor"]
                    loss_sum = 0.0
                    for micro in range(args.accumulation_steps):
                        ids, mask = (x.to(device, non_blocking=True) for x in next(loader))
                        tiles = draw_tiles(model, meaning_rows, args.seed, step, micro)[own_tiles].to(device)
                        share = ranks.count / epoch_batches.tokens(next(numbers))              # DDP averages gradients
                        last_micro = micro == args.accumulation_steps - 1
                        with nullcontext() if ranks.count == 1 or last_micro else token_loss.no_sync():
                            with autocast_of(args, device):
                                loss = token_loss(ids, mask, tiles, own_blank_rows) * share
                            scaler.scale(loss / args.accumulation_steps).backward()
                        loss_sum = loss_sum + loss.detach() / (args.accumulation_steps * ranks.count)
                    scaler.unscale_(optimizer)
                    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), args.grad_clip or math.inf)
                    scale = scaler.get_scale()
                    scaler.step(optimizer)
                    scaler.update()
                    skipped += scaler.get_scale() < scale
                    optimizer.zero_grad(set_to_none=True)
                    step, done = step + 1, done + 1
                    bar.update()
                    stopping = ranks.highest(stop.received)
                    last = step == total_steps
                    logging = last or step % args.log_every == 0
                    evaluating = last or (args.eval_every > 0 and step % args.eval_every == 0)
                    saving = last or stopping or (args.save_every > 0 and step % args.save_every == 0)
                    if logging or evaluating or saving:                       # float(loss) waits for the device
                        loss_value = ranks.sum(float(loss_sum))
                        # The scaler leaves out steps whose gradient overflows; without it they spoil the weights.
                        if not math.isfinite(loss_value) or not (args.fp16 or math.isfinite(norm)):
                            raise UsageError(f"the loss is {loss_value}, the gradient norm {float(norm)} at step "
                                             f"{step}: stopped, and what was saved before is kept; lower --lr"
                                             f"{', or --bf16 instead of --fp16' if args.fp16 else ''}")
                    if args.fp16 and scaler.get_scale() < LEAST_LOSS_SCALE:
                        raise UsageError(f"the gradients overflow float16 at every loss scale down to "
                                         f"{scaler.get_scale()} (step {step}): stopped, and what was saved before is "
                                         "kept; lower --lr, or --bf16 instead of --fp16")
                    if logging:
                        elapsed = time.monotonic() - started
                        speed = (step - started_at) / elapsed
                        row = {"step": step, "loss": loss_value, "lr": lr, "grad_norm": float(norm),
                               "tokens_per_s": speed * tokens_per_step, "ms_per_step": 1000 / speed}
                        if args.fp16:
                            row |= {"loss_scale": scaler.get_scale(), "skipped_steps": skipped}
                        if compiled:
                            row["compiled_graphs"] = compiled_graphs() - graphs_before
                        if ranks.main:
                            log(row)
                        bar.set_postfix(loss=f"{loss_value:.4f}", lr=f"{lr:.1e}", tok_s=f"{row['tokens_per_s']:,.0f}")
                        if not announced and step - started_at >= 20 and ranks.main:
                            announced = True
                            epoch_takes = "" if stream else f"about {duration(steps_per_epoch / speed)} an epoch, "
                            tqdm.write(f"speed       {1000 / speed:.0f} ms a step, {speed * tokens_per_step:,.0f} "
                                       f"tokens/s: {epoch_takes}{duration((total_steps - step) / speed)} to go, "
                                       "evaluations not counted")
                    if evaluating:
                        before = time.monotonic()
                        if ranks.main:
                            evaluate()
                        stopping = ranks.highest(stop.received)               # the others wait here
                        started += time.monotonic() - before                  # speed means training speed
                    if saving or stopping:
                        save("last.pt")
                    if last or stopping:
                        break
                else:
                    if stream:
                        blocks.advance()
                        done = 0
            if stopping and step == 0:
                save("last.pt")
    finally:
        bar.close()
        if metrics:
            metrics.close()
        if wandb_run:
            wandb_run.finish()
    if compiled:
        say(f"compiled    {compiled_graphs() - graphs_before} graphs for {len(data.buckets)} padded lengths")
    # The wrapper first: later it would end the group's threads while it holds the lock that they wait for (the GIL).
    del token_loss
    ranks.stop()
    if stopping and step < total_steps:
        say(f"stopped     at step {step:,}, saved {out / 'last.pt'}; to go on: python train.py --resume "
            f"{out / 'last.pt'}")
        return 128 + stopping
    say(f"saved       {out / 'last.pt'} (step {step:,}) and {out / 'best.pt'} (validation loss {best:.4f}); curves: "
        f"python train.py --plot {out}\n"
        f"next        python evaluate.py --checkpoint {out / 'best.pt'} --dataset {args.dataset}")
    return 0


def main(argv: list[str] | None = None) -> int:
    args = ranks = None
    try:
        ranks = Ranks()
        args, checkpoint = parse(argv, print if ranks.main else lambda *words: None, __doc__)
        if args.plot:
            plot(args.plot, Path(args.plot[0]) / "curves.png")
            return 0
        if args.doctor:
            from doctor import report

            return report(args)
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
