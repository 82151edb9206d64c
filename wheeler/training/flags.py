"""The flags of train.py: what they are, what they may be, and what a checkpoint has to say about them."""

import argparse
import math
import os
from pathlib import Path

import torch

from models import WheelerTextAutoencoder
from wheeler.cli import Parser, brief
from wheeler.model.checkpoint import announce, find_checkpoint, read_checkpoint
from wheeler.model.config import WheelerConfig
from wheeler.model.tokenizer import LEAST_VOCABULARY, MOST_VOCABULARY
from wheeler.training.data import add_data_flags
from wheeler.training.run_folder import UsageError

MODEL_FLAGS = ("grid_size", "d_model", "patch_size", "max_seq_len", "encoder_layers", "grid_layers", "decoder_layers",
               "num_heads", "dropout", "aligned_start")
ORDER_FLAGS = ("batch_size", "accumulation_steps", "seed")  # what decides which texts a step sees
TRAINING_STATE = {"step", "skipped", "optimizer", "scaler", "rng", "flags", "data_content"}


def int_or_auto(text: str) -> int | str:
    return text if text == "auto" else int(text)


def build_parser(description: str | None = None) -> argparse.ArgumentParser:
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter,
                    usage="python train.py [--flag value ...]     (--help explains all of them)")
    c = WheelerConfig
    group = parser.add_argument_group("model")
    group.add_argument("--grid_size", type=int, default=c.grid_size, help="side of the grid, cells")
    group.add_argument("--d_model", type=int, default=c.d_model, help="channels of a grid cell, width of the model")
    group.add_argument("--patch_size", type=int, default=None,
                       help="side of a patch, cells; default: the largest with a patch for every token")
    group.add_argument("--max_seq_len", type=int, default=c.max_seq_len, help="tokens of the longest text")
    group.add_argument("--encoder_layers", type=int, default=c.encoder_layers, help="layers over the text")
    group.add_argument("--grid_layers", type=int, default=c.grid_layers, help="self-attention layers over the patches")
    group.add_argument("--decoder_layers", type=int, default=c.decoder_layers, help="layers of the decoder")
    group.add_argument("--num_heads", type=int, default=None, help="attention heads; default: d_model / 64")
    group.add_argument("--dropout", type=float, default=c.dropout, help="probability, 0 = off")
    group.add_argument("--aligned_start", action=argparse.BooleanOptionalAction, default=c.aligned_start,
                       help="start as an identity from token to patch to token; off: the usual random start")
    group.add_argument("--teacher", default=None,
                       help="folder or hub name of a sentence encoder whose embeddings start the vectors of tokens in "
                            "the meaning, as all-MiniLM-L6-v2; default: random vectors")
    group.add_argument("--vocab_size", type=int, default=c.vocab_size, help="size of a tokenizer trained here")
    group.add_argument("--tokenizer", default=None, help="folder or hub name; default: train one on the data")
    add_data_flags(parser)
    parser.add_argument("--streaming", action=argparse.BooleanOptionalAction, default=False,
                        help="read the data while training, in blocks of 10,000 texts, each shuffled by itself, and "
                             "cache nothing: for data sets larger than the disk; needs --max_steps")
    group = parser.add_argument_group("training")
    group.add_argument("--batch_size", type=int_or_auto, default=32,
                       help="texts a batch, all processes together; auto: the most that fit into the memory")
    group.add_argument("--accumulation_steps", type=int, default=1, help="batches an optimizer step")
    group.add_argument("--epochs", type=int, default=10, help="passes over the training texts")
    group.add_argument("--max_steps", type=int, default=-1, help="optimizer steps, -1 = as many as --epochs gives")
    group.add_argument("--lr", type=float, default=3e-4, help="peak learning rate")
    group.add_argument("--warmup_steps", type=int, default=100, help="steps of linear warm-up, then cosine to a tenth")
    group.add_argument("--weight_decay", type=float, default=0.01, help="AdamW, on matrices only")
    group.add_argument("--grad_clip", type=float, default=1.0, help="largest gradient norm, 0 = off")
    group.add_argument("--meaning_share", type=float, default=0.375,
                       help="share of a batch decoded from the text's meaning tiles, a random number of them")
    group.add_argument("--blank_share", type=float, default=0.25,
                       help="share of a batch decoded without grid and tiles, as a language model")
    group.add_argument("--random_text_share", type=float, default=0.1,
                       help="share of texts replaced by random tokens, which teach copying of the unseen, 0 to 1")
    group.add_argument("--unusual_text_share", type=float, default=0.02,
                       help="share of all texts replaced by made-up ones in letters of many scripts, digits and "
                            "symbols, which teach what these cost, 0 to 1")
    group.add_argument("--seed", type=int, default=0, help="seed of weights, data order and dropout")
    group = parser.add_argument_group("hardware")
    group.add_argument("--device", default=None, help="cpu, cuda, cuda:1 ...; default: a GPU if there is one")
    group.add_argument("--fp16", action=argparse.BooleanOptionalAction, default=False,
                       help="float16 autocast with loss scaling")
    group.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=False, help="bfloat16 autocast")
    group.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False, help="torch.compile")
    group.add_argument("--grad_checkpointing", action=argparse.BooleanOptionalAction, default=False,
                       help="compute inner results of the layers twice instead of keeping them: less memory")
    group.add_argument("--num_workers", type=int, default=0, help="processes that prepare batches")
    group = parser.add_argument_group("watching and saving")
    group.add_argument("--output_dir", default="checkpoints", help="folder for checkpoints and logs")
    group.add_argument("--resume", nargs="?", const="", default=None, metavar="CHECKPOINT",
                       help="go on from a checkpoint (default <output_dir>/last.pt), in its folder and with its flags "
                            "where none is given")
    group.add_argument("--init_from", default=None, metavar="CHECKPOINT",
                       help="start a new run from the weights, tokenizer and sizes of a checkpoint, a run folder (its "
                            "best.pt) or a folder of save_pretrained")
    group.add_argument("--eval_every", type=int, default=500, help="steps between evaluations, -1 = first and last")
    group.add_argument("--eval_samples", type=int, default=128, help="unseen texts an evaluation reads back")
    group.add_argument("--show_samples", type=int, default=3, help="of these, how many are printed")
    group.add_argument("--save_every", type=int, default=500, help="steps between saves of last.pt, -1 = at the end")
    group.add_argument("--log_every", type=int, default=10, help="steps between lines of metrics.jsonl")
    group.add_argument("--wandb", action=argparse.BooleanOptionalAction, default=False,
                       help="also log to Weights & Biases; a run that is resumed goes on there")
    group.add_argument("--wandb_project", default="wheeler-ai", help="project name there")
    group.add_argument("--plot", nargs="+", metavar="RUN", default=None,
                       help="draw the curves of these run folders to curves.png in the first and exit")
    group.add_argument("--prepare", action="store_true",
                       help="tokenize the data set (the default one is downloaded), say what a run would train on and "
                            "exit")
    group.add_argument("--doctor", action="store_true", help="check this machine with the other flags and exit")
    return parser


