"""The memory with a model: texts in, texts out."""

import json

import numpy as np
import pytest
import torch

from models import WheelerTextAutoencoder
from wheeler.dynamics.pictures import add_noise
from wheeler.memory.texts import FEW, floor
from wheeler.training.stories import stories
from wheeler_store import WheelerMemory


@pytest.fixture(scope="module")
def said():
    return [" ".join(text.split()[:18]) for text in stories("validation", 12)]


@pytest.fixture(scope="module")
def memory(small_model, said):
    memory = WheelerMemory(model=small_model)
    keys = memory.remember(said, metadata=[{"line": i} for i in range(len(said))])
    assert keys == [memory.key(text) for text in said]
    return memory


def test_texts_come_back_by_their_texts(memory, said):
    for by in ("frame", "meaning"):
        for text, found in zip(said, memory.recall(said, k=3, by=by), strict=True):
            assert found[0].text == text and found[0].similarity == pytest.approx(1) and found[0].alike
            assert len(found) == 3 and found[0].similarity >= found[1].similarity >= found[2].similarity
    found = memory.recall(said[3])[0]
    assert found.metadata == {"line": 3} and found.exact is True and list(memory) == said and len(memory) == len(said)
    assert memory.recall(said[5] + " Then", by="meaning", k=1)[0].text == said[5]


def test_frames_are_cues_too(memory, small_model, said):
    frame = small_model.encode_frame(said[2])[0].numpy()
    assert memory.recall(frame, k=1)[0].text == said[2]
    noisy = add_noise(frame, 0.9, np.random.default_rng(0))
    for by in ("frame", "meaning"):
        found, = memory.recall(noisy, k=1, by=by)
        assert found.text == said[2] and found.similarity == pytest.approx(1)
    damaged = frame.copy()
    damaged[40:] = 1                                                          # the words are gone
    assert memory.recall(damaged, k=1, by="meaning")[0].text == said[2]
    read = small_model.read_frame(memory.attractor(said[2]))[0]
    assert read.exact and read.text == said[2]                                # what is kept is the text itself


def test_a_recall_looks_at_the_weights_once(memory, small_model, said, monkeypatch):
    """Looking at all of them takes longer than all the rest."""
    looks, real = [], type(small_model).frame_code
    monkeypatch.setattr(type(small_model), "frame_code", lambda self: looks.append(1) or real(self))
    for by in ("frame", "meaning"):
        for cue in (said[1], memory.attractor(said[1])):
            looks.clear()
            assert memory.recall(cue, k=1, by=by)[0].text == said[1] and len(looks) == 1


def test_an_unknown_text_is_like_nothing(memory, small_model):
    assert not any(found.alike for found in memory.recall("zq xv 77 ??", k=5))
    assert not WheelerMemory(model=small_model).recall("hat")


def test_floor():
    rng = np.random.default_rng(0)
    for n in (200, 10_000):
        best = np.array([rng.normal(0.2, 0.03, n).max() > floor(rng.normal(0.2, 0.03, n), "frame") for _ in range(200)])
        assert best.mean() < 0.1 and 0.2 + 6 * 0.03 > floor(rng.normal(0.2, 0.03, n), "frame")
    assert floor(np.full(FEW - 1, 0.9), "frame") < 0.4 < floor(np.full(FEW - 1, 0.9), "meaning")


def test_forgotten_and_remembered_again(small_model, said):
    memory = WheelerMemory(model=small_model)
    memory.remember(said[0], metadata={"a": 1})
    memory.remember(said[1])
    memory.remember(said[0])
    assert len(memory) == 2 and said[0] in memory and memory.recall(said[0], k=1)[0].metadata == {}
    memory.forget(said[0])
    with pytest.raises(KeyError, match="no memory of"):
        memory.forget(said[0])
    assert said[0] not in memory and memory.recall(said[0], k=5)[0].text == said[1]


def test_store_keeps_what_meaning_needs(memory, small_model, said, tmp_path):
    memory.save(tmp_path)
    again = WheelerMemory.load(tmp_path, small_model)
    assert again.recall(said[4], k=2, by="meaning") == memory.recall(said[4], k=2, by="meaning")
    with pytest.raises(ValueError, match="needs a model"):
        WheelerMemory.load(tmp_path).recall(memory.attractor(said[0]), by="meaning")
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    for wrong in ("x", -1, 2.5, None, [3]):
        manifest["entries"][1]["tiles"] = wrong
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(ValueError, match="tiles"):
            WheelerMemory.load(tmp_path, small_model)


