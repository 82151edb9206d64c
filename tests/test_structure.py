"""The rules of the house: sizes, imports that only point down, no circle. What breaks a rule is noticed."""

import subprocess
import sys

import pytest
import structure


def test_the_house_is_in_order():
    assert structure.problems() == []


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
    for i in range(20):
        house(f"notes-{i}.txt", "")
    assert any("the top level has" in problem for problem in structure.problems())


def test_a_module_without_a_layer(house):
    house("other.py", "")
    with pytest.raises(ValueError, match="other has no layer"):
        structure.problems()
