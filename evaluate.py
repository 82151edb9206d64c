"""What a checkpoint can do, with the controls that a sceptic would ask for.

    python evaluate.py --checkpoint checkpoints/best.pt --dataset sample              # section "text"
    python evaluate.py all --checkpoint checkpoints/best.pt --dataset stories.jsonl   # every section, most of an hour
    python evaluate.py lengths disturb --dataset stories.jsonl > new.log              # some of them
    python evaluate.py --compare old.log new.log                                      # two results side by side

    text      texts read back from grid and frame, by length, with controls
    lengths   how much text the attractor of a noisy frame carries
    disturb   noise, erasures, sign flips on frame and grid
    fidelity  noise on frames, collapsed under rule v0.3, beside hash frames
    ticks     frames against ticks of the dynamics
    picture   three texts, collapsed
    space     which cells of the grid carry which words
    geometry  interpolation and arithmetic in the grid
    meaning   what frames know of what a text is about: recall, bits, gists, interpolation, erasures
    pictures  frames sent as pictures in 40 ways, found and read
    films     texts of any length and kind as films of frames

Paths: "grid" reads the text from the grid, free-running, "frame" from the frame alone, which `encode_frame` writes.
Texts: "validation" are unseen texts of the data set, "beginnings" the same cut to 8, 16, ... tokens, "random" are words
of these in random order, "unusual" are made-up names, digits, accents, emoji, code and other scripts. What the scores
mean: wheeler/measure/metrics.py and wheeler/training/scores.py. Tables, figures in <output_dir>, and one JSON object as
the last line. Every section is a function of a `Subject` for a notebook: `text(Subject("checkpoints/best.pt"))`.
"""

import argparse
import inspect
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from wheeler.cli import Parser, complaint, open_console
from wheeler.figures import new_figure, remove_figure, save_figure, unwritten
from wheeler.measure.films import films
from wheeler.measure.meaning import PARTS, meaning
from wheeler.measure.metrics import (
    LENGTHS,
    Subject,
    beginnings,
    evenly,
    first_texts,
    hash_frames,
    hash_memory,
    language_model_bits,
    measure,
    nearest_by_words,
    overlap,
    probe_texts,
    reconstruct_frames,
)
from wheeler.measure.pictures import pictures
from wheeler.measure.probes import geometry, space
from wheeler.measure.survive import disturb, fidelity, lengths, picture, ticks
from wheeler.memory.bits import distances, pack
from wheeler.model.tokenizer import round_trip
from wheeler.training.data import ROUND_TRIP_TEXTS, TokenDataset, add_data_flags
from wheeler.training.scores import PATHS, closed, reconstruct, share, teacher_forced, wilson_interval
from wheeler.training.texts import DataError

TEXTS = ("validation", "beginnings", "random", "unusual")
FIGURES = ("exact_match", "recall_at_1", "recall_at_10", "nearest", "ratio", "mean")           # that --compare shows


# ---- controls -------------------------------------------------------------------------------------------------------


def check_overlap(subject: Subject) -> dict:
    """overlap() of at most 1,000 evaluation texts with what the checkpoint was trained on; prints what it finds. A
    checkpoint that does not say (a packed one): with the training texts of the data set it is measured on."""
    name, missing = subject.flags.get("dataset", subject.dataset), ""
    if not subject.flags or subject.flags.get("init_from"):
        missing = "all that" if subject.flags else "what"
        print(f"warning     the checkpoint does not say {missing} it was trained on: only the "
              f"training texts of {name} are looked through")
    try:
        training = subject.training_stories if name == subject.dataset else first_texts(
            name, subject.flags.get("text_column", "text"))
    except DataError as error:
        print(f"warning     overlap with the training texts was not checked: {error}")
        return {"training": name, "checked": False}
    found = overlap([subject.stories[int(i)] for i in evenly(len(subject.stories), 1000)], training)
    line = (f"{found['exact']} exact and {found['near']} near duplicates of the {found['training_texts']:,} training "
            f"texts ({name}) among {found['n']:,} evaluation texts")
    print(f"{'warning' if found['exact'] + found['near'] else 'overlap':<12}{line}")
    return found | {"training": name, "checked": not missing}


def blank_prediction(subject: Subject, path: str) -> list[int]:
    """What is read where nothing was written: a grid of zeros, a frame of +1."""
    c = subject.model.config
    if path == "frame":
        return subject.code.read(np.ones((1, c.grid_size, c.grid_size), np.float32))[0].ids
    grid = torch.zeros(1, c.grid_size, c.grid_size, c.d_model, device=subject.device)
    return closed(subject.model.decode(grid, return_ids=True), c.max_seq_len, c.eos_token_id)[0]


