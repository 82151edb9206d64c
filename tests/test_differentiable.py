"""The dynamics on tensors: the same bits as the numba kernels and the oracle, and the straight-through gradient."""

import naive
import numpy as np
import pytest
import torch

import wheeler_cpu
from wheeler.dynamics import kernels
from wheeler.dynamics.differentiable import _still, settle, through, tick

TIES = ["min", "max", "none"]


def frames_of(kind, dtype, count=6, shape=(7, 18), seed=0):
    rng = np.random.default_rng(seed)
    if kind == "uniform":
        values = rng.uniform(-1, 1, (count, *shape))
    elif kind == "levels":
        values = rng.integers(-2, 3, (count, *shape)) / 2
    else:
        tiny = torch.finfo(dtype).smallest_normal / 2**20
        values = rng.choice([0.0, -0.0, tiny, -tiny, 1, -1], (count, *shape))
    return torch.tensor(values, dtype=dtype)


def same(a, b):
    kind = {4: torch.int32, 8: torch.int64}[a.itemsize]
    return a.dtype == b.dtype and torch.equal(a.contiguous().view(kind), b.contiguous().view(kind))


@pytest.mark.parametrize("tie", TIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["uniform", "levels", "tiny"])
def test_tick_has_the_bits_of_the_oracle(kind, dtype, tie):
    frames = frames_of(kind, dtype)
    expected = np.stack([naive.tick(f.numpy(), tie) for f in frames])
    assert same(tick(frames, tie), torch.from_numpy(expected))
    assert same(settle(frames, ticks=1, tie_break=tie)[0], torch.from_numpy(expected))


@pytest.mark.parametrize("tie", TIES)
@pytest.mark.parametrize("max_ticks", [7, 130, 1000])
def test_both_backends_agree_to_the_last_bit(tie, max_ticks):
    for dtype in (torch.float32, torch.float64):
        frames = torch.cat([frames_of(kind, dtype) for kind in ("uniform", "levels", "tiny")])
        numba, plain = (settle(frames, max_ticks, tie, backend=b) for b in ("numba", "torch"))
        assert same(numba[0], plain[0]) and torch.equal(numba[1], plain[1]) and torch.equal(numba[2], plain[2])
        assert numba[0].shape == (18, 7, 18) and numba[1].shape == numba[2].shape == (18,)


def test_convergence_is_decided_in_the_exact_order_near_the_tolerance():
    """Random changes scaled so that their mean is the tolerance, give or take a rounding: the oracle's verdict each."""
    rng = np.random.default_rng(0)
    old = torch.zeros(400, 5, 19)
    change = torch.tensor(rng.uniform(0, 1, old.shape))
    change = (change * (1e-4 / change.mean((1, 2), keepdim=True))).float()
    expected = [naive.mean_change(c.numpy(), o.numpy()) < 1e-4 for c, o in zip(change, old)]
    assert 50 < sum(expected) < 350  # a coin toss by construction: any other order would show
    assert _still(change, old).tolist() == expected


def test_oscillation_in_torch_equals_numba():
    from wheeler.dynamics.differentiable import _period

    rng = np.random.default_rng(1)
    maps = rng.integers(-1, 2, (20, 30, 8, 12)).astype(np.int8)
    for b in range(30):
        for c in range(b % 3):
            maps[:, b, c, 2] = np.resize(rng.permutation(np.resize([-1, 0, 1], 2 + b % 9)), 20)
    expected = [kernels._period(np.ascontiguousarray(maps[:, b]), 0) for b in range(30)]
    assert _period(torch.from_numpy(maps)).tolist() == expected and len(set(expected)) > 4


def test_single_frames_and_many_ticks():
    frames = frames_of("uniform", torch.float32)
    for backend in ("numba", "torch"):
        final, ticks, period = settle(frames[0], backend=backend)
        assert final.shape == (7, 18) and ticks.shape == period.shape == () and period == 0
        trajectory = wheeler_cpu.WheelerMemoryCPU(18, 7).run_dynamics(frames[0])
        assert same(final, torch.from_numpy(trajectory.final_frame)) and ticks == trajectory.ticks
        fixed, ticks, period = settle(frames, ticks=9, backend=backend)
        assert same(fixed, torch.from_numpy(wheeler_cpu.tick(frames, 9))) and set(ticks.tolist()) == {9}
        assert set(period.tolist()) == {-1}


