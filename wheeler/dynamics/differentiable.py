"""The Wheeler dynamics on torch tensors: batched, any device, on the CPU the bits of wheeler_cpu, trainable through.

    from wheeler.dynamics.differentiable import settle, through
    final, ticks, period = settle(frames)          # (B, H, W) to the attractors, no gradient
    attractor = through(frames)                    # the same, with a straight-through gradient
    after = through(frames, ticks=60)              # exactly 60 ticks

The rule and the search are those of wheeler_cpu.py (see its first page). Frames are (B, H, W) or (H, W) in [-1, 1],
taken as float32 (float64 stays float64), also under autocast; gradients come back in the dtype of the input.

On the CPU the numba kernels do the work (backend "numba"). On other devices, and with backend="torch", it is done by
`tick` below in torch operations; both give the same bits on the CPU. On CUDA and ROCm `tick` is compiled with
torch.compile if compiled=True: one kernel a tick, but the GPU compiler may fuse multiply and add, so the last bit can
differ; uncompiled it is a dozen kernels a tick, each correctly rounded.
"""

import torch

from wheeler.dynamics.kernels import CHECK_EVERY, CLIMB, FIRST_CHECK, LANES, MAX_PERIOD, PUSH, TOLERANCE, WINDOW
from wheeler.dynamics.search import as_frames, positive, refuse, search_attractors, tie_named

_compiled = {}


def _neighbours(frame):
    return [frame.roll(shift, dim) for dim in (-2, -1) for shift in (1, -1)]


def tick(frame, tie_break="min"):
    """One tick of frame (..., H, W), float32 or float64, values in [-1, 1] (not checked). Not for gradients."""
    up, down, left, right = _neighbours(frame)
    hi = torch.maximum(torch.maximum(up, down), torch.maximum(left, right))
    lo = torch.minimum(torch.minimum(up, down), torch.minimum(left, right))
    low, high = frame <= lo, frame >= hi
    target = torch.where(high, 1.0, hi)
    if tie_break == "max":
        target = torch.where(low & ~high, -1.0, target)
    else:
        target = torch.where(low, -1.0, target)
    rate = torch.where(low | high, frame.new_full((), PUSH), frame.new_full((), CLIMB))  # plain floats would be float32
    new = frame + (target - frame) * rate
    return torch.where(low & high, frame, new) if tie_break == "none" else new


def roles(frame):
    """Role map (..., H, W) int8: -1 minimum (flat cells too), +1 maximum, 0 slope."""
    near = torch.stack(_neighbours(frame))
    low, high = frame <= near.amin(0), frame >= near.amax(0)
    return torch.where(low, -1, high.to(torch.int8)).to(torch.int8)


def _still(new, old):
    """(B,) bool: mean(|new - old|) < TOLERANCE in the summation order of wheeler_cpu.py."""
    change = (new - old).abs()
    cells = change.shape[-2] * change.shape[-1]
    # Any order is within H * W rounding errors of any other: only frames that near the tolerance need the exact order.
    mean = change.double().sum((-2, -1)) / cells
    slack = TOLERANCE * cells * torch.finfo(change.dtype).eps
    still = mean < TOLERANCE
    for b in ((mean - TOLERANCE).abs() <= slack).nonzero().flatten().tolist():
        columns = torch.zeros_like(change[b, 0])
        for row in change[b]:
            columns = columns + row
        lanes = [columns[k::LANES] for k in range(LANES)]
        total = torch.zeros((), dtype=change.dtype, device=change.device)
        for lane in lanes:
            part = torch.zeros_like(total)
            for value in lane:
                part = part + value
            total = total + part
        still[b] = total.item() / cells < TOLERANCE
    return still


def _period(maps):
    """(B,) int64 winning period of role maps (WINDOW, B, H, W), 0 if none."""
    moved = (maps != maps[0]).any(0)
    cells = maps.shape[-2] * maps.shape[-1]
    found = torch.zeros(maps.shape[1], dtype=torch.int64, device=maps.device)
    for p in range(MAX_PERIOD, 1, -1):
        hits = ((maps[:-p] == maps[p:]).all(0) & moved).sum((-2, -1))
        found = torch.where(100 * hits >= cells, p, found)
    return found


def _settle_torch(frames, max_ticks, tie_break, step):
    """settle() in torch operations. Frames that have ended leave the working set, so the batch gets smaller."""
    final = torch.empty_like(frames)
    ticks = torch.full((len(frames),), max_ticks, dtype=torch.int64, device=frames.device)
    period = torch.full_like(ticks, -1)
    alive, now, maps = torch.arange(len(frames), device=frames.device), frames, []
    for i in range(max_ticks):
        old, now = now, step(now, tie_break)
        still = _still(now, old)
        result = torch.where(still, 0, -1)
        if i > FIRST_CHECK - WINDOW:
            maps = [*maps[1 - WINDOW :], roles(now)]
            if i >= FIRST_CHECK and i % CHECK_EVERY == 0:
                found = _period(torch.stack(maps))
                result = torch.where(~still & (found > 0), found, result)
        ended = result >= 0
        if ended.any():
            done, keep = alive[ended], ~ended
            final[done], ticks[done], period[done] = now[ended], i + 1, result[ended]
            alive, now, maps = alive[keep], now[keep], [m[keep] for m in maps]
            if not len(alive):
                break
    final[alive] = now
    return final, ticks, period


