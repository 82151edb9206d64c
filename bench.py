"""Speed and cost of Wheeler AI on this machine, beside what else one could take (peers.py).

    python bench.py                            # the sections of a few minutes: dynamics torch recall model step encode
                                               # decode survival capacity
    python bench.py step encode decode         # training step, encoding, decoding: ours and the peers, ratios
    python bench.py step --device cuda --bf16 --compile --batch_size 64         # the same on a GPU
    python bench.py growth                     # cost against text length, grid size and batch size; a figure
    python bench.py quality --dataset stories  # time to quality, one run a competitor and rate; a figure
    python bench.py quality --dataset stories --competitors cells --rates 1e-3  # one of them; the figure grows by it
    python bench.py recall --million --int8    # recall at 1M memories too (minutes, 1.5 GB; 4 GB more with --int8)

A table for people, then one JSON line for scripts. Every answer is checked before it is timed; warm-up and compilation
are timed apart. A section is a function of the flags that prints its table and returns a dict for the JSON line: add
one with @section. In a notebook: `bench.step(bench.options(batch_size=4))`.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from wheeler_cpu import Parser

SECTIONS = {}


def section(function):
    SECTIONS[function.__name__] = function
    return function


def best_of(function, repeats=200, least=0.0005):
    """Seconds a call: the best of `repeats` batches of calls, each of at least `least` seconds. One call warms up.

    Short and many: on a shared machine some of them then run undisturbed.
    """
    function()
    start = time.perf_counter()
    function()
    calls = max(1, int(least / max(time.perf_counter() - start, 1e-9)))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        times.append((time.perf_counter() - start) / calls)
    return min(times)


def table(rows):
    """Print rows of cells, columns aligned, the first row as the header."""
    widths = [max(len(str(row[k])) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())
    print()


def clock_hz():
    """Core clock, measured: a chain of dependent integer multiplications (3 cycles) and exclusive-ors (1 cycle)."""
    from numba import njit

    @njit
    def chain(n, x):
        for k in range(n):
            x = (x * 0x5851F42D4C957F2D) ^ k  # each waits for the last, and no algebra shortens the chain
        return x

    chain(1, 1)
    n = 20_000_000
    return 4 * n / best_of(lambda: chain(n, 1), repeats=5, least=0)


# Vector instructions of the inner loop for one register of cells, counted in the assembly of wheeler_cpu._run, and how
# many 32-byte ones a Zen 4 core starts in a cycle: min, max, compare and multiply two, all arithmetic together four.
# 8 float32 cells a register: 9 / 2 = 4.5 cycles; 15 / 4 = 3.75. Loads 5 / 2 = 2.5. The first decides.
TWO_A_CYCLE, FOUR_A_CYCLE, CELLS = 9, 15, 8


def alu_limit(hz):
    """Cell updates a second that the vector units of one Zen 4 core could do at this clock."""
    return hz * CELLS / max(TWO_A_CYCLE / 2, FOUR_A_CYCLE / 4)


def say(text):
    """One line of progress a measurement, on stderr: stdout is for tables and the JSON line."""
    print(text, file=sys.stderr, flush=True)


@section
def dynamics(args):
    """One 64x64 float32 frame to its attractor, against plain numpy; then batches on one and all threads."""
    import numba

    import wheeler_cpu
    from wheeler_cpu import WheelerMemoryCPU

    code = "import time, numpy, numba; a = time.perf_counter(); import wheeler_cpu as w; "
    code += "w.WheelerMemoryCPU(64, 64).run_dynamics(numpy.zeros((64, 64), 'f')); print(time.perf_counter() - a)"
    with tempfile.TemporaryDirectory() as empty:
        first, again = (
            float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                                 cwd=Path(__file__).parent, env={**os.environ, "NUMBA_CACHE_DIR": empty}).stdout)
            for _ in range(2)
        )  # fmt: skip
    frames = np.random.default_rng(0).uniform(-1, 1, (args.frames, 64, 64)).astype(np.float32)
    fast, plain = WheelerMemoryCPU(64, 64), WheelerMemoryCPU(64, 64, use_numba=False)
    batch = fast.run_dynamics(frames)
    for b in range(min(5, args.frames)):
        one = plain.run_dynamics(frames[b])
        assert one.ticks == batch.ticks[b] and np.array_equal(one.final_frame, batch.final_frame[b])
    frame, ticks = frames[0], int(batch.ticks[0])
    cells = 4096 * ticks
    threads, before = numba.config.NUMBA_NUM_THREADS, numba.get_num_threads()
    numpy_s, ours_s = best_of(lambda: plain.run_dynamics(frame)), best_of(lambda: fast.run_dynamics(frame))
    checked, final = frame[None], np.empty_like(frame)
    scratch = wheeler_cpu._scratch(1, 64, 64, frame.dtype)
    kernel_s = best_of(lambda: wheeler_cpu._run(checked[0], final, *scratch, 1000, True, ()))
    long_s = best_of(lambda: wheeler_cpu._run(checked[0], final, *scratch, 2000, False, ()))
    hz = clock_hz()
    limit = alu_limit(hz)
    numba.set_num_threads(1)
    one_s = best_of(lambda: fast.run_dynamics(frames), repeats=400, least=0)
    numba.set_num_threads(threads)
    all_s = best_of(lambda: fast.run_dynamics(frames), repeats=400, least=0)
    numba.set_num_threads(before)
    total = 4096 * int(batch.ticks.sum())
    row = lambda name, s, work: (name, f"{s * 1e6:.1f}", f"{work / s / 1e9:.2f}", f"{work / s / limit:.0%}")
    print(f"64x64 float32, {ticks} ticks to the attractor; clock {hz / 1e9:.2f} GHz, limit {limit / 1e9:.2f}e9 cells/s")
    table([
        ("one core", "us", "1e9 cells/s", "of the limit"),
        row("plain numpy", numpy_s, cells),
        row("run_dynamics, one frame", ours_s, cells),
        row("kernel alone, with search", kernel_s, cells),
        row("kernel alone, 2000 ticks", long_s, 4096 * 2000),
        row(f"batch of {len(frames)}, 1 thread", one_s, total),
    ])  # fmt: skip
    print(f"{numpy_s / ours_s:.0f} times plain numpy; first call {first:.1f} s, with the disk cache {again:.2f} s")
    print(f"batch, {threads} threads: {one_s / all_s:.2f} times one thread, {total / all_s / 1e9:.2f}e9 cells/s\n")
    return {
        "ticks": ticks, "us_numpy": numpy_s * 1e6, "us_one": ours_s * 1e6, "us_kernel": kernel_s * 1e6,
        "ratio_numpy": numpy_s / ours_s, "cells_per_s": cells / ours_s, "cells_per_s_kernel": cells / kernel_s,
        "cells_per_s_ticks_only": 4096 * 2000 / long_s, "limit_cells_per_s": limit, "clock_hz": hz,
        "threads": threads, "batch": len(frames), "thread_speedup": one_s / all_s,
        "cells_per_s_batch": total / all_s, "first_call_s": first, "cached_call_s": again,
    }  # fmt: skip


@section
def torch(args):
    """The dynamics on torch tensors: 60 ticks of a batch, by backend; on a GPU GB/s of a tick against a copy."""
    import torch as t

    from wheeler_torch import settle, tick

    frames = t.rand(64, 64, 64, generator=t.Generator().manual_seed(0)) * 2 - 1
    reference = settle(frames, ticks=60)[0]
    assert t.equal(reference, settle(frames, ticks=60, backend="torch")[0])
    out, rows = {}, [("60 ticks of 64 frames", "ms", "1e9 cells/s")]
    for backend in ("numba", "torch"):
        s = best_of(lambda: settle(frames, ticks=60, backend=backend), repeats=5, least=0)
        out[f"cells_per_s_{backend}"] = frames.numel() * 60 / s
        rows.append((f"cpu, {backend}", f"{s * 1e3:.1f}", f"{frames.numel() * 60 / s / 1e9:.2f}"))
    if t.cuda.is_available():
        big = t.rand(4096, 64, 64, device="cuda") * 2 - 1
        spare, bytes_ = t.empty_like(big), 2 * big.numel() * 4

        def timed(function):
            def run():
                for _ in range(20):
                    function()
                t.cuda.synchronize()

            return best_of(run, repeats=5) / 20

        compiled = t.compile(tick, dynamic=False)
        copy, eager, fused = (timed(f) for f in (lambda: spare.copy_(big), lambda: tick(big), lambda: compiled(big)))
        for name, s in (("copy", copy), ("tick", eager), ("tick compiled", fused)):
            out[f"gpu_{name.replace(' ', '_')}_bytes_per_s"] = bytes_ / s
            rows.append((f"gpu, one {name}, 4096 frames", f"{s * 1e3:.3f}", f"{bytes_ / s / 1e9:.0f} GB/s"))
    table(rows)
    return out


def _filled_memory(n, rng):
    """A memory of n random patterns, a quarter of the cells at -1 as in attractors, without running the dynamics."""
    from wheeler_memory import WheelerMemory

    memory = WheelerMemory(64, 64)
    memory._signs = rng.integers(0, 2**64, (n, 64), np.uint64) & rng.integers(0, 2**64, (n, 64), np.uint64)
    shared = {"state": "CONVERGED", "ticks": 41, "timestamp": 0.0, "metadata": {}}
    counts = np.bitwise_count(memory._signs).sum(1, dtype=np.int64).tolist()
    memory.entries = [{"key": str(k), "text": f"text {k}", "negative": c, **shared} for k, c in enumerate(counts)]
    return memory


@section
def recall(args):
    """Time of one recall (k = 5, cue already settled) by number of memories: bits against int8 and float32 products."""
    import numba

    from wheeler_memory import WheelerMemory, _distances, unpack

    @numba.njit(parallel=True)
    def int8_product(dense, cue, out):
        for k in numba.prange(dense.shape[0]):
            total = np.int32(0)
            for j in range(dense.shape[1]):
                total += np.int32(np.int16(dense[k, j]) * np.int16(cue[j]))
            out[k] = total

    rng, out = np.random.default_rng(0), {}
    rows = [("memories", "recall, bits", "bits, scan only", "int8, scan only", "float32 BLAS", "load")]
    for n in (10_000, 100_000, 1_000_000)[: 3 if args.million else 2]:
        with tempfile.TemporaryDirectory(dir=args.dir) as folder:
            _filled_memory(n, rng).save(folder)
            start = time.perf_counter()
            memory = WheelerMemory.load(folder)
            load_s = time.perf_counter() - start
            signs, target = memory._signs, n // 3
            cue = unpack(signs[target : target + 1], 64, 64)[0]
            cue[:3] *= -1
            assert memory.recall(cue, 1, settle=False)[0].text == f"text {target}"
            query, distance = signs[:1].copy(), np.empty((1, n), np.int32)
            times = {
                "recall": best_of(lambda: memory.recall(cue, 5, settle=False), repeats=25, least=0),
                "scan": best_of(lambda: _distances(signs, query, distance), repeats=25, least=0),
            }
            if n < 1_000_000 or args.int8:
                dense = np.empty((n, 4096), np.int8)
                for a in range(0, n, 10_000):
                    dense[a : a + 10_000] = unpack(signs[a : a + 10_000], 64, 64).reshape(-1, 4096)
                product = np.empty(n, np.int32)
                narrow = cue.reshape(-1).astype(np.int8)
                times["int8"] = best_of(lambda: int8_product(dense, narrow, product), repeats=9, least=0)
                assert product.argmax() == target
                if n < 1_000_000:
                    wide = dense.astype(np.float32)
                    times["float32"] = best_of(lambda: wide @ cue.reshape(-1), repeats=9, least=0)
                    del wide
                del dense
            cells = [f"{times[k] * 1e3:.2f} ms" if k in times else "" for k in ("recall", "scan", "int8", "float32")]
            rows.append((f"{n:,}", *cells, f"{load_s:.2f} s"))
            out[n] = {**{f"ms_{k}": v * 1e3 for k, v in times.items()}, "s_load": load_s}
    table(rows)
    return out


# ---- the model and its peers ----------------------------------------------------------------------------------------


def config_of(args, **changes):
    """WheelerConfig of the size flags; a flag left out is the default model's value, or the section's (`changes`)."""
    from models import WheelerConfig

    typed = {k: getattr(args, k) for k in ("grid_size", "d_model", "max_seq_len") if getattr(args, k) is not None}
    return WheelerConfig(**changes | typed)


def random_ids(config, rows):
    """(rows, max_seq_len) int64 random tokens, no end token among them."""
    import torch

    return torch.randint(3, config.vocab_size, (rows, config.max_seq_len), generator=torch.Generator().manual_seed(0))


def training_step(model, ids, optimizer=None, autocast=nullcontext, scaler=None):
    """Forward and backward, and the optimizer's step if there is one."""
    import torch.nn.functional as F

    with autocast():
        logits, _ = model(ids)
        loss = F.cross_entropy(logits.float().flatten(0, 1), ids.flatten())
    (loss if scaler is None else scaler.scale(loss)).backward()
    if optimizer is not None:
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad(set_to_none=True)


