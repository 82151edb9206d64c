"""README.md and docs/ do what they say: every command, every Python block, every link, every file that is named. What
is tested is read from the pages.

Commands run in a copy of a scratch folder that holds what the pages suppose their reader to have (a small model, a file
stories.jsonl, a folder tinystories, frame.npy ...), with the flags of SMALL added, which make them small (argparse
takes the last value of a flag), and without those of NOT_HERE. Commands without an entry in SMALL are only parsed by
their script, so that a flag that does not exist fails: they take minutes or serve a page, and have tests of their own.
"""

import argparse
import ast
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import numpy as np
import pytest
import torch

from wheeler.training.flags import build_parser
from wheeler.training.stories import stories

ROOT = Path(__file__).parents[1]
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
         for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README = PAGES["README.md"]
LINKING = [*PAGES, "checkpoints/README.md", "checkpoints/wheeler-21m/README.md", "runs/README.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

TINY = ("--d_model 64 --grid_size 32 --max_seq_len 16 --encoder_layers 1 --grid_layers 0 --decoder_layers 1 "
        "--vocab_size 300 --batch_size 4 --accumulation_steps 1 --max_steps 1 --max_train_samples 32 --eval_samples 2 "
        "--cache_dir cache --num_workers 0")
FIGURES = "--checkpoint checkpoints/best.pt --dataset sample --num_samples 2 --cache_dir cache"
LITTLE = "--d_model 32 --grid_size 16 --max_seq_len 8 --batch_size 2"
SMALL = {                                                                     # script and, where it has them, section
    "train.py": TINY, "train.py --resume": "--max_steps 2", "train.py --plot": "",
    "train.py --prepare": "--vocab_size 300 --max_seq_len 16 --cache_dir cache", "minimal.py": "",
    "evaluate.py": f"{FIGURES} --texts random", "evaluate.py --compare": "",
    "evaluate.py lengths": f"{FIGURES} --lengths 4", "evaluate.py disturb": f"{FIGURES} --length 6",
    "evaluate.py pictures": "--dataset short.txt --cache_dir cache --num_samples 1",
    "evaluate.py space": f"{FIGURES} --length 6",
    "evaluate.py meaning": f"{FIGURES} --dataset short.txt --memories 4 --parts bits",
    "evaluate.py fidelity": f"{FIGURES} --length 6", "bench.py store": "--memories 20 --repeats 1",
    "evaluate.py ticks": f"{FIGURES} --length 6", "evaluate.py films": f"{FIGURES} --num_samples 1 --characters 100",
    "evaluate.py picture": f"{FIGURES} --length 6".replace("--num_samples 2 ", ""),
    "sample.py": "", "wheeler_cpu.py": "--max_ticks 20", "wheeler/measure/theory.py": "--size 16",
    "wheeler/training/device.py": "",
    "bench.py model": f"{LITTLE} --d_model 64 --repeats 1", "bench.py step": f"{LITTLE} --d_model 64 --repeats 1",
    "bench.py dynamics": "--frames 2",
    "bench.py growth": "--d_model 32 --point_limit 1e-4", "bench.py recall": "",
    "bench.py quality": f"{LITTLE} --limit 0.1 --eval_samples 2 --results q.json --cache_dir cache",
    "bench.py survival": "--patterns 1 --grid_size 16", "bench.py capacity": "--widest 4",
}
NEEDS_DATA = ("train.py",)                                                    # the default data set is on the hub
# Flags for hardware, for accounts, for minutes.
NOT_HERE = {"--fp16", "--bf16", "--compile", "--wandb", "--million", "--int8"}
OTHER_COMMANDS = {"sudo", "source", "ls", "groups", "git", "cd", "pip", "uv", "pytest", "echo", "cat",
                  "bash", "export", "unset", "rocminfo", "nvtop", "dmesg", "apt-get", "torchrun"}


def commands(text: str) -> list[list[str]]:
    """Every simple command, as words: of shell blocks all lines, of running text what looks like a call of a script."""
    lines = []
    for language, block in FENCE.findall(text):
        if language in ("bash", "sh", "console"):
            lines += block.replace("\\\n", " ").splitlines()
    for code in re.findall(r"`([^`]+)`", FENCE.sub("", text)):
        if re.match(r"(\w+=\S+ )*(python (-m wheeler|[\w/]+\.py)|bash setup)", " ".join(code.split())):
            lines.append(" ".join(code.split()))
    out = []
    for line in lines:
        words = list(shlex.shlex(line, posix=True, punctuation_chars=True)) if re.search(r"[|;&]", line) else None
        words = words or shlex.split(line, comments=True)
        while words and re.fullmatch(r"\w+=\S*", words[0]):
            words = words[1:]
        part: list[str] = []
        for word in [*words, ";"]:
            if word in ("&&", "||", "|", ";"):
                out += [part] if part else []
                part = []
            elif word != "...":
                part.append(word)
    return out


def every_command() -> list[list[str]]:
    return [words for text in PAGES.values() for words in commands(text)]


def calls() -> list[tuple[str, tuple[str, ...]]]:
    """(script, arguments) of every Python script that the pages call, each once, in order."""
    found = []
    for words in every_command():
        after = words[words.index("python") + 1 :] if "python" in words else []
        if after[:1] == ["-m"]:                                               # as a module
            after[:2] = [after[1].replace(".", "/") + ".py"]
        if after and after[0].endswith(".py"):
            found.append((after[0], tuple(after[1:])))
    return list(dict.fromkeys(found))


def rule(script: str, words: tuple[str, ...]) -> str | None:
    """The entry of SMALL for a call, None where there is none."""
    return next((key for key in (f"{script} {words[0]}" if words else "", f"{script} --resume" if "--resume" in words
                                 else "", script) if key in SMALL), None)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """What the reader of the pages has: data, a trained model, pictures."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("docs/assets", "tinystories"):
        (folder / name).mkdir(parents=True)
    rows = [json.dumps({"text": story}) + "\n" for story in stories("train", 40)]
    (folder / "stories.jsonl").write_text("".join(rows))
    (folder / "topics.txt").write_text("\n\n".join(stories("train", 40)))
    short = [f"{name} saw a {what}." for name in "Tom Sam Ben Mia Ana Max Zoe Lea".split()             # TINY has room
             for what in "dog cat box car hat bee egg fox key mug".split()]
    (folder / "short.txt").write_text("\n\n".join(short))
    (folder / "stories.txt").write_text("One day Tom ran.\n\nLily sat down.\n")
    (folder / "tinystories" / "train.jsonl").write_text("".join(rows))
    (folder / "tinystories" / "validation.jsonl").write_text("".join(rows[:6]))
    (folder / "retellings.jsonl").write_text('{"line": 0, "retelling": "A cat was seen."}\n')
    np.save(folder / "frame.npy", any_frame())
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert call("train.py", ["--dataset", "sample", *TINY.split()]) == 0
        assert call("sample.py", ["Tom ran."]) == 0                           # samples/1-frame.png
        shutil.copy("samples/1-frame.png", "samples/chapter-film.png")
    finally:
        os.chdir(before)
    return folder


def module_of(script: str):
    return importlib.import_module(script.removesuffix(".py").replace("/", ".").removeprefix("tests."))


def call(script: str, words: list[str]) -> int:
    try:
        return module_of(script).main(words)
    except SystemExit as stop:
        return stop.code or 0


# ---- commands -------------------------------------------------------------------------------------------------------


class Parsed(Exception):
    """Raised in place of running a script, once its arguments are understood."""


@pytest.mark.parametrize("script, words", calls(), ids=lambda x: x if isinstance(x, str) else " ".join(x)[:60])
def test_every_script_knows_the_flags_of_its_command(script, words, tmp_path, monkeypatch, capsys):
    assert (ROOT / script).is_file(), f"the pages call {script}, which does not exist"
    (tmp_path / "docs" / "assets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)                                               # those without argparse run as they are
    for name in ("parse_args", "parse_intermixed_args"):
        def parse_only(self, *given, parse=getattr(argparse.ArgumentParser, name), **named):
            raise Parsed(parse(self, *given, **named))

        monkeypatch.setattr(argparse.ArgumentParser, name, parse_only)
    try:
        assert call(script, list(words)) == 0, capsys.readouterr().err        # --help leaves with 0
    except Parsed as parsed:
        known = getattr(module_of(script), "SECTIONS", None)                  # argparse takes any word for a section
        assert not known or {*getattr(parsed.args[0], "sections", ())} <= {*known, "all"}


RUN = [(script, words) for script, words in calls() if rule(script, words) is not None]


@pytest.mark.slow
@pytest.mark.parametrize("script, words", RUN, ids=lambda x: x if isinstance(x, str) else " ".join(x)[:60])
def test_every_command_runs(script, words, scratch, tmp_path, monkeypatch, capsys):
    shutil.copytree(scratch, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    if "-" in words:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Tom ran.\n")))
    small = SMALL[rule(script, words)].split()
    if script in NEEDS_DATA and not {"--dataset", "--resume", "--plot"} & {*words}:
        small += ["--dataset", "sample"]
    code = call(script, [*(word for word in words if word not in NOT_HERE), *small])
    assert code == 0, capsys.readouterr().err


def test_other_commands_are_known_and_set_up_knows_its_flags():
    help_text = subprocess.run(["bash", "setup_training_env.sh", "--help"], cwd=ROOT, capture_output=True,
                               text=True).stdout
    found = every_command()
    for words in found:
        assert words[0] in OTHER_COMMANDS | {"python"}, f"the pages have an unknown command: {' '.join(words)}"
        if words[0] == "bash":
            assert (ROOT / words[1]).is_file(), words
            for word in words[2 : words.index("python") if "python" in words else None]:
                assert not word.startswith("-") or word in help_text, f"{words}: setup_training_env.sh has no {word}"
        if words[0] == "torchrun":
            assert (ROOT / next(word for word in words if word.endswith(".py"))).is_file(), words
    assert sum("python" in words for words in found) >= 10 and len(calls()) >= 10 and len(RUN) >= 8        # not blind
    for page, least in (("README.md", 10), ("docs/training.md", 10), ("docs/results.md", 6), ("docs/dynamics.md", 6)):
        assert len(commands(PAGES[page])) >= least, page


def test_commands_are_found_as_a_reader_would():
    text = """Run `python a.py --x 1
    --y` or `HSA=1 python b.py ...`, not `python`; `python -m wheeler.x --z`, `python d/e.py`.\n```bash
python c.py \\\n    --long "two words"   # comment && no
echo hi | python d.py - && ls\n```\n```python\nnot = "bash"\n```\n"""
    assert commands(text) == [["python", "c.py", "--long", "two words"], ["echo", "hi"], ["python", "d.py", "-"],
                              ["ls"], ["python", "a.py", "--x", "1", "--y"], ["python", "b.py"],
                              ["python", "-m", "wheeler.x", "--z"], ["python", "d/e.py"]]


# ---- Python blocks --------------------------------------------------------------------------------------------------


def run_block(block: str, names: dict) -> int:
    """Run a block as a notebook would, statement by statement, and compare with what its comments promise: a shape such
    as (1, 64, 64), or a string, as the first thing in the comment, or a tuple of values that is all of it. Returns how
    many were compared."""
    comments = {token.start[0]: token.string.lstrip("# ") for token in
                tokenize.generate_tokens(io.StringIO(block).readline) if token.type == tokenize.COMMENT}
    compared = 0
    for node in ast.parse(block).body:
        if isinstance(node, ast.Expr):
            value = eval(compile(ast.Expression(node.value), "page", "eval"), names)
            if hasattr(value, "_repr_html_"):
                assert value._repr_html_()
        else:
            exec(compile(ast.Module([node], []), "page", "exec"), names)
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            value = names.get(target.id) if isinstance(target, ast.Name) else None
        comment = comments.get(node.end_lineno, "")
        promised = re.match(r'\((\d+, )+\d+\)|"[^"]*"', comment)
        if isinstance(value, tuple) and comment.startswith("("):
            assert value == ast.literal_eval(comment), ast.unparse(node)
            compared += 1
        elif promised and value is not None:
            wanted = ast.literal_eval(promised.group())
            assert (value if isinstance(wanted, str) else tuple(value.shape)) == wanted, ast.unparse(node)
            compared += 1
    return compared


def any_frame() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (64, 64)).astype(np.float32)


def python_blocks(text: str) -> list[str]:
    return [block for language, block in FENCE.findall(text) if language == "python"]


BLOCKS = {"README.md": 4, "docs/model.md": 6, "docs/dynamics.md": 3, "docs/frame_format.md": 4}        # values compared


def test_pages_with_python_blocks_are_known():
    assert {page for page, text in PAGES.items() if python_blocks(text)} == {*BLOCKS}


@pytest.mark.parametrize("page", BLOCKS)
def test_python_blocks_do_what_their_comments_say(page, small_model, tmp_path, monkeypatch, capsys):
    (tmp_path / "checkpoints").mkdir()
    torch.save(small_model.to_checkpoint(), tmp_path / "checkpoints" / "best.pt")
    monkeypatch.chdir(tmp_path)
    names, compared = {}, 0
    for block in python_blocks(PAGES[page]):
        if not re.search(r"^frame = ", block, re.MULTILINE):                  # then it stands for any frame
            names["frame"] = any_frame()
        compared += run_block(block, names)
    assert compared >= BLOCKS[page]


def test_a_broken_promise_is_noticed():
    for block in ('x = "a"  # "b"', '"a"  # "b" of two', "import numpy as np\nx = np.ones((2, 3))  # (2, 4) of ones",
                  "1, 'a'  # (1, 'b')"):
        with pytest.raises(AssertionError):
            run_block(block, {})
    assert run_block('x = "a"  # "a"\ny = 2  # (1, 2)?\n"c"  # see "c"'.replace("(1, 2)", "two"), {}) == 1


# ---- links, files, flags --------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """What `#...` may name on a page: its headings, as code hosts write them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKING)
def test_links_lead_somewhere(page):
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)) if "://" not in link]
    assert len(links) > 3 or page != "README.md"
    for link in links:
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), f"{page} links {name}, which does not exist"
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{page}: {link} names no heading"


