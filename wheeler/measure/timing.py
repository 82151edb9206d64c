"""How the sections of bench.py take time and memory, what they print, and on which machine.

`best_of` is for functions of microseconds, `timed` for those whose first call costs more than the others, `alone` for
what needs a process of its own because its peak memory is measured.
"""

import math
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numba
import numpy as np
import torch

from wheeler.measure.peers import now
from wheeler.training.cost import proc_value
from wheeler.training.run_folder import git_commit

try:
    import resource
except ImportError:  # not a Unix
    resource = None


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


def timed(function, device, repeats=5, budget=20.0):
    """(seconds of the first call, warm-up and compilation included; best seconds of up to `repeats` more, as many as
    begin within `budget` seconds, at least one; where the first call took longer than that, it is the only one). Waits
    for the device; on a CPU with one thread the seconds are the processor's (peers.now)."""
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
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if not Path("/proc/self/status").exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    return proc_value("/proc/self/status", "VmHWM") / 2**30


def alone(function, *arguments):
    """function(*arguments) in a fresh process, so that its peak memory is this measurement's. MemoryError where the
    memory does not suffice."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except (BrokenProcessPool, torch.OutOfMemoryError):  # the kernel ends what takes too much
            raise MemoryError("a measurement was ended, most likely for want of memory; lower --batch_size, "
                              "--grid_size or --max_seq_len") from None


# ---- what is printed ------------------------------------------------------------------------------------------------


def table(rows):
    """Print rows of cells, columns aligned, the first row as the header."""
    widths = [max(len(str(row[k])) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())
    print()


def say(text):
    """One line of progress a measurement, on stderr: stdout is for tables and the JSON line."""
    print(text, file=sys.stderr, flush=True)


def ratio(value, ours):
    """value / ours for a table, two figures of it; nothing where ours is not known."""
    if math.isnan(ours):
        return ""
    return f"{value / ours:.2g}" if value < 100 * ours else f"{value / ours:.0f}"


def machine():
    """Hardware, versions and commit, for the JSON line."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu, "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None, "python": platform.python_version(),
        "numpy": np.__version__, "numba": numba.__version__, "torch": torch.__version__, "commit": git_commit(),
    }  # fmt: skip