def lookups(subject: Subject, references: Sequence[list[int]], lookup_samples: int = 512,
            batch_size: int = 64) -> dict[str, list[list[int]]]:
    """Predictions of readers that only know the training texts: what each would answer for the texts."""
    side, training, texts = subject.model.config.grid_size, subject.training, subject.say(references)
    row_of = {text: i for i, text in enumerate(subject.say(training))}
    known = list(row_of)
    memory, found = hash_memory(known, side, side), []
    for start in range(0, len(texts), batch_size):
        found += [r[0].text for r in memory.recall(hash_frames(texts[start : start + batch_size], side, side), k=1)]
    answers = {}
    if "frame" in subject.paths:
        rows = [training[int(i)].tolist() for i in evenly(len(training), lookup_samples)]
        answers[f"nearest of {len(rows)} training frames (Hamming distance of signs)"] = nearest_by_frames(
            subject, references, rows)
    for name, nearest in (("training texts (TF-IDF of the text itself)", [known[i] for i in
                                                                         nearest_by_words(texts, known)]),
                          ("hash frames of training texts (attractors)", found)):
        answers[f"nearest of {len(known):,} {name}"] = [training[row_of[text]].tolist() for text in nearest]
    return answers


def nearest_by_frames(subject: Subject, texts: Sequence[list[int]], known: Sequence[list[int]]) -> list[list[int]]:
    """For each text the known one whose frame has most cells of the same sign; texts are token ids."""
    signs, cues = (pack(np.stack([one.frame for one in subject.code.write(rows)])) for rows in (known, texts))
    distance = np.empty((len(cues), len(signs)), np.int32)
    distances(signs, cues, distance)
    return [known[i] for i in distance.argmin(1)]


# ---- section text ---------------------------------------------------------------------------------------------------


def chosen_texts(subject: Subject, kind: str, num_samples: int = 200, seed: int = 0) -> TokenDataset:
    """The texts of a kind of TEXTS; for "beginnings" num_samples of each length, else num_samples (-1: all)."""
    if kind == "validation":
        return subject.rows([subject.data.row(int(i)) for i in evenly(len(subject.data), num_samples)])
    if kind == "beginnings":
        return subject.rows([row for length in LENGTHS if length <= subject.model.config.max_seq_len // 2
                             for row in beginnings(subject.data, length, num_samples)])
    n = len(subject.stories) if num_samples < 0 else num_samples
    return subject.rows(subject.tokens(probe_texts(kind, n, subject.stories, seed)))


def text(subject: Subject, texts: Sequence[str] = TEXTS, paths: Sequence[str] | None = None, num_samples: int = 200,
         lookup_samples: int = 512, batch_size: int = 64, seed: int = 0, output_dir: str = "figures") -> dict:
    """Section text: {"texts": {"kind/path": figures}, "by_length": {"kind/path/<= tokens": ...}, "controls": ...}."""
    result = {"texts": {}, "by_length": {}, "controls": {}}
    tokenizer = subject.model.tokenizer
    for kind in texts:
        data = chosen_texts(subject, kind, num_samples, seed)
        if not len(data):
            print(f"no texts of the kind {kind}")
            continue
        indices = list(range(len(data)))
        bits, controls = language_model_bits(subject.model, data, indices, batch_size), {}
        references = [data.row(i) for i in indices]
        bucket = [next((b for b in LENGTHS if n <= b), subject.model.config.max_seq_len) for n in data.lengths]
        for path in paths or subject.paths:
            if path == "frame":
                predictions, fits = reconstruct_frames(subject.code, references, batch_size)
                row = measure(references, predictions, tokenizer, bits) | {"fits": sum(fits) / len(fits)}
            else:
                predictions = reconstruct(subject.model, data, indices, path, batch_size, bar=True)[1]
                row = measure(references, predictions, tokenizer, bits)
                row |= teacher_forced(subject.model, data, indices, path, batch_size)
            if kind == "beginnings":                                          # the same stories at every length
                stories = int(np.unique(data.lengths, return_counts=True)[1].max())
                row["interval"] = wilson_interval(round(row["exact_match"] * stories), stories)
            result["texts"][f"{kind}/{path}"] = row | {"mean_tokens": float(data.lengths.mean())}
            for most in sorted(set(bucket)):
                rows = [i for i in indices if bucket[i] == most]
                result["by_length"][f"{kind}/{path}/{most}"] = subject.score([references[i] for i in rows],
                                                                             [predictions[i] for i in rows])
            if kind == "validation":
                # Reading looks at the latent alone: from shuffled latents the same texts are read, shuffled.
                controls |= {f"{path}, blank": [blank_prediction(subject, path)] * len(data),
                             f"{path}, shuffled": predictions[-1:] + predictions[:-1]}
        if kind == "validation":
            controls |= lookups(subject, references, lookup_samples, batch_size)
            result["controls"] = {name: measure(references, p, tokenizer) for name, p in controls.items()}
            seen = set(subject.say(subject.training))
            result["controls"][f"any lookup in {len(subject.training):,} training texts, at most"] = share(
                [r.text in seen for r in references])
        print_text(result, kind)
    plot_text(result, output_dir)
    return result


