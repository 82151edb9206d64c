"""wheeler_memory.py: recall is numpy's correlation, the store survives crashes, the public layout goes both ways."""

import json
import os

import numpy as np
import pytest
import torch

import wheeler_memory
from wheeler_cpu import WheelerMemoryCPU
from wheeler_memory import WheelerMemory, pack, unpack


def frames_of(count, height=12, width=11, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, height, width)).astype(np.float32)


def filled(count=9, **size):
    memory = WheelerMemory(11, 12)
    frames = frames_of(count)
    memory.remember(frames, [f"text {k}" for k in range(count)], [{"n": k} for k in range(count)])
    return memory, frames


def snapshot(memory):
    return sorted((e["text"], e["state"], e["ticks"], memory.attractor(e["text"]).tobytes()) for e in memory.entries)


def test_similarity_is_pearson_of_the_attractors():
    memory, frames = filled()
    cues = frames_of(4, seed=1)
    finals = WheelerMemoryCPU(11, 12).run_dynamics(np.concatenate([cues, frames])).final_frame.reshape(13, -1)
    exact = np.corrcoef(finals)[:4, 4:]
    signs = np.corrcoef(np.where(finals < 0, -1.0, 1.0))[:4, 4:]
    got = memory.similarities(cues)
    assert got.shape == (4, 9) and np.allclose(got, signs, atol=1e-12) and np.abs(got - exact).max() < 0.01
    assert np.allclose(memory.similarities(torch.tensor(cues[1])), got[1], atol=0)


def test_recall_finds_what_was_remembered():
    memory, frames = filled()
    for k, frame in enumerate(frames):
        best, second = memory.recall(frame, k=2)
        assert (best.text, best.metadata, best.state) == (f"text {k}", {"n": k}, "CONVERGED")
        assert best.similarity == pytest.approx(1) and second.similarity < 0.9
    assert [r[0].text for r in memory.recall(frames, k=1)] == [f"text {k}" for k in range(9)]
    order = [r.similarity for r in memory.recall(frames[0], k=99)]
    assert len(order) == 9 and order == sorted(order, reverse=True)
    assert WheelerMemory(11, 12).recall(frames[0]) == []


def test_constant_frames_correlate_with_nothing():
    memory, frames = filled(3)
    assert np.all(memory.similarities(np.ones((12, 11), np.float32)) == 0)
    with pytest.raises(ValueError, match="nothing to blend"):
        memory.reconstruct(np.ones((12, 11), np.float32))


def test_pack_and_unpack():
    signs = np.where(frames_of(5, 7, 13) < 0, -1, 1).astype(np.float32)
    assert pack(signs).shape == (5, 2) and np.array_equal(unpack(pack(signs), 7, 13), signs)


def test_remembering_again_replaces_and_forgetting_forgets():
    memory, frames = filled()
    memory.remember(frames[8], "text 0")
    assert len(memory) == 9 and np.array_equal(memory.attractor("text 0"), memory.attractor("text 8"))
    memory.forget("text 3")
    memory.forget("text 8")
    assert len(memory) == 7 and "text 3" not in memory and "text 7" in memory
    assert memory.recall(frames[7], 1)[0].text == "text 7" and memory.recall(frames[3], 1)[0].text != "text 3"
    with pytest.raises(KeyError):
        memory.forget("text 3")
    for text in [e["text"] for e in memory.entries]:
        memory.forget(text)
    assert len(memory) == 0 and memory.recall(frames[0]) == []


def test_save_load_and_go_on(tmp_path):
    memory, frames = filled()
    memory.save(tmp_path / "s")
    loaded = WheelerMemory.load(tmp_path / "s")
    assert isinstance(loaded._signs, np.memmap) and snapshot(loaded) == snapshot(memory)
    assert loaded.recall(frames[4], 3) == memory.recall(frames[4], 3)
    loaded.remember(frames_of(1, seed=5)[0], "new")
    loaded.forget("text 1")
    loaded.save(tmp_path / "s")
    again = WheelerMemory.load(tmp_path / "s")
    assert snapshot(again) == snapshot(loaded) and "new" in again and "text 1" not in again
    again.forget("text 2")  # the first change of a mapped store may be a removal
    assert len(again) == 8 and len(list((tmp_path / "s").iterdir())) == 2
    WheelerMemory(5, 4).save(tmp_path / "empty")
    assert len(WheelerMemory.load(tmp_path / "empty")) == 0


def test_damaged_stores_are_named(tmp_path):
    memory, _ = filled()
    memory.save(tmp_path)
    signs, manifest = next(tmp_path.glob("signs-*.npy")), tmp_path / "manifest.json"
    whole, text = signs.read_bytes(), manifest.read_text()
    for name, content in ((signs, b""), (signs, whole[:100]), (manifest, b"[]"),
                          (manifest, text.replace('"key"', '"kee"').encode())):
        name.write_bytes(content)
        with pytest.raises(ValueError):
            WheelerMemory.load(tmp_path)
        signs.write_bytes(whole)
        manifest.write_text(text)
    np.save(signs, np.load(signs).astype(np.float64))
    with pytest.raises(ValueError, match="dtype float64"):
        WheelerMemory.load(tmp_path)
    memory.export_public(tmp_path / "public")
    next((tmp_path / "public").rglob("attractors/*.npy")).write_bytes(b"")
    with pytest.raises(ValueError, match="attractors"):
        WheelerMemory(5, 4).import_public(tmp_path / "public")


