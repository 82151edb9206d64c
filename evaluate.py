"""How well texts survive the way text -> latent -> text, read back free-running and greedy.

    python evaluate.py --checkpoint checkpoints/best.pt --dataset sample
    python evaluate.py --checkpoint checkpoints/best.pt --dataset stories.jsonl --num_samples -1 --texts validation

Paths: "grid" reads the text from the grid, "frame" from the picture alone, "attractor" from what the Wheeler dynamics
make of the picture. Texts: "validation" are unseen texts of the data set; "random" are words of these in random
order; "unusual" are made-up names, digits, accents, emoji and other scripts. Exact match: share of texts whose tokens
all come back, with a 95% Wilson interval. Token accuracy: share of reference tokens (end token counted, padding not)
that stand at their place in the output. Teacher-forced figures say so in their name. The last line of the output is
one JSON object.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from data import TokenDataset, add_data_flags, build_dataset, load_texts
from models import WheelerTextAutoencoder

PATHS = ("grid", "frame", "attractor")
TEXTS = ("validation", "random", "unusual")


def check_device(name: str | None) -> torch.device:
    """The device of that name, None: a GPU if there is one. ValueError where it cannot be used."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()
    except Exception as error:                                                # AssertionError, NotImplementedError ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:100]
        raise ValueError(f"--device {name}: it cannot be used here ({reason})") from None
    return device


def wilson_interval(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95% interval (z = 1.96) of a share, in [0, 1]; Wilson 1927. n must be at least 1."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes in {n} tries is not a share")
    p = successes / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))


def score(references: Sequence[Sequence[int]], predictions: Sequence[Sequence[int]]) -> dict:
    """Exact match with its interval, and token accuracy over the reference tokens, of texts as token ids."""
    exact = sum(list(r) == list(p) for r, p in zip(references, predictions, strict=True))
    right = sum(a == b for r, p in zip(references, predictions, strict=True) for a, b in zip(r, p, strict=False))
    return {"n": len(references), "exact_match": exact / len(references),
            "interval": wilson_interval(exact, len(references)), "token_accuracy": right / sum(map(len, references))}


def collapse(frames: torch.Tensor) -> torch.Tensor:
    """Frames (B, H, W) -> their attractors under the Wheeler dynamics."""
    from wheeler_torch import settle  # compiles with numba: only where it is asked for

    return settle(frames)[0]


@torch.no_grad()
def reconstruct(model: WheelerTextAutoencoder, data: TokenDataset, indices: Sequence[int], path: str = "grid",
                batch_size: int = 64, progress: bool = False) -> tuple[list[list[int]], list[list[int]]]:
    """(references, predictions) of the texts `data[i]`, as token ids, closed by the end token if there is one."""
    if path not in PATHS:
        raise ValueError(f"path = {path!r} must be one of {', '.join(PATHS)}")
    device, limit, eos = model.encoder.embedding.weight.device, model.config.max_seq_len, model.config.eos_token_id
    references, predictions = [], []
    by_length = sorted(indices, key=lambda i: int(data.lengths[i]))           # decoding stops at the longest of a batch
    starts = range(0, len(by_length), batch_size)
    for start in tqdm(starts, desc=f"reading the {path}", disable=not progress, leave=False):
        rows = by_length[start : start + batch_size]
        ids, mask = data.batch(rows)
        grid = model.encode(ids.to(device), mask.to(device))
        if path != "grid":
            frame = model.get_grid_as_image(grid)
            grid = model.set_grid_from_image(collapse(frame) if path == "attractor" else frame)
        out = model.decode(grid, return_ids=True)
        references += [data[i].tolist() for i in rows]
        predictions += [row + [eos] if len(row) < limit else row for row in out]
    order = np.argsort(np.argsort([int(data.lengths[i]) for i in indices], kind="stable"), kind="stable")
    return [references[i] for i in order], [predictions[i] for i in order]


@torch.no_grad()
def teacher_forced(model: WheelerTextAutoencoder, data: TokenDataset, indices: Sequence[int], path: str = "grid",
                   batch_size: int = 64) -> dict:
    """Loss (nats a token) and token accuracy when every token is predicted from the true ones before it, and from the
    grid, the frame, its attractor or nothing (path "blank")."""
    device = model.encoder.embedding.weight.device
    loss = right = count = 0
    for start in range(0, len(indices), batch_size):
        ids, mask = (x.to(device) for x in data.batch(indices[start : start + batch_size]))
        logits, _ = model(ids, mask, frame_rows=len(ids) if path in ("frame", "attractor") else 0,
                          blank_rows=len(ids) if path == "blank" else 0,
                          dynamics=collapse if path == "attractor" else None)
        target = ids[mask]
        loss += F.cross_entropy(logits[mask].float(), target, reduction="sum").item()
        right += (logits[mask].argmax(-1) == target).sum().item()
        count += len(target)
    return {"teacher_forced_loss": loss / count, "teacher_forced_token_accuracy": right / count}


