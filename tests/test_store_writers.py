"""Several writers of one store: nothing is lost, nobody crashes, a killed one leaves a whole store."""

import json
import multiprocessing
import os
import random
import signal
import threading
import time

import numpy as np
import pytest

from wheeler.memory import disk, saved
from wheeler_store import WheelerMemory

# Forks of a process that has imported everything and has no threads: they start at once and cannot hang.
CONTEXT = multiprocessing.get_context("forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else None)
if CONTEXT.get_start_method() == "forkserver":
    CONTEXT.set_forkserver_preload(["wheeler_store", __name__])


def add(memory, text, timestamp=None, seed=0):
    """Remember a text under a random pattern, without running the dynamics."""
    rng = np.random.default_rng([seed, *text.encode()])
    signs = rng.integers(0, 2**64, (1, 2), np.uint64) & np.uint64(2**55 - 1)  # of 10 x 11 cells
    signs[:, 1] &= np.uint64(2**46 - 1)
    memory._append(signs, [{
        "key": memory.key(text), "text": text, "state": "CONVERGED", "ticks": 1, "metadata": {},
        "timestamp": time.time() if timestamp is None else timestamp, "negative": int(np.bitwise_count(signs).sum())}])


def texts(memory):
    return sorted(e["text"] for e in memory.entries)


def empty():
    return WheelerMemory(11, 10)


def save_often(folder, name, count, told):
    """Save a memory count times, with one text more each time; told gets the number of each save that returned."""
    memory = empty()
    for k in range(count):
        add(memory, f"{name} {k}")
        memory.save(folder)
        told.send(k)
    told.send("done")


def export_often(folder, name, count, told):
    memory = empty()
    for k in range(count):
        add(memory, f"{name} {k}")
        memory.export_public(folder)
    told.send("done")


def start(target, *arguments):
    mine, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=target, args=(*arguments, theirs))
    process.start()
    theirs.close()
    return process, mine


def heard(pipe):
    """All that a process said, until it ended."""
    out = []
    try:
        while True:
            out.append(pipe.recv())
    except EOFError:
        return out


def test_two_savers_lose_nothing_and_readers_never_fail(tmp_path):
    empty().save(tmp_path)
    savers = [start(save_often, tmp_path, name, 25) for name in ("a", "b")]
    seen = 0
    while any(process.is_alive() for process, _ in savers):
        now = len(WheelerMemory.load(tmp_path))
        assert now >= seen  # what was there stays
        seen = now
    for process, pipe in savers:
        process.join()
        assert process.exitcode == 0 and heard(pipe)[-1] == "done"
    assert texts(WheelerMemory.load(tmp_path)) == sorted(f"{name} {k}" for name in "ab" for k in range(25))
    assert len(list(tmp_path.glob("signs-*"))) == 1 and not list(tmp_path.glob("*.tmp"))


def test_two_exporters_lose_nothing(tmp_path):
    exporters = [start(export_often, tmp_path, name, 10) for name in ("a", "b")]
    for process, pipe in exporters:
        assert heard(pipe) == ["done"]
        process.join()
    memory = empty()
    assert memory.import_public(tmp_path) == (20, [])
    assert texts(memory) == sorted(f"{name} {k}" for name in "ab" for k in range(10))
    assert len(list(tmp_path.rglob("*.npy"))) == len(list(tmp_path.rglob("*.npz"))) == 20


