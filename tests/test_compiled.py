"""Compiled functions where the disk, the process or the threads are not as one would like."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ATTRACTOR = "CONVERGED  ticks 41  period 0  share at -1 0.229"
FRAME = [sys.executable, "wheeler_cpu.py", "--random", "0"]
USE = """
import threading
import numpy as np
from wheeler_cpu import WheelerMemoryCPU
from wheeler_store import WheelerMemory
frames = np.random.default_rng(0).uniform(-1, 1, (6, 16, 16)).astype(np.float32)
memory = WheelerMemory(16, 16)
memory.remember(frames, list("abcdef"))
def use(_=None):
    finals = WheelerMemoryCPU(16, 16).run_dynamics(frames).final_frame
    return [found[0].text for found in memory.recall(frames, 1)] + [float(finals.sum())]
"""


def run(code: list[str], **environment) -> subprocess.CompletedProcess:
    return subprocess.run(code, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
                          timeout=300, check=False)


@pytest.mark.slow
def test_without_a_folder_for_machine_code():
    """A shared install whose user may write neither the project nor a home."""
    code = ("import runpy, sys; from numba.core import caching; "
            "caching.CompileResultCacheImpl._locator_classes = []; sys.argv = ['wheeler_cpu.py', '--random', '0']; "
            "runpy.run_path('wheeler_cpu.py', run_name='__main__')")
    done = run([sys.executable, "-c", code])
    assert done.stdout.startswith(ATTRACTOR), done.stderr


@pytest.mark.slow
def test_machine_code_that_is_damaged_is_compiled_again(tmp_path):
    first = run(FRAME, NUMBA_CACHE_DIR=str(tmp_path))
    files = [*tmp_path.rglob("*.nbc"), *tmp_path.rglob("*.nbi")]
    assert first.stdout.startswith(ATTRACTOR) and files
    for damage in (b"", b"nonsense"):
        for file in files:
            file.write_bytes(damage)
        for _ in range(2):
            again = run(FRAME, NUMBA_CACHE_DIR=str(tmp_path))
            assert again.stdout == first.stdout, again.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_gets_the_same_answers():
    done = run([sys.executable, "-c", USE + """
import multiprocessing
wanted = use()
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map_async(use, range(4)).get(240) == [wanted] * 4, use() == wanted)
"""])
    assert done.stdout.split() == ["True", "True"], done.stderr


@pytest.mark.slow
def test_threads_at_once_under_numbas_own_layer():
    done = run([sys.executable, "-c", USE + """
wanted, found = use(), []
threads = [threading.Thread(target=lambda: found.extend(use() for _ in range(50))) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(found == [wanted] * 200)
"""], NUMBA_THREADING_LAYER="workqueue", NUMBA_NUM_THREADS="2")
    assert done.stdout.strip() == "True", done.stderr
