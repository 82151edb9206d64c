"""Training as a user runs it: `main` in process, offline, with a model that takes a millisecond a step."""

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY

import train
from models import WheelerTextAutoencoder
from wheeler.model import layers
from wheeler.model.checkpoint import SHIPPED
from wheeler.model.config import WheelerConfig
from wheeler.model.tokenizer import train_tokenizer
from wheeler.training import opening, step
from wheeler.training import run as run_module
from wheeler.training.flags import TRAINING_STATE, build_parser, parse
from wheeler.training.run_folder import best_loss, explain, read_metrics
from wheeler.training.stories import stories

ROOT = Path(__file__).resolve().parents[1]
def resume(flags):
    return train.main(["--resume", *flags.split()])


def load(path):
    return torch.load(path, weights_only=True)


def rows(run="run"):
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def stop_after(monkeypatch, step, number=signal.SIGINT):
    """Send a signal in the middle of optimizer step `step`, counted from this call."""
    clip, count = torch.nn.utils.clip_grad_norm_, [0]

    def clip_and_stop(*args):
        count[0] += 1
        if count[0] == step:
            signal.raise_signal(number)
        return clip(*args)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip_and_stop)


def whole_and_in_parts(run, monkeypatch, flags, first):
    """The last checkpoints of a run and of the same run stopped after step `first` and resumed."""
    assert run(flags, "whole") == 0
    with monkeypatch.context() as patch:
        stop_after(patch, first)
        assert run(flags, "parts") == 130
    assert load("parts/last.pt")["training"]["step"] == first
    assert resume("parts/last.pt") == 0
    return load("whole/last.pt"), load("parts/last.pt")