def _prepare(frames, backend):
    if not isinstance(frames, torch.Tensor):
        raise ValueError(f"frames are {type(frames).__name__}; they must be a torch tensor (wheeler_cpu takes arrays)")
    if not frames.dtype.is_floating_point:
        raise ValueError(f"frame dtype is {frames.dtype}; it must be a float type")
    if frames.ndim not in (2, 3) or min(frames.shape) < 1 or min(frames.shape[-2:]) < 2:
        raise ValueError(f"frame shape is {tuple(frames.shape)}; it must be (H, W) or (B, H, W), H, W >= 2, B >= 1")
    if backend not in (None, "numba", "torch"):
        raise ValueError(f'backend is {backend!r}; it must be "numba", "torch" or None')
    if backend == "numba" and frames.device.type != "cpu":
        raise ValueError(f'backend "numba" runs on the CPU; the frames are on {frames.device}')
    frames = frames.detach()
    frames = frames if frames.dtype == torch.float64 else frames.float()
    return frames, backend or ("numba" if frames.device.type == "cpu" else "torch")


def settle(frames, max_ticks=1000, tie_break="min", ticks=None, backend=None, compiled=False):
    """Run frames (B, H, W) or (H, W) in [-1, 1] to their attractors, or exactly `ticks` ticks. No gradient.

    Returns (final like frames but float32 or float64, ticks (B,) int64, period (B,) int64: 0 converged, 2..10
    oscillating, -1 chaotic or not searched); of a single frame ticks and period are 0-d. backend None picks "numba" on
    the CPU and "torch" elsewhere. compiled=True uses torch.compile for the torch backend (pays on a GPU).
    ValueError for wrong shapes, integers, NaN and values outside [-1, 1].
    """
    frames, backend = _prepare(frames, backend)
    tie_named(tie_break)
    limit = positive("max_ticks", max_ticks) if ticks is None else positive("ticks", ticks)
    batch = frames if frames.ndim == 3 else frames[None]
    if backend == "numba":
        arrays = as_frames(batch)[0]
        result = [torch.from_numpy(a) for a in search_attractors(arrays, limit, tie_break, search=ticks is None)]
    else:
        with torch.no_grad(), torch.autocast(batch.device.type, enabled=False):
            if not (batch.abs() <= 1).all():
                refuse(batch.cpu().numpy())
            step = tick
            if compiled:
                if batch.device.type not in _compiled:
                    _compiled[batch.device.type] = torch.compile(tick, dynamic=False)
                step = _compiled[batch.device.type]
            if ticks is None:
                result = _settle_torch(batch, limit, tie_break, step)
            else:
                final = batch
                for _ in range(limit):
                    final = step(final, tie_break)
                count = torch.full((len(batch),), limit, dtype=torch.int64, device=batch.device)
                result = final, count, torch.full_like(count, -1)
    return tuple(result) if frames.ndim == 3 else tuple(r[0] for r in result)


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx, frames, options, mask, clip):
        final = settle(frames, **options)[0]
        ctx.clip, ctx.dtype, ctx.masked = clip, frames.dtype, mask
        if mask == "sign":
            ctx.save_for_backward((frames < 0) == (final < 0))
        return final

    @staticmethod
    def backward(ctx, grad):
        if ctx.masked == "sign":
            grad = grad * ctx.saved_tensors[0]
        if ctx.clip is not None:
            grad = grad.clamp(-ctx.clip, ctx.clip)
        return grad.to(ctx.dtype), None, None, None


def through(frames, ticks=None, max_ticks=1000, tie_break="min", mask=None, clip=None, backend=None, compiled=False):
    """The attractors of frames (B, H, W) or (H, W) (or the frames after `ticks` ticks), trainable through.

    Forward as settle(): float32 (float64 stays), also under autocast. Backward is straight-through: the gradient of the
    attractor is the gradient of the frame, in its dtype. mask="sign" passes it only where the cell ended with the sign
    it had; clip limits every component to [-clip, clip].
    """
    if mask not in (None, "sign"):
        raise ValueError(f'mask is {mask!r}; it must be None or "sign"')
    if clip is not None and not clip > 0:
        raise ValueError(f"clip is {clip}; it must be positive")
    options = dict(ticks=ticks, max_ticks=max_ticks, tie_break=tie_break, backend=backend, compiled=compiled)
    return _Through.apply(frames, options, mask, clip)
