"""What is where in the grid, and what one can do in it: sections space and geometry of evaluate.py.

    python evaluate.py space --checkpoint checkpoints/best.pt --dataset sample      # which cells carry which words
    python evaluate.py geometry --checkpoint checkpoints/best.pt --dataset sample   # interpolation, arithmetic

Texts are the beginnings of the validation texts, as in survive.py. Each function takes an `metrics.Subject`, prints a
table, writes <output_dir>/<section>.png and returns its figures as a dict.
"""

import re
import sys
import textwrap

import numpy as np
import torch

from wheeler.cli import progress
from wheeler.figures import new_figure, save_figure
from wheeler.measure.metrics import Subject, language_model_bits
from wheeler.training.data import Row
from wheeler.training.scores import closed, share

# Words that a child's story can swap without a change of meaning, both ways.
SYNONYMS = {a: b for pair in """big large; little small; happy glad; sad unhappy; said told; fast quick; house home;
    mom mother; dad father; friend pal; pretty beautiful; scared afraid; smart clever; start begin; started began;
    shouted yelled; looked gazed; walked strolled; ran raced; wanted wished; found discovered; nice kind; yummy tasty;
    road street; forest woods; stone rock; kid child; kids children; hurt injured; quickly rapidly; silly foolish;
    angry mad; tired sleepy; shiny bright; loud noisy; quiet silent; jumped leaped; picked chose; saw spotted;
    smiled grinned; cold chilly; often frequently; many several; close near; finally eventually; gift present;
    bunny rabbit; ship boat; also too; called named; loved adored; lots plenty; ill sick""".split(";")
    for x, y in [pair.split()] for a, b in ((x, y), (y, x))}
# Sentences with two free words, for arithmetic: all pairs of words are tried in both.
SENTENCES = ("Once upon a time there was a {} {}.", "The {} {} went to the park.", "Tom saw a {} {} in the garden.",
             "Lily loved her {} {} very much.")
WAY = np.linspace(0, 1, 11)                                                   # shares of the second text
FIRST = ("big", "red", "very old", "happy")                                   # "very old" shifts what follows
SECOND = ("dog", "cat", "ice cream truck", "tree")


def paraphrase(text: str) -> tuple[str, int]:
    """The text with every word that SYNONYMS knows swapped, its capital letter kept, and how many were swapped."""
    count = 0

    def swap(match: re.Match) -> str:
        nonlocal count
        word, other = match[0], SYNONYMS.get(match[0].lower())
        count += other is not None
        return word if other is None else other.capitalize() if word[0].isupper() else other

    return re.sub(r"[A-Za-z]+", swap, text), count


# ---- space ----------------------------------------------------------------------------------------------------------


def occlude(grid: torch.Tensor, k: int, square: int) -> torch.Tensor:
    """A copy of grid (H, W, D) with square k, counted in raster order, set to 0."""
    side, out = grid.shape[1] // square, grid.clone()
    i, j = k // side * square, k % side * square
    out[i : i + square, j : j + square] = 0
    return out


