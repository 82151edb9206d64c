"""wheeler/memory/exchange.py: the layout of the public Wheeler Memory project, both ways."""

import hashlib
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from test_wheeler_store import filled, frames_of, snapshot

from wheeler.measure.metrics import hash_frames
from wheeler.measure.theory import sample_proof
from wheeler.memory import exchange
from wheeler_cpu import WheelerMemoryCPU
from wheeler_store import WheelerMemory

ISO = "2026-02-13T12:00:00.123456+00:00"


def put(folder, chunk, text, attractor, key=None, **fields):
    """Write a memory as the public project does: arrays in attractors and bricks, an entry in the chunk's index."""
    base = Path(folder) / "chunks" / chunk
    for kind in ("attractors", "bricks"):
        (base / kind).mkdir(parents=True, exist_ok=True)
    key = key or hashlib.sha256(text.encode()).hexdigest()
    np.save(base / "attractors" / f"{key}.npy", attractor)
    np.savez_compressed(base / "bricks" / f"{key}.npz", history=attractor[None], attractor=attractor,
                        convergence_ticks=np.array(41), state=np.array("CONVERGED"), metadata_json=np.array("{}"))
    index = index_of(folder, chunk) if (base / "index.json").exists() else {}
    index[key] = {"text": text, "state": "CONVERGED", "convergence_ticks": 41, "timestamp": ISO,
                  "metadata": {"hit_count": 0, "last_accessed": ISO}, "chunk": chunk, **fields}
    (base / "index.json").write_text(json.dumps(index, indent=2))
    return base / "attractors" / f"{key}.npy"


def index_of(folder, chunk):
    return json.loads((Path(folder) / "chunks" / chunk / "index.json").read_text())


def attractors(count, seed=0):
    return WheelerMemoryCPU(11, 12).run_dynamics(frames_of(count, seed=seed)).final_frame


