"""What a training step costs on this machine: memory, seconds, arithmetic; torch.compile; expected training times."""

import argparse
import math
import multiprocessing
import time
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models import WheelerTextAutoencoder
from wheeler.model.config import WheelerConfig
from wheeler.model.tokenizer import first_line
from wheeler.training.flags import build_parser
from wheeler.training.step import TokenLoss, autocast_of, draw_tiles, make_optimizer, rows_without_grid

STORIES = {"roneneldan/TinyStories": 2_119_719}  # texts of the default data set: an epoch needs no download
SPARE = 0.9  # of the free memory, for --batch_size auto: fragments, other programs
# Peak of matrix products in fp16 (TFLOP/s) and of memory (GB/s). The RX 9070 XT's rate was measured by others in
# PyTorch at n = 4096 (its specification says more); the H100's and H200's are those of the specification.
DEVICES = {"RX 9070 XT": (125, 640), "H100 SXM": (989, 3350), "H200 SXM": (989, 4800)}
UTILISATION = (0.2, 0.3)  # of that peak, as models of this size reach it


# ---- memory and time of a training step -----------------------------------------------------------------------------


def training_step(model, args: argparse.Namespace, device: torch.device, rows: int, length: int):
    """A function that does one training step, optimizer included, on `rows` random texts of `length` tokens, with the
    precision, shares and checkpointing of args; the model is changed by it."""
    c = model.config
    shares = rows_without_grid(argparse.Namespace(**vars(args) | {"batch_size": rows}))
    tiles, blank_rows = draw_tiles(model, shares[0], 0).to(device), shares[1]
    optimizer, token_loss = make_optimizer(model, args), TokenLoss(model)
    scaler = torch.amp.GradScaler(device.type, enabled=args.fp16)
    ids = torch.randint(3, c.vocab_size, (rows, length), generator=torch.Generator().manual_seed(0)).to(device)
    mask = torch.ones_like(ids, dtype=torch.bool)

    def step() -> None:
        with autocast_of(args, device):
            loss = token_loss(ids, mask, tiles, blank_rows) / (rows * length)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def proc_value(file: str, key: str) -> int:
    """Bytes of a `key: n kB` line of a file in /proc."""
    for line in Path(file).read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{file} has no {key}")


def reset_peak() -> None:
    """Let the peak of this process (VmHWM) begin anew at what it holds now, where the kernel can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def step_memory(model, args: argparse.Namespace, device: torch.device, rows: int, length: int) -> int:
    """Peak memory of a training step, bytes, beyond what is taken already (the weights). On the CPU it runs in a child
    process, whose end gives everything back, and which alone dies when it is too much."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        training_step(model, args, device, rows, length)()
        return torch.cuda.max_memory_reserved(device) - before
    context = multiprocessing.get_context("spawn")                            # a fork would inherit locks of threads
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=_step_in_child, args=(
        model.config, model.encoder.grad_checkpointing, args, rows, length, writer))
    child.start()
    writer.close()
    try:
        return reader.recv()
    except EOFError:
        raise MemoryError(f"a step of {rows} texts does not fit") from None
    finally:
        child.join()


def _step_in_child(config, checkpointing: bool, args: argparse.Namespace, rows: int, length: int, writer) -> None:
    """Sends the peak memory of a step on the CPU, bytes, beyond that of a model of this config."""
    model, device = WheelerTextAutoencoder(config).train(), torch.device("cpu")
    model.encoder.grad_checkpointing = model.decoder.grad_checkpointing = checkpointing
    reset_peak()                                                              # making the model took more than it holds
    before = proc_value("/proc/self/status", "VmRSS")
    training_step(model, args, device, rows, length)()
    writer.send(proc_value("/proc/self/status", "VmHWM") - before)


