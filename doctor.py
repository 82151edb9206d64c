"""Is this machine fit to train, how fast, and how much fits: the checks of set-up and `train.py --doctor`.

    python train.py --doctor --fp16 --batch_size 64     # device, kernels, room; seconds and memory of these flags
    python doctor.py device rocm                        # only the device and its kernels: setup_training_env.sh runs it
    python doctor.py memory --batch_sizes 8 32          # memory of a training step, flag by flag
    python doctor.py times                              # expected training times, measured here and by roofline

Kernels are compared with a float64 reference, forward and backward. The exit code is 1 if one of them is wrong.
Only the standard library and torch are imported at the start, so that set-up can call this before all is installed.
"""

import argparse
import math
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import torch.nn.functional as F

STORIES = {"roneneldan/TinyStories": 2_119_719}  # texts of the default data set: an epoch needs no download
SPARE = 0.9  # of the free memory, for --batch_size auto: fragments, other programs
# Peak of matrix products in fp16 (TFLOP/s) and of memory (GB/s). The RX 9070 XT's rate was measured by others in
# PyTorch at n = 4096 (its specification says more); the H100's and H200's are those of the specification.
DEVICES = {"RX 9070 XT": (125, 640), "H100 SXM": (989, 3350), "H200 SXM": (989, 4800)}
UTILISATION = (0.2, 0.3)  # of that peak, as models of this size reach it


# ---- device and kernels ---------------------------------------------------------------------------------------------


class Report:
    """Lines PASS / FAIL / note as they come; failed: whether one was a FAIL."""

    def __init__(self):
        self.failed = False

    def check(self, name: str, ok: bool, detail: str) -> None:
        self.failed |= not ok
        print(f"{'PASS' if ok else 'FAIL'}  {name}: {detail}", flush=True)

    def note(self, text: str) -> None:
        print(f"note  {text}", flush=True)


def error(value: torch.Tensor, exact: torch.Tensor) -> float:
    """Relative error in the Euclidean norm; NaN and infinity fail every comparison with a limit."""
    return float((value.detach().double().cpu() - exact.detach()).norm() / exact.detach().norm())


def kernel_errors(function, reference, inputs: list[torch.Tensor], device, dtype) -> tuple[float, float]:
    """Errors of function(*inputs) on the device in dtype, forward and (the worst) backward, against the reference in
    float64 on the same rounded inputs. The gradient of the output is a random tensor."""
    inputs = [x.to(dtype) for x in inputs]
    exact_in = [x.double().requires_grad_() for x in inputs]
    device_in = [x.to(device).requires_grad_() for x in inputs]
    exact, value = reference(*exact_in), function(*device_in)
    slope = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    exact.backward(slope.double())
    value.backward(slope.to(device))
    return error(value, exact), max(error(a.grad, b.grad) for a, b in zip(device_in, exact_in, strict=True))


def attention_reference(q, k, v, causal: bool):
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
    return scores.softmax(-1) @ v


