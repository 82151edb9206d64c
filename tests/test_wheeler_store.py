"""wheeler_store.py: recall is numpy's correlation, the store survives crashes and damage is named."""

import json
import os

import numpy as np
import pytest
import torch

from wheeler.memory import saved
from wheeler.memory.bits import pack, unpack
from wheeler_cpu import WheelerMemoryCPU
from wheeler_store import WheelerMemory


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
    assert len(again) == 8 and sorted(f.name[:6] for f in (tmp_path / "s").iterdir()) == ["manife", "signs-", "writer"]
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
        patch.setattr(*((os, call) if call != "unlink" else (saved.Path, call)), dying(
            getattr(os, call) if call != "unlink" else saved.Path.unlink))  # fmt: skip
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


def damage(change, format=2):
    """A function that changes the manifest of a store, written as an old format 1 or as it is."""

    def apply(folder):
        file = folder / "manifest.json"
        manifest = json.loads(file.read_text())
        if format == 1:
            manifest = {k: v for k, v in manifest.items() if k not in ("id", "crc32", "earlier")} | {"format": 1}
        change(manifest)
        file.write_text(json.dumps(manifest))

    return apply


def entry(**fields):
    """What changes fields of entry 1; a field of ... is removed."""

    def change(manifest):
        for name, value in fields.items():
            manifest["entries"][1][name] = value
            if value is ...:
                del manifest["entries"][1][name]

    return change


def zero_signs(folder):
    file = next(folder.glob("signs-*.npy"))
    np.save(file, np.zeros_like(np.load(file)))


def other_signs(folder):
    """The sign file of another store, of the same shape."""
    other = WheelerMemory(11, 12)
    other.remember(frames_of(9, seed=7), [f"other {k}" for k in range(9)])
    np.save(next(folder.glob("signs-*.npy")), other._signs[:9])


def turned_signs(folder):
    """Two cells of different signs of one memory change places: its count stays."""
    file = next(folder.glob("signs-*.npy"))
    signs = np.load(file)
    cells = np.unpackbits(signs[4].view(np.uint8))
    cells[[cells.argmax(), cells.argmin()]] = cells[[cells.argmin(), cells.argmax()]]
    signs[4] = np.packbits(cells).view(np.uint64)
    np.save(file, signs)


def deep_manifest(folder):
    (folder / "manifest.json").write_text("[" * 100_000 + "]" * 100_000)


def torn_header(folder):
    """A header without its end, to which numpy says something that is no ValueError."""
    signs = next(folder.glob("signs-*.npy"))
    signs.write_bytes(signs.read_bytes().replace(b")", b" ").replace(b"}", b" "))


@pytest.mark.parametrize("break_it, said", [
    (torn_header, "is not a readable .npy file"),
    (zero_signs, "cells below 0"), (other_signs, "cells below 0"), (turned_signs, "CRC-32"),
    (deep_manifest, "Recursion"), (damage(lambda m: m.update(crc32=1)), "the manifest says 1"),
    (damage(lambda m: m.pop("crc32")), "crc32"), (damage(lambda m: m.update(width=1)), "at least 2"),
    (damage(lambda m: m.update(width=10**30)), "signs of shape"), (damage(lambda m: m.update(signs=3)), "holds no"),
    (damage(lambda m: m.update(entries={})), "a list"), (damage(lambda m: m.update(tie_break=[])), "holds no"),
    (damage(lambda m: m["entries"].append(5)), "entry 9 has no key"),
    (damage(entry(negative=...)), "entry 1 has no negative"), (damage(entry(negative=3)), "entry 1 has 3 cells"),
    (damage(entry(negative=True)), "entry 1 has no negative"), (damage(entry(text=5)), "entry 1 has no text"),
    (damage(entry(state=...)), "entry 1 has no state"), (damage(entry(ticks="5")), "entry 1 has no ticks"),
    (damage(entry(ticks=2**64)), "ticks from"), (damage(entry(metadata=...)), "entry 1 has no metadata"),
    (damage(entry(timestamp=1e300)), "years 1 to 9999"), (damage(entry(timestamp=float("nan"))), "years 1 to 9999"),
    (damage(entry(timestamp="soon")), "timestamp is 'soon'"), (damage(entry(chunk=5)), "chunk is 5"),
    (damage(lambda m: entry(key=m["entries"][0]["key"], text=m["entries"][0]["text"])(m)), "same key"),
    (damage(entry(text="other")), "entry 1 has the key '.*', its text 'other' another"),
    (damage(entry(negative=...), 1), "entry 1 has no negative"),
    (damage(lambda m: m["entries"].reverse(), 1), "cells below 0")])
def test_damage_is_one_clear_error(tmp_path, break_it, said):
    filled()[0].save(tmp_path)
    break_it(tmp_path)
    with pytest.raises(ValueError, match=said) as caught:
        WheelerMemory.load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path} holds no readable memory store: ")


def test_zeroed_signs_of_an_old_store(tmp_path):
    filled()[0].save(tmp_path)
    damage(lambda m: None, format=1)(tmp_path)
    zero_signs(tmp_path)
    with pytest.raises(ValueError, match="cells below 0"):
        WheelerMemory.load(tmp_path)


def test_old_stores_are_read_and_go_on(tmp_path):
    memory, _ = filled()
    memory.save(tmp_path)
    iso = "2026-02-13T12:00:00.250000Z"  # old imports kept the text of the public store
    damage(entry(timestamp=iso, metadata="plain"), format=1)(tmp_path)
    loaded = WheelerMemory.load(tmp_path)
    assert snapshot(loaded) == snapshot(memory)
    assert loaded.entries[1]["timestamp"] == 1770984000.25 and loaded.entries[1]["metadata"] == "plain"
    loaded.remember(frames_of(1, seed=5)[0], "new")
    loaded.forget("text 1")
    loaded.save(tmp_path)
    assert snapshot(WheelerMemory.load(tmp_path)) == snapshot(loaded)
    assert json.loads((tmp_path / "manifest.json").read_text())["format"] == 2


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


@pytest.mark.parametrize("call", ["save", "export_public", "load", "import_public"])
def test_what_is_no_folder_is_named(tmp_path, call):
    memory, _ = filled(1)
    use = WheelerMemory.load if call == "load" else getattr(memory, call)
    for bad in ("", None, 5, "a\0b"):
        with pytest.raises(ValueError, match="folder is .*; it must be the path of a folder") as caught:
            use(bad)
        assert repr(bad) in str(caught.value)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "store/manifest.json").mkdir(parents=True)
    reads = call in ("load", "import_public")
    for name in ("file", "file/below", "x" * 300, *(["store"] if call == "load" else [])):
        with pytest.raises(ValueError if reads else OSError) as caught:
            use(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "[Errno" not in str(caught.value)
        assert "cannot be written: " in str(caught.value) or reads
    assert (tmp_path / "file").read_text() == "kept"


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
    with pytest.raises(ValueError, match="metadata"):
        memory.remember(frames[0], "x", {"a": object()})
    for k in (0, -1, 1.5):
        with pytest.raises(ValueError, match="k is"):
            memory.recall(frames[0], k)
    assert len(memory) == 2 and "x" not in memory
