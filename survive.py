"""How texts survive the Wheeler dynamics: curves for unseen texts, with controls.

    python survive.py picture --checkpoint checkpoints/best.pt --dataset sample  # three texts through the collapse
    python survive.py lengths --checkpoint checkpoints/best.pt --dataset sample  # how much text a frame carries
    python survive.py disturb --checkpoint checkpoints/best.pt --dataset sample  # noise, erasures, sign flips
    python survive.py ticks --checkpoint checkpoints/best.pt --dataset stories        # against ticks and bits a cell

Texts are the beginnings of the validation texts, cut to a number of tokens and closed by the end token. "Code" frames
are those of `encode_frame` (wheeler_code.py), "learned" frames those of `get_grid_as_image`. Exact match: all tokens
come back (and, for code frames, the checksum agrees), with 95% Wilson intervals. Writes
<output_dir>/survive_<section>.png and ends with one JSON line.
"""

import argparse
import json
import math
import sys
import textwrap

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from tqdm import tqdm

from data import TokenDataset, add_data_flags, build_dataset, load_texts
from evaluate import score, wilson_interval
from models import WheelerTextAutoencoder
from train import git_commit
from wheeler_code import FrameCode, frame_bits, number_from_frame
from wheeler_cpu import WheelerMemoryCPU, frame_image, tick

TICKS = (0, 1, 2, 5, 10, 20, 50, 100, None)                                   # None: to the attractor


def beginnings(data: TokenDataset, length: int, n: int) -> list[list[int]]:
    """The first length - 1 tokens and the end token of n texts that have so many, from all over the data."""
    long_enough = np.flatnonzero(data.lengths >= length)
    chosen = long_enough[np.linspace(0, len(long_enough) - 1, min(n, len(long_enough))).astype(int)]
    return [[*data[i][: length - 1].tolist(), data.special_ids[1]] for i in chosen]


def share(hits: list[bool]) -> dict:
    return {"exact_match": sum(hits) / len(hits), "interval": wilson_interval(sum(hits), len(hits)), "n": len(hits)}


def settle(frames: np.ndarray, ticks: int | None = None) -> np.ndarray:
    """Frames (B, H, W) after `ticks` ticks, None: on their attractors."""
    if ticks is not None:
        return np.asarray(tick(frames, ticks)) if ticks else frames
    return np.asarray(WheelerMemoryCPU(frames.shape[2], frames.shape[1]).run_dynamics(frames).final_frame)


def disturbances(rng: np.random.Generator) -> dict[str, list[tuple[str, object]]]:
    """Kinds of damage, each a list of (strength, function of frames (B, H, W))."""

    def square(frames, area):
        frames, side = frames.copy(), round(math.sqrt(area * frames[0].size))
        for frame in frames:
            i, j = rng.integers(frame.shape[0]), rng.integers(frame.shape[1])
            frame[np.ix_(np.arange(i, i + side) % frame.shape[0], np.arange(j, j + side) % frame.shape[1])] = 0
        return frames

    uniform = lambda f, a: np.clip(f + a * rng.uniform(-1, 1, f.shape), -1, 1).astype(np.float32)
    gauss = lambda f, s: np.clip(f + s * rng.normal(size=f.shape), -1, 1).astype(np.float32)
    flips = lambda f, p: np.where(rng.random(f.shape) < p, -f, f)
    return {"uniform noise, amplitude": [(a, uniform) for a in (0.1, 0.3, 0.5, 0.7, 0.9)],
            "Gaussian noise, sigma": [(s, gauss) for s in (0.1, 0.2, 0.3, 0.4, 0.5)],
            "erased square, share of the area": [(a, square) for a in (0.05, 0.1, 0.25, 0.5)],
            "flipped signs, share of the cells": [(p, flips) for p in (0.005, 0.01, 0.02, 0.05, 0.1)]}