def check_kernels(out: Report, device: torch.device) -> None:
    """fp16 matrix product, fused self- and cross-attention; head dimension 64, what the model uses."""
    gpu, random = device.type == "cuda", torch.Generator().manual_seed(0)
    draw = lambda *size: torch.randn(size, generator=random)
    try:
        for name, e in zip(("forward", "backward"), kernel_errors(
                torch.matmul, torch.matmul, [draw(512, 512), draw(512, 512)], device, torch.float16), strict=True):
            out.check(f"fp16 matrix product {name}", e < 2e-3, f"relative error {e:.1e}")
        dtype, limit = (torch.float16, 5e-3) if gpu else (torch.float32, 1e-5)
        for name, keys, causal in (("self-attention", 256, True), ("cross-attention", 128, False)):
            fused = lambda *qkv: F.scaled_dot_product_attention(*qkv, is_causal=causal)
            exact = lambda *qkv: attention_reference(*qkv, causal)
            inputs = [draw(2, 4, 256, 64), draw(2, 4, keys, 64), draw(2, 4, keys, 64)]
            for way, e in zip(("forward", "backward"), kernel_errors(fused, exact, inputs, device, dtype), strict=True):
                out.check(f"{name} {way}", e < limit, f"relative error {e:.1e}")
        if gpu:  # not a failure: without it attention is slower, not wrong
            from torch.nn.attention import SDPBackend, sdpa_kernel
            try:
                with warnings.catch_warnings(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                    warnings.simplefilter("ignore")
                    q = torch.randn(2, 4, 256, 64, device=device, dtype=torch.float16)
                    F.scaled_dot_product_attention(q, q, q)
                out.note("flash attention: available")
            except RuntimeError:
                out.note("flash attention: not available, attention will be slower")
    except RuntimeError as trouble:  # a kernel that does not launch, a GPU that is out of memory
        out.check("device check", False, str(trouble).splitlines()[0])


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def inspect_device(out: Report, backend: str) -> torch.device | None:
    """Versions, driver and chip for the backend rocm, cuda or cpu, then its kernels; None where it is not there."""
    built = {name.upper(): getattr(torch.version, name) for name in ("hip", "cuda")}
    print(", ".join([f"python {platform.python_version()}", f"torch {torch.__version__}",
                     *(f"{name} {number}" for name, number in built.items() if number), f"backend {backend}"]))
    packages = ("transformers", "tokenizers", "datasets", "numpy", "numba")
    print(", ".join(f"{name} {installed(name)}" for name in packages))
    if backend == "cpu":
        out.check("device", True, f"CPU, {torch.get_num_threads()} threads")
        check_kernels(out, torch.device("cpu"))
        return torch.device("cpu")
    if not built["HIP" if backend == "rocm" else "CUDA"]:
        out.check("device", False, f"this torch is not built for {backend}; --backend cpu trains on the CPU instead")
        return None
    if not torch.cuda.is_available():
        hint = ("check `ls -l /dev/kfd`, `groups` (render, video) and `dmesg | grep amdgpu`" if backend == "rocm"
                else "check `nvidia-smi` and the version of the driver")
        out.check("device", False, f"torch sees no GPU: {hint}; --backend cpu trains on the CPU instead")
        return None
    facts = torch.cuda.get_device_properties(0)
    # Under CUDA gcnArchName repeats the name of the card. A CUDA chip also runs the code of its older relatives, so
    # only for ROCm does a missing entry in the list mean something.
    arch = facts.gcnArchName.split(":")[0] if backend == "rocm" else f"sm_{facts.major}{facts.minor}"
    out.check("device", True, f"{facts.name} ({arch}), {facts.total_memory / 2**30:.1f} GiB, driver {driver(backend)}")
    if backend == "rocm" and arch not in torch.cuda.get_arch_list():
        out.note(f"{arch} is not among the chips of this torch: {' '.join(torch.cuda.get_arch_list())}")
    check_kernels(out, torch.device("cuda"))
    return torch.device("cuda")


def driver(backend: str) -> str:
    if backend == "cuda":
        try:
            return subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], text=True,
                                  capture_output=True, timeout=20).stdout.splitlines()[0].strip()
        except (OSError, IndexError, subprocess.TimeoutExpired):
            return "unknown"
    try:
        return Path("/sys/module/amdgpu/version").read_text().strip()
    except OSError:
        return f"of kernel {platform.release()}"                              # built in: it has no version of its own


