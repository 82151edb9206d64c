"""Speed and cost of the parts, each section by its name; without a name, all that a laptop does in a few minutes.

    python bench.py model          # parameters, GFLOP by part, seconds and memory of a training step
    python bench.py decode         # 256 tokens with the key/value cache and without

A table for people, then one JSON line for scripts, the last line of the output: hardware, versions, commit, figures.
Times are medians after a warm-up; compile time stands apart.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models import WheelerConfig, WheelerTextAutoencoder, round_up
from train import git_commit


def median_seconds(function, repeats: int = 5, warmup: int = 1) -> float:
    """Median wall-clock seconds of a call."""
    times = []
    for i in range(warmup + repeats):
        start = time.perf_counter()
        function()
        if i >= warmup:
            times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def random_ids(config: WheelerConfig, rows: int) -> torch.Tensor:
    return torch.randint(3, config.vocab_size, (rows, config.max_seq_len), generator=torch.Generator().manual_seed(0))


def training_step(model: WheelerTextAutoencoder, ids: torch.Tensor, frame_rows: int, optimizer=None) -> None:
    logits, _ = model(ids, frame_rows=frame_rows)
    F.cross_entropy(logits.float().flatten(0, 1), ids.flatten()).backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def gflop_by_part(model: WheelerTextAutoencoder) -> dict[str, float]:
    """GFLOP of one sample of max_seq_len tokens. Attention counts as plain matrix products (the counter does not know
    the fused CPU kernel). `total` is forward + backward of a sample from the grid, `total_frame` of one from the frame;
    the parts are forward only."""
    ids, rows = random_ids(model.config, 4), 4  # a few rows, since positional codes are computed once a batch
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            model(ids)
        name = type(model).__name__
        count = lambda part: sum(counter.get_flop_counts().get(f"{name}.{part}", {}).values()) / rows / 1e9
        c = model.config
        parts = {"encoder": count("encoder"), "patches": count("patches.unfold") + count("patches.fold"),
                 "vocabulary head": 2 * c.max_seq_len * c.d_model * round_up(c.vocab_size) / 1e9}
        parts["decoder"] = counter.get_total_flops() / rows / 1e9 - sum(parts.values())
        for key, frame_rows in (("total", 0), ("total_frame", rows)):
            with FlopCounterMode(display=False) as counter:
                training_step(model, ids, frame_rows)
            parts[key] = counter.get_total_flops() / rows / 1e9
    return parts


def _step_worker(threads: int, rows: int, queue) -> None:
    """In a process of its own, so that the peak memory is this configuration's alone."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = WheelerTextAutoencoder(WheelerConfig())
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = random_ids(model.config, rows)
    seconds = median_seconds(lambda: training_step(model, ids, rows // 2, optimizer))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss                 # KiB on Linux
    queue.put((seconds, peak / 2**20, (peak - before) / 2**20))


def bench_model(args: argparse.Namespace) -> dict:
    """Default model: parameters and GFLOP by part, one training step (half the rows from the frame) at batch 2."""
    torch.manual_seed(0)
    model = WheelerTextAutoencoder(WheelerConfig())
    parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    flops = gflop_by_part(model)
    result = {"parameters": sum(parameters.values()), "parameters_by_part": parameters, "gflop": flops, "step": {}}
    print(f"default model: {result['parameters'] / 1e6:.2f}M parameters (" +
          ", ".join(f"{name} {count / 1e6:.2f}M" for name, count in parameters.items()) + ")")
    print(f"one 256-token sample, forward + backward: {flops['total']:.1f} GFLOP from the grid, "
          f"{flops['total_frame']:.1f} from the frame; forward by part: " +
          ", ".join(f"{name} {value:.2f}" for name, value in flops.items() if not name.startswith("total")))
    context = multiprocessing.get_context("spawn")
    for threads in sorted({1, os.cpu_count() or 1}):
        queue = context.Queue()
        process = context.Process(target=_step_worker, args=(threads, 2, queue))
        process.start()
        seconds, peak, _ = queue.get()
        process.join()
        rate = 2 * (flops["total"] + flops["total_frame"]) / 2 / seconds
        result["step"][f"{threads}_threads"] = {"seconds": seconds, "peak_gib": peak, "gflop_per_s": rate}
        print(f"training step at batch 2, {threads} thread{'s' * (threads > 1)}: {seconds:.2f} s ({rate:.0f} GFLOP/s), "
              f"peak memory of the process {peak:.2f} GiB")
    return result


def bench_decode(args: argparse.Namespace) -> dict:
    """Default model: 256 tokens with the key/value cache and without, the same tokens both times."""
    torch.manual_seed(0)
    model = WheelerTextAutoencoder(WheelerConfig()).eval()
    ids = random_ids(model.config, 1)  # no end token: all 256 positions are decoded
    grid = model.encode(ids)
    run = lambda use_cache, grid=grid: model.decode(grid, use_cache=use_cache, return_ids=True)
    if not run(True) == run(False) == ids.tolist():
        raise SystemExit("bench.py: cached and full decoding differ")
    cached, full = median_seconds(lambda: run(True), 3), median_seconds(lambda: run(False), 1, warmup=0)
    many = model.encode(random_ids(model.config, 64))
    batched = median_seconds(lambda: run(True, many), 1)
    result = {"tokens": 256, "cached_s": cached, "full_s": full, "ratio": full / cached,
              "tokens_per_s": 256 / cached, "tokens_per_s_batch_64": 64 * 256 / batched}
    print(f"decoding 256 tokens, batch 1: {cached:.2f} s with the cache, {full:.1f} s without: {full / cached:.1f} "
          f"times, same tokens; {256 / cached:.0f} tokens/s, {64 * 256 / batched:,.0f} at batch 64")
    return result


SECTIONS = {"model": bench_model, "decode": bench_decode}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    args = parser.parse_args(argv)
    for name in args.sections:
        if name not in SECTIONS:
            parser.error(f"no section {name!r}; there are {', '.join(SECTIONS)}")
    results = {name: SECTIONS[name](args) for name in args.sections or SECTIONS}
    print(json.dumps({"commit": git_commit(), "processor": platform.processor() or platform.machine(),
                      "cores": os.cpu_count(), "torch": torch.__version__, "python": platform.python_version(),
                      **results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