def section_lengths(model, data, args, rng) -> dict:
    """Exact match from the attractor of the noisy frame, by tokens, for two frame sizes; what an engineered code
    carries; whole stories. Frames with the same signs read the same: each is read once; those of texts that do not
    fit are not read and count as failures."""
    training = build_dataset(load_texts(args.dataset, "train", args.text_column), model.tokenizer,
                             model.config.max_seq_len, args.cache_dir)
    whole = np.flatnonzero(data.lengths < model.config.max_seq_len)
    whole = whole[np.linspace(0, len(whole) - 1, min(args.num_samples, len(whole))).astype(int)]
    sets = {str(length): beginnings(data, length, args.num_samples) for length in args.lengths}
    short = np.flatnonzero((data.lengths <= 128) & (data.lengths < model.config.max_seq_len))
    sets["whole, up to 128"] = [data[i].tolist() for i in short[: args.num_samples]]
    sets["whole"] = [data[i].tolist() for i in whole]
    result, raw = {}, math.log2(model.config.vocab_size)                      # bits of a token id
    for side in sorted({32, model.config.grid_size}):
        code, holds = FrameCode(model, side, side), frame_bits(side, side)
        for label, texts in sets.items():
            if not texts or (label.startswith("whole") and side < model.config.grid_size):
                continue
            intervals = code.intervals(texts)
            frames, fits = code.write(texts, intervals=intervals)
            noisy = np.clip(frames + 0.5 * rng.uniform(-1, 1, frames.shape), -1, 1).astype(np.float32)
            read, known = {}, {}
            for name, given in (("attractor", settle(frames)), ("noise 0.5, then attractor", settle(noisy)),
                                ("control: blank frame", np.ones_like(frames)),
                                ("control: shuffled frames", np.roll(frames, 1, 0))):
                keys = [(frame < 0).tobytes() for frame in given]
                new = [i for i, key in enumerate(keys) if fits[i] and key not in known and keys.index(key) == i]
                for start in tqdm(range(0, len(new), args.batch_size), desc=f"{side} x {side}, {label}", leave=False):
                    rows = new[start : start + args.batch_size]
                    known |= zip([keys[i] for i in rows], code.read(given[rows]), strict=True)
                read[name] = share([known.get(key) == (text, True) for key, text in zip(keys, texts, strict=True)])
            seen = {tuple(training[i][: len(texts[0]) - 1]) for i in range(len(training))}
            tokens, costs = np.mean([len(text) for text in texts]), [interval.spent() for interval in intervals]
            result[f"{side}/{label}"] = row = {
                "read": read, "fits": sum(fits) / len(fits), "frame_bits": holds, "tokens": float(tokens),
                "text_bits": float(np.mean(costs)) if max(costs) < math.inf else None,
                "raw_ids_fit": sum(len(text) * raw + 16 <= holds for text in texts) / len(texts)}
            if label.isdigit():
                row["lookup"] = share([tuple(text[:-1]) in seen for text in texts])
            print(f"{side:>3} x {side}, {label} tokens (n = {len(texts)}): {np.mean(costs):.0f} of {holds:.0f} bits, "
                  f"{row['fits']:.1%} fit, as raw token ids {row['raw_ids_fit']:.1%}; exact match " + ", ".join(
                      f"{name} {r['exact_match']:.1%} ({r['interval'][0]:.1%} - {r['interval'][1]:.1%})"
                      for name, r in read.items()) + (
                          f"; any lookup {row['lookup']['exact_match']:.1%}" if "lookup" in row else ""), flush=True)
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for i, side in enumerate(sorted({32, model.config.grid_size})):
        rows = [result[f"{side}/{length}"] for length in args.lengths]
        main = [row["read"]["noise 0.5, then attractor"] for row in rows]
        axis.plot(args.lengths, [r["exact_match"] for r in main], "o-", color=f"C{i}", label=f"{side} x {side} frame")
        axis.fill_between(args.lengths, *zip(*(r["interval"] for r in main), strict=True), color=f"C{i}", alpha=0.2)
        most = (rows[0]["frame_bits"] - 16) / math.log2(model.config.vocab_size)
        axis.axvline(most, color=f"C{i}", ls=":", label=f"raw token ids, {side} x {side}: {most:.0f} tokens")
    known = [row["lookup"]["exact_match"] for row in rows]
    axis.plot(args.lengths, known, "k--", lw=1, label="any lookup in the training texts")
    axis.set(xscale="log", xticks=args.lengths, xticklabels=args.lengths, xlabel="tokens", ylabel="exact match",
             title="Unseen texts read from the attractor of their noisy frame (noise 0.5)")
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    figure.savefig(f"{args.output_dir}/survive_lengths.png", dpi=110)
    return result