def print_text(result: dict, kind: str) -> None:
    """The tables of one kind of texts."""
    interval = lambda r: f"{r['exact_match']:>7.2%} ({r['interval'][0]:.2%} - {r['interval'][1]:.2%})"
    rows = {name: r for name, r in result["texts"].items() if name.startswith(kind + "/")}
    print(f"{'texts / read from':<20} {'n':>5} {'tokens':>6}  {'exact match (95%)':<26} {'tokens right':>12} "
          f"{'edit dist.':>10} {'BLEU':>6} {'bits kept, of':>15}  teacher-forced: accuracy, loss")
    for name, r in rows.items():
        forced = (f"{r['teacher_forced_token_accuracy']:.3%}, {r['teacher_forced_loss']:.4f} nats a token"
                  if "teacher_forced_loss" in r else f"-   ({r['fits']:.1%} of the texts fit)")
        print(f"{name:<20} {r['n']:>5} {r['mean_tokens']:>6.1f}  {interval(r):<26} {r['token_accuracy']:>12.3%} "
              f"{r['edit_distance']:>10.4f} {r['bleu']:>6.2f} {r['bits_retained']:>7.0f}, {r['text_bits']:>6.0f}  "
              f"{forced}")
    by_length = {name: r for name, r in result["by_length"].items() if name.startswith(kind + "/")}
    if len({name.split("/")[2] for name in by_length}) > 1:
        for name, r in by_length.items():
            _, path, most = name.split("/")
            print(f"   {path:<10} up to {most:>3} tokens {r['n']:>5}  {interval(r):<26} {r['token_accuracy']:>12.3%}")
    if kind == "validation":
        print(f"BLEU: {next(iter(rows.values()))['bleu_signature']}\ncontrols on these texts:")
        for name, r in result["controls"].items():
            more = f" {r['token_accuracy']:>9.2%} {r['edit_distance']:>10.4f}" if "token_accuracy" in r else ""
            print(f"   {name:<66} {interval(r):<26}{more}")
    sys.stdout.flush()


def plot_text(result: dict, output_dir: str) -> None:
    """Exact match by length, with the controls that any reader could reach."""
    points = {}
    for name, r in result["by_length"].items():
        kind, path, most = name.split("/")
        if kind in ("beginnings", "validation"):
            points.setdefault((kind, path), []).append((int(most), r))
    if not points:
        remove_figure(output_dir, "evaluate_text")
        return
    figure = new_figure(7, 4)
    axis = figure.subplots()
    for i, path in enumerate(dict.fromkeys(path for _, path in points)):
        for kind, style in (("beginnings", "o-"), ("validation", "s--")):
            if (kind, path) in points:
                x, rows = zip(*sorted(points[kind, path], key=lambda p: p[0]), strict=True)
                low, high = zip(*(r["interval"] for r in rows), strict=True)
                y = [r["exact_match"] for r in rows]
                x = [value * (1 + 0.03 * i) for value in x]                   # side by side, not on top of each other
                axis.errorbar(x, y, [np.subtract(y, low), np.subtract(high, y)], fmt=style, color=f"C{i}", ms=4,
                              capsize=2, label=f"{path}, {'whole texts' if kind == 'validation' else kind}")
    ticks = sorted({most for rows in points.values() for most, _ in rows})
    axis.set(xscale="log", xticks=ticks, xticklabels=ticks, xlabel="tokens, up to", ylabel="exact match, free-running",
             ylim=(-0.03, 1.03), title="Unseen texts read back (95% intervals)")
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save_figure(figure, output_dir, "evaluate_text")


# ---- comparing results ----------------------------------------------------------------------------------------------