def gflop_by_part(model):
    """GFLOP of one sample of max_seq_len tokens. Attention counts as plain matrix products (the counter does not know
    the fused CPU kernel). `total` is forward + backward; the parts are forward only."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from models import round_up

    c, rows = model.config, 4  # a few rows, since positional codes are computed once a batch
    ids, giga = random_ids(c, rows), rows * 1e9
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            model(ids)
        name = type(model).__name__
        count = lambda part: sum(counter.get_flop_counts().get(f"{name}.{part}", {}).values()) / giga
        parts = {"encoder": count("encoder"), "patches": count("patches.unfold") + count("patches.fold"),
                 "vocabulary head": 2 * c.max_seq_len * c.d_model * round_up(c.vocab_size) / 1e9}
        parts["decoder"] = counter.get_total_flops() / giga - sum(parts.values())
    return parts | {"total": gflop(model)}


def gflop(model):
    """GFLOP of forward and backward for one sample of max_seq_len tokens, attention as plain matrix products: counted
    on tensors without data, where the model allows that."""
    import copy

    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    device = getattr(model, "counting_device", "meta")
    rows, model = 4, copy.deepcopy(model).to(device)  # a few, since positional codes are computed once a batch
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        training_step(model, random_ids(model.config, rows).to(device))
    return counter.get_total_flops() / rows / 1e9


def matmul_gflop_per_s(device, dtype):
    """The matrix rate that MFU is measured against: the best of square products of a few sizes, here and now."""
    import torch

    rates = []
    for n in (1024, 2048) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        _, seconds = timed(lambda: a @ b, device, repeats=9)
        rates.append(2 * n**3 / seconds / 1e9)
    return max(rates)


def rates(gflop_a_text, rows, tokens, seconds, matmul):
    """What a step of `rows` texts of `tokens` tokens in `seconds` means. MFU: model FLOP a second, as counted, over the
    measured matrix rate `matmul` in GFLOP/s."""
    rate = gflop_a_text * rows / seconds
    return {"texts_per_s": rows / seconds, "tokens_per_s": rows * tokens / seconds, "gflop_per_s": rate,
            "mfu": rate / matmul}


def timed(function, device, repeats=5, budget=20.0):
    """(seconds of the first call, warm-up and compilation included; best seconds of up to `repeats` more, as many as
    begin within `budget` seconds, at least one; where the first call took longer than that, it is the only one). Waits
    for the device; on a CPU with one thread the seconds are the processor's (peers.now)."""
    import torch

    from peers import now

    wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else lambda: None

    def once():
        wait()
        start = now(device.type)
        function()
        wait()
        return now(device.type) - start

    first, times = once(), []
    if first > budget:
        return first, first
    while len(times) < repeats and (not times or sum(times) < budget):
        times.append(once())
    return first, min(times)


