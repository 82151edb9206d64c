"""What a frame knows of what a text is about: section meaning of evaluate.py.

    python evaluate.py meaning --checkpoint checkpoints/best.pt --dataset stories.jsonl
    python evaluate.py meaning --parts recall --memories 100 1000 --num_samples 50 ...     # one part, smaller

    recall         the memory that a cue is nearest to, by Pearson's correlation of whole frames, is the cue's own
    bits           what the words cost given 0, 7, 15 ... meaning tiles
    gist           what is told when all words' cells are destroyed
    interpolation  texts between two neighbours in meaning
    erased         what is read when a square of the frame is gone

Which texts, and what stands in for distractors: memories.py. The parts: recall.py and gists.py.
"""

from collections.abc import Sequence

import numpy as np

from wheeler.figures import new_figure, remove_figure, save_figure
from wheeler.measure.gists import ERASED, NEAREST, bits, erased, gist, interpolation
from wheeler.measure.memories import RETOLD, Pool
from wheeler.measure.metrics import Subject
from wheeler.measure.recall import FRAME, MEMORIES, read_retellings, recall

PARTS = ("recall", "bits", "gist", "interpolation", "erased")
PAIRS = 30                                                                    # of neighbours, interpolated between
MOST_ERASED = 100                                                             # texts whose frames are erased


# ---- the picture ----------------------------------------------------------------------------------------------------


def error_bars(axis, x, rows: Sequence[dict], name: str, **style) -> None:
    y = np.array([row[name] for row in rows])
    low, high = np.array([row["interval"] for row in rows]).T
    axis.errorbar(x, y, [np.maximum(0, y - low), np.maximum(0, high - y)], capsize=2, ms=4, **style)


def plot_cues(axis, result: dict) -> None:
    size, rows = list(result["recall"]["memories"].items())[-1]
    rows = rows | ({RETOLD: result["recall"][RETOLD]} if RETOLD in result["recall"] else {})
    methods = list(dict.fromkeys(m for row in rows.values() for m in row if m != "memories"))
    for k, method in enumerate(methods):
        for y, row in enumerate(rows.values()):
            if method in row:
                value, (low, high) = row[method]["recall_at_1"], row[method]["interval"]
                axis.errorbar(value, y + 0.13 * (k - 2), xerr=[[value - low], [high - value]], fmt="o", ms=4,
                              color=f"C{k}", label=method if y == 0 else None)
    label = lambda name: f"{name}\n(of {result['recall'][RETOLD]['memories']:,})" if name == RETOLD else name
    axis.set(yticks=range(len(rows)), yticklabels=[label(name) for name in rows], xlim=(-0.03, 1.03),
             ylim=(len(rows) - 0.4, -0.6), xlabel="recall@1", title=f"What a cue finds among {int(size):,} memories")
    axis.legend(fontsize=7, loc="lower left")


def plot_sizes(axis, result: dict) -> None:
    sizes = result["recall"]["memories"]
    for k, name in enumerate(next(iter(sizes.values()))):
        rows = [row[name][FRAME] for row in sizes.values()]
        error_bars(axis, [int(size) for size in sizes], rows, "recall_at_1", fmt="o-" if k < 5 else "s--",
                   color=f"C{k % 10}", label=name)
    ticks = [int(size) for size in sizes]
    axis.set(xscale="log", xticks=ticks, xticklabels=[f"{size:,}" for size in ticks], xlabel="memories",
             ylabel="recall@1", ylim=(-0.03, 1.03), title="The same by whole frames")
    axis.minorticks_off()
    axis.legend(fontsize=7, loc="lower left")


def plot_bits(axis, result: dict) -> None:
    rows = result["bits"]
    error_bars(axis, [int(k) for k in rows], list(rows.values()), "ratio", fmt="o-", color="C0")
    axis.set(xlabel="meaning tiles that the decoder is given", ylabel="bits of the words, of those without any",
             ylim=(0, 1.03), title="What the meaning saves of the words")


def plot_gist(axis, result: dict) -> None:
    columns = (("words", "mean", "story's words\nin the gist"), ("precision", "mean", "gist's words\nin the story"),
               ("nearest", "nearest", f"own story nearest\nof {result['gist']['among']:,}"))
    for k, name in enumerate(("own frame", "another's frame")):
        rows = [result["gist"][name][key] for key, _, _ in columns]
        values = [row[metric] for row, (_, metric, _) in zip(rows, columns, strict=True)]
        x = np.arange(3) + 0.38 * (k - 0.5)
        axis.bar(x, values, 0.36, color=f"C{k}", label=f"gist of {name}")
        axis.vlines(x, *zip(*(row["interval"] for row in rows), strict=True), color="black", lw=1)
    axis.set(xticks=range(3), xticklabels=[label for _, _, label in columns], ylim=(0, 1.03), ylabel="share",
             title="Gists: all words' cells destroyed")
    axis.legend(fontsize=7)


