"""Files from anybody: loading runs no code, takes no memory that the file does not have, and says one clear line."""

import copy
import json
import random
import resource
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import TINY
from test_train import load, resume

import train
from models import WheelerTextAutoencoder
from wheeler.training.texts import DataError, TextStream, load_texts

JUNK = (None, -1, 0, 1, 2**31, 2**63, 10**30, -(2**62), 1.5, float("nan"), float("inf"), True, "", "x", "\x00",
        "9" * 400, [], {}, [1, [2]], {"a": 1}, (), b"x", torch.ones(3), torch.ones(2, 2).long(), torch.zeros(0),
        torch.ones(1).expand(10**6, 10**6), torch.tensor(float("nan")))


@pytest.fixture
def little_memory():
    """4 GiB of address space more than there are: a file that asks for more is found out by a MemoryError."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**32, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def nodes(value, path=()):
    """Paths of all entries of nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in items:
        yield (*path, key)
        if len(path) < 4:
            yield from nodes(item, (*path, key))


def mutated(state, rng):
    """A copy of a checkpoint with one to three entries replaced, removed, renamed or nudged."""
    state = copy.deepcopy(state)
    for _ in range(rng.randint(1, 3)):
        where = [path for path in nodes(state) if path[:3] != ("training", "rng", "python")]
        path = rng.choice([p for p in where if len(p) < 3] if rng.random() < 0.6 else where)
        parent = state
        for key in path[:-1]:
            parent = parent[key]
        if isinstance(parent, tuple):
            continue
        kind, old = rng.randrange(5), parent[path[-1]]
        if kind == 0:
            del parent[path[-1]]
        elif kind == 1 and isinstance(parent, dict):
            parent[rng.choice(("x", 7, "model", "config"))] = parent.pop(path[-1])
        elif kind == 2 and isinstance(old, (int, float)) and not isinstance(old, bool):
            parent[path[-1]] = rng.choice((old + 1, -old, old * 2, old * 10**9))
        elif kind == 3 and isinstance(old, torch.Tensor) and old.numel():
            parent[path[-1]] = rng.choice((old[:-1] if old.dim() else old[None], old.double(), old[None],
                                           old.double().nan_to_num().long(), old * float("nan")))
        else:
            parent[path[-1]] = rng.choice(JUNK)
    return state


