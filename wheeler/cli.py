"""What all commands share: how they refuse what was typed, and what they print."""

import argparse
import json
import sys
import unicodedata

import numpy as np
from tqdm import tqdm


def open_console() -> None:
    """Characters that the console's encoding lacks are printed as escapes, not the end of the command."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def plain(text: str) -> str:
    """A text as it is, but for control characters, which could move the cursor: of them only newlines and tabs."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else
                   c.encode("unicode_escape").decode() for c in text)


def counted(count: int, what: str) -> str:
    """A number and a noun that takes an s: "1 tick", "4,191 characters"."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def brief(value, most: int = 80) -> str:
    """A value as a message shows it: the beginning of its repr, which of arrays and tensors too is on one line."""
    return " ".join(repr(value).split())[:most]


def reason(error: Exception) -> str:
    """What an error says, without the number and the file name that one of the disk begins and ends with."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def complaint(error: Exception | str) -> str:
    """What a command says of an error, on one line, whatever was typed; of one of the disk the file and the reason."""
    disk = isinstance(error, OSError) and error.filename is not None and error.strerror
    return " ".join((f"{error.filename}: {error.strerror}" if disk else str(error)).split())[:2000]


def json_line(row) -> str:
    """A row as JSON, with characters that the console lacks in JSON's own escapes."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(row)
    return line


def progress(items, what: str, shown: bool = True, **more) -> tqdm:
    """The items under a progress bar on stderr, if that is a terminal: in a file or a pipe bars would stand between the
    lines that say something. shown: False for work that is done at once. more: arguments of tqdm."""
    return tqdm(items, desc=what, disable=None if shown else True, **{"leave": False} | more)


def load_array(path, **options) -> np.ndarray:
    """`np.load`, but ValueError for whatever is no .npy file: a damaged header has half a dozen types of errors."""
    try:
        return np.load(path, allow_pickle=False, **options)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is not a readable .npy file ({type(error).__name__}: {brief(str(error))})") from None


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line on stderr and exit code 2."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {complaint(message)}\n")