def peak_gib(device):
    """Peak memory so far: of the GPU, or of this process. Not ru_maxrss: that of a new process starts with its
    parent's peak."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if not Path("/proc/self/status").exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    from doctor import proc_value

    return proc_value("/proc/self/status", "VmHWM") / 2**30


def alone(function, *arguments):
    """function(*arguments) in a fresh process, so that its peak memory is this measurement's. MemoryError where the
    memory does not suffice."""
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    import torch

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except (BrokenProcessPool, torch.OutOfMemoryError):  # the kernel ends what takes too much
            raise MemoryError("a measurement was ended, most likely for want of memory; lower --batch_size, "
                              "--grid_size or --max_seq_len") from None


def _precision(args):
    """(device, dtype, function that gives the autocast context) of the flags."""
    import torch

    from metrics import check_device

    device = check_device(None if args.device == "auto" else args.device)
    dtype = torch.float16 if args.fp16 else torch.bfloat16 if args.bf16 else torch.float32
    return device, dtype, lambda: nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def measure_step(name, config, rows, args, threads, with_rate=True):
    """One competitor's training step with AdamW. Run it `alone`."""
    import torch

    from peers import build

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    device, dtype, autocast = _precision(args)
    before = peak_gib(device)
    network = build(name, config).to(device).train()
    if args.compile:
        network.compile()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    scaler = torch.amp.GradScaler(device.type) if args.fp16 else None
    ids = random_ids(config, rows).to(device)
    one = lambda: training_step(network, ids, optimizer, autocast, scaler)
    first, seconds = timed(one, device, args.repeats)
    out = {"parameters": sum(p.numel() for p in network.parameters()), "s_first": first, "s_step": seconds,
           "gib_peak": peak_gib(device), "gib_before": before}
    out["gflop_a_text"] = flop = gflop(build(name, config))  # another one: the first may be compiled
    if with_rate:
        matmul = matmul_gflop_per_s(device, dtype)
        out |= rates(flop, rows, config.max_seq_len, seconds, matmul) | {"matmul_gflop_per_s": matmul}
    return out


