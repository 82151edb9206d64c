"""Frames written and read a second: the section frames of bench.py."""

import time

import numpy as np

from wheeler.frame.code import FrameCode
from wheeler.measure.metrics import Subject
from wheeler.measure.timing import table, timed


def frames(args):
    """Whole unseen texts of --dataset that fit into frames of --checkpoint, and back, in batches of --batch_sizes. Each
    must come back, token by token, before anything is timed."""
    subject = Subject(args.checkpoint, args.dataset, args.text_column, "cut", args.cache_dir, "cpu")
    model, most = subject.model, max(args.batch_sizes)
    tokens = [model.tokenizer(text)["input_ids"] for text in subject.stories if text]
    whole = [ids for ids in tokens if len(ids) <= model.config.max_seq_len]
    FrameCode(model)                                                          # its functions compile
    start = time.perf_counter()
    code = FrameCode(model)
    build, tried, written = time.perf_counter() - start, 0, []
    while len(written) < most and tried < len(whole):                         # a gist costs other work: left out
        written += [one for one in code.write(whole[tried : tried + most]) if one.fits]
        tried += most
    if len(written) < most:
        raise ValueError(f"--batch_sizes {most}: of the unseen texts of --dataset {args.dataset} only {len(written)} "
                         "fit into a frame")
    written, pictures = written[:most], np.stack([one.frame for one in written[:most]])
    for one, reading in zip(written, code.read(pictures), strict=True):
        if not reading.exact or reading.ids != one.ids:
            raise RuntimeError(f"the frame of {one.ids} is read as {reading.ids}")
    rows, texts = [["batch", "written a second", "read a second"]], [one.ids for one in written]
    count = sum(map(len, texts))
    result = {"texts": most, "tokens_a_text": count / most, "bits_a_token": sum(one.cost for one in written) / count,
              "build_s": build}
    for size in args.batch_sizes:
        _, write = timed(lambda size=size: code.write(texts[:size]), model.device, args.repeats)
        _, read = timed(lambda size=size: code.read(pictures[:size]), model.device, args.repeats)
        result[f"batch {size}"] = {"written_a_s": size / write, "read_a_s": size / read}
        rows.append([size, f"{size / write:.1f}", f"{size / read:.1f}"])
    print(f"frames: {most} texts of {result['tokens_a_text']:.0f} tokens that fit, {result['bits_a_token']:.2f} bits a "
          f"token with the checksum; FrameCode made in {build:.2f} s")
    table(rows)
    return result