def test_texts_that_were_cut_are_not_exact_and_are_told(small_model, monkeypatch, capsys):
    monkeypatch.setattr("wheeler.frame.code.BATCH", 2)
    memory, start = WheelerMemory(model=small_model), "Once upon a time there was a cat. " * 12
    with pytest.warns(UserWarning, match="2 of 5 texts are longer than max_seq_len = 64 .* were cut") as caught:
        memory.remember([start + "Tom.", "A dog.", start + "Tim.", "A hat.", "A fox."])
    assert len(caught) == 1                                                   # of all batches
    assert capsys.readouterr().err == ""                                      # no bars where there is no terminal
    assert {found.text: found.exact for found in memory.recall("A dog.", k=5)} == {
        start + "Tom.": False, start + "Tim.": False, "A dog.": True, "A hat.": True, "A fox.": True}
    with pytest.warns(UserWarning, match="1 of 1 texts"):
        found = memory.recall(start + "Tim.", k=2)
    assert [one.similarity for one in found] == pytest.approx([1, 1]) and not any(one.exact for one in found)


def test_frames_kept_without_a_model_have_a_meaning_for_one(small_model, said, tmp_path):
    plain = WheelerMemory()
    plain.remember(small_model.encode_frame(said[:4]).numpy(), said[:4])
    plain.save(tmp_path)
    again = WheelerMemory.load(tmp_path, small_model)
    assert [found[0].text for found in again.recall(said[:4], k=1, by="meaning")] == said[:4]


def test_frames_kept_under_texts_with_a_model(small_model, said):
    memory = WheelerMemory(model=small_model)
    memory.remember(small_model.encode_frame(said[:2]).numpy(), said[:2])
    assert [found[0].text for found in memory.recall(said[:2], by="meaning")] == said[:2]
    assert memory.recall(said[0])[0].exact is None


def test_reconstruct_blends_with_the_cue(memory, small_model, said):
    frame = small_model.encode_frame(said[1])[0].numpy()
    assert np.array_equal(memory.reconstruct(said[1], k=1).final_frame < 0, frame < 0)
    other = small_model.encode_frame(said[6])[0].numpy()
    assert np.array_equal(memory.reconstruct(other, k=3, alpha=1.0).final_frame < 0, other < 0)


def test_a_frame_of_other_weights_is_not_exact(small_model, said):
    model = WheelerTextAutoencoder.from_checkpoint(small_model.to_checkpoint())
    memory = WheelerMemory(model=model)
    memory.remember(said[:2])
    assert memory.recall(said[0])[0].exact is True
    with torch.no_grad():
        model.decoder.norm_out.weight.mul_(1.5)
    assert memory.recall(said[0])[0].exact is False


@pytest.mark.parametrize("call, message", [
    (lambda m: WheelerMemory(model="x"), "model is str"), (lambda m: m.recall(None), "None is neither"),
    (lambda m: m.recall([]), "empty list"), (lambda m: m.remember("hat", metadata={"a": float("nan")}), "metadata"),
    (lambda m: m.remember("hat", metadata=object()), "metadata"),
    (lambda m: m.reconstruct("hat", alpha="x"), "alpha is"),
    (lambda m: m.recall("hat", by="sound"), "by is 'sound'"), (lambda m: m.recall("hat", k=0), "k is 0"),
    (lambda m: m.remember(["a", 3]), "3 in a list"), (lambda m: m.remember(5), "5 is neither"),
    (lambda m: m.recall(np.full((64, 64), np.nan, np.float32), settle=False), "NaN"),
    (lambda m: m.reconstruct(["a b c d", "b"]), "batch of 2"),
    (lambda m: m.reconstruct("hat", alpha=1.5), "alpha is 1.5"),
    (lambda m: m.remember(["a", "b"], metadata=[None]), "2 frames"),
    (lambda m: WheelerMemory().remember("hat"), "no model"), (lambda m: WheelerMemory().recall("hat"), "no model"),
    (lambda m: WheelerMemory(32, 32, model=m.model), "64 x 64")])
def test_bad_input(memory, call, message):
    before = list(memory)
    with pytest.raises(ValueError, match=message):
        call(memory)
    assert list(memory) == before