def _networks(args):
    """The competitors whose speed differs: a random start is the same network."""
    return [name for name in args.competitors if name != "random"]


def _times(value, ours):
    if math.isnan(ours):
        return ""
    return f"{value / ours:.2g}" if value < 100 * ours else f"{value / ours:.0f}"


@section
def model(args):
    """Parameters and GFLOP by part."""
    import torch

    from models import WheelerTextAutoencoder

    torch.manual_seed(0)
    network = WheelerTextAutoencoder(config_of(args))
    c, parameters = network.config, {name: sum(p.numel() for p in part.parameters())
                                     for name, part in network.named_children()}
    flops = gflop_by_part(network)
    print(f"grid {c.grid_size} x {c.grid_size} x {c.d_model}: {sum(parameters.values()) / 1e6:.2f}M parameters (" +
          ", ".join(f"{name} {count / 1e6:.2f}M" for name, count in parameters.items()) + ")")
    print(f"one {c.max_seq_len}-token sample, forward + backward: {flops['total']:.1f} GFLOP; forward by part: " +
          ", ".join(f"{name} {value:.2f}" for name, value in flops.items() if name != "total") + "\n")
    return {"parameters": parameters, "gflop": flops}


@section
def step(args):
    """A training step of ours and of the peers, each in a process of its own."""
    import torch

    from peers import LABELS

    config, rows = config_of(args), args.batch_size or 2
    device, dtype, _ = _precision(args)
    everywhere = sorted({1, torch.get_num_threads()}) if device.type == "cpu" else [torch.get_num_threads()]
    out, lines = {}, [("training step", "threads", "parameters", "first s", "s", "texts/s", "tokens/s", "GFLOP a text",
                       "GFLOP/s", "MFU", "peak GiB", "time, ours = 1", "memory, ours = 1")]
    for threads in everywhere:
        for name in _networks(args):
            say(f"step: {name}, {threads} threads")
            r = out[f"{name}, {threads} threads"] = alone(measure_step, name, config, rows, args, threads)
            ours = out.get(f"ours, {threads} threads", {"s_step": math.nan, "gib_peak": math.nan})
            lines.append((LABELS[name], threads, f"{r['parameters'] / 1e6:.2f}M", f"{r['s_first']:.2f}",
                          f"{r['s_step']:.3f}", f"{r['texts_per_s']:.2f}", f"{r['tokens_per_s']:.0f}",
                          f"{r['gflop_a_text']:.1f}", f"{r['gflop_per_s']:.0f}", f"{r['mfu']:.0%}",
                          f"{r['gib_peak']:.2f}", _times(r["s_step"], ours["s_step"]),
                          _times(r["gib_peak"], ours["gib_peak"])))
    table(lines)
    matmul = [r["matmul_gflop_per_s"] for r in out.values()]
    print(f"batch {rows}, {config.max_seq_len} tokens, grid {config.grid_size}, d_model {config.d_model}, {device}, "
          f"{str(dtype).removeprefix('torch.')}{', compiled' if args.compile else ''}; MFU against the matrix products "
          f"of each run, {min(matmul):.0f} to {max(matmul):.0f} GFLOP/s; memory of the whole "
          f"{'process' if device.type == 'cpu' else 'GPU allocation'}\n")
    return out


