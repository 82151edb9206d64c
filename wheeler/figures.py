"""Figures as PNG, without a window."""

from pathlib import Path


def new_figure(width: float, height: float):
    """A matplotlib Figure (inches) without a window or global state, for scripts and notebooks."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure, output_dir: str | Path, name: str, dpi: int = 110) -> None:
    path = Path(output_dir) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    print(f"wrote {path}", flush=True)