def plot_interpolation(axis, result: dict) -> None:
    rows = {float(name): row for name, row in result["interpolation"].items() if name[0].isdigit()}
    for k, end in enumerate(("first", "second")):
        error_bars(axis, list(rows), [row[end] for row in rows.values()], "mean", fmt="o-", color=f"C{k}",
                   label=f"content words of the {end} story")
    twin = axis.twinx()
    fluency = [row["bits_a_character"] for row in rows.values()]
    twin.plot(list(rows), fluency, "s--", color="C2", label="bits a character")
    twin.axhline(result["interpolation"]["stories"]["bits_a_character"], color="C2", ls=":", label="of real stories")
    twin.set(ylabel="bits a character, language model", ylim=(0, None))
    axis.set(xlabel="share of the second story's meaning", ylabel="share of content words", ylim=(0, 1.03),
             title=f"Texts between {result['interpolation']['pairs']} pairs of neighbours")
    axis.legend(fontsize=7, loc="upper left")
    twin.legend(fontsize=7, loc="upper right")


def plot_erased(axis, result: dict) -> None:
    curves: dict[str, list[dict]] = {}
    for name, row in result["erased"].items():
        curves.setdefault(name.rsplit(", ", 1)[0], []).append(row)
    for k, (name, rows) in enumerate(curves.items()):
        exact = [row["exact_match"] for row in rows]
        axis.plot(ERASED, exact, "o-", ms=4, color=f"C{k}", label=f"{name}: word for word")
        axis.fill_between(ERASED, *zip(*(row["interval"] for row in rows), strict=True), color=f"C{k}", alpha=0.1)
        axis.plot(ERASED, [row["words"]["mean"] for row in rows], "--", color=f"C{k}", label="   content words read")
    control = [row["control"]["mean"] for row in next(iter(curves.values()))]
    axis.plot(ERASED, control, "k:", label="content words, from another text's frame")
    axis.set(xlabel="share of the frame that is erased, a square", ylabel="share", ylim=(-0.03, 1.03),
             title="What is read of what is left")
    axis.legend(fontsize=7)


def plot(result: dict, output_dir: str) -> None:
    panels = [panel for part, found in (("recall", [plot_cues, plot_sizes]), ("bits", [plot_bits]),
                                        ("gist", [plot_gist]), ("interpolation", [plot_interpolation]),
                                        ("erased", [plot_erased])) if result.get(part) for panel in found]
    if not panels:
        remove_figure(output_dir, "meaning")
        return
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(6 * columns, 4.4 * lines)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        panel(axis, result)
        axis.grid(alpha=0.3)
    for axis in axes[len(panels) :]:
        axis.axis("off")
    save_figure(figure, output_dir, "meaning")


# ---- the section ----------------------------------------------------------------------------------------------------


def meaning(subject: Subject, memories: Sequence[int] = MEMORIES, num_samples: int = 300,
            parts: Sequence[str] = PARTS, retellings: str | None = None, sentences: int = 0, batch_size: int = 64,
            seed: int = 0, output_dir: str = "figures") -> dict:
    """Section meaning: {part: figures}. num_samples: texts that are cues, whose bits are counted and whose gists are
    read, -1: all; of them 100 are erased and 30 are interpolated from. retellings: see `read_retellings`. sentences: of
    each text only its first ones, 0: all."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"--parts {' '.join(unknown)}: there are {', '.join(PARTS)}")
    pool = Pool(subject, max(max(memories) if "recall" in parts else 0, NEAREST if "gist" in parts else 0), seed,
                batch_size, sentences)
    count = pool.unseen if num_samples < 0 else min(num_samples, pool.unseen)
    print(f"{pool.unseen:,} whole unseen texts, {len(pool.texts) - pool.unseen:,} training texts as distractors")
    retold = read_retellings(pool, retellings) if "recall" in parts and not sentences else []
    calls = {"recall": lambda: recall(pool, count, memories, retold, seed), "bits": lambda: bits(pool, count, seed),
             "gist": lambda: gist(pool, count), "interpolation": lambda: interpolation(pool, min(PAIRS, count)),
             "erased": lambda: erased(pool, min(MOST_ERASED, count), seed)}
    result = {part: calls[part]() for part in PARTS if part in parts}
    plot(result, output_dir)
    return result