def kill_rounds(folder, rounds, seed):
    """One of two savers is killed at a random moment; the store loads and holds all whose save had returned."""
    rng, expected = random.Random(seed), set()
    for turn in range(rounds):
        savers = [start(save_often, folder, f"{turn}{name}", 10_000 if name == "a" else 3) for name in ("a", "b")]
        (victim, victims), (other, others) = savers
        expected.add(f"{turn}b {others.recv()}")  # both are at work
        time.sleep(rng.uniform(0, 0.1))
        os.kill(victim.pid, signal.SIGKILL)
        for process, pipe in savers:
            expected |= {f"{turn}{'a' if pipe is victims else 'b'} {k}" for k in heard(pipe) if k != "done"}
            process.join()
        assert other.exitcode == 0
        now = set(texts(WheelerMemory.load(folder)))
        assert expected <= now and len(now - expected) <= 1  # the last save may have ended unsaid
        expected = now
    WheelerMemory.load(folder).save(folder)
    assert sorted(f.name[:6] for f in folder.iterdir()) == ["manife", "signs-", "writer"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_killed_saver_leaves_a_whole_store(tmp_path):
    kill_rounds(tmp_path, 20, 0)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_saver_killed_50_times(tmp_path):
    kill_rounds(tmp_path, 50, 1)


def pair(folder, *known):
    """Two memories that loaded the same store of some texts."""
    memory = empty()
    for text in known:
        add(memory, text, timestamp=100.0)
    memory.save(folder)
    return WheelerMemory.load(folder), WheelerMemory.load(folder)


def test_saves_unite_what_both_changed(tmp_path):
    a, b = pair(tmp_path, "x", "y", "z", "old")
    add(a, "of a")
    add(a, "x", timestamp=300.0, seed=1)
    a.forget("y")
    add(b, "of b")
    add(b, "x", timestamp=200.0, seed=2)
    b.forget("z")
    a.save(tmp_path)
    b.save(tmp_path)
    newest = a.attractor("x")
    for memory in (b, WheelerMemory.load(tmp_path)):  # b holds what the store holds
        assert texts(memory) == ["of a", "of b", "old", "x"] and np.array_equal(memory.attractor("x"), newest)
    a.save(tmp_path)  # what b forgot does not come back, what a forgot neither
    assert texts(a) == texts(WheelerMemory.load(tmp_path)) == ["of a", "of b", "old", "x"]


def test_the_newer_of_two_stays_whoever_saves_last(tmp_path):
    for first, last in ((200.0, 300.0), (300.0, 200.0)):
        a, b = pair(tmp_path, "x")
        add(a, "x", timestamp=first, seed=1)
        add(b, "x", timestamp=last, seed=2)
        newest = (a if first > last else b).attractor("x")
        a.save(tmp_path)
        b.save(tmp_path)
        assert np.array_equal(WheelerMemory.load(tmp_path).attractor("x"), newest)
        a.forget("x")
        a.save(tmp_path)


def test_forgotten_stays_forgotten_and_changed_stays(tmp_path):
    a, b = pair(tmp_path, "x", "y")
    add(b, "x", seed=1)
    b.save(tmp_path)
    a.forget("x")  # of two changes
    a.save(tmp_path)
    assert texts(WheelerMemory.load(tmp_path)) == ["y"]
    a, b = pair(tmp_path, "x", "y")
    a.forget("x")
    a.save(tmp_path)
    add(b, "x", timestamp=50.0, seed=1)  # older, as an import may be; still remembered after the load
    b.save(tmp_path)
    assert texts(WheelerMemory.load(tmp_path)) == ["x", "y"]


def test_an_import_of_something_older_counts_where_no_other_changed_it(tmp_path):
    a, b = pair(tmp_path, "x", "y")
    b.forget("y")
    b.save(tmp_path)
    add(a, "x", timestamp=50.0, seed=1)
    mine = a.attractor("x")
    a.save(tmp_path)
    assert np.array_equal(WheelerMemory.load(tmp_path).attractor("x"), mine)


def test_a_memory_of_its_own_adds_to_a_store(tmp_path):
    pair(tmp_path, "x")
    other = empty()
    add(other, "new")
    other.save(tmp_path)
    assert texts(other) == texts(WheelerMemory.load(tmp_path)) == ["new", "x"]
    other.forget("x")
    other.save(tmp_path)
    assert texts(WheelerMemory.load(tmp_path)) == ["new"]


def test_a_copy_elsewhere_does_not_bring_back_what_was_forgotten(tmp_path):
    a, b = pair(tmp_path / "store", "x", "y")
    a.forget("x")
    for k in range(3):
        a.save(tmp_path / f"copy {k}")
    b.save(tmp_path / "store")
    a.save(tmp_path / "store")
    assert texts(WheelerMemory.load(tmp_path / "store")) == ["y"]


def test_a_store_that_was_set_back_loses_nothing(tmp_path):
    """A backup that was put back is no descendant of what the memory knows: what it lacks was not forgotten."""
    memory, _ = pair(tmp_path, "x")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    add(memory, "y")
    memory.save(tmp_path)
    for file, content in before.items():
        file.write_bytes(content)
    memory.save(tmp_path)
    assert texts(WheelerMemory.load(tmp_path)) == ["x", "y"]
    for file in tmp_path.iterdir():
        file.unlink()
    memory.save(tmp_path)
    assert texts(WheelerMemory.load(tmp_path)) == ["x", "y"]


def test_a_reader_follows_a_save(tmp_path, monkeypatch):
    a, _ = pair(tmp_path, "x")
    add(a, "y")
    real, turns = np.load, []

    def load(*arguments, **options):
        turns.append(1)
        if len(turns) == 1:  # between the manifest and the signs another process saves
            a.save(tmp_path)
            turns.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(np, "load", load)
    assert texts(WheelerMemory.load(tmp_path)) == ["x", "y"]
    next(tmp_path.glob("signs-*.npy")).unlink()
    with pytest.raises(ValueError, match="No such file"):
        WheelerMemory.load(tmp_path)


def test_other_sizes_and_damaged_stores_are_not_written_over(tmp_path):
    a, b = pair(tmp_path, "x")
    with pytest.raises(ValueError, match=r"\(11, 10, 'min'\)"):
        WheelerMemory(10, 11).save(tmp_path)
    with pytest.raises(ValueError, match="'max'"):
        WheelerMemory(11, 10, "max").save(tmp_path)
    assert texts(WheelerMemory.load(tmp_path)) == ["x"]
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="no readable memory store"):
        a.save(tmp_path)
    assert len(list(tmp_path.glob("signs-*.npy"))) == 1


def test_a_lock_that_is_kept_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "LOCK_SECONDS", 0.1)
    a, b = pair(tmp_path, "x")
    add(b, "y")
    held, enough = threading.Event(), threading.Event()

    def hold():
        with disk.locked(tmp_path):
            held.set()
            enough.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    try:
        for write in (b.save, b.export_public):
            with pytest.raises(TimeoutError, match="another process has been writing there for 0.1 s"):
                write(tmp_path)
        assert texts(WheelerMemory.load(tmp_path)) == ["x"]  # reading needs no lock
    finally:
        enough.set()
        thread.join()
    b.save(tmp_path)
    assert texts(WheelerMemory.load(tmp_path)) == ["x", "y"]


def test_the_past_that_a_manifest_keeps_is_short(tmp_path, monkeypatch):
    monkeypatch.setattr(saved, "EARLIER", 3)
    a, b = pair(tmp_path, "x")
    for k in range(6):
        add(a, f"{k}")
        a.save(tmp_path)
    assert len(json.loads((tmp_path / "manifest.json").read_text())["earlier"]) == 3
    add(b, "b")
    b.save(tmp_path)  # too long ago to know what was forgotten: both are united
    assert texts(b) == texts(WheelerMemory.load(tmp_path)) == ["0", "1", "2", "3", "4", "5", "b", "x"]
