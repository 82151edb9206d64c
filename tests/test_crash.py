"""Killed, full, unwritable, deleted: a run goes on from what is whole, says one line, loses nothing good."""

import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from test_train import ROOT, assert_same, load, resume, rows

import train
from wheeler.training.run_folder import Metrics, read_metrics


def fork(function, dies_after: float) -> int:
    """Run a function in a child process, killed after that many seconds of CPU time of its own; its exit code, or minus
    the signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            code = function()
        finally:
            os._exit(code)
    while dies_after < math.inf:
        user, system = Path(f"/proc/{child}/stat").read_text().rsplit(")")[1].split()[11:13]
        if (int(user) + int(system)) / os.sysconf("SC_CLK_TCK") >= dies_after:
            os.kill(child, signal.SIGKILL)
            break
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def same_end(whole, parts):
    a, b = load(f"{whole}/last.pt"), load(f"{parts}/last.pt")
    assert_same(a["model"], b["model"])
    for key in ("optimizer", "rng", "step", "best", "skipped"):
        assert_same(a["training"][key], b["training"][key], key)
    loss = lambda run: {row["step"]: row["loss"] for row in read_metrics(run) if "loss" in row}
    assert loss(whole) == loss(parts)
    assert not list(Path(parts).glob("*.tmp"))


@pytest.mark.parametrize("kills, steps", [(5, 14), pytest.param(50, 150, marks=pytest.mark.slow)])
def test_killed_at_random_points_ends_like_an_unbroken_run(run, kills, steps):
    assert run() == 0                                                         # makes the cache, warms up
    flags, begin = f"--dropout 0.1 --max_steps {steps} --save_every 1 --eval_every 5 --log_every 1", time.process_time()
    assert run(flags, "whole") == 0
    takes, rng, done = time.process_time() - begin, random.Random(0), 0
    while True:
        begun = Path("parts/last.pt").exists()
        least = 0.05 if begun else 0.3 * takes * 14 / steps                   # give the first one time to begin
        code = fork(lambda: resume("parts/last.pt") if begun else run(flags, "parts"),
                    math.inf if done == kills else least + rng.uniform(0, 1.5 * takes / kills))
        if code != -signal.SIGKILL:
            break
        done += 1
        for name in ("last.pt", "best.pt"):                                   # whole, or not there yet
            assert not Path("parts", name).exists() or load(f"parts/{name}")
    print(f"{done} kills")
    assert done >= 0.4 * kills and code in (0, 2)                             # 2: killed after its last save
    same_end("whole", "parts")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_killed_50_times_as_a_command(shared, tmp_path, seed):
    """Real processes with workers. Every kill comes at a random moment of a run that has begun or is about to."""
    rng, folder = random.Random(seed), tmp_path / "parts"
    flags = [*TINY, *"--dropout 0.1 --save_every 1 --eval_every 5 --log_every 1 --max_steps 400".split(), "--dataset",
             str(shared / "a.jsonl"), "--cache_dir", str(shared / "cache")]

    def begin(*given):
        return subprocess.Popen([sys.executable, str(ROOT / "train.py"), *given], cwd=tmp_path, stderr=subprocess.PIPE,
                                stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})

    whole = begin(*flags, "--output_dir", "whole")
    assert whole.wait(timeout=300) == 0
    kills = steps = 0
    while kills < 50:
        at = folder / "last.pt"
        process = begin(*flags, "--output_dir", "parts") if not at.exists() else begin(
            "--resume", "parts/last.pt", "--num_workers", str(kills % 3 // 2))
        before = at.stat().st_mtime_ns if at.exists() else None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:         # until it has saved something
            if at.exists() and at.stat().st_mtime_ns != before:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.15) if kills % 10 else 0)
        process.kill()
        error = process.communicate()[1].decode()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, error
        kills += 1
        steps = load(at)["training"]["step"]
    print(f"{kills} kills, step {steps} of 400")
    assert kills == 50 and begin("--resume", "parts/last.pt").wait(timeout=300) == 0
    os.chdir(tmp_path)
    same_end("whole", "parts")


def test_killed_while_setting_up_leaves_no_rubbish(run):
    run("--save_every 2")
    for name in ("last.pt.123.tmp", "run.json.9.tmp"):
        Path("run", name).write_text("half")
    Path("run/metrics.jsonl").write_text(Path("run/metrics.jsonl").read_text()[:-9])       # a line cut off
    assert resume("run/last.pt --max_steps 5") == 0
    assert not list(Path("run").glob("*.tmp"))
    assert [row["step"] for row in read_metrics("run")][-2:] == [5, 5]


def test_second_run_in_the_same_folder_is_refused(run, capsys):
    with train.run_lock(Path("run")):
        assert run() == 2
        assert "another run is writing there" in capsys.readouterr().err
    assert run() == 0


@pytest.fixture
def small_disk():
    """No file can grow beyond n bytes, as when the disk is full: small_disk(n)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda n: resource.setrlimit(resource.RLIMIT_FSIZE, (n, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk_while_saving(run, capsys, small_disk):
    assert run("--save_every 2") == 0
    before = {p.name: p.read_bytes() for p in Path("run").iterdir()}
    small_disk(len(before["last.pt"]) // 2)
    assert resume("run/last.pt --max_steps 8 --save_every 1 --eval_every -1") == 2
    error = capsys.readouterr().err
    assert error.count("train.py: ") == 1 and "run/last.pt cannot be written" in error and "kept" in error
    assert {p.name: p.read_bytes() for p in Path("run").iterdir() if p.suffix == ".pt"} == {
        name: content for name, content in before.items() if name.endswith(".pt")}
    small_disk(resource.RLIM_INFINITY)
    assert resume("run/last.pt --max_steps 8") == 0


def test_full_disk_while_logging_and_caching(run, capsys, small_disk, monkeypatch, shared, tmp_path):
    small_disk(600)
    assert run(f"--cache_dir {tmp_path / 'new'}", "first") == 2
    assert "--cache_dir" in capsys.readouterr().err and not list((tmp_path / "new").iterdir())
    small_disk(resource.RLIM_INFINITY)
    run()
    metrics = Metrics(Path("run/metrics.jsonl"))
    small_disk(Path("run/metrics.jsonl").stat().st_size + 3)
    with pytest.raises(train.UsageError, match="run/metrics.jsonl cannot be written"):
        metrics.write({"step": 9, "loss": 1.0})
    metrics.close()
    small_disk(resource.RLIM_INFINITY)                                        # pytest's own output may go to a file


def test_folder_that_goes_away(run, capsys, monkeypatch):
    clip, count = torch.nn.utils.clip_grad_norm_, [0]

    def and_remove(*args):
        count[0] += 1
        if count[0] == 2:
            shutil.rmtree("run")
        return clip(*args)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", and_remove)
    assert run("--save_every 2") == 2
    assert "run/last.pt cannot be written (No such file or directory)" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 2])
def test_deleted_data(run, capsys, shared, tmp_path, monkeypatch, workers):
    """The tokenised data vanish while a run maps them: it goes on. Gone before a resumed run: one line."""
    copy, cache = tmp_path / "copy.jsonl", tmp_path / "cache"
    shutil.copy(shared / "a.jsonl", copy)
    clip = torch.nn.utils.clip_grad_norm_
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args: (shutil.rmtree(cache, True), clip(*args))[1])
        assert run(f"--dataset {copy} --cache_dir {cache} --num_workers {workers}") == 0
    copy.unlink()
    assert resume("run/last.pt --max_steps 6") == 2
    error = capsys.readouterr().err
    assert "no such file" in error and error.count("train.py: ") == 1 and load("run/last.pt")["training"]["step"] == 4


def test_killed_worker_gives_one_line(run, capfd, monkeypatch):
    item = train.EpochBatches.__getitem__
    monkeypatch.setattr(train.EpochBatches, "__getitem__", lambda self, i: (
        os.kill(os.getpid(), signal.SIGKILL) if torch.utils.data.get_worker_info() else None, item(self, i))[1])
    assert run("--num_workers 1") == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("train.py: ") and "DataLoader worker" in line


def test_damaged_cache_is_named_or_made_again(run, capsys, shared, tmp_path):
    cache = tmp_path / "cache"
    run(f"--cache_dir {cache}")
    tokens = next(cache.glob("*/tokens.bin"))
    for path in cache.glob("*/tokens.bin"):
        path.write_bytes(np.full(path.stat().st_size // 2, 65535, np.uint16).tobytes())
    capsys.readouterr()
    assert run(f"--cache_dir {cache}") == 2
    error = capsys.readouterr().err
    assert "65535 is not in the vocabulary" in error and "delete it" in error and error.count("\n") == 1
    assert tokens.exists() and rows("run")                                    # found before the new run began
