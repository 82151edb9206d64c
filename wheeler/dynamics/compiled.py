"""How the project's functions are compiled with numba: `jit` for one thread, `parallel` for all.

Machine code is kept on the disk where there is a folder for it. Where none may be written, or what is kept there is
damaged, functions are compiled anew: that costs seconds, not the command. No fastmath: LLVM then neither reorders sums
nor contracts products and sums, so every machine gives the same bits.
"""

import contextlib
import os
import threading
from functools import wraps

import numba
from numba import njit
from numba.core.caching import FunctionCache

OPTIONS = {"error_model": "numpy", "nogil": True}
_one_at_a_time = threading.Lock()
_forked = False


class _Cache(FunctionCache):
    """Of numba, but what cannot be read or written is not there."""

    def load_overload(self, *args):
        try:
            return super().load_overload(*args)
        except Exception:                                                     # cut off: whatever pickle says to it
            return None

    def save_overload(self, *args):
        with contextlib.suppress(Exception):                                  # a full disk, an index cut off
            super().save_overload(*args)


def _kept(function, **options):
    """The function compiled, its machine code kept on the disk where that can be."""
    compiled = njit(**OPTIONS, **options)(function)
    if hasattr(compiled, "_cache"):                                           # not with NUMBA_DISABLE_JIT
        with contextlib.suppress(RuntimeError, OSError):                      # no folder that may be written
            compiled._cache = _Cache(compiled.py_func)
    return compiled


def jit(function):
    """Decorator: compiled, for one thread."""
    return _kept(function)


def parallel(function):
    """Decorator: compiled, its `prange` loops on all threads. Not for use in other compiled functions.

    Safe in any thread and in a forked child: a child's copy of the threads that a parent has started hangs or ends the
    process, so there the loops run on one."""
    fast, plain = _kept(function, parallel=True), []

    @wraps(function)
    def call(*args):
        if _forked:
            # Not kept on the disk, where it would be taken for the parallel one.
            plain[:] = plain or [njit(**OPTIONS)(function)]
            return plain[0](*args)
        # numba's own layer of threads, its last resort, ends the process when two threads call at once.
        with _one_at_a_time if _own_layer() else contextlib.nullcontext():
            return fast(*args)

    return call


def _own_layer() -> bool:
    try:
        return numba.threading_layer() == "workqueue"
    except ValueError:                                                        # not started yet: the first call does it
        return True


def _in_child() -> None:
    global _forked
    try:
        numba.threading_layer()
    except ValueError:                                                        # the parent has started no threads
        return
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
