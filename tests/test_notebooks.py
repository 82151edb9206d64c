"""docs/notebooks: what they show as they are committed, and run from top to bottom in a kernel, all with the model that
comes with the project, one with a small model."""

import os
import re
import sys
import warnings
from pathlib import Path

import pytest
import torch

from wheeler.model.checkpoint import SHIPPED

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

import notebooks  # noqa: E402  (needs nbclient)

ROOT, NOTEBOOKS = notebooks.ROOT, notebooks.NOTEBOOKS
TEXT = "Once upon a time there was a little rabbit."
PICTURE = "iVBO"                                                              # a PNG in base64
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


class Shown:
    """What the code cells of a notebook that was run show, as text: of("words of the source of one cell")."""

    def __init__(self, notebook):
        parts = lambda o: o.get("text") or o["data"].get("image/png", "")[:4] + o["data"].get("text/plain", "")
        self.cells = [(cell.source, "".join(map(parts, cell.outputs))) for cell in notebook.cells
                      if cell.cell_type == "code"]

    def of(self, words: str) -> str:
        (found,) = [output for source, output in self.cells if words in source]
        return found

    def row(self, words: str, name: str) -> list[float]:
        """The numbers after a name in a line of one cell's output."""
        (line,) = [line for line in self.of(words).splitlines() if line.startswith(name)]
        return [float(number) for number in re.findall(r"\d+\.?\d*", line.removeprefix(name))]


# ---- what each must show ---------------------------------------------------------------------------------------------


def check_survival(shown: Shown):
    assert TEXT in shown.of("model.decode(grid)")
    assert shown.of("model.read_frame(frame)").startswith(f"Reading(text={TEXT!r}, exact=True, ")
    assert f"ticks: {TEXT}\n{PICTURE}" in shown.of("model.survive(text, noise=0.9)")
    assert shown.of("same = ").endswith("True\n")
    lines = [line.split(maxsplit=4) for line in shown.of("for kind in (").splitlines()]
    assert [line[3] for line in lines] == ["exact", "gist", "gist", "exact", "exact", "exact"]
    assert all((line[4] == "'The fox ran home.'") == (line[3] == "exact") for line in lines)
    assert shown.of("hurt[10:50").startswith(f"39% erased: {TEXT}\n{PICTURE}")
    kinds = "plain", "against flips", "against erasures"
    assert [shown.row("cost = ", kind)[:2] for kind in kinds] == [[12, 12]] * 3                # all fit
    assert [shown.row("code.read(after)", kind) for kind in kinds] == [[0.9, 12, 12]] * 3
    assert shown.row("noises = ", "noise") == [0.5, 0.7, 0.9, 1, 1.02, 1.05, 1.1, 1.2]
    plain, flips, erasures = (shown.row("noises = ", kind) for kind in kinds)
    assert plain[:4] == flips[:4] == erasures[:4] == [12] * 4                 # signs stay
    assert plain[-1] == 0 and flips[-1] == 12 and plain[5] < erasures[5]
    plain, flips, erasures = (shown.row("areas = ", kind) for kind in kinds)
    assert plain[1] <= 1 and flips[1] >= 6 and erasures[2] >= 10 and erasures[-1] <= 2         # 10%, 20% and 60%
    assert sum(plain) < sum(flips) < sum(erasures)


def check_meaning(shown: Shown):
    head, _, gist = shown.of("gist.exact").partition("\n")
    assert head == "exact: False, 31 meaning tiles" and ("rabbit" in gist or "bunny" in gist)
    (near, _), (_, other) = (shown.row("np.corrcoef", name) for name in ("near texts", "other texts"))
    assert 0.9 > near > other + 0.05 and other < 0.5
    lines = re.findall(r"^- .*", shown.of("model.interpolate"), re.MULTILINE)
    assert lines[0] == "- The cat sat on the mat." and lines[-1] == "- The dog ran to the park." and len(lines) == 5
    assert "cat" in lines[1] and "dog" in lines[3]
    assert shown.of("from sample import arithmetic") == "'The dog sat on the mat.'"
    assert shown.of("content_words(text)").startswith("12 of 12 exact ")
    given, without = shown.row("content_words(text)", "their words cost")
    assert given < 0.9 * without
    rows = [[float(x) for x in re.findall(r"[\d.]+", line)] for line in shown.of("control.append").splitlines()]
    assert [row[:2] for row in rows] == [[50, 31], [62.5, 23], [75, 15], [87.5, 7]]
    named, control = zip(*(row[2:] for row in rows), strict=True)
    assert 20 < named[0] < 60 and named[0] > control[0] + 4 and named[-1] < named[0]
    assert shown.of("best, worst").count("words named") == 2