def read_result(path: str) -> dict:
    """The JSON object in the last line of a file that holds the output of this program."""
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8-sig").strip().splitlines()[-1])
        if not {"identity", "options", "results"} <= result.keys():
            raise ValueError
    except OSError as error:
        raise ValueError(f"--compare {path}: it cannot be read ({error.strerror})") from None
    except (ValueError, IndexError, AttributeError, RecursionError):
        raise ValueError(f"--compare {path}: its last line is not a result of evaluate.py") from None
    return result


def figures(result: dict, name: str = "") -> dict[str, dict]:
    """The rows of a result that hold a share with its interval, by their names, "section/.../row"."""
    own = {name: result} if "interval" in result else {}
    return own | {key: row for part, value in result.items() if isinstance(value, dict)
                  for key, row in figures(value, f"{name}/{part}" if name else part).items()}


def compare(paths: Sequence[str]) -> dict:
    """Print results side by side; ValueError where they do not measure the same thing."""
    results = [read_result(path) for path in paths]
    first = results[0]
    for path, other in zip(paths[1:], results[1:], strict=True):
        for key in ("data", "tokenizer", "long_texts", "max_seq_len"):
            if first["identity"][key] != other["identity"][key]:
                raise ValueError(f"--compare: {paths[0]} and {path} cannot be compared: {key} is "
                                 f"{first['identity'][key]} and {other['identity'][key]}")
        for key in sorted(first["options"].keys() & other["options"].keys()):
            a, b = first["options"][key], other["options"][key]
            if a != b and not key.endswith((".batch_size", ".output_dir")):
                raise ValueError(f"--compare: {paths[0]} and {path} cannot be compared: {key} is {a} and {b}")
    print("\n".join(f"[{i}] {path}: " + ", ".join(f"{k} {r['identity'][k]}" for k in (
        "checkpoint", "weights", "step", "commit")) for i, (path, r) in enumerate(zip(paths, results))))
    rows = [figures(r["results"]) for r in results]
    common = [name for name in rows[0] if all(name in r for r in rows[1:])]
    if not common:
        raise ValueError(f"--compare: {', '.join(paths)} have no figure in common")
    table = {}
    for name in common:
        values = [r[name] for r in rows]
        metric = next(key for key in FIGURES if key in values[0])
        table[name] = [v[metric] for v in values]
        apart = any(a["interval"][0] > b["interval"][1] for a in values for b in values)
        print(f"{name:<90.90} " + "  ".join(
            f"{v[metric]:>7.2%} ({v['interval'][0]:>6.1%} - {v['interval'][1]:>6.1%})" for v in values) +
            ("  intervals apart" if apart else ""))
    return table


# ---- the command ----------------------------------------------------------------------------------------------------

SECTIONS = {"text": text, "lengths": lengths, "disturb": disturb, "fidelity": fidelity, "ticks": ticks,
            "picture": picture, "space": space, "geometry": geometry, "meaning": meaning, "pictures": pictures,
            "films": films}


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="evaluate.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}, all; default: text")
    add_data_flags(parser, training=False)
    parser.add_argument("--checkpoint", default="checkpoints/best.pt", help="file that train.py wrote, or folder")
    parser.add_argument("--compare", nargs="+", metavar="RESULT", help="print results side by side: files with the "
                        "output of this program; refused where they do not measure the same thing")
    parser.add_argument("--device", default=None, help="cpu, cuda ...; default: a GPU if there is one")
    parser.add_argument("--output_dir", default="figures", help="folder for the figures")
    parser.add_argument("--batch_size", type=int, default=64, help="texts read at once")
    parser.add_argument("--seed", type=int, default=0, help="seed of random texts and disturbances")
    group = parser.add_argument_group("what the sections measure; default: each section's own, see its function")
    option = lambda name, text, **more: group.add_argument(f"--{name}", default=None, help=text, **more)
    option("num_samples", "texts (of each kind, of each length), -1 = all", type=int)
    option("texts", "kinds of texts (text)", nargs="+", choices=TEXTS)
    option("paths", "what the text is read from (text); default: both", nargs="+", choices=(*PATHS, "frame"))
    option("lookup_samples", "training texts whose frames are looked up (text)", type=int)
    option("lengths", "tokens (lengths)", type=int, nargs="+")
    option("length", "tokens (disturb, fidelity, ticks, picture, space, geometry)", type=int)
    option("grid_samples", "of the texts, those whose grids are read too (disturb)", type=int)
    option("square", "side of the square that is hidden, cells (space)", type=int)
    option("memories", "how many memories a cue is sought in (meaning)", type=int, nargs="+")
    option("retellings", "JSON lines with line, from 0, of an unseen text and its retelling (meaning)", metavar="FILE")
    option("sentences", "of each text only its first ones (meaning); default: all of it", type=int)
    option("characters", "of a text that is no story, at most (films)", type=int)
    option("parts", "parts of a section (meaning); default: all", nargs="+", choices=PARTS)
    return parser