def assert_same(a, b, path=""):
    """Bit-exact equality of nested plain values and tensors."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}/{i}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), path
    else:
        assert a == b, path


# ---- what a run leaves behind ---------------------------------------------------------------------------------------


def test_run_writes_checkpoints_metrics_and_flags(run, capsys):
    assert run() == 0
    out = capsys.readouterr().out
    for word in ("device", "parameters", "texts to train on", "tokens a step", "next        python evaluate.py"):
        assert word in out
    assert sorted(p.name for p in Path("run").iterdir()) == ["best.pt", "last.pt", "metrics.jsonl", "run.json"]
    logged = rows()
    assert [row["step"] for row in logged] == [0, 1, 2, 3, 4, 4]
    assert {"grid/exact_match", "grid/token_accuracy", "validation_loss"} <= logged[0].keys() & logged[-1].keys()
    about = json.loads(Path("run/run.json").read_text())
    assert about["flags"]["grid_size"] == 16 and about["parameters"] > 0 and "commit" in about
    assert about["versions"]["torch"] == torch.__version__ and about["versions"]["numba"]


def test_checkpoints_are_weights_only_and_self_contained(run):
    run()
    for name in ("best.pt", "last.pt"):
        checkpoint = load(f"run/{name}")
        assert TRAINING_STATE | {"best"} <= checkpoint["training"].keys()
    model = WheelerTextAutoencoder.load_from_checkpoint("run/last.pt")
    grid = model.encode("Hello")
    assert grid.shape == (1, 16, 16, 64) and isinstance(model.decode(grid), str)
    assert model.tokenizer.decode(model.tokenizer("Zoë 🐉")["input_ids"], skip_special_tokens=True) == "Zoë 🐉"


def test_best_changes_only_when_better(run, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.0, 1.0, 9.0])      # each counts thrice: from grid, tiles, nothing
    fake = lambda *args: {"teacher_forced_loss": fake.value, "teacher_forced_token_accuracy": 0.0}
    real = run_module.reconstruct

    def reconstruct(*args):
        fake.value = next(losses)
        return real(*args)

    saved, save = [], run_module.save_checkpoint
    monkeypatch.setattr(run_module, "teacher_forced", fake)
    monkeypatch.setattr(run_module, "reconstruct", reconstruct)
    monkeypatch.setattr(run_module, "save_checkpoint", lambda path, state: (
        saved.append((path.name, state["training"]["step"], state["training"]["best"])), save(path, state)))
    run("--max_steps 5 --eval_every 1")
    assert [s for s in saved if s[0] == "best.pt"] == [("best.pt", 0, 9.0), ("best.pt", 1, 6.0), ("best.pt", 4, 3.0)]


def test_resumed_run_does_not_replace_a_better_best(run):
    run("--save_every 2")
    better = load("run/best.pt")
    better["training"]["best"] = -1.0                                         # a later best than the one in last.pt
    torch.save(better, "run/best.pt")
    before = Path("run/best.pt").read_bytes()
    assert resume("run/last.pt --max_steps 6") == 0
    assert Path("run/best.pt").read_bytes() == before


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_save_is_atomic(tmp_path, monkeypatch, fails):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    path = tmp_path / "last.pt"
    run_module.save_checkpoint(path, {"step": 1})
    monkeypatch.setattr(os, fails, refuse)
    with pytest.raises(train.UsageError, match="No space left"):
        run_module.save_checkpoint(path, {"step": 2})
    assert load(path) == {"step": 1} and [p.name for p in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("damage", [torch.ones(3), {"training": {"best": torch.ones(2)}}, {"training": {}}, None,
                                    {"training": {"best": math.nan}}])
def test_best_that_cannot_be_read_is_kept_and_said(tmp_path, capsys, damage):
    path = tmp_path / "best.pt"
    assert best_loss(path) == math.inf and capsys.readouterr().out == ""
    torch.save(damage, path)
    before = path.read_bytes()
    assert best_loss(path) == math.inf and capsys.readouterr().out.count("best.pt cannot be read: moved to") == 1
    assert not path.exists() and (tmp_path / "earlier-1/best.pt").read_bytes() == before


def test_new_run_keeps_the_earlier_one(run, capsys):
    run()
    before = {p.name: p.read_bytes() for p in Path("run").iterdir()}
    run("--seed 1")
    assert "moved to run/earlier-1" in capsys.readouterr().out
    assert {p.name: p.read_bytes() for p in Path("run/earlier-1").iterdir()} == before
    run("--seed 2")
    assert Path("run/earlier-2/last.pt").is_file() and len(rows()) == 6


@pytest.mark.parametrize("flags", ["--dataset none.jsonl", "--lr 0", "--d_model 63", "--device nonsense",
                                   "--accumulation_steps 100", "--resume none.pt"])
def test_failing_run_touches_nothing(run, flags):
    run()
    before = {p.name: p.read_bytes() for p in Path("run").iterdir()}
    assert run(flags) == 2
    assert {p.name: p.read_bytes() for p in Path("run").iterdir()} == before


# ---- exactness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags, first, total", [
    ("", 2, 4),                                                               # in the middle of an epoch
    ("--dropout 0.2", 2, 4),
    ("--dropout 0.2", 5, 9),                                                  # over the end of an epoch (6 steps)
    ("--dropout 0.1", 6, 8),                                                  # from the end of an epoch
    ("--accumulation_steps 3 --batch_size 4 --dropout 0.1", 3, 6),            # 4 steps an epoch
    ("--num_workers 2 --dropout 0.1", 2, 4),
    ("--bf16", 2, 4),
    ("--fp16", 2, 4),
])
def test_stopped_and_resumed_equals_uninterrupted(run, monkeypatch, flags, first, total):
    whole, parts = whole_and_in_parts(run, monkeypatch, f"{flags} --max_steps {total}", first)
    for key in ("model", "config", "tokenizer"):
        assert_same(whole[key], parts[key], key)
    for key in ("optimizer", "scaler", "rng", "step", "best", "skipped", "data_content"):
        assert_same(whole["training"][key], parts["training"][key], key)
    assert rows("whole")[-1] == rows("parts")[-1]                             # the evaluation
    loss = lambda name: {row["step"]: row["loss"] for row in rows(name) if "loss" in row}
    assert loss("whole") == loss("parts") and len(loss("whole")) == total


def test_same_seed_same_run_other_seed_other_run(run):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(f"--seed {seed} --dropout 0.1", name)
    a, b, c = (load(f"{name}/last.pt") for name in "abc")
    assert_same(a["model"], b["model"])
    assert not torch.equal(a["model"]["encoder.text_code"], c["model"]["encoder.text_code"])


def test_evaluating_does_not_change_the_run(run):
    run("--dropout 0.1 --eval_every 1", "often")
    run("--dropout 0.1 --eval_every -1 --show_samples 0 --save_every 1 --log_every 3", "seldom")
    assert_same(load("often/last.pt")["model"], load("seldom/last.pt")["model"])


def test_accumulation_equals_one_large_batch(run):
    # Every text has the same number of tokens, so the mean of means is the mean. Its first one is a whole character.
    Path("plain.jsonl").write_text("".join(json.dumps({"text": f"{'abcdefgh'[i % 8]} {i}"}) + "\n" for i in range(52)))
    common = ("--dataset plain.jsonl --max_seq_len 2 --max_steps 1 --random_text_share 0 --unusual_text_share 0 "
              "--meaning_share 0 --blank_share 0 --seed 3")
    run(f"{common} --batch_size 48", "large")
    run(f"{common} --batch_size 16 --accumulation_steps 3", "small")
    large, small = ([row for row in rows(name) if "loss" in row][0] for name in ("large", "small"))
    assert small["loss"] == pytest.approx(large["loss"], rel=1e-4)
    assert small["grad_norm"] == pytest.approx(large["grad_norm"], rel=1e-3)


def test_shares_of_a_batch(run, monkeypatch):
    """48 rows: 12 without grid and tiles, and these are no random texts."""
    seen, forward = [], train.WheelerTextAutoencoder.forward
    monkeypatch.setattr(train.WheelerTextAutoencoder, "forward", lambda self, ids, mask=None, *rows, **named: (
        seen.append((len(ids), rows, ids)) if self.training else None, forward(self, ids, mask, *rows, **named))[1])
    run("--max_steps 1 --batch_size 48 --meaning_share 0.125 --blank_share 0.25 --random_text_share 1")
    (count, (tiles, blank_rows), ids), = seen
    assert (count, blank_rows) == (48, 12) and len(tiles) == 6 and 1 <= tiles.min() and tiles.max() <= 3
    tokenizer = WheelerTextAutoencoder.load_from_checkpoint("run/last.pt").tokenizer
    stories = [tokenizer.decode(row, skip_special_tokens=True) for row in ids.tolist()]
    assert all(" " in story for story in stories[30:]) and len(set(ids[:30].flatten().tolist())) > 100


def test_numbers_of_tiles_are_drawn_alike_again():
    model = WheelerTextAutoencoder(WheelerConfig(vocab_size=300, grid_size=32, d_model=64, max_seq_len=16,
                                                 encoder_layers=1, grid_layers=0, decoder_layers=1))
    drawn = step.draw_tiles(model, 400, 0, 5, 1)
    assert torch.equal(drawn, step.draw_tiles(model, 400, 0, 5, 1)) and set(drawn.tolist()) == set(range(1, 16))
    assert not torch.equal(drawn, step.draw_tiles(model, 400, 0, 6, 1))


def test_a_step_is_taken_at_the_rates_of_the_parts(run):
    run("--max_steps 1 --lr 1e-3 --warmup_steps 0")
    groups = load("run/last.pt")["training"]["optimizer"]["param_groups"]
    rates = {(group["factor"], round(group["lr"], 9)) for group in groups}
    assert rates == {(0.05, 5e-5), (1.0, 1e-3), (3.0, 3e-3), (10.0, 1e-2)}


def test_a_teacher_starts_the_meaning(run, tmp_path, capsys):
    from transformers import BertConfig, BertModel

    folder = tmp_path / "teacher"
    train_tokenizer(stories("train", 60), 300).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                         intermediate_size=16)).save_pretrained(folder)
    assert run(f"--max_steps 1 --lr 1e-9 --teacher {folder}", "taught") == run("--max_steps 1 --lr 1e-9", "plain") == 0
    taught, plain = (load(f"{name}/last.pt")["model"] for name in ("taught", "plain"))
    assert (taught["meaning.table.weight"] - plain["meaning.table.weight"]).abs().max() > 0.1
    assert torch.equal(taught["meaning.weight"], plain["meaning.weight"])
    capsys.readouterr()
    assert run("--teacher /nowhere") == 2 and "--teacher /nowhere: it cannot be loaded" in capsys.readouterr().err
    assert run(f"--teacher {folder} --no-aligned_start") == 2 and "--teacher" in capsys.readouterr().err


def test_padding_never_counts_in_the_loss(run, monkeypatch):
    """The first logged loss equals the mean over text tokens, one text at a time and without padding."""
    taken, states, item, save = [], [], train.EpochBatches.__getitem__, run_module.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(train.EpochBatches, "__getitem__", lambda self, i: taken.append(item(self, i)) or taken[-1])
        patch.setattr(run_module, "save_checkpoint", lambda path, state: (states.append(path.name), save(path, state)))
        stop_after(patch, 1)
        run("--max_steps 2 --blank_share 0 --meaning_share 0")
    assert states == ["best.pt", "last.pt"]                                   # best.pt has the weights of step 0
    model = WheelerTextAutoencoder.load_from_checkpoint("run/best.pt")
    (ids, mask), total, count = taken[0], 0.0, 0
    assert not mask.all()
    for row, keep in zip(ids, mask, strict=True):
        text = row[keep][None]
        logits, _ = model(text)
        total += F.cross_entropy(logits[0], text[0], reduction="sum").item()
        count += len(text[0])
    assert next(row for row in rows() if "loss" in row)["loss"] == pytest.approx(total / count, rel=1e-4)


# ---- resuming -------------------------------------------------------------------------------------------------------


def test_resume_goes_on_with_flags_and_folder_of_the_checkpoint(run):
    run("--lr 1e-3 --blank_share 0.5 --weight_decay 0.5", "runs/a")
    assert resume("runs/a/last.pt --max_steps 6") == 0
    assert not Path("checkpoints").exists()
    flags = load("runs/a/last.pt")["training"]["flags"]
    assert (flags["lr"], flags["blank_share"], flags["weight_decay"], flags["max_steps"]) == (1e-3, 0.5, 0.5, 6)
    assert [row["step"] for row in rows("runs/a")] == [0, 1, 2, 3, 4, 4, 5, 6, 6]


def test_bare_resume_uses_the_default_folder(run):
    run(out="checkpoints")
    assert train.main(["--resume", "--max_steps", "5"]) == 0
    assert load("checkpoints/last.pt")["training"]["step"] == 5


def test_resume_into_another_folder_keeps_both(run):
    run()
    run(out="other")
    before = Path("run/last.pt").read_bytes(), Path("other/last.pt").read_bytes()
    assert resume("run/last.pt --output_dir other --max_steps 6") == 0
    assert (Path("run/last.pt").read_bytes(), Path("other/earlier-1/last.pt").read_bytes()) == before
    assert load("other/best.pt")["training"]["step"] == 6


def test_resume_from_before_the_last_state_keeps_it(run, capsys):
    run("--max_steps 2")
    earlier = load("run/last.pt")
    assert resume("run/last.pt --max_steps 4 --eval_every 1") == 0 and not Path("run/earlier-1").exists()
    torch.save(earlier, "run/best.pt")
    before = {p.name: p.read_bytes() for p in Path("run").iterdir()}
    capsys.readouterr()
    assert resume("run/best.pt --max_steps 6") == 0
    assert "run/last.pt is at step 4, run/best.pt at step 2: moved to run/earlier-1" in capsys.readouterr().out
    assert {p.name: p.read_bytes() for p in Path("run/earlier-1").iterdir()} == before
    assert load("run/last.pt")["training"]["step"] == 6
    loss = lambda found: {row["step"]: row["loss"] for row in found if "loss" in row}
    assert [*loss(read_metrics("run"))] == [1, 2, 3, 4, 5, 6]           # also those from before
    assert loss(read_metrics("run"))[2] == loss(rows("run/earlier-1"))[2]
    Path("run/last.pt").write_text("damaged")
    assert resume("run/best.pt --max_steps 9") == 0 and Path("run/earlier-2/last.pt").read_text() == "damaged"


def test_resume_names_what_does_not_fit(run, shared, capsys):
    run()
    capsys.readouterr()
    for flags, message in (("", "at step 4"), ("--max_steps 3", "at step 4"), ("--d_model 128", "--d_model 128"),
                           ("--vocab_size 600", "--vocab_size 600"), ("--tokenizer x", "--tokenizer x"),
                           (f"--max_steps 9 --dataset {shared / 'b.jsonl'}", "not what the checkpoint was trained on"),
                           ("--max_steps 9 --max_train_samples 20", "--max_train_samples")):
        assert resume(f"run/last.pt {flags}") == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_resume_with_the_other_precision(run):
    run("--fp16")
    assert resume("run/last.pt --max_steps 5 --bf16") == 0
    flags = load("run/last.pt")["training"]["flags"]
    assert flags["bf16"] and not flags["fp16"]


def test_foreign_and_damaged_checkpoints_give_one_line(run, capsys):
    run()
    whole, good = Path("run/last.pt").read_bytes(), load("run/last.pt")
    Path("half.pt").write_bytes(whole[: len(whole) // 2])
    Path("text.pt").write_text("hello")
    foreign = {"tensor": torch.ones(2), "list": [1], "weights": {"a": torch.ones(2)}, "empty": {"training": {}},
               "model": {k: v for k, v in good.items() if k != "training"}, "version": good | {"format_version": 99},
               "earlier": good | {"format_version": 1},
               "optimizer": good | {"training": good["training"] | {"optimizer": {}}},
               "config": good | {"config": good["config"] | {"d_model": torch.ones(2)}},
               "notok": good | {"tokenizer": None},
               "badtok": good | {"tokenizer": good["tokenizer"] | {"json": "x"}}, "names": good | {"model": {}}}
    for name, state in foreign.items():
        torch.save(state, f"{name}.pt")
    capsys.readouterr()
    for name in ("half", "text", "nowhere", *foreign):
        assert resume(f"{name}.pt --max_steps 9 --output_dir new") == 2, name
        error = capsys.readouterr().err
        assert error.startswith("train.py: ") and error.count("\n") == 1, error
        assert "weights_only" not in error
    assert not list(Path("new").iterdir())


# ---- stopping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_saves_and_says_how_to_go_on(run, monkeypatch, capsys, number):
    before = signal.getsignal(number)
    stop_after(monkeypatch, 2, number)
    assert run() == 128 + number
    assert "python train.py --resume run/last.pt" in capsys.readouterr().out
    assert load("run/last.pt")["training"]["step"] == 2
    assert signal.getsignal(number) is before


def test_a_closed_terminal_costs_no_steps(run, monkeypatch):
    """SIGHUP comes more than once, and what is printed after it is an error."""
    class Closed(io.StringIO):
        def write(self, text):
            raise OSError(5, "Input/output error")

    clip = torch.nn.utils.clip_grad_norm_

    def clip_and_close(*args):
        if not isinstance(sys.stdout, Closed):
            monkeypatch.setattr(sys, "stdout", Closed())
            monkeypatch.setattr(sys, "stderr", Closed())
            for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
                signal.raise_signal(number)
        return clip(*args)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", clip_and_close)
        assert run() == 128 + signal.SIGHUP
    assert load("run/last.pt")["training"]["step"] == 1


def test_nohup_is_respected(run, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop_after(monkeypatch, 2, signal.SIGHUP)
        assert run() == 0 and load("run/last.pt")["training"]["step"] == 4
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signal_in_the_first_evaluation(run, monkeypatch):
    real = run_module.reconstruct
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "reconstruct", lambda *args: (signal.raise_signal(signal.SIGINT)
                                                           if args[3] == "grid" else None, real(*args))[1])
        assert run() == 130
    assert load("run/last.pt")["training"]["step"] == 0
    assert resume("run/last.pt") == 0


def test_second_signal_stops_at_once_and_keeps_the_last_save(run, monkeypatch, capsys):
    stop_after(monkeypatch, 3)
    stop_after(monkeypatch, 3)
    assert run("--save_every 1") == 130
    assert load("run/last.pt")["training"]["step"] == 2
    assert "at once" in capsys.readouterr().err


def test_signal_before_the_first_step(run, monkeypatch, capsys):
    monkeypatch.setattr(opening, "load_texts", lambda *args: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)         # in the background it may be ignored
    try:
        assert run() == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "nothing saved" in capsys.readouterr().err


def test_nonfinite_loss_stops_before_it_is_saved(run, capsys):
    assert run("--lr 1e30 --grad_clip 0 --max_steps 30 --warmup_steps 0 --save_every 1 --log_every 20") == 2
    error = capsys.readouterr().err
    assert "nan" in error and "--lr" in error and error.count("train.py:") == 1
    assert all(torch.isfinite(p).all() for p in load("run/last.pt")["model"].values())


def test_nonfinite_gradient_stops_before_it_is_saved(run, monkeypatch, capsys):
    """The loss of a step is from before its update: weights that this update spoiled must not be saved either."""
    clip = torch.nn.utils.clip_grad_norm_

    def overflow(parameters, limit):
        parameters = list(parameters)
        parameters[0].grad.fill_(math.inf)
        return clip(parameters, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", overflow)
    assert run("--save_every 1") == 2
    assert "gradient norm" in capsys.readouterr().err and not Path("run/last.pt").exists()


def test_fp16_leaves_out_steps_that_overflow(run, monkeypatch):
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *args, **flags: scaler(*args, init_scale=2.0**40, **flags))
    assert run("--fp16 --save_every 1") == 0
    assert load("run/last.pt")["training"]["skipped"] == 4 == rows()[-2]["skipped_steps"]
    assert rows()[-2]["grad_norm"] is None and "NaN" not in Path("run/metrics.jsonl").read_text()
    assert train.main("--plot run --output_dir run".split()) == 0
    assert_same(load("run/last.pt")["model"], load("run/best.pt")["model"])   # nothing was learned, nothing spoiled


def test_a_bug_keeps_its_traceback(run, monkeypatch):
    """A ValueError of torch, of Python, or of a worker is no word for the person at the command line."""
    def mismatch(self, ids, *args):
        return F.cross_entropy(torch.zeros(2, 3), torch.zeros(5).long())

    with monkeypatch.context() as patch, pytest.raises(ValueError, match="batch_size"):
        patch.setattr(train.TokenLoss, "forward", mismatch)
        run()
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="invalid literal"):
        patch.setattr(train.EpochBatches, "__getitem__", lambda self, i: int("x"))
        run("--num_workers 1")


def test_memory_error_before_the_flags_are_read():
    assert explain(MemoryError(), None).startswith("out of memory (MemoryError): lower --batch_size")


# ---- flags ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags, message", [
    ("--batch_size 0", "--batch_size 0 must be at least 1"), ("--max_steps 0", "--max_steps 0"),
    ("--epochs 0", "--epochs 0"), ("--accumulation_steps 0", "--accumulation_steps 0"), ("--lr nan", "--lr nan"),
    ("--lr inf", "--lr inf"), ("--weight_decay inf", "--weight_decay inf"), ("--weight_decay -1", "--weight_decay -1"),
    ("--grad_clip nan", "--grad_clip nan"), ("--blank_share 1.1", "--blank_share 1.1"),
    ("--seed -1", "--seed -1"), ("--meaning_share -0.1", "--meaning_share -0.1"),
    ("--meaning_share 0.8 --blank_share 0.3", "--meaning_share 0.8 and --blank_share 0.3 add up to more than 1"),
    (f"--seed {2**63}", f"--seed {2**63}"), ("--dropout 1", "dropout = 1.0"), ("--max_seq_len 1", "--max_seq_len 1"),
    ("--random_text_share nan", "--random_text_share nan"), ("--eval_every 0", "--eval_every 0"),
    ("--max_train_samples 0", "--max_train_samples 0"), ("--fp16 --bf16", "--fp16 and --bf16"),
    ("--vocab_size 258", "--vocab_size 258 must be in 259 .. 1048576"),
    ("--vocab_size 99999999999999999999999", "must be in 259 .. 1048576"), ("--patch_size 3", "patch_size = 3"),
    ("--num_heads 7", "num_heads = 7"), ("--device nonsense", "--device nonsense"), ("--num_workers -1", "-1"),
    ("--output_dir /dev/null/x", "--output_dir /dev/null/x"), ("--cache_dir /dev/null/x", "--cache_dir /dev/null/x"),
    ("--tokenizer /dev/null/x", "--tokenizer /dev/null/x"), ("--plot nowhere", "--plot nowhere"),
    ("--text_column no", "'no'"), ("--accumulation_steps 9", "--accumulation_steps 9 x --batch_size 8"),
    ("--grid_size 1000000 --patch_size 1", "memory"),
])
def test_bad_flags_give_one_line(run, capsys, flags, message):
    assert run(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("train.py: ") and message in error and error.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_a_gpu(run, capsys):
    assert run("--device cuda") == 2
    assert "--device cuda" in capsys.readouterr().err


def test_a_value_of_two_lines_gives_one(run, capsys):
    assert train.main(["--dataset", "a\nb.jsonl", "--max_steps", "1"]) == 2
    assert capsys.readouterr().err == "train.py: --dataset a b.jsonl: no such file\n"


@pytest.mark.parametrize("flags", ["--batch_size x", "--plot", "--long_texts maybe", "--nonsense"])
def test_flags_that_cannot_be_read(run, capsys, flags):
    with pytest.raises(SystemExit, match="2"):
        run(flags)
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and "error: " in error[0] and flags.split()[0] in error[0]


def test_epochs_and_small_data(run, capsys):
    assert run("--epochs 2 --max_steps -1", "epochs") == 0
    assert load("epochs/last.pt")["training"]["step"] == 12
    assert run("--max_train_samples 3", "few") == 0
    assert "--batch_size 8 is more than the 3 training texts" in capsys.readouterr().out
    assert run("--eval_samples 1000", "eval") == 0
    assert rows("eval")[0]["grid/n"] == 3


def test_tokenizer_of_a_folder_sets_the_vocabulary(run, tmp_path):
    train_tokenizer(stories("train", 20), 300).save_pretrained(tmp_path / "tok")
    assert run(f"--tokenizer {tmp_path / 'tok'}") == 0
    assert load("run/last.pt")["config"]["vocab_size"] == 300
    assert resume("run/last.pt --max_steps 5") == 0


def test_get_lr():
    args = build_parser().parse_args(["--lr", "1.0", "--warmup_steps", "10"])
    rates = [step.get_lr(i, args, 110) for i in range(111)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0 and rates[60] == pytest.approx(0.55) and rates[110] == pytest.approx(0.1)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:]))
    assert step.get_lr(500, args, 110) == pytest.approx(0.1)
    args.warmup_steps = 0
    assert step.get_lr(0, args, 10) == 1.0 and math.isfinite(step.get_lr(0, args, 0))


def test_weight_decay_only_on_linear_layers(run):
    run()
    args = build_parser().parse_args(["--weight_decay", "0.3"])
    model = WheelerTextAutoencoder.load_from_checkpoint("run/last.pt")
    groups = step.make_optimizer(model, args).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert {group["weight_decay"] for group in groups} == {0.3, 0.0}
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(names)
    decayed, free = ({names[id(p)] for group in groups if group["weight_decay"] == decay for p in group["params"]}
                     for decay in (0.3, 0.0))
    assert {"encoder.embedding.weight", "encoder.text_code", "encoder.norm_out.weight", "meaning.table.weight"} <= free
    assert all(p.dim() == 2 for name, p in model.named_parameters() if name in decayed)
    assert not any("embedding" in name for name in decayed)


def test_parts_have_learning_rates_of_their_own(run):
    args = build_parser().parse_args([])
    run("--max_steps 1")
    model = WheelerTextAutoencoder.load_from_checkpoint("run/last.pt")
    factors = {id(p): group["factor"] for group in step.make_optimizer(model, args).param_groups
               for p in group["params"]}
    names = {name: factors[id(p)] for name, p in model.named_parameters()}
    count = {factor: sum(value == factor for value in names.values()) for factor in (0.05, 1, 3, 10)}
    assert count[0.05] == 4 and count[3] == 2 and count[10] == 4 and sum(count.values()) == len(names)
    for name, factor in {"meaning.table.weight": 0.05, "decoder.language_head.weight": 3, "encoder.embedding.weight": 1,
                         "decoder.layers.0.mlp.up.weight": 10, "decoder.layers.0.cross.value.weight": 1,
                         "encoder.layers.0.mlp.up.weight": 1}.items():
        assert names[name] == factor, name
    groups = load("run/last.pt")["training"]["optimizer"]["param_groups"]
    assert all(group["lr"] == pytest.approx(group["factor"] * 3e-4 / 100) for group in groups)  # one step of warm-up


def test_wandb_is_imported_only_when_asked(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)                           # any import fails
    assert run() == 0
    before = Path("run/last.pt").read_bytes()
    assert run("--wandb") == 2
    assert "--wandb" in capsys.readouterr().err and Path("run/last.pt").read_bytes() == before


def test_a_resumed_run_goes_on_in_wandb(run, monkeypatch):
    calls = []

    class Stand:
        def __init__(self, id=None, **flags):
            self.id, self.logged = id or f"new{len(calls)}", []
            calls.append((self, flags.get("resume")))

        def log(self, row, step):
            self.logged.append(step)

        def finish(self):
            pass

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=Stand))
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert run("--wandb") == 130
    assert resume("run/last.pt --max_steps 3") == 0
    assert [(one.id, how) for one, how in calls] == [("new0", None), ("new0", "allow")]
    assert set(calls[1][0].logged) == {3} and load("run/last.pt")["training"]["wandb"] == "new0"
    assert resume("run/last.pt --max_steps 4 --output_dir branch") == 0       # another run, which began there
    assert [(one.id, how) for one, how in calls[2:]] == [("new2", None)]
    assert load("branch/last.pt")["training"]["wandb"] == "new2"


def test_plot(run):
    run(out="a")
    run(out="b")
    with open("a/metrics.jsonl", "a") as file:
        file.write('{"step": "5", "loss": 1}\n{"step": 5, "loss": null}\n{"step": 6, "lo')     # as a crash leaves it
    assert train.main("--plot a b".split()) == 0
    assert Path("a/curves.png").read_bytes().startswith(b"\x89PNG")


def test_metrics_after_a_resume_replace_the_lost_ones(tmp_path):
    steps = [0, 1, 2, 3, 4, 2, 3]                                             # killed at 4, resumed from 1
    (tmp_path / "metrics.jsonl").write_text("".join(f'{{"step": {s}, "loss": {i}}}\n' for i, s in enumerate(steps)))
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [(0, 0), (1, 1), (2, 5), (3, 6)]


def test_metrics_have_one_row_of_a_kind_a_step(tmp_path):
    """Killed at 4, resumed from 3: the first step of the second process is the last one of the first."""
    kinds = [(3, "loss"), (4, "loss"), (4, "validation_loss"), (4, "loss"), (4, "validation_loss"), (5, "loss")]
    (tmp_path / "metrics.jsonl").write_text("".join(f'{{"step": {s}, "{k}": {i}}}\n' for i, (s, k) in enumerate(kinds)))
    assert read_metrics(tmp_path) == [{"step": s, k: i} for i, (s, k) in enumerate(kinds) if i not in (1, 2)]


# ---- the whole thing ------------------------------------------------------------------------------------------------


def test_learns_from_the_usual_start(run):
    assert run("--dataset sample --max_train_samples 400 --no-aligned_start --max_steps 40 --batch_size 16 --lr 3e-3 "
               "--warmup_steps 5 --log_every 40 --eval_samples 32") == 0
    first, last = (row["validation_loss"] for row in rows() if "validation_loss" in row)
    assert first > 5 and last < 0.85 * first


def test_command_stopped_by_ctrl_c_goes_on(shared, tmp_path):
    """Two real processes with workers: the first is interrupted as a terminal does it, the second resumes."""
    command, environment = [sys.executable, str(ROOT / "train.py")], os.environ | {"OMP_NUM_THREADS": "1"}
    flags = [*TINY, "--dataset", str(shared / "a.jsonl"), "--cache_dir", str(shared / "cache"), "--max_steps", "100000",
             "--num_workers", "2", "--output_dir", "run"]
    with subprocess.Popen([*command, *flags], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            metrics = tmp_path / "run" / "metrics.jsonl"
            if metrics.is_file() and metrics.read_text().count("\n") > 4:
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error and "python train.py --resume run/last.pt" in out
    assert error.count("stopping after this step") == 1                       # from the run, not from its workers
    step = load(tmp_path / "run/last.pt")["training"]["step"]
    done = subprocess.run([*command, "--resume", "run/last.pt", "--max_steps", str(step + 2), "--num_workers", "0"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "run/last.pt")["training"]["step"] == step + 2


@pytest.mark.slow
def test_compiled_run_has_clean_checkpoint_keys(run):
    assert run("--compile --max_steps 2") == 0
    run(out="plain")
    assert load("run/last.pt")["model"].keys() == load("plain/last.pt")["model"].keys()
    assert resume("run/last.pt --max_steps 3 --no-compile") == 0


# ---- streaming, fine-tuning, precision, compile ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def streamed(shared, tmp_path_factory):
    """last.pt of a streamed run."""
    folder = tmp_path_factory.mktemp("streamed")
    assert train.main([*TINY, "--streaming", "--dataset", str(shared / "a.jsonl"), "--cache_dir", str(shared / "cache"),
                       "--output_dir", str(folder)]) == 0
    return folder / "last.pt"


@pytest.mark.parametrize("first", [2, 3, 7])                                  # in a block, at its end, in the next pass
def test_streamed_run_resumes_exactly(run, monkeypatch, first):
    """Blocks of 30 rows, 3 steps each: 49 texts are two blocks."""
    from wheeler.training import data

    monkeypatch.setattr(data.TextStream.block, "__defaults__", (30,))
    whole, parts = whole_and_in_parts(run, monkeypatch, "--streaming --max_steps 9 --dropout 0.1", first)
    assert_same(whole["model"], parts["model"])
    assert_same(whole["training"]["stream"], parts["training"]["stream"])
    assert whole["training"]["stream"]["number"] >= 3


def test_streaming_caches_no_training_text(run, tmp_path):
    assert run(f"--streaming --cache_dir {tmp_path / 'cache'}") == 0
    sizes = [len((folder / "tokens.bin").read_bytes()) for folder in (tmp_path / "cache").iterdir() if folder.is_dir()]
    assert len(sizes) == 1 and sizes[0] < 3 * 16 * 2 + 1                      # three unseen texts


@pytest.mark.slow
def test_bad_line_deep_in_a_stream_costs_no_step(run, capsys, shared, tmp_path, monkeypatch):
    """Blocks of 30 rows: the second one has a null, which is an empty text, the third one half a line."""
    from wheeler.training import data

    monkeypatch.setattr(data.TextStream.block, "__defaults__", (30,))
    for name in ("TOKENIZER_TEXTS", "ROUND_TRIP_TEXTS"):
        monkeypatch.setattr(opening, name, 30)                                # what is read at the start
    lines = (shared / "a.jsonl").read_text().splitlines() * 2
    lines[40], lines[70] = '{"text": null}', '{"text": "half a li'
    (tmp_path / "deep").mkdir()
    file, front = tmp_path / "deep" / "train.jsonl", " " * 2**20 + "\n"
    file.write_text(front + "\n".join(lines))
    (tmp_path / "deep" / "validation.jsonl").write_text("\n".join(lines[:3]))
    assert run("--streaming --dataset deep --max_steps 9") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    at = len(front) + sum(len(line) + 1 for line in lines[:70])
    assert error.startswith(f"train.py: --dataset deep/train.jsonl: line at byte {at:,} is not a JSON object")
    assert error.endswith(": stopped at step 6, saved run/last.pt; --resume goes on when it can be read")
    assert load("run/last.pt")["training"]["step"] == 6
    assert resume("run/last.pt") == 2 and "stopped at step 6, saved" in capsys.readouterr().err
    file.write_text(front + "\n".join([*lines[:70], " " * len(lines[70]), *lines[71:]]))
    assert resume("run/last.pt") == 0 and load("run/last.pt")["training"]["step"] == 9


@pytest.mark.parametrize("key, value", [
    (None, torch.ones(3)), (None, None), (None, {}), ("number", 1.5), ("number", -1), ("done", True), ("done", -1),
    ("position", 3), ("row", -1), ("row", torch.ones(1)), ("at", 10**30), ("at", "x"), ("at", None),
])
def test_damaged_place_in_a_stream_is_one_line(run, capsys, streamed, key, value):
    checkpoint = load(streamed)
    place = checkpoint["training"]["stream"]
    if key is None:
        checkpoint["training"]["stream"] = value
    else:
        (place["position"] if key in ("row", "at") else place)[key] = value
    torch.save(checkpoint, "bad.pt")
    assert resume("bad.pt --max_steps 5") == 2
    assert capsys.readouterr().err == "train.py: --resume bad.pt: its place in the stream is damaged\n"


def test_stream_of_other_data_is_not_resumed(run, capsys, shared, streamed):
    """What is held out is the same, what is trained on is not."""
    lines = (shared / "a.jsonl").read_text().splitlines(keepends=True)
    Path("other.jsonl").write_text("".join([*lines[:5], *lines[6:]]) + lines[5])
    for flags, message in (("--dataset other.jsonl", "other.jsonl is not what the checkpoint was trained on"),
                           ("--max_train_samples 3", "--max_train_samples differ")):
        assert resume(f"{streamed} --max_steps 5 --output_dir new {flags}") == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert resume(f"{streamed} --max_steps 5 --output_dir new") == 0


def test_streaming_names_what_it_needs(run, capsys):
    for flags, message in (("--max_steps -1", "--streaming needs --max_steps"), ("--num_workers 1", "--num_workers 1"),
                           ("--dataset sample", "--streaming out")):
        assert run(f"--streaming {flags}") == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert run() == 0
    assert resume("run/last.pt --streaming --max_steps 9") == 2


def test_init_from_starts_a_new_run_from_weights(run, shared, tmp_path):
    run("--lr 1e-2 --warmup_steps 0")
    old = load("run/last.pt")
    WheelerTextAutoencoder.load_from_checkpoint("run/last.pt").save_pretrained(tmp_path / "pretrained")
    flags = ["--dataset", str(shared / "b.jsonl"), "--cache_dir", str(shared / "cache"), *"--max_steps 1".split(),
             *"--device cpu --eval_samples 2 --save_every 1 --batch_size 8 --lr 1e-9 --dropout 0.25".split()]
    for source, name in (("run/last.pt", "a"), ("pretrained", "b"), ("run", "c")):
        assert train.main(["--init_from", source, "--output_dir", name, *flags]) == 0
        new = load(f"{name}/last.pt")
        assert new["training"]["step"] == 1 and new["config"] == old["config"] | {"dropout": 0.25}
        assert new["tokenizer"] == old["tokenizer"] and new["training"]["flags"]["d_model"] == 64
        if name != "c":                                                       # best.pt may be of another step
            for key, weight in old["model"].items():
                torch.testing.assert_close(new["model"][key], weight, atol=1e-6, rtol=0)
    moment = next(iter(new["training"]["optimizer"]["state"].values()))
    assert moment["step"] == 1                                                # a fresh optimiser
    assert resume("a/last.pt --max_steps 2") == 0


def test_init_from_takes_the_model_that_comes_with_the_project(run, monkeypatch):
    """It is a folder of shards, and stands in for a best.pt that is not there."""
    run()
    monkeypatch.setattr("models.SHARD_SIZE", "200KB")
    model = WheelerTextAutoencoder.load_from_checkpoint("run/last.pt")
    model.save_pretrained(Path("kept") / SHIPPED)
    assert not (Path("kept") / SHIPPED / "model.safetensors").exists()
    for source in ("kept/best.pt", "kept", f"kept/{SHIPPED}"):
        _, checkpoint = parse(["--init_from", source])
        assert checkpoint["model"].keys() == model.state_dict().keys() and checkpoint["tokenizer"]
        assert all(torch.equal(weight, model.state_dict()[key]) for key, weight in checkpoint["model"].items())


def test_small_vocabularies_go_on(run):
    """What no tokenizer would be trained for: 259 is the least for one that is trained here."""
    run()
    checkpoint = load("run/last.pt")
    checkpoint["config"]["vocab_size"] = 40
    torch.save(checkpoint, "small.pt")
    assert parse(["--init_from", "small.pt"])[0].vocab_size == 40
    with pytest.raises(train.UsageError, match="--vocab_size 40 must be in 259 .. 1048576"):
        parse(["--vocab_size", "40"])


def test_init_from_names_what_does_not_fit(run, capsys):
    run()
    Path("empty").mkdir()
    Path("text.pt").write_text("hello")
    odd = load("run/last.pt")
    odd["config"]["grid_size"] = "x"
    torch.save(odd, "odd.pt")
    WheelerTextAutoencoder.load_from_checkpoint("run/last.pt").save_pretrained("folder")
    Path("folder/tokenizer.json").write_text("{}")
    capsys.readouterr()
    for flags, message in (("--init_from none.pt", "no checkpoint at none.pt"),
                           ("--init_from empty", "no checkpoint at empty/best.pt"),
                           ("--init_from text.pt", "not a readable checkpoint"),
                           ("--init_from odd.pt", "its config is damaged (grid_size = 'x' must be int"),
                           ("--init_from folder", "folder is not a readable model"),
                           ("--init_from run/last.pt --d_model 128", "--d_model 128 does not fit --init_from"),
                           ("--init_from run/last.pt --tokenizer x", "--tokenizer x does not fit"),
                           ("--init_from run/last.pt --resume run/last.pt", "exclude each other")):
        assert train.main([*flags.split(), "--output_dir", "new", "--dataset", "sample"]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    assert not Path("new").exists()


def test_skipped_steps_do_not_advance_the_schedule(run, monkeypatch):
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *args, **flags: scaler(*args, init_scale=2.0**26, **flags))
    assert run("--fp16 --max_steps 30 --warmup_steps 30") == 0
    logged = [row for row in rows() if "loss" in row]
    skipped = [row["skipped_steps"] for row in logged]
    assert 0 < skipped[-1] < 25 and skipped[-1] == load("run/last.pt")["training"]["skipped"]
    before = [0, *skipped]
    for i, row in enumerate(logged):
        assert row["lr"] == pytest.approx(3e-4 * (i - before[i] + 1) / 30)


def test_gradients_that_always_overflow_stop_the_run(run, monkeypatch, capsys):
    monkeypatch.setattr(train, "LEAST_LOSS_SCALE", 2.0**14)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args: torch.tensor(math.inf))
    monkeypatch.setattr(torch.amp.GradScaler, "get_scale", lambda self: 2.0**13)
    assert run("--fp16") == 2
    assert "overflow float16" in capsys.readouterr().err and not Path("run/last.pt").exists()


def test_evaluation_runs_in_the_precision_of_training(run, monkeypatch):
    seen = []
    monkeypatch.setattr(run_module, "reconstruct", lambda *args, real=run_module.reconstruct: (seen.append(
        torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32), real(*args))[1])
    for flags, precision in (("", torch.float32), ("--fp16", torch.float16), ("--bf16", torch.bfloat16)):
        seen.clear()
        run(f"{flags} --max_steps 1")
        assert set(seen) == {precision}
    assert resume("run/last.pt --max_steps 2 --no-bf16") == 0
    assert seen[-1] == torch.float32 and not load("run/last.pt")["training"]["flags"]["bf16"]


def test_grad_checkpointing_changes_no_number(run, monkeypatch):
    calls = []
    monkeypatch.setattr(layers, "recomputed", lambda *args, real=layers.recomputed, **flags: (
        calls.append(1), real(*args, **flags))[1])
    run("--dropout 0.2", "plain")
    assert not calls
    run("--dropout 0.2 --grad_checkpointing", "less")
    assert len(calls) == 4 * 4                                                # encoder; decoder of grid, tiles, nothing
    assert_same(load("plain/last.pt")["model"], load("less/last.pt")["model"])


@pytest.mark.slow
def test_recompiles_are_counted_and_bounded(run, monkeypatch, shared):
    """Without a C++ compiler: graphs are traced, counted, and run as they are. Two lengths; evaluations of any."""

    compile_model = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **flags: compile_model(self, backend="eager", **flags))
    monkeypatch.setattr(train, "compiler_problem", lambda device: None)
    torch._dynamo.reset()
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 8)
    flags = "--max_seq_len 128 --max_steps 6 --eval_every 2 --long_texts split --dataset sample --max_train_samples 60"
    assert run(f"{flags} --compile", "compiled") == 0
    assert [row["compiled_graphs"] for row in rows("compiled") if "loss" in row][-1] == 2      # 64 and 128 tokens
    assert torch._dynamo.config.recompile_limit == 2
    run(flags, "plain")
    losses = lambda name: [row["loss"] for row in rows(name) if "loss" in row]
    assert losses("compiled") == pytest.approx(losses("plain"), rel=1e-4)
    assert load("compiled/last.pt")["model"].keys() == load("plain/last.pt")["model"].keys()


def test_without_a_compiler_the_run_goes_on(run, monkeypatch, capsys):
    def missing(*args, **flags):
        raise RuntimeError("no C++ compiler\nx")

    monkeypatch.setattr(torch, "compile", missing)
    assert run("--compile") == 0
    assert capsys.readouterr().out.count("--compile: no working compiler here (no C++ compiler); going on without") == 1


def test_wandb_disabled(run, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert run("--wandb") == 0 and Path("run/metrics.jsonl").is_file()


@pytest.mark.slow
def test_wandb_offline(run, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert run("--wandb") == 0 and list(Path("run/wandb").glob("offline-run-*"))


@pytest.mark.slow
def test_fp16_reads_back_as_much_as_fp32(run):
    """From the aligned start: training and reading in float16 lose no text that float32 reads; bfloat16 is close."""
    scores = {}
    for precision in ("", "--fp16", "--bf16"):
        assert run("--dataset sample --grid_size 16 --max_seq_len 16 --vocab_size 300 --long_texts split --lr 1e-3 "
                   "--blank_share 0 --max_steps 25 --batch_size 16 --warmup_steps 20 --log_every 5 "
                   f"--eval_samples 64 {precision}", f"run{precision}") == 0
        scores[precision] = rows(f"run{precision}")[-1]["grid/exact_match"]
    assert scores[""] > 0.9 and scores["--fp16"] == scores[""] and scores["--bf16"] > 0.9