@torch.no_grad()
def space(subject: Subject, num_samples: int = 2, length: int = 64, square: int | None = None, batch_size: int = 64,
          output_dir: str = "figures") -> dict:
    """Hide one square of the grid at a time and read the rest, free-running: a token that no longer stands at its place
    is lost. square: side in cells, default that of a patch. The picture shows the first text."""
    c, texts = subject.model.config, subject.beginnings(length, num_samples)
    square = square or c.patch_size
    if c.grid_size % square:
        raise ValueError(f"--square {square} must divide the grid_size {c.grid_size}")
    squares = (c.grid_size // square) ** 2
    every = np.stack([lost_tokens(subject, ids, square, batch_size)           # (texts, squares, tokens) bool
                      for ids in progress(texts, "hiding squares of the grid")])
    tokens, owners, carry = every.any(1), every.sum(1), every.any(2)
    result = {
        "texts": len(texts), "tokens": len(texts[0]), "square": square, "squares": squares,
        "squares_that_carry": float(carry.mean()),
        "tokens_lost_a_carrying_square": float(every.sum() / max(1, carry.sum())),
        "tokens_lost_by_some_square": float(tokens.mean()),
        "tokens_lost_by_one_square_alone": float((owners == 1).sum() / max(1, tokens.sum()))}
    if square == c.patch_size:
        own = np.diagonal(every[:, : every.shape[2]], axis1=1, axis2=2)       # token t hidden with patch t
        result["tokens_lost_with_their_own_patch"] = float(own.mean())
    print(f"one square of {square} x {square} cells hidden, {squares} squares in turn, {len(texts)} texts of "
          f"{len(texts[0])} tokens")
    for key, value in result.items():
        if isinstance(value, float):
            style = ".2f" if key == "tokens_lost_a_carrying_square" else ".1%"
            print(f"{key.replace('_', ' '):<36}{format(value, style):>9}")
    plot_space(subject, texts[0], every[0], square, output_dir)
    return {"grid": result}


def lost_tokens(subject: Subject, ids: list[int], square: int, batch_size: int) -> np.ndarray:
    """(squares, tokens) bool: which tokens of a text are lost with which square of its grid. What is read wrong from
    the whole grid is not lost."""
    c = subject.model.config
    whole = subject.model.encode(torch.tensor([ids], device=subject.device))[0]
    hidden, out = [None, *range((c.grid_size // square) ** 2)], []
    for start in range(0, len(hidden), batch_size):
        part = torch.stack([whole if k is None else occlude(whole, k, square)
                            for k in hidden[start : start + batch_size]])
        out += closed(subject.model.decode(part, return_ids=True, max_length=len(ids)), len(ids), c.eos_token_id)
    right = np.array([[a == b for a, b in zip(row + [-1] * len(ids), ids, strict=False)] for row in out])
    return ~right[1:] & right[0]


@torch.no_grad()
def plot_space(subject: Subject, ids: list[int], lost: np.ndarray, square: int, output_dir: str) -> None:
    """The grid of a text, its cells' first three principal components as colours, each square with the words that are
    lost with it. lost: (squares, tokens) bool. Rows of squares that carry nothing are cut off at the bottom."""
    side = subject.model.config.grid_size // square
    words = [subject.say([[token]])[0].strip() or "␣" for token in ids[:-1]] + ["(end)"]
    grid = subject.model.encode(torch.tensor([ids], device=subject.device))
    cells = grid[0].flatten(0, 1).double().cpu()
    cells = (cells - cells.mean(0)) @ torch.linalg.eigh(torch.cov(cells.T))[1][:, -3:]
    low, high = torch.quantile(cells, torch.tensor([0.02, 0.98]).double(), dim=0)
    colours = ((cells - low) / (high - low).clamp(min=1e-9)).clamp(0, 1).reshape(*grid.shape[1:3], 3).numpy()
    shown = min(side, int(np.flatnonzero(lost.any(1)).max(initial=0)) // side + 2)
    width = max(7.0, 0.9 * side)
    figure = new_figure(width, 1.4 + 1.2 * shown * width / side)
    axis = figure.subplots()
    axis.imshow(colours, extent=(0, side, side, 0), aspect="auto", interpolation="nearest")
    for k in np.flatnonzero(lost.any(1)):
        gone = [words[t] for t in np.flatnonzero(lost[k])]
        label = "\n".join(gone[:4] + [f"+{len(gone) - 4}"] * (len(gone) > 4)).replace("$", r"\$")
        axis.text(k % side + 0.5, k // side + 0.5, label, ha="center", va="center", fontsize=9,
                  bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8})
    axis.set(title=f"words lost when a square of {square} x {square} cells of the grid is hidden" + (
        f" (the {side - shown} rows of squares below carry nothing)" if shown < side else ""),
        xticks=range(side + 1), yticks=range(shown + 1), ylim=(shown, 0), xticklabels=[], yticklabels=[])
    axis.grid(color="white", lw=1)
    axis.tick_params(length=0)
    axis.set_xlabel(textwrap.fill(" ".join(subject.say([ids])[0].split()).replace("$", r"\$"),
                                  int(12 * figure.get_figwidth())))
    save_figure(figure, output_dir, "space", dpi=80)


# ---- geometry -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def geometry(subject: Subject, num_samples: int = 32, length: int = 32, batch_size: int = 64, seed: int = 0,
             output_dir: str = "figures") -> dict:
    """Interpolation between the grids of two unseen texts, and arithmetic on grids; every step is decoded.

    Fluency: bits a character that the model charges for the decoded text without a latent, the end token counted; the
    lower, the likelier. Distances to both ends: Levenshtein in characters over the longer length, 0 to 1. Arithmetic:
    grid(c) + grid(b) - grid(a) for four sentences that differ in two words, b in the first, c in the second; exact
    if it decodes to the sentence d with both, "copy" if to one of a, b and c. num_samples: pairs to interpolate.
    """
    rng, texts = np.random.default_rng(seed), subject.beginnings(length, 2 * num_samples if num_samples > 0 else -1)
    texts = [texts[i] for i in rng.permutation(len(texts))]
    pairs = list(zip(texts[::2], texts[1::2], strict=False))
    if not pairs:
        raise ValueError(f"geometry needs two unseen texts of {len(texts[0])} tokens")
    found, shown = walk_between(subject, pairs, batch_size)
    result = {}
    print(f"{len(pairs)} pairs of unseen texts of {len(texts[0])} tokens; share of the second text, distance to the "
          "first and second text, bits a character, and the first pair decoded:")
    for i, t in enumerate(WAY):
        result[f"interpolation/{t:.1f}"] = row = share(found["exact"][:, i].any(1).tolist(), "exact_match") | {
            "distance_to_first": float(found["distances"][:, i, 0].mean()),
            "distance_to_second": float(found["distances"][:, i, 1].mean()),
            "bits_a_character": float(found["fluency"][:, i].mean())}
        print(f"   {t:.1f}  {row['distance_to_first']:.3f} {row['distance_to_second']:.3f}  "
              f"{row['bits_a_character']:.2f}  " + shown[i][1].replace("\n", " ")[:90])
    result |= arithmetic(subject, batch_size)
    sys.stdout.flush()
    geometry_figure(found, shown, len(pairs), len(texts[0]), output_dir)
    return result


def decode_in_parts(subject: Subject, grids: list[torch.Tensor], most: int, batch_size: int) -> list[list[int]]:
    """Token ids, end token included, of grids (1, H, W, D), `most` tokens at most."""
    rows = []
    for start in range(0, len(grids), batch_size):
        rows += subject.model.decode(torch.cat(grids[start : start + batch_size]), return_ids=True, max_length=most)
    return closed(rows, most, subject.model.config.eos_token_id)


def walk_between(subject: Subject, pairs: list[tuple[Row, Row]],
                 batch_size: int) -> tuple[dict[str, np.ndarray], list[tuple[float, str, float]]]:
    """({"distances": (pairs, steps, 2), "exact": the same, bool, "fluency": (pairs, steps)} of what the grids between
    the texts of each pair decode to, (share, text, bits) of the first pair)."""
    from rapidfuzz.distance import Levenshtein

    shape, shown = (len(pairs), len(WAY)), []
    found = {"distances": np.zeros((*shape, 2)), "exact": np.zeros((*shape, 2), bool), "fluency": np.zeros(shape)}
    encode = lambda ids: subject.model.encode(torch.tensor([ids], device=subject.device))
    for k, (a, b) in enumerate(progress(pairs, "interpolating")):
        first, last = encode(a), encode(b)
        out = decode_in_parts(subject, [torch.lerp(first, last, float(t)) for t in WAY], len(a), batch_size)
        said, ends = subject.say(out), subject.say((a, b))
        bits = language_model_bits(subject.model, subject.rows(out), list(range(len(out))), batch_size)
        for i, text in enumerate(said):
            found["distances"][k, i] = [Levenshtein.normalized_distance(text, end) for end in ends]
            found["exact"][k, i] = subject.came_back((a, b), (out[i], out[i]))
            found["fluency"][k, i] = bits[i] / max(1, len(text))
        if k == 0:
            shown = list(zip(WAY, said, bits, strict=True))
    return found, shown


def arithmetic(subject: Subject, batch_size: int) -> dict[str, dict]:
    """Scores of grid(c) + grid(b) - grid(a), for sentences of equal and of unequal lengths."""
    quadruples = [[sentence.format(x, y) for x, y in ((a1, b1), (a2, b1), (a1, b2), (a2, b2))]
                  for sentence in SENTENCES for a1, a2 in zip(FIRST, FIRST[1:] + FIRST[:1])
                  for b1, b2 in zip(SECOND, SECOND[1:] + SECOND[:1])]
    rows = [subject.tokens(four) for four in quadruples]
    most = min(subject.model.config.max_seq_len, max(len(row) for four in rows for row in four) + 2)
    known, result = {}, {}
    for four in rows:
        for row in four:
            if tuple(row) not in known:
                known[tuple(row)] = subject.model.encode(torch.tensor([row], device=subject.device))
    sums = [known[tuple(four[1])] + known[tuple(four[2])] - known[tuple(four[0])] for four in rows]
    out = decode_in_parts(subject, sums, most, batch_size)
    bits = language_model_bits(subject.model, subject.rows(out), list(range(len(out))), batch_size)
    characters = np.maximum(1, [len(text) for text in subject.say(out)])
    same = np.array([len({len(x) for x in four}) == 1 for four in rows])
    print("arithmetic, grid(c) + grid(b) - grid(a):")
    for name, chosen in (("equal lengths", np.flatnonzero(same)), ("unequal lengths", np.flatnonzero(~same))):
        if not len(chosen):
            continue
        row = subject.score([rows[i][3] for i in chosen], [out[i] for i in chosen])
        row["copy"] = sum(any(subject.came_back(rows[i][:3], [out[i]] * 3)) for i in chosen) / len(chosen)
        row["bits_a_character"] = float(np.mean(bits[chosen] / characters[chosen]))
        result[f"arithmetic/{name}"] = row
        print(f"   {len(chosen)} quadruples of {name} (tokens): exact {row['exact_match']:.1%} "
              f"({row['interval'][0]:.1%} - {row['interval'][1]:.1%}), {row['token_accuracy']:.1%} of tokens, copy of "
              f"a, b or c {row['copy']:.1%}, {row['bits_a_character']:.2f} bits a character; such as")
        four, said = quadruples[chosen[-1]], subject.say([out[chosen[-1]]])[0]
        print(f"   {four[2]!r} + {four[1]!r} - {four[0]!r} = {said!r}")
    return result


def geometry_figure(found: dict[str, np.ndarray], shown: list, pairs: int, length: int,
                    output_dir: str) -> None:
    """Distances and fluency along the way; the first pair, decoded."""
    figure = new_figure(14, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
    for k, label in enumerate(("to the first text", "to the second text")):
        left.plot(WAY, found["distances"][..., k].mean(0), "o-", color=f"C{k}", label=f"distance {label}")
        left.fill_between(WAY, *np.percentile(found["distances"][..., k], [10, 90], axis=0), color=f"C{k}", alpha=0.15)
    twin = left.twinx()
    twin.plot(WAY, found["fluency"].mean(0), "s--", color="C2", label="bits a character")
    twin.axhline(found["fluency"][:, [0, -1]].mean(), color="C2", ls=":", lw=1)
    twin.set(ylabel="bits a character (dotted: of the ends)", ylim=(0, None))
    left.set(xlabel="share of the second text's grid", ylabel="normalised edit distance (10% to 90% of pairs)",
             ylim=(-0.03, 1.03), title=f"{pairs} pairs of unseen texts, {length} tokens")
    left.legend(loc="upper left", fontsize=8)
    twin.legend(loc="upper right", fontsize=8)
    left.grid(alpha=0.3)
    right.axis("off")
    right.set_title("the first pair, decoded (share, bits)")
    for i, (t, text, cost) in enumerate(shown):
        line = textwrap.shorten(" ".join(text.split()).replace("$", r"\$"), 200)
        right.text(0, 1 - (i + 0.5) / len(shown), f"{t:.1f}  {cost:>4.0f}   " + textwrap.fill(line, 105,
                   subsequent_indent=" " * 12), va="center", fontsize=7.5, family="DejaVu Sans Mono")
    save_figure(figure, output_dir, "geometry")
