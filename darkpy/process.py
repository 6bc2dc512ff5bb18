"""How many threads compute."""

from __future__ import annotations

import os
from pathlib import Path

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


_SPINS = "10000"  # tenths of a millisecond, which is longer than torch takes from one operation to the next


def count_cores() -> int:
    """Physical cores that this process may use; where the system does not tell, as many as it has threads."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    siblings = (Path(_SIBLINGS.format(cpu)) for cpu in os.sched_getaffinity(0))
    return len({path.read_text() if path.exists() else str(path) for path in siblings})


def use_physical_cores() -> None:
    """Have torch compute with a thread for each of them, unless OMP_NUM_THREADS says how many; programs call this."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(count_cores())


def let_waiting_threads_sleep() -> None:
    """Have the threads that torch computes with give their core away soon after they have run out of work.

    By default GNU's OpenMP keeps them running idle for milliseconds, in which nobody else can load an image. Programs
    call this before torch is imported, and what the environment says goes before it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