def correlation(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


def test_all_chunks_come_in_and_go_out_again(tmp_path):
    frames = attractors(4)
    put(tmp_path / "theirs", "code", "a bug", frames[0])
    put(tmp_path / "theirs", "code", "a class", frames[1], metadata={"hit_count": 3, "last_accessed": ISO})
    put(tmp_path / "theirs", "science", "an atom", frames[2])
    put(tmp_path / "theirs", "science", "[POLAR] an atom", -frames[2], metadata={"memory_type": "polar"})
    put(tmp_path / "theirs", "science", "another companion", -frames[0], metadata={"memory_type": "avoidance"})
    memory = WheelerMemory(11, 12)
    count, skipped = memory.import_public(tmp_path / "theirs")
    assert count == len(memory) == 3 and len(skipped) == 2 and all("companion" in why for _, why in skipped)
    assert [e["timestamp"] for e in memory.entries] == [datetime.fromisoformat(ISO).timestamp()] * 3
    assert {e["text"]: e["chunk"] for e in memory.entries} == {"a bug": "code", "a class": "code", "an atom": "science"}
    assert np.array_equal(memory.attractor("an atom"), np.where(frames[2] < 0, -1, 1))
    assert memory.recall(frames[1], 1, settle=False)[0].metadata["hit_count"] == 3
    one = WheelerMemory(11, 12)
    assert one.import_public(tmp_path / "theirs", "code").count == 2 and "an atom" not in one
    memory.remember(frames_of(1, seed=3)[0], "ours")
    memory.save(tmp_path / "store")  # the chunk is kept in the store
    assert WheelerMemory.load(tmp_path / "store").export_public(tmp_path / "out") == 4
    assert not (tmp_path / "out" / "index.json").exists()
    found = {name: {i["text"]: i for i in index_of(tmp_path / "out", name).values()}
             for name in ("code", "science", "general")}
    assert [sorted(index) for index in found.values()] == [["a bug", "a class"], ["an atom"], ["ours"]]
    for name, index in found.items():
        for item in index.values():
            assert item["chunk"] == name and datetime.fromisoformat(item["timestamp"]).tzinfo
    assert found["code"]["a bug"]["timestamp"] == ISO and found["code"]["a class"]["metadata"]["hit_count"] == 3
    again = WheelerMemory(11, 12)
    assert again.import_public(tmp_path / "out") == (4, []) and snapshot(again) == snapshot(memory)


def test_an_export_is_what_the_public_project_writes(tmp_path):
    memory, frames = filled()
    assert memory.export_public(tmp_path, chunk="stories") == 9
    index, key = index_of(tmp_path, "stories"), memory.key("text 2")
    assert len(index) == 9 and set(index[key]) == {
        "text", "state", "convergence_ticks", "timestamp", "metadata", "chunk", "origin"}  # fmt: skip
    attractor = np.load(tmp_path / "chunks" / "stories" / "attractors" / f"{key}.npy")
    assert attractor.dtype == np.float32 and np.array_equal(np.sign(attractor), memory.attractor("text 2"))
    with np.load(tmp_path / "chunks" / "stories" / "bricks" / f"{key}.npz", allow_pickle=False) as brick:
        assert set(brick.files) == {"history", "attractor", "convergence_ticks", "state", "metadata_json"}
        assert int(brick["convergence_ticks"]) == index[key]["convergence_ticks"] > 10
        assert np.array_equal(brick["history"], attractor[None]) and np.array_equal(brick["attractor"], attractor)
        assert str(brick["state"]) == "CONVERGED" and json.loads(str(brick["metadata_json"])) == {"n": 2}
    other = WheelerMemory(11, 12)
    other.remember(frames[0], "text 2")  # replaced by the import
    assert other.import_public(tmp_path) == (9, []) and snapshot(other) == snapshot(memory)


def test_bad_files_are_skipped_with_their_reason(tmp_path):
    good = attractors(1)[0]
    bad = {"empty": b"", "short": good[:5], "long": np.zeros((3, 12, 11), np.float32), "nan": good * np.nan,
           "torn": b"", "big": good * 2, "uint8": (good > 0).astype(np.uint8), "object": np.array([[None]]),
           "most": None}
    for name, content in bad.items():
        file = put(tmp_path, "general", name, good)
        if isinstance(content, np.ndarray):
            np.save(file, content, allow_pickle=True)
        elif content is not None:
            file.write_bytes(content)
        else:
            file.unlink()
    file = put(tmp_path, "general", "good", good)
    torn = file.with_stem(WheelerMemory.key("torn"))                          # numpy says no ValueError to this header
    torn.write_bytes(file.read_bytes().replace(b")", b" ").replace(b"}", b" "))
    for name, fields in {"when": {"timestamp": "soon"}, "ticks": {"convergence_ticks": "many"},
                         "never": {"timestamp": None}}.items():
        put(tmp_path, "general", name, good, **fields)
    put(tmp_path, "general", "up", good, key="up")
    index = index_of(tmp_path, "general")
    index["../general/attractors/up"] = index.pop("up")
    index["item"], index["number"] = [1], {"text": 5}
    (tmp_path / "chunks" / "general" / "index.json").write_text(json.dumps(index))
    (tmp_path / "chunks" / "torn").mkdir()
    (tmp_path / "chunks" / "torn" / "index.json").write_text("{")
    memory = WheelerMemory(11, 12)
    count, skipped = memory.import_public(tmp_path)
    assert count == 1 and "good" in memory and len(skipped) == len(bad) + 7
    reasons = {file: why for file, why in skipped}
    assert "cannot be read" in reasons["chunks/torn/index.json"]
    assert "not a readable .npy" in reasons[f"chunks/general/attractors/{memory.key('torn')}.npy"]
    gone = reasons[f"chunks/general/attractors/{memory.key('most')}.npy"]
    assert gone == "No such file or directory"
    assert "(5, 11)" in reasons[f"chunks/general/attractors/{memory.key('short')}.npy"]
    assert "NaN" in reasons[f"chunks/general/attractors/{memory.key('nan')}.npy"]
    assert "'soon'" in reasons[f"chunks/general/attractors/{memory.key('when')}.npy"]
    assert WheelerMemory(11, 12).import_public(tmp_path, "torn").count == 0


@pytest.mark.parametrize("written", [lambda f: f * np.float32(0.9998), lambda f: f.astype(np.float64),
                                     lambda f: f.astype(np.float16), lambda f: np.rint(f * 127).astype(np.int8),
                                     lambda f: np.rint(f).astype(np.int8), np.asfortranarray,
                                     lambda f: f.astype(">f8")])
def test_any_way_to_write_an_attractor(tmp_path, written):
    frame = attractors(1)[0]
    put(tmp_path, "general", "a", written(frame))
    memory = WheelerMemory(11, 12)
    assert memory.import_public(tmp_path) == (1, [])
    assert np.array_equal(memory.attractor("a"), np.where(frame < 0, -1, 1))


def test_a_text_in_two_chunks_counts_once(tmp_path):
    frames = attractors(2)
    put(tmp_path, "a", "both", frames[0], timestamp="2026-02-13T12:00:00Z")
    put(tmp_path, "b", "both", frames[1], timestamp="2026-02-14T12:00:00")
    memory = WheelerMemory(11, 12)
    count, skipped = memory.import_public(tmp_path)
    assert count == 1 and len(skipped) == 1 and memory.entries[0]["chunk"] == "b"


def test_what_is_no_store_is_refused(tmp_path):
    memory, _ = filled(2)
    with pytest.raises(ValueError, match="index.json"):
        memory.import_public(tmp_path / "nowhere")
    put(tmp_path, "code", "a", attractors(1)[0])
    with pytest.raises(ValueError, match="index.json"):
        memory.import_public(tmp_path, "hardware")
    for chunk in ("", "..", "a/b", "a\\b", 5):
        with pytest.raises(ValueError, match="chunk is"):
            memory.export_public(tmp_path, chunk)
    (tmp_path / "chunks" / "code" / "index.json").write_text("[]")
    with pytest.raises(ValueError, match="holds list"):
        memory.export_public(tmp_path, "code")
    assert len(list(tmp_path.rglob("*.npy"))) == 1


def test_another_chunk_leaves_nothing_behind(tmp_path):
    memory, _ = filled()
    theirs = put(tmp_path, "one", "text 3", attractors(1)[0], timestamp="2036-02-13T12:00:00Z")  # newer than ours
    older = put(tmp_path, "two", "text 4", attractors(1)[0])
    before = theirs.read_bytes(), older.read_bytes()
    assert memory.export_public(tmp_path, "one") == 8  # text 3 stays theirs
    other, _ = filled()
    assert other.export_public(tmp_path, "three") == 9
    memory.save(tmp_path / "store")
    memory = WheelerMemory.load(tmp_path / "store")  # still the same store
    assert memory.export_public(tmp_path, "two") == 9
    assert list(index_of(tmp_path, "one")) == [theirs.stem] and theirs.read_bytes() == before[0]
    assert len(list((tmp_path / "chunks" / "one").rglob("*.np?"))) == 2
    assert older.read_bytes() != before[1]  # replaced by the newer memory of the same text, in the same chunk
    for chunk in ("two", "three"):
        assert len(index_of(tmp_path, chunk)) == 9
        assert len(list((tmp_path / "chunks" / chunk).rglob("*.np?"))) == 18
    assert not list(tmp_path.rglob("*.tmp"))


def test_only_what_changed_is_written_again(tmp_path):
    memory, frames = filled()
    memory.export_public(tmp_path)
    place = tmp_path / "chunks" / "general" / "attractors"
    files = {file: file.stat().st_mtime_ns for file in place.iterdir()}
    missing = place / f"{memory.key('text 5')}.npy"
    missing.unlink()
    memory.remember(frames[0], "text 2")
    assert memory.export_public(tmp_path) == 9
    changed = {file for file in place.iterdir() if files[file] != file.stat().st_mtime_ns}
    assert changed == {missing, place / f"{memory.key('text 2')}.npy"}
    again = WheelerMemory(11, 12)
    assert again.import_public(tmp_path) == (9, []) and snapshot(again) == snapshot(memory)


def test_a_crash_of_an_export_leaves_the_index_as_it_was(tmp_path, monkeypatch):
    memory, frames = filled(3)
    memory.export_public(tmp_path)
    memory.remember(frames_of(2, seed=9), ["text 1", "new"])
    real, calls = os.replace, []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) > 2:
            raise OSError("no space left")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(OSError, match="no space"):
            memory.export_public(tmp_path)
    assert len(index_of(tmp_path, "general")) == 3
    assert WheelerMemory(11, 12).import_public(tmp_path) == (3, [])
    assert memory.export_public(tmp_path) == 4
    again = WheelerMemory(11, 12)
    assert again.import_public(tmp_path) == (4, []) and snapshot(again) == snapshot(memory)


