"""survive.py and probes.py: the disturbances, paraphrases, and each section end to end on a tiny model."""


import numpy as np
import pytest
import torch

import metrics
import probes
import survive
from models import WheelerConfig, WheelerTextAutoencoder
from sample_corpus import stories
from tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survive")
    torch.manual_seed(0)
    tokenizer = train_tokenizer(stories("train")[:200], 512)
    config = WheelerConfig(vocab_size=len(tokenizer), grid_size=32, d_model=64, max_seq_len=16, encoder_layers=1,
                           grid_layers=0, decoder_layers=1)
    torch.save(WheelerTextAutoencoder(config, tokenizer).to_checkpoint(), folder / "a.pt")
    return folder


@pytest.fixture(scope="module")
def subject(checkpoint):
    return metrics.Subject(checkpoint / "a.pt", "sample", cache_dir=checkpoint / "cache", device="cpu")


def figure(folder, name):
    return (folder / f"{name}.png").stat().st_size > 10_000


def test_disturbances_do_what_they_say():
    frames = np.random.default_rng(0).choice([-1.0, 1.0], (4, 64, 64)).astype(np.float32)
    kinds = survive.disturbances(np.random.default_rng(1))
    for amplitude, damage in kinds["uniform noise, amplitude"]:
        out = damage(frames, amplitude)
        assert (np.sign(out) == frames).all() and np.abs(out).max() <= 1
        assert np.abs(out - frames).max() == pytest.approx(amplitude, abs=0.01)
    for share, damage in kinds["flipped signs, share of the cells"]:
        out = damage(frames, share)
        assert (out != frames).mean() == pytest.approx(share, rel=0.3) and (np.abs(out) == 1).all()
    for area, damage in kinds["erased square, share of the area"]:
        out = damage(frames, area)
        assert (out == 0).mean() == pytest.approx(area, rel=0.1) and ((out == frames) | (out == 0)).all()
    sigma, damage = kinds["Gaussian noise, sigma"][-1]
    out = damage(frames, sigma)
    inside = np.abs(out) < 1
    assert inside.mean() == pytest.approx(0.5, abs=0.03) and np.abs(out).max() == 1
    assert ((out * frames) < 0).mean() == pytest.approx(0.0228, abs=0.005)    # beyond 2 sigma
    assert (frames == np.sign(frames)).all()


def test_lengths(subject, checkpoint):
    result = survive.lengths(subject, (4, 8), num_samples=9, output_dir=checkpoint)
    assert figure(checkpoint, "survive_lengths")
    row = result["32/4"]["read"]
    assert set(result) == {"32/4", "32/8"}                                    # no story is as short as 16 tokens
    assert row["attractor"]["exact_match"] == row["noise 0.5, then attractor"]["exact_match"] == 1
    assert row["control: blank frame"]["exact_match"] == 0
    assert row["control: shuffled frames"]["exact_match"] < 0.5               # stories may begin alike


def test_disturb(subject, checkpoint):
    result = survive.disturb(subject, num_samples=9, length=8, learned_samples=4, output_dir=checkpoint)
    assert figure(checkpoint, "survive_disturb")
    for when in ("read at once", "after the collapse"):
        assert result[f"uniform noise, amplitude 0.9, {when}"]["exact_match"] == 1
        assert result[f"flipped signs, share of the cells 0.1, {when}"]["exact_match"] < 0.5
    assert result["uniform noise, amplitude 0.9, after the collapse"]["cells_wrong"] == 0
    kept = [result[f"erased square, share of the area {a}, read at once"]["retained_bits"] for a in (0.05, 0.5)]
    assert kept[0] > kept[1]
    learned = result["uniform noise, amplitude 0.1, learned, read at once"]
    assert learned["n"] == 4 and learned["exact_match"] > 0.5 and learned["cells_wrong"] < 0.05
    assert not any("learned, after" in name for name in result)               # not trained for it
    grids = {name.removesuffix(", grid, read at once"): row for name, row in result.items() if "grid" in name}
    assert len(grids) == 19 and grids["uniform noise, amplitude 0.1"]["exact_match"] == 1
    assert grids["erased square, share of the area 0.5"]["token_accuracy"] < 0.9
    assert max(row["control"] for row in result.values() if isinstance(row, dict) and "control" in row) < 0.5


def test_damage_of_grids_is_what_it_says(subject, monkeypatch):
    """In units of the grid's size: seen by the decoder."""
    seen, texts = [], [subject.data[i].tolist()[:3] for i in range(2)]
    monkeypatch.setattr(type(subject.model), "decode", lambda self, grid, **_: seen.append(grid) or [[0]] * 2)
    kinds, rng = survive.disturbances(np.random.default_rng(0)), np.random.default_rng(1)
    whole = subject.model.encode(*subject.rows(texts).batch(range(2)))
    for kind, strengths in kinds.items():
        strength, damage = strengths[-1]
        survive.read_damaged_grids(subject, texts, kind, strength, damage, rng, 2)
    uniform, gauss, square, flips = ((grid - whole) / whole.square().mean().sqrt() for grid in seen)
    assert uniform.abs().max() == pytest.approx(0.9, abs=0.01) and gauss.std() == pytest.approx(0.5, abs=0.01)
    assert (seen[2] == 0).all(-1).float().mean() == pytest.approx(0.5, abs=0.1)
    flipped = (seen[3] == -whole).all(-1)
    assert 0.02 < flipped.float().mean() < 0.2 and torch.equal(seen[3][~flipped], whole[~flipped])


