"""Speed of the dynamics, of recall and of stores: the sections dynamics, torch, recall and store of bench.py."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import numpy as np
import torch as t

import wheeler_cpu
from models import WheelerTextAutoencoder
from wheeler.cli import progress
from wheeler.dynamics.differentiable import settle, tick
from wheeler.dynamics.kernels import TOLERANCE, run, scratch
from wheeler.measure.timing import best_of, table
from wheeler.memory.bits import distances, unpack
from wheeler.memory.texts import frames_of_texts
from wheeler.training.stories import stories
from wheeler_cpu import WheelerMemoryCPU
from wheeler_store import WheelerMemory


def clock_hz():
    """Core clock, measured: a chain of dependent integer multiplications (3 cycles) and exclusive-ors (1 cycle)."""

    @numba.njit
    def chain(n, x):
        for k in range(n):
            x = (x * 0x5851F42D4C957F2D) ^ k  # each waits for the last, and no algebra shortens the chain
        return x

    chain(1, 1)
    n = 200_000  # short, so that on a shared machine some of them run undisturbed
    return 4 * n / best_of(lambda: chain(n, 1))


# Vector instructions of the inner loop for one register of cells, counted in the assembly of `run` in
# wheeler/dynamics/kernels.py, and how many 32-byte ones a Zen 4 core starts in a cycle (timed one by one and mixed):
# min, max, add and subtract share two units, multiply and compare the other two, blends take any of the four. A 64-byte
# one takes a unit for two cycles. 8 float32 cells: 8 / 2 = 4 cycles; 15 / 4 = 3.75; loads 5 / 2 = 2.5. The first
# decides.
TWO_A_CYCLE, FOUR_A_CYCLE, CELLS = 8, 15, 8


def alu_limit(hz):
    """Cell updates a second that the vector units of one Zen 4 core could do at this clock."""
    return hz * CELLS / max(TWO_A_CYCLE / 2, FOUR_A_CYCLE / 4)


def dynamics(args):
    """One 64x64 float32 frame to its attractor, against plain numpy; then batches on one and all threads."""
    code = "import time, numpy, numba; a = time.perf_counter(); import wheeler_cpu as w; "
    code += "w.WheelerMemoryCPU(64, 64).run_dynamics(numpy.zeros((64, 64), 'f')); print(time.perf_counter() - a)"
    root = Path(wheeler_cpu.__file__).parent  # where a new Python finds it
    with tempfile.TemporaryDirectory() as empty:
        first, again = (
            float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                                 cwd=root, env={**os.environ, "NUMBA_CACHE_DIR": empty}).stdout)
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
    buffers = scratch(1, 64, 64, frame.dtype)
    kernel_s = best_of(lambda: run(checked[0], final, *buffers, 1000, True, (), TOLERANCE))
    long_s = best_of(lambda: run(checked[0], final, *buffers, 2000, False, (), TOLERANCE))
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


def torch(args):
    """The dynamics on torch tensors: 60 ticks of a batch, by backend; on a GPU GB/s of a tick against a copy."""
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
    memory = WheelerMemory(64, 64)
    memory._signs = rng.integers(0, 2**64, (n, 64), np.uint64) & rng.integers(0, 2**64, (n, 64), np.uint64)
    shared = {"state": "CONVERGED", "ticks": 41, "timestamp": 0.0, "metadata": {}}
    counts = np.bitwise_count(memory._signs).sum(1, dtype=np.int64).tolist()
    texts = [f"text {k}" for k in range(n)]
    memory.entries = [{"key": memory.key(text), "text": text, "negative": c, **shared}
                      for text, c in zip(texts, counts, strict=True)]
    return memory


def recall(args):
    """Time of one recall (k = 5, cue already settled) by number of memories: bits against int8 and float32 products."""

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
                "scan": best_of(lambda: distances(signs, query, distance), repeats=25, least=0),
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


def _written_memory(model, n, rng, drawn=256, batch=1000):
    """A memory with a model of n made-up texts. Their frames have meaning tiles and, for words, random numbers: the
    upper half of one of `drawn` frames and the lower half of another, settled, since making n takes minutes."""
    memory, code, vocab = WheelerMemory(model=model), model.frame_code(), model.config.vocab_size
    ids = rng.integers(vocab // 2, vocab, (min(n, drawn), 60)).tolist()
    made = code.sketch(ids, lambda texts, _: np.full(len(texts), 200.0))
    frames, texts = np.stack([one.frame for one in made]), [model.tokenizer.decode(row) for row in ids]
    for start in progress(range(0, n, batch), "making memories"):
        places = np.arange(start, min(start + batch, n))
        part = frames[places % drawn]
        part[:, part.shape[1] // 2 :] = frames[(places + places // drawn) % len(frames), part.shape[1] // 2 :]
        memory.remember(part, [f"{k}: {texts[k % drawn]}" for k in places])
    return memory


def _plain_files(folder, contents, n):
    """Write each of the contents n times, as plainly as can be, and flush them to the disk."""
    folder.mkdir()
    for k in range(n):
        for name, content in contents.items():
            with open(folder / f"{k}{name}", "wb") as file:
                file.write(content)
    if hasattr(os, "sync"):  # not on Windows
        os.sync()


def store(args):
    """--memories texts in a store and in the public layout, written and read, seconds of the clock and of the
    processor; beside them as many plain files of the same sizes. Recall of a text, without the making of its frame."""
    n, rows, out = args.memories, [("memories: " + f"{args.memories:,}", "seconds", "of the processor")], {}
    model = WheelerTextAutoencoder.load_from_checkpoint(args.checkpoint, "cpu")
    memory = _written_memory(model, n, np.random.default_rng(args.seed))

    def once(name, function):
        nonlocal out
        wall, used = time.perf_counter(), time.process_time()
        result = function()
        wall, used = time.perf_counter() - wall, time.process_time() - used
        out |= {f"s_{name.replace(' ', '_')}": wall, f"s_{name.replace(' ', '_')}_processor": used}
        rows.append((name, f"{wall:.2f}", f"{used:.2f}"))
        return result

    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        folder, again = Path(folder), WheelerMemory(model=model)
        once("save", lambda: memory.save(folder / "store"))
        loaded = once("load", lambda: WheelerMemory.load(folder / "store", model))
        assert once("export", lambda: memory.export_public(folder / "public")) == n
        assert once("export again", lambda: memory.export_public(folder / "public")) == n
        assert once("import", lambda: again.import_public(folder / "public")) == (n, [])
        pair = [next((folder / "public").rglob(f"*.np{kind}")) for kind in "yz"]
        contents = {file.suffix: file.read_bytes() for file in pair}
        once("plain files", lambda: _plain_files(folder / "plain", contents, n))
        assert sorted(again) == sorted(loaded) == sorted(memory)
        out["bytes_a_memory"] = sum(map(len, contents.values()))
        table(rows)
        text = " ".join(stories("validation", 1)[0].split()[:20])
        given = frames_of_texts(model, [text])

        class Ready(WheelerMemory):  # the cue's frame is there already
            def _frames(self, cue):
                return given, False

        ready = Ready.load(folder / "store", model)
        for by in ("frame", "meaning"):
            ready.recall(text, by=by)
            out[f"ms_recall_{by}"] = 1e3 * best_of(lambda by=by: ready.recall(text, by=by), repeats=25, least=0)
    out["ms_cue"] = 1e3 * best_of(lambda: frames_of_texts(model, [text]), repeats=args.repeats, least=0)
    print(f"recall of a text among {n:,}: {out['ms_cue']:.1f} ms for its frame, then {out['ms_recall_frame']:.1f} ms "
          f"by frame, {out['ms_recall_meaning']:.1f} ms by meaning\n")
    return out