def section_disturb(model, data, args, rng) -> dict:
    """Code frames under damage, with and without the dynamics afterwards. A text is recovered if the number that the
    frame holds lies in the text's interval: that is what `FrameCode.read` decodes, checked here on a few without the
    short cut. Retained bits: what the language model charges for the longest right beginning."""
    code, result = FrameCode(model), {}
    texts = beginnings(data, args.length, args.num_samples)
    written = {"": code.write(texts), "redundant, ": code.write(texts, redundant=True)}
    nested = [code.nested(ids) for ids in texts]
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained", sharey=True)
    for axis, (kind, strengths) in zip(axes, disturbances(rng).items(), strict=True):
        curves = {code_name + when: [] for code_name in written for when in ("read at once", "after the collapse")}
        for strength, damage in tqdm(strengths, desc=kind, leave=False):
            damaged = {code_name: damage(frames, strength) for code_name, (frames, _) in written.items()}
            versions = [(frames, given) for code_name, (frames, _) in written.items()
                        for given in (damaged[code_name], settle(damaged[code_name]))]
            for name, (frames, given) in zip(curves, versions, strict=True):
                numbers = [code.hold(frame)[0] for frame in given]
                hits = [number in intervals[-1] for number, intervals in zip(numbers, nested, strict=True)]
                bits = [max(i.spent() for i in intervals[:-1] if number in i)
                        for number, intervals in zip(numbers, nested, strict=True)]
                check = [ids == text and intact for (ids, intact), text in
                         zip(code.read(given[:8]), texts[:8], strict=True)]
                if check != hits[:8]:
                    raise SystemExit(f"survive.py: the short cut disagrees with reading: {check} {hits[:8]}")
                row = share(hits) | {"retained_bits": float(np.mean(bits)),
                                     "cells_wrong": float(np.mean((given < 0) != (frames < 0)))}
                result[f"{kind} {strength}, {name}"] = row
                curves[name].append(row)
        for name, rows in curves.items():
            style = "--" if name.endswith("once") else "-"
            axis.plot([s for s, _ in strengths], [r["exact_match"] for r in rows], "o" + style, label=name,
                      color="C1" if name.startswith("redundant") else "C0")
            axis.fill_between([s for s, _ in strengths], *zip(*(r["interval"] for r in rows), strict=True), alpha=0.15,
                              color="C1" if name.startswith("redundant") else "C0")
        axis.set(xlabel=kind, ylim=(-0.03, 1.03))
        axis.grid(alpha=0.3)
        for (strength, _), *rows in zip(strengths, *curves.values(), strict=True):
            print(f"{kind} {strength}: " + "; ".join(
                f"{name} {r['exact_match']:.1%} exact ({r['interval'][0]:.1%} - {r['interval'][1]:.1%}), "
                f"{r['retained_bits']:.0f} bits kept, {r['cells_wrong']:.2%} of cells wrong"
                for name, r in zip(curves, rows, strict=True)), flush=True)
    axes[0].set_ylabel(f"exact match, {args.length} tokens")
    axes[0].legend(fontsize=8)
    figure.savefig(f"{args.output_dir}/survive_disturb.png", dpi=110)
    bits = float(np.mean([intervals[-1].spent() for intervals in nested]))
    fits = {name + "code": sum(fits) / len(fits) for name, (_, fits) in written.items()}
    print(f"texts cost {bits:.0f} bits; share that fits: {fits}")
    return result | {"fits": fits, "text_bits": bits}


def section_ticks(model, data, args, rng) -> dict:
    """Exact match against the number of ticks, learned and code frames; learned frames at 8, 4, 2, 1 bits a cell."""
    texts, result = beginnings(data, args.length, args.num_samples), {}
    ids = torch.tensor(texts)
    with torch.no_grad():
        learned = np.concatenate([model.get_grid_as_image(model.encode(ids[i : i + 64])).numpy()
                                  for i in range(0, len(ids), 64)])
    code = FrameCode(model)
    coded, _ = code.write(texts)
    last = [interval for interval in code.intervals(texts)]

    def read_learned(frames: np.ndarray, name: str) -> dict:
        out = []
        for start in tqdm(range(0, len(frames), args.batch_size), desc=name, leave=False):
            grid = model.set_grid_from_image(torch.from_numpy(frames[start : start + args.batch_size]))
            out += model.decode(grid, return_ids=True, max_length=args.length)
        ends = [row + [model.config.eos_token_id] if len(row) < args.length else row for row in out]
        return score(texts, ends)

    for bits in (8, 4, 2, 1):
        levels = 2**bits - 1
        quantised = (np.round((learned + 1) / 2 * levels) / levels * 2 - 1).astype(np.float32)
        result[f"learned, {bits} bits a cell"] = row = read_learned(quantised, f"{bits} bits")
        print(f"learned frame, {bits} bits a cell: {row['exact_match']:.1%} exact, {row['token_accuracy']:.2%} of "
              "tokens")
    for ticks in TICKS:
        name = "attractor" if ticks is None else f"{ticks} ticks"
        result[f"learned, {name}"] = row = read_learned(settle(learned, ticks), name)
        numbers = [number_from_frame(frame)[0] for frame in settle(coded, ticks)]
        result[f"code, {name}"] = hits = share([n in i for n, i in zip(numbers, last, strict=True)])
        print(f"{name}: learned frame {row['exact_match']:.1%} exact, {row['token_accuracy']:.2%} of tokens; code "
              f"frame {hits['exact_match']:.1%} exact", flush=True)
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    names = ["attractor" if t is None else f"{t} ticks" for t in TICKS]
    for kind in ("code", "learned"):
        axis.plot([result[f"{kind}, {name}"]["exact_match"] for name in names], "o-", label=f"{kind}, exact match")
    axis.plot([result[f"learned, {name}"]["token_accuracy"] for name in names], "o--", color="C1",
              label="learned, token accuracy")
    axis.set(xticks=range(len(TICKS)), xticklabels=["attractor" if t is None else t for t in TICKS], xlabel="ticks",
             title=f"Unseen texts of {args.length} tokens read after some ticks")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(f"{args.output_dir}/survive_ticks.png", dpi=110)
    return result


