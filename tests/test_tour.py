"""docs/tour.ipynb from top to bottom in a kernel: with a small model, and with the one that comes with the project."""

import re
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from wheeler.model.checkpoint import SHIPPED

nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
ROOT = Path(__file__).parents[1]
TOUR = ROOT / "docs" / "tour.ipynb"
TEXT = "Once upon a time there was a little rabbit."


def execute(folder, monkeypatch) -> dict[str, str]:
    """What the code cells show as text, by the source of the cell, when the tour runs in a folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(TOUR, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return shown_by(notebook)


def shown_by(notebook) -> dict[str, str]:
    """What the code cells of a notebook that was run show as text, by their source."""
    shown = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            parts = [o.get("text") or o["data"].get("image/png", "")[:4] + o["data"].get("text/plain", "")
                     for o in cell.outputs]
            shown[cell.source] = "".join(parts)
    return shown


def of(shown: dict[str, str], words: str) -> str:
    (found,) = [output for source, output in shown.items() if words in source]
    return found


def check(shown: dict[str, str]) -> str:
    """Returns the gist that is left without the words."""
    assert of(shown, "model.decode(grid)") == repr(TEXT)
    assert of(shown, "model.read_frame(frame)").startswith(f"Reading(text={TEXT!r}, exact=True, ")
    assert of(shown, "noise=0.9)").startswith("CONVERGED after ") and f" ticks: {TEXT}\n" in of(shown, "noise=0.9)")
    pictures = "frame_image(frame, scale=5)", "noise=0.9)", "frame_image(lost", "frame_image(cue"
    assert all("iVBO" in of(shown, words) for words in pictures)
    lines = of(shown, "noise in (0.9").splitlines()
    assert [line.split()[3] for line in lines[:1] + lines[3:6]] == ["exact", "gist", "exact", "exact"]
    assert all(line.endswith("'The fox ran home.'") == (line.split()[3] == "exact") for line in lines)
    head, _, gist = of(shown, "gist.exact").partition("\n")
    tiles = re.fullmatch(r"exact: False, (\d+) meaning tiles", head)
    assert tiles and int(tiles[1]) == 31 and gist.strip() not in ("", TEXT)
    near, far = (float(line.split()[-1]) for line in of(shown, "np.corrcoef").splitlines())
    assert 0.9 > near > far + 0.1 and far < 0.5
    assert "bytes" in of(shown, "readings_of") and repr(TEXT) in of(shown, "readings_of")
    lines = re.findall(r"^- .*", of(shown, "model.interpolate"), re.MULTILINE)
    assert lines[0] == "- The cat sat on the mat." and lines[-1] == "- The dog ran to the park." and len(lines) == 5
    assert of(shown, "from sample import arithmetic") == "'The dog sat on the mat.'"
    for words in ("Lily went home.", "memory_of"):
        assert "  Lily ran home.\n" in of(shown, words).splitlines(True)[0]
    assert of(shown, "memory_of").endswith("'Lily ran home.'")
    return gist


def test_the_tour_with_a_small_model(small_model, tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    torch.save(small_model.to_checkpoint(), tmp_path / "checkpoints" / "best.pt")
    check(execute(tmp_path, monkeypatch))


@pytest.mark.slow
def test_the_tour_with_the_shipped_model_in_two_minutes(tmp_path, monkeypatch):
    if not (ROOT / "checkpoints" / SHIPPED / "config.json").is_file():
        pytest.skip("no model is shipped in this checkout")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / SHIPPED).symlink_to(ROOT / "checkpoints" / SHIPPED)
    start = time.monotonic()
    gist = check(execute(tmp_path, monkeypatch))
    assert "rabbit" in gist or "bunny" in gist
    assert time.monotonic() - start < 120


def test_the_committed_notebook_is_small_was_run_in_order_and_shows_what_it_should():
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert TOUR.stat().st_size < 1 << 20 and "/tmp/" not in TOUR.read_text(encoding="utf-8")
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
    gist = check(shown_by(notebook))
    assert "rabbit" in gist or "bunny" in gist


@pytest.mark.parametrize("folder", ["docs", "."])
def test_its_first_cell_goes_to_the_root(folder, monkeypatch):
    monkeypatch.chdir(ROOT / folder)
    monkeypatch.setattr(sys, "path", [name for name in sys.path if name not in ("", str(ROOT))])
    first = next(cell for cell in nbformat.read(TOUR, as_version=4).cells if cell.cell_type == "code")
    with warnings.catch_warnings():
        exec(first.source, {})
    assert Path.cwd() == ROOT and sys.path[0] == str(ROOT)