def stands(patterns):
    """+-1 patterns stand once exported: correlation 1 with themselves after the dynamics, within two ticks."""
    written = exchange.standing(patterns)
    assert written.dtype == np.float32 and np.abs(written).max() == 1 and np.array_equal(np.sign(written), patterns)
    run = WheelerMemoryCPU(*patterns.shape[:0:-1]).run_dynamics(written)
    for pattern, final, ticks in zip(patterns, run.final_frame, run.ticks):
        assert ticks <= 2 and correlation(pattern, final) > 1 - 1e-9
    long = WheelerMemoryCPU(*patterns.shape[:0:-1]).run_dynamics(run.final_frame).final_frame
    assert min(correlation(a, b) for a, b in zip(patterns, long)) > 1 - 1e-9


def test_exported_attractors_stand():
    rng = np.random.default_rng(0)
    frames = rng.uniform(-1, 1, (20, 64, 64)).astype(np.float32)
    settled = np.where(WheelerMemoryCPU(64, 64).run_dynamics(frames).final_frame < 0, -1, 1).astype(np.float32)
    fallen = WheelerMemoryCPU(64, 64).run_dynamics(settled).final_frame  # as they were written before
    assert max(correlation(a, b) for a, b in zip(settled, fallen)) < 0.9
    stands(settled)
    stands(sample_proof(64, 64, seed=0, sweeps=2))
    few = np.ones((3, 64, 64), np.float32)  # far from a -1 cell: the most steps there are
    few[0, 5, 9] = few[1, :, 0] = few[2, 0, :7] = -1
    stands(few)
    assert (exchange.standing(few)[0] > 1 - 64 * 2.0**-24).sum() == 4095
    for frame in (np.ones((1, 12, 11), np.float32), -np.ones((1, 12, 11), np.float32)):
        assert np.array_equal(exchange.standing(frame), frame)
    assert np.array_equal(exchange.standing(np.concatenate([few, few * 0 + 1]))[3], np.ones((64, 64)))