class Crash(BaseException):
    pass


@pytest.mark.parametrize("call", ["fsync", "replace", "unlink"])
@pytest.mark.parametrize("dies_at", range(6))
def test_a_crash_leaves_the_old_or_the_new_store(tmp_path, monkeypatch, call, dies_at):
    """The process dies at every system call of a save in turn, cleanup included."""
    memory, frames = filled(4)
    memory.save(tmp_path)
    old = snapshot(memory)
    memory.remember(frames_of(1, seed=5)[0], "new")
    new = snapshot(memory)
    count = 0

    def dying(real):
        def wrapped(*arguments, **options):
            nonlocal count
            count += 1
            if count > dies_at:  # nothing works any more after the crash
                raise Crash
            return real(*arguments, **options)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(*((os, call) if call != "unlink" else (wheeler_memory.Path, call)), dying(
            getattr(os, call) if call != "unlink" else wheeler_memory.Path.unlink))  # fmt: skip
        try:
            memory.save(tmp_path)
            crashed = False
        except Crash:
            crashed = True
    if crashed and call == "fsync" and dies_at == 0:
        assert snapshot(WheelerMemory.load(tmp_path)) == old
    if not crashed:
        assert snapshot(WheelerMemory.load(tmp_path)) == new
    assert snapshot(WheelerMemory.load(tmp_path)) in (old, new)
    memory.save(tmp_path)  # and the next save cleans up
    assert snapshot(WheelerMemory.load(tmp_path)) == new
    assert len(list(tmp_path.glob("signs-*.npy"))) == 1


def test_damaged_stores_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no readable memory store"):
        WheelerMemory.load(tmp_path / "missing")
    memory, _ = filled(3)
    memory.save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for change in ({"format": 99}, {"entries": manifest["entries"][:2]}, {"signs": "gone.npy"}, {"width": None}):
        (tmp_path / "manifest.json").write_text(json.dumps({**manifest, **change}))
        with pytest.raises(ValueError):
            WheelerMemory.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError):
        WheelerMemory.load(tmp_path)


def test_public_layout_both_ways(tmp_path):
    memory, frames = filled()
    memory.export_public(tmp_path, chunk="stories")
    index = json.loads((tmp_path / "index.json").read_text())
    key = memory.key("text 2")
    assert len(index) == 9 and set(index[key]) == {
        "text", "state", "convergence_ticks", "timestamp", "metadata", "chunk"}  # fmt: skip
    attractor = np.load(tmp_path / "chunks" / "stories" / "attractors" / f"{key}.npy")
    assert attractor.dtype == np.float32 and np.array_equal(attractor, memory.attractor("text 2"))
    with np.load(tmp_path / "chunks" / "stories" / "bricks" / f"{key}.npz") as brick:
        assert set(brick.files) == {"history", "attractor", "convergence_ticks", "state", "metadata_json"}
        assert int(brick["convergence_ticks"]) == index[key]["convergence_ticks"] > 10
        assert json.loads(str(brick["metadata_json"])) == {"n": 2}
    other = WheelerMemory(11, 12)
    other.remember(frames[0], "text 2")  # replaced by the import
    assert other.import_public(tmp_path) == 9 and snapshot(other) == snapshot(memory)
    # a store written by others: attractors that are +-1 only up to the tolerance
    np.save(tmp_path / "chunks" / "stories" / "attractors" / f"{key}.npy", attractor * np.float32(0.9998))
    assert WheelerMemory(11, 12).import_public(tmp_path) == 9
    np.save(tmp_path / "chunks" / "stories" / "attractors" / f"{key}.npy", attractor[:5])
    fresh = WheelerMemory(11, 12)
    with pytest.raises(ValueError, match=f"{key}.npy"):
        fresh.import_public(tmp_path)
    assert len(fresh) == 0
    with pytest.raises(ValueError, match="index.json"):
        fresh.import_public(tmp_path / "nowhere")


def test_reconstruct_mends_a_damaged_cue():
    memory, frames = filled()
    whole = memory.attractor("text 5")
    rng = np.random.default_rng(3)
    damaged = np.where(rng.random(whole.shape) < 0.1, -whole, whole)
    got = memory.reconstruct(damaged, k=1, settle=False)
    assert got.state == "CONVERGED" and np.array_equal(got.final_frame, whole)
    blended = memory.reconstruct(damaged, k=4, settle=False).final_frame
    alone = WheelerMemoryCPU(11, 12).run_dynamics(damaged).final_frame
    assert np.mean((blended < 0) == (whole < 0)) > max(0.9, np.mean((alone < 0) == (whole < 0)))
    with pytest.raises(ValueError, match="one frame"):
        memory.reconstruct(frames)


def test_bad_input():
    memory, frames = filled(2)
    with pytest.raises(ValueError, match="as many texts"):
        memory.remember(frames, ["one"])
    with pytest.raises(ValueError, match="as many texts"):
        memory.remember(frames, "ab")
    with pytest.raises(ValueError, match="must be a string"):
        memory.remember(frames[0], 5)
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        memory.remember(frames[0] * 9, "x")
    with pytest.raises(TypeError):
        memory.remember(frames[0], "x", {"a": object()})
    for k in (0, -1, 1.5):
        with pytest.raises(ValueError, match="k is"):
            memory.recall(frames[0], k)
    assert len(memory) == 2 and "x" not in memory