OPTIONS = ("num_samples", "texts", "paths", "lookup_samples", "lengths", "length", "grid_samples", "square",
           "memories", "retellings", "sentences", "characters", "parts")


def check_flags(args: argparse.Namespace, functions: dict) -> None:
    """ValueError that names the flag, its value and its limit."""
    for name, low in (("num_samples", 1), ("lookup_samples", 1), ("grid_samples", 0), ("batch_size", 1),
                      ("seed", 0), ("square", 1), ("length", 2),
                      ("sentences", 1), ("characters", 100)):
        value = getattr(args, name)
        if value is not None and value < low and (name, value) != ("num_samples", -1):
            raise ValueError(f"--{name} {value} must be at least {low}{', or -1' * (name == 'num_samples')}")
    for name, values, low in (("lengths", args.lengths, 2), ("memories", args.memories, 2)):
        for value in values or ():
            if value < low:
                raise ValueError(f"--{name} {value} must be at least {low}")
    if args.retellings and not Path(args.retellings).is_file():
        raise ValueError(f"--retellings {args.retellings}: no such file")
    for name in OPTIONS:
        if getattr(args, name) is not None and not any(name in inspect.signature(f).parameters
                                                       for f in functions.values()):
            raise ValueError(f"--{name} means nothing to {', '.join(functions)}")


def check_lengths(args: argparse.Namespace, limit: int) -> None:
    for value in (*(args.lengths or ()), *([args.length] if args.length else ())):
        if value > limit:
            raise ValueError(f"lengths must be in 2 .. max_seq_len = {limit}, not {value}")


def main(argv: list[str] | None = None) -> int:
    open_console()
    args, results, options, code = build_parser().parse_intermixed_args(argv), {}, {}, 0
    unwritten.clear()
    try:
        if args.compare:
            print(json.dumps(compare(args.compare)))
            return 0
        names = list(dict.fromkeys(args.sections or ["text"]))
        for name in names:
            if name not in (*SECTIONS, "all"):
                raise ValueError(f"no section {name!r}; there are {', '.join(SECTIONS)} and all")
        functions = {name: SECTIONS[name] for name in (SECTIONS if "all" in names else names)}
        check_flags(args, functions)
        try:
            Path(args.output_dir).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"--output_dir {args.output_dir}: cannot be written ({error.strerror})") from None
        subject = Subject(args.checkpoint, args.dataset, args.text_column, args.long_texts, args.cache_dir, args.device)
        check_lengths(args, subject.model.config.max_seq_len)
        identity = subject.identity()
        print(f"checkpoint  {identity['checkpoint']}, weights {identity['weights']}, step {identity['step']}\n"
              f"data        {args.dataset}: {len(subject.data):,} unseen texts, fingerprint {identity['data']}, "
              f"tokenizer {identity['tokenizer']}\ncommit      {identity['commit']}, seed {args.seed}", flush=True)
        note = round_trip(subject.model.tokenizer, subject.stories[:ROUND_TRIP_TEXTS])
        if note:
            print(f"warning     {note}", flush=True)
        found = check_overlap(subject)
        for name, function in functions.items():
            known = inspect.signature(function).parameters
            given = {key: value for key, value in vars(args).items() if key in known and value is not None}
            print(f"---- {name}", flush=True)
            start = time.monotonic()
            try:
                results[name] = function(subject, **given)
            except (ValueError, OSError) as error:                            # the other sections are worth having
                print(f"evaluate.py: {name}: {complaint(error)}", file=sys.stderr)
                code = 2
                continue
            options |= {f"{name}.{key}": value.default for key, value in known.items() if key != "subject"}
            options |= {f"{name}.{key}": value for key, value in given.items()}
            print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    except KeyboardInterrupt:
        print("evaluate.py: stopped", file=sys.stderr)
        code = 130
    except (ValueError, OSError) as error:                                    # others are bugs and keep their traceback
        print(f"evaluate.py: {complaint(error)}", file=sys.stderr)
        return 2
    if results:                                                               # also when stopped: of what was finished
        print(json.dumps({"identity": identity, "seed": args.seed, "overlap": found, "options": options,
                          "results": results}, allow_nan=False))
    return code or (2 if unwritten else 0)


if __name__ == "__main__":
    sys.exit(main())