def probe_texts(kind: str, n: int, stories: Sequence[str], seed: int = 0) -> list[str]:
    """n texts unlike any story: "random" draws 5 to 30 words of the stories in random order, "unusual" 3 to 12 pieces
    that are made-up names, numbers, accented words, emoji, other scripts and code."""
    rng = np.random.default_rng([seed, TEXTS.index(kind)])
    if kind == "random":
        words = sorted({word for story in stories for word in (story or "").split()})
        if not words:
            raise ValueError("the data set has no words to draw random texts from")
        return [" ".join(rng.choice(words, rng.integers(5, 31))) for _ in range(n)]

    def name() -> str:
        return "".join(rng.choice(list("bcdfghjklmnprstvwz")) + rng.choice(list("aeiouy"))
                       for _ in range(rng.integers(2, 5))).title()

    def accented() -> str:
        return "".join(rng.choice(list("abcdefghiklmnoprstuvàáâãäåçèéêëìíîïñòóôõöùúûüýÿžščřłßøæ"))
                       for _ in range(rng.integers(3, 9)))

    makers = (name, accented, lambda: str(rng.integers(10 ** rng.integers(1, 7))),
              lambda: str(rng.choice(list("😀🐉🌧🦊🍎🚀👑🐢❤🎈🧸🦄"))),
              lambda: f"x_{rng.integers(99)} = f({name().lower()})",
              lambda: "".join(rng.choice(list("абвгдежзиклмнопрстуф"), rng.integers(3, 7))),
              lambda: "".join(rng.choice(list("日月山川田人口車門火水木金土"), rng.integers(1, 4))))
    return [" ".join(makers[rng.integers(len(makers))]() for _ in range(rng.integers(3, 13))) for _ in range(n)]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_flags(parser)
    parser.add_argument("--checkpoint", default="checkpoints/best.pt", help="file that train.py wrote")
    parser.add_argument("--num_samples", type=int, default=500, help="texts of each kind, -1 = all validation texts")
    parser.add_argument("--texts", nargs="+", choices=TEXTS, default=list(TEXTS), help="kinds of texts")
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=["grid", "frame"],
                        help="what the text is read from")
    parser.add_argument("--batch_size", type=int, default=64, help="texts decoded at once")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random and unusual texts")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda ...")
    args = parser.parse_args(argv)
    try:
        if args.num_samples < 1 and args.num_samples != -1:
            raise ValueError(f"--num_samples {args.num_samples} must be at least 1, or -1")
        if args.batch_size < 1:
            raise ValueError(f"--batch_size {args.batch_size} must be at least 1")
        if args.seed < 0:
            raise ValueError(f"--seed {args.seed} must not be negative")
        check_device(args.device)
        model = WheelerTextAutoencoder.load_from_checkpoint(args.checkpoint, map_location=args.device)
        if model.tokenizer is None:
            raise ValueError(f"--checkpoint {args.checkpoint}: it has no tokenizer")
        stories = list(load_texts(args.dataset, "validation", args.text_column))
        results = {}
        for kind in args.texts:
            n = len(stories) if args.num_samples < 0 else args.num_samples
            texts = stories if kind == "validation" else probe_texts(kind, n, stories, args.seed)
            data = build_dataset(texts, model.tokenizer, model.config.max_seq_len, args.cache_dir,
                                 args.long_texts if kind == "validation" else "cut")
            # With "split" the windows of a story lie side by side: take them from all over the data.
            count = len(data) if kind == "validation" and args.num_samples < 0 else min(n, len(data))
            indices = np.linspace(0, len(data) - 1, count).astype(int).tolist()
            for path in args.paths:
                result = score(*reconstruct(model, data, indices, path, args.batch_size, progress=True))
                result |= teacher_forced(model, data, indices, path, args.batch_size)
                results[f"{kind}/{path}"] = result | {"mean_tokens": float(data.lengths[indices].mean())}
    except KeyboardInterrupt:
        print("evaluate.py: stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:                                    # others are bugs and keep their traceback
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    print(f"{'texts / read from':<20} {'n':>5} {'tokens':>6}  {'exact match (95%)':<24} {'token acc.':>10} "
          f"{'t.-forced acc.':>14}")
    for name, r in results.items():
        low, high = r["interval"]
        print(f"{name:<20} {r['n']:>5} {r['mean_tokens']:>6.1f}  {r['exact_match']:>7.2%} ({low:.2%} - {high:.2%}) "
              f"{r['token_accuracy']:>10.3%} {r['teacher_forced_token_accuracy']:>14.3%}")
    print(json.dumps({"checkpoint": args.checkpoint, "dataset": args.dataset, "long_texts": args.long_texts,
                      "results": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
