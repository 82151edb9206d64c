"""What all commands share: how they refuse what was typed, and what they print."""

import argparse
import json
import sys
import unicodedata


def open_console() -> None:
    """Characters that the console's encoding lacks are printed as escapes, not the end of the command."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def plain(text: str) -> str:
    """A text as it is, but for control characters, which could move the cursor: of them only newlines and tabs."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else
                   c.encode("unicode_escape").decode() for c in text)


def json_line(row) -> str:
    """A row as JSON, with characters that the console lacks in JSON's own escapes."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(row)
    return line


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line on stderr and exit code 2."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")
