"""Metrics against cases worked out by hand, and against plain loops."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import evaluate
from data import build_dataset
from evaluate import check_device, collapse, probe_texts, reconstruct, score, teacher_forced, wilson_interval
from models import WheelerConfig, WheelerTextAutoencoder
from sample_corpus import stories
from tokenizer import train_tokenizer

STORIES = [" ".join(story.split()[: 3 + i % 9]) for i, story in enumerate(stories("train", 40))]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(STORIES, 400)


@pytest.fixture(scope="module")
def data(tokenizer, tmp_path_factory):
    return build_dataset(STORIES, tokenizer, 16, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return WheelerTextAutoencoder(WheelerConfig(
        vocab_size=400, grid_size=8, d_model=64, max_seq_len=16, encoder_layers=1, grid_layers=0, decoder_layers=1),
        tokenizer).eval()


@pytest.mark.parametrize("successes, n, low, high", [
    (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (1, 1, 0.2065, 1.0),
    (81, 263, 0.2553, 0.3662), (485, 500, 0.9511, 0.9817),
])
def test_wilson_interval_of_published_and_hand_computed_cases(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("successes, n", [(1, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_what_is_no_share(successes, n):
    with pytest.raises(ValueError):
        wilson_interval(successes, n)


def test_score_of_a_hand_computed_case():
    references = [[5, 6, 1], [7, 1], [8, 9, 1], [4, 1]]
    predictions = [[5, 6, 1],            # right: 3 of 3
                   [7, 7, 7, 1],         # too long: 1 of 2
                   [8],                  # too short: 1 of 3
                   [1]]                  # empty text: 0 of 2
    result = score(references, predictions)
    assert result["n"] == 4 and result["exact_match"] == 0.25 and result["token_accuracy"] == 5 / 10
    assert result["interval"] == wilson_interval(1, 4)
    assert score([(5, 1)], [[5, 1]])["exact_match"] == 1.0
    with pytest.raises(ValueError):
        score(references, predictions[:3])


class Echo:
    """A perfect reader of its own grids: a grid is the ids and the mask; `frame` spoils the first token."""

    def __init__(self, tokens):
        self.encoder = SimpleNamespace(embedding=SimpleNamespace(weight=torch.zeros(1)))
        self.config = SimpleNamespace(max_seq_len=tokens, eos_token_id=1)

    def encode(self, ids, mask):
        return [row[m].tolist() for row, m in zip(ids, mask, strict=True)]

    def get_grid_as_image(self, grid):
        return grid

    def set_grid_from_image(self, frame):
        return [[99, *row[1:]] for row in frame]

    def decode(self, grid, return_ids):
        assert return_ids
        return [row[: row.index(1)] for row in grid]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_reconstruct_keeps_the_order_of_the_indices(data, batch_size):
    indices = [7, 3, 30, 3, 0, 21, 15, 39]                                    # also one twice
    references, predictions = reconstruct(Echo(16), data, indices, "grid", batch_size)
    assert references == predictions == [data[i].tolist() for i in indices]
    references, predictions = reconstruct(Echo(16), data, indices, "frame", batch_size)
    assert predictions == [[99, *data[i].tolist()[1:]] for i in indices]
    with pytest.raises(ValueError, match="'image'"):
        reconstruct(Echo(16), data, indices, "image")


def test_reconstruct_closes_what_stopped_and_only_that(data):
    model = Echo(16)
    model.decode = lambda grid, return_ids: [[5] * 15, [5] * 16]
    assert reconstruct(model, data, [0, 1])[1] == [[5] * 15 + [1], [5] * 16]


@pytest.mark.parametrize("path", ["grid", "frame", "attractor", "blank"])
def test_teacher_forced_equals_a_plain_loop_without_padding(model, data, path):
    indices = [9, 0, 8, 17]
    loss = right = count = 0
    with torch.no_grad():
        for i in indices:
            ids = torch.from_numpy(data[i].astype("int64"))[None]             # one text, no padding at all
            logits = model(ids, frame_rows=int(path in ("frame", "attractor")), blank_rows=int(path == "blank"),
                           dynamics=collapse if path == "attractor" else None)[0][0]
            for t, token in enumerate(ids[0]):
                loss -= F.log_softmax(logits[t], -1)[token].item()
                right += int(logits[t].argmax() == token)
                count += 1
    for batch_size in (1, 3, 64):
        result = teacher_forced(model, data, indices, path, batch_size)
        assert result["teacher_forced_loss"] == pytest.approx(loss / count, rel=1e-4)
        assert result["teacher_forced_token_accuracy"] == right / count


def test_probe_texts_are_seeded_and_of_their_kind():
    for kind in ("random", "unusual"):
        texts = probe_texts(kind, 30, STORIES)
        assert texts == probe_texts(kind, 30, STORIES) != probe_texts(kind, 30, STORIES, seed=1)
        assert len(set(texts)) == 30
    words = {word for story in STORIES for word in story.split()}
    for text in probe_texts("random", 30, STORIES):
        assert set(text.split()) <= words and 5 <= len(text.split()) <= 30
    unusual = " ".join(probe_texts("unusual", 200, STORIES))
    assert all(any(low <= ch <= high for ch in unusual) for low, high in ("09", "àÿ", "ая", "一龥", "🌀🫿"))
    with pytest.raises(ValueError, match="no words"):
        probe_texts("random", 3, ["", " "])


def test_check_device():
    assert check_device("cpu") == torch.device("cpu")
    for name in ("nonsense", "meta", *(() if torch.cuda.is_available() else ("cuda",))):
        with pytest.raises(ValueError, match=f"--device {name}"):
            check_device(name)


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "train.txt").write_text("\n\n".join(STORIES))
    (folder / "validation.txt").write_text("\n\n".join(STORIES[:9]))
    torch.save(model.to_checkpoint(), folder / "best.pt")
    torch.save(model.to_checkpoint() | {"tokenizer": None}, folder / "ids.pt")
    return folder


def run(files, *flags):
    return evaluate.main(["--dataset", str(files), "--cache_dir", str(files / "cache"), "--device", "cpu",
                          "--checkpoint", str(files / "best.pt"), *flags])


def test_command_ends_in_one_json_line(files, capsys):
    assert run(files, "--num_samples", "6") == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(first["results"]) == {f"{kind}/{path}" for kind in evaluate.TEXTS for path in evaluate.PATHS[:2]}
    assert all(r["n"] == 6 for r in first["results"].values())
    assert first["results"]["validation/grid"]["exact_match"] > 0.8           # the aligned start copies
    assert run(files, "--num_samples", "6") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == first


def test_num_samples_all_or_more_than_there_are(files, capsys):
    for n in ("-1", "1000"):
        assert run(files, "--num_samples", n, "--texts", "validation", "--paths", "grid") == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["results"]["validation/grid"]["n"] == 9


@pytest.mark.parametrize("flags, message", [
    (("--num_samples", "0"), "--num_samples 0"), (("--batch_size", "0"), "--batch_size 0"),
    (("--seed", "-1"), "--seed -1"), (("--device", "nonsense"), "--device nonsense"),
    (("--checkpoint", "nowhere.pt"), "nowhere.pt"), (("--dataset", "nowhere.txt"), "nowhere.txt"),
])
def test_bad_flags_give_one_line(files, capsys, flags, message):
    assert run(files, *flags) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


def test_checkpoint_without_tokenizer_is_named(files, capsys):
    assert run(files, "--checkpoint", str(files / "ids.pt")) == 2
    assert "no tokenizer" in capsys.readouterr().err