def check_flags(args: argparse.Namespace) -> None:
    """UsageError that names the flag, its value and its limit."""
    for name in ("batch_size", "accumulation_steps", "epochs", "log_every", "eval_samples"):
        if getattr(args, name) != "auto" and getattr(args, name) < 1:
            raise UsageError(f"--{name} {getattr(args, name)} must be at least 1")
    for name in ("max_steps", "eval_every", "save_every", "max_train_samples"):
        if getattr(args, name) == 0 or getattr(args, name) < -1:
            raise UsageError(f"--{name} {getattr(args, name)} must be at least 1, or -1")
    for name in ("warmup_steps", "weight_decay", "grad_clip", "num_workers", "seed", "show_samples"):
        if not getattr(args, name) >= 0:
            raise UsageError(f"--{name} {getattr(args, name)} must not be negative")
    for name in ("meaning_share", "blank_share", "random_text_share", "unusual_text_share"):
        if not 0 <= getattr(args, name) <= 1:
            raise UsageError(f"--{name} {getattr(args, name)} must be in 0 .. 1")
    if args.meaning_share + args.blank_share > 1:
        raise UsageError(f"--meaning_share {args.meaning_share} and --blank_share {args.blank_share} add up to more "
                         "than 1")
    trained_here = args.tokenizer is args.init_from is args.resume is None
    for name, low in (("max_seq_len", 2), ("vocab_size", LEAST_VOCABULARY if trained_here else 1)):
        if not low <= getattr(args, name) <= MOST_VOCABULARY:
            raise UsageError(f"--{name} {getattr(args, name)} must be in {low} .. {MOST_VOCABULARY}")
    if not 0 < args.lr < math.inf:
        raise UsageError(f"--lr {args.lr} must be positive and finite")
    if args.weight_decay == math.inf:
        raise UsageError(f"--weight_decay {args.weight_decay} must be finite")
    if args.seed >= 2**63:
        raise UsageError(f"--seed {args.seed} must be below 2**63")
    WheelerConfig(**{name: getattr(args, name) for name in MODEL_FLAGS})      # says what is wrong before data is read
    if args.fp16 and args.bf16:
        raise UsageError("--fp16 and --bf16 exclude each other")
    if args.teacher and (args.streaming or not trained_here or not args.aligned_start):
        raise UsageError(f"--teacher {args.teacher} sets the start of a new model: it does not go with --resume, "
                         "--init_from, --tokenizer, --no-aligned_start and --streaming")
    if args.streaming and args.max_steps < 0:
        raise UsageError("--streaming needs --max_steps: how many texts there are is known only at their end")
    if args.streaming and args.num_workers:
        raise UsageError(f"--streaming prepares texts in a thread of its own: --num_workers {args.num_workers} must be "
                         "0")


