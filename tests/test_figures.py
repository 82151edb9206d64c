"""Figures: any name in them, any folder for them."""

import warnings

import pytest

from wheeler import figures


@pytest.fixture(autouse=True)
def nothing_unwritten():
    figures.unwritten.clear()
    yield
    figures.unwritten.clear()


def test_texts_are_drawn_as_they_are(tmp_path):
    """As formulas, one $ draws another text and two of these are an error."""
    figure = figures.new_figure(4, 3)
    axis = figure.subplots()
    axis.plot([1, 2], [1, 1e4], label=figures.label("a$x^$b"))
    axis.plot([1, 2], [1, 1e4], label=figures.label("_hidden"))
    axis.set(title="$x^$", xlabel=r"\\$_{$", yscale="log")
    axis.text(1.5, 10, "it cost $5^$")
    axis.annotate("$_$", (1, 1))
    figure.suptitle("$^$")
    legend = axis.legend()
    figures.save_figure(figure, tmp_path, "f")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG") and not figures.unwritten
    assert [text.get_text() for text in legend.get_texts()] == ["a$x^$b", " _hidden"]
    assert not any(text.get_parse_math() for text in (axis.title, *legend.get_texts(), *axis.texts))
    assert any("10^{" in text.get_text() and text.get_parse_math() for text in axis.get_yticklabels())


def test_names_that_a_legend_cannot_hold():
    assert figures.label("bad\udcff") == "bad?" and figures.label("") == ""
    assert figures.label("x" * 300) == "x" * 57 + "..."


def test_a_figure_that_cannot_be_written_is_said_and_no_earlier_one_stays(tmp_path, capsys, monkeypatch):
    figure = figures.new_figure(2, 2)
    (tmp_path / "file").write_text("kept")
    figures.save_figure(figure, tmp_path / "file", "f")
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'file' / 'f.png'} cannot be written (")
    assert figures.unwritten == [tmp_path / "file/f.png"] and (tmp_path / "file").read_text() == "kept"
    figures.save_figure(figure, tmp_path, "g")

    def full(path, content):
        with open(path, "wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figures.Path, "write_bytes", full)
    figures.save_figure(figure, tmp_path, "g")
    assert "g.png cannot be written (No space left on device)\n" in capsys.readouterr().err
    assert not (tmp_path / "g.png").exists()


def test_plot_of_runs_with_odd_names(tmp_path, monkeypatch):
    import train

    monkeypatch.chdir(tmp_path)
    names = ["a$x^$b", "_a", "x\\y_{$"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 0.001}\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train.main(["--plot", *names]) == 0
    assert (tmp_path / names[0] / "curves.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "_a/curves.png").mkdir()
    assert train.main(["--plot", "_a"]) == 2