def test_anchors_are_those_of_headings():
    text = "# A page: of `x.py`, and more\n## Two  words\n```bash\n# no heading\n```\n### a_b-c\n"
    assert anchors(text) == {"a-page-of-xpy-and-more", "two--words", "a_b-c"}


def tree(text: str) -> list[str]:
    """The paths that the file tree of README.md names: two spaces a folder, several names of a line with commas."""
    (block,) = [block for language, block in FENCE.findall(text.split("## Files")[1]) if language == "text"]
    paths, folders = [], []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.match(r"[\w./-]+(, [\w./-]+)*", line.lstrip()).group().split(", ")
        folders = folders[:depth]
        paths += ["".join([*folders, name]) for name in names]
        if names[-1].endswith("/"):
            folders.append(names[-1])
    return paths


def test_the_file_tree_is_the_real_one():
    named = tree(README)
    assert [name for name in named if not (ROOT / name).exists()] == [] and len(named) > 10
    assert all((ROOT / name).is_dir() == name.endswith("/") for name in named) and len(named) == len({*named})
    modules = [str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.py"), *(ROOT / "wheeler").rglob("*.py"))
               if path.name != "__init__.py"]
    assert sorted({*modules} - {*named}) == []


def test_every_page_of_docs_is_linked_from_the_readme():
    assert {*PAGES} - {"README.md"} <= {*re.findall(r"\]\(([^)#\s]+)", README)}


def test_lines_of_the_readme_fit_a_window():
    assert [line for line in README.splitlines() if len(line) > 140] == []


def test_the_table_of_flags_is_that_of_train_py():
    known = {name: action for action in build_parser()._actions for name in action.option_strings}
    table = PAGES["docs/training.md"].split("## Flags\n")[1].split("\n## ")[0]
    rows, compared = re.findall(r"^\| (`--[^|]+) \| ([^|]*) \|", table, re.MULTILINE), 0
    for cell, default in rows:
        names, values = re.findall(r"`(--[\w-]+)`", cell), default.split(", ")
        assert names and not {*names} - {*known}, cell
        for name, value in zip(names, values if len(values) == len(names) else values * len(names), strict=True):
            if re.fullmatch(r"-?\d[\d.e-]*", value):
                assert float(value) == known[name].default, name
                compared += 1
            assert value != "off" or known[name].default is False, name
    assert compared >= 12
