"""Speed and cost of Wheeler AI on this machine, beside what else one could take (wheeler/measure/peers.py).

    python bench.py                            # the sections of a few minutes: dynamics torch recall model step encode
                                               # decode survival capacity
    python bench.py step encode decode         # training step, encoding, decoding: ours and the peers, ratios
    python bench.py step --device cuda --bf16 --compile --batch_size 64         # the same on a GPU
    python bench.py growth                     # cost against text length, grid size and batch size; a figure
    python bench.py quality --dataset stories  # time to quality, one run a competitor and rate; a figure
    python bench.py quality --dataset stories --competitors cells --rates 1e-3  # one of them; the figure grows by it
    python bench.py recall --million --int8    # recall at 1M memories too (minutes, 1.5 GB; 4 GB more with --int8)
    python bench.py store                      # 10,000 memories saved, exported, imported; recall of a text
    python bench.py frames --dataset stories --batch_sizes 1 32                 # frames written and read a second
    python bench.py times                      # hours an epoch of TinyStories: this CPU measured, GPUs by roofline
    python bench.py memory --batch_sizes 2 8   # what a training step takes beyond the weights, by flags of train.py

A table for people, then one JSON line for scripts. Every answer is checked before it is timed; warm-up and compilation
are timed apart. A section is a function of the flags in wheeler/measure/ that prints its table and returns a dict for
the JSON line: add one to SECTIONS. In a notebook: `bench.step(bench.options(batch_size=4))`.
"""

import argparse
import json
import math
import sys

from wheeler.cli import Parser, complaint, open_console
from wheeler.figures import unwritten
from wheeler.measure.frame_cost import frames
from wheeler.measure.patterns import capacity, survival
from wheeler.measure.peers import NAMES
from wheeler.measure.quality import quality
from wheeler.measure.speed import dynamics, recall, store, torch
from wheeler.measure.step_cost import decode, encode, growth, memory, model, step, times
from wheeler.measure.timing import machine, say
from wheeler.training.data import add_data_flags

SECTIONS = {function.__name__: function for function in (
    dynamics, torch, recall, model, step, encode, decode, growth, quality, survival, capacity, times, memory,
    frames, store)}
SLOW = ("growth", "quality", "times", "memory", "frames", "store")  # only when named: many minutes, or for one question


def _number(kind, low, name):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} must be {name} of at least {low}")
        return value

    return parse


def build_parser():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                    usage="python bench.py [section ...] [--flag value ...]     (--help explains all of them)")
    count, natural, positive = (_number(int, 1, "a whole number"), _number(int, 0, "a whole number"),
                                _number(float, 1e-9, "a number"))
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; default all but {', '.join(SLOW)}")
    parser.add_argument("--output_dir", default="figures", help="folder for the figures")
    parser.add_argument("--seed", type=natural, default=0, help="survival, quality, store: seed")
    group = parser.add_argument_group("model and peers: step, encode, decode, growth, quality")
    group.add_argument("--competitors", nargs="+", choices=NAMES, default=["ours", "cells", "t5"], metavar="NAME",
                       help=f"of {', '.join(NAMES)} (wheeler/measure/peers.py); default ours cells t5")
    group.add_argument("--grid_size", type=count, help="side of the grid, cells; default 64, quality 32")
    group.add_argument("--d_model", type=count, help="channels of a cell; default 256, quality 128")
    group.add_argument("--max_seq_len", type=count, help="tokens of a text; default 256, quality 64")
    group.add_argument("--batch_size", type=count, help="texts a step; default 2, quality 16")
    group.add_argument("--repeats", type=count, default=5, help="timed calls, the best counts; fewer if slow")
    group.add_argument("--device", default="auto", help="cpu, cuda ...; auto: a GPU if there is one; memory too")
    group.add_argument("--fp16", action="store_true", help="float16 autocast, with loss scaling in step")
    group.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    group.add_argument("--compile", action="store_true", help="step, growth: torch.compile")
    group.add_argument("--point_limit", type=positive, default=10.0,
                       help="growth: no larger size after a step of so many seconds")
    add_data_flags(parser)
    parser.set_defaults(long_texts="split")
    group = parser.add_argument_group("time to quality")
    group.add_argument("--task", choices=("copy", "language"), default="copy",
                       help="texts from their latents, or as a language model")
    group.add_argument("--limit", type=positive, default=300.0, help="seconds of training of each run")
    group.add_argument("--rates", type=positive, nargs="+", help="learning rates; default 3e-4 1e-3 3e-3, ours 3e-4")
    group.add_argument("--warmup_steps", type=natural, default=20, help="steps of linear warm-up")
    group.add_argument("--eval_every", type=positive, help="seconds between readings; default an eighth of --limit")
    group.add_argument("--eval_samples", type=count, default=128, help="unseen texts of a reading")
    group.add_argument("--results", default="figures/quality.json", help="file in which the runs gather")
    group.add_argument("--draw", action="store_true", help="train nothing: table and figure of what is in --results")
    group = parser.add_argument_group("cost of training and of frames: times, memory, frames")
    group.add_argument("--measure", action=argparse.BooleanOptionalAction, default=True,
                       help="times: measure this CPU too (minutes)")
    group.add_argument("--batch_sizes", type=count, nargs="+", default=[8, 32], help="memory, frames: texts a batch")
    group.add_argument("--checkpoint", default="checkpoints/best.pt",
                       help="frames, store: model, default the one in the box")
    group.add_argument("--grid_sizes", type=count, nargs="+", default=[32, 64], help="memory: sides of the grid, cells")
    group = parser.add_argument_group("dynamics, recall, structure")
    group.add_argument("--frames", type=count, default=64, help="dynamics: frames in the batch")
    group.add_argument("--million", action="store_true", help="recall: measure 1,000,000 memories too")
    group.add_argument("--int8", action="store_true", help="recall: also int8 at 1,000,000 (4 GB)")
    group.add_argument("--dir", help="recall, store: where to put the temporary store (default: the system's)")
    group.add_argument("--memories", type=count, default=10_000, help="store: memories")
    group.add_argument("--patterns", type=count, default=20, help="survival: patterns of each kind")
    group.add_argument("--widest", type=_number(int, 4, "a whole number"), default=10, help="capacity: widest ring")
    return parser


def options(**changes):
    """The flags' defaults, with changes: what a section takes, for notebooks."""
    args = build_parser().parse_args([])
    unknown = changes.keys() - vars(args).keys()
    if unknown:
        raise ValueError(f"there is no option {min(unknown)!r}")
    return argparse.Namespace(**vars(args) | changes)


def main(argv=None):
    open_console()
    parser = build_parser()
    args = parser.parse_args(argv)
    unknown = [name for name in args.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    if args.fp16 and args.bf16:
        parser.error("--fp16 and --bf16 exclude each other")
    results, code = {}, 0
    unwritten.clear()
    for name in args.sections or [name for name in SECTIONS if name not in SLOW]:
        try:
            results[name] = SECTIONS[name](args)
        except KeyboardInterrupt:
            say("bench.py: stopped")
            code = 130
            break
        except (ValueError, OSError, MemoryError) as error:  # others are bugs and keep their traceback
            say(f"bench.py: {name}: {complaint(error)}")
            code = 2
    if results:  # also when one failed: of those that were finished
        print(json.dumps({"machine": machine(), **results}, default=float))
    return code or (2 if unwritten else 0)


if __name__ == "__main__":
    sys.exit(main())