def _built(name, config, device):
    import torch

    from peers import build

    torch.manual_seed(0)
    return build(name, config).to(device).eval()


@section
def encode(args):
    """Text to latents, batch 1 and 64, ours and the peers."""
    from peers import LABELS

    config, (device, _, autocast) = config_of(args), _precision(args)
    out, lines = {}, [("encode", "batch", "first s", "s", "texts/s", "time, ours = 1")]
    for name in _networks(args):
        network = _built(name, config, device)
        for rows in (1, 64):
            say(f"encode: {name}, batch {rows}")
            ids = random_ids(config, rows).to(device)
            with autocast():
                first, seconds = timed(lambda: network.encode(ids), device, args.repeats)
            out[f"{name}, batch {rows}"] = {"s_first": first, "s": seconds, "texts_per_s": rows / seconds}
            ours = out.get(f"ours, batch {rows}", {"s": math.nan})["s"]
            lines.append((LABELS[name], rows, f"{first:.3f}", f"{seconds:.3f}", f"{rows / seconds:.1f}",
                          _times(seconds, ours)))
    table(lines)
    return out


@section
def decode(args):
    """Latents to text, greedy: ours with the key/value cache and without (the same tokens both times), and the peers.
    torch.nn.TransformerDecoder has no cache, so the straightforward peer is measured at batch 1 only."""
    config, (device, _, autocast) = config_of(args), _precision(args)
    from peers import LABELS

    out, tokens = {}, config.max_seq_len
    lines = [(f"{tokens} tokens", "batch", "cache", "first s", "s", "tokens/s", "time, ours = 1")]
    for name in _networks(args):
        network = _built(name, config, device)
        for rows, cache in ((1, True), (1, False), (64, True)):
            if (name == "cells" and cache) or (name in ("bart", "t5") and not cache):
                continue
            say(f"decode: {name}, batch {rows}, {'with' if cache else 'without'} cache")
            ids = random_ids(config, rows).to(device)  # no end token: all positions are decoded
            with autocast():
                latents = network.encode(ids)
                if name == "ours":
                    run = lambda: network.decode(latents, use_cache=cache, return_ids=True)
                    if run() != ids.tolist():
                        raise ValueError(f"--d_model {config.d_model}: a model of this size does not start as a copy, "
                                         "so what it decodes cannot be checked")
                else:
                    run = lambda: network.decode(latents, full_length=True)
                first, seconds = timed(run, device, min(3, args.repeats))
            count = rows * tokens
            out[f"{name}, batch {rows}{'' if cache else ', no cache'}"] = {
                "s_first": first, "s": seconds, "tokens_per_s": count / seconds}
            ours = out.get(f"ours, batch {rows}", {"s": math.nan})["s"]
            lines.append((LABELS[name], rows, "yes" if cache else "no", f"{first:.2f}", f"{seconds:.2f}",
                          f"{count / seconds:.0f}", _times(seconds, ours)))
    table(lines)
    return out