def section_picture(model, data, args, rng) -> dict:
    """Three unseen texts as pictures: learned frame, code frame, the same with noise, its attractor, the text read."""
    code, texts = FrameCode(model), beginnings(data, args.length, 3)
    learned = model.get_grid_as_image(model.encode(torch.tensor(texts))).detach().numpy()
    frames, _ = code.write(texts)
    noisy = np.clip(frames + 0.9 * rng.uniform(-1, 1, frames.shape), -1, 1).astype(np.float32)
    after = settle(noisy)
    read = code.read(after)
    say = lambda ids: textwrap.fill(model.tokenizer.decode(ids, skip_special_tokens=True).replace("\n", " "), 46)
    figure, axes = plt.subplots(len(texts), 6, figsize=(17, 2.9 * len(texts)), layout="constrained")
    titles = ("unseen text", "learned frame", "attractor code", "noise 0.9", "collapsed again", "read back")
    for row, text in enumerate(texts):
        for column, (axis, title) in enumerate(zip(axes[row], titles, strict=True)):
            axis.axis("off")
            if row == 0:
                axis.set_title(title, fontsize=11)
            if column in (0, 5):
                axis.text(0.5, 0.5, say(text if column == 0 else read[row][0]), ha="center", va="center", fontsize=8)
            else:
                picture = (learned, frames, noisy, after)[column - 1][row]
                axis.imshow(frame_image(picture, scale=1).convert("RGB"), interpolation="nearest")
    figure.savefig(f"{args.output_dir}/survive_picture.png", dpi=90)
    same = [intact and ids == text for (ids, intact), text in zip(read, texts, strict=True)]
    print(f"read back word for word: {same}")
    return {"same": same}


SECTIONS = {"picture": section_picture, "lengths": section_lengths, "disturb": section_disturb, "ticks": section_ticks}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=SECTIONS)
    add_data_flags(parser)
    parser.add_argument("--checkpoint", default="checkpoints/best.pt", help="file that train.py wrote")
    parser.add_argument("--num_samples", type=int, default=500, help="texts of each length")
    parser.add_argument("--lengths", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256], help="tokens (lengths)")
    parser.add_argument("--length", type=int, default=64, help="tokens (disturb, ticks)")
    parser.add_argument("--batch_size", type=int, default=64, help="texts read at once")
    parser.add_argument("--seed", type=int, default=0, help="seed of the disturbances")
    parser.add_argument("--output_dir", default="assets", help="folder for the figures")
    args = parser.parse_args(argv)
    try:
        model = WheelerTextAutoencoder.load_from_checkpoint(args.checkpoint)
        limit = model.config.max_seq_len
        for length in args.lengths if args.section == "lengths" else [args.length]:
            if not 2 <= length <= limit:
                raise ValueError(f"lengths must be in 2 .. max_seq_len = {limit}, not {length}")
        if args.num_samples < 1:
            raise ValueError(f"--num_samples {args.num_samples} must be at least 1")
        data = build_dataset(load_texts(args.dataset, "validation", args.text_column), model.tokenizer, limit,
                             args.cache_dir)
        result = SECTIONS[args.section](model, data, args, np.random.default_rng(args.seed))
    except (ValueError, OSError) as error:
        print(f"survive.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"section": args.section, "checkpoint": args.checkpoint, "dataset": args.dataset, "data": data.key,
                      "seed": args.seed, "commit": git_commit(), "result": result}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