def environment(backend: str, variables, groups: set[str]) -> list[str]:
    """What in the environment harms training on that backend, a line each."""
    found, get = [], lambda name: variables.get(name, "")
    if get("HSA_OVERRIDE_GFX_VERSION"):
        found.append(f"HSA_OVERRIDE_GFX_VERSION={get('HSA_OVERRIDE_GFX_VERSION')} makes ROCm take the GPU for another "
                     "chip (12.0.0 is gfx1200, an RX 9070 is gfx1201): hangs, no fused attention; unset it")
    if get("PYTORCH_ROCM_ARCH"):
        found.append("PYTORCH_ROCM_ARCH only matters when torch is built; unset it")
    for name in ("PYTORCH_HIP_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        if backend == "rocm" and "expandable_segments:true" in get(name).lower().replace(" ", ""):
            found.append(f"{name}={get(name)}: expandable_segments is not for ROCm; unset it")
    for name in ("CUDA_LAUNCH_BLOCKING", "HIP_LAUNCH_BLOCKING", "AMD_SERIALIZE_KERNEL", "NUMBA_DISABLE_JIT",
                 "TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE"):
        if get(name) not in ("", "0"):
            found.append(f"{name}={get(name)} is for debugging and slows everything down; unset it")
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        if backend != "cpu" and name in variables and get(name) in ("", "-1"):
            found.append(f"{name}={get(name)!r} hides every GPU; unset it")
    lacking = [group for group in ("render", "video") if group not in groups]
    if backend == "rocm" and lacking and os.getuid() != 0:
        found.append(f"this login lacks the groups {', '.join(lacking)}: `sudo usermod -aG render,video $USER`, then "
                     "log out and in again")
    return found


def login_groups() -> set[str]:
    import grp

    names = set()
    for number in (*os.getgroups(), os.getgid()):
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:                                                      # a group without a name
            pass
    return names


# ---- memory and time of a training step -----------------------------------------------------------------------------


def training_step(model, args: argparse.Namespace, device: torch.device, rows: int, length: int):
    """A function that does one training step, optimizer included, on `rows` random texts of `length` tokens, with the
    precision, shares and checkpointing of args; the model is changed by it."""
    from train import TokenLoss, autocast_of, draw_tiles, make_optimizer, rows_without_grid

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
    from models import WheelerTextAutoencoder

    model, device = WheelerTextAutoencoder(config).train(), torch.device("cpu")
    model.encoder.grad_checkpointing = model.decoder.grad_checkpointing = checkpointing
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
        from tokenizer import first_line

        return first_line(error, 120)
    return None


def compiled_graphs() -> int:
    """Graphs that torch.compile has made in this process so far."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


# ---- expected training times ----------------------------------------------------------------------------------------


def samples_per_second(gflop: float, rows: int, parameters: int, tflops: float, bandwidth: float,
                       utilisation: float) -> float:
    """Roofline: texts a second of training. gflop: forward and backward of a text; tflops, bandwidth (GB/s): peaks of
    the device; utilisation: share of tflops that is reached. The optimizer reads and writes weights, gradients and two
    moments of 4 bytes (7 accesses a parameter) a batch of `rows` texts."""
    seconds = rows * gflop / 1e3 / (tflops * utilisation) + parameters * 7 * 4 / (bandwidth * 1e9)
    return rows / seconds


def gflop_per_text(model, args: argparse.Namespace, length: int) -> float:
    """GFLOP, forward and backward, a text of a batch of 8 with the shares of args. On the meta device: counts, does not
    compute."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    step_args = argparse.Namespace(**vars(args) | {"fp16": False, "bf16": False, "grad_checkpointing": False})
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the fused CPU kernel is not counted
        from train import TokenLoss, draw_tiles, rows_without_grid

        shares = rows_without_grid(argparse.Namespace(**vars(step_args) | {"batch_size": 8}))
        tiles = draw_tiles(model, shares[0], 0)
        ids = torch.full((8, length), 3)
        TokenLoss(model)(ids, torch.ones_like(ids, dtype=torch.bool), tiles, shares[1]).backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops() / 8e9


def times_table(measure: bool = True, epoch: int = STORIES["roneneldan/TinyStories"]) -> None:
    """Hours for an epoch of TinyStories, every text as long as 256 tokens: an upper bound, since batches are padded to
    64, 128, 192 or 256."""
    from flags import build_parser
    from models import WheelerConfig, WheelerTextAutoencoder

    threads = torch.get_num_threads()
    print(f"hours an epoch of {epoch:,} texts of 256 tokens; CPU: measured here, {threads} threads, float32, batch 4; "
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
            cells = [f"{grid}x{grid}", str(rows), f"{gflop:.1f}", f"{cpu:.1f}", f"{epoch / cpu / 3600:.0f}"]
            for tflops, bandwidth in DEVICES.values():
                slow, fast = (samples_per_second(gflop, rows, parameters, tflops, bandwidth, u) for u in UTILISATION)
                cells += [f"{slow:.0f} - {fast:.0f}", f"{epoch / fast / 3600:.2f} - {epoch / slow / 3600:.2f}"]
            print("| " + " | ".join(cells) + " |")


def memory_table(batch_sizes: list[int], grids: list[int], device: torch.device) -> None:
    """GiB of a training step beyond the weights, by flag."""
    from flags import build_parser
    from models import WheelerConfig, WheelerTextAutoencoder

    print("| grid | flags | " + " | ".join(f"batch {rows}" for rows in batch_sizes) + " |")
    print("| --- " * (2 + len(batch_sizes)) + "|")
    for grid in grids:
        for flags in ([], ["--bf16"], ["--grad_checkpointing"], ["--bf16", "--grad_checkpointing"]):
            args = build_parser().parse_args(flags)
            model = WheelerTextAutoencoder(WheelerConfig(grid_size=grid)).to(device).train()
            model.encoder.grad_checkpointing = model.decoder.grad_checkpointing = args.grad_checkpointing
            cells = [f"{step_memory(model, args, device, rows, 256) / 2**30:.2f} GiB" for rows in batch_sizes]
            print(f"| {grid}x{grid} | {' '.join(flags) or 'none'} | " + " | ".join(cells) + " |", flush=True)


# ---- the whole ------------------------------------------------------------------------------------------------------


def backend_here() -> str:
    return "cpu" if not torch.cuda.is_available() else "rocm" if torch.version.hip else "cuda"


def count_texts(args: argparse.Namespace) -> int | None:
    """Training texts of --dataset, without a download; None where that cannot be known."""
    from data import load_texts

    if args.dataset in STORIES:
        count = STORIES[args.dataset]
    elif args.dataset == "sample" or Path(args.dataset).exists() and not args.streaming:
        count = len(load_texts(args.dataset, "train", args.text_column))
    else:
        return None
    return count if args.max_train_samples < 0 else min(count, args.max_train_samples)


def report(args: argparse.Namespace) -> int:
    """`train.py --doctor`: everything about this machine and these flags; 1 if a check failed, else 0."""
    from flags import MODEL_FLAGS
    from metrics import check_device
    from models import WheelerConfig, WheelerTextAutoencoder
    from train import duration, precision_of

    out, wanted = Report(), check_device(args.device)                         # ValueError where it cannot be used
    backend = "cpu" if wanted.type == "cpu" else backend_here()
    if inspect_device(out, backend) is None:
        return 1
    problems = environment(backend, os.environ, login_groups())
    for problem in problems:
        out.note(problem)
    out.check("environment", not problems, f"{len(problems)} harmful settings" if problems else "nothing is harmful")
    if args.compile:
        problem = compiler_problem(wanted)
        out.check("torch.compile", problem is None, problem or "works")

    model = WheelerTextAutoencoder(WheelerConfig(vocab_size=args.vocab_size, **{
        name: getattr(args, name) for name in MODEL_FLAGS})).to(wanted).train()
    model.encoder.grad_checkpointing = model.decoder.grad_checkpointing = args.grad_checkpointing
    parameters, length = sum(p.numel() for p in model.parameters()), args.max_seq_len
    for name, needed in (("output_dir", 3 * 3 * 4 * parameters), ("cache_dir", 0)):  # last, best, a new one
        folder = Path(getattr(args, name)).absolute()
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        try:
            tempfile.TemporaryFile(dir=folder).close()
            writable = True
        except OSError:
            writable = False
        out.check(f"--{name} {getattr(args, name)}", writable and free > needed,
                  f"{free / 2**30:.1f} GiB free{f', checkpoints need {needed / 2**30:.2f}' if needed else ''}"
                  f"{'' if writable else ', not writable'}")
    free = free_memory(wanted)
    try:
        batch = args.batch_size if args.batch_size != "auto" else largest_batch(model, args, wanted, length)
        rows = min(batch, 4) if wanted.type == "cpu" else batch
        base, each, _ = step_line(model, args, wanted, length)
        needed = base + each * batch
        out.check("memory", needed < free, f"{free / 2**30:.1f} GiB free; --batch_size {batch} needs about "
                  f"{needed / 2**30:.1f}")
        if args.compile:
            model.compile(dynamic=False)
        speed = rows / step_seconds(model, args, wanted, rows, length)
    except (torch.OutOfMemoryError, MemoryError):
        out.check("memory", False, f"{free / 2**30:.1f} GiB free: too little for these flags; --batch_size auto finds "
                  "the most that fits")
        return 1
    out.note(f"speed: {speed:.1f} texts of {length} tokens a second, measured for 5 s with a batch of {rows} in "
             f"{str(precision_of(args)).removeprefix('torch.')} ({parameters / 1e6:.1f}M parameters)")
    count = count_texts(args)
    if count is None:
        out.note(f"an epoch: unknown, since {args.dataset} is not counted without reading it")
    else:
        steps = f", --max_steps {args.max_steps} {duration(args.max_steps * batch * args.accumulation_steps / speed)}"
        out.note(f"an epoch of {count:,} texts takes at most {duration(count / speed)}"
                 f"{steps if args.max_steps > 0 else ''} (shorter texts are padded less)")
    return int(out.failed)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    device = commands.add_parser("device", help="check the device and its kernels")
    device.add_argument("backend", choices=("rocm", "cuda", "cpu"))
    memory = commands.add_parser("memory", help="memory of a training step by flag, as a table")
    memory.add_argument("--batch_sizes", type=int, nargs="+", default=[8, 32], help="texts a batch")
    memory.add_argument("--grid_sizes", type=int, nargs="+", default=[32, 64], help="cells")
    memory.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda ...")
    times = commands.add_parser("times", help="expected training times, as a table")
    times.add_argument("--measure", action=argparse.BooleanOptionalAction, default=True, help="measure this CPU too")
    args = parser.parse_args(argv)
    if args.command == "device":
        out = Report()
        inspect_device(out, args.backend)
        return int(out.failed)
    if args.command == "memory":
        from metrics import check_device

        try:
            memory_table(args.batch_sizes, args.grid_sizes, check_device(args.device))
        except ValueError as error:
            print(f"doctor.py: {error}", file=sys.stderr)
            return 2
    else:
        times_table(args.measure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
