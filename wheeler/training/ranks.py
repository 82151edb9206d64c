"""The processes of a run, several under torchrun, else one; and the signals that stop them.

    torchrun --nproc_per_node=2 train.py --dataset sample ...                             # two on this machine
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=HOST:29400 train.py ...   # on each node

Every process takes each `count`-th row of every batch, starting with its own rank: no row twice, none left out, and the
batch is the same however many processes share it. Process 0 evaluates and writes. Tensors on the CPU travel by gloo,
those on a GPU by nccl (rccl with ROCm).
"""

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist


def launcher_number(name: str, default: int | None = None) -> int:
    value = os.environ.get(name, default)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} = {value!r} in the environment must be a number, as torchrun sets it") from None


class Ranks:
    """rank 0 .. count - 1 of this process, local: its number on this machine, here: how many there are on it, as far
    as it knows. ValueError where the launcher's variables are no numbers."""

    def __init__(self):
        there = "MASTER_ADDR" in os.environ and "RANK" in os.environ          # WORLD_SIZE alone: another launcher's
        self.count = launcher_number("WORLD_SIZE", 1) if there else 1
        self.rank, self.local, self.here = 0, 0, 1
        if self.count > 1:
            launcher_number("MASTER_PORT")                                    # torch needs it
            self.rank, self.local = launcher_number("RANK"), launcher_number("LOCAL_RANK", 0)
            self.here = launcher_number("LOCAL_WORLD_SIZE", self.local + 1)
        self.main = self.rank == 0

    def say(self, *words) -> None:
        """print, on process 0 alone."""
        if self.main:
            print(*words)

    def device_name(self, name: str | None) -> str | None:
        """--device of this process: without one, a GPU of its own. ValueError where there are too few."""
        if self.count == 1 or name not in (None, "cuda") or not torch.cuda.is_available():
            return name
        if max(self.local + 1, self.here) > torch.cuda.device_count():        # all raise it: process 0 is the one heard
            raise ValueError(f"process {torch.cuda.device_count()} of this machine has no GPU: torchrun "
                             f"--nproc_per_node must be at most {torch.cuda.device_count()}, or --device cpu")
        return f"cuda:{self.local}"

    def start(self, device: torch.device) -> None:
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
        if self.count > 1 and not dist.is_initialized():
            # Long enough for an evaluation on process 0; a process that dies is noticed at once, by torchrun.
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                                    timeout=timedelta(hours=2))

    def stop(self) -> None:
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @contextmanager
    def one_first(self):
        """Inside, one process of each machine goes ahead of the others, which then find what it has made."""
        if self.local:
            self.highest(0)
        yield
        if not self.local:
            self.highest(0)

    def share(self, rows: int) -> int:
        """How many of the first `rows` rows of a batch belong to this process."""
        return len(range(self.rank, rows, self.count))

    def highest(self, number: int) -> int:
        """The highest of the processes' numbers; all wait for each other here."""
        return self._reduce(number, torch.int64, dist.ReduceOp.MAX)

    def lowest(self, number: int) -> int:
        return -self.highest(-number)

    def sum(self, number: float) -> float:
        return self._reduce(number, torch.float64, dist.ReduceOp.SUM)

    def _reduce(self, number, dtype, operation):
        if self.count == 1:
            return number
        value = torch.tensor(number, dtype=dtype)
        dist.all_reduce(value, operation)
        return value.item()

    def gather(self, value) -> list:
        """The values of all processes, in their order, on process 0; elsewhere an empty list."""
        if self.count == 1:
            return [value]
        values = [None] * self.count if self.main else None
        dist.gather_object(value, values)
        return values or []


STOPPING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class Unheard:
    """A stream that may have nobody left who reads it: what cannot be written is lost, and no error."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError:
            pass

    def __getattr__(self, name):
        return getattr(self.stream, name)


class StopSignal:
    """Ctrl-C, SIGTERM or SIGHUP (the terminal was closed) ends the run after the step at hand, so that what is saved is
    whole; a second one at once. quiet: another process of the run speaks. echo: seconds in which a second signal is the
    first one again, since torchrun passes on what the terminal has sent to all processes already."""

    def __init__(self, quiet: bool = False, echo: float = 0):
        self.received, self.before, self.process = 0, {}, os.getpid()
        self.quiet, self.echo, self.when = quiet, echo, -math.inf

    def __call__(self, number, frame) -> None:
        if os.getpid() != self.process:                                       # a worker that was forked just now
            return
        if number not in STOPPING[:2]:
            # The shell and the kernel both send it, some session managers SIGTERM as well: nobody asks for haste here.
            self.echo = max(self.echo, 5)
            # What is printed from here on, before the save and after it, may have lost its terminal.
            sys.stdout, sys.stderr = Unheard(sys.stdout), Unheard(sys.stderr)
            if self.received:
                return
        if self.received and time.monotonic() - self.when >= self.echo:
            raise KeyboardInterrupt
        if not self.received:
            self.received, self.when = number, time.monotonic()
            if not self.quiet:
                try:
                    os.write(2, b"\nstopping after this step (and its evaluation); once more: at once, without "
                                b"saving\n")
                except OSError:
                    pass

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():             # elsewhere Python refuses handlers
            # nohup asks not to be stopped by SIGHUP; SIGINT is ignored in the background, and still stops a run.
            self.before = {number: signal.signal(number, self) for number in STOPPING
                           if number in STOPPING[:2] or signal.getsignal(number) is not signal.SIG_IGN}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def start_worker(lock: int | None, worker: int) -> None:
    """In a process that prepares batches: leave signals to the run, since the terminal sends Ctrl-C and SIGHUP to all
    its processes, and the lock of the folder too, since a worker outlives a killed run by some seconds."""
    for number in (signal.SIGINT, *STOPPING[2:]):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if lock is not None and multiprocessing.get_start_method() == "fork":
        os.close(lock)
