"""How texts survive the Wheeler dynamics: sections lengths, disturb, fidelity, ticks and picture of evaluate.py.

    python evaluate.py picture --checkpoint checkpoints/best.pt --dataset sample  # three texts through the collapse
    python evaluate.py lengths --checkpoint checkpoints/best.pt --dataset sample  # how much text a frame carries
    python evaluate.py disturb --checkpoint checkpoints/best.pt --dataset sample  # noise, erasures, sign flips
    python evaluate.py fidelity --checkpoint checkpoints/best.pt --dataset sample # noise and rule v0.3, hash frames too
    python evaluate.py ticks --checkpoint checkpoints/best.pt --dataset sample    # against ticks of the dynamics

Texts are the beginnings of the validation texts, cut to a number of tokens and closed by the end token; frames are
those of `encode_frame` (wheeler/frame/code.py). Exact match: all characters come back (and, from frames, the checksum
agrees), with 95% Wilson intervals. Each function takes a `Subject`, prints a table, writes
<output_dir>/survive_<section>.png and returns its figures as a dict.
"""

import math
import textwrap

import numpy as np
import torch

from wheeler.cli import progress
from wheeler.figures import new_figure, save_figure
from wheeler.frame.code import FrameCode, Written, frame_bits
from wheeler.frame.redundant import KINDS
from wheeler.measure.metrics import LENGTHS, Row, Subject, beginnings, collapse, evenly, hash_frames
from wheeler.measure.theory import likeness, returned
from wheeler.training.scores import closed, share
from wheeler_cpu import WheelerMemoryCPU, add_noise, frame_image

TICKS = (0, 1, 2, 5, 10, 20, 50, 100, None)                                   # None: to the attractor
STRENGTHS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)            # standard deviations of noise
MEAN_OF = (0.1, 0.25, 0.5, 0.75, 1.0)                                         # those whose mean fidelity is told
PICTURED = (0.0, 0.1, 0.3, 0.5, 0.7)                                          # shares of a frame's area that are erased


def disturbances(rng: np.random.Generator) -> dict[str, list[tuple[str, object]]]:
    """Kinds of damage, each a list of (strength, function of frames (B, H, W))."""

    def square(frames, area):
        frames, side = frames.copy(), round(math.sqrt(area * frames[0].size))
        for frame in frames:
            i, j = rng.integers(frame.shape[0]), rng.integers(frame.shape[1])
            frame[np.ix_(np.arange(i, i + side) % frame.shape[0], np.arange(j, j + side) % frame.shape[1])] = 0
        return frames

    uniform = lambda f, a: add_noise(f, a, rng)
    gauss = lambda f, s: np.clip(f + s * rng.normal(size=f.shape), -1, 1).astype(np.float32)
    flips = lambda f, p: np.where(rng.random(f.shape) < p, -f, f)
    return {"uniform noise, amplitude": [(a, uniform) for a in (0.1, 0.3, 0.5, 0.7, 0.9)],
            "Gaussian noise, sigma": [(s, gauss) for s in (0.1, 0.2, 0.3, 0.4, 0.5)],
            "erased square, share of the area": [(a, square) for a in (0.05, 0.1, 0.25, 0.5)],
            "flipped signs, share of the cells": [(p, flips) for p in (0.005, 0.01, 0.02, 0.05, 0.1)]}


