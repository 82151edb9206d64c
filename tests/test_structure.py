"""The rules of the house: sizes, imports that only point down, no circle. What breaks a rule is noticed."""

import io
import re
import subprocess
import sys

import pytest
import structure

from wheeler.cli import progress


def test_the_house_is_in_order():
    assert structure.problems() == []


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bars_are_for_terminals(monkeypatch, terminal):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress(range(3), "counting")) == list(progress(range(3), "little", shown=False)) == [0, 1, 2]
    assert ("counting: " in stream.getvalue()) is terminal and "little" not in stream.getvalue()


def test_progress_bars_come_from_one_place():
    assert [name for name, path in structure.modules().items() if re.search(r"\btqdm\(", path.read_text())] == [
        "wheeler.cli"]


def test_the_report_is_a_command():
    run = subprocess.run([sys.executable, structure.__file__], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "train.py" in run.stdout and run.stdout.splitlines()[-1].endswith("entries at the top")
    assert structure.main(["--nonsense"]) == 2


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A project of two modules that breaks no rule; a function that writes another module into it."""
    for name in ("wheeler/dynamics", "wheeler/model"):
        (tmp_path / name).mkdir(parents=True)
    write = lambda name, text: (tmp_path / name).write_text(text)
    write("wheeler/dynamics/tiles.py", "import numpy\n")
    write("models.py", "from wheeler.dynamics import tiles\n\n\ndef survive():\n    import wheeler_cpu\n")
    write("wheeler_cpu.py", "")
    write("README.md", "short\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(structure, "ROOT", tmp_path)
    assert structure.problems() == []
    return write


@pytest.mark.parametrize("file, text, said", [
    ("wheeler/dynamics/tiles.py", "from models import WheelerTextAutoencoder\n", "stands above"),
    ("wheeler/dynamics/tiles.py", "def f():\n    from models import x\n", "inside a function"),
    ("wheeler/model/layers.py", "def f():\n    import json\n", "json is imported inside"),
    ("wheeler/dynamics/tiles.py", "from wheeler.dynamics import kernels\n", "circle"),
    ("models.py", "def f():\n" + "    pass\n" * 100, "f has 101 lines"),
    ("models.py", "\n" * 501, "501 lines"), ("train.py", "\n" * 331, "331 lines"),
    ("README.md", "x\n" * 201, "README.md has 201 lines")])
def test_what_breaks_a_rule_is_named(house, file, text, said):
    house("wheeler/dynamics/kernels.py", "import wheeler.dynamics.tiles\n")
    house(file, text)
    assert any(said in problem for problem in structure.problems())


def test_too_many_entries(house):
    for i in range(structure.MOST_ENTRIES):
        house(f"notes-{i}.txt", "")
    assert any("the top level has" in problem for problem in structure.problems())


def test_a_module_without_a_layer(house):
    house("other.py", "")
    with pytest.raises(ValueError, match="other has no layer"):
        structure.problems()
