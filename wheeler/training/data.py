"""Texts in, padded token batches out: tokenized once, cached as a memory map, served in a few fixed lengths.

    python train.py --prepare --dataset stories.jsonl      # tokenize and show what a run would train on

Cache: <cache_dir>/<key>/ holds tokens.bin (uint16, uint32 above 65,536 entries), offsets.npy (int64) and meta.json; the
key hashes the data, the tokenizer and the way texts are cut, so a change of any of them is a new entry. Entries are
written under a temporary name and renamed, so a half-written one is never read.

With --streaming nothing is cached: blocks of 10,000 texts are read, tokenised in a thread while the block before is
trained on, shuffled and forgotten. A position in the stream is plain values, from which a run goes on exactly.
"""

import argparse
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from wheeler.cli import load_array, plain, progress
from wheeler.model.config import round_up
from wheeler.model.tokenizer import (
    beginning,
    load_tokenizer,
    round_trip,
    tokenizer_from_dict,
    tokenizer_to_dict,
    train_tokenizer,
    vocabulary_size,
    whole_characters,
)
from wheeler.training.texts import DEFAULT_DATASET, DataError, TextStream, blank, fingerprint, load_texts

ROUND_TRIP_TEXTS = 300  # of the data set, that a tokenizer has to give back
TOKENIZER_TEXTS = 200_000  # more texts change little and cost minutes
CACHE_FORMAT = 3  # part of every cache key: a new layout never opens old entries
LEFT_AFTER = 24 * 3600  # seconds after which a half-written cache entry is somebody's crash, not somebody's work
HALF_WRITTEN = re.compile(r"[0-9a-f]{16}\.[a-z0-9_]{8}")  # its name: a key and 8 random digits


def make_cache_dir(cache_dir: str | os.PathLike) -> None:
    try:
        Path(cache_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--cache_dir {cache_dir}: cannot be made ({error.strerror})") from None


def get_tokenizer(name: str | None, texts: Sequence[str], vocab_size: int, cache_dir: str | os.PathLike):
    """The tokenizer `name` (folder or hub), or, with None, one trained on the texts and cached by their content."""
    if name is not None:
        return load_tokenizer(name)
    sample = texts[:TOKENIZER_TEXTS]
    path = Path(cache_dir) / f"tokenizer-{fingerprint(sample)[:16]}-{vocab_size}.json"
    if path.is_file():
        try:
            return tokenizer_from_dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError:                                                    # damaged: train it again
            pass
    tokenizer = train_tokenizer((text for text in sample if text), vocab_size)
    make_cache_dir(cache_dir)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(tokenizer_to_dict(tokenizer)), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"--cache_dir {cache_dir}: the tokenizer cannot be written ({error.strerror})") from None
    return tokenizer


# ---- tokens ---------------------------------------------------------------------------------------------------------