def lengths(subject: Subject, lengths: tuple[int, ...] = LENGTHS, num_samples: int = 500, batch_size: int = 64,
            seed: int = 0, output_dir: str = "figures") -> dict:
    """Exact match from the attractor of the noisy frame, by tokens, for two frame sizes; what raw token ids
    would carry; whole stories. Frames with the same signs read the same: each is read once; those of texts that do not
    fit are not read and count as failures."""
    model, data, training, rng = subject.model, subject.data, subject.training, np.random.default_rng(seed)
    lengths = [length for length in lengths if length <= model.config.max_seq_len]
    whole = np.flatnonzero(data.lengths < model.config.max_seq_len)
    whole = whole[evenly(len(whole), num_samples)]
    sets = {str(length): beginnings(data, length, num_samples) for length in lengths}
    short = np.flatnonzero((data.lengths <= 128) & (data.lengths < model.config.max_seq_len))
    sets["whole, up to 128"] = [data.row(i) for i in short[: num_samples if num_samples > 0 else None]]
    sets["whole"] = [data.row(i) for i in whole]
    lengths = [length for length in lengths if sets[str(length)]]
    if not lengths:
        raise ValueError(f"--lengths: the longest unseen text has {data.lengths.max()} tokens")
    result, raw = {}, math.log2(model.config.vocab_size)                      # bits of a token id
    for side in sorted({32, model.config.grid_size}):
        code, holds = FrameCode(model, side, side), frame_bits(side, side)
        for label, texts in sets.items():
            if not texts or (label.startswith("whole") and side < model.config.grid_size):
                continue
            written = code.write(texts)
            frames, fits = np.stack([one.frame for one in written]), [one.fits for one in written]
            noisy = add_noise(frames, 0.5, rng)
            read, known = {}, {}
            for name, given in (("attractor", collapse(frames)), ("noise 0.5, then attractor", collapse(noisy)),
                                ("control: blank frame", np.ones_like(frames)),
                                ("control: shuffled frames", np.roll(frames, 1, 0))):
                keys = [(frame < 0).tobytes() for frame in given]
                new = [i for i, key in enumerate(keys) if keys.index(key) == i and key not in known and
                       (fits[i] or name.startswith("control"))]
                for start in progress(range(0, len(new), batch_size), f"{side} x {side}, {label}"):
                    rows = new[start : start + batch_size]
                    readings = code.read(given[rows])
                    known |= {keys[i]: r.text if r.exact else None for i, r in zip(rows, readings, strict=True)}
                read[name] = share([known.get(key) == row.text for key, row in zip(keys, texts, strict=True)])
            tokens, costs = np.mean([len(text) for text in texts]), [one.cost for one in written if one.fits]
            result[f"{side}/{label}"] = row = {
                "read": read, "fits": sum(fits) / len(fits), "frame_bits": holds, "tokens": float(tokens),
                "text_bits": float(np.mean(costs)) if costs else None,
                "rows": float(np.mean([one.rows for one in written])),
                "raw_ids_fit": sum(len(text) * raw + 16 <= holds for text in texts) / len(texts)}
            if label.isdigit():
                seen = {tuple(training[i][: len(texts[0]) - 1]) for i in range(len(training))}
                row["lookup"] = share([tuple(text[:-1]) in seen and same for text, same in
                                       zip(texts, subject.came_back(texts, texts), strict=True)])
            print(f"{side:>3} x {side}, {label} tokens (n = {len(texts)}): {np.mean(costs or [0]):.0f} of {holds:.0f} "
                  f"bits, "
                  f"{row['fits']:.1%} fit, as raw token ids {row['raw_ids_fit']:.1%}; exact match " + ", ".join(
                      f"{name} {r['exact_match']:.1%} ({r['interval'][0]:.1%} - {r['interval'][1]:.1%})"
                      for name, r in read.items()) + (
                          f"; any lookup {row['lookup']['exact_match']:.1%}" if "lookup" in row else ""), flush=True)
    figure = new_figure(7, 4)
    axis = figure.subplots()
    for i, side in enumerate(sorted({32, model.config.grid_size})):
        rows = [result[f"{side}/{length}"] for length in lengths]
        main = [row["read"]["noise 0.5, then attractor"] for row in rows]
        axis.plot(lengths, [r["exact_match"] for r in main], "o-", color=f"C{i}", label=f"{side} x {side} frame")
        axis.fill_between(lengths, *zip(*(r["interval"] for r in main), strict=True), color=f"C{i}", alpha=0.2)
        most = int((rows[0]["frame_bits"] - 16) / math.log2(model.config.vocab_size))
        axis.axvline(most, color=f"C{i}", ls=":", label=f"raw token ids, {side} x {side}: {most} tokens")
    known = [row["lookup"]["exact_match"] for row in rows]
    axis.plot(lengths, known, "k--", lw=1, label="any lookup in the training texts")
    axis.set(xscale="log", xticks=lengths, xticklabels=lengths, xlabel="tokens", ylabel="exact match",
             title="Unseen texts read from the attractor of their noisy frame (noise 0.5)")
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    save_figure(figure, output_dir, "survive_lengths")
    return result


