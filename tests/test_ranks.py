"""Several processes: the same batches, the same loss, one writer, one stop. Forked, with gloo; torchrun if slow."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from test_train import ROOT, load, rows

from wheeler.training.data import EpochBatches
from wheeler.training.ranks import Ranks, StopSignal


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def together(count, function, during=None):
    """function(rank) in `count` forked processes of one run; their exit codes and what they wrote to stdout, stderr."""
    port, children = free_port(), []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for number, name in ((1, "out"), (2, "err")):
                    os.dup2(os.open(f"{name}{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
                               "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                code = function(rank)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        children.append(child)
    if during:
        during(children)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return codes, *([Path(f"{kind}{rank}").read_text() for rank in range(count)] for kind in ("out", "err"))


def losses(name):
    return [row["loss"] for row in rows(name) if "loss" in row]


FLAGS = ("--max_steps 6 --batch_size 9 --accumulation_steps 2 --lr 3e-4 --warmup_steps 2 --eval_every 4 --save_every 4 "
         "--blank_share 0.3")


def test_two_processes_give_the_loss_curve_of_one(run):
    """An odd batch with both kinds of rows, accumulated: the weights of the ranks' means matter."""
    assert run(FLAGS, "one") == 0
    codes, out, err = together(2, lambda rank: run(FLAGS, "two"))
    assert codes == [0, 0], err
    assert losses("two") == pytest.approx(losses("one"), rel=2e-4)
    assert losses("one")[-1] < losses("one")[0] - 0.01                        # something was learned meanwhile
    one, two = load("one/last.pt"), load("two/last.pt")
    for name, weight in one["model"].items():
        torch.testing.assert_close(two["model"][name], weight, atol=2e-3, rtol=0)
    assert "2 processes" in out[0] and out[1] == "" and len(rows("two")) == len(rows("one"))    # one writer
    assert two["training"]["best"] == pytest.approx(one["training"]["best"], rel=1e-3)


@pytest.mark.slow
def test_resumed_processes_go_on_exactly(run):
    """Each with the generators it had: dropout is not that of the other process, nor that of the start."""
    import train

    flags = "--max_steps 4 --warmup_steps 9 --dropout 0.2 --save_every 2"
    assert together(2, lambda rank: run(flags, "whole"))[0] == [0, 0]
    assert together(2, lambda rank: run(f"{flags} --max_steps 2", "parts"))[0] == [0, 0]
    assert together(2, lambda rank: train.main(["--resume", "parts/last.pt", "--max_steps", "4"]))[0] == [0, 0]
    whole, parts = load("whole/last.pt"), load("parts/last.pt")
    assert all(torch.equal(whole["model"][key], weight) for key, weight in parts["model"].items())
    others = parts["training"]["rng_of_others"]
    assert len(others) == 1 and not torch.equal(others[0]["torch"], parts["training"]["rng"]["torch"])


def test_fewer_rows_of_a_kind_than_processes(run):
    flags = "--max_steps 2 --batch_size 4 --blank_share 0.25"
    assert run(flags, "one") == 0
    assert together(2, lambda rank: run(flags, "two"))[0] == [0, 0]
    assert losses("two")[0] == pytest.approx(losses("one")[0], rel=1e-4)


def test_rows_are_shared_without_overlap(run, shared):
    from wheeler.training.data import build_dataset, get_tokenizer
    from wheeler.training.texts import load_texts

    texts = load_texts(str(shared / "a.jsonl"))
    tokenizer = get_tokenizer(None, texts, 512, shared / "cache")
    data = build_dataset(texts, tokenizer, 16, shared / "cache")
    whole = EpochBatches(data, 7, 0, 0, 0.5, 2)
    parts = [EpochBatches(data, 7, 0, 0, 0.5, 2, rank, 3) for rank in range(3)]
    for i in range(len(whole)):
        ids = torch.empty_like(whole[i][0])
        for rank, part in enumerate(parts):
            ids[rank::3] = part[i][0]
            assert part.tokens(i) == whole[i][1].sum()
        assert torch.equal(ids, whole[i][0])


def torchrun_says(monkeypatch, **variables):
    for name, value in ({"MASTER_ADDR": "x", "MASTER_PORT": "1", "RANK": "0"} | variables).items():
        monkeypatch.setenv(name, value)


