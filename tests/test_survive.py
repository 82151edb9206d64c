"""Sections of evaluate.py: the disturbances, paraphrases, and each section end to end on a tiny model."""


import numpy as np
import pytest
import torch
from conftest import save_tiny_model

from wheeler.measure import metrics, probes, survive


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survive")
    save_tiny_model(folder / "a.pt", grid_size=32, max_seq_len=16)
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
    result = survive.disturb(subject, num_samples=9, length=8, grid_samples=4, output_dir=checkpoint)
    assert figure(checkpoint, "survive_disturb")
    for when in ("read at once", "after the collapse"):
        assert result[f"uniform noise, amplitude 0.9, {when}"]["exact_match"] == 1
        assert result[f"flipped signs, share of the cells 0.1, {when}"]["exact_match"] < 0.5
    assert result["uniform noise, amplitude 0.9, after the collapse"]["cells_wrong"] == 0
    kept = [result[f"erased square, share of the area {a}, read at once"]["retained_bits"] for a in (0.05, 0.5)]
    assert kept[0] > kept[1]
    grids = {name.removesuffix(", grid, read at once"): row for name, row in result.items() if "grid" in name}
    assert len(grids) == 19 and {row["n"] for row in grids.values()} == {4}
    assert grids["uniform noise, amplitude 0.1"]["exact_match"] == 1
    assert grids["erased square, share of the area 0.5"]["token_accuracy"] < 0.9
    assert max(row["control"] for row in result.values() if isinstance(row, dict) and "control" in row) < 0.5


def test_fidelity(subject, checkpoint, capsys):
    result = survive.fidelity(subject, num_samples=4, length=3, output_dir=checkpoint)
    assert figure(checkpoint, "survive_fidelity") and capsys.readouterr().out.count("\n1.0 ") == 1
    assert len(result) == 3 * len(survive.STRENGTHS) + 1
    for kind in ("plain", "redundant"):
        assert result[f"0.05, {kind}"]["exact_match"] == 1 and result[f"0.05, {kind}"]["fidelity"] > 0.999
        assert result[f"1.0, {kind}"]["fidelity"] < 0.9
        assert result["mean_fidelity"][kind] > result["mean_fidelity"]["hash"] + 0.05
    assert result["1.0, plain"]["exact_match"] == 0 and "exact_match" not in result["0.05, hash"]
    assert 0.8 < result["0.05, hash"]["fidelity"] < 0.97


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


def test_ticks_and_picture(subject, checkpoint):
    result = survive.ticks(subject, num_samples=9, length=8, output_dir=checkpoint)
    assert figure(checkpoint, "survive_ticks")
    assert len(result) == 2 * len(survive.TICKS) and all(row["exact_match"] == 1 for row in result.values())
    assert all(row["distance"] == 0 for name, row in result.items() if name.startswith("frame"))    # a fixed point
    noisy = [result[f"noise 0.9, {ticks} ticks"]["distance"] for ticks in (0, 1, 10, 50)]
    assert noisy == sorted(noisy, reverse=True) and noisy[0] > 0.2 and noisy[-1] < 0.001
    found = survive.picture(subject, length=8, output_dir=checkpoint)
    assert found["same"] == [True] * 3
    assert figure(checkpoint, "survive_picture") and figure(checkpoint, "survive_damage")
    assert [kinds[0] for kinds in found["damage"].values()] == ["words"] * 3
    assert found["damage"]["against erasures"][:3] == ["words"] * 3 and "words" not in found["damage"]["plain"][3:]


# ---- probes ---------------------------------------------------------------------------------------------------------


def test_paraphrase_swaps_known_words_and_keeps_capitals():
    assert probes.paraphrase("Big dogs said: the house is big!") == ("Large dogs told: the home is large!", 4)
    assert probes.paraphrase("Nothing here.") == ("Nothing here.", 0)
    back = probes.paraphrase(probes.paraphrase("A happy mom.")[0])[0]
    assert back == "A happy mom."


def test_occlude_hides_one_square():
    grid = torch.ones(8, 8, 3)
    out = probes.occlude(grid, 5, 2)                                        # 4 squares a row: row 1, column 1
    assert (out[2:4, 2:4] == 0).all() and out.sum() == 3 * (64 - 4) and grid.min() == 1


def test_space_finds_the_patch_of_every_token(subject, checkpoint):
    row = probes.space(subject, num_samples=2, length=6, output_dir=checkpoint)["grid"]
    assert figure(checkpoint, "space")                                        # the aligned start: token t in patch t
    assert row["tokens_lost_with_their_own_patch"] == row["tokens_lost_by_one_square_alone"] == 1
    assert row["squares_that_carry"] == 6 / 16 and row["tokens_lost_a_carrying_square"] == 1


def test_geometry_runs_from_one_text_to_the_other(subject, checkpoint):
    result = probes.geometry(subject, num_samples=3, length=8, output_dir=checkpoint)
    assert figure(checkpoint, "geometry")
    first, middle, last = (result[f"interpolation/{t}"] for t in ("0.0", "0.5", "1.0"))
    assert first["exact_match"] == last["exact_match"] == 1 and middle["exact_match"] < 1
    assert first["distance_to_first"] == last["distance_to_second"] == 0
    assert first["distance_to_second"] == pytest.approx(last["distance_to_first"]) and first["distance_to_second"] > 0.2
    equal, unequal = result["arithmetic/equal lengths"], result["arithmetic/unequal lengths"]
    assert equal["token_accuracy"] > 0.7 > unequal["token_accuracy"]          # position by position
