"""README.md does what it says: every command, every Python block, every link. What is tested is read from the file.

Commands run in a copy of a scratch folder that holds what README.md supposes its reader to have (a small model, a file
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

from sample_corpus import stories

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

TINY = ("--d_model 64 --grid_size 32 --max_seq_len 16 --encoder_layers 1 --grid_layers 0 --decoder_layers 1 "
        "--vocab_size 300 --batch_size 4 --accumulation_steps 1 --max_steps 1 --max_train_samples 32 --eval_samples 2 "
        "--cache_dir cache --num_workers 0")
FIGURES = "--checkpoint checkpoints/best.pt --dataset sample --num_samples 2 --cache_dir cache"
LITTLE = "--d_model 32 --grid_size 16 --max_seq_len 8 --batch_size 2"
SMALL = {                                                                     # script and, where it has them, section
    "train.py": TINY, "train.py --resume": "--max_steps 2", "train.py --plot": "",
    "data.py": "--vocab_size 300 --max_seq_len 16 --cache_dir cache",
    "evaluate.py": f"{FIGURES} --texts random", "evaluate.py --compare": "",
    "evaluate.py lengths": f"{FIGURES} --lengths 4", "evaluate.py disturb": f"{FIGURES} --length 6",
    "evaluate.py space": f"{FIGURES} --length 6",
    "evaluate.py meaning": f"{FIGURES} --memories 4 --parts bits",
    "evaluate.py ticks": f"{FIGURES} --length 6", "evaluate.py picture": f"{FIGURES} --length 6",
    "sample.py": "", "wheeler_cpu.py": "--max_ticks 20",
    "bench.py model": f"{LITTLE} --repeats 1", "bench.py step": f"{LITTLE} --repeats 1",
    "bench.py dynamics": "--frames 2",
    "bench.py growth": "--d_model 32 --point_limit 1e-4", "bench.py recall": "",
    "bench.py quality": f"{LITTLE} --limit 0.1 --eval_samples 2 --results q.json --cache_dir cache",
    "bench.py survival": "--patterns 1 --grid_size 16", "bench.py capacity": "--widest 4",
}
NEEDS_DATA = ("train.py", "data.py")                                          # the default data set is on the hub
# Flags for hardware, for accounts, for minutes.
NOT_HERE = {"--fp16", "--bf16", "--compile", "--wandb", "--million", "--int8"}
OTHER_COMMANDS = {"sudo", "source", "ls", "groups", "git", "cd", "pip", "uv", "jupyter", "pytest", "echo", "cat",
                  "bash", "export", "unset", "rocminfo", "nvtop", "dmesg", "apt-get", "torchrun"}


def commands(text: str) -> list[list[str]]:
    """Every simple command, as words: of shell blocks all lines, of running text what looks like a call of a script."""
    lines = []
    for language, block in FENCE.findall(text):
        if language in ("bash", "sh", "console"):
            lines += block.replace("\\\n", " ").splitlines()
    for code in re.findall(r"`([^`]+)`", FENCE.sub("", text)):
        if re.match(r"(\w+=\S+ )*(python \w+\.py|bash setup)", code):
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


def calls() -> list[tuple[str, tuple[str, ...]]]:
    """(script, arguments) of every Python script that README.md calls, each once, in order."""
    found = []
    for words in commands(README):
        at = words.index("python") if "python" in words else None
        if at is not None and at + 1 < len(words) and words[at + 1].endswith(".py"):
            found.append((words[at + 1], tuple(words[at + 2 :])))
    return list(dict.fromkeys(found))


def rule(script: str, words: tuple[str, ...]) -> str | None:
    """The entry of SMALL for a call, None where there is none."""
    return next((key for key in (f"{script} {words[0]}" if words else "", f"{script} --resume" if "--resume" in words
                                 else "", script) if key in SMALL), None)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """What the reader of README.md has: data, a trained model, pictures."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("assets", "tinystories"):
        (folder / name).mkdir()
    rows = [json.dumps({"text": story}) + "\n" for story in stories("train", 40)]
    (folder / "stories.jsonl").write_text("".join(rows))
    (folder / "topics.txt").write_text("\n\n".join(stories("train", 40)))
    (folder / "stories.txt").write_text("One day Tom ran.\n\nLily sat down.\n")
    (folder / "tinystories" / "train.jsonl").write_text("".join(rows))
    (folder / "tinystories" / "validation.jsonl").write_text("".join(rows[:6]))
    np.save(folder / "frame.npy", any_frame())
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert call("train.py", ["--dataset", "sample", *TINY.split()]) == 0
        assert call("sample.py", ["Tom ran."]) == 0                           # samples/1-frame.png
    finally:
        os.chdir(before)
    return folder


def call(script: str, words: list[str]) -> int:
    try:
        return importlib.import_module(script.removesuffix(".py")).main(words)
    except SystemExit as stop:
        return stop.code or 0


