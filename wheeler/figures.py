"""Figures as PNG, without a window."""

import io
import sys
import warnings
from pathlib import Path

# Figures that the disk refused since this was last cleared: what was measured is worth having without them.
unwritten: list[Path] = []


def new_figure(width: float, height: float):
    """A matplotlib Figure (inches) without a window or global state, for scripts and notebooks."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def label(name: str, most: int = 60) -> str:
    """A name, say of a folder, as the legend of a figure can show it: matplotlib hides what begins with _ and cannot
    draw what is not Unicode."""
    name = name.encode("utf-8", "replace").decode()
    name = name if len(name) <= most else f"{name[: most - 3]}..."
    return f" {name}" if name.startswith("_") else name


def figure_png(figure, dpi: int = 110) -> bytes:
    """A figure as the bytes of a PNG. Texts are drawn as they are, $ and \\ too."""
    from matplotlib.text import Text

    ticks = {text for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)
             for text in (*axis.get_ticklabels(which="both"), axis.get_offset_text())}
    for text in set(figure.findobj(Text)) - ticks:                            # powers of ten are drawn as formulas
        text.set_parse_math(False)
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")            # of scripts that the font lacks: boxes
        figure.savefig(picture, format="png", dpi=dpi)
    return picture.getvalue()


def save_figure(figure, output_dir: str | Path, name: str, dpi: int = 110) -> None:
    """Write <output_dir>/<name>.png. Where the disk refuses, one line on stderr says so, the path is added to
    `unwritten`, and no figure of an earlier run stays at it."""
    picture = figure_png(figure, dpi)
    path = Path(output_dir) / f"{name}.png"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
        print(f"wrote {path}", flush=True)
    except OSError as error:
        print(f"{path} cannot be written ({error.strerror or error})", file=sys.stderr)
        unwritten.append(path)
        remove_figure(output_dir, name)


def remove_figure(output_dir: str | Path, name: str) -> None:
    """Remove <output_dir>/<name>.png of an earlier run, which would look like one of this run."""
    try:
        (Path(output_dir) / f"{name}.png").unlink(missing_ok=True)
    except OSError:                                                           # read-only: it was said already
        pass
