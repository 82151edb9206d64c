"""Metrics against cases worked out by hand, and against plain loops."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import evaluate
from evaluate import blank_prediction, compare, lookups
from models import WheelerTextAutoencoder
from wheeler.measure import metrics
from wheeler.measure.metrics import (
    Subject,
    TokenRows,
    beginnings,
    collapse,
    evenly,
    hash_frames,
    language_model_bits,
    measure,
    nearest_by_words,
    overlap,
    probe_texts,
    reconstruct_frames,
    text_scores,
)
from wheeler.model.config import WheelerConfig
from wheeler.model.tokenizer import train_tokenizer
from wheeler.training.data import Row, build_dataset
from wheeler.training.scores import check_device, reconstruct, score, share, teacher_forced, wilson_interval
from wheeler.training.stories import stories

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
        vocab_size=400, grid_size=16, d_model=64, max_seq_len=16, encoder_layers=1, grid_layers=0, decoder_layers=1),
        tokenizer).eval()


@pytest.mark.parametrize("successes, n, low, high", [
    (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (1, 1, 0.2065, 1.0),
    (81, 263, 0.2553, 0.3662), (485, 500, 0.9511, 0.9817),
])
def test_wilson_interval_of_published_and_hand_computed_cases(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("n", [1, 7, 51, 114, 128, 500])
def test_wilson_interval_ends_at_0_and_1_exactly(n):
    assert wilson_interval(0, n)[0] == 0.0 and wilson_interval(n, n)[1] == 1.0


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
    references, say = [Row(ids, str(ids[:-1])) for ids in references], lambda ids: str([i for i in ids if i != 1])
    result = score(references, predictions, say)
    assert result["n"] == 4 and result["exact_match"] == 0.25 and result["token_accuracy"] == 5 / 10
    assert result["interval"] == wilson_interval(1, 4)
    assert score(references[:1], [(5, 6, 1)], say)["exact_match"] == 1.0
    assert score(references[:1], [[5, 6]], say)["exact_match"] == 0.0         # its end did not come back
    assert score([Row([5, 6, 1], "[5,6]")], [[5, 6, 1]], say)["exact_match"] == 0.0      # the tokens did, not the text
    with pytest.raises(ValueError):
        score(references, predictions[:3], say)


def test_share_of_a_hand_computed_case():
    assert share([True, False, True, True], "recall_at_1") == {
        "recall_at_1": 0.75, "interval": wilson_interval(3, 4), "n": 4}


def test_edit_distance_and_bleu_of_hand_computed_cases():
    result = text_scores(["the cat", "abcd", "", "a"], ["the cat", "abxd", "", "bcde"])
    assert result["edit_distance"] == pytest.approx((0 + 1 / 4 + 0 + 1) / 4)  # of the longer text's characters
    one = text_scores(["the big cat sat on the mat"], ["the big cat sat on a mat"])
    # 6 of 7, 4 of 6, 3 of 5 and 2 of 4 n-grams are right, the lengths are equal: geometric mean
    assert one["bleu"] == pytest.approx(100 * (6 / 7 * 4 / 6 * 3 / 5 * 2 / 4) ** 0.25)
    assert one["bleu_signature"].startswith("nrefs:1|case:mixed") and "version:" in one["bleu_signature"]
    assert text_scores(["a b c d e"], ["a b c d e"])["bleu"] == pytest.approx(100)


def test_bits_retained_count_only_what_came_back(tokenizer):
    a, b = (Row(tokenizer(text)["input_ids"], text) for text in ("A cat sat.", "A dog ran."))
    result = measure([a, b], [a, a], tokenizer, np.array([10.0, 30.0]))
    assert (result["text_bits"], result["bits_retained"], result["exact_match"]) == (20, 5, 0.5)


def test_beginnings_are_texts_and_end_with_the_end_token(tokenizer, tmp_path):
    texts = ["Q", "Q@#!~^%", "~~🐉🐉🐉", "a #🐉 ~~"]                              # a character or a byte a token
    data = build_dataset(texts, tokenizer, 16, tmp_path)
    found = beginnings(data, 5, 9)
    assert [row.text for row in found] == ["Q@#!"]                            # the others would end inside a dragon
    assert found[0] == [*data[1][:4], 1] == tokenizer("Q@#!")["input_ids"]
    assert [row.text for row in beginnings(data, 7, 9)] == ["Q@#!~^", "~~🐉"] and beginnings(data, 16, 5) == []
    assert [row.text for row in beginnings(data, 7, 1)] == ["Q@#!~^"]
    assert evenly(10, 3).tolist() == [0, 4, 9] and evenly(4, -1).tolist() == evenly(4, 9).tolist() == [0, 1, 2, 3]


def test_token_rows_batch_like_a_data_set(data):
    rows = TokenRows([data[i].tolist() for i in range(9)], data.special_ids)
    for mine, theirs in zip(rows.batch([3, 7, 1]), data.batch([3, 7, 1], int(rows.lengths[[3, 7, 1]].max()))):
        assert torch.equal(mine, theirs)


def test_collapse_takes_arrays_and_tensors_and_counts_ticks():
    frames = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16)).astype(np.float32)
    assert collapse(frames, 0) is frames
    assert (collapse(frames, 1) != frames).any() and isinstance(collapse(frames, 1), np.ndarray)
    assert (collapse(collapse(frames, 2), 3) == collapse(frames, 5)).all()
    assert torch.equal(collapse(torch.from_numpy(frames)), torch.from_numpy(collapse(frames)))


class Echo:
    """A reader of its own grids, which are the ids: perfect but for the first token, if `spoil`."""

    def __init__(self, tokens, spoil=False):
        self.spoil = spoil
        self.device = torch.device("cpu")
        self.config = SimpleNamespace(max_seq_len=tokens, eos_token_id=1)

    def encode(self, ids, mask):
        return [row[m].tolist() for row, m in zip(ids, mask, strict=True)]

    def decode(self, grid, return_ids):
        assert return_ids
        return [([99] if self.spoil else row[:1]) + row[1 : row.index(1)] for row in grid]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_reconstruct_keeps_the_order_of_the_indices(data, batch_size):
    indices = [7, 3, 30, 3, 0, 21, 15, 39]                                    # also one twice
    references, predictions = reconstruct(Echo(16), data, indices, "grid", batch_size)
    assert references == predictions == [data[i].tolist() for i in indices]
    references, predictions = reconstruct(Echo(16, spoil=True), data, indices, "grid", batch_size)
    assert references == [data[i].tolist() for i in indices]
    assert predictions == [[99, *data[i].tolist()[1:]] for i in indices]
    with pytest.raises(ValueError, match="'frame'"):
        reconstruct(Echo(16), data, indices, "frame")


def test_reconstruct_closes_what_stopped_and_only_that(data):
    model = Echo(16)
    model.decode = lambda grid, return_ids: [[5] * 15, [5] * 16]
    assert reconstruct(model, data, [0, 1])[1] == [[5] * 15 + [1], [5] * 16]


@pytest.mark.parametrize("path", ["grid", "blank"])
def test_teacher_forced_equals_a_plain_loop_without_padding(model, data, path):
    indices = [9, 0, 8, 17]
    loss = right = count = 0
    with torch.no_grad():
        for i in indices:
            ids = torch.from_numpy(data[i].astype("int64"))[None]             # one text, no padding at all
            logits = model(ids, blank_rows=int(path == "blank"))[0][0]
            for t, token in enumerate(ids[0]):
                loss -= F.log_softmax(logits[t], -1)[token].item()
                right += int(logits[t].argmax() == token)
                count += 1
    for batch_size in (1, 3, 64):
        result = teacher_forced(model, data, indices, path, batch_size)
        assert result["teacher_forced_loss"] == pytest.approx(loss / count, rel=1e-4)
        assert result["teacher_forced_token_accuracy"] == right / count


def test_language_model_bits_are_the_blank_loss_of_each_text(model, data):
    indices = [9, 0, 8, 17, 0]
    bits = language_model_bits(model, data, indices, batch_size=2)
    for i, value in zip(indices, bits, strict=True):
        loss = teacher_forced(model, data, [i], "blank")["teacher_forced_loss"]
        assert value == pytest.approx(loss * len(data[i]) / np.log(2), rel=1e-4)
    assert bits[1] == pytest.approx(bits[4])


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


def test_hash_frames_are_those_of_the_public_store():
    """Uniform in [-1, 1], PCG64, seeded with the first 8 bytes of the sha256, big end first."""
    frame = hash_frames(["Once upon a time"], 4, 4)[0]
    assert frame.dtype == np.float32 and (hash_frames(["x", "Once upon a time"], 4, 4)[1] == frame).all()
    rng = np.random.Generator(np.random.PCG64(0xE286222C229EC73B))            # sha256sum of it begins so
    assert (frame == rng.uniform(-1, 1, (4, 4)).astype(np.float32)).all()


def test_nearest_by_words():
    memories = ["a cat sat on a mat", "the dog ran home", "the bird flew away"]
    assert nearest_by_words(["my bird flew", "one dog", "mat cat"], memories) == [2, 1, 0]


def test_overlap_finds_exact_and_near_duplicates():
    words = [f"w{i}" for i in range(400)]
    training = [" ".join(words[i : i + 20]) for i in range(0, 400, 20)]
    texts = ["  W0 " + " ".join(words[1:20]),                                 # exact but for blanks and case
             " ".join(words[20:35] + ["other", "end", "of", "it", "all"]),    # 11 of 16 runs of five
             " ".join(words[40:48] + [f"x{i}" for i in range(12)]),           # 4 of 16
             "w60 w61", "something else that never stood anywhere in there"]
    assert overlap(texts, training) == {"n": 5, "training_texts": 20, "exact": 1, "near": 1}


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "train.txt").write_text("\n\n".join(STORIES))
    (folder / "validation.txt").write_text("\n\n".join(STORIES[:9]))
    torch.save(model.to_checkpoint(), folder / "best.pt")
    torch.save(model.to_checkpoint() | {"tokenizer": None}, folder / "ids.pt")
    return folder


@pytest.fixture(scope="module")
def subject(files):
    return Subject(files / "best.pt", str(files), cache_dir=files / "cache", device="cpu")


def test_controls_do_not_score(subject):
    texts = [subject.data.row(i) for i in range(9)]
    for path in ("grid", "frame"):
        assert texts.count(blank_prediction(subject, path)) == 0
    answers = lookups(subject, texts, lookup_samples=5)
    assert len(answers) == 3 and all(len(rows) == 9 for rows in answers.values())
    frames, words, hashes = (subject.score(texts, rows)["exact_match"] for rows in answers.values())
    assert words == hashes == 1.0                      # these texts do stand in the training set, so a lookup has them
    assert frames < 1.0                                                       # of which only five are looked at
    strange = subject.tokens(probe_texts("unusual", 9, STORIES))
    assert all(subject.score(strange, rows)["exact_match"] == 0 for rows in lookups(subject, strange, 5).values())


def test_shuffled_latents_read_as_shuffled_texts(subject):
    """What section text takes for granted: reading looks at the latent alone."""
    rows = subject.rows([subject.data.row(i) for i in range(9)])
    read = reconstruct(subject.model, rows, list(range(9)))[1]
    ids, mask = rows.batch(range(9))
    shuffled = subject.model.decode(subject.model.encode(ids, mask).roll(1, 0), return_ids=True)
    assert [[*row, 1][:16] for row in shuffled] == read[-1:] + read[:-1]


def test_reconstruct_frames_says_what_does_not_fit(subject):
    texts = [subject.data[i].tolist()[-2:] for i in range(3)] + [list(range(30, 45)) + [1]]
    predictions, fits = reconstruct_frames(subject.code, texts)               # 16 x 16 cells hold 66 bits
    assert fits == [True] * 3 + [False] == [p == t for p, t in zip(predictions, texts, strict=True)]


def test_a_subject_knows_its_paths_and_what_it_is(subject, files, monkeypatch):
    assert subject.paths == ("grid", "frame")
    torch.save(torch.load(files / "best.pt") | {"training": {"flags": {}, "step": 3}}, files / "trained.pt")
    other = Subject(files / "trained.pt", str(files), cache_dir=files / "cache", device="cpu")
    mine, theirs = subject.identity(), other.identity()
    assert mine["data"] == theirs["data"] and mine["weights"] == theirs["weights"] == other.model.fingerprint()
    assert theirs["step"] == 3
    subject.model.save_pretrained(files / "packed")
    packed = Subject(files / "packed", str(files), cache_dir=files / "cache", device="cpu")
    assert packed.identity()["weights"] == mine["weights"] and packed.identity()["step"] is None
    monkeypatch.setattr(subject.model.config, "grid_size", 8)                 # no frame is as small as that
    assert subject.paths == ("grid",)


def test_overlap_says_where_it_could_not_look(subject, files, monkeypatch, capsys):
    monkeypatch.setattr(subject, "flags", {})                                 # a packed model does not say
    assert not evaluate.check_overlap(subject)["checked"]
    assert "the checkpoint does not say what it was trained on" in capsys.readouterr().out
    monkeypatch.setattr(subject, "flags", {"dataset": str(files), "init_from": "old.pt"})
    assert not evaluate.check_overlap(subject)["checked"]
    assert "does not say all that it was trained on" in capsys.readouterr().out
    monkeypatch.setattr(subject, "flags", {"dataset": str(files)})
    assert evaluate.check_overlap(subject)["checked"]
    monkeypatch.setattr(metrics, "MOST_TRAINING_TEXTS", 4)
    assert len(metrics.first_texts(str(files), "text")) == 4
    assert "take the first 4 of the" in capsys.readouterr().out


def test_beginnings_of_the_same_stories_do_not_count_twice(subject):
    result = evaluate.text(subject, ["beginnings"], ["grid"], num_samples=5, output_dir="figures")
    row = result["texts"]["beginnings/grid"]
    stories = max(r["n"] for name, r in result["by_length"].items())
    assert row["n"] >= stories
    assert row["interval"] == wilson_interval(round(row["exact_match"] * stories), stories)


def test_no_texts_of_a_kind_is_said(subject, capsys):
    assert len(subject.rows([])) == 0 and evaluate.text(subject, ["random"], ["grid"], num_samples=2)["texts"]


def run(files, *flags):
    return evaluate.main(["--dataset", str(files), "--cache_dir", str(files / "cache"), "--device", "cpu",
                          "--checkpoint", str(files / "best.pt"), "--output_dir", str(files / "figures"), *flags])


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_command_ends_in_one_json_line(files, capsys):
    assert run(files, "--num_samples", "6", "--lookup_samples", "5") == 0
    out = capsys.readouterr().out
    first = json.loads(out.splitlines()[-1])
    result = first["results"]["text"]
    assert set(result["texts"]) == {f"{kind}/{path}" for kind in evaluate.TEXTS for path in ("grid", "frame")}
    assert all(r["n"] == 6 for name, r in result["texts"].items() if not name.startswith("beginnings"))
    assert result["texts"]["validation/grid"]["exact_match"] > 0.8            # the aligned start copies
    assert result["texts"]["validation/grid"]["teacher_forced_token_accuracy"] > 0.8
    for name, row in result["controls"].items():
        assert row["exact_match"] == 0 or "nearest" in name or "lookup" in name, name
    for name, row in result["texts"].items():
        parts = [r for key, r in result["by_length"].items() if key.startswith(name + "/")]
        assert sum(r["n"] for r in parts) == row["n"]
        assert sum(r["n"] * r["exact_match"] for r in parts) == pytest.approx(row["n"] * row["exact_match"])
    assert "warning     9 exact and 0 near duplicates" in out                 # the validation texts are training texts
    assert first["overlap"]["exact"] == 9 and len(first["identity"]["weights"]) == 16
    assert (files / "figures" / "evaluate_text.png").stat().st_size > 10_000
    assert run(files, "text", "--num_samples", "6", "--lookup_samples", "5") == 0
    assert last_line(capsys) == first


def test_num_samples_all_or_more_than_there_are(files, capsys):
    for n in ("-1", "1000"):
        assert run(files, "--num_samples", n, "--texts", "validation", "--paths", "grid", "--lookup_samples", "1") == 0
        assert last_line(capsys)["results"]["text"]["texts"]["validation/grid"]["n"] == 9


@pytest.fixture(scope="module")
def results(files, tmp_path_factory):
    """Two results of the same protocol, as files with more than the JSON line in them."""
    folder = tmp_path_factory.mktemp("results")
    identity = {"data": "d", "tokenizer": "t", "long_texts": "cut", "max_seq_len": 16, "checkpoint": "a.pt",
                "weights": "c", "step": 1, "commit": "x"}
    for name, hits, changes in (("a", 9, {}), ("b", 1, {}), ("data", 1, {"data": "e"}), ("tok", 1, {"tokenizer": "u"})):
        rows = {"text": {"texts": {"validation/grid": share([True] * hits + [False] * (10 - hits))}}}
        line = {"identity": identity | changes, "options": {"text.num_samples": 10, "text.batch_size": hits},
                "results": rows}
        (folder / name).write_text("a table\n" + json.dumps(line) + "\n")
    line["options"]["text.num_samples"], line["identity"] = 11, identity
    (folder / "n").write_text(json.dumps(line))
    return folder


def test_rows_inside_of_rows_are_figures_too():
    inner = {"exact_match": 0.5, "interval": (0, 1)}
    row = {"recall_at_1": 1.0, "interval": (0, 1), "exact_decode": inner}
    assert evaluate.figures({"a": {"b": row}}) == {"a/b": row, "a/b/exact_decode": inner}


def test_compare_prints_results_side_by_side(results, capsys):
    assert compare([str(results / "a"), str(results / "b")]) == {"text/texts/validation/grid": [0.9, 0.1]}
    out = capsys.readouterr().out
    assert "90.00%" in out and "10.00%" in out and "intervals apart" in out
    assert evaluate.main(["--compare", str(results / "a"), str(results / "a")]) == 0
    assert "apart" not in capsys.readouterr().out


@pytest.mark.parametrize("other, message", [("data", "data is d and e"), ("tok", "tokenizer is t and u"),
                                            ("n", "text.num_samples is 10 and 11"), ("missing", "missing")])
def test_compare_refuses_unlike_things(results, capsys, other, message):
    assert evaluate.main(["--compare", str(results / "a"), str(results / other)]) == 2
    out = capsys.readouterr()
    assert message in out.err and out.err.count("\n") == 1 and not out.out


def test_a_value_of_two_lines_gives_one(capsys):
    assert evaluate.main(["--compare", "a\nb"]) == 2
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(["--x\ny"])
    assert evaluate.main(["--checkpoint", "x" * 300, "--dataset", "sample"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "x" * 300 in errors[-1] and "Errno" not in errors[-1]
    assert len(errors) == 3 and all(error.startswith("evaluate.py: ") for error in errors)


def test_compare_names_a_file_that_is_not_there(results, capsys):
    assert evaluate.main(["--compare", str(results / "a"), "nowhere.log"]) == 2
    error = capsys.readouterr().err
    assert error == "evaluate.py: --compare nowhere.log: it cannot be read (No such file or directory)\n"


def test_compare_refuses_what_is_no_result(files, results, capsys):
    assert evaluate.main(["--compare", str(results / "a"), str(files / "train.txt")]) == 2
    assert "not a result of evaluate.py" in capsys.readouterr().err


def test_a_failing_section_costs_no_other(files, capsys, monkeypatch):
    monkeypatch.setitem(evaluate.SECTIONS, "picture", lambda subject: {"same": [True]})

    def fails(subject, seed=0):
        raise ValueError("no such thing")

    monkeypatch.setitem(evaluate.SECTIONS, "space", fails)
    assert run(files, "picture", "space") == 2
    out = capsys.readouterr()
    assert "evaluate.py: space: no such thing" in out.err
    assert json.loads(out.out.splitlines()[-1])["results"] == {"picture": {"same": [True]}}

    def interrupts(subject, seed=0):
        raise KeyboardInterrupt

    monkeypatch.setitem(evaluate.SECTIONS, "space", interrupts)
    assert run(files, "picture", "space") == 130
    assert last_line(capsys)["results"] == {"picture": {"same": [True]}}


def test_a_figure_that_cannot_be_written_costs_no_result(files, capsys):
    (files / "blocked/evaluate_text.png").mkdir(parents=True)
    flags = ("--texts", "validation", "--paths", "grid", "--num_samples", "2", "--lookup_samples", "2")
    assert run(files, *flags, "--output_dir", str(files / "blocked")) == 2
    out = capsys.readouterr()
    assert json.loads(out.out.splitlines()[-1])["results"]["text"]["texts"]["validation/grid"]["n"] == 2
    assert out.err.count("evaluate_text.png cannot be written (") == 1
    (files / "old").mkdir()
    (files / "old/evaluate_text.png").write_text("of an earlier run")
    flags = ("--texts", "random", "--paths", "grid", "--num_samples", "2")    # nothing to draw
    assert run(files, *flags, "--output_dir", str(files / "old")) == 0 and not list((files / "old").iterdir())


@pytest.mark.parametrize("flags, message", [
    (("--num_samples", "0"), "--num_samples 0"), (("--batch_size", "0"), "--batch_size 0"),
    (("--seed", "-1"), "--seed -1"), (("--device", "nonsense"), "--device nonsense"),
    (("--checkpoint", "nowhere.pt"), "nowhere.pt"), (("--dataset", "nowhere.txt"), "nowhere.txt"),
    (("lenghts",), "no section 'lenghts'"), (("text", "--length", "8"), "--length means nothing to text"),
    (("--lookup_samples", "0"), "--lookup_samples 0"), (("lengths", "--lengths", "17"), "max_seq_len = 16, not 17"),
    (("disturb", "--length", "1"), "--length 1"), (("space", "--square", "3"), "--square 3"),
    (("recall",), "no section 'recall'"), (("disturb", "--grid_samples", "-1"), "--grid_samples -1"),
    (("lengths", "--lengths", "1"), "--lengths 1"),
    (("--output_dir", "/dev/null/x"), "--output_dir /dev/null/x"),
])
def test_bad_flags_give_one_line(files, capsys, flags, message):
    assert run(files, *flags) == 2
    error = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()
    assert message in error[-1] and sum("evaluate.py:" in line for line in error) == 1


def test_flags_that_the_parser_refuses_give_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["--num_samples", "many"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "many" in error


def test_checkpoint_without_tokenizer_is_named(files, capsys):
    assert run(files, "--checkpoint", str(files / "ids.pt")) == 2
    assert "no tokenizer" in capsys.readouterr().err
