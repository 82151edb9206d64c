"""What a training step, encoding and decoding cost, beside the peers of peers.py: the sections model, step, encode,
decode and growth of bench.py, and times and memory, the tables of wheeler/training/cost.py."""

import argparse
import copy
import math
from contextlib import nullcontext
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models import WheelerTextAutoencoder
from wheeler.measure.peers import LABELS, build, growth_figure
from wheeler.measure.timing import alone, peak_gib, ratio, say, table, timed
from wheeler.model.config import WheelerConfig, round_up
from wheeler.training.cost import memory_table, times_table
from wheeler.training.scores import check_device
from wheeler.training.step import autocast_of, precision_of

STORY = 165  # tokens of a TinyStories story, about the mean
COUNTED_ROWS = 32  # train.py's batch: positional codes are computed once a batch


def config_of(args, **changes):
    """WheelerConfig of the size flags; a flag left out is the default model's value, or the section's (`changes`)."""
    typed = {k: getattr(args, k) for k in ("grid_size", "d_model", "max_seq_len") if getattr(args, k) is not None}
    return WheelerConfig(**changes | typed)


def random_ids(config, rows):
    """(rows, max_seq_len) int64 random tokens, no end token among them."""
    return torch.randint(3, config.vocab_size, (rows, config.max_seq_len), generator=torch.Generator().manual_seed(0))


def training_step(model, ids, optimizer=None, autocast=nullcontext, scaler=None):
    """Forward and backward, and the optimizer's step if there is one."""
    with autocast():
        logits, _ = model(ids)
        loss = F.cross_entropy(logits.float().flatten(0, 1), ids.flatten())
    (loss if scaler is None else scaler.scale(loss)).backward()
    if optimizer is not None:
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad(set_to_none=True)


def gflop_by_part(model):
    """GFLOP of one sample of max_seq_len tokens. Attention counts as plain matrix products (the counter does not know
    the fused CPU kernel). `total` is forward + backward; the parts are forward only."""
    model = copy.deepcopy(model).to("meta")
    c, rows = model.config, COUNTED_ROWS
    ids, giga = random_ids(c, rows).to("meta"), rows * 1e9
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            model(ids)
        name = type(model).__name__
        count = lambda part: sum(counter.get_flop_counts().get(f"{name}.{part}", {}).values()) / giga
        parts = {"encoder": count("encoder"), "patches": count("patches.unfold") + count("patches.fold"),
                 "vocabulary head": 2 * c.max_seq_len * c.d_model * round_up(c.vocab_size) / 1e9}
        parts["decoder"] = counter.get_total_flops() / giga - sum(parts.values())
    return parts | {"total": gflop(model)}


def gflop(model):
    """GFLOP of forward and backward for one sample of max_seq_len tokens, attention as plain matrix products: counted
    on tensors without data, where the model allows that."""
    device = getattr(model, "counting_device", "meta")
    rows = COUNTED_ROWS if device == "meta" else 4
    model = copy.deepcopy(model).to(device)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        training_step(model, random_ids(model.config, rows).to(device))
    return counter.get_total_flops() / rows / 1e9


def matmul_gflop_per_s(device, dtype):
    """The matrix rate that MFU is measured against: the best of square products of a few sizes, here and now."""
    rates = []
    for n in (1024, 2048) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        _, seconds = timed(lambda: a @ b, device, repeats=9)
        rates.append(2 * n**3 / seconds / 1e9)
    return max(rates)


def rates(gflop_a_text, rows, tokens, seconds, matmul):
    """What a step of `rows` texts of `tokens` tokens in `seconds` means. MFU: model FLOP a second, as counted, over the
    measured matrix rate `matmul` in GFLOP/s."""
    rate = gflop_a_text * rows / seconds
    return {"texts_per_s": rows / seconds, "tokens_per_s": rows * tokens / seconds, "gflop_per_s": rate,
            "mfu": rate / matmul}


def precision(args):
    """(device, dtype, function that gives the autocast context) of the flags."""
    device = check_device(None if args.device == "auto" else args.device)
    return device, precision_of(args), lambda: autocast_of(args, device)


