"""Texts in, padded token batches out: load, tokenize once, cache as a memory map, serve in a few fixed lengths.

    python data.py --dataset sample                        # tokenize and show what a run would train on
    python data.py --dataset roneneldan/TinyStories        # the default: from the Hugging Face hub, cached after that
    python data.py --dataset stories.jsonl                 # one JSON object a line; also .txt, a folder, any hub name
    python train.py --streaming --max_steps 100000 --dataset huge.jsonl        # more than the disk or memory holds

A data set is named by `--dataset`: "sample" (the embedded corpus of sample_corpus.py), a local file or folder, or a
name on the hub. A local .jsonl has one object a line with the text in `--text_column`; a .txt holds texts separated by
"<|endoftext|>" if it has that, else by blank lines. A folder is read as train.jsonl / validation.jsonl (or .txt). Where
there is no validation split, every 20th text (1,000 at most) is held out.

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
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from models import WheelerConfig, round_up
from tokenizer import (
    first_line,
    load_tokenizer,
    tokenizer_from_dict,
    tokenizer_to_dict,
    train_tokenizer,
    vocabulary_size,
)

DEFAULT_DATASET = "roneneldan/TinyStories"
HELD_OUT_EVERY, HELD_OUT_MOST = 20, 1000
TOKENIZER_TEXTS = 200_000  # more texts change little and cost minutes
CACHE_FORMAT = 2  # part of every cache key: a new layout never opens old entries
BLOCK_TEXTS = 10_000  # texts that --streaming shuffles at a time
LEFT_AFTER = 24 * 3600  # seconds after which a half-written cache entry is somebody's crash, not somebody's work
HALF_WRITTEN = re.compile(r"[0-9a-f]{16}\.[a-z0-9_]{8}")  # its name: a key and what mkdtemp adds


class DataError(ValueError):
    """The data set cannot be used; the message says why and what to do."""


# ---- texts ----------------------------------------------------------------------------------------------------------


def json_text(line: str | bytes, path: Path, number: int | str, text_column: str) -> str:
    """The text of one line of a .jsonl file; DataError names file and line (`number`) where there is none."""
    try:
        text = json.loads(line)[text_column]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"--dataset {path}: line {number} is not a JSON object with a field {text_column!r} "
                        "(--text_column)") from None
    if not isinstance(text, str):
        raise DataError(f"--dataset {path}: field {text_column!r} of line {number} is not a string")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:                                                # JSON can spell half a character
        raise DataError(f"--dataset {path}: field {text_column!r} of line {number} is not valid Unicode") from None
    return text


def split_texts(raw: str) -> list[str]:
    """The texts of a text file: what stands between <|endoftext|> or, where there is none, between blank lines."""
    raw = raw.replace("\r\n", "\n")
    blocks = raw.split("<|endoftext|>") if "<|endoftext|>" in raw else raw.split("\n\n")
    return [block.strip() for block in blocks if block.strip()]


def read_local(path: Path, text_column: str) -> list[str]:
    """The texts of one .jsonl, .json or .txt file."""
    try:
        raw = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--dataset {path}: cannot be read as UTF-8 text ({error})") from None
    if path.suffix == ".txt":
        texts = split_texts(raw)
        if not texts:
            raise DataError(f"--dataset {path}: there is no text in it")
        return texts
    texts = []
    for number, line in enumerate(raw.split("\n"), 1):
        if line.strip():
            texts.append(json_text(line, path, number, text_column))
    if not any(texts):
        raise DataError(f"--dataset {path}: there is no text in it")
    return texts


def held_out(count: int) -> range:
    """Which of the first `count` texts are for validation where the data set brings no such split."""
    return range(0, min(count, HELD_OUT_EVERY * HELD_OUT_MOST), HELD_OUT_EVERY)


def hold_out(texts: Sequence[str], split: str) -> list[str]:
    """A fixed validation split where the data set brings none."""
    if len(texts) < 2:
        raise DataError(f"a data set with {len(texts)} text and no validation split is too small: at least 2 are "
                        "needed, one of them is held out")
    held = held_out(len(texts))
    return [texts[i] for i in held] if split == "validation" else [t for i, t in enumerate(texts) if i not in held]


def load_from_hub(dataset: str, **options):
    """The splits of a data set of the hub, or DataError that says what to do instead."""
    from datasets import load_dataset

    try:
        return load_dataset(dataset, **options)
    except Exception as error:  # dozens of types, most of them mean "not reachable"
        raise DataError(f"--dataset {dataset}: no such file or folder here, and it cannot be loaded from the hub "
                        f"({first_line(error)}). Without a network train on the embedded corpus with `--dataset "
                        "sample`, or on a local file with `--dataset stories.jsonl`") from None


def load_texts(dataset: str = DEFAULT_DATASET, split: str = "train", text_column: str = "text") -> Sequence[str]:
    """The texts of a split, "train" or "validation": a list, or a column of a `datasets.Dataset` (memory-mapped).

    Raises DataError that says what to do when the data set cannot be had or has no such column.
    """
    if not dataset.strip():
        raise DataError("--dataset is empty: name 'sample', a local file or folder, or a data set of the hub")
    if dataset == "sample":
        from sample_corpus import stories

        return stories(split)
    path = Path(dataset)
    if path.is_dir():
        files = {s: next((f for e in (".jsonl", ".json", ".txt") if (f := path / f"{s}{e}").is_file()), None)
                 for s in ("train", "validation")}
        if files["train"] is None:
            raise DataError(f"--dataset {dataset}: the folder has no train.jsonl, train.json or train.txt")
        if files["validation"] is not None:
            return read_local(files[split], text_column)
        return hold_out(read_local(files["train"], text_column), split)
    if path.is_file():
        return hold_out(read_local(path, text_column), split)
    if path.suffix in (".jsonl", ".json", ".txt"):
        raise DataError(f"--dataset {dataset}: no such file")
    splits = load_from_hub(dataset)
    column = splits["train"] if "train" in splits else splits[next(iter(splits))]
    if text_column not in column.column_names:
        raise DataError(f"--dataset {dataset}: no column {text_column!r}, it has {', '.join(column.column_names)} "
                        "(--text_column)")
    if getattr(column.features[text_column], "dtype", None) not in ("string", "large_string"):
        raise DataError(f"--dataset {dataset}: column {text_column!r} holds no strings (--text_column)")
    if "validation" in splits:
        return splits[split if "train" in splits or split == "validation" else next(iter(splits))][text_column]
    if len(column) < 2:
        return hold_out(column[text_column], split)                           # says what is wrong
    held = held_out(len(column))
    return column.select(held if split == "validation" else [i for i in range(len(column)) if i not in held])[
        text_column]


class TextStream:
    """The training texts of a large .jsonl file, of a folder with train.jsonl, or of the hub, block by block.

    held_out: the validation texts, those that load_texts gives too (1,000 at most). start: the position of the first
    text; a position is {"row": texts before it, "at": byte offset, or the state of a hub stream as JSON}. limit: texts
    of a pass over the data, -1 = all.
    """

    def __init__(self, dataset: str, text_column: str = "text", limit: int = -1):
        self.dataset, self.text_column = dataset, text_column
        path = Path(dataset)
        self.path = path / "train.jsonl" if path.is_dir() else path if path.is_file() else None
        if dataset == "sample":
            raise DataError("--dataset sample is small: leave --streaming out")
        if self.path is None and path.suffix in (".jsonl", ".json", ".txt"):
            raise DataError(f"--dataset {dataset}: no such file")
        if self.path is not None and (self.path.suffix != ".jsonl" or not self.path.is_file()):
            raise DataError(f"--dataset {dataset}: --streaming reads a .jsonl file, a folder with train.jsonl, or the "
                            "hub")
        if self.path:
            self.start = {"row": 0, "at": 0}
            own = (path / f"validation{ending}" for ending in (".jsonl", ".json", ".txt"))
            own = next((file for file in own if path.is_dir() and file.is_file()), None)
            self.held_out = None if own is None else read_local(own, text_column)[:HELD_OUT_MOST]
        else:
            splits = load_from_hub(dataset, streaming=True)
            self.hub = splits["train"] if "train" in splits else splits[next(iter(splits))]
            self.start, self.open = {"row": 0, "at": json.dumps(self.hub.state_dict())}, (None, None)
            self.held_out = None if "validation" not in splits else [
                self._column(row) for row in islice(splits["validation"], HELD_OUT_MOST)]
        self.spared, self.limit = range(0), limit                             # rows that are held out
        if self.held_out is None:
            self.spared = held_out(HELD_OUT_EVERY * HELD_OUT_MOST)
            self.held_out = hold_out(self._rows(self.start, HELD_OUT_EVERY * HELD_OUT_MOST)[0], "validation")
            while 0 <= limit and self.limit - len(held_out(self.limit)) < limit:
                self.limit += 1                                               # so many rows for so many to train on
        elif not self._rows(self.start, 1)[0]:
            raise DataError(f"--dataset {dataset}: there is no text in it")

    def content(self, *used: int | str) -> str:
        """Hash of what the texts are and how they are `used`: of a file its size and beginning, of the hub the name."""
        what = [self.dataset]
        try:
            if self.path:
                with open(self.path, "rb") as file:
                    what = [os.path.getsize(self.path), hashlib.sha256(file.read(2**20)).hexdigest()]
        except OSError as error:
            raise DataError(f"--dataset {self.path}: cannot be read ({error.strerror})") from None
        return f"stream {hashlib.sha256(json.dumps([*what, self.text_column, self.limit, *used]).encode()).hexdigest()}"

    def check_place(self, place) -> dict:
        """`place` of a checkpoint, {"number": block, "position": its own, "done": steps in it}, or DataError."""
        position = place.get("position") if isinstance(place, dict) else None
        if isinstance(position, dict):
            row, at = position.get("row"), position.get("at")
            counts = [place.get("number"), place.get("done"), row, at if self.path else 0]
            if (all(type(n) is int and n >= 0 for n in counts) and not 0 <= self.limit <= row and
                    (at < self.path.stat().st_size if self.path else isinstance(at, str))):
                return place
        raise DataError("its place in the stream is damaged")

    def block(self, position: dict, size: int = BLOCK_TEXTS) -> tuple[list[str], dict]:
        """The training texts among the `size` rows from a position on, and the position after them: the start again
        after the last."""
        row = position["row"]
        count = size if self.limit < 0 else min(size, self.limit - row)
        texts, after = self._rows(position, count)
        ended = len(texts) < count or row + count == self.limit
        kept = [text for i, text in enumerate(texts, row) if i not in self.spared]
        return kept, self.start if ended else after

    def _column(self, row: dict) -> str:
        if not isinstance(row.get(self.text_column, 0), str | None):
            raise DataError(f"--dataset {self.dataset}: no column {self.text_column!r} of strings, it has "
                            f"{', '.join(map(str, row))} (--text_column)")
        return row[self.text_column] or ""

    def _rows(self, position: dict, count: int) -> tuple[list[str], dict]:
        """`count` rows from a position on, fewer at the end of the data, and the position after them."""
        texts = []
        if self.path is None:
            reached, rows = self.open
            try:
                if position != reached:                                       # else: go on reading where we are
                    self.hub.load_state_dict(json.loads(position["at"]))
                    rows = iter(self.hub)
                texts = [self._column(row) for row in islice(rows, count)]
            except DataError:
                raise
            except Exception as error:                                        # the network, a damaged file
                raise DataError(f"--dataset {self.dataset}: reading the stream failed ({first_line(error)})") from None
            reached = {"row": position["row"] + len(texts), "at": json.dumps(self.hub.state_dict())}
            self.open = reached, rows
            return texts, reached
        at = position["at"]
        try:
            with open(self.path, "rb") as file:
                file.seek(at)
                while len(texts) < count and (line := file.readline()):
                    if line.strip():
                        texts.append(json_text(line.removeprefix(b"\xef\xbb\xbf"), self.path, f"at byte {at:,}",
                                               self.text_column))
                    at += len(line)
        except OSError as error:
            raise DataError(f"--dataset {self.path}: cannot be read ({error.strerror})") from None
        return texts, {"row": position["row"] + len(texts), "at": at}


def make_cache_dir(cache_dir: str | os.PathLike) -> None:
    try:
        Path(cache_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--cache_dir {cache_dir}: cannot be made ({error.strerror})") from None


def fingerprint(texts: Iterable[str]) -> str:
    """sha256 hex of the texts in order. A column of a hub data set brings the fingerprint of its table, which is the
    same for every column of it and, unlike the hash of the texts, not the same on every machine."""
    if hasattr(texts, "source"):
        return f"{texts.source._fingerprint}/{texts.column_name}"
    digest = hashlib.sha256()
    for text in texts:
        digest.update((text or "").encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


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
             progress: bool = True) -> Iterator[tuple[np.ndarray, bool]]:
    """Token ids of each text, end token last, and whether it was cut. `long_texts`: "cut" keeps the first
    max_seq_len - 1 tokens; "split" goes on with the rest as texts of their own."""
    limit, eos = max_seq_len - 1, tokenizer.eos_token_id
    for start in tqdm(range(0, len(texts), 1000), desc="tokenizing", unit="k texts", leave=False,
                      disable=not progress or len(texts) < 20_000):
        batch = [text for text in texts[start : start + 1000] if text and not text.isspace()]
        if not batch:
            continue
        for ids in tokenizer(batch, add_special_tokens=False, split_special_tokens=True)["input_ids"]:
            pieces = range(0, len(ids), limit) if long_texts == "split" else (0,)
            for piece in pieces:
                part = ids[piece : piece + limit]
                yield np.array([*part, eos]), long_texts == "cut" and len(ids) > limit


class Tokens:
    """Tokenised texts. `len(ds)`, `ds[i]` -> (T,) array of token ids, end token last.

    tokens: all of them, one text after the other; offsets: (len + 1,) int64, where each begins. texts_cut: how many
    texts were longer than max_seq_len.
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
    they were made. Raises OSError, ValueError, KeyError or TypeError where the entry is damaged."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = folder = Path(folder)
        meta = json.loads((folder / "meta.json").read_text())
        self.key, self.content = meta["key"], meta["content"]
        offsets = np.load(folder / "offsets.npy")
        tokens = np.memmap(folder / "tokens.bin", dtype={"uint16": np.uint16, "uint32": np.uint32}[meta["dtype"]],
                           mode="r")
        if (offsets.ndim != 1 or offsets.dtype != np.int64 or len(offsets) < 2 or offsets[0]
                or len(tokens) != offsets[-1]):
            raise DataError(f"{folder}: offsets.npy does not fit the {len(tokens)} tokens of tokens.bin; delete it")
        super().__init__(tokens, offsets, meta)
        if not (self.lengths.min() > 0 and self.lengths.max() <= self.max_seq_len and len(self.special_ids) == 3):
            raise DataError(f"{folder}: its texts have {self.lengths.min()} to {self.lengths.max()} tokens; delete it")

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
        for ids, was_cut in tokenize(texts, self.tokenizer, *self.cut, progress=False):
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
    if folder.exists():
        try:
            return TokenDataset(folder)
        except (OSError, ValueError, KeyError, TypeError, EOFError):          # damaged: make it again
            shutil.rmtree(folder, ignore_errors=True)
    make_cache_dir(cache_dir)
    for left in Path(cache_dir).iterdir():                                    # of runs that were killed here
        if HALF_WRITTEN.fullmatch(left.name) and left.is_dir() and time.time() - left.stat().st_mtime > LEFT_AFTER:
            shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=cache_dir, prefix=f"{key}."))
    try:
        dtype = "uint16" if size <= 65536 else "uint32"
        offsets, cut, digest = [0], 0, hashlib.sha256()
        with open(temporary / "tokens.bin", "wb") as file:
            for ids, was_cut in tokenize(texts, tokenizer, max_seq_len, long_texts):
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
        return TokenDataset(folder)
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
    the language model). Items: input_ids (B, T) int64, mask (B, T) bool; of process `rank` among `ranks` every
    ranks-th row.
    """

    def __init__(self, data: Tokens, batch_size: int, seed: int, epoch: int, random_text_share: float = 0.0,
                 blank_rows: int = 0, rank: int = 0, ranks: int = 1):
        self.data, self.seed, self.epoch, self.blank_rows = data, seed, epoch, blank_rows
        self.random_text_share, self.rank, self.ranks = random_text_share, rank, ranks
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
        if self.random_text_share:
            rng = np.random.default_rng([self.seed, self.epoch, i])
            rows = np.flatnonzero(rng.random(len(ids) - self.blank_rows) < self.random_text_share)
            allowed = np.setdiff1d(np.arange(self.data.vocab_size), self.data.special_ids)
            random_ids = torch.from_numpy(rng.choice(allowed, (len(rows), length)))
            text = mask[rows] & (ids[rows] != self.data.special_ids[1])
            ids[rows] = torch.where(text, random_ids, ids[rows])
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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_flags(parser)
    parser.add_argument("--tokenizer", default=None, help="folder or hub name; default: train one on the data")
    parser.add_argument("--vocab_size", type=int, default=WheelerConfig.vocab_size, help="size of a trained tokenizer")
    parser.add_argument("--max_seq_len", type=int, default=WheelerConfig.max_seq_len, help="tokens a text can have")
    args = parser.parse_args(argv)
    try:
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
    except (ValueError, OSError) as error:
        print(f"data.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("data.py: stopped", file=sys.stderr)
        return 130
    print(f"tokenizer: {len(tokenizer):,} entries; first text: {tokenizer.decode(data[0])!r:.300}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
