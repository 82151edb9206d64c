"""How well texts come back: exact match and token accuracy, free-running or teacher-forced, with intervals.

Exact match: share of texts of which all characters and the end come back, free-running and greedy, with a 95% Wilson
interval; the characters are those that went in, not what a tokenizer made of them. Token accuracy: share of reference
tokens (end token counted, padding not) that stand at their place in the output. Teacher-forced figures say so in their
name.
"""

from base64 import b64encode
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from models import WheelerTextAutoencoder
from wheeler.cli import progress
from wheeler.model.tokenizer import first_line
from wheeler.training.data import Row, Tokens

PATHS = ("grid",)                                                            # what `reconstruct` reads texts from
STORY_NOISE = 0.9                                                            # below 1: it keeps the signs


def check_device(name: str | None) -> torch.device:
    """The device of that name, None: a GPU if there is one. ValueError where it cannot be used."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()
    except Exception as error:                                                # AssertionError, NotImplementedError ...
        reason = first_line(error, 100)
        raise ValueError(f"--device {name}: it cannot be used here ({reason})") from None
    return device


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95% interval of a share, in [0, 1]; Wilson 1927. n must be at least 1."""
    from scipy.stats import binomtest  # takes a second, and only figures need it

    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes in {n} tries is not a share")
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def share(hits: Sequence[bool], name: str = "exact_match") -> dict:
    """Share of hits under `name`, its interval and n."""
    return {name: sum(hits) / len(hits), "interval": wilson_interval(int(sum(hits)), len(hits)), "n": len(hits)}


def came_back(references: Sequence[Row], predictions: Sequence[Sequence[int]],
              say: Callable[[Sequence[int]], str]) -> list[bool]:
    """Of each text whether the token ids that were read give its characters and end where it ends. say: ids -> text."""
    return [list(p[-1:]) == r[-1:] and say(p) == r.text for r, p in zip(references, predictions, strict=True)]


def score(references: Sequence[Row], predictions: Sequence[Sequence[int]], say: Callable[[Sequence[int]], str]) -> dict:
    """Exact match with its interval, and token accuracy over the reference tokens, of texts as token ids. say: ids ->
    text."""
    exact = sum(came_back(references, predictions, say))
    right = sum(a == b for r, p in zip(references, predictions, strict=True) for a, b in zip(r, p, strict=False))
    return {"n": len(references), "exact_match": exact / len(references),
            "interval": wilson_interval(exact, len(references)), "token_accuracy": right / sum(map(len, references))}


@torch.no_grad()
def reconstruct(model: WheelerTextAutoencoder, data: Tokens, indices: Sequence[int], path: str = "grid",
                batch_size: int = 64, bar: bool = False) -> tuple[list[Row], list[list[int]]]:
    """(references, predictions) of the texts `data[i]`, as token ids, closed by the end token if there is one."""
    if path not in PATHS:
        raise ValueError(f"path = {path!r} must be one of {', '.join(PATHS)}")
    device, limit, eos = model.device, model.config.max_seq_len, model.config.eos_token_id
    references, predictions = [], []
    by_length = sorted(indices, key=lambda i: int(data.lengths[i]))           # decoding stops at the longest of a batch
    starts = range(0, len(by_length), batch_size)
    for start in progress(starts, f"reading the {path}", bar):
        rows = by_length[start : start + batch_size]
        ids, mask = data.batch(rows)
        grid = model.encode(ids.to(device), mask.to(device))
        references += [data.row(i) for i in rows]
        predictions += closed(model.decode(grid, return_ids=True), limit, eos)
    order = np.argsort(np.argsort([int(data.lengths[i]) for i in indices], kind="stable"), kind="stable")
    return [references[i] for i in order], [predictions[i] for i in order]


def closed(rows: list[list[int]], limit: int, eos: int) -> list[list[int]]:
    """Decoded rows with the end token that decode leaves out: where a row is shorter than the limit it was there."""
    return [row + [eos] if len(row) < limit else row for row in rows]


@torch.no_grad()
def teacher_forced(model: WheelerTextAutoencoder, data: Tokens, indices: Sequence[int], path: str = "grid",
                   batch_size: int = 64) -> dict:
    """Loss (nats a token) and token accuracy when every token is predicted from the true ones before it, and from the
    grid, from five eighths of the meaning tiles (path "meaning"), or from neither (path "blank")."""
    device = model.device
    loss = right = count = 0
    for start in range(0, len(indices), batch_size):
        ids, mask = (x.to(device) for x in data.batch(indices[start : start + batch_size]))
        tiles = torch.full((len(ids),), model.config.meaning_tiles * 5 // 8, device=device)
        tiles = tiles if path == "meaning" else None
        logits, _ = model(ids, mask, tiles, len(ids) if path == "blank" else 0)
        target = ids[mask]
        loss += F.cross_entropy(logits[mask].float(), target, reduction="sum").item()
        right += (logits[mask].argmax(-1) == target).sum().item()
        count += len(target)
    return {"teacher_forced_loss": loss / count, "teacher_forced_token_accuracy": right / count}


def fixed_stories(lengths: Sequence[int]) -> list[int]:
    """Which texts of these lengths every evaluation shows as frames: a short, a middle and a long one, fewer where
    there are not three. Chosen by the texts alone, so that a run that is resumed keeps them, whatever its flags are."""
    order = np.argsort(lengths, kind="stable")
    return [int(order[i]) for i in dict.fromkeys(round((len(order) - 1) * share) for share in (0.1, 0.5, 0.9))]


@torch.no_grad()
def stories_in_frames(model: WheelerTextAutoencoder, rows: Sequence[Row]) -> list[dict]:
    """What texts become as frames, and what is read from those after noise and the dynamics: plain values for
    metrics.jsonl, one dict a text. None where the grid's side cannot be that of a frame.

    text: its characters; side: of the frame, cells; frame: base64 of its signs, a bit a cell in raster order, the
    highest bit of a byte first, set where the cell is -1; read: the text that comes back; kind: `Reading.kind`; exact:
    whether all characters came back; bits: what the words cost; holds: bits that a frame has for words.
    """
    # numba takes a second, which the other commands that import this need not wait for.
    from wheeler.frame.code import FrameCode, check_sides, cost_of, frame_bits
    from wheeler_cpu import WheelerMemoryCPU, add_noise

    side = model.config.grid_size
    try:
        check_sides(side, side)
    except ValueError:
        return []
    code = FrameCode(model)                                                   # model.frame_code() would keep its copies
    written = code.write([list(row) for row in rows])
    frames = np.stack([one.frame for one in written])
    noisy = add_noise(frames, STORY_NOISE, np.random.default_rng(0))
    readings = code.read(WheelerMemoryCPU(side, side).run_dynamics(noisy).final_frame)
    out = []
    for row, one, reading in zip(rows, written, readings, strict=True):
        cost = one.cost if one.fits else cost_of(code.charges([one.ids], [one.tiles[:0]])[0])
        out.append({"text": row.text, "side": side, "frame": b64encode(np.packbits(one.frame < 0).tobytes()).decode(),
                    "read": reading.text, "kind": reading.kind, "exact": reading.exact and reading.text == row.text,
                    "bits": round(cost, 1), "holds": round(frame_bits(side, side), 1)})
    return out
