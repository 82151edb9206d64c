"""Frames written and read a second: the section frames of bench.py."""

import time

import numpy as np

from wheeler.frame.code import FrameCode
from wheeler.measure.metrics import Subject
from wheeler.measure.timing import table, timed


def frames(args):
    """Whole unseen texts of --dataset into frames of --checkpoint and back, in batches of --batch_sizes. All that fit
    must come back, token by token, before anything is timed."""
    subject = Subject(args.checkpoint, args.dataset, args.text_column, "cut", args.cache_dir, "cpu")
    model, most = subject.model, max(args.batch_sizes)
    tokens = [model.tokenizer(text)["input_ids"] for text in subject.stories if text]
    whole = [ids for ids in tokens if len(ids) <= model.config.max_seq_len][:most]
    if len(whole) < most:
        raise ValueError(f"--batch_sizes {most}: --dataset {args.dataset} has only {len(whole)} unseen texts of at "
                         f"most {model.config.max_seq_len} tokens")
    FrameCode(model)                                                          # its functions compile
    start = time.perf_counter()
    code = FrameCode(model)
    build, written = time.perf_counter() - start, code.write(whole)
    pictures = np.stack([one.frame for one in written])
    for ids, one, reading in zip(whole, written, code.read(pictures), strict=True):
        if one.fits != reading.exact or one.fits and reading.ids != ids:
            raise RuntimeError(f"the frame of {ids} is read as {reading.ids}")
    rows = [["batch", "written a second", "read a second"]]
    result = {"texts": most, "tokens_a_text": sum(map(len, whole)) / most, "fit": sum(one.fits for one in written),
              "bits_a_token": sum(one.cost for one in written) / sum(map(len, whole)), "build_s": build}
    for size in args.batch_sizes:
        _, write = timed(lambda size=size: code.write(whole[:size]), model.device, args.repeats)
        _, read = timed(lambda size=size: code.read(pictures[:size]), model.device, args.repeats)
        result[f"batch {size}"] = {"written_a_s": size / write, "read_a_s": size / read}
        rows.append([size, f"{size / write:.1f}", f"{size / read:.1f}"])
    print(f"frames: {most} texts of {result['tokens_a_text']:.0f} tokens, {result['bits_a_token']:.2f} bits a token "
          f"with the checksum, {result['fit']} fit; FrameCode made in {build:.2f} s")
    table(rows)
    return result