# ---- commands -------------------------------------------------------------------------------------------------------


class Parsed(Exception):
    """Raised in place of running a script, once its arguments are understood."""


@pytest.mark.parametrize("script, words", calls(), ids=lambda x: x if isinstance(x, str) else " ".join(x)[:60])
def test_every_script_knows_the_flags_of_its_command(script, words, monkeypatch, capsys):
    assert (ROOT / script).is_file(), f"README.md calls {script}, which does not exist"
    for name in ("parse_args", "parse_intermixed_args"):
        def parse_only(self, *given, parse=getattr(argparse.ArgumentParser, name), **named):
            raise Parsed(parse(self, *given, **named))

        monkeypatch.setattr(argparse.ArgumentParser, name, parse_only)
    try:
        assert call(script, list(words)) == 0, capsys.readouterr().err        # --help leaves with 0
    except Parsed:
        pass


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
    found = commands(README)
    for words in found:
        assert words[0] in OTHER_COMMANDS | {"python"}, f"README.md has an unknown command: {' '.join(words)}"
        if words[0] == "bash":
            assert (ROOT / words[1]).is_file(), words
            for word in words[2 : words.index("python") if "python" in words else None]:
                assert not word.startswith("-") or word in help_text, f"{words}: setup_training_env.sh has no {word}"
        if words[0] == "jupyter":
            assert all((ROOT / word).is_file() for word in words if word.endswith(".ipynb")), words
    assert sum("python" in words for words in found) >= 10 and len(calls()) >= 10 and len(RUN) >= 8        # not blind


def test_commands_are_found_as_a_reader_would():
    text = """Run `python a.py --x 1
    --y` or `HSA=1 python b.py ...`, not `python`.\n```bash
python c.py \\\n    --long "two words"   # comment && no
echo hi | python d.py - && ls\n```\n```python\nnot = "bash"\n```\n"""
    assert commands(text) == [["python", "c.py", "--long", "two words"], ["echo", "hi"], ["python", "d.py", "-"],
                              ["ls"], ["python", "a.py", "--x", "1", "--y"], ["python", "b.py"]]


# ---- Python blocks --------------------------------------------------------------------------------------------------


def run_block(block: str, names: dict) -> int:
    """Run a block as a notebook would, statement by statement, and compare with what its comments promise: a shape such
    as (1, 64, 64), or a string, as the first thing in the comment. Returns how many were compared."""
    comments = {token.start[0]: token.string.lstrip("# ") for token in
                tokenize.generate_tokens(io.StringIO(block).readline) if token.type == tokenize.COMMENT}
    compared = 0
    for node in ast.parse(block).body:
        if isinstance(node, ast.Expr):
            value = eval(compile(ast.Expression(node.value), "README.md", "eval"), names)
            if hasattr(value, "_repr_html_"):
                assert value._repr_html_()
        else:
            exec(compile(ast.Module([node], []), "README.md", "exec"), names)
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            value = names.get(target.id) if isinstance(target, ast.Name) else None
        promised = re.match(r'\((\d+, )+\d+\)|"[^"]*"', comments.get(node.end_lineno, ""))
        if promised and value is not None:
            wanted = ast.literal_eval(promised.group())
            assert (value if isinstance(wanted, str) else tuple(value.shape)) == wanted, ast.unparse(node)
            compared += 1
    return compared


def any_frame() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (64, 64)).astype(np.float32)


def test_python_blocks_do_what_their_comments_say(small_model, tmp_path, monkeypatch, capsys):
    (tmp_path / "checkpoints").mkdir()
    torch.save(small_model.to_checkpoint(), tmp_path / "checkpoints" / "best.pt")
    monkeypatch.chdir(tmp_path)
    blocks = [block for language, block in FENCE.findall(README) if language == "python"]
    names, compared = {}, 0
    for block in blocks:
        if not re.search(r"^frame = ", block, re.MULTILINE):                  # then it stands for any frame
            names["frame"] = any_frame()
        compared += run_block(block, names)
    assert compared >= 5


def test_a_broken_promise_is_noticed():
    for block in ('x = "a"  # "b"', '"a"  # "b" of two', "import numpy as np\nx = np.ones((2, 3))  # (2, 4) of ones"):
        with pytest.raises(AssertionError):
            run_block(block, {})
    assert run_block('x = "a"  # "a"\ny = 2  # (1, 2)?\n"c"  # see "c"'.replace("(1, 2)", "two"), {}) == 1


def test_links_and_named_files_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    files = re.findall(r"^\| (`[^|]+`) \|", README.split("## Files")[1], re.MULTILINE)
    named = [name for cell in files for name in re.findall(r"`([^`]+)`", cell)]
    missing = [name for name in (*links, *named) if "://" not in name and not (ROOT / name).exists()]
    assert missing == [] and len(links) > 3 and len(named) > 10
