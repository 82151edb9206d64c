"""Texts of any length as films of frames: section films of evaluate.py.

    python evaluate.py films --dataset sample
    python evaluate.py films --num_samples -1 --characters 6000 --dataset stories.jsonl     # every unseen story

Unseen stories of every length, a book of 150,000 characters made of unseen stories, and 5 texts of each of 10 kinds
that stand on the machine or are made up. A text is right where every character comes back from its frames after noise
of 0.9 and the dynamics, with the frames in random order.
"""

import pydoc_data.topics
import random
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wheeler.cli import progress
from wheeler.frame.code import FrameCode
from wheeler.frame.film import read_film, write_film
from wheeler.measure.metrics import Subject, collapse, evenly
from wheeler.training.scores import share
from wheeler.training.unusual import ALPHABETS, unusual_words
from wheeler_cpu import add_noise

BOOK, TEXTS = 150_000, 5                                                      # characters; texts of a kind


def beginnings_of(paths: Sequence[Path], characters: int) -> list[str]:
    """Of the first files that are long enough and UTF-8 text, so many characters each."""
    out = []
    for path in sorted(paths):
        try:
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if len(text) >= characters // 4 and len(out) < TEXTS:
            out.append(text[:characters])
    return out


def other_texts(characters: int, seed: int = 0) -> dict[str, list[str]]:
    """10 kinds of texts that are no stories, up to 5 of each, of so many characters at most. What stands on the machine
    differs from machine to machine; a kind that is not there is left out. None is a text of this project: its
    documentation and code stand in the cache's primer."""
    rng, chance = np.random.default_rng(seed), random.Random(seed)
    library, packages = (Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))
    topics = sorted(pydoc_data.topics.topics.values(), key=len)[-TEXTS:]
    scripts = [alphabet for alphabet in ALPHABETS if ord(alphabet[0]) > 0x370]
    many = lambda make: [make()[:characters] for _ in range(TEXTS)]
    out = {"Python's help": [text[:characters] for text in topics],
           "source code": beginnings_of(list(library.glob("*.py")), characters),
           "licences": beginnings_of([*packages.glob("*.dist-info/**/LICENSE*")], characters),
           "manuals": beginnings_of([*packages.glob("*.dist-info/METADATA")], characters),
           "C headers": beginnings_of(list(Path(sysconfig.get_path("include")).glob("*.h")), characters),
           "JSON": beginnings_of([*packages.glob("**/*.json")], characters),
           "numbers": many(lambda: "\n".join(f"{chance.gauss(0, 100):.4f},{chance.randrange(10**6)}"
                                             for _ in range(characters // 12 + 1))),
           "names and code": many(lambda: " ".join(word for _ in range(characters // 4)
                                                   for word in unusual_words(rng))),
           "other scripts": many(lambda: "".join(chance.choices(scripts[chance.randrange(len(scripts))] + "  ",
                                                                k=characters // 4))),
           "random characters": many(lambda: "".join(chance.choices(
               [chr(c) for c in (*range(0x3000), *range(0x1F000, 0x20000))], k=characters // 8)))}
    return {kind: texts for kind, texts in out.items() if texts}


def film(code: FrameCode, text: str, rng: np.random.Generator) -> dict:
    """A text through its film: {"right", "frames", "characters", "seconds" to write, "reading_seconds"}."""
    start = time.perf_counter()
    frames = np.stack([one.frame for one in write_film(code, text)])
    written = time.perf_counter()
    frames = collapse(add_noise(frames, 0.9, rng))[rng.permutation(len(frames))]
    begun = time.perf_counter()
    films, lost = read_film(code, frames)
    right = len(films) == 1 and not lost and films[0].exact and films[0].text == text
    return {"right": right, "wrong": any(one.exact and one.text != text for one in films), "frames": len(frames),
            "characters": len(text), "seconds": written - start, "reading_seconds": time.perf_counter() - begun}


def films(subject: Subject, num_samples: int = 200, characters: int = 3000, seed: int = 0) -> dict:
    """{kind: share of texts right, frames, characters a frame, seconds}. num_samples: stories, -1: all; characters: of
    a text of the other kinds, at most."""
    stories, rng = [text for text in subject.stories if text], np.random.default_rng([seed, 4])
    book = "\n\n".join(stories)
    book = (book * (BOOK // len(book) + 1))[:BOOK]
    kinds = {"unseen stories": [stories[int(i)] for i in evenly(len(stories), num_samples)], "a book": [book]}
    result = {}
    for kind, texts in (kinds | other_texts(characters, seed)).items():
        rows = [film(subject.code, text, rng) for text in progress(texts, kind)]
        total = {key: sum(row[key] for row in rows) for key in rows[0]}
        result[kind] = row = share([one["right"] for one in rows]) | {
            "wrong_called_exact": total["wrong"], "frames": total["frames"], "characters": total["characters"],
            "characters_a_frame": total["characters"] / total["frames"], "seconds": round(total["seconds"], 1),
            "reading_seconds": round(total["reading_seconds"], 1)}
        low, high = row["interval"]
        print(f"{kind:<20} {row['exact_match']:>7.1%} of {len(rows)} right ({low:.1%} - {high:.1%}), {row['frames']} "
              f"frames, {row['characters_a_frame']:.0f} characters each; {row['seconds']} s to write, "
              f"{row['reading_seconds']} s to read; {row['wrong_called_exact']} wrong called exact", flush=True)
    return result