# ---- cost growth ----------------------------------------------------------------------------------------------------

AXES = {"max_seq_len": (64, 128, 256, 512), "grid_size": (16, 32, 64, 128), "batch_size": (1, 2, 4, 8, 16)}


@section
def growth(args, axes=AXES):
    """Seconds and peak memory of a training step as one of text length, grid size and batch size varies, the others at
    256 tokens, grid 64, batch 2 (or what the flags say); on a CPU one thread, seconds of the processor. A competitor
    whose step took more than --point_limit seconds is not measured at the sizes beyond."""
    from peers import LABELS, growth_figure

    out, lines = {}, [("training step", "varies", "at", "s", "peak GiB", "of these the model's", "GFLOP a text")]
    for axis, values in axes.items():
        for name in _networks(args):
            points = out[f"{name}, {axis}"] = []
            for value in values:
                if points and points[-1]["s_step"] > args.point_limit:
                    say(f"growth: {name}, {axis} {value}: left out, the size before took {points[-1]['s_step']:.0f} s")
                    break
                rows = value if axis == "batch_size" else args.batch_size or 2
                config = config_of(options(**vars(args) | {axis: value}))
                try:
                    r = alone(measure_step, name, config, rows, args, 1, False)
                except MemoryError:
                    say(f"growth: {name}, {axis} {value}: the memory does not suffice")
                    break
                say(f"growth: {name}, {axis} {value}: {r['s_step']:.3f} s, {r['gib_peak']:.2f} GiB")
                points.append({"at": value, **{key: r[key] for key in ("s_step", "gib_peak", "gib_before",
                                                                      "gflop_a_text")}})
                lines.append((LABELS[name], axis, value, f"{r['s_step']:.3f}", f"{r['gib_peak']:.2f}",
                              f"{r['gib_peak'] - r['gib_before']:.2f}", f"{r['gflop_a_text']:.1f}"))
    table(lines)
    for key, points in out.items():
        if len(points) > 1:
            first, last = points[0], points[-1]
            own = [p["gib_peak"] - p["gib_before"] for p in (first, last)]
            print(f"{key} x {last['at'] / first['at']:.0f}: seconds x {last['s_step'] / first['s_step']:.1f}" +
                  (f", memory above the libraries x {own[1] / own[0]:.1f}" if own[0] else ""))
    print()
    growth_figure(out, args.output_dir)
    return out


