"""minimal.py: the idea on one page does what it prints, for many texts, and says so in one line where it cannot."""

import ast
import bisect
import math
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minimal
from wheeler.dynamics.tiles import tile_words
from wheeler_cpu import WheelerMemoryCPU

SOURCE = Path(minimal.__file__)
TEXTS = ["", "a", " ", "the dog sat.", "  two  spaces , and a dot . ", "zzzzqqqqjjjj", *minimal.SENTENCES,
         "once there was a dog who had a big red box. the cat ran up a tree, and the girl was there.",
         "".join(random.Random(0).choices(minimal.ALPHABET[:-1], k=100))]


def program(*words, script=SOURCE, folder=None):
    return subprocess.run([sys.executable, script, *words], capture_output=True, text=True, cwd=folder, timeout=60)


def is_maximal_independent(frame):
    """Cell by cell, as the definition says it."""
    (height, width), frame = frame.shape, frame.tolist()
    for i in range(height):
        for j in range(width):
            near = [frame[(i + 1) % height][j], frame[i - 1][j], frame[i][(j + 1) % width], frame[i][j - 1]]
            if frame[i][j] not in (-1, 1) or (-1 in near) == (frame[i][j] == -1):
                return False
    return True


def drawn(output):
    """The frame in the program's picture."""
    lines = output.split("one\n")[1].split("noise ")[0].splitlines()
    frame = np.ones((2 * len(lines), 64))
    for i, line in enumerate(lines):
        assert len(line) == 9 + 64 and set(line) <= set(" '.")
        for j, mark in enumerate(line[9:]):
            if mark != " ":
                frame[2 * i + (mark == "."), j] = -1
    return frame


def text_of(name, output):
    """What the last line with that name says."""
    return [line[9:] for line in output.splitlines() if line.startswith(name)][-1]


@pytest.mark.parametrize("words", [(), ("the dog sat on a big red box.",), ("two", "words")])
def test_program(words):
    start = time.perf_counter()
    done = program(*words)
    assert time.perf_counter() - start < 10
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(words) if words else "the little dog and the cat ran to the red tree."
    number, bits = minimal.text_to_number(text)
    assert done.stdout.startswith(f"text     {text!r}: {len(text)} characters, {bits} of the 873 bits")
    assert text_of("number", done.stdout).startswith(str(number)[:60])
    frame = drawn(done.stdout)
    assert is_maximal_independent(frame) and (frame == minimal.number_to_frame(number)).all()
    # about half: the others were pushed outwards, where clipping stops them
    assert 1900 < int(text_of("noise", done.stdout).split(": ")[1].split(" of 4096")[0]) < 2200
    ticks, same = text_of("settled", done.stdout).removeprefix("after ").split(" ticks: ")
    assert 10 < int(ticks) < 60 and same.startswith("4096 of 4096")
    assert text_of("text", done.stdout) == f"{text!r}: equal"


