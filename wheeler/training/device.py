"""Is this device fit to train: its kernels, its driver, the environment. setup_training_env.sh runs this file.

    python wheeler/training/device.py rocm     # the device and its kernels; exit code 1 if one of them is wrong

Kernels are compared with a float64 reference, forward and backward. Only the standard library and torch are imported,
so that set-up can call this before all is installed.
"""

import math
import os
import platform
import subprocess
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

try:
    import grp
except ImportError:                                                           # not a Unix
    grp = None


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
    names = set()
    if grp is None:
        return names
    for number in (*os.getgroups(), os.getgid()):
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:                                                      # a group without a name
            pass
    return names


def backend_here() -> str:
    return "cpu" if not torch.cuda.is_available() else "rocm" if torch.version.hip else "cuda"


def main(argv: list[str]) -> int:
    backends = ("rocm", "cuda", "cpu")
    if len(argv) != 1 or argv[0] not in backends:
        print(f"device.py: wanted one of {', '.join(backends)}, not {' '.join(argv)!r}", file=sys.stderr)
        return 2
    out = Report()
    inspect_device(out, argv[0])
    return int(out.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