def test_share_counts_rows(monkeypatch):
    torchrun_says(monkeypatch, WORLD_SIZE="3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares.append([Ranks().share(rows) for rows in range(9)])
    assert np.sum(shares, 0).tolist() == list(range(9)) and np.ptp(shares, 0).max() == 1
    monkeypatch.delenv("MASTER_ADDR")
    assert Ranks().count == 1                                                 # WORLD_SIZE of something else


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"])
def test_variables_that_are_no_numbers_are_named(run, monkeypatch, capsys, name):
    torchrun_says(monkeypatch, **{"WORLD_SIZE": "2", name: "a"})
    assert run() == 2
    error = capsys.readouterr().err
    assert f"{name} = 'a' in the environment" in error and error.count("\n") == 1


@pytest.mark.parametrize("local", [0, 1])
def test_every_process_says_that_gpus_are_too_few(run, monkeypatch, capsys, local):
    """Process 0 has one, and is the only one that prints."""
    torchrun_says(monkeypatch, WORLD_SIZE="2", RANK=str(local), LOCAL_RANK=str(local), LOCAL_WORLD_SIZE="2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert run("--device cuda") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 - local and ("process 1 of this machine has no GPU" in error) == (local == 0)


def test_error_in_one_process_stops_all(run):
    def broken(rank):
        clip, count = torch.nn.utils.clip_grad_norm_, [0]

        def and_fail(*args):
            count[0] += 1
            if rank == 1 and count[0] == 3:
                raise MemoryError("too much for this one")
            return clip(*args)

        torch.nn.utils.clip_grad_norm_ = and_fail
        return run("--max_steps 1000 --save_every 1", "two")

    codes, _, err = together(2, broken)
    assert codes == [2, 2]
    assert "out of memory with --batch_size 8" in err[1] and "another process" in err[0]
    assert "Traceback" not in err[0] + err[1] and load("two/last.pt")["training"]["step"] >= 1


@pytest.mark.slow
def test_stream_that_one_process_cannot_read_stops_all_and_saves(run, monkeypatch):
    from wheeler.training.data import TextStream, TokenBlocks
    from wheeler.training.texts import DataError

    monkeypatch.setattr(TextStream.block, "__defaults__", (30,))

    def broken(rank):
        def advance(self, old=TokenBlocks.advance):
            if rank == 1:
                raise DataError("--dataset x: reading the stream failed (no network)")
            old(self)

        TokenBlocks.advance = advance
        return run("--streaming --max_steps 1000", "two")

    codes, _, err = together(2, broken)
    assert codes == [2, 2] and "Traceback" not in err[0] + err[1]
    assert "another process cannot read the stream: stopped at step 3, saved two/last.pt" in err[0] + err[1]
    assert load("two/last.pt")["training"]["step"] == 3


def test_wrong_flags_are_said_once(run):
    codes, _, err = together(2, lambda rank: run("--batch_size 1", "two"))
    assert codes == [2, 2] and "at least 1 for each of the 2 processes" in err[0] and err[1] == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_to_one_process_stops_all_after_the_same_step(run, number):
    def during(children):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (Path("two/metrics.jsonl").exists() and len(rows("two")) > 3):
            time.sleep(0.02)
        os.kill(children[1], number)
        os.kill(children[1], number)                                          # torchrun's echo of the first one

    before = signal.signal(number, signal.SIG_DFL)                            # nohup ignores SIGHUP, and so does a run
    try:
        codes, out, err = together(2, lambda rank: run("--max_steps 100000", "two"), during)
    finally:
        signal.signal(number, before)
    assert codes == [128 + number] * 2, err
    assert "--resume two/last.pt" in out[0] and "Traceback" not in err[0] + err[1]
    assert load("two/last.pt")["training"]["step"] == rows("two")[-1]["step"]


def test_second_signal_counts_after_the_echo():
    stop = StopSignal(quiet=True, echo=0.05)
    stop(signal.SIGINT, None)
    stop(signal.SIGINT, None)
    time.sleep(0.06)
    with pytest.raises(KeyboardInterrupt):
        stop(signal.SIGINT, None)
    assert stop.received == signal.SIGINT


def test_a_closed_terminal_never_asks_for_haste(monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.stdout)                            # both are wrapped by the signal
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    for numbers in ((signal.SIGHUP,) * 3, (signal.SIGTERM, signal.SIGHUP), (signal.SIGHUP, signal.SIGTERM)):
        stop = StopSignal(quiet=True)
        for number in numbers:
            stop(number, None)
        assert stop.received == numbers[0]
    stop.when -= 6                                                            # seconds later somebody means it
    with pytest.raises(KeyboardInterrupt):
        stop(signal.SIGTERM, None)


@pytest.mark.slow
def test_a_terminal_that_is_gone(shared, tmp_path):
    master, slave = os.openpty()
    flags = [*TINY, "--dataset", str(shared / "a.jsonl"), "--cache_dir", str(shared / "cache"), "--max_steps", "100000",
             "--output_dir", "run", "--num_workers", "1"]
    code = "import os, runpy, sys; os.setsid(); import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); " \
           "sys.path.insert(0, os.path.dirname(sys.argv[1])); sys.argv = sys.argv[1:]; " \
           "runpy.run_path(sys.argv[0], run_name='__main__')"
    process = subprocess.Popen([sys.executable, "-c", code, str(ROOT / "train.py"), *flags], cwd=tmp_path, stdin=slave,
                               stdout=slave, stderr=slave)
    os.close(slave)
    os.set_blocking(master, False)
    deadline, metrics = time.monotonic() + 90, tmp_path / "run/metrics.jsonl"
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("\n") > 3):
        try:
            os.read(master, 1 << 16)                                          # a full terminal would stop the run
        except BlockingIOError:
            time.sleep(0.05)
    os.close(master)                                                          # hangs up: SIGHUP, and no more output
    assert process.wait(60) == 128 + signal.SIGHUP
    assert load(tmp_path / "run/last.pt")["training"]["step"] > 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_torchrun(shared, tmp_path, number):
    flags = [*TINY, "--dataset", str(shared / "a.jsonl"), "--cache_dir", str(shared / "cache"), "--max_steps"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port", str(free_port()),
               str(ROOT / "train.py"), *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "6", "--output_dir", "two"], cwd=tmp_path, capture_output=True, text=True,
                          timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, str(ROOT / "train.py"), *flags, "6", "--output_dir", "one"], cwd=tmp_path,
                   check=True, timeout=60, env=environment, capture_output=True)
    os.chdir(tmp_path)
    assert losses("two") == pytest.approx(losses("one"), rel=2e-4)
    # What a terminal sends reaches torchrun and both processes: they save and say how to go on.
    with subprocess.Popen([*command, "100000", "--output_dir", "stopped"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (Path("stopped/metrics.jsonl").exists() and len(rows("stopped")) > 3):
            time.sleep(0.05)
        os.killpg(process.pid, number)
        out, _ = process.communicate(timeout=60)
    assert "--resume stopped/last.pt" in out and load("stopped/last.pt")["training"]["step"] > 1