def test_disturb_reads_the_attractor_where_it_was_trained(subject, checkpoint, monkeypatch):
    monkeypatch.setitem(subject.flags, "attractor_share", 0.5)
    result = survive.disturb(subject, num_samples=2, length=4, learned_samples=2, output_dir=checkpoint)
    assert result["Gaussian noise, sigma 0.1, learned, after the collapse"]["cells_wrong"] > 0.01


def test_ticks_and_picture(subject, checkpoint):
    result = survive.ticks(subject, num_samples=9, length=8, output_dir=checkpoint)
    assert figure(checkpoint, "survive_ticks")
    assert result["learned, 0 ticks"]["exact_match"] == result["learned, 1 bits a cell"]["exact_match"] == 1
    assert result["code, attractor"]["exact_match"] == 1 > result["learned, attractor"]["exact_match"]
    assert survive.picture(subject, length=8, output_dir=checkpoint) == {"same": [True] * 3}
    assert figure(checkpoint, "survive_picture")


def test_equal_frames_are_read_once(subject):
    frames = subject.frames(subject.beginnings(8, 3))[[0, 1, 0, 2, 1]]
    known, seen = {}, []
    decode = subject.model.decode
    subject.model.decode = lambda grid, **more: seen.append(len(grid)) or decode(grid, **more)
    try:
        rows = subject.read_frames(frames, 8, 2, known)
        assert rows == [rows[0], rows[1], rows[0], rows[3], rows[1]] and rows[0] != rows[3]
        assert subject.read_frames(frames[:2], 8, 2, known) == rows[:2] and seen == [2, 1]
    finally:
        del subject.model.decode


# ---- probes ---------------------------------------------------------------------------------------------------------


def test_paraphrase_swaps_known_words_and_keeps_capitals():
    assert probes.paraphrase("Big dogs said: the house is big!") == ("Large dogs told: the home is large!", 4)
    assert probes.paraphrase("Nothing here.") == ("Nothing here.", 0)
    back = probes.paraphrase(probes.paraphrase("A happy mom.")[0])[0]
    assert back == "A happy mom."


def test_occlude_hides_one_square():
    latent = torch.ones(8, 8, 3)
    out = probes.occlude(latent, 5, 2)                                        # 4 squares a row: row 1, column 1
    assert (out[2:4, 2:4] == 0).all() and out.sum() == 3 * (64 - 4) and latent.min() == 1


def test_space_finds_the_patch_of_every_token(subject, checkpoint):
    result = probes.space(subject, num_samples=2, length=6, output_dir=checkpoint)
    assert figure(checkpoint, "space")
    for row in result.values():                                               # the aligned start: token t in patch t
        assert row["tokens_lost_with_their_own_patch"] == row["tokens_lost_by_one_square_alone"] == 1
        assert row["squares_that_carry"] == 6 / 16 and row["tokens_lost_a_carrying_square"] == 1


def test_recall_against_its_baselines(subject, checkpoint):
    result = probes.recall(subject, (4, 12), num_samples=6, length=12, output_dir=checkpoint)
    assert figure(checkpoint, "recall")
    assert result == probes.recall(subject, (4, 12), num_samples=6, length=12, output_dir=checkpoint)
    for n in (4, 12):
        row = result[f"{n}/code/noisy frame"]
        assert row["n"] == min(n, 6) and row["recall_at_1"] == row["exact_decode"]["exact_match"] == 1
        assert result[f"{n}/TF-IDF/first half"]["recall_at_1"] > 0.5          # half the words are there
        assert f"{n}/TF-IDF/noisy frame" not in result and "exact_decode" not in result[f"{n}/hash/noisy frame"]
    assert result["12/hash/first half"]["recall_at_1"] < 0.6                  # a hash knows nothing of a part
    assert result["12/learned/first half"]["recall_at_1"] > result["12/hash/first half"]["recall_at_1"]


def test_geometry_runs_from_one_text_to_the_other(subject, checkpoint):
    result = probes.geometry(subject, num_samples=3, length=8, output_dir=checkpoint)
    assert figure(checkpoint, "geometry")
    first, middle, last = (result[f"interpolation/{t}"] for t in ("0.0", "0.5", "1.0"))
    assert first["exact_match"] == last["exact_match"] == 1 and middle["exact_match"] < 1
    assert first["distance_to_first"] == last["distance_to_second"] == 0
    assert first["distance_to_second"] == pytest.approx(last["distance_to_first"]) and first["distance_to_second"] > 0.2
    equal, unequal = result["arithmetic/equal lengths"], result["arithmetic/unequal lengths"]
    assert equal["token_accuracy"] > 0.7 > unequal["token_accuracy"]          # position by position