@torch.no_grad()
def read_damaged_grids(subject: Subject, texts: list[list[int]], kind: str, strength: float, damage,
                       rng: np.random.Generator, batch_size: int) -> list[list[int]]:
    """What is read from the texts' grids (H, W, D) under a damage of `disturbances`: noise in units of the grid's root
    mean square, in every channel; erased cells are 0, flipped cells change the sign of all channels."""
    data, length, out = subject.rows(texts), max(map(len, texts)), []
    for start in range(0, len(data), batch_size):
        ids, mask = data.batch(range(start, min(start + batch_size, len(data))))
        grids = subject.model.encode(ids.to(subject.device), mask.to(subject.device))
        if "noise" in kind:
            draw = rng.normal if kind.startswith("Gaussian") else lambda size: rng.uniform(-1, 1, size)
            noise = torch.from_numpy(draw(size=tuple(grids.shape)).astype(np.float32)).to(grids)
            grids = grids + strength * grids.square().mean().sqrt() * noise
        else:
            keep = damage(np.ones(tuple(grids.shape[:3]), np.float32), strength)
            grids = grids * torch.from_numpy(keep).to(grids)[..., None]
        out += closed(subject.model.decode(grids, return_ids=True, max_length=length), length,
                      subject.model.config.eos_token_id)
    return out


def recovered(code: FrameCode, written: list[Written], frames: np.ndarray) -> tuple[list[bool], list[float]]:
    """Of each frame whether the text written beside it, a Row, is still in it, character by character, and the bits
    that are: `FrameCode.recovers`. RuntimeError where reading some frames for real, checksum included, does not give
    what that short cut says."""
    hits, bits = zip(*(code.recovers(one, frame) for one, frame in zip(written, frames, strict=True)), strict=True)
    read = [r.exact and r.ids == one.ids for r, one in zip(code.read(frames[:4]), written, strict=False)]
    if read != list(hits[:4]):
        raise RuntimeError(f"the short cut disagrees with reading: {read} {hits[:4]}")
    return [hit and code.text_of(one.ids) == one.ids.text for hit, one in zip(hits, written, strict=True)], list(bits)


