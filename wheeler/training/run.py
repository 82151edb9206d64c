"""The state of a run, and what it leaves behind: its log, its checkpoints, its evaluations."""

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
from tqdm import tqdm

from models import WheelerTextAutoencoder
from wheeler.cli import plain
from wheeler.model.tokenizer import first_line
from wheeler.training.cost import compiled_graphs
from wheeler.training.data import Row
from wheeler.training.opening import Data
from wheeler.training.ranks import Ranks
from wheeler.training.run_folder import (
    Metrics,
    UsageError,
    best_loss,
    git_commit,
    keep_later,
    restore_optimizer,
    rng_state,
    save_checkpoint,
    set_aside,
    set_rng_state,
    versions,
    write_whole,
)
from wheeler.training.scores import (
    came_back,
    fixed_stories,
    reconstruct,
    score,
    stories_in_frames,
    teacher_forced,
)
from wheeler.training.step import autocast_of, duration, eager, make_optimizer, precision_of, rows_without_grid

LEAST_LOSS_SCALE = 2.0**-10  # below it every gradient overflowed for dozens of steps


class Run:
    """One run of train.py. step: optimizer steps done; done: of them, those of this epoch or block; skipped: of them,
    those that fp16 left out; best: lowest validation loss so far."""

    def __init__(self, args: argparse.Namespace, model: WheelerTextAutoencoder, data: Data, ranks: Ranks,
                 device: torch.device):
        self.args, self.model, self.data, self.ranks, self.device = args, model, data, ranks, device
        self.out = Path(args.output_dir)
        self.optimizer = make_optimizer(model, args)
        self.scaler = torch.amp.GradScaler(device.type, enabled=args.fp16)
        self.step, self.done, self.skipped, self.best = 0, 0, 0, math.inf
        self.steps_per_epoch = len(data.batches(args, ranks, 0)) // args.accumulation_steps
        if self.steps_per_epoch < 1:
            raise UsageError(f"--accumulation_steps {args.accumulation_steps} x --batch_size {args.batch_size} is more "
                             f"than the {len(data.tokens)} training texts")
        self.total_steps = args.max_steps if args.max_steps > 0 else args.epochs * self.steps_per_epoch
        self.tokens_per_step = len(data.tokens.tokens) / len(data.tokens) * args.batch_size * args.accumulation_steps
        self.compiled, self.graphs_before, self.metrics, self.wandb, self.announced = False, 0, None, None, False
        self.wandb_id = None                                                  # of the run there, also of one to go on
        self.start_clock()

    def resume(self, state: dict) -> None:
        """Go on from the training state of a checkpoint."""
        args, ranks = self.args, self.ranks
        try:
            self.step, self.skipped = int(state["step"]), int(state["skipped"])
            self.done = state["stream"]["done"] if self.data.blocks else 0
            self.wandb_id = str(state["wandb"]) if state.get("wandb") else None
            restore_optimizer(self.optimizer, state["optimizer"])
            if args.fp16 and state["scaler"]:
                self.scaler.load_state_dict(state["scaler"])
            others = state.get("rng_of_others", [])
            if ranks.main:
                set_rng_state(state["rng"], self.device)
            elif len(others) == ranks.count - 1:
                set_rng_state(others[ranks.rank - 1], self.device)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
            raise UsageError(f"--resume {args.resume}: its optimizer, scaler or generators do not fit its model "
                             f"({first_line(error, 100)})") from None
        if not 0 <= self.skipped <= self.step:
            raise UsageError(f"--resume {args.resume}: {self.skipped} skipped steps of {self.step} are not possible")
        if self.step >= self.total_steps:
            raise UsageError(f"--resume {args.resume}: it is at step {self.step:,} and the run ends at step "
                             f"{self.total_steps:,}; more --{'max_steps' if args.max_steps > 0 else 'epochs'} go on")

    # ---- the record ----

    def open_record(self, resumed: bool) -> None:
        """Begin to write into the run's folder; what an earlier run left there moves aside."""
        args, out = self.args, self.out
        own = resumed and os.path.samefile(out, os.path.dirname(args.resume) or ".")          # else it branches off
        self.wandb_id = self.wandb_id if own else None
        if args.wandb and self.ranks.main:
            try:
                import wandb  # not everybody has it

                known = {"id": self.wandb_id, "resume": "allow"} if self.wandb_id else {}
                self.wandb = wandb.init(project=args.wandb_project, config=vars(args), dir=str(out), **known)
                self.wandb_id = self.wandb.id
            except Exception as error:                                        # not installed, no key, no network
                raise UsageError(f"--wandb: {first_line(error)}") from None
        self.introduce()
        if not self.ranks.main:
            return
        if own:
            keep_later(out, args.resume, self.step)
            self.best = best_loss(out / "best.pt")                            # may be newer than the checkpoint
        else:
            set_aside(out)
        write_whole(out / "run.json", json.dumps({
            "flags": vars(args), "config": vars(self.model.config), "parameters": self.parameters,
            "commit": git_commit(), "device": self.device_name, "processes": self.ranks.count, "versions": versions(),
            "data_content": self.data.content}, indent=1).encode())
        self.metrics = Metrics(out / "metrics.jsonl")

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @property
    def device_name(self) -> str:
        return (torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else
                f"CPU, {torch.get_num_threads()} threads")

    def introduce(self) -> None:
        """Say what is about to be trained, on what."""
        args, c, data, ranks = self.args, self.model.config, self.data, self.ranks
        precision = str(precision_of(args)).removeprefix("torch.")
        ranks.say(f"device      {self.device_name}, {precision}{', compiled' if self.compiled else ''}"
                  f"{f', {ranks.count} processes' if ranks.count > 1 else ''}\n"
                  f"model       {self.parameters / 1e6:.1f}M parameters, grid {c.grid_size}x{c.grid_size}x{c.d_model}, "
                  f"{c.num_patches} patches of {c.patch_size}x{c.patch_size} cells, vocabulary {c.vocab_size:,}\n"
                  f"data        {args.dataset}: {'the first ' if data.blocks else ''}{len(data.tokens):,} texts to "
                  f"train on, {len(data.unseen):,} unseen; longest kept: {c.max_seq_len} tokens")
        if data.tokens.texts_cut or data.unseen.texts_cut:
            ranks.say(f"            {data.tokens.texts_cut:,} training and {data.unseen.texts_cut:,} unseen texts are "
                      "longer and were CUT there (--max_seq_len, --long_texts)")
        epochs = "" if data.blocks else f" ({self.total_steps / self.steps_per_epoch:.1f} epochs)"
        meaning_rows, blank_rows = rows_without_grid(args)
        ranks.say(f"run         steps {self.step:,} to {self.total_steps:,}{epochs}, "
                  f"{args.batch_size * args.accumulation_steps} texts and about {self.tokens_per_step:,.0f} tokens a "
                  f"step, of {args.batch_size} rows {meaning_rows} are decoded from meaning tiles, {blank_rows} as a "
                  "language model")

    def log(self, row: dict) -> None:
        self.metrics.write(row)
        if self.wandb:
            self.wandb.log({key: value for key, value in row.items() if key != "stories"}, step=row["step"])

    def start_clock(self) -> None:
        self.started, self.started_at = time.monotonic(), self.step

    def log_step(self, loss: float, norm: float, lr: float, bar: tqdm) -> None:
        """A row of metrics.jsonl; the speed counts training alone."""
        speed = (self.step - self.started_at) / (time.monotonic() - self.started)
        row = {"step": self.step, "loss": loss, "lr": lr, "grad_norm": float(norm),
               "tokens_per_s": speed * self.tokens_per_step, "ms_per_step": 1000 / speed}
        if self.args.fp16:
            row |= {"loss_scale": self.scaler.get_scale(), "skipped_steps": self.skipped}
        if self.compiled:
            row["compiled_graphs"] = compiled_graphs() - self.graphs_before
        if self.ranks.main:
            self.log(row)
        bar.set_postfix(loss=f"{loss:.4f}", lr=f"{lr:.1e}", tok_s=f"{row['tokens_per_s']:,.0f}")
        if not self.announced and self.step - self.started_at >= 20 and self.ranks.main:
            self.announced = True
            epoch_takes = "" if self.data.blocks else f"about {duration(self.steps_per_epoch / speed)} an epoch, "
            tqdm.write(f"speed       {1000 / speed:.0f} ms a step, {speed * self.tokens_per_step:,.0f} tokens/s: "
                       f"{epoch_takes}{duration((self.total_steps - self.step) / speed)} to go, evaluations not "
                       "counted")

    def check_loss(self, loss: float, norm: float) -> None:
        """The scaler leaves out steps whose gradient overflows; without it they spoil the weights."""
        if not math.isfinite(loss) or not (self.args.fp16 or math.isfinite(norm)):
            raise UsageError(f"the loss is {loss}, the gradient norm {float(norm)} at step {self.step}: stopped, and "
                             "what was saved before is kept; lower --lr"
                             f"{', or --bf16 instead of --fp16' if self.args.fp16 else ''}")

    def save(self, name: str) -> None:
        """All processes call this for last.pt: each has generators of its own."""
        ranks, blocks = self.ranks, self.data.blocks
        generators = ranks.gather(rng_state(self.device)) if name == "last.pt" else [rng_state(self.device)]
        if not ranks.main:
            return
        training = {"step": self.step, "best": self.best, "skipped": self.skipped,
                    "optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict(),
                    "rng": generators[0], "flags": vars(self.args), "data_content": self.data.content}
        if ranks.count > 1:
            training["rng_of_others"] = generators[1:]
        if self.wandb_id:
            training["wandb"] = self.wandb_id
        if blocks:
            training["stream"] = {"number": blocks.number, "position": blocks.position, "done": self.done}
        save_checkpoint(self.out / name, self.model.to_checkpoint() | {"training": training})

    def evaluate(self) -> None:
        """Teacher-forced loss and free-running scores on the fixed unseen texts, three of them as frames; best.pt if
        the loss is a new low."""
        if not self.ranks.main:
            return
        before, args, model = time.monotonic(), self.args, self.model.eval()
        unseen, fixed = self.data.unseen, self.data.fixed
        with autocast_of(args, self.device), eager(self.compiled):
            references, predictions = reconstruct(model, unseen, fixed, "grid", args.batch_size)
            scores = score(references, predictions, unseen.say)
            scores |= teacher_forced(model, unseen, fixed, "grid", args.batch_size)
            blank, told = (teacher_forced(model, unseen, fixed, path, args.batch_size)["teacher_forced_loss"]
                           for path in ("blank", "meaning"))
        # Outside of the autocast: frames are written in float32 and whole numbers.
        stories = stories_in_frames(model, [unseen.row(i) for i in fixed_stories(unseen.lengths)])
        model.train()
        row = {"step": self.step} | {f"grid/{key}": value for key, value in scores.items() if key != "interval"}
        row["bits_per_token"] = blank / math.log(2)                           # as a language model
        row["bits_per_token_given_meaning"] = told / math.log(2)
        row["validation_loss"] = blank + told + scores["teacher_forced_loss"]
        if stories:
            row["stories"] = stories
        self.log(row)
        tqdm.write(f"step {self.step:,}: {len(fixed)} unseen texts, read back free-running: grid "
                   f"{scores['exact_match']:.1%} exact, {scores['token_accuracy']:.2%} of tokens; "
                   f"{row['bits_per_token']:.2f} bits a token as a language model, "
                   f"{row['bits_per_token_given_meaning']:.2f} given meaning tiles")
        self.show_samples(references, predictions)
        if row["validation_loss"] < self.best:
            self.best = row["validation_loss"]
            self.save("best.pt")
        self.started += time.monotonic() - before                             # speed means training speed

    def show_samples(self, references: list[Row], predictions: list[list[int]]) -> None:
        say, shown = self.data.unseen.say, lambda text: plain(text).replace("\n", " ")
        for reference, prediction, same in list(zip(references, predictions, came_back(
                references, predictions, say), strict=True))[: self.args.show_samples]:
            tqdm.write(f"   text   {shown(reference.text):.110}\n"
                       f" {'=' if same else 'x'} grid   {shown(say(prediction)):.110}")

    def close(self) -> None:
        if self.metrics:
            self.metrics.close()
        if self.wandb:
            self.wandb.finish()