def test_gradient_is_straight_through():
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        frames = frames_of("uniform", torch.float32).to(dtype).requires_grad_()
        weight = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
        out = through(frames)
        assert out.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        (out * weight).sum().backward()
        assert frames.grad.dtype == dtype and torch.equal(frames.grad, weight.to(dtype))
        assert same(out.detach(), settle(frames)[0])


def test_gradient_mask_and_clip():
    frames = frames_of("uniform", torch.float32).requires_grad_()
    out = through(frames, ticks=60, mask="sign")
    out.sum().backward()
    kept = (frames < 0) == (out < 0)
    assert 0.2 < kept.float().mean() < 0.95 and torch.equal(frames.grad, kept.float())
    frames.grad = None
    (through(frames, clip=0.5) * torch.linspace(-2, 2, 18)).sum().backward()
    assert torch.equal(frames.grad[0, 0], torch.linspace(-2, 2, 18).clamp(-0.5, 0.5))


def test_under_autocast_the_dynamics_stay_float32():
    frames = frames_of("uniform", torch.float32)
    for backend in ("numba", "torch"):
        with torch.autocast("cpu", torch.bfloat16):
            out = through(frames.requires_grad_(), backend=backend)
        assert out.dtype == torch.float32 and same(out.detach(), settle(frames)[0])


def test_training_step_through_the_dynamics():
    """A frame learns to have a wanted attractor: loss falls and the input is not modified."""
    want = torch.where(torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.2, -1.0, 1.0)
    want = settle(want)[0]
    logits = torch.zeros(2, 8, 8, requires_grad=True)
    losses = []
    for _ in range(60):
        frame = torch.tanh(logits + 0.5)
        before = frame.detach().clone()
        loss = (through(frame) - want).square().mean() + 0.1 * (frame - want).square().mean()
        assert torch.equal(frame.detach(), before)
        (gradient,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= 20 * gradient
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_bad_input():
    good = frames_of("uniform", torch.float32)
    for bad, words in [
        (good * 3, r"must be in \[-1, 1\]"), (good * float("nan"), "nan"), (good.long(), "int64"), (good[:0], "shape"),
        (good[0, 0], "shape"), (good[:, :1], "shape"), (good.numpy(), "ndarray"),
    ]:  # fmt: skip
        for backend in ("numba", "torch"):
            with pytest.raises(ValueError, match=words):
                settle(bad, backend=backend)
    for options in ({"tie_break": "up"}, {"ticks": 0}, {"max_ticks": 0}, {"backend": "cuda"}, {"mask": 1}, {"clip": 0}):
        with pytest.raises(ValueError):
            through(good, **options)


@pytest.mark.slow
def test_compiled_tick_has_the_same_bits_on_the_cpu():
    frames = frames_of("uniform", torch.float32)
    a, b = settle(frames, backend="torch"), settle(frames, backend="torch", compiled=True)
    assert same(a[0], b[0]) and torch.equal(a[1], b[1])


@pytest.mark.gpu
def test_gpu_has_the_bits_of_the_cpu():
    frames = frames_of("uniform", torch.float32, count=64, shape=(64, 64))
    cpu, gpu = settle(frames), settle(frames.cuda())
    assert same(cpu[0], gpu[0].cpu()) and torch.equal(cpu[1], gpu[1].cpu())
    leaf = frames.cuda().requires_grad_()
    with torch.autocast("cuda", torch.float16):
        through(leaf).sum().backward()
    assert torch.equal(leaf.grad, torch.ones_like(leaf))


@pytest.mark.gpu
def test_gpu_compiled_is_close():
    frames = frames_of("uniform", torch.float32, count=64, shape=(64, 64))
    cpu, gpu = settle(frames, ticks=30), settle(frames.cuda(), ticks=30, compiled=True)
    assert (cpu[0] - gpu[0].cpu()).abs().lt(1e-4).float().mean() > 0.99