def disturb(subject: Subject, num_samples: int = 500, length: int = 64, grid_samples: int = 64, seed: int = 0,
            output_dir: str = "figures") -> dict:
    """Frames under damage, with and without the dynamics afterwards. A text is recovered if the number that the frame
    holds lies in the text's interval: that is what `FrameCode.read` decodes, checked here on a few without the short
    cut. Retained bits: what the decoder charges for the longest right beginning. Grids of the first grid_samples texts
    are decoded, free-running. control: the share of frames that read as the text before theirs."""
    code, result, rng = subject.code, {}, np.random.default_rng(seed)
    texts = subject.beginnings(length, num_samples)
    written = {name: code.write(texts, redundant) for name, redundant in (("", False), ("redundant, ", True))}
    frames_of = {name: np.stack([one.frame for one in every]) for name, every in written.items()}
    some, length = texts[:grid_samples], len(texts[0])
    figure = new_figure(15, 3.6)
    axes = figure.subplots(1, 4, sharey=True)
    others, of_grids = disturbances(np.random.default_rng([seed, 1])), np.random.default_rng([seed, 2])  # of grids
    for axis, (kind, strengths) in zip(axes, disturbances(rng).items(), strict=True):
        whens = ("read at once", "after the collapse")
        curves = {redundancy + when: [] for redundancy in written for when in whens}
        curves |= {"grid, read at once": []} if some else {}
        for (strength, damage), (_, other) in zip(progress(strengths, kind), others[kind], strict=True):
            damaged = [(every, damage(frames_of[name], strength)) for name, every in written.items()]
            versions = [(every, given) for every, hurt in damaged for given in (hurt, collapse(hurt))]
            for name, (every, given) in zip(curves, versions, strict=False):
                frames = np.stack([one.frame for one in every])
                hits, bits = recovered(code, every, given)
                control = np.mean([code.recovers(one, frame)[0] for one, frame in
                                   zip(every[:16], np.roll(given, 1, 0)[:16], strict=True)])
                row = share(hits) | {"retained_bits": float(np.mean(bits)), "control": float(control),
                                     "cells_wrong": float(np.mean((given < 0) != (frames < 0)))}
                result[f"{kind} {strength}, {name}"] = row
                curves[name].append(row)
            if some:
                rows = read_damaged_grids(subject, some, kind, strength, other, of_grids, 16)
                row = subject.score(some, rows) | {
                    "control": subject.score(some, rows[-1:] + rows[:-1])["exact_match"]}
                result[f"{kind} {strength}, grid, read at once"] = row
                curves["grid, read at once"].append(row)
        for name, rows in curves.items():
            style = "--" if name.endswith("once") else "-"
            color = {"redundant": "C1", "grid": "C3"}.get(name.split(",")[0], "C0")
            axis.plot([s for s, _ in strengths], [r["exact_match"] for r in rows], "o" + style, label=name, color=color)
            axis.fill_between([s for s, _ in strengths], *zip(*(r["interval"] for r in rows), strict=True), alpha=0.15,
                              color=color)
        axis.set(xlabel=kind, ylim=(-0.03, 1.03))
        axis.grid(alpha=0.3)
        for (strength, _), *rows in zip(strengths, *curves.values(), strict=True):
            print(f"{kind} {strength}: " + "; ".join(
                f"{name} {r['exact_match']:.1%} exact ({r['interval'][0]:.1%} - {r['interval'][1]:.1%}), "
                + (f"{r['retained_bits']:.0f} bits kept" if "retained_bits" in r else
                   f"{r['token_accuracy']:.1%} of tokens") + (
                       f", {r['cells_wrong']:.2%} of cells wrong" if "cells_wrong" in r else "")
                for name, r in zip(curves, rows, strict=True)), flush=True)
    axes[0].set_ylabel(f"exact match, {length} tokens")
    axes[0].legend(fontsize=8)
    save_figure(figure, output_dir, "survive_disturb")
    bits = float(np.mean([one.cost for one in written[""]]))
    fits = {name + "frame": float(np.mean([one.fits for one in every])) for name, every in written.items()}
    print(f"texts cost {bits:.0f} bits; share that fits: {fits}; control, the text before: "
          f"{max(row['control'] for row in result.values()):.1%} at most")
    return result | {"fits": fits, "text_bits": bits}


