"""Where texts come from: the embedded stories, a local file or folder, the hub; whole, or as a stream.

A data set is named by `--dataset`: "sample" (the embedded stories), a local file or folder, or a name on the hub. A
local .jsonl has one object a line with the text in `--text_column`, null for an empty one; a .txt holds texts separated
by "<|endoftext|>" if it has that, else by blank lines. A folder is read as train.jsonl / validation.jsonl (or .txt).
Where there is no validation split, every 20th of the first 20,000 texts is held out, blank ones not counted.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from wheeler.cli import reason
from wheeler.model.tokenizer import first_line
from wheeler.training.stories import stories

DEFAULT_DATASET = "roneneldan/TinyStories"
HELD_OUT_EVERY, HELD_OUT_MOST = 20, 1000
BOM = "\ufeff"  # begins some UTF-8 files, and so stands in the middle of what `cat` makes of two
BLOCK_TEXTS = 10_000  # texts that --streaming shuffles at a time


class DataError(ValueError):
    """The data set cannot be used; the message says why and what to do."""


# ---- texts ----------------------------------------------------------------------------------------------------------


def json_text(line: str | bytes, path: Path, number: int | str, text_column: str) -> str:
    """The text of one line of a .jsonl file, "" for null as of the hub; DataError names file and line (`number`) where
    there is none."""
    try:
        text = json.loads(line)[text_column]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"--dataset {path}: line {number} is not a JSON object with a field {text_column!r} "
                        "(--text_column)") from None
    if text is None:
        return ""
    if not isinstance(text, str):
        raise DataError(f"--dataset {path}: field {text_column!r} of line {number} is not a string")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:                                                # JSON can spell half a character
        raise DataError(f"--dataset {path}: field {text_column!r} of line {number} is not valid Unicode") from None
    return text


def split_texts(raw: str) -> list[str]:
    """The texts of a text file: what stands between <|endoftext|> or, where there is none, between blank lines."""
    raw = re.sub(f"^{BOM}+", "", raw.replace("\r\n", "\n").replace("\r", "\n"), flags=re.MULTILINE)
    blocks = raw.split("<|endoftext|>") if "<|endoftext|>" in raw else re.split(r"\n\s*\n", raw)
    return [block.strip() for block in blocks if block.strip()]


def read_local(path: Path, text_column: str) -> list[str]:
    """The texts of one .jsonl, .json or .txt file."""
    try:
        raw = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--dataset {path}: cannot be read as UTF-8 text ({reason(error)})") from None
    if path.suffix == ".txt":
        texts = split_texts(raw)
        if not texts:
            raise DataError(f"--dataset {path}: there is no text in it")
        return texts
    texts = []
    for number, line in enumerate(raw.split("\n"), 1):
        line = line.lstrip(BOM)
        if line.strip():
            texts.append(json_text(line, path, number, text_column))
    if not any(texts):
        raise DataError(f"--dataset {path}: there is no text in it")
    return texts


def blank(text: str | None) -> bool:
    return not text or text.isspace()


def held_out(texts: Iterable[str]) -> dict[int, str]:
    """{number: text} of those texts that are for validation where the data set brings no such split: of the first
    20,000 every 20th that is not blank, for nothing can be measured on a blank one."""
    told = [(i, text) for i, text in enumerate(islice(texts, HELD_OUT_EVERY * HELD_OUT_MOST)) if not blank(text)]
    if len(told) < 2:
        what = "1 text" if told else "no text"
        raise DataError(f"a data set with {what} and no validation split is too small: at least 2 are needed that are "
                        f"not blank, one of them is held out")
    return dict(told[::HELD_OUT_EVERY])


def hold_out(texts: Sequence[str], split: str) -> list[str]:
    """A fixed validation split where the data set brings none."""
    held = held_out(texts)
    return list(held.values()) if split == "validation" else [t for i, t in enumerate(texts) if i not in held]


def load_from_hub(dataset: str, **options):
    """The splits of a data set of the hub, or DataError that says what to do instead."""
    from datasets import load_dataset  # takes a second, and most runs read a file

    # It tries five times and prints two lines each time; the error below says it once.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
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
    held = held_out(column.select(range(min(len(column), HELD_OUT_EVERY * HELD_OUT_MOST)))[text_column])
    return column.select(list(held) if split == "validation" else [i for i in range(len(column)) if i not in held])[
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
        self.spared, self.limit = {}, limit                                   # rows that are held out
        if self.held_out is None:
            self.spared = held_out(self._rows(self.start, HELD_OUT_EVERY * HELD_OUT_MOST)[0])
            self.held_out = list(self.spared.values())
            for row in self.spared:
                self.limit += 0 <= limit and row < self.limit                 # so many rows for so many to train on
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
                    here, at = at, at + len(line)
                    while line.startswith(BOM.encode()):
                        line = line[len(BOM.encode()) :]
                    if line.strip():
                        texts.append(json_text(line, self.path, f"at byte {here:,}", self.text_column))
        except OSError as error:
            raise DataError(f"--dataset {self.path}: cannot be read ({error.strerror})") from None
        return texts, {"row": position["row"] + len(texts), "at": at}


def fingerprint(texts: Iterable[str]) -> str:
    """sha256 hex of the texts in order. A column of a hub data set brings the fingerprint of its table, which is the
    same for every column of it and, unlike the hash of the texts, not the same on every machine."""
    if hasattr(texts, "source"):
        return f"{texts.source._fingerprint}/{texts.column_name}"
    digest = hashlib.sha256()
    for text in texts:
        digest.update((text or "").encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()
