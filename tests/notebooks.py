"""Run the notebooks of docs/notebooks from top to bottom and keep what their cells show.

    python tests/notebooks.py                                  # all of them, in place
    python tests/notebooks.py docs/notebooks/2_meaning.ipynb   # those that are named

To be run again after every change of the model or of the frame's format: what a notebook shows was read from frames.
Nothing of one run that another does not have is kept: no times of cells, and lines of one stream are one output. A
notebook that fails is left as it was.
"""

import sys
import time
from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("[0-9]*.ipynb"))


def executed(path: Path, folder: Path, timeout: int = 300) -> nbformat.NotebookNode:
    """A notebook run in a new kernel whose working folder is `folder`; timeout: seconds that a cell may take. Raises
    CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=timeout, record_timing=False, coalesce_streams=True,
                            resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def main(argv: list[str] | None = None) -> int:
    sys.path.insert(0, str(ROOT))
    from wheeler.cli import Parser

    parser = Parser(prog="notebooks.py", description="Run notebooks in place.")
    parser.add_argument("notebooks", nargs="*", type=Path, default=NOTEBOOKS)
    for path in parser.parse_args(argv).notebooks:
        if not path.is_file():
            print(f"notebooks.py: {path}: no such file", file=sys.stderr)
            return 2
        start = time.monotonic()
        try:
            notebook = executed(path, path.parent)
        except nbclient.exceptions.CellExecutionError as error:
            print(f"notebooks.py: {path.name} fails, and is left as it was: {error.ename}: {error.evalue}",
                  file=sys.stderr)
            return 1
        nbformat.write(notebook, path)
        print(f"{path.name}: {time.monotonic() - start:.0f} s, {path.stat().st_size >> 10} KiB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