def measure_step(name, config, rows, args, threads, with_rate=True):
    """One competitor's training step with AdamW. Run it `alone`."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    device, dtype, autocast = precision(args)
    before = peak_gib(device)
    network = build(name, config).to(device).train()
    if args.compile:
        network.compile()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    scaler = torch.amp.GradScaler(device.type) if args.fp16 else None
    ids = random_ids(config, rows).to(device)
    one = lambda: training_step(network, ids, optimizer, autocast, scaler)
    first, seconds = timed(one, device, args.repeats)
    out = {"parameters": sum(p.numel() for p in network.parameters()), "s_first": first, "s_step": seconds,
           "gib_peak": peak_gib(device), "gib_before": before}
    out["gflop_a_text"] = flop = gflop(build(name, config))  # another one: the first may be compiled
    if with_rate:
        matmul = matmul_gflop_per_s(device, dtype)
        out |= rates(flop, rows, config.max_seq_len, seconds, matmul) | {"matmul_gflop_per_s": matmul}
    return out


def _networks(args):
    """The competitors whose speed differs: a random start is the same network."""
    return [name for name in args.competitors if name != "random"]


def model(args):
    """Parameters and GFLOP by part."""
    torch.manual_seed(0)
    network = WheelerTextAutoencoder(config_of(args))
    c, parameters = network.config, {name: sum(p.numel() for p in part.parameters())
                                     for name, part in network.named_children()}
    flops = gflop_by_part(network)
    print(f"grid {c.grid_size} x {c.grid_size} x {c.d_model}: {sum(parameters.values()) / 1e6:.2f}M parameters (" +
          ", ".join(f"{name} {count / 1e6:.2f}M" for name, count in parameters.items()) + ")")
    print(f"one {c.max_seq_len}-token sample, forward + backward: {flops['total']:.1f} GFLOP; forward by part: " +
          ", ".join(f"{name} {value:.2f}" for name, value in flops.items() if name != "total") + "\n")
    return {"parameters": parameters, "gflop": flops}


def step(args):
    """A training step of ours and of the peers, each in a process of its own."""
    config, rows = config_of(args), args.batch_size or 2
    device, dtype, _ = precision(args)
    everywhere = sorted({1, torch.get_num_threads()}) if device.type == "cpu" else [torch.get_num_threads()]
    out, lines = {}, [("training step", "threads", "parameters", "first s", "s", "texts/s", "tokens/s", "GFLOP a text",
                       "GFLOP/s", "MFU", "peak GiB", "time, ours = 1", "memory, ours = 1")]
    for threads in everywhere:
        for name in _networks(args):
            say(f"step: {name}, {threads} threads")
            r = out[f"{name}, {threads} threads"] = alone(measure_step, name, config, rows, args, threads)
            ours = out.get(f"ours, {threads} threads", {"s_step": math.nan, "gib_peak": math.nan})
            lines.append((LABELS[name], threads, f"{r['parameters'] / 1e6:.2f}M", f"{r['s_first']:.2f}",
                          f"{r['s_step']:.3f}", f"{r['texts_per_s']:.2f}", f"{r['tokens_per_s']:.0f}",
                          f"{r['gflop_a_text']:.1f}", f"{r['gflop_per_s']:.0f}", f"{r['mfu']:.0%}",
                          f"{r['gib_peak']:.2f}", ratio(r["s_step"], ours["s_step"]),
                          ratio(r["gib_peak"], ours["gib_peak"])))
    table(lines)
    matmul = [r["matmul_gflop_per_s"] for r in out.values()]
    print(f"batch {rows}, {config.max_seq_len} tokens, grid {config.grid_size}, d_model {config.d_model}, {device}, "
          f"{str(dtype).removeprefix('torch.')}{', compiled' if args.compile else ''}; MFU against the matrix products "
          f"of each run, {min(matmul):.0f} to {max(matmul):.0f} GFLOP/s; memory of the whole "
          f"{'process' if device.type == 'cpu' else 'GPU allocation'}\n")
    return out


def _built(name, config, device):
    torch.manual_seed(0)
    return build(name, config).to(device).eval()


def encode(args):
    """Text to latents, batch 1 and 64, ours and the peers."""
    config, (device, _, autocast) = config_of(args), precision(args)
    out, lines = {}, [("encode", "batch", "first s", "s", "texts/s", "time, ours = 1")]
    for name in _networks(args):
        network = _built(name, config, device)
        for rows in (1, 64):
            say(f"encode: {name}, batch {rows}")
            ids = random_ids(config, rows).to(device)
            with autocast():
                first, seconds = timed(lambda: network.encode(ids), device, args.repeats)
            out[f"{name}, batch {rows}"] = {"s_first": first, "s": seconds, "texts_per_s": rows / seconds}
            ours = out.get(f"ours, batch {rows}", {"s": math.nan})["s"]
            lines.append((LABELS[name], rows, f"{first:.3f}", f"{seconds:.3f}", f"{rows / seconds:.1f}",
                          ratio(seconds, ours)))
    table(lines)
    return out


# How each competitor decodes: label, keyword arguments of its decode. torch.nn.TransformerDecoder has no cache.
OUR_WAYS = {"": {}, ", token by token": {"parallel": False}, ", no cache": {"use_cache": False}}


def decode(args):
    """Latents to text of the length of a story, greedy: ours all tokens at once, token by token with the key/value
    cache and without it (the same tokens each time), and the peers. Without a cache at batch 1 only."""
    config, (device, _, autocast) = config_of(args), precision(args)
    out, tokens = {}, min(STORY, config.max_seq_len)
    lines = [(f"{tokens} tokens", "batch", "first s", "s", "tokens/s", "time, ours = 1")]
    for name in _networks(args):
        network = _built(name, config, device)
        ways = OUR_WAYS if name == "ours" else {"": {"tokens": tokens}}
        for (way, options), rows in product(ways.items(), (1, 16, 64)):
            if rows > 1 and (name == "cells" or way == ", no cache"):
                continue
            say(f"decode: {name}, batch {rows}{way}")
            ids = random_ids(config, rows).to(device)[:, :tokens]
            ids[:, -1] = config.eos_token_id
            with autocast():
                latents = network.encode(ids)
                run = partial(network.decode, latents, return_ids=True, **options)
                if name == "ours" and run() != ids[:, :-1].tolist():
                    raise ValueError(f"--d_model {config.d_model}: a model of this size does not start as a copy, "
                                     "so what it decodes cannot be checked")
                first, seconds = timed(run, device, min(3, args.repeats))
            count = rows * tokens
            out[f"{name}, batch {rows}{way}"] = {"s_first": first, "s": seconds, "tokens_per_s": count / seconds}
            ours = out.get(f"ours, batch {rows}", {"s": math.nan})["s"]
            lines.append((LABELS[name] + way, rows, f"{first:.2f}", f"{seconds:.2f}", f"{count / seconds:.0f}",
                          ratio(seconds, ours)))
    table(lines)
    return out


# ---- cost growth ----------------------------------------------------------------------------------------------------

AXES = {"max_seq_len": (64, 128, 256, 512), "grid_size": (16, 32, 64, 128), "batch_size": (1, 2, 4, 8, 16)}


def growth(args, axes=AXES):
    """Seconds and peak memory of a training step as one of text length, grid size and batch size varies, the others at
    256 tokens, grid 64, batch 2 (or what the flags say); on a CPU one thread, seconds of the processor. A competitor
    whose step took more than --point_limit seconds is not measured at the sizes beyond."""
    out, lines = {}, [("training step", "varies", "at", "s", "peak GiB", "of these the model's", "GFLOP a text")]
    for axis, values in axes.items():
        for name in _networks(args):
            points = out[f"{name}, {axis}"] = []
            for value in values:
                if points and points[-1]["s_step"] > args.point_limit:
                    say(f"growth: {name}, {axis} {value}: left out, the size before took {points[-1]['s_step']:.0f} s")
                    break
                rows = value if axis == "batch_size" else args.batch_size or 2
                config = config_of(argparse.Namespace(**vars(args) | {axis: value}))
                try:
                    r = alone(measure_step, name, config, rows, args, 1, False)
                except MemoryError:
                    say(f"growth: {name}, {axis} {value}: the memory does not suffice")
                    break
                say(f"growth: {name}, {axis} {value}: {r['s_step']:.3f} s, {r['gib_peak']:.2f} GiB")
                points.append({"at": value, **{key: r[key] for key in ("s_step", "gib_peak", "gib_before",
                                                                      "gflop_a_text")}})
                lines.append((LABELS[name], axis, value, f"{r['s_step']:.3f}", f"{r['gib_peak']:.2f}",
                              f"{r['gib_peak'] - r['gib_before']:.2f}", f"{r['gflop_a_text']:.1f}"))
    table(lines)
    for key, points in out.items():
        if len(points) > 1:
            first, last = points[0], points[-1]
            own = [p["gib_peak"] - p["gib_before"] for p in (first, last)]
            print(f"{key} x {last['at'] / first['at']:.0f}: seconds x {last['s_step'] / first['s_step']:.1f}" +
                  (f", memory above the libraries x {own[1] / own[0]:.1f}" if own[0] else ""))
    print()
    growth_figure(out, args.output_dir)
    return out


# ---- tables of wheeler/training/cost.py -----------------------------------------------------------------------------


def times(args):
    """Hours for an epoch of TinyStories: this CPU measured, GPUs by roofline."""
    return times_table(args.measure)


def memory(args):
    """Memory of a training step of the default model beyond its weights, by flags of train.py."""
    return memory_table(args.batch_sizes, args.grid_sizes, precision(args)[0])