@pytest.mark.slow
def test_written_frames_stand(small_model):
    from wheeler.frame.code import FrameCode

    encode = small_model.tokenizer.encode
    ids = [encode(text, add_special_tokens=False) for text in ("The cat ran home.", "A red ball.")]
    stands(np.stack([one.frame for one in FrameCode(small_model).write(ids)]).astype(np.float32))


@pytest.mark.slow
def test_an_export_costs_little_more_than_its_files(tmp_path):
    """Beside writing the same arrays one by one without any care."""
    memory, texts = WheelerMemory(64, 64), [f"text {k}" for k in range(2000)]
    memory.remember(hash_frames(texts, 64, 64), texts)
    began = time.perf_counter()
    assert memory.export_public(tmp_path) == 2000
    ours = time.perf_counter() - began
    (tmp_path / "plain").mkdir()
    began = time.perf_counter()
    for k, text in enumerate(texts):
        frame = memory.attractor(text)
        np.save(tmp_path / "plain" / f"{k}.npy", frame)
        np.savez(tmp_path / "plain" / f"{k}.npz", history=frame[None], attractor=frame, convergence_ticks=np.array(41),
                 state=np.array("CONVERGED"), metadata_json=np.array("{}"))
    assert ours < 2 * (time.perf_counter() - began) + 1


THEIRS = """
import json, sys
import numpy as np
from wheeler_memory.polarity import store_dual
from wheeler_memory.rotation import store_with_rotation_retry
from wheeler_memory.storage import list_memories, recall_memory
folder, texts = sys.argv[1], json.loads(sys.argv[2])
if sys.argv[3] == "write":
    store_dual(texts[0], data_dir=folder)
    for text in texts[1:]:
        store_with_rotation_retry(text, data_dir=folder)
listed = [m["text"] for m in list_memories(folder)]
found = [recall_memory(text, top_k=1, data_dir=folder)[0] for text in texts]
print(json.dumps([sorted(listed), [(f["text"], f["similarity"]) for f in found]]))
"""


@pytest.mark.slow
@pytest.mark.skipif("WHEELER_MEMORY_CHECKOUT" not in os.environ, reason="WHEELER_MEMORY_CHECKOUT names no checkout")
def test_the_real_package_both_ways(tmp_path):
    """WHEELER_MEMORY_CHECKOUT: the folder that holds the public project's package wheeler_memory."""
    def theirs(folder, what):
        run = subprocess.run([sys.executable, "-c", THEIRS, str(folder), json.dumps(texts), what], text=True,
                             capture_output=True, cwd=tmp_path,
                             env={**os.environ, "PYTHONPATH": os.environ["WHEELER_MEMORY_CHECKOUT"]})
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout.splitlines()[-1])

    texts = ["fix the python bug", "the atom has a nucleus", "buy milk", "a story of a fox"]
    theirs(tmp_path / "theirs", "write")
    memory = WheelerMemory(64, 64)
    count, skipped = memory.import_public(tmp_path / "theirs")
    assert count == 4 and len(skipped) == 1 and len({e["chunk"] for e in memory.entries}) > 1
    for text, frame in zip(texts, hash_frames(texts, 64, 64)):
        assert memory.recall(frame, 1)[0].text == text
    assert memory.export_public(tmp_path / "ours") == 4
    listed, found = theirs(tmp_path / "ours", "read")
    assert listed == sorted(texts) and [text for text, _ in found] == texts
    assert min(similarity for _, similarity in found) > 0.999
