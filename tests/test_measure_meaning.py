"""Section meaning of evaluate.py: its measures by hand, and its protocol on a tiny model that knows nothing."""

import json

import numpy as np
import pytest
from conftest import decoder_bits, save_tiny_model

import evaluate
from wheeler.dynamics.tiles import split_tiles
from wheeler.frame.cells import meaning_count
from wheeler.frame.code import Reading, cost_of
from wheeler.measure import gists, metrics
from wheeler.measure.gists import content_words, covered, judge_readings, without_words
from wheeler.measure.meaning import meaning
from wheeler.measure.memories import Pool, costs, first_sentences
from wheeler.measure.recall import ranks, tile_scores
from wheeler.training.data import Row
from wheeler.training.stories import stories


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("meaning")
    (folder / "data").mkdir()
    for split, count in (("train", 30), ("validation", 12)):
        rows = [" ".join(story.split()[: 7 + i % 6]) for i, story in enumerate(stories("train", 60))]
        rows = rows[:count] if split == "train" else rows[-count:]
        (folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    save_tiny_model(folder / "a.pt", grid_size=48, max_seq_len=24)
    return folder


@pytest.fixture(scope="module")
def subject(folder):
    return metrics.Subject(folder / "a.pt", str(folder / "data"), cache_dir=folder / "cache", device="cpu")


@pytest.fixture(scope="module")
def pool(subject):
    return Pool(subject, 16)


def test_ranks_count_what_is_nearer_and_equals_before():
    scores = np.array([[0.1, 0.9, 0.5], [0.2, 0.2, 0.2], [0.7, 0.1, 0.3]])
    assert ranks(scores, np.array([2, 1, 0])).tolist() == [1, 1, 0]


def test_content_words_are_lower_case_words_without_stop_words():
    assert content_words("The Dog and 12 dogs; a3b ran to Élan's ox.") == {"dog", "dogs", "ran", "élan"}
    assert covered({"dog", "ran"}, "A dog sat.") == 0.5 and covered(set(), "A dog.") == covered({"dog"}, "") == 0


def test_first_sentences():
    text = 'Tom ran. "Stop!" said Mr. Fox. Why? 3.5 km.'
    assert [first_sentences(text, n) for n in (0, 1, 2)] == [text, "Tom ran.", 'Tom ran. "Stop!"']
    assert first_sentences("no end", 2) == "no end" and first_sentences(text, 9) == text


def test_tile_scores_are_correlations_over_common_tiles():
    rng = np.random.default_rng(0)
    frames, counts = rng.choice([-1.0, 1.0], (5, 16, 32)).astype(np.float32), np.array([7, 3, 0, 5, 3])
    cues, of_cues = frames[:3], np.array([4, 7, 2])
    found = tile_scores(cues, of_cues, frames, counts)
    for i in range(3):
        for j in range(5):
            common = min(of_cues[i], counts[j])
            a, b = (split_tiles(x)[1 : 1 + common].ravel() for x in (cues[i], frames[j]))
            assert found[i, j] == pytest.approx(np.corrcoef(a, b)[0, 1] if common else -1, abs=1e-5)


def test_readings_are_judged_by_words_only_where_they_are_not_exact():
    said = ["A red dog.", "A blue cat.", "A cow."]
    rows = judge_readings([Row([i, 1], text) for i, text in enumerate(said, 5)], said,
                          [Reading("A red dog.", True, 0, 1.0, [5, 1]), Reading("A cat.", False, 0, 0.0, [6, 1]),
                           Reading("A pig.", True, 0, 1.0, [8, 1])])          # exact, but of another text
    assert rows["exact_match"] == pytest.approx(1 / 3) and rows["words"]["mean"] == pytest.approx(0.5)
    assert rows["gists"]["mean"] == pytest.approx(0.25) and rows["gists"]["n"] == 2
    assert rows["control"]["mean"] == 0                                       # pig, dog and cat for dog, cat and cow


def test_the_pool_holds_whole_texts_once_unseen_ones_first(pool, subject):
    assert len(set(pool.said)) == len(pool.said) == 16 and 5 < pool.unseen <= 12
    assert set(pool.said[: pool.unseen]) <= set(subject.stories)
    assert set(pool.said[pool.unseen :]) <= set(subject.training_stories)
    assert max(map(len, pool.texts)) < subject.model.config.max_seq_len


def test_stand_ins_share_all_but_the_words_with_the_frames_they_stand_for(pool):
    code, exact = pool.code, lambda texts, tiles: [cost_of(c) - 16 for c in pool.code.charges(texts, tiles)]
    for one, stand_in in zip(code.write(pool.texts), code.sketch(pool.texts, exact), strict=True):
        assert stand_in.rows == one.rows and (stand_in.tiles == one.tiles).all()
        words = one.rows * 8
        same = stand_in.frame == one.frame
        assert words and same[: 48 - words].all() and 0.4 < same[48 - words :].mean() < 0.95
        assert (metrics.collapse(stand_in.frame[None])[0] == stand_in.frame).all()
        assert not code.read(stand_in.frame[None])[0].exact


def test_float32_costs_are_those_of_the_language_model_and_of_the_decoder_in_whole_numbers(pool):
    none, seven = ([row[:k] for row in pool.code.meaning_tiles(pool.texts)] for k in (0, 7))
    plain = pool.subject.model.bits(pool.said)
    assert costs(pool.code, pool.texts, none) == pytest.approx(plain, rel=1e-4)
    exact = [decoder_bits(pool.code.decoder, ids, tiles) for ids, tiles in zip(pool.texts, seven, strict=True)]
    assert costs(pool.code, pool.texts, seven) == pytest.approx(exact, rel=0.01)


def test_without_words_a_frame_is_never_called_exact_and_keeps_its_meaning(pool):
    frames, tiles = pool.frames(range(pool.unseen))
    blank = without_words(pool.code, frames, tiles)
    for frame, whole, count in zip(blank, frames, tiles, strict=True):
        rows = next(r for r in range(7) if meaning_count(48, 48, r) == count)
        assert (frame[48 - 8 * rows :] == 0).all() and (frame[: 48 - 8 * rows] == whole[: 48 - 8 * rows]).all()
    assert rows and not any(reading.exact for reading in pool.code.read(blank))
    assert all(reading.exact for reading in pool.code.read(frames))


def test_damaged_frames_are_read_as_the_reader_does(pool):
    written = pool.code.write(pool.texts[:6])
    frames = np.stack([one.frame for one in written])
    frames[1, -24:], frames[2, :8], frames[3, :, :20], frames[4] = 0, 0, 0, 1
    found = gists.read_damaged(pool.code, written, frames, "")
    for mine, real in zip(found, pool.code.read(frames), strict=True):
        assert (mine.exact, mine.foreign, mine.text) == (real.exact, real.foreign, real.text)
    assert [reading.exact for reading in found] == [True, False, False, False, False, True]
    with pytest.raises(RuntimeError, match="disagrees"):                      # frames of other texts
        gists.read_damaged(pool.code, written[::-1], frames, "")


def test_pairs_in_the_wrong_order_turn_the_figures_round(pool, monkeypatch):
    known = gists.meanings(pool, range(pool.unseen))
    nearest = lambda mixed: [pool.texts[i] for i in (mixed @ known.T).argmax(1).tolist()]      # a teller that knows all
    monkeypatch.setattr(pool.subject.model, "retell_meanings", nearest)
    pairs = gists.neighbours(pool, 2)
    assert len({i for pair in pairs for i in pair}) == 4
    there, back = gists.along(pool, pairs), gists.along(pool, [pair[::-1] for pair in pairs])
    for step, other in (("0.00", "1.00"), ("0.25", "0.75"), ("1.00", "0.00")):
        assert there[step]["first"]["mean"] == back[other]["second"]["mean"]
        assert there[step]["bits_a_character"] == pytest.approx(back[other]["bits_a_character"], rel=1e-4)
    assert there["0.00"]["first"]["mean"] == there["1.00"]["second"]["mean"] == 1
    assert there["0.00"]["second"]["mean"] == there["1.00"]["first"]["mean"] < 1
    ends = (there["0.00"]["bits_a_character"] + there["1.00"]["bits_a_character"]) / 2
    assert there["stories"]["bits_a_character"] == pytest.approx(ends, rel=1e-4)


def test_every_part_in_one_run(subject, folder, capsys):
    result = meaning(subject, (4, 14), num_samples=6, output_dir=folder)
    assert "retellings are left out" in capsys.readouterr().out and "retellings" not in result["recall"]
    assert (folder / "meaning.png").stat().st_size > 30_000
    json.dumps(result, allow_nan=False)
    for size, count in (("4", 4), ("14", 6)):
        rows = result["recall"]["memories"][size]
        assert {row["whole frame"]["n"] for row in rows.values()} == {count} and len(rows) == 9
        for name in ("exact text", "noisy frame"):
            assert rows[name]["whole frame"]["recall_at_1"] == rows[name]["hash frames"]["recall_at_1"] == 1
            assert rows[name]["whole frame"]["decoded"]["exact_match"] == 1
        assert rows["exact text"]["TF-IDF"]["recall_at_1"] == 1 and "TF-IDF" not in rows["noisy frame"]
        assert rows["first half"]["hash frames"]["recall_at_1"] < rows["first half"]["TF-IDF"]["recall_at_1"]
    check = result["recall"]["stand_ins"]
    assert check["as stand-ins"]["correlation"] == pytest.approx(check["written for real"]["correlation"], abs=0.05)
    assert result["bits"]["0"]["ratio"] == 1 and set(result["bits"]) == {"0", "7", "15", "23", "31"}
    assert result["gist"]["read as exact"]["exact_match"] == 0
    whole = [result["erased"][f"whole texts, at once, {area}"]["exact_match"] for area in ("0.00", "0.70")]
    assert whole[0] == 1 and whole[1] == 0


def test_retellings_are_sought_by_the_line_of_their_story(subject, folder, capsys):
    lines = [subject.stories.index(text) for text in Pool(subject, 0).said]
    own = [{"line": i, "retelling": subject.stories[i]} for i in lines]
    wrong = [{"line": i, "retelling": subject.stories[j]} for i, j in zip(lines, lines[1:] + lines[:1], strict=True)]
    found = []
    for rows in (own, wrong):
        (folder / "told.jsonl").write_text("\n".join(map(json.dumps, rows)))
        result = meaning(subject, (4,), 2, ["recall"], str(folder / "told.jsonl"), output_dir=folder)
        found.append(result["recall"]["retellings"])
    assert f"retellings: {len(lines)} of the {len(lines)}" in capsys.readouterr().out
    assert found[0]["whole frame"]["recall_at_1"] == found[0]["TF-IDF"]["recall_at_1"] == 1
    assert found[1]["whole frame"]["recall_at_1"] == 0 and found[0]["memories"] == len(lines)
    assert found[0]["whole frame"]["decoded"]["exact_match"] == 1


@pytest.mark.parametrize("text, reason", [
    (None, "FileNotFoundError"), ("{", "JSONDecodeError"), ('{"line": 99, "retelling": "a"}', "IndexError"),
    ('{"line": 0}', "KeyError"), ('{"line": "a", "retelling": "b"}', "TypeError")])
def test_a_bad_file_of_retellings_is_named(subject, folder, text, reason):
    file = folder / "bad.jsonl"
    file.unlink(missing_ok=True)
    if text:
        file.write_text(text)
    with pytest.raises(ValueError, match=f"--retellings .*bad.jsonl.*{reason}"):
        meaning(subject, (4,), 2, ["recall"], str(file), output_dir=folder)


def test_the_command_runs_a_part_and_refuses_others(folder, capsys):
    flags = ["--checkpoint", str(folder / "a.pt"), "--dataset", str(folder / "data"), "--cache_dir",
             str(folder / "cache"), "--output_dir", str(folder), "--device", "cpu", "--num_samples", "4"]
    assert evaluate.main(["meaning", "--parts", "bits", *flags]) == 0
    said = capsys.readouterr()
    assert "%|" not in said.err and "%|" not in said.out                      # no progress bars: this is no terminal
    result = json.loads(said.out.splitlines()[-1])
    assert list(result["results"]["meaning"]) == ["bits"] and "meaning/bits/7" in evaluate.figures(result["results"])
    with pytest.raises(SystemExit, match="2"):                                # at once: no checkpoint is looked for
        evaluate.main(["meaning", "--parts", "sense", "--checkpoint", "nowhere.pt"])
    error = capsys.readouterr().err
    assert error.startswith("evaluate.py: error: argument --parts: invalid choice: 'sense'") and error.count("\n") == 1
    assert evaluate.main(["meaning", "--retellings", "none.jsonl", "--checkpoint", "nowhere.pt"]) == 2
    assert capsys.readouterr().err == "evaluate.py: --retellings none.jsonl: no such file\n"
    assert evaluate.main(["meaning", "--memories", "1", *flags]) == 2
    assert "--memories 1 must be at least 2" in capsys.readouterr().err