# ---- time to quality ------------------------------------------------------------------------------------------------


@section
def quality(args):
    """Seconds until unseen texts come back: every competitor at every rate is trained for --limit seconds (peers.race).
    Runs gather in the file --results, one by one; the table and the figure show all that are there."""
    from data import build_dataset, get_tokenizer, load_texts
    from peers import quality_figure, quality_tables, race, stored_runs
    from tokenizer import vocabulary_size

    sizes = {"grid_size": 32, "d_model": 128, "max_seq_len": 64}
    config, batch_size = config_of(args, **sizes), args.batch_size or 16
    path, (device, dtype, autocast) = Path(args.results), _precision(args)
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
                "batch_size": batch_size, "device": str(device), "dtype": str(dtype), "seed": args.seed}
    stored = stored_runs(path)
    if stored and stored["settings"] != settings:
        different = [key for key in settings if stored["settings"].get(key) != settings[key]]
        raise ValueError(f"--results {path} holds runs with another {', '.join(different)}: name another file")
    stored = stored or {"settings": settings, "runs": {}}

    def keep(run):
        stored["runs"][f"{run['task']}: {run['name']}, lr {run['lr']:g}"] = run | {"machine": where}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".tmp").write_text(json.dumps(stored))
        os.replace(path.with_suffix(".tmp"), path)

    where = machine()
    for name in () if args.draw else args.competitors:
        for lr in args.rates or ([3e-4] if name == "ours" and args.task == "copy" else [3e-4, 1e-3]):
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


# ---- structure of frames --------------------------------------------------------------------------------------------


@section
def survival(args):
    """Which patterns survive noise that changes no sign; a figure."""
    import wheeler_theory as theory

    amplitudes = (0.1, 0.3, 0.5, 0.7, 0.9)
    shares, drawn = theory.survival(args.patterns, args.grid_size or 64, amplitudes, seed=args.seed)
    table([("pattern", "tie-break", *(f"A = {a}" for a in amplitudes)),
           *((kind, tie, *(f"{shares[kind, tie, a]:.2%}" for a in amplitudes))
             for kind, tie in dict.fromkeys((k, t) for k, t, _ in shares))])
    path = Path(args.output_dir) / "survival.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    theory.survival_figure(shares, drawn, path)
    say(f"wrote {path}")
    return {f"{kind}, {tie}, {a}": value for (kind, tie, a), value in shares.items()}


@section
def capacity(args):
    """Bits a cell by transfer matrices, by width of the ring."""
    from wheeler_theory import KINDS, bits_per_cell, capacity_bits

    out = {n: {kind: bits_per_cell(kind, n) for kind in KINDS} for n in range(4, args.widest + 1)}
    frame = {kind: capacity_bits(64, 64, kind, args.widest) for kind in KINDS}
    table([("bits a cell, ring", *KINDS), *((n, *(f"{row[kind]:.5f}" for kind in KINDS)) for n, row in out.items()),
           ("bits, 64x64", *(f"{frame[kind]:.0f}" for kind in KINDS))])
    return {"bits_per_cell": out, "bits_64x64": frame}


# ---- command line ---------------------------------------------------------------------------------------------------