def fidelity(subject: Subject, num_samples: int = 50, length: int = 40, seed: int = 0,
             output_dir: str = "figures") -> dict:
    """How frames come back from Gaussian noise under rule v0.3 (`theory.returned`): fidelity, the mean correlation with
    what they were, and whether the text is still in them. Plain frames are of unseen texts, whole or cut to max_seq_len
    tokens, redundant ones of their beginnings, `length` tokens; both only where the words fit. hash: the attractors of
    the whole texts' hash frames, which hold no text. All kinds get the same noise. Recovered as in `disturb`."""
    code, data, side = subject.code, subject.data, subject.model.config.grid_size
    texts = {"plain": [data.row(i) for i in evenly(len(data), num_samples)],
             "redundant": subject.beginnings(length, num_samples)}
    written = {kind: [one for one in code.write(rows, kind == "redundant") if one.fits] for kind, rows in texts.items()}
    for kind in [kind for kind, every in written.items() if not every]:
        print(f"left out: none of {len(texts[kind])} texts of {len(texts[kind][0])} tokens fits into a {kind} frame")
        del written[kind]
    hashed = hash_frames(subject.say(texts["plain"]), side, side)
    frames = {"hash": WheelerMemoryCPU(side, side, rule="v0.3").run_dynamics(hashed).final_frame}
    frames |= {kind: np.stack([one.frame for one in every]) for kind, every in written.items()}
    rngs, result = {kind: np.random.default_rng(seed) for kind in frames}, {}
    print("frames of " + ", ".join(f"{len(every)} {kind} texts of {np.mean([len(one.ids) for one in every]):.0f} tokens"
                                   for kind, every in written.items()))
    print(f"{'noise':<6}{'hash':>7}" + "".join(f"{kind:>11}  {'exact':<24}" for kind in written))
    for strength in STRENGTHS:
        line = f"{strength:<6}"
        for kind, attractors in frames.items():
            after = returned(attractors, strength, rngs[kind])
            row = {"fidelity": likeness(attractors, after)}
            if kind in written:
                row |= share(recovered(code, written[kind], after)[0])
            result[f"{strength}, {kind}"] = row
            line += f"{row['fidelity']:>{11 if kind in written else 7}.3f}" + (
                f"  {row['exact_match']:<7.1%}({row['interval'][0]:.1%} - {row['interval'][1]:.1%})".ljust(26)
                if kind in written else "")
        print(line.rstrip(), flush=True)
    means = {kind: float(np.mean([result[f"{s}, {kind}"]["fidelity"] for s in MEAN_OF])) for kind in frames}
    print(f"mean fidelity of noise {', '.join(map(str, MEAN_OF))}: " + ", ".join(
        f"{kind} {mean:.3f}" for kind, mean in means.items()))
    figure = new_figure(11, 4)
    axes = figure.subplots(1, 2)
    for i, kind in enumerate(frames):
        rows = [result[f"{s}, {kind}"] for s in STRENGTHS]
        axes[0].plot(STRENGTHS, [r["fidelity"] for r in rows], "o-", color=f"C{i}", label=kind)
        if kind in written:
            axes[1].plot(STRENGTHS, [r["exact_match"] for r in rows], "o-", color=f"C{i}", label=kind)
            axes[1].fill_between(STRENGTHS, *zip(*(r["interval"] for r in rows), strict=True), alpha=0.15,
                                 color=f"C{i}")
    for axis, name in zip(axes, ("correlation with the frame before", "exact match"), strict=True):
        axis.set(xlabel='Gaussian noise, then rule "v0.3"', ylabel=name, ylim=(-0.03, 1.03))
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    save_figure(figure, output_dir, "survive_fidelity")
    return result | {"mean_fidelity": means}


def ticks(subject: Subject, num_samples: int = 500, length: int = 64, seed: int = 0,
          output_dir: str = "figures") -> dict:
    """Exact match against the number of ticks, of frames and of the same with noise. Recovered as in
    `disturb`. distance: of a cell from what was written, mean.
    """
    texts, result, code = subject.beginnings(length, num_samples), {}, subject.code
    written = code.write(texts)
    frames = np.stack([one.frame for one in written])
    starts = {"frame": frames, "noise 0.9": add_noise(frames, 0.9, np.random.default_rng(seed))}
    names = ["attractor" if count is None else f"{count} ticks" for count in TICKS]
    for count, name in zip(TICKS, names, strict=True):
        for kind, start in starts.items():
            after = collapse(start, count)
            result[f"{kind}, {name}"] = share(recovered(code, written, after)[0]) | {
                "distance": float(np.abs(after - frames).mean())}
        rows = {kind: result[f"{kind}, {name}"] for kind in starts}
        print(f"{name}: " + "; ".join(
            f"{kind} {r['exact_match']:.1%} exact ({r['interval'][0]:.1%} - {r['interval'][1]:.1%}), cells "
            f"{r['distance']:.4f} from what was written" for kind, r in rows.items()), flush=True)
    figure = new_figure(7, 4)
    axis = figure.subplots()
    for k, kind in enumerate(starts):
        rows = [result[f"{kind}, {name}"] for name in names]
        axis.plot([r["exact_match"] for r in rows], "so"[k] + "-", ms=8 - 4 * k, color=f"C{k}",
                  label=f"{kind}, exact match")
        axis.plot([r["distance"] for r in rows], "so"[k] + "--", ms=8 - 4 * k, color=f"C{k}",
                  label=f"{kind}, mean distance of a cell from what was written")
    axis.set(xticks=range(len(TICKS)), xticklabels=["attractor" if t is None else t for t in TICKS], xlabel="ticks",
             title=f"Unseen texts of {len(texts[0])} tokens read after some ticks")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save_figure(figure, output_dir, "survive_ticks")
    return result


