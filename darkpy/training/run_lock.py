"""Lock of a run: one process at a time writes the checkpoints of a name into a folder."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from darkpy.errors import DarkpyError, DarkpyWarning

LOCK_SUFFIX = ".darkpy_lock"
_MAX_HOLDER_BYTES = 300
_HELD_LOCKS: set[int] = set()


def _close_in_child() -> None:
    """Close the locks in a forked process: a worker that outlives a killed training would keep holding them."""
    while _HELD_LOCKS:
        os.close(_HELD_LOCKS.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def locked(folder: Path, base: str) -> Iterator[None]:
    """Hold the lock of the checkpoints `base` in a folder for the time of a `with` block.

    The kernel releases it however the process ends. Where locks are not supported (Windows, some network file systems)
    there is none.
    Raises: DarkpyError that names the process that holds it.
    """
    path = folder / f".{base}{LOCK_SUFFIX}"
    handle = _acquire(path, base)
    if handle is None:
        yield
        return
    _HELD_LOCKS.add(handle)
    try:
        yield
    finally:
        _HELD_LOCKS.discard(handle)
        with suppress(OSError):  # of a folder that is away
            path.unlink()  # before the lock is released: a waiting process then finds it removed
        os.close(handle)


def _acquire(path: Path, base: str) -> int | None:
    """Return the file descriptor of the locked file, None where files cannot be locked."""
    try:
        import fcntl
    except ImportError:
        return None
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            _warn(path, error)
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()} on {socket.gethostname()}\n".encode())
                return handle
            os.close(handle)  # the holder has ended and removed it meanwhile
        except BlockingIOError:
            holder = os.read(handle, _MAX_HOLDER_BYTES).decode(errors="replace").strip()
            os.close(handle)
            pid = holder.partition(" ")[0]
            stop = f"stop it with kill {pid}" if pid.isdecimal() else "stop it"
            raise DarkpyError(
                f"{path.parent}: process {holder or 'unknown'} trains {base} into this folder",
                hint=f"wait for it, {stop}, or name another folder with backup= in the .data file",
            ) from None
        except OSError as error:
            os.close(handle)
            _warn(path, error)
            return None


def _warn(path: Path, error: OSError) -> None:
    message = f"{path}: cannot be locked ({error.strerror or error}): make sure that no other training writes here"
    warnings.warn(message, DarkpyWarning, stacklevel=4)
