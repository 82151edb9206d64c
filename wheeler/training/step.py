"""One step of training: the loss, the optimizer, its rate, and what of a batch is decoded from what."""

import argparse
import math
import re
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
import torch.nn.functional as F

from models import WheelerTextAutoencoder


def get_lr(step: int, args: argparse.Namespace, total_steps: int) -> float:
    """Learning rate of optimizer step 0, 1, ...: linear warm-up, then cosine to a tenth. Pure function of step."""
    if step < args.warmup_steps:
        return args.lr * (step + 1) / args.warmup_steps
    progress = min(1.0, (step - args.warmup_steps) / max(1, total_steps - args.warmup_steps))
    return args.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


# Rates, as factors of --lr (measured, see LOG.md). What the decoder's layers do without a grid they learn from nothing;
# its two tables start as a bigram model; copying, in the other parts, starts solved. What the reader's Bayes rule is
# made of starts right too: at the rate of the rest it drifts with the noise of the few rows that show a token, and the
# tiles tell less than at the start.
LAYERS_RATE, TABLES_RATE, VECTORS_RATE = 10.0, 3.0, 0.05
LAYERS = re.compile(r"decoder\.layers\.\d+\.(self_attention|mlp)\..*")
TABLES = ("decoder.embedding.weight", "decoder.language_head.weight")
VECTORS = tuple(f"meaning.{name}" for name in ("table.weight", "weight", "prior", "length"))


def rate_of(name: str) -> float:
    """The factor of --lr for the parameter of that name."""
    return (LAYERS_RATE if LAYERS.fullmatch(name) else TABLES_RATE if name in TABLES else
            VECTORS_RATE if name in VECTORS else 1.0)


def make_optimizer(model: torch.nn.Module, args: argparse.Namespace) -> torch.optim.AdamW:
    """AdamW; weight decay on the matrices of linear layers, not on tables, positional codes and norms. Each group has a
    `factor` of the learning rate; other models than a WheelerTextAutoencoder have one rate."""
    own = isinstance(model, WheelerTextAutoencoder)
    decayed = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Linear)}
    groups = {}
    for name, parameter in model.named_parameters():
        decay = args.weight_decay if id(parameter) in decayed and name not in TABLES else 0.0
        factor = rate_of(name) if own else 1.0
        group = groups.setdefault((factor, decay > 0), {"params": [], "weight_decay": decay, "factor": factor})
        group["params"].append(parameter)
    groups = list(groups.values())
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
    """Rows of a batch that are decoded from meaning tiles, and without grid and tiles."""
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