SLOW = ("growth", "quality")  # only when named


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
    from data import add_data_flags
    from peers import NAMES

    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                    usage="python bench.py [section ...] [--flag value ...]     (--help explains all of them)")
    count, natural, positive = (_number(int, 1, "a whole number"), _number(int, 0, "a whole number"),
                                _number(float, 1e-9, "a number"))
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; default all but {', '.join(SLOW)}")
    parser.add_argument("--output_dir", default="figures", help="folder for the figures")
    parser.add_argument("--seed", type=natural, default=0, help="survival, quality: seed")
    group = parser.add_argument_group("model and peers: step, encode, decode, growth, quality")
    group.add_argument("--competitors", nargs="+", choices=NAMES, default=["ours", "cells", "t5"], metavar="NAME",
                       help=f"of {', '.join(NAMES)} (peers.py); default ours cells t5")
    group.add_argument("--grid_size", type=count, help="side of the grid, cells; default 64, quality 32")
    group.add_argument("--d_model", type=count, help="channels of a cell; default 256, quality 128")
    group.add_argument("--max_seq_len", type=count, help="tokens of a text; default 256, quality 64")
    group.add_argument("--batch_size", type=count, help="texts a step; default 2, quality 16")
    group.add_argument("--repeats", type=count, default=5, help="timed calls, the best counts; fewer if slow")
    group.add_argument("--device", default="auto", help="cpu, cuda ...; auto: a GPU if there is one")
    group.add_argument("--fp16", action="store_true", help="float16 autocast, with loss scaling in step")
    group.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    group.add_argument("--compile", action="store_true", help="step, growth: torch.compile")
    group.add_argument("--point_limit", type=positive, default=10.0,
                       help="growth: no larger size after a step of so many seconds")
    add_data_flags(parser)
    parser.set_defaults(long_texts="split")
    group = parser.add_argument_group("time to quality")
    group.add_argument("--task", choices=("copy", "language"), default="copy",
                       help="texts from their latents, or from nothing")
    group.add_argument("--limit", type=positive, default=300.0, help="seconds of training of each run")
    group.add_argument("--rates", type=positive, nargs="+", help="learning rates; default 3e-4 1e-3, ours 3e-4")
    group.add_argument("--warmup_steps", type=natural, default=20, help="steps of linear warm-up")
    group.add_argument("--eval_every", type=positive, help="seconds between readings; default an eighth of --limit")
    group.add_argument("--eval_samples", type=count, default=128, help="unseen texts of a reading")
    group.add_argument("--results", default="runs/quality.json", help="file in which the runs gather")
    group.add_argument("--draw", action="store_true", help="train nothing: table and figure of what is in --results")
    group = parser.add_argument_group("dynamics, recall, structure")
    group.add_argument("--frames", type=count, default=64, help="dynamics: frames in the batch")
    group.add_argument("--million", action="store_true", help="recall: measure 1,000,000 memories too")
    group.add_argument("--int8", action="store_true", help="recall: also int8 at 1,000,000 (4 GB)")
    group.add_argument("--dir", help="recall: where to put the temporary store (default: the system's)")
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
    parser = build_parser()
    args = parser.parse_args(argv)
    unknown = [name for name in args.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    if args.fp16 and args.bf16:
        parser.error("--fp16 and --bf16 exclude each other")
    results, code = {}, 0
    for name in args.sections or [name for name in SECTIONS if name not in SLOW]:
        try:
            results[name] = SECTIONS[name](args)
        except KeyboardInterrupt:
            say("bench.py: stopped")
            code = 130
            break
        except (ValueError, OSError, MemoryError) as error:  # others are bugs and keep their traceback
            say(f"bench.py: {name}: {error}")
            code = 2
    if results:  # also when one failed: of those that were finished
        print(json.dumps({"machine": machine(), **results}, default=float))
    return code


def machine():
    """Hardware, versions and commit, for the JSON line."""
    import numba
    import torch as t

    from run_folder import git_commit

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu, "cores": os.cpu_count(), "threads": t.get_num_threads(),
        "gpu": t.cuda.get_device_name() if t.cuda.is_available() else None, "python": platform.python_version(),
        "numpy": np.__version__, "numba": numba.__version__, "torch": t.__version__, "commit": git_commit(),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