def broken(content, rng):
    """Bytes of a file, cut, overwritten, doubled or with flipped bits."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at, kind = rng.randrange(len(content) or 1), rng.randrange(4)
        if kind == 0:
            content = content[: max(1, at)]
        elif kind == 1:
            content[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 2:
            content[at:at] = rng.randbytes(rng.randrange(1, 40))
        else:
            content[at : at + rng.randrange(1, 60)] = b"\xff" * rng.randrange(20)
    return bytes(content)


def fuzz(run, capsys, seed, count):
    run("--max_steps 2")
    run("--max_steps 2 --streaming", "streamed")
    good, rng = [load("run/last.pt"), load("streamed/last.pt")], random.Random(seed)
    outcomes = {"loaded": 0, "refused": 0}
    whole, lines = Path("run/last.pt").read_bytes(), Path(train.__file__).with_name("pyproject.toml").read_bytes()
    rows = "".join(json.dumps({"text": f"story {i} é"}) + "\n" for i in range(30)).encode()
    for i in range(count):
        kind = i % 5
        if kind < 3:
            if kind < 2:
                torch.save(mutated(good[kind], rng), "bad.pt")
            else:
                Path("bad.pt").write_bytes(broken(whole, rng))
            try:
                WheelerTextAutoencoder.load_from_checkpoint("bad.pt")
                outcomes["loaded"] += 1
            except ValueError as error:
                assert str(error).strip() and "\n" not in str(error), str(error)
                outcomes["refused"] += 1
            capsys.readouterr()
            code = resume("bad.pt --max_steps 3 --output_dir out --eval_every -1 --show_samples 0")
            error = capsys.readouterr().err
            assert code == 0 or code == 2 and error.startswith("train.py: ") and error.count("\n") == 1, (i, error)
        else:
            Path("bad.jsonl").write_bytes(broken(rows if kind == 3 else lines, rng))
            for read in (load_texts, lambda path: TextStream(path).block({"row": 0, "at": 0})[0]):
                try:
                    assert all(isinstance(text, str) for text in read("bad.jsonl"))
                    outcomes["loaded"] += 1
                except DataError as error:
                    assert "\n" not in str(error)
                    outcomes["refused"] += 1
    return outcomes


def test_mutated_files_give_clear_errors(run, capsys, little_memory):
    outcomes = fuzz(run, capsys, 0, 100)
    assert outcomes["refused"] > 40


@pytest.mark.slow
def test_a_thousand_mutated_files_give_clear_errors(run, capsys, little_memory):
    outcomes = fuzz(run, capsys, 1, 1000)
    with capsys.disabled():
        print(outcomes)
    assert outcomes["refused"] > 400 and outcomes["loaded"] > 50


@pytest.mark.parametrize("change, message", [
    ({"d_model": 10**9}, "d_model = 1000000000 must be at most"), ({"d_model": 2**20}, "wanted (512, 1048576)"),
    ({"decoder_layers": 10**6}, "1000000 decoder.layers, but weights of 1"), ({"grid_size": 2**19}, "patch_code"),
    ({"grid_size": 2**20, "patch_size": None}, "does not fit its own config"), ({"vocab_size": 10**6}, "embedding"),
    ({"max_seq_len": 10**5}, "text_code"), ({"d_model": "64"}, "'64' must be int"), ({"dropout": None}, "dropout"),
    ({"num_heads": True}, "must be int"), ({"grid_layers": torch.ones(10**3, 9)}, "1.], [1., 1., 1."),
])
def test_sizes_are_checked_before_memory_is_taken(run, change, message, little_memory):
    run("--max_steps 1")
    good = load("run/last.pt")
    good["config"] |= change
    torch.save(good, "huge.pt")
    with pytest.raises(ValueError) as caught:
        WheelerTextAutoencoder.load_from_checkpoint("huge.pt")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_tensors_must_have_the_memory_they_claim(run):
    run("--max_steps 1")
    good = load("run/last.pt")
    good["model"]["encoder.text_code"] = torch.ones(1).expand(16, 64)
    torch.save(good, "view.pt")
    with pytest.raises(ValueError, match="'encoder.text_code' of its model is not a plain tensor"):
        WheelerTextAutoencoder.load_from_checkpoint("view.pt")


def test_archive_that_unpacks_to_more_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * 10**7)
    with pytest.raises(ValueError, match="unpack to more"):
        WheelerTextAutoencoder.load_from_checkpoint(tmp_path / "bomb.pt")


class Harm:
    def __reduce__(self):
        return open, ("harm.txt", "w")


def test_loading_runs_no_code(run, tmp_path):
    run("--max_steps 1")
    for where in ("top", "training"):
        good = load("run/last.pt")
        (good if where == "top" else good["training"])["x"] = Harm()
        torch.save(good, "harm.pt")
        with pytest.raises(ValueError, match="more than tensors and plain values"):
            WheelerTextAutoencoder.load_from_checkpoint("harm.pt")
        assert resume("harm.pt") == 2 and train.main(["--init_from", "harm.pt", *TINY]) == 2
    assert not Path("harm.txt").exists()


def test_pretrained_folders_are_checked_too(run, little_memory):
    run("--max_steps 1")
    WheelerTextAutoencoder.load_from_checkpoint("run/last.pt").save_pretrained("folder")
    config, weights = Path("folder/config.json"), Path("folder/model.safetensors")
    good, whole = config.read_text(), weights.read_bytes()
    for change in ({"d_model": 2**20}, {"decoder_layers": 10**6}, {"grid_size": 2**19}):
        config.write_text(json.dumps(json.loads(good) | change))
        with pytest.raises(ValueError, match="does not fit its own config|must"):
            WheelerTextAutoencoder.from_pretrained("folder")
    config.write_text(good)
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a readable safetensors"):
        WheelerTextAutoencoder.from_pretrained("folder")


@pytest.mark.parametrize("change", [
    {"continuing_subword_prefix": "9" * 400},                                 # the library panics: no Exception
    {"type": "WordLevel", "vocab": {"<|bos|>": 0, "<|eos|>": 1, "<|pad|>": 2}, "unk_token": "[UNK]"},
])
def test_a_tokenizer_that_the_library_cannot_use_is_one_error(run, change):
    run("--max_steps 1")
    good = load("run/last.pt")
    WheelerTextAutoencoder.from_checkpoint(good).save_pretrained("folder")
    content = json.loads(good["tokenizer"]["json"])
    content["model"] |= change
    good["tokenizer"]["json"] = json.dumps(content)
    torch.save(good, "bad.pt")
    Path("folder/tokenizer.json").write_text(json.dumps(content))
    for path in ("bad.pt", "folder"):
        with pytest.raises(ValueError, match="the tokenizer cannot be read: ") as caught:
            WheelerTextAutoencoder.load_from_checkpoint(path)
        assert "\n" not in str(caught.value)