def free_memory(device: torch.device) -> int:
    """Bytes that a new allocation can have: of the GPU, or of this machine within the limit of its container."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    free = proc_value("/proc/meminfo", "MemAvailable")
    for limit, used in (("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
                        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes")):
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):                                         # no container, or "max"
            pass
    return free


def step_line(model, args: argparse.Namespace, device: torch.device, length: int) -> tuple[float, float, int]:
    """Memory of a step of n texts as base + n * each, bytes, from the largest two batches that fit (of small ones it is
    less regular), and the larger of them."""
    for few, more in ((8, 32), (2, 8), (1, 2), (1, 1)):
        try:
            low, high = (step_memory(model, args, device, rows, length) for rows in (few, more))
            break
        except (torch.OutOfMemoryError, MemoryError):
            if more == 1:
                raise
    each = max(1.0, (high - low) / (more - few) if more > few else low)
    return low - few * each, each, more


def largest_batch(model, args: argparse.Namespace, device: torch.device, length: int, processes: int = 1) -> int:
    """The most texts of `length` tokens that a training step has room for: memory is measured at two batches, and
    on a GPU the answer is tried. On a CPU so many `processes` share the memory. Changes neither weights nor
    generators."""
    gpu, eights = device.type == "cuda", lambda rows: rows // 8 * 8 if rows > 8 else rows
    weights = {name: value.clone() for name, value in model.state_dict().items()} if gpu else None
    try:
        with torch.random.fork_rng([device] if gpu else []):
            base, each, fits = step_line(model, args, device, length)
            rows = eights(int((SPARE * free_memory(device) / (1 if gpu else processes) - base) / each))
            while gpu and rows > fits:
                try:
                    step_memory(model, args, device, rows, length)
                    break
                except torch.OutOfMemoryError:
                    rows = eights(int(rows * 0.9))
            rows = max(rows, fits) if gpu else rows
    except OSError as reason:
        raise ValueError(f"--batch_size auto: free memory cannot be measured here ({reason}); name a number") from None
    finally:
        if weights is not None:
            model.load_state_dict(weights)
            model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
    if rows < 1:
        raise MemoryError(f"not one text of {length} tokens fits into {free_memory(device) / 2**30:.1f} GiB")
    return rows


def step_seconds(model, args: argparse.Namespace, device: torch.device, rows: int, length: int,
                 budget: float = 5.0) -> float:
    """Seconds a training step of `rows` texts takes, over at least two steps and `budget` seconds, after one that warms
    up."""
    step = training_step(model, args, device, rows, length)
    step()
    start, done = time.perf_counter(), 0
    while done < 2 or time.perf_counter() - start < budget:
        step()
        done += 1
    return (time.perf_counter() - start) / done


# ---- torch.compile --------------------------------------------------------------------------------------------------


def compiler_problem(device: torch.device) -> str | None:
    """Why torch.compile does not work here, in one line; None where a small compiled function is right."""
    try:
        x = torch.ones(64, device=device, requires_grad=True)
        torch.compile(lambda x: (x * 2).sin().sum())(x).backward()
        if not torch.allclose(x.grad.cpu(), 2 * torch.full((64,), 2.0).cos()):
            return "compiled code gives wrong results"
    except Exception as error:                                                # one of a dozen types
        return first_line(error, 120)
    return None


def compiled_graphs() -> int:
    """Graphs that torch.compile has made in this process so far."""
    # By attribute: torch loads its compiler when it is asked for, which costs every other start two seconds.
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


# ---- expected training times ----------------------------------------------------------------------------------------


def samples_per_second(gflop: float, rows: int, parameters: int, tflops: float, bandwidth: float,
                       utilisation: float) -> float:
    """Roofline: texts a second of training. gflop: forward and backward of a text; tflops, bandwidth (GB/s): peaks of
    the device; utilisation: share of tflops that is reached. The optimizer reads and writes weights, gradients and two
    moments of 4 bytes (7 accesses a parameter) a batch of `rows` texts."""
    seconds = rows * gflop / 1e3 / (tflops * utilisation) + parameters * 7 * 4 / (bandwidth * 1e9)
    return rows / seconds


def gflop_per_text(model, args: argparse.Namespace, length: int) -> float:
    """GFLOP, forward and backward, a text of a batch of 8 with the shares of args: of a step that is done once, on the
    CPU."""
    step_args = argparse.Namespace(**vars(args) | {"fp16": False, "bf16": False, "grad_checkpointing": False})
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the fused CPU kernel is not counted
        shares = rows_without_grid(argparse.Namespace(**vars(step_args) | {"batch_size": 8}))
        tiles = draw_tiles(model, shares[0], 0)
        ids = torch.full((8, length), 3)
        TokenLoss(model)(ids, torch.ones_like(ids, dtype=torch.bool), tiles, shares[1]).backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops() / 8e9


def times_table(measure: bool = True, epoch: int = STORIES["roneneldan/TinyStories"]) -> dict:
    """Hours for an epoch of TinyStories, every text as long as 256 tokens: an upper bound, since batches are padded to
    64, 128, 192 or 256. Printed as a table, and returned: {"grid, batch": figures}; what is not measured is None."""
    threads, result = torch.get_num_threads(), {}
    here = f"measured here, {threads} threads, float32, batch 4" if measure else "not measured"
    print(f"hours an epoch of {epoch:,} texts of 256 tokens; CPU: {here}; "
          f"GPUs: roofline at {UTILISATION[0]:.0%} to {UTILISATION[1]:.0%} of the fp16 peak, not measured\n")
    print("| grid | batch | GFLOP a text | CPU, texts/s | hours | " + " | ".join(
        f"{name}, texts/s | hours" for name in DEVICES) + " |")
    print("| --- " * (5 + 2 * len(DEVICES)) + "|")
    for grid in (32, 64):
        args = build_parser().parse_args(["--grid_size", str(grid)])
        model = WheelerTextAutoencoder(WheelerConfig(grid_size=grid)).train()
        gflop, parameters = gflop_per_text(model, args, 256), sum(p.numel() for p in model.parameters())
        cpu = 4 / step_seconds(model, args, torch.device("cpu"), 4, 256, 10.0) if measure else math.nan
        for rows in (32, 64):
            cells = [f"{grid}x{grid}", str(rows), f"{gflop:.1f}", *(
                (f"{cpu:.1f}", f"{epoch / cpu / 3600:.0f}") if measure else "--")]
            row = result[f"{grid}x{grid}, batch {rows}"] = {
                "gflop_a_text": gflop, "cpu_texts_per_s": cpu if measure else None,
                "cpu_hours": epoch / cpu / 3600 if measure else None}
            for name, (tflops, bandwidth) in DEVICES.items():
                slow, fast = (samples_per_second(gflop, rows, parameters, tflops, bandwidth, u) for u in UTILISATION)
                cells += [f"{slow:.0f} - {fast:.0f}", f"{epoch / fast / 3600:.2f} - {epoch / slow / 3600:.2f}"]
                row[name] = {"texts_per_s": (slow, fast), "hours": (epoch / fast / 3600, epoch / slow / 3600)}
            print("| " + " | ".join(cells) + " |")
    return result


def memory_table(batch_sizes: list[int], grids: list[int], device: torch.device) -> dict:
    """GiB of a training step beyond the weights, by flag: printed as a table, and returned as {"grid, flags, batch":
    GiB}."""
    result = {}
    print("| grid | flags | " + " | ".join(f"batch {rows}" for rows in batch_sizes) + " |")
    print("| --- " * (2 + len(batch_sizes)) + "|")
    for grid in grids:
        for flags in ([], ["--bf16"], ["--grad_checkpointing"], ["--bf16", "--grad_checkpointing"]):
            args = build_parser().parse_args(flags)
            model = WheelerTextAutoencoder(WheelerConfig(grid_size=grid)).to(device).train()
            model.encoder.grad_checkpointing = model.decoder.grad_checkpointing = args.grad_checkpointing
            name, gib = f"{grid}x{grid}", [step_memory(model, args, device, rows, 256) / 2**30 for rows in batch_sizes]
            cells = [name, " ".join(flags) or "none", *(f"{value:.2f} GiB" for value in gib)]
            print("| " + " | ".join(cells) + " |", flush=True)
            result |= {f"{name}, {cells[1]}, batch {rows}": value for rows, value in zip(batch_sizes, gib, strict=True)}
    return result