def _wrapped(text: str, width: int) -> str:
    text = "".join(c if c.isprintable() else " " for c in text)                # fonts have no control characters
    return textwrap.fill(text, width)


def picture(subject: Subject, length: int = 64, seed: int = 0, output_dir: str = "figures") -> dict:
    """Three unseen texts as pictures: the frame, the same with noise, its attractor, and the text read from that. Then
    what is left of the first as damage grows."""
    code, texts, rng = subject.code, subject.beginnings(length, 3), np.random.default_rng(seed)
    frames = np.stack([one.frame for one in code.write(texts)])
    noisy = add_noise(frames, 0.9, rng)
    after = collapse(noisy)
    read = code.read(after)
    figure = new_figure(14, 2.9 * len(texts))
    axes = figure.subplots(len(texts), 5, squeeze=False)
    titles = ("unseen text", "frame", "noise 0.9", "collapsed again", "read back")
    for row, text in enumerate(texts):
        for column, (axis, title) in enumerate(zip(axes[row], titles, strict=True)):
            axis.axis("off")
            if row == 0:
                axis.set_title(title, fontsize=11)
            if column in (0, 4):
                said = _wrapped(read[row].text if column else text.text, 46)
                axis.text(0.5, 0.5, said, ha="center", va="center", fontsize=8)
            else:
                picture = (frames, noisy, after)[column - 1][row]
                axis.imshow(frame_image(picture, scale=1).convert("RGB"), interpolation="nearest")
    save_figure(figure, output_dir, "survive_picture", dpi=90)
    same = [reading.exact and reading.text == text.text for reading, text in zip(read, texts, strict=True)]
    print(f"read back word for word: {same}")
    return {"same": same, "damage": picture_of_damage(code, texts[0], rng, output_dir)}


def picture_of_damage(code: FrameCode, text: Row, rng: np.random.Generator, output_dir: str) -> dict:
    """A text's plain and redundant frames with a square erased, larger and larger, and what is read from each at once;
    {frames: kinds of readings}."""
    rows, result = {"plain": False, "against flips": KINDS[0], "against erasures": KINDS[1]}, {}
    figure = new_figure(2.6 * len(PICTURED), 4.2 * len(rows))
    axes = figure.subplots(len(rows), len(PICTURED), squeeze=False)
    (_, square), *_ = disturbances(rng)["erased square, share of the area"]
    for line, (name, redundant) in zip(axes, rows.items(), strict=True):
        one, = code.write([text], redundant)
        hurt = np.concatenate([square(one.frame[None], area) for area in PICTURED])
        readings = code.read(hurt)
        for axis, area, frame, reading in zip(line, PICTURED, hurt, readings, strict=True):
            right = reading.exact and reading.text == text.text
            axis.imshow(frame_image(frame, scale=1).convert("RGB"), interpolation="nearest")
            axis.set(xticks=[], yticks=[], title=f"{name}, {area:.0%} erased: {'exact' if right else reading.kind}")
            axis.title.set_fontsize(8)
            axis.text(0.5, -0.03, _wrapped((reading.text or "")[:300], 42), ha="center", va="top", fontsize=6.5,
                      transform=axis.transAxes)
        result[name] = [reading.kind for reading in readings]
        print(f"{name}, {', '.join(f'{area:.0%}' for area in PICTURED)} erased: {', '.join(result[name])}")
    save_figure(figure, output_dir, "survive_damage", dpi=100)
    return result
