"""Speed and cost of Wheeler AI on this machine.

    python bench.py                       # all sections, a few minutes: dynamics torch recall model decode
    python bench.py model                 # parameters, GFLOP by part, seconds and memory of a training step
    python bench.py decode                # 256 tokens with the key/value cache and without
    python bench.py dynamics              # one section
    python bench.py recall --million      # recall at 1M memories too: minutes, 1.5 GB
    python bench.py recall --million --int8     # and the int8 alternative at 1M: 4 GB more

A table for people, then one JSON line for scripts. Every answer is checked before it is timed. A section is a function
of the parsed flags that prints its table and returns a dict for the JSON line: add one with @section.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

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
                                 env={**os.environ, "NUMBA_CACHE_DIR": empty}).stdout)
            for _ in range(2)
        )  # fmt: skip
    frames = np.random.default_rng(0).uniform(-1, 1, (args.frames, 64, 64)).astype(np.float32)
    fast, plain = WheelerMemoryCPU(64, 64), WheelerMemoryCPU(64, 64, use_numba=False)
    batch = fast.run_dynamics(frames)
    for b in range(5):
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


def random_ids(config, rows):
    """(rows, max_seq_len) int64 random tokens, no end token among them."""
    import torch

    return torch.randint(3, config.vocab_size, (rows, config.max_seq_len), generator=torch.Generator().manual_seed(0))


def training_step(model, ids, frame_rows, optimizer=None):
    """Forward and backward, and the optimizer's step if there is one."""
    import torch.nn.functional as F

    logits, _ = model(ids, frame_rows=frame_rows)
    F.cross_entropy(logits.float().flatten(0, 1), ids.flatten()).backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def gflop_by_part(model):
    """GFLOP of one sample of max_seq_len tokens. Attention counts as plain matrix products (the counter does not know
    the fused CPU kernel). `total` is forward + backward of a sample from the grid, `total_frame` of one from the
    frame; the parts are forward only."""
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
        for key, frame_rows in (("total", 0), ("total_frame", rows)):
            with FlopCounterMode(display=False) as counter:
                training_step(model, ids, frame_rows)
            parts[key] = counter.get_total_flops() / giga
    return parts


def _step_worker(threads, rows, queue):
    """In a process of its own, so that the peak memory is this configuration's alone."""
    import resource

    import torch

    from models import WheelerConfig, WheelerTextAutoencoder

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = WheelerTextAutoencoder(WheelerConfig())
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = random_ids(model.config, rows)
    seconds = best_of(lambda: training_step(model, ids, rows // 2, optimizer), repeats=5, least=0)
    queue.put((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))  # KiB on Linux


@section
def model(args):
    """Default model: parameters and GFLOP by part, one training step (half the rows from the frame) at batch 2."""
    import multiprocessing

    import torch

    from models import WheelerConfig, WheelerTextAutoencoder

    torch.manual_seed(0)
    network = WheelerTextAutoencoder(WheelerConfig())
    parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    flops, out = gflop_by_part(network), {}
    print(f"default model: {sum(parameters.values()) / 1e6:.2f}M parameters (" +
          ", ".join(f"{name} {count / 1e6:.2f}M" for name, count in parameters.items()) + ")")
    print(f"one 256-token sample, forward + backward: {flops['total']:.1f} GFLOP from the grid, "
          f"{flops['total_frame']:.1f} from the frame; forward by part: " +
          ", ".join(f"{name} {value:.2f}" for name, value in flops.items() if not name.startswith("total")))
    rows = [("training step, batch 2", "seconds", "GFLOP/s", "peak memory of the process")]
    context = multiprocessing.get_context("spawn")
    for threads in sorted({1, os.cpu_count() or 1}):
        queue = context.Queue()
        process = context.Process(target=_step_worker, args=(threads, 2, queue))
        process.start()
        seconds, peak = queue.get()
        process.join()
        rate = (flops["total"] + flops["total_frame"]) / seconds
        out[f"{threads}_threads"] = {"s_step": seconds, "gib_peak": peak, "gflop_per_s": rate}
        rows.append((f"{threads} threads" if threads > 1 else "1 thread", f"{seconds:.2f}", f"{rate:.0f}",
                     f"{peak:.2f} GiB"))
    table(rows)
    return {"parameters": parameters, "gflop": flops, "step": out}


@section
def decode(args):
    """Default model: 256 tokens with the key/value cache and without, the same tokens both times."""
    import torch

    from models import WheelerConfig, WheelerTextAutoencoder

    torch.manual_seed(0)
    network = WheelerTextAutoencoder(WheelerConfig()).eval()
    one, many = (random_ids(network.config, rows) for rows in (1, 64))  # no end token: all 256 positions are decoded
    grid, grids = network.encode(one), network.encode(many)
    run = lambda use_cache: network.decode(grid, use_cache=use_cache, return_ids=True)
    assert run(True) == run(False) == one.tolist()
    cached, full = (best_of(lambda use=use: run(use), repeats=3, least=0) for use in (True, False))
    batched = best_of(lambda: network.decode(grids, return_ids=True), repeats=1, least=0)
    table([("256 tokens, default model", "seconds", "tokens/s"),
           ("batch 1, key/value cache", f"{cached:.2f}", f"{256 / cached:.0f}"),
           ("batch 1, prefix recomputed at every token", f"{full:.2f}", f"{256 / full:.0f}"),
           ("batch 64, key/value cache", f"{batched:.2f}", f"{64 * 256 / batched:.0f}")])
    print(f"the cache is {full / cached:.1f} times as fast, with the same tokens\n")
    return {"s_cached": cached, "s_full": full, "ratio": full / cached, "s_batch_64": batched}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; default all")
    parser.add_argument("--frames", type=int, default=64, help="dynamics: frames in the batch (default 64)")
    parser.add_argument("--million", action="store_true", help="recall: measure 1,000,000 memories too")
    parser.add_argument("--int8", action="store_true", help="recall: also int8 at 1,000,000 (4 GB)")
    parser.add_argument("--dir", help="recall: where to put the temporary store (default: the system's)")
    args = parser.parse_args(argv)
    unknown = [name for name in args.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    result = {name: SECTIONS[name](args) for name in args.sections or SECTIONS}
    print(json.dumps({"machine": machine(), **result}, default=float))
    return 0


def machine():
    """Hardware, versions and commit, for the JSON line."""
    import numba
    import torch as t

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        cpu = names[0] if names else cpu
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return {
        "cpu": cpu, "cores": os.cpu_count(), "gpu": t.cuda.get_device_name() if t.cuda.is_available() else None,
        "python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__,
        "torch": t.__version__, "commit": commit,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
