"""Files that several processes share: one writer at a time in a folder, and files that appear whole or not at all."""

import os
import secrets
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from wheeler.cli import brief, reason

LOCK_FILE, LOCK_SECONDS = "writer.lock", 30.0


def folder_named(folder):
    """The Path of a folder that is named by a str or a path; ValueError for what cannot name one."""
    try:
        path = os.fspath(folder)
    except TypeError:
        path = None
    if not isinstance(path, str) or not path or "\0" in path:  # Path("") would be the folder that one is in
        raise ValueError(f"folder is {brief(folder)}; it must be the path of a folder")
    return Path(path)


@contextmanager
def written_to(folder):
    """Makes a folder if it is missing. What the disk refuses, then or inside, is one line that names the folder, in an
    error of the same kind (an OSError)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno is None:  # one of ours, as TimeoutError
            raise
        raise type(error)(f"{folder} cannot be written: {reason(error)}") from error


@contextmanager
def locked(folder):
    """Only one process at a time is inside, for a folder. The lock of a process that died is free at once.

    The file stays behind: were it removed, two processes could hold locks of different files of that name.
    TimeoutError where another process keeps the lock for LOCK_SECONDS.
    """
    lock = FileLock(Path(folder) / LOCK_FILE, timeout=LOCK_SECONDS, poll_interval=0.01)
    try:
        lock.acquire()
    except Timeout:
        raise TimeoutError(
            f"{folder}: another process has been writing there for {LOCK_SECONDS:g} s ({LOCK_FILE} is locked)"
        ) from None
    try:
        yield
    finally:
        lock.release()


def flush_folder(folder):
    """Names that were changed in a folder reach the disk."""
    if hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def temporary(path):
    """A name beside path for what will become it; remove_leftover knows these names."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")


def remove_leftover(folder, pattern):
    """Remove what a killed writer left half-written for files of this pattern. The folder must be locked."""
    for path in Path(folder).glob(f"{pattern}.{'[0-9a-f]' * 8}.tmp"):
        remove(path)


def remove(path):
    """Remove a file if it is there. One that cannot be removed, as on Windows where a reader has it open, stays."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass


def write_whole(path, fill):
    """Write a file, by fill(open file), so that it appears whole or not at all, also after a power cut."""
    beside = temporary(path)
    try:
        with open(beside, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        flush_folder(path.parent)
    except BaseException:
        remove(beside)
        raise


def write_many(files, folders):
    """Write many files, (path, bytes) each: all new ones are on the disk before the first takes its name.

    One flush of everything instead of one a file, which takes milliseconds each. folders: where the files are.
    """
    beside = []
    try:
        for path, content in files:
            beside.append((temporary(path), path))
            with open(beside[-1][0], "wb") as file:
                file.write(content)
                if not hasattr(os, "sync"):  # Windows
                    os.fsync(file.fileno())
        if beside and hasattr(os, "sync"):
            os.sync()
        for new, path in beside:
            os.replace(new, path)
    except BaseException:
        for new, _ in beside:
            new.unlink(missing_ok=True)
        raise
    for folder in folders:
        flush_folder(folder)
