"""Seconds until unseen texts come back, beside the peers of peers.py: the section quality of bench.py."""

import json
import os
from pathlib import Path

import numpy as np

from wheeler.figures import unwritten
from wheeler.measure.peers import quality_figure, quality_tables, race, stored_runs
from wheeler.measure.step_cost import config_of, precision
from wheeler.measure.timing import machine, say, table
from wheeler.model.tokenizer import vocabulary_size
from wheeler.training.data import build_dataset, get_tokenizer
from wheeler.training.texts import load_texts


def quality(args):
    """Seconds until unseen texts come back: every competitor at every rate is trained for --limit seconds (peers.race).
    Runs gather in the file --results, one by one; the table and the figure show all that are there."""
    sizes = {"grid_size": 32, "d_model": 128, "max_seq_len": 64}
    config, batch_size = config_of(args, **sizes), args.batch_size or 16
    path, (device, dtype, autocast) = Path(args.results), precision(args)
    if args.fp16:
        raise ValueError("--fp16: quality trains in float32, or with --bf16")
    texts = load_texts(args.dataset, "train", args.text_column)
    tokenizer = get_tokenizer(None, texts, config.vocab_size, args.cache_dir)
    config = config_of(args, **sizes, vocab_size=vocabulary_size(tokenizer), bos_token_id=tokenizer.bos_token_id,
                       eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    held = load_texts(args.dataset, "validation", args.text_column)
    data = build_dataset(texts, tokenizer, config.max_seq_len, args.cache_dir, args.long_texts,
                         args.max_train_samples)
    unseen = build_dataset(held, tokenizer, config.max_seq_len, args.cache_dir, args.long_texts)
    full = np.flatnonzero(unseen.lengths == config.max_seq_len)  # windows of full length, from all over the data
    if not len(full):
        raise ValueError(f"--dataset {args.dataset} has no unseen text of --max_seq_len {config.max_seq_len} tokens")
    chosen = full[np.linspace(0, len(full) - 1, min(args.eval_samples, len(full))).astype(int)].tolist()
    settings = {"data": data.content, "unseen": unseen.content, "texts": len(chosen), "config": vars(config),
                "batch_size": batch_size, "device": str(device), "dtype": str(dtype)}
    stored = stored_runs(path)
    if stored and stored["settings"] != settings:
        different = [key for key in settings if stored["settings"].get(key) != settings[key]]
        raise ValueError(f"--results {path} holds runs with another {', '.join(different)}: name another file")
    stored = stored or {"settings": settings, "runs": {}}

    def keep(run):
        key = f"{run['task']}: {run['name']}, lr {run['lr']:g}, seed {run['seed']}, {run['limit']:g} s"
        stored["runs"][key] = run | {"machine": where}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".tmp").write_text(json.dumps(stored))
            os.replace(path.with_suffix(".tmp"), path)
        except OSError as error:                                              # the run took minutes: it is still shown
            say(f"bench.py: --results {path} cannot be written ({error.strerror or error})")
            unwritten.append(path)

    where = machine()
    for name in () if args.draw else args.competitors:
        for lr in args.rates or ([3e-4] if name == "ours" else [3e-4, 1e-3, 3e-3]):
            blank_share = 0.25 if name == "ours" else 0.0  # as train.py has it
            race(name, config, data, unseen, chosen, lr, args.limit, args.eval_every or args.limit / 8, batch_size,
                 args.warmup_steps, args.task, seed=args.seed, device=str(device), autocast=autocast, progress=say,
                 keep=keep, blank_share=blank_share)
    if not stored["runs"]:
        raise ValueError(f"--results {path} holds no runs to draw")
    summary, shown = quality_tables(stored["runs"])
    for one in shown:
        print(one) if isinstance(one, str) else table(one)
    quality_figure(stored["runs"], args.output_dir)
    return {"settings": settings, "summary": summary, "runs": stored["runs"]}