def stored_flags(parser: argparse.ArgumentParser, flags: dict) -> dict:
    """The flags of a checkpoint that there still are, each of the type that the command line gives it."""
    kept = {}
    for action in parser._actions:
        if action.dest not in flags or action.dest in ("resume", "plot", "doctor", "prepare"):
            continue
        value, kind = flags[action.dest], bool if isinstance(action.default, bool) else action.type or str
        kinds = {int_or_auto: (int,), float: (float, int)}.get(kind, (kind,))
        if type(value) not in kinds and not (value is None and action.default is None):
            raise UsageError(f"the checkpoint is damaged: its flag --{action.dest} is {brief(value)}")
        kept[action.dest] = value
    return kept


def plain(config) -> bool:
    """Whether the config of a checkpoint is a dict of values that can be compared: a tensor cannot."""
    return isinstance(config, dict) and not any(isinstance(value, torch.Tensor) for value in config.values())


def read_start(path: str) -> dict:
    """The checkpoint dict for --init_from: of a file, of a run folder's best.pt (see `find_checkpoint` for what stands
    in for one that is not there), or of a save_pretrained folder."""
    folder = Path(path)
    found = find_checkpoint(folder / "best.pt" if folder.is_dir() and not (folder / "config.json").is_file() else path)
    if found.is_dir():
        return WheelerTextAutoencoder.load_from_checkpoint(path if found == folder else found).to_checkpoint()
    announce(found if folder.is_dir() else path, found)
    checkpoint = read_checkpoint(found)
    if not isinstance(checkpoint, dict) or not plain(checkpoint.get("config")):
        raise UsageError(f"--init_from {path}: it is not a checkpoint of this project")
    try:
        WheelerConfig(**checkpoint["config"])
    except (ValueError, TypeError) as error:
        raise UsageError(f"--init_from {path}: its config is damaged ({error})") from None
    return checkpoint


def parse(argv: list[str] | None, say=print, description: str | None = None) -> tuple[argparse.Namespace, dict | None]:
    """Flags, and the checkpoint to resume or start from: its flags or sizes are the defaults, those typed win."""
    parser = build_parser(description)
    args, checkpoint = parser.parse_args(argv), None
    if args.plot:
        pass
    elif args.resume is not None:
        if args.init_from is not None:
            raise UsageError("--resume and --init_from exclude each other: go on with a run, or start a new one")
        path = args.resume or os.path.join(args.output_dir, "last.pt")
        path = os.path.join(path, "last.pt") if os.path.isdir(path) else path
        checkpoint = read_checkpoint(path)
        state = checkpoint.get("training") if isinstance(checkpoint, dict) else None
        if (not isinstance(state, dict) or not TRAINING_STATE <= state.keys() or not isinstance(state["flags"], dict)
                or not plain(checkpoint.get("config"))):
            raise UsageError(f"--resume {path}: it has no state of training, so it is not from train.py")
        known = stored_flags(parser, state["flags"]) | {"output_dir": os.path.dirname(path) or "."}
        for typed, other in (("fp16", "bf16"), ("bf16", "fp16")):
            if getattr(args, typed):
                known[other] = False
        parser.set_defaults(**known)
        args = parser.parse_args(argv)
        args.resume = path
        fixed = {name: checkpoint["config"].get(name, getattr(WheelerConfig, name, None)) for name in MODEL_FLAGS}
        fixed |= {name: state["flags"].get(name) for name in ("tokenizer", "vocab_size")}
        for name, value in fixed.items():
            if getattr(args, name) not in (None, value):
                raise UsageError(f"--{name} {getattr(args, name)} does not fit the checkpoint, which has {value}")
        for name in ORDER_FLAGS:
            if getattr(args, name) != state["flags"].get(name):
                say(f"note        --{name} {getattr(args, name)} was {state['flags'].get(name)}: from here on the "
                    "texts come in another order, as if it had always been so")
    elif args.init_from is not None:
        checkpoint = read_start(args.init_from)
        fixed = {name: checkpoint["config"].get(name, getattr(WheelerConfig, name))
                 for name in (*MODEL_FLAGS, "vocab_size") if name != "dropout"}
        parser.set_defaults(**fixed, tokenizer=None)
        args = parser.parse_args(argv)
        for name, value in (fixed | {"tokenizer": None}).items():
            if getattr(args, name) not in (None, value):
                raise UsageError(f"--{name} {getattr(args, name)} does not fit --init_from {args.init_from}, which has "
                                 f"{'its own' if name == 'tokenizer' else value}")
        checkpoint["config"]["dropout"] = args.dropout
    check_flags(args)
    return args, checkpoint
