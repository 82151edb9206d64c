"""survive.py: the disturbances, and each section end to end on a tiny model."""

import json

import numpy as np
import pytest
import torch

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


def run(folder, capsys, *words):
    code = survive.main([*words, "--checkpoint", str(folder / "a.pt"), "--dataset", "sample", "--cache_dir",
                         str(folder / "cache"), "--output_dir", str(folder), "--num_samples", "9"])
    out = capsys.readouterr()
    return code, (json.loads(out.out.splitlines()[-1])["result"] if code == 0 else out.err)


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


def test_beginnings_end_with_the_end_token(checkpoint, capsys):
    class Data:
        lengths, special_ids = np.array([3, 9, 5]), (0, 1, 2)
        rows = [np.arange(10, 12), np.arange(20, 29), np.arange(30, 35)]

        def __getitem__(self, i):
            return self.rows[i]

    assert survive.beginnings(Data(), 4, 5) == [[20, 21, 22, 1], [30, 31, 32, 1]]


def test_lengths(checkpoint, capsys):
    code, result = run(checkpoint, capsys, "lengths", "--lengths", "4", "8")
    assert code == 0 and (checkpoint / "survive_lengths.png").stat().st_size > 10_000
    row = result["32/4"]["read"]
    assert set(result) == {"32/4", "32/8"}                                    # no story is as short as 16 tokens
    assert row["attractor"]["exact_match"] == row["noise 0.5, then attractor"]["exact_match"] == 1
    assert row["control: blank frame"]["exact_match"] == 0
    assert row["control: shuffled frames"]["exact_match"] < 0.5               # stories may begin alike


def test_disturb(checkpoint, capsys):
    code, result = run(checkpoint, capsys, "disturb", "--length", "8")
    assert code == 0 and (checkpoint / "survive_disturb.png").stat().st_size > 10_000
    for when in ("read at once", "after the collapse"):
        assert result[f"uniform noise, amplitude 0.9, {when}"]["exact_match"] == 1
        assert result[f"flipped signs, share of the cells 0.1, {when}"]["exact_match"] < 0.5
    assert result["uniform noise, amplitude 0.9, after the collapse"]["cells_wrong"] == 0
    kept = [result[f"erased square, share of the area {a}, read at once"]["retained_bits"] for a in (0.05, 0.5)]
    assert kept[0] > kept[1]


def test_ticks_and_picture(checkpoint, capsys):
    code, result = run(checkpoint, capsys, "ticks", "--length", "8")
    assert code == 0 and (checkpoint / "survive_ticks.png").stat().st_size > 10_000
    assert result["learned, 0 ticks"]["exact_match"] == result["learned, 1 bits a cell"]["exact_match"] == 1
    assert result["code, attractor"]["exact_match"] == 1 > result["learned, attractor"]["exact_match"]
    assert run(checkpoint, capsys, "picture", "--length", "8") == (0, {"same": [True] * 3})
    assert (checkpoint / "survive_picture.png").stat().st_size > 10_000


@pytest.mark.parametrize("words, message", [
    (["lengths", "--lengths", "17"], "max_seq_len = 16, not 17"), (["disturb", "--length", "1"], "not 1"),
])
def test_bad_input(checkpoint, capsys, words, message):
    code, error = run(checkpoint, capsys, *words)
    assert code == 2 and message in error and error.count("\n") == 1