def check_memory(shown: Shown, small: bool = False):
    blocks = re.split(r"^(?=\S)", shown.of("a little rabbit"), flags=re.MULTILINE)[1:]
    assert [len(block.splitlines()) for block in blocks] == [3, 3, 3]
    assert "Lily ran home." in blocks[0].splitlines()[1] and TEXT in blocks[1].splitlines()[1]
    assert small or (" alike " in blocks[0].splitlines()[1] and " alike " not in blocks[2])
    assert PICTURE in shown.of("cue[: 2 * side")
    found = shown.of("k=3").splitlines()
    assert found[0].endswith("  Lily ran home.") and found[-1] == "'Lily ran home.'" and len(found) == 4
    assert shown.of("memory.reconstruct").startswith(f"Lily ran home.\n{PICTURE}")
    assert shown.of("memory.save") == ("5 memories, the same: True\n5 exported, 5 imported, 0 skipped; still found: "
                                       "Lily ran home.\n")
    files = shown.of("Counter(").splitlines()
    assert "5  public/chunks/general/attractors/*.npy" in files and "1  store/*.json" in files
    assert shown.of("memory.remember(kept)").startswith("100 stories")
    rows = [[int(x) for x in re.findall(r"\d+", line)] for line in shown.of("by_words.append").splitlines()
            if " words: " in line]
    assert [row[0] for row in rows] == [1, 2, 4, 8, 16, 32] and {row[-1] for row in rows} == {100}
    frame, meaning, words = rows[-1][1:4]
    assert rows[0][1] <= 15 < 50 <= frame and (small or frame >= 80) and meaning >= 70 and words == 100
    upper, lower = (shown.row("counted.append", f"{name} rows left:")[1::2] for name in ("upper", "lower"))
    assert upper[:3] == [100] * 3 and upper[-1] <= 2 and (small or lower[:3] == [100] * 3)


def check_pictures(shown: Shown):
    first = re.match(r"([\d,]+) characters in (\d+) frames", shown.of("model.encode_frames(text)"))
    count = int(first[2])
    assert shown.of("model.encode_frames(text)").endswith("exactly: True\n") and count > 4
    assert PICTURE in shown.of("sheet = ")
    assert shown.of("shuffled = ") == f"{2 * count} frames in random order, read exactly: True\n"
    for words, mark in (("rest = ", f" [frame 3 of {count} is missing] "),
                        ("hurt = ", f" [frame 3 of {count} is damaged, its gist: ")):
        assert mark in shown.of(words) and "these are missing or damaged: 3\n" in shown.of(words)
    assert shown.of("film.png").endswith(f" KiB: {count} frames, exact: True\n")
    assert shown.of("ways()").startswith("40 of 40 ways exact:\n")
    kept, true, draws = re.search(r"\.\.\.: (.*) of the\s+characters; nothing wrong read in (\d+) of (\d+)",
                                  shown.of("films_of(")).groups()
    kept = [int(share) for share in re.findall(r"\d+", kept)]
    assert kept[0] == 100 and kept == sorted(kept, reverse=True) and len(kept) == count and true == draws
    assert all(abs(share - 100 * (1 - k / count)) < 8 for k, share in enumerate(kept))
    sizes, turns, quality = (dict(re.findall(r"([\d.]+): (\d+)", line))
                             for line in shown.of("read_after(change(x))").splitlines())
    assert sizes["8"] == sizes["2"] == turns["0"] == quality["50"] == quality["10"] == "12"
    assert sizes["0.5"] == turns["2"] == "0"


def check_training(shown: Shown):
    assert shown.of("until=lambda") == shown.of("step=0") == f"{PICTURE}<IPython.core.display.Image object>"
    lines = shown.of("read_metrics(folder").splitlines()
    fared = [re.findall(r"(\d+) of 693 bits, (exact|gist)", line) for line in lines]
    assert [line.split(":")[0] for line in lines] == [f"step {step:3}" for step in (0, 25, 50, 75, 100)]
    assert all(len(stories) == 3 and all((int(bits) < 693) == (kind == "exact") for bits, kind in stories)
               for stories in fared)
    assert fared[0][1][1] == "gist" and fared[-1][1][1] == "exact"            # the middle one comes to fit
    said = shown.of("model.survive(story")
    assert re.match(r"CONVERGED after \d+ ticks, the same text: ", said) and PICTURE in said


