"""Texts in, token batches out: nothing lost, nothing stale, the same batches every time."""

import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import train
from wheeler.model.tokenizer import (
    LONG_RUN,
    load_tokenizer,
    tokenizer_from_dict,
    tokenizer_to_dict,
    train_tokenizer,
    vocabulary_size,
)
from wheeler.training import data as data_module
from wheeler.training.data import EpochBatches, TokenBlocks, TokenDataset, bucket_lengths, build_dataset, get_tokenizer
from wheeler.training.stories import stories
from wheeler.training.texts import DataError, TextStream, hold_out, load_texts, read_local, split_texts

STORIES = stories("train", 80)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(STORIES, 400)


def write_jsonl(path, texts, field="text"):
    path.write_text("".join(json.dumps({field: text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


# ---- tokenizer ------------------------------------------------------------------------------------------------------


def random_text(rng, n):
    points = (rng.choice([rng.randrange(0x80), rng.randrange(0x800), rng.randrange(0x10000), rng.randrange(0x110000)])
              for _ in range(n))
    return "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)


def test_any_unicode_text_comes_back(tokenizer):
    rng = random.Random(0)
    texts = [random_text(rng, rng.randrange(40)) for _ in range(500)]
    texts += ["", " ", "  two  spaces ", "\n\r\n\t", " .", "don 't", "e\u0301", "\0", "👩‍👩‍👧", "a" * 3000]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert ids.pop() == tokenizer.eos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_spelled_special_tokens_stay_text(tokenizer):
    text = "<|bos|>a<|eos|> b <|pad|>"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert not set(ids) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_special_ids_and_size(tokenizer):
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1, 2)
    assert len(tokenizer) == vocabulary_size(tokenizer) == 400
    with pytest.raises(ValueError, match="258.*259"):
        train_tokenizer(STORIES, 258)


def test_dict_is_plain_and_round_trips(tokenizer):
    state = tokenizer_to_dict(tokenizer)
    assert all(isinstance(value, str) for value in state.values())
    assert tokenizer_to_dict(tokenizer_from_dict(state)) == state
    with pytest.raises(ValueError, match="tokenizer cannot be read"):
        tokenizer_from_dict(state | {"json": "x"})


def test_load_tokenizer_of_a_folder(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded("Once, <|eos|> é 🐉")["input_ids"] == tokenizer("Once, <|eos|> é 🐉")["input_ids"]
    assert loaded.bos_token_id == tokenizer.bos_token_id


def test_load_tokenizer_gives_distinct_special_tokens_to_the_layout_of_gpt2(tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    backend.train_from_iterator(STORIES, trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|endoftext|>",
                            eos_token="<|endoftext|>").save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.eos_token == "<|endoftext|>"
    assert len({loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id}) == 3
    assert loaded("a")["input_ids"][-1] == loaded.eos_token_id
    text = "She said <|endoftext|> , 'hi' ."
    ids = loaded(text, add_special_tokens=False)["input_ids"]
    assert loaded.eos_token_id not in ids and loaded.decode(ids, skip_special_tokens=True) == text


def test_load_tokenizer_names_what_it_cannot_load(tmp_path):
    with pytest.raises(ValueError, match="--tokenizer .*cannot be loaded"):
        load_tokenizer(str(tmp_path))


def test_trained_tokenizer_is_cached_by_content(tmp_path, monkeypatch):
    first = get_tokenizer(None, STORIES, 300, tmp_path)
    get_tokenizer(None, STORIES, 310, tmp_path)
    get_tokenizer(None, STORIES[1:], 300, tmp_path)
    files = sorted(tmp_path.glob("tokenizer-*.json"))
    assert len(files) == 3
    for file in files:
        file.write_text("{half")
    assert tokenizer_to_dict(get_tokenizer(None, STORIES, 300, tmp_path)) == tokenizer_to_dict(first)
    monkeypatch.setattr(data_module, "train_tokenizer", None)                 # from now on only the cache can answer
    assert tokenizer_to_dict(get_tokenizer(None, STORIES, 300, tmp_path)) == tokenizer_to_dict(first)


# ---- texts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw, texts", [
    ("one\n \ntwo", ["one", "two"]), ("one\r\n\t\r\n \r\ntwo\r\nmore", ["one", "two\nmore"]),
    ("one\r\rtwo", ["one", "two"]),
    ("one\n\u00a0\u3000\ntwo", ["one", "two"]), ("\n \none\n \n", ["one"]), ("one \n two", ["one \n two"]),
    ("one\n\n    two", ["one", "two"]), ("one\n \nmore<|endoftext|>two", ["one\n \nmore", "two"]),
    ("\ufeffone\n\ufefftwo\n\n\ufeffthree", ["one\ntwo", "three"]), ("\ufeff\n\n\ufeff\ufeffone", ["one"])])
def test_blank_lines_may_hold_blanks_and_files_may_be_joined(tmp_path, raw, texts):
    assert split_texts(raw) == texts
    (tmp_path / "a.txt").write_bytes(raw.encode())
    assert read_local(tmp_path / "a.txt", "text") == texts


@pytest.mark.parametrize("texts, unseen", [
    (["", "a", "b"], ["a"]), (["a", "", "b"], ["a"]), ([None, " \n", "a", None, "b", ""], ["a"]),
    (["a", *[""] * 19, "b"], ["a"]), (["", *STORIES[:41], ""], [STORIES[0], STORIES[20], STORIES[40]])])
def test_blank_texts_are_not_held_out(tmp_path, texts, unseen, monkeypatch):
    file = write_jsonl(tmp_path / "a.jsonl", texts)
    seen = [text for text in texts if text and not text.isspace() and text not in unseen]
    whole = load_texts(file)
    assert load_texts(file, "validation") == unseen and [text for text in whole if text and text.strip()] == seen
    for limit in (-1, *range(len(whole) + 1)):
        stream = TextStream(file, limit=limit)
        assert stream.held_out == unseen and sum(passes(stream, 2)[0], []) == whole[: limit if limit >= 0 else None]
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict(
        {"train": datasets.Dataset.from_dict({"text": texts})}))
    assert list(load_texts("someone/tales", "validation")) == unseen
    assert [text or "" for text in load_texts("someone/tales")] == whole


@pytest.mark.parametrize("texts, what", [(["", "a"], "1 text"), (["", " "], "no text"), (["a"], "1 text")])
def test_too_few_texts_that_are_not_blank(tmp_path, texts, what):
    for load in (load_texts, TextStream):
        with pytest.raises(DataError, match=f"{what} and no validation split is too small|there is no text in it"):
            load(write_jsonl(tmp_path / "a.jsonl", texts))


def test_joined_json_files_and_null_are_read_both_ways(tmp_path):
    rows = '\ufeff{"text": "a"}\n\ufeff{"text": "b"}\n\ufeff\n\ufeff\ufeff{"text": null}\n{"text": "c"}\n'
    (tmp_path / "a.jsonl").write_text(rows, encoding="utf-8")
    assert read_local(tmp_path / "a.jsonl", "text") == ["a", "b", "", "c"]
    stream = TextStream(str(tmp_path / "a.jsonl"))
    assert sum(passes(stream, 2)[0], []) == ["b", "", "c"] and stream.held_out == ["a"]
    (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"other": null}\n{"text": 3}\n')
    with pytest.raises(DataError, match="line 2 is not a JSON object with a field 'text'"):
        read_local(tmp_path / "b.jsonl", "text")


def test_local_files(tmp_path):
    assert load_texts(write_jsonl(tmp_path / "a.jsonl", ["x", "y\n\nz", "w"]), "train") == ["y\n\nz", "w"]
    assert load_texts(str(tmp_path / "a.jsonl"), "validation") == ["x"]
    assert load_texts(write_jsonl(tmp_path / "s.jsonl", ["x", "y"], "story"), "train", "story") == ["y"]
    (tmp_path / "a.txt").write_bytes(b"one\r\n\r\ntwo\nlines\n\n\n\nthree\n")
    assert load_texts(str(tmp_path / "a.txt"), "train") == ["two\nlines", "three"]
    (tmp_path / "b.txt").write_text("one\n\nstill<|endoftext|>\ntwo\n<|endoftext|>\n")
    assert load_texts(str(tmp_path / "b.txt"), "train") == ["two"]
    (tmp_path / "bom.jsonl").write_text("\ufeff" + (tmp_path / "a.jsonl").read_text(), encoding="utf-8")
    assert load_texts(str(tmp_path / "bom.jsonl"), "validation") == ["x"]


def test_folder_with_and_without_validation(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", STORIES)
    assert load_texts(str(tmp_path), "validation") == STORIES[::20]
    assert sorted(load_texts(str(tmp_path), "train") + STORIES[::20]) == sorted(STORIES)
    (tmp_path / "validation.txt").write_text("only one")
    assert load_texts(str(tmp_path), "train") == STORIES and load_texts(str(tmp_path), "validation") == ["only one"]


def test_held_out_texts_are_bounded_and_apart():
    texts = [str(i) for i in range(50_000)]
    held, kept = hold_out(texts, "validation"), hold_out(texts, "train")
    assert len(held) == 1000 and len(kept) == 49_000 and not set(held) & set(kept)


@pytest.mark.parametrize("content, message", [
    (b"", "no text"), (b"\n \n", "no text"), (b'{"text": "a"}\n{oops\n', "line 2"), (b'{"story": "a"}\n', "'text'"),
    (b'{"text": 5}\n', "line 1 is not a string"), (b'[{"text": "a"}]', "line 1"), (b'{"text": "a"}\n', "1 text"),
    (b'{"text": "a\\ud800"}\n', "Unicode"), ("hé".encode("latin-1"), "UTF-8"), (b"[" * 100_000, "line 1"),
])
def test_unusable_files_are_named(tmp_path, content, message):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_texts(str(path))


def test_missing_files_are_named(tmp_path):
    for name, message in (("no.jsonl", "no such file"), ("", "no train.jsonl")):
        with pytest.raises(DataError, match=message):
            load_texts(str(tmp_path / name))
    with pytest.raises(DataError, match="is empty"):
        load_texts(" ")


# ---- hub ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """Stand-in for the hub: set `splits`, or `error`."""
    import datasets

    class Hub:
        splits, error = {}, None

        def load(self, name):
            assert name == "someone/tales"
            if self.error:
                raise self.error
            return datasets.DatasetDict({split: datasets.Dataset.from_dict(c) for split, c in self.splits.items()})

    hub = Hub()
    monkeypatch.setattr(datasets, "load_dataset", hub.load)
    return hub


def test_hub_with_validation_split(hub):
    hub.splits = {"train": {"text": STORIES, "n": list(range(80))}, "validation": {"text": ["v"], "n": [0]}}
    train = load_texts("someone/tales", "train")
    assert len(train) == 80 and list(train) == STORIES and train[:2] == STORIES[:2]
    assert list(load_texts("someone/tales", "validation")) == ["v"]


def test_hub_without_validation_split_holds_out(hub):
    hub.splits = {"test": {"story": STORIES}}
    assert list(load_texts("someone/tales", "validation", "story")) == hold_out(STORIES, "validation")
    assert list(load_texts("someone/tales", "train", "story")) == hold_out(STORIES, "train")


@pytest.mark.parametrize("splits, column, message", [
    ({"train": {"story": ["a", "b"]}}, "text", "no column 'text', it has story"),
    ({"train": {"text": [1, 2]}}, "text", "no strings"), ({"train": {"text": ["a"]}}, "text", "1 text"),
])
def test_unusable_hub_data_is_named(hub, splits, column, message):
    hub.splits = splits
    with pytest.raises(DataError, match=message):
        load_texts("someone/tales", "train", column)


def test_unreachable_hub_says_what_to_do(hub):
    hub.error = ConnectionError("Couldn't reach it\nsecond line")
    with pytest.raises(DataError, match="Couldn't reach it.*--dataset sample") as caught:
        load_texts("someone/tales")
    assert "\n" not in str(caught.value)


def test_cache_tells_columns_of_one_hub_table_apart(hub, tokenizer, tmp_path):
    hub.splits = {"train": {"text": STORIES, "title": [story[:9] for story in STORIES]}}
    sets = {column: build_dataset(load_texts("someone/tales", "train", column), tokenizer, 64, tmp_path)
            for column in ("text", "title")}
    assert sets["text"].key != sets["title"].key
    again = build_dataset(load_texts("someone/tales", "train", "title"), tokenizer, 64, tmp_path)
    assert again.key == sets["title"].key and again.content == sets["title"].content


def test_missing_values_of_a_hub_table_are_left_out(hub, tokenizer, tmp_path):
    hub.splits = {"train": {"text": ["", "a", None, "b", None]}, "validation": {"text": ["v"]}}
    texts = load_texts("someone/tales")
    get_tokenizer(None, texts, 300, tmp_path)
    assert len(build_dataset(texts, tokenizer, 16, tmp_path)) == 2
    assert len(build_dataset(texts, tokenizer, 16, tmp_path, max_samples=3)) == 1


# ---- tokens and their cache -----------------------------------------------------------------------------------------


def test_tokens_end_with_eos_and_long_texts_are_cut_and_counted(tokenizer, tmp_path):
    data = build_dataset(["a", "", " \n", STORIES[0]], tokenizer, 16, tmp_path)
    ids = tokenizer(STORIES[0], add_special_tokens=False)["input_ids"]
    assert len(data) == 2 and data.texts_cut == 1
    assert data[0].tolist() == tokenizer("a")["input_ids"]
    assert data[1].tolist() == ids[:15] + [tokenizer.eos_token_id]


def test_long_texts_split_loses_no_token(tokenizer, tmp_path):
    data = build_dataset([STORIES[0]], tokenizer, 16, tmp_path, "split")
    eos = tokenizer.eos_token_id
    assert all(row[-1] == eos and len(row) <= 16 for row in data) and data.texts_cut == 0
    assert [t for row in data for t in row[:-1]] == tokenizer(STORIES[0], add_special_tokens=False)["input_ids"]


def test_batch_pads_to_a_bucket_and_masks_it(tokenizer, tmp_path):
    data = build_dataset(["a", "a b c"], tokenizer, 128, tmp_path)
    ids, mask = data.batch([0, 1])
    assert ids.shape == mask.shape == (2, 64) and ids.dtype == torch.int64 and mask.dtype == torch.bool
    assert mask.sum(1).tolist() == data.lengths.tolist()
    assert (ids[~mask] == tokenizer.pad_token_id).all()
    assert ids[1][mask[1]].tolist() == data[1].tolist()


def test_bucket_lengths():
    assert bucket_lengths(256) == [64, 128, 192, 256]
    assert bucket_lengths(64) == [64] and bucket_lengths(16) == [16] and bucket_lengths(100) == [64, 100]
    assert bucket_lengths(1000)[-1] == 1000


def test_cache_key_changes_with_data_tokenizer_length_and_cutting(tokenizer, tmp_path):
    build = lambda texts=STORIES[:9], tok=tokenizer, n=32, how="cut", most=-1: build_dataset(
        texts, tok, n, tmp_path, how, most).key
    base = build()
    other = train_tokenizer(STORIES, 300)
    keys = [base, build(STORIES[1:10]), build(tok=other), build(n=33), build(how="split"), build(most=5)]
    assert len(set(keys)) == len(keys) and build() == base and build(STORIES, most=9) == base


def test_second_build_reads_the_cache(tokenizer, tmp_path, monkeypatch):
    first = build_dataset(STORIES[:9], tokenizer, 32, tmp_path)
    monkeypatch.setattr(data_module, "tokenize", None)
    again = build_dataset(STORIES[:9], tokenizer, 32, tmp_path)
    assert again.content == first.content and (again.tokens == first.tokens).all()


@pytest.mark.parametrize("damage", ["no meta", "half meta", "short tokens", "no offsets", "empty tokens"])
def test_damaged_cache_entry_is_made_again(tokenizer, tmp_path, damage):
    first = build_dataset(STORIES[:9], tokenizer, 32, tmp_path)
    tokens, folder = first.tokens.tolist(), tmp_path / first.key
    if damage == "no meta":
        (folder / "meta.json").unlink()
        (folder / "tokens.bin").write_bytes(b"junk")
    elif damage == "half meta":
        (folder / "meta.json").write_text('{"key"')
    elif damage == "no offsets":
        (folder / "offsets.npy").unlink()
    else:
        (folder / "tokens.bin").write_bytes(b"\0\0" * (damage == "short tokens"))
    assert build_dataset(STORIES[:9], tokenizer, 32, tmp_path).tokens.tolist() == tokens


def test_interrupted_build_leaves_nothing(tokenizer, tmp_path, monkeypatch):
    def stops(*args):
        yield np.array([5, 1]), False, "a"
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(data_module, "tokenize", stops)
        with pytest.raises(KeyboardInterrupt):
            build_dataset(STORIES[:9], tokenizer, 32, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(build_dataset(STORIES[:9], tokenizer, 32, tmp_path)) == 9


def test_only_half_written_entries_are_cleared(tokenizer, tmp_path):
    ours, theirs = ["0123456789abcdef.a1_b2c3d"], ["thesis.20240101", "a.bbbbbbbb", "0123456789abcdef.A1_B2C3D"]
    for name in (*ours, *theirs):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    build_dataset(STORIES[:9], tokenizer, 32, tmp_path)
    assert not (tmp_path / ours[0]).exists() and all((tmp_path / name).exists() for name in theirs)


def test_unusable_requests_are_named(tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    for args, message in (((["a"], tokenizer, 1, tmp_path), "1 must be at least 2"),
                          (([" "], tokenizer, 16, tmp_path), "none of the 1"),
                          ((["a"], tokenizer, 16, tmp_path / "file"), "--cache_dir"),
                          ((["a"], tokenizer, 16, tmp_path, "drop"), "'drop'")):
        with pytest.raises(DataError, match=message):
            build_dataset(*args)


def test_pickle_carries_the_folder_not_the_tokens(tokenizer, tmp_path):
    data = build_dataset(STORIES * 20, tokenizer, 64, tmp_path)
    state = pickle.dumps(data)
    assert len(state) < 1000 and (pickle.loads(state).tokens == data.tokens).all()
    assert isinstance(pickle.loads(state), TokenDataset)


# ---- batches --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tokenizer, tmp_path_factory):
    """Texts of all four bucket lengths."""
    texts = [" ".join(story.split()[: 10 + 7 * i]) for i, story in enumerate(STORIES[:60])]
    return build_dataset(texts, tokenizer, 256, tmp_path_factory.mktemp("cache"))


def test_epoch_is_a_pure_function_of_seed_and_epoch(mixed):
    same = lambda a, b: all(torch.equal(x, y) for i in range(len(a)) for x, y in zip(a[i], b[i], strict=True))
    first, again = (EpochBatches(mixed, 8, 3, 1, 0.5) for _ in range(2))
    [again[i] for i in reversed(range(len(again)))]                           # no state between items
    assert same(first, again)
    orders = [[row.tolist() for row, _ in EpochBatches(mixed, 8, *x).batches] for x in ((3, 1), (3, 2), (4, 1))]
    assert orders[0] != orders[1] and orders[0] != orders[2]


@pytest.mark.parametrize("batch_size", [1, 7, 8, 60])
def test_every_text_at_most_once_and_less_than_a_batch_left_out(mixed, batch_size):
    for epoch in range(3):
        batches = EpochBatches(mixed, batch_size, 0, epoch)
        seen = np.concatenate([row for row, _ in batches.batches])
        assert len(seen) == len(set(seen.tolist())) == len(batches) * batch_size
        assert len(mixed) - len(seen) < batch_size
        for rows, length in batches.batches:
            assert length in mixed.buckets and mixed.lengths[rows].max() <= length


def test_batch_count_is_the_same_every_epoch(mixed):
    assert len({len(EpochBatches(mixed, 7, 0, epoch)) for epoch in range(5)}) == 1


def test_random_texts_keep_end_padding_and_share(mixed):
    plain, mixed_up = EpochBatches(mixed, 4, 0, 0), EpochBatches(mixed, 4, 0, 0, 0.5)
    changed = total = 0
    for i in range(len(plain)):
        (ids, mask), (random_ids, random_mask) = plain[i], mixed_up[i]
        assert torch.equal(mask, random_mask)
        fixed = ~mask | (ids == mixed.special_ids[1])
        assert torch.equal(ids[fixed], random_ids[fixed])
        assert not np.isin(random_ids[~fixed], mixed.special_ids).any() and random_ids.max() < mixed.vocab_size
        changed += (ids != random_ids).any(1).sum().item()
        total += len(ids)
    assert 0.25 < changed / total < 0.75
    for i in range(len(plain)):                                               # the last two rows are spared
        spared = EpochBatches(mixed, 4, 0, 0, 1.0, 2)[i][0]
        assert torch.equal(spared[2:], plain[i][0][2:]) and not torch.equal(spared[:2], plain[i][0][:2])


def test_command_shows_the_data(tmp_path, capsys):
    file = write_jsonl(tmp_path / "a.jsonl", STORIES)
    flags = ["--dataset", file, "--cache_dir", str(tmp_path / "cache"), "--vocab_size", "400", "--max_seq_len", "64"]
    assert train.main(["--prepare", *flags]) == 0
    assert "train: 76 texts" in capsys.readouterr().out
    assert train.main(["--prepare", *flags, "--text_column", "no"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_users_of_a_group_can_share_a_cache(tokenizer, tmp_path):
    """What the umask says holds for what is made, folders and files."""
    before = os.umask(0o002)
    try:
        build_dataset(STORIES, tokenizer, 32, tmp_path / "cache")
        get_tokenizer(None, STORIES, 300, tmp_path / "cache")
    finally:
        os.umask(before)
    mode = lambda path: oct(path.stat().st_mode & 0o777)
    made = [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]
    assert len(made) == 6 and all(mode(path) == ("0o775" if path.is_dir() else "0o664") for path in made)


def test_a_cache_entry_that_may_not_be_read_is_named(tokenizer, tmp_path, monkeypatch):
    folder = build_dataset(STORIES, tokenizer, 32, tmp_path).folder

    def refused(*args):
        raise PermissionError(13, "Permission denied", str(folder / "meta.json"))

    monkeypatch.setattr(data_module, "TokenDataset", refused)
    with pytest.raises(DataError, match="meta.json may not be read by you .Permission denied."):
        build_dataset(STORIES, tokenizer, 32, tmp_path)
    assert (folder / "meta.json").is_file()                                   # somebody else's: left alone


# ---- streaming ------------------------------------------------------------------------------------------------------


def passes(stream, size):
    """All blocks of one pass, and the positions where they begin."""
    position, blocks, starts = stream.start, [], []
    while True:
        starts.append(position)
        texts, position = stream.block(position, size)
        blocks.append(texts)
        if position == stream.start:
            return blocks, starts


@pytest.mark.parametrize("size", [1, 7, 79, 80, 1000])
def test_stream_gives_the_texts_of_the_whole_data_set(tmp_path, size):
    file = write_jsonl(tmp_path / "a.jsonl", STORIES)
    stream = TextStream(file)
    blocks, starts = passes(stream, size)
    assert [text for block in blocks for text in block] == load_texts(file, "train")
    assert stream.held_out == load_texts(file, "validation")
    for texts, start in zip(blocks, starts, strict=True):                     # another process goes on anywhere
        assert TextStream(file).block(json.loads(json.dumps(start)), size)[0] == texts
    assert sum(len(b) for b in passes(TextStream(file, limit=33), size)[0]) == 33
    write_jsonl(tmp_path / "validation.jsonl", ["v"])
    (tmp_path / "a.jsonl").rename(tmp_path / "train.jsonl")
    stream = TextStream(str(tmp_path))
    assert stream.held_out == ["v"] and [t for b in passes(stream, size)[0] for t in b] == STORIES


def test_stream_of_the_hub(monkeypatch):
    import datasets

    def load(name, streaming=False):
        assert name == "someone/tales" and streaming
        whole = datasets.Dataset.from_dict({"text": STORIES, "n": list(range(80))})
        return {"train": whole.to_iterable_dataset(num_shards=3)}

    monkeypatch.setattr(datasets, "load_dataset", load)
    stream = TextStream("someone/tales")
    blocks, starts = passes(stream, 11)
    assert [text for block in blocks for text in block] == hold_out(STORIES, "train")
    assert stream.held_out == hold_out(STORIES, "validation")
    assert passes(stream, 11)[0] == blocks                                    # the second time too
    for texts, start in zip(blocks, starts, strict=True):
        assert TextStream("someone/tales").block(json.loads(json.dumps(start)), 11)[0] == texts
    for at in ("x", '{"examples_iterable": 3}'):                            # of a damaged checkpoint
        with pytest.raises(DataError, match="reading the stream failed"):
            TextStream("someone/tales").block({"row": 0, "at": at})
    with pytest.raises(DataError, match="no column 'story' of strings, it has text, n"):
        TextStream("someone/tales", "story")


def test_stream_names_what_it_cannot_read(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n{oops\n')
    for name, message in (("a.txt", "reads a .jsonl"), ("no.jsonl", "no such file"), ("b.jsonl", "line at byte 28")):
        with pytest.raises(DataError, match=message):
            TextStream(str(tmp_path / name))
    with pytest.raises(DataError, match="small"):
        TextStream("sample")


def test_blocks_are_tokens_of_the_stream_and_go_on(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(data_module.TextStream.block, "__defaults__", (30,))
    file = write_jsonl(tmp_path / "a.jsonl", STORIES)
    blocks, seen = TokenBlocks(TextStream(file), tokenizer, 64, "cut"), []
    for _ in range(6):
        seen.append([row.tolist() for row in blocks.tokens])
        again = TokenBlocks(TextStream(file), tokenizer, 64, "cut", blocks.number, blocks.position)
        assert [row.tolist() for row in again.tokens] == seen[-1]
        blocks.advance()
    whole = build_dataset(load_texts(file), tokenizer, 64, tmp_path / "cache")
    assert sum(seen[:3], []) == [row.tolist() for row in whole] and seen[3:] == seen[:3]


def test_error_of_the_thread_reaches_whoever_takes_the_block(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(data_module.TextStream.block, "__defaults__", (30,))
    file = write_jsonl(tmp_path / "a.jsonl", STORIES)
    blocks = TokenBlocks(TextStream(file), tokenizer, 64, "cut")
    (tmp_path / "a.jsonl").unlink()
    blocks.prepare()
    with pytest.raises(DataError, match="cannot be read"):
        blocks.advance()


def test_end_does_not_wait_for_a_block(tmp_path):
    """A thread that reads for a minute, as of a slow hub, does not keep the program alive."""
    code = ("import time\nfrom wheeler.training import data\n"
            "stream = data.TextStream.__new__(data.TextStream)\nstream.start = 0\n"
            "data.TokenBlocks._make = lambda self, position: (position and time.sleep(60), 1)\n"
            "data.TokenBlocks(stream, None, 9, 'cut').prepare()")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, cwd=Path(__file__).resolve().parents[1])


def test_content_of_a_stream_tells_data_and_its_use_apart(tmp_path):
    rows = [{"text": story, "title": story[:9]} for story in STORIES]
    write = lambda name, rows: (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    write("a.jsonl", rows)
    write("b.jsonl", [*rows[:40], rows[40] | {"text": rows[40]["text"].swapcase()}, *rows[41:]])    # as long
    of = lambda name="a", *flags, used="cut": TextStream(str(tmp_path / f"{name}.jsonl"), *flags).content(used)
    found = [of(), of("b"), of("a", "title"), of("a", "text", 20), of(used="split")]
    assert len(set(found)) == len(found)
    (tmp_path / "a.jsonl").rename(tmp_path / "c.jsonl")                       # the same texts elsewhere
    assert of("c") == found[0]


@pytest.mark.parametrize("text", ["[" * 5000, "a" + " " * 5000 + "a", "b" * 5000])
def test_training_a_tokenizer_does_not_take_the_square_of_a_long_run(text):
    longest = max(map(len, train_tokenizer([text], 400).get_vocab()))
    assert 500 < longest <= 1000                                              # a run is cut into parts of 1,000
    assert LONG_RUN.split("one\n\n two " * 5000) == ["one\n\n two " * 5000]   # other texts are as they were
