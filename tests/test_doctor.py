"""The checks of the machine: they fail when something is wrong, and their figures are those of real steps."""

import re
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest
import torch

import bench
import train
from models import WheelerTextAutoencoder
from wheeler.measure.step_cost import gflop_by_part
from wheeler.model.config import WheelerConfig
from wheeler.training import cost, device, doctor, opening
from wheeler.training.flags import build_parser

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small():
    config = WheelerConfig(vocab_size=512, grid_size=16, d_model=64, max_seq_len=64, encoder_layers=2, decoder_layers=2)
    args = build_parser().parse_args([])
    return WheelerTextAutoencoder(config).train(), args


def test_device_check_passes_here(capsys):
    assert device.main(["cpu"]) == 0
    out = capsys.readouterr().out
    assert out.count("PASS") == 7 and "FAIL" not in out and "fp16 matrix product backward" in out


def test_device_check_before_all_is_installed(monkeypatch, capsys):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(device, "version", missing)
    assert device.main(["cpu"]) == 0 and "transformers not installed" in capsys.readouterr().out


def test_memory_on_no_device_is_one_line(capsys):
    assert bench.main(["memory", "--device", "nonsense"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bench.py: memory: --device nonsense") and error.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_gpu_fails(capsys):
    assert device.main(["rocm"]) == device.main(["cuda"]) == 1
    assert capsys.readouterr().out.count("FAIL  device") == 2


@pytest.mark.parametrize("wrong", ["forward", "backward", "nan"])
def test_wrong_kernels_are_found(monkeypatch, capsys, wrong):
    """An attention that is off by one percent, or has wrong gradients only, or gives NaN."""
    attention = torch.nn.functional.scaled_dot_product_attention

    def broken(q, k, v, **flags):
        y = attention(q, k, v, **flags)
        if wrong == "backward":
            return y + 0.02 * (v.sum() - v.sum().detach())
        return y * (1.01 if wrong == "forward" else float("nan"))

    monkeypatch.setattr(device.F, "scaled_dot_product_attention", broken)
    out = device.Report()
    device.check_kernels(out, CPU)
    text = capsys.readouterr().out
    assert out.failed and ("FAIL  self-attention forward" in text) == (wrong != "backward")
    assert "FAIL  cross-attention backward" in text and "PASS  fp16 matrix product forward" in text


def test_environment_names_what_harms(monkeypatch):
    monkeypatch.setattr(device.os, "getuid", lambda: 1000)
    look = lambda backend, groups=("render", "video"), **variables: device.environment(backend, variables, set(groups))
    assert look("rocm") == look("cuda", groups=()) == look("cpu", CUDA_VISIBLE_DEVICES="") == []
    assert "gfx1201" in look("rocm", HSA_OVERRIDE_GFX_VERSION="12.0.0")[0]
    assert "expandable_segments" in look("rocm", PYTORCH_HIP_ALLOC_CONF="expandable_segments:True")[0]
    assert look("cuda", PYTORCH_CUDA_ALLOC_CONF="expandable_segments:True") == []
    assert "hides every GPU" in look("cuda", CUDA_VISIBLE_DEVICES="")[0]
    assert "groups render" in look("rocm", groups=("video",))[0]
    assert look("cuda", CUDA_LAUNCH_BLOCKING="0") == [] and look("cuda", CUDA_LAUNCH_BLOCKING="1")


def test_memory_is_measured(small):
    model, args = small
    few, many = (cost.step_memory(model, args, CPU, rows, 64) for rows in (16, 64))
    logits = 64 * 64 * 512 * 4
    assert many > 1.4 * few and many > 2 * logits                             # logits and their gradient at least
    model.encoder.grad_checkpointing = model.decoder.grad_checkpointing = True
    less = cost.step_memory(model, args, CPU, 64, 64)
    model.encoder.grad_checkpointing = model.decoder.grad_checkpointing = False
    assert less < 0.9 * many


def test_largest_batch_fits_and_changes_nothing(small, monkeypatch):
    model, args = small
    monkeypatch.setattr(cost, "free_memory", lambda device: 200 * 2**20)
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    rows = cost.largest_batch(model, args, CPU, 64)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state()) and rows % 8 == 0
    assert 0.5 * 200 * 2**20 < cost.step_memory(model, args, CPU, rows, 64) < 200 * 2**20
    monkeypatch.setattr(cost, "free_memory", lambda device: 2**20)
    with pytest.raises(MemoryError, match="not one text"):
        cost.largest_batch(model, args, CPU, 64)


@pytest.fixture
def fake_gpu(monkeypatch):
    """fake_gpu(holds, claims): a GPU that holds so many texts of 1 MiB and has room for `claims`, as it says. The
    tries, and the state that its generator was given back."""
    def gpu(holds, claims):
        tries, given_back = [], []

        def step_memory(model, args, device, rows, length):
            tries.append(rows)
            if device.type == "cuda" and rows > holds:
                raise torch.OutOfMemoryError
            return rows * 2**20

        monkeypatch.setattr(cost, "step_memory", step_memory)
        for module in (cost, doctor):
            monkeypatch.setattr(module, "free_memory", lambda device: claims * 2**20 / cost.SPARE)
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: "before")
        monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: given_back.append(state))
        return tries, given_back

    return gpu