def bucket_lengths(max_seq_len: int) -> list[int]:
    """The few lengths that batches are padded to: quarters of max_seq_len, rounded up to multiples of 64."""
    return sorted({min(max_seq_len, round_up(max_seq_len * quarter // 4)) for quarter in (1, 2, 3, 4)})


def tokenize(texts: Sequence[str], tokenizer, max_seq_len: int, long_texts: str,
             bar: bool = True) -> Iterator[tuple[np.ndarray, bool, str]]:
    """Token ids of each text, end token last, whether it was cut, and the characters that are in them. `long_texts`:
    "cut" keeps the first max_seq_len - 1 tokens; "split" goes on with the rest as texts of their own. No part ends
    inside a character; one that alone has too many tokens is left out."""
    limit, eos = max_seq_len - 1, tokenizer.eos_token_id
    for start in progress(range(0, len(texts), 1000), "tokenizing", bar and len(texts) >= 20_000, unit="k texts"):
        batch = [text for text in texts[start : start + 1000] if not blank(text)]
        if not batch:
            continue
        found = tokenizer(batch, add_special_tokens=False, split_special_tokens=True)
        for text, ids, encoding in zip(batch, found["input_ids"], found.encodings, strict=True):
            if len(ids) <= limit:
                yield np.array([*ids, eos]), False, text
            elif long_texts == "cut":
                ids, kept = beginning(text, encoding, limit)
                yield np.array([*ids, eos]), True, kept
            else:
                yield from ((np.array([*ids[start:end], eos]), False, part)
                            for start, end, part in pieces(text, encoding, limit))


def pieces(text: str, encoding, limit: int) -> Iterator[tuple[int, int, str]]:
    """(first token, token after the last, characters) of the parts of an encoded text, `limit` tokens each at most."""
    start, offsets = 0, encoding.offsets
    while start < len(offsets):
        end = whole_characters(encoding, start + limit)
        if end > start:
            yield start, end, text[offsets[start][0] : offsets[end - 1][1]]
            start = end
            continue
        start += limit                                                        # one character has more tokens than that
        while start < len(offsets) and offsets[start][0] < offsets[start - 1][1]:
            start += 1


class Row(list):
    """Token ids of a text, end token last, and `text`: the characters that went in, which the ids may not give back."""

    def __init__(self, ids: Sequence[int], text: str):
        super().__init__(ids)
        self.text = text


class Tokens:
    """Tokenised texts. `len(ds)`, `ds[i]` -> (T,) array of token ids, end token last.

    tokens: all of them, one text after the other; offsets: (len + 1,) int64, where each begins. texts_cut: how many
    texts were longer than max_seq_len. texts: the characters that went into each, where they are known.
    """

    def __init__(self, tokens: np.ndarray, offsets: np.ndarray, meta: dict):
        self.tokens, self.offsets, self.texts_cut = tokens, offsets, meta["texts_cut"]
        self.max_seq_len, self.vocab_size, self.special_ids = (
            meta["max_seq_len"], meta["vocab_size"], meta["special_ids"])
        self.lengths = np.diff(offsets)
        self.buckets = bucket_lengths(self.max_seq_len)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]

    def row(self, i: int) -> Row:
        return Row(self[i].tolist(), self.texts[i])

    def batch(self, indices: Sequence[int], length: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """input_ids (B, T) int64 and attention_mask (B, T) bool, padded on the right to `length`, default the smallest
        bucket that fits."""
        rows = [self[i] for i in indices]
        if length is None:
            longest = max(map(len, rows))
            length = next(bucket for bucket in self.buckets if bucket >= longest)
        ids = np.full((len(rows), length), self.special_ids[2], dtype=np.int64)
        for out, row in zip(ids, rows, strict=True):
            out[: len(row)] = row
        if ids.max() >= self.vocab_size:
            raise DataError(f"{getattr(self, 'folder', 'the data')}: token {ids.max()} is not in the vocabulary of "
                            f"{self.vocab_size}; delete it")
        mask = np.arange(length) < np.array([len(row) for row in rows])[:, None]
        return torch.from_numpy(ids), torch.from_numpy(mask)


class TokenDataset(Tokens):
    """Tokens in a memory map. key: name of the cache entry. content: hash of the tokens, the same wherever and however
    they were made. source: texts, tokenizer and long_texts that it was made of. Raises OSError, ValueError, KeyError or
    TypeError where the entry is damaged."""

    def __init__(self, folder: str | os.PathLike, source: tuple | None = None):
        self.folder, self.source = Path(folder), source
        folder = self.folder
        meta = json.loads((folder / "meta.json").read_text())
        self.key, self.content = meta["key"], meta["content"]
        offsets = load_array(folder / "offsets.npy")
        tokens = np.memmap(folder / "tokens.bin", dtype={"uint16": np.uint16, "uint32": np.uint32}[meta["dtype"]],
                           mode="r")
        if (offsets.ndim != 1 or offsets.dtype != np.int64 or len(offsets) < 2 or offsets[0]
                or len(tokens) != offsets[-1]):
            raise DataError(f"{folder}: offsets.npy does not fit the {len(tokens)} tokens of tokens.bin; delete it")
        super().__init__(tokens, offsets, meta)
        if not (self.lengths.min() > 0 and self.lengths.max() <= self.max_seq_len and len(self.special_ids) == 3):
            raise DataError(f"{folder}: its texts have {self.lengths.min()} to {self.lengths.max()} tokens; delete it")

    @cached_property
    def texts(self) -> list[str]:
        # Tokenized once more: only a measurement asks for them, and of the few unseen texts.
        texts, tokenizer, long_texts = self.source
        return [part for *_, part in tokenize(texts, tokenizer, self.max_seq_len, long_texts)]

    def say(self, ids: Sequence[int]) -> str:
        """Token ids as text."""
        return self.source[1].decode(ids, skip_special_tokens=True)

    def __reduce__(self):
        return TokenDataset, (self.folder,)                                   # a worker maps the file, not a copy


class TokenBlocks:
    """Blocks of a TextStream as Tokens. `number` and `position` say which one is at hand: a run goes on from them.
    While one is trained on, a thread makes the next: a daemon, since the end of a run must not wait for a block."""

    def __init__(self, stream: TextStream, tokenizer, max_seq_len: int, long_texts: str, number: int = 0,
                 position: dict | None = None):
        self.stream, self.tokenizer, self.cut = stream, tokenizer, (max_seq_len, long_texts)
        self.number, self.position = number, position or stream.start
        self.next = None
        self.tokens, self.after = self._make(self.position)

    def _make(self, position: dict) -> tuple[Tokens, dict]:
        texts, after = self.stream.block(position)
        offsets, rows, cut = [0], [], 0
        for ids, was_cut, _ in tokenize(texts, self.tokenizer, *self.cut, bar=False):
            rows.append(ids.astype(np.uint32))
            offsets.append(offsets[-1] + len(ids))
            cut += was_cut
        return Tokens(np.concatenate(rows) if rows else np.empty(0, np.uint32), np.array(offsets), token_meta(
            self.tokenizer, self.cut[0], cut)), after

    def prepare(self) -> None:
        """Begin to make the next block in the background."""
        if self.next is None:
            self.next = Future()
            threading.Thread(target=self._fill, args=(self.next, self.after), daemon=True).start()

    def _fill(self, block: Future, position: dict) -> None:
        try:
            block.set_result(self._make(position))
        except BaseException as error:                                        # for whoever takes the block
            block.set_exception(error)

    def advance(self) -> None:
        """Go to the next block; after the last one the data begins again."""
        self.prepare()
        (self.tokens, after), self.next = self.next.result(), None
        self.number, self.position, self.after = self.number + 1, self.after, after


def token_meta(tokenizer, max_seq_len: int, texts_cut: int) -> dict:
    return {"max_seq_len": max_seq_len, "texts_cut": texts_cut, "vocab_size": vocabulary_size(tokenizer),
            "special_ids": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id]}


def build_dataset(texts: Sequence[str], tokenizer, max_seq_len: int, cache_dir: str | os.PathLike,
                  long_texts: str = "cut", max_samples: int = -1) -> TokenDataset:
    """Tokenise `texts` (the first max_samples; -1: all) or open the cache entry of an earlier run."""
    if long_texts not in ("cut", "split"):
        raise DataError(f"long_texts = {long_texts!r} must be 'cut' or 'split'")
    if max_seq_len < 2:
        raise DataError(f"max_seq_len = {max_seq_len} must be at least 2: a token and the end token")
    texts = texts[:max_samples] if max_samples >= 0 else texts
    identity, size = tokenizer_to_dict(tokenizer), vocabulary_size(tokenizer)
    key = hashlib.sha256(json.dumps([CACHE_FORMAT, fingerprint(texts), len(texts), identity, max_seq_len, long_texts])
                         .encode()).hexdigest()[:16]
    folder = Path(cache_dir) / key
    source = texts, tokenizer, long_texts
    if folder.exists():
        try:
            return TokenDataset(folder, source)
        except PermissionError as error:
            raise DataError(f"--cache_dir {cache_dir}: {error.filename} may not be read by you ({error.strerror})"
                            ) from None
        except (OSError, ValueError, KeyError, TypeError, EOFError):          # damaged: make it again
            shutil.rmtree(folder, ignore_errors=True)
    make_cache_dir(cache_dir)
    for left in Path(cache_dir).iterdir():                                    # of runs that were killed here
        if HALF_WRITTEN.fullmatch(left.name) and left.is_dir() and time.time() - left.stat().st_mtime > LEFT_AFTER:
            shutil.rmtree(left, ignore_errors=True)
    # Not mkdtemp, whose folders are closed to all others: users may share a cache, which the umask decides.
    temporary = Path(cache_dir) / f"{key}.{secrets.token_hex(4)}"
    try:
        temporary.mkdir()
        dtype = "uint16" if size <= 65536 else "uint32"
        offsets, cut, digest = [0], 0, hashlib.sha256()
        with open(temporary / "tokens.bin", "wb") as file:
            for ids, was_cut, _ in tokenize(texts, tokenizer, max_seq_len, long_texts):
                file.write(row := ids.astype(dtype).tobytes())
                digest.update(row)
                offsets.append(offsets[-1] + len(ids))
                cut += was_cut
        if len(offsets) == 1:
            raise DataError(f"none of the {len(texts)} texts has anything in it")
        np.save(temporary / "offsets.npy", np.array(offsets, dtype=np.int64))
        (temporary / "meta.json").write_text(json.dumps(token_meta(tokenizer, max_seq_len, cut) | {
            "key": key, "content": digest.hexdigest(), "dtype": dtype}))
        try:
            os.replace(temporary, folder)
        except OSError:
            if not (folder / "meta.json").is_file():                          # else: another process was faster
                raise
        return TokenDataset(folder, source)
    except OSError as error:                                                  # a full disk
        raise DataError(f"--cache_dir {cache_dir}: the tokenised data cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# ---- batches --------------------------------------------------------------------------------------------------------


class EpochBatches(torch.utils.data.Dataset):
    """The batches of one epoch, a pure function of (seed, epoch), so that a run resumes in the middle of one exactly.

    Texts are shuffled, then grouped by bucket; what does not fill a batch joins the next longer bucket, the last
    remainder is left out of this epoch. `random_text_share` of the rows (drawn at random) are replaced by random tokens
    of the same length: they teach copying of what no story contains. The last `blank_rows` rows are spared (they train
    the language model). `unusual_text_share` of all rows are replaced by as many of the ids `unusual`, a long row of
    made-up texts: they teach what such texts cost. Items: input_ids (B, T) int64, mask (B, T) bool; of process `rank`
    among `ranks` every ranks-th row.
    """

    def __init__(self, data: Tokens, batch_size: int, seed: int, epoch: int, random_text_share: float = 0.0,
                 blank_rows: int = 0, rank: int = 0, ranks: int = 1, unusual_text_share: float = 0.0,
                 unusual: np.ndarray | None = None):
        self.data, self.seed, self.epoch, self.blank_rows = data, seed, epoch, blank_rows
        self.random_text_share, self.rank, self.ranks = random_text_share, rank, ranks
        self.unusual_text_share, self.unusual = unusual_text_share, unusual
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(data))
        bucket_of = np.searchsorted(data.buckets, data.lengths[order])
        batches, rest = [], order[:0]
        for bucket, length in enumerate(data.buckets):
            members = np.concatenate([rest, order[bucket_of == bucket]])
            full = len(members) // batch_size * batch_size
            batches += [(row, length) for row in members[:full].reshape(-1, batch_size)]
            rest = members[full:]
        self.batches = [batches[i] for i in rng.permutation(len(batches))]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        indices, length = self.batches[i]
        ids, mask = self.data.batch(indices, length)
        rng = np.random.default_rng([self.seed, self.epoch, i])
        text = mask & (ids != self.data.special_ids[1])
        if self.random_text_share:
            rows = np.flatnonzero(rng.random(len(ids) - self.blank_rows) < self.random_text_share)
            allowed = np.setdiff1d(np.arange(self.data.vocab_size), self.data.special_ids)
            random_ids = torch.from_numpy(rng.choice(allowed, (len(rows), length)))
            ids[rows] = torch.where(text[rows], random_ids, ids[rows])
        if self.unusual_text_share:
            rows = np.flatnonzero(rng.random(len(ids)) < self.unusual_text_share)
            starts = rng.integers(len(self.unusual), size=(len(rows), 1))
            unusual = torch.from_numpy(self.unusual[(starts + np.arange(length)) % len(self.unusual)])
            ids[rows] = torch.where(text[rows], unusual, ids[rows])
        return ids[self.rank :: self.ranks], mask[self.rank :: self.ranks]

    def tokens(self, i: int) -> int:
        """Tokens of batch i without padding, all processes together."""
        return int(self.data.lengths[self.batches[i][0]].sum())


def add_data_flags(parser: argparse.ArgumentParser, training: bool = True) -> None:
    """The flags that say what to train and measure on; one place for all scripts. training: that of training too."""
    group = parser.add_argument_group("data")
    group.add_argument("--dataset", default=DEFAULT_DATASET, help="'sample', a local file or folder, or a hub name")
    group.add_argument("--text_column", default="text", help="field that holds the text")
    group.add_argument("--long_texts", choices=("cut", "split"), default="cut",
                       help="texts longer than max_seq_len: keep their beginning, or go on as texts of their own")
    if training:
        group.add_argument("--max_train_samples", type=int, default=-1,
                           help="use the first N training texts, -1 = all")
    group.add_argument("--cache_dir", default="data/cache", help="folder for tokenised data")


def prepare(args: argparse.Namespace) -> int:
    """`train.py --prepare`: tokenizes the data set into the cache and prints what a run would train on."""
    train = load_texts(args.dataset, "train", args.text_column)
    tokenizer = get_tokenizer(args.tokenizer, train, args.vocab_size, args.cache_dir)
    for split in ("train", "validation"):
        texts = train if split == "train" else load_texts(args.dataset, split, args.text_column)
        data = build_dataset(texts, tokenizer, args.max_seq_len, args.cache_dir, args.long_texts,
                             args.max_train_samples if split == "train" else -1)
        counts = np.bincount(np.searchsorted(data.buckets, data.lengths), minlength=len(data.buckets))
        print(f"{split}: {len(data):,} texts, {len(data.tokens):,} tokens, {data.texts_cut:,} cut at "
              f"{args.max_seq_len}; by length " +
              ", ".join(f"<= {bucket}: {count:,}" for bucket, count in zip(data.buckets, counts, strict=True)))
    first = plain(tokenizer.decode(data[0])).replace("\n", " ")
    print(f"tokenizer: {len(tokenizer):,} entries; first text: {first:.300}")
    note = round_trip(tokenizer, train[:ROUND_TRIP_TEXTS])
    if note:
        print(f"warning: {note}")
    return 0
