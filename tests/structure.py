"""The size of every file and the graph of imports: a report, and what breaks the rules of the house.

    python tests/structure.py                                  # lines and the longest function of each file
    python tests/structure.py --draw docs/assets/imports.png   # the graph, as a picture

Rules: a module has at most 500 lines, a function at most 100, train.py 330, README.md 200, the top level 24 entries.
Imports form no circle and only point down the layers below. None stands inside a function, but for libraries that are
slow or optional. Standard library only (matplotlib to draw), so that it runs before anything is installed.
"""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES, MOST_FUNCTION_LINES, MOST_TRAIN, MOST_README, MOST_ENTRIES = 500, 100, 330, 200, 24
# From the bottom up: a module imports from its own layer and from those below.
LAYERS = (("wheeler.cli", "wheeler.figures"), ("wheeler.dynamics",), ("wheeler_cpu",), ("wheeler.memory",),
          ("wheeler_store",), ("wheeler.model",), ("wheeler.frame",), ("models",), ("wheeler.training",),
          ("wheeler.measure", "wheeler.page", "wheeler.app"),
          ("train", "evaluate", "bench", "sample", "app", "minimal"))
# What may be imported inside a function: libraries that take a second or that not everybody has. Of the project only
# the compiled dynamics, which `import models` need not wait for.
LATE = {"wandb", "gradio", "matplotlib", "transformers", "tokenizers", "datasets", "sklearn", "sacrebleu", "rapidfuzz",
        "fcntl", "scipy", "IPython", "pandas", "wheeler_cpu", "wheeler.frame.code", "wheeler.frame.film"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules() -> dict[str, Path]:
    """Name -> file of every module of the project, tests left out."""
    return {name_of(path): path for path in sorted([*ROOT.glob("*.py"), *(ROOT / "wheeler").rglob("*.py")])}


def targets(node: ast.AST, known: dict[str, Path]) -> list[str]:
    """What an import statement names: modules of the project, or the first part of another's name."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        parts = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [part if part in known else node.module for part in parts]
    else:
        return []
    return [name if name in known else name.split(".")[0] for name in dict.fromkeys(names)]


def imports(path: Path, known: dict[str, Path]) -> tuple[set[str], list[tuple[int, str]]]:
    """(modules of the project that a file imports anywhere, (line, name) of all that it imports inside a function)."""
    tree, found, late = ast.parse(path.read_text(encoding="utf-8")), set(), []
    for node in ast.walk(tree):
        found |= {name for name in targets(node, known) if name in known}
        if isinstance(node, ast.FunctionDef):
            late += [(inner.lineno, name) for inner in ast.walk(node) for name in targets(inner, known)]
    return found, sorted(set(late))


def layer(name: str) -> int:
    for i, names in enumerate(LAYERS):
        if any(name == part or name.startswith(f"{part}.") for part in names):
            return i
    raise ValueError(f"{name} has no layer in tests/structure.py")


def functions(path: Path) -> list[tuple[int, str]]:
    """(lines, name) of every function of a file, the longest first; decorators count."""
    found = [(node.end_lineno - min([node.lineno, *(d.lineno for d in node.decorator_list)]) + 1, node.name)
             for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return sorted(found, reverse=True) or [(0, "")]


def sizes() -> list[tuple[str, int, int, str]]:
    """(file, lines, lines of its longest function, its name)."""
    return [(str(path.relative_to(ROOT)), len(path.read_text(encoding="utf-8").splitlines()), *functions(path)[0])
            for path in modules().values()]


def top_level() -> list[str]:
    """Names of what the repository has at its top, tracked or about to be."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True,
                            capture_output=True, check=True).stdout.splitlines()
    return sorted({name.split("/")[0] for name in listed if (ROOT / name).exists()})


def problems() -> list[str]:
    """What breaks a rule, a line each."""
    known, out = modules(), []
    for file, lines, longest, function in sizes():
        most = MOST_TRAIN if file == "train.py" else MOST_LINES
        out += [f"{file} has {lines} lines, {most} are allowed"] * (lines > most)
        out += [f"{file}: {function} has {longest} lines, {MOST_FUNCTION_LINES} are allowed"] * (
            longest > MOST_FUNCTION_LINES)
    graph = {}
    for name, path in known.items():
        if name.startswith("wheeler") and path.name == "__init__.py":
            continue
        own, (graph[name], late) = layer(name), imports(path, known)
        out += [f"{name} imports {other}, which stands above it" for other in sorted(graph[name])
                if layer(other) > own]
        out += [f"{path.relative_to(ROOT)}, line {line}: {other} is imported inside a function"
                for line, other in late if other not in LATE]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        out.append(f"a circle of imports: {' -> '.join(error.args[1])}")
    lines, entries = len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()), top_level()
    out += [f"README.md has {lines} lines, {MOST_README} are allowed"] * (lines > MOST_README)
    out += [f"the top level has {len(entries)} entries, {MOST_ENTRIES} are allowed"] * (len(entries) > MOST_ENTRIES)
    return out


def report() -> str:
    rows, entries = sizes(), top_level()
    width = max(len(file) for file, *_ in rows)
    lines = [f"{'file':<{width}}  lines  longest function"]
    lines += [f"{file:<{width}}  {count:5}  {longest:4} {function}" for file, count, longest, function in rows]
    lines.append(f"{len(rows)} modules, {sum(row[1] for row in rows):,} lines; {len(entries)} entries at the top")
    return "\n".join(lines)


def draw(path: Path) -> None:
    """Modules in rows, a layer each, the commands on top; every arrow points from a module to one that it imports."""
    from matplotlib.figure import Figure

    known = modules()
    names = [name for name, file in known.items() if file.name != "__init__.py"]
    figure = Figure(figsize=(15, 9.5), layout="constrained")
    axes, place = figure.subplots(), {}
    for i, _ in enumerate(LAYERS):
        row = [name for name in names if layer(name) == i]
        for k, name in enumerate(row):
            place[name] = ((k + 1) / (len(row) + 1), i + (0.16 if k % 2 else -0.16))
    for name in names:
        for other in imports(known[name], known)[0] & place.keys():
            same = layer(other) == layer(name)
            axes.annotate("", place[other], place[name], zorder=1, arrowprops={
                "arrowstyle": "-|>", "color": f"C{layer(name)}", "alpha": 0.35, "lw": 0.8, "shrinkA": 8, "shrinkB": 8,
                "connectionstyle": "arc3,rad=0.25" if same else "arc3,rad=0"})
    for name, (x, y) in place.items():
        axes.text(x, y, name.split(".")[-1], ha="center", va="center", fontsize=8, zorder=2, bbox={
            "boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": f"C{layer(name)}"})
    for i, part in enumerate(LAYERS):
        label = part[0] if len(part) == 1 else "commands" if "train" in part else "wheeler"
        axes.text(-0.01, i, label, ha="right", va="center", fontsize=9, color=f"C{i}")
    axes.set(xlim=(-0.09, 1.02), ylim=(-0.5, len(LAYERS) - 0.5))
    axes.axis("off")
    figure.savefig(path, dpi=75)


def main(argv: list[str]) -> int:
    if argv[:1] == ["--draw"] and len(argv) == 2:
        draw(Path(argv[1]))
        return 0
    if argv:
        print(f"structure.py: wanted nothing or --draw FILE, not {' '.join(argv)!r}", file=sys.stderr)
        return 2
    print(report())
    found = problems()
    for problem in found:
        print(f"structure.py: {problem}", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