@pytest.mark.parametrize("holds, claims, rows", [(1, 8, 1), (2, 8, 2), (6, 8, 6), (7, 3, 3), (40, 64, 40), (40, 8, 32),
                                                 (20, 32, 16)])
def test_largest_batch_of_a_gpu_is_what_was_seen_to_fit(small, fake_gpu, holds, claims, rows):
    _, given_back = fake_gpu(holds, claims)
    assert cost.largest_batch(*small, torch.device("cuda"), 64) == rows
    assert given_back == ["before"]


def test_processes_share_the_memory_of_a_cpu(small, fake_gpu):
    fake_gpu(0, 64)
    assert [cost.largest_batch(*small, CPU, 64, n) for n in (1, 2, 4)] == [64, 32, 16]
    assert cost.largest_batch(*small, CPU, 64, 8) == 8


def test_auto_batch_of_a_run(run, monkeypatch, capsys):
    sizes = []
    monkeypatch.setattr(opening, "largest_batch", lambda model, args, device, length, processes: (
        sizes.append(length) or 12))
    assert run("--batch_size auto") == 0
    assert "12 texts fit" in capsys.readouterr().out and sizes == [16]
    flags = torch.load("run/last.pt", weights_only=True)["training"]["flags"]
    assert flags["batch_size"] == 12
    assert train.main(["--resume", "run/last.pt", "--max_steps", "5"]) == 0 and sizes == [16]


def test_out_of_memory_names_batch_and_grid(run, monkeypatch, capsys):
    def full(self, *args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(train.TokenLoss, "forward", full)
    assert run() == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    for word in ("--batch_size 8", "--grid_size 16", "20.00 GiB", "--grad_checkpointing", "--batch_size auto"):
        assert word in error


def test_illegal_access_is_no_lack_of_memory(run, monkeypatch):
    def fault(self, *args):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(train.TokenLoss, "forward", fault)
    with pytest.raises(RuntimeError, match="illegal"):
        run()


def test_roofline():
    per_second = cost.samples_per_second(30.0, 64, 20_000_000, 125, 640, 0.25)
    compute, optimizer = 64 * 30e9 / (125e12 * 0.25), 20e6 * 28 / 640e9
    assert per_second == pytest.approx(64 / (compute + optimizer))
    assert cost.samples_per_second(30.0, 64, 20_000_000, 125, 640, 0.5) > 1.9 * per_second


def test_flop_count_is_that_of_bench():
    """The default model without shares costs what bench.py counts for a text from the grid."""
    args = SimpleNamespace(**vars(build_parser().parse_args(["--meaning_share", "0", "--blank_share", "0"])))
    model = WheelerTextAutoencoder(WheelerConfig(grid_size=16, d_model=64, max_seq_len=64, vocab_size=512)).train()
    assert cost.gflop_per_text(model, args, 64) == pytest.approx(gflop_by_part(model)["total"], rel=0.02)


def test_doctor_reports_flags_speed_and_room(run, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "step_seconds", lambda *args, real=doctor.step_seconds: real(*args, budget=0.1))
    assert run("--doctor --bf16") == 0
    out = capsys.readouterr().out
    assert "FAIL" not in out and re.search(r"speed: [\d.]+ texts of 16 tokens a second.*bfloat16", out)
    assert "an epoch of 49 texts takes at most" in out and "GiB free; --batch_size 8 needs about" in out
    monkeypatch.setattr(doctor, "free_memory", lambda device: 1)
    assert run("--doctor") == 1 and "FAIL  memory" in capsys.readouterr().out
    assert run("--doctor --lr 0") == 2


def test_doctor_measures_an_automatic_batch_once_and_on_large_ones(run, capsys, monkeypatch, fake_gpu):
    tries, _ = fake_gpu(0, 64)
    monkeypatch.setattr(doctor, "step_seconds", lambda *args: 1.0)
    asked, largest = [], doctor.largest_batch
    monkeypatch.setattr(doctor, "largest_batch", lambda *args: asked.append(1) or largest(*args))
    assert run("--doctor --batch_size auto") == 0
    assert asked == [1] and set(tries) == {8, 32} and "--batch_size 64 needs" in capsys.readouterr().out