CHECKS = {"1_text_that_survives": check_survival, "2_meaning": check_meaning, "3_memory": check_memory,
          "4_films_and_pictures": check_pictures, "5_train_and_watch": check_training}


# ---- as they are committed -------------------------------------------------------------------------------------------


def test_all_notebooks_are_there_and_checked():
    assert {*CHECKS} == {path.stem for path in NOTEBOOKS}
    assert [int(path.name.split("_")[0]) for path in NOTEBOOKS] == list(range(1, len(NOTEBOOKS) + 1))


@each_notebook
def test_a_committed_notebook_is_small_was_run_in_order_and_shows_what_it_should(path):
    notebook, raw = nbformat.read(path, as_version=4), path.read_text(encoding="utf-8")
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert path.stat().st_size < 1 << 20
    assert not re.search(r"/(tmp|home|root|work|usr|Users)/", raw)            # no path of a machine
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    opening, end = notebook.cells[0].source, notebook.cells[-1].source
    assert opening.startswith(f"# {path.name[0]}. ") and "**Claim: " in opening
    assert "results.md" in end                                                # where the full measurement stands
    assert any("image/png" in o.get("data", {}) for cell in cells[-2:] for o in cell.outputs)
    CHECKS[path.stem](Shown(notebook))


@each_notebook
def test_links_of_a_notebook_lead_somewhere(path):
    from test_readme import anchors

    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    for name, anchor in re.findall(r"\]\(([^)#\s:]+)#?([^)\s]*)\)", text):
        target = path.parent / name
        assert target.is_file(), f"{path.name} links {name}, which does not exist"
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{name}#{anchor} is no heading"


@pytest.mark.parametrize("folder", ["docs/notebooks", "docs", "."])
@each_notebook
def test_the_first_cell_goes_to_the_root(path, folder, monkeypatch):
    monkeypatch.chdir(ROOT / folder)
    monkeypatch.setattr(sys, "path", [name for name in sys.path if name not in ("", str(ROOT))])
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    first = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    with warnings.catch_warnings():
        exec(first.source, {})
    assert Path.cwd() == ROOT and sys.path[0] == str(ROOT)


# ---- run -------------------------------------------------------------------------------------------------------------


def test_the_memory_with_a_small_model(small_model, tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    torch.save(small_model.to_checkpoint(), tmp_path / "checkpoints" / "best.pt")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path, = [path for path in NOTEBOOKS if path.stem == "3_memory"]
    check_memory(Shown(notebooks.executed(path, tmp_path)), small=True)


@pytest.mark.slow
@each_notebook
def test_a_notebook_with_the_shipped_model_in_two_minutes(path, tmp_path, monkeypatch):
    if not (ROOT / "checkpoints" / SHIPPED / "config.json").is_file():
        pytest.skip("no model is shipped in this checkout")
    # A folder of its own, so that what somebody trained here is not taken for the shipped model. Nothing but the root's
    # modules and that model is there: no notebook needs another file.
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / SHIPPED).symlink_to(ROOT / "checkpoints" / SHIPPED)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    # Of the processor, as other work may run on the machine: on two quiet cores it is no longer by the clock.
    spent = lambda: sum(os.times()[2:4])
    start = spent()
    shown = Shown(notebooks.executed(path, tmp_path))
    assert 1 < spent() - start < 120
    CHECKS[path.stem](shown)


def test_what_fails_is_named_and_left_as_it_was(tmp_path, capsys):
    path, cells = tmp_path / "1_bad.ipynb", ["print(1)", "1 / 0"]
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    before = path.read_bytes()
    assert notebooks.main([str(path)]) == 1
    assert "1_bad.ipynb fails, and is left as it was: ZeroDivisionError" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert notebooks.main([os.fspath(tmp_path / "2.ipynb")]) == 2 and "no such file" in capsys.readouterr().err


def test_a_run_in_place_is_kept_without_times(tmp_path):
    path = tmp_path / "1_good.ipynb"
    cell = nbformat.v4.new_code_cell("print(1, flush=True)\nprint(2)")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    assert notebooks.main([str(path)]) == 0
    (cell,) = nbformat.read(path, as_version=4).cells
    assert cell.metadata == {} and [o.text for o in cell.outputs] == ["1\n2\n"] and cell.execution_count == 1