def test_alone_in_an_empty_folder(tmp_path):
    shutil.copy(SOURCE, tmp_path / "alone.py")
    done = program("a cat.", script="alone.py", folder=tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("'a cat.': equal\n")


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_noise(text):
    number, bits = minimal.text_to_number(text)
    assert 0 <= number < minimal.CAPACITY and minimal.number_to_text(number) == text
    frame = minimal.number_to_frame(number)
    assert frame.shape == (64, 64) and is_maximal_independent(frame)
    for seed in range(2):
        noisy = minimal.disturb(frame, np.random.default_rng(seed))
        assert (np.sign(noisy) == frame).all() and np.abs(noisy).max() <= 1 and np.abs(noisy).min() < 0.11
        settled, ticks = minimal.settle(noisy)
        assert np.abs(settled - frame).max() < 0.2 and ticks > 5
        assert (np.sign(settled) == frame).all()
        assert minimal.number_to_text(minimal.frame_to_number(settled)) == text


def test_every_number_is_a_frame_and_some_text():
    draw = random.Random(1)
    for number in [0, minimal.CAPACITY - 1, *(draw.randrange(minimal.CAPACITY) for _ in range(8))]:
        frame = minimal.number_to_frame(number)
        assert is_maximal_independent(frame) and minimal.frame_to_number(frame) == number
        settled, _ = minimal.settle(minimal.disturb(frame, np.random.default_rng(0)))
        assert (np.sign(settled) == frame).all()
        text = minimal.number_to_text(number)
        assert minimal.number_to_text(minimal.text_to_number(text)[0]) == text


def test_tiles_are_those_of_the_project():
    ours = {np.where(tile, -1, 1).astype(np.int8).tobytes() for tile in minimal.TILES}
    assert len(ours) == len(minimal.TILES) == 12847
    assert ours == {word.astype(np.int8).tobytes() for word in tile_words()}
    assert minimal.CAPACITY == 12847**64


def test_dynamics_are_those_of_the_project():
    rng = np.random.default_rng(2)
    for frame in [*rng.uniform(-1, 1, (3, 64, 64)), *rng.choice([-1.0, 1.0], (3, 64, 64)), np.zeros((64, 64))]:
        settled, ticks = minimal.settle(frame)
        theirs = WheelerMemoryCPU(64, 64).run_dynamics(frame)
        assert ticks == theirs.ticks and np.abs(settled - theirs.final_frame).max() < 1e-12


def test_other_frames_do_not_come_back():
    """The checks above can fail: they do for a frame that lacks one -1 cell, and for one that has one too many."""
    frame = minimal.number_to_frame(minimal.text_to_number("the dog sat.")[0])
    rng = np.random.default_rng(0)
    for sign in (-1, 1):
        lost = 0
        for i, j in rng.permutation(np.argwhere(frame == sign))[:5]:
            other = frame.copy()
            other[i, j] = -sign
            assert not is_maximal_independent(other)
            with pytest.raises(KeyError):
                minimal.frame_to_number(other)
            lost += sum((np.sign(minimal.settle(minimal.disturb(other, rng))[0]) != other).any() for _ in range(4))
        assert lost
    other = np.random.default_rng(0).choice([-1.0, 1.0], (64, 64))
    back = np.sign(minimal.settle(minimal.disturb(other, np.random.default_rng(1)))[0]) == other
    assert 0.75 < back.mean() < 0.83


def test_model():
    for symbol in minimal.ALPHABET:
        edges = minimal.shares(symbol)
        assert edges[0] == 0 and all(type(edge) is int for edge in edges)
        assert all(a < b for a, b in zip(edges, edges[1:])) and len(edges) == len(minimal.ALPHABET) + 1
    share = np.diff(minimal.shares("q"))
    assert minimal.ALPHABET[share.argmax()] == "u"
    for text in TEXTS:
        exact = 0.0
        for previous, symbol in zip("\n" + text, text + "\n"):
            pairs = ["\n" + sentence + "\n" for sentence in minimal.SENTENCES]
            counted = [1 + 8 * sum(1 for s in pairs for a, b in zip(s, s[1:]) if (a, b) == (previous, other))
                       for other in minimal.ALPHABET]
            exact += math.log2(sum(counted) / counted[minimal.ALPHABET.index(symbol)])
        assert abs(minimal.text_to_number(text)[1] - exact) <= 1.5               # whole bits are printed
    likely, garbled = "the dog ran to the tree.", "".join(random.Random(0).sample("the dog ran to the tree.", 24))
    assert minimal.text_to_number(likely)[1] < 0.75 * minimal.text_to_number(garbled)[1]


@pytest.mark.parametrize("word", ["z", "the dog "])
def test_longest_text(word):
    def too_long(times):
        try:
            number, bits = minimal.text_to_number(word * times)
        except ValueError as error:
            assert "does not fit" in str(error)
            return True
        assert bits <= 874 and minimal.number_to_text(number) == word * times
        return False

    times = bisect.bisect_left(range(1000), True, key=too_long)                   # the first that does not fit
    assert too_long(times) and not too_long(times - 1)
    bits, one_more = (minimal.text_to_number(word * (times - n))[1] for n in (1, 2))
    assert bits > 873 - 2 * (bits - one_more)                                     # it is full


BAD = [("The dog", "'T'"), ("z" * 1000, "does not fit"), ("a\nb", r"'\n'"), ("\n", r"'\n'"), ("caf\u00e9", "know"),
       ("--help", "'-'")]


@pytest.mark.parametrize("text, says", BAD)
def test_bad_text_is_one_line(text, says, capsys):
    assert minimal.main([text]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("minimal.py: ") and says in told.err
    assert told.err.endswith("\n") and told.err.count("\n") == 1


@pytest.mark.parametrize("text, says", BAD[:2])
def test_program_refuses_bad_text(text, says):
    done = program(text)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("minimal.py: ") and says in done.stderr and done.stderr.count("\n") == 1


def test_a_wrong_reading_is_told(monkeypatch, capsys):
    monkeypatch.setattr(minimal, "number_to_text", lambda number: "another text")
    assert minimal.main(["a", "cat."]) == 1
    assert capsys.readouterr().out.endswith("'another text': NOT EQUAL\n")


def test_one_page_without_the_project():
    lines = SOURCE.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120 and max(map(len, lines)) <= 120
    imported = set()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module.split(".")[0])
        assert not (isinstance(node, ast.Name) and node.id in ("__import__", "exec", "eval"))
    assert "numpy" in imported and imported - {"numpy"} <= set(sys.stdlib_module_names) - {"importlib"}
