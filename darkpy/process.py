"""Settings of this process: its cores, threads and memory; programs call them, libraries do not."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Thread
from time import perf_counter, sleep

_THREAD_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_GOMP_SPIN_COUNT = "2000"  # some 20 us of spinning; a thread that spins longer uses up its turn on a busy machine
# the parameters M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_TRIM_NEVER_BYTES = 2**31 - 1
_MMAP_ABOVE_BYTES = 1 << 30
_HUGE_PAGE_SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")
_MAX_HUGE_PAGE_BYTES = 4 << 20  # 512 MB, as with pages of 64 KB, would fill up with unused memory
_MADVISE_COLLAPSE = 25  # of Linux's mman.h
_SECONDS_BEFORE_HUGE_PAGES = 30.0  # what they save by then is about what they cost
_HUGE_PAGE_PAUSE_RATIO = 4.0  # of the time of each page


def count_cpus() -> int:
    """Logical CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_cores() -> int:
    """Physical cores that this process may use; logical CPUs where the system does not tell them apart."""
    if not hasattr(os, "sched_getaffinity"):
        return count_cpus()
    siblings = (Path(_THREAD_SIBLINGS.format(cpu)) for cpu in os.sched_getaffinity(0))
    return len({path.read_text() if path.exists() else str(path) for path in siblings})


def cpu_name() -> str:
    """Model of the processor, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def use_physical_cores() -> None:
    """Set torch's thread count to the number of physical cores, unless OMP_NUM_THREADS is set."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(count_cores())


def limit_thread_spinning() -> None:
    """Make OpenMP's idle threads sleep soon after they run out of work; call it before torch is imported.

    By default GNU's OpenMP keeps them spinning for milliseconds, in which their cores cannot load images. Where other
    programs compute, too, the scheduler then makes these threads wait for their turn, once a layer.
    OMP_WAIT_POLICY and GOMP_SPINCOUNT in the environment take precedence.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _GOMP_SPIN_COUNT)


def keep_freed_memory() -> bool:
    """Make glibc keep the memory of freed large tensors, which it would otherwise return to the kernel each time.

    Later tensors then cost no page faults, and the process stays at its peak size. No effect without glibc.

    Returns: True if the allocator is set so now.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _MMAP_ABOVE_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, _TRIM_NEVER_BYTES))


def release_free_memory() -> None:
    """Return the memory of freed tensors to the system, which `keep_freed_memory` keeps; no effect without glibc.

    For the copies that preparations leave, of which work later on needs only a part.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return


@cache
def use_huge_pages_later() -> None:
    """Start a thread, once in this process, that calls `use_huge_pages` when the process has run for a while.

    A short run would lose more time than it gains. The thread uses at most a fifth of a core.
    """

    def run() -> None:
        sleep(_SECONDS_BEFORE_HUGE_PAGES)
        use_huge_pages(pause_ratio=_HUGE_PAGE_PAUSE_RATIO)

    Thread(target=run, name="huge pages", daemon=True).start()


def use_huge_pages(*, pause_ratio: float = 0) -> int:
    """Move memory in use, as of weights, to huge pages: the processor then translates fewer addresses.

    No effect before Linux 6.1, and where transparent huge pages are switched off. Each page takes 0.3 to 5 ms.

    pause_ratio: pause after each page, as a multiple of the time that it took.
    Returns: bytes in huge pages.
    """
    page_bytes = _huge_page_bytes()
    try:
        library = ctypes.CDLL(None)
        madvise, mincore = library.madvise, library.mincore
        # paths may contain any other line end
        lines = Path("/proc/self/maps").read_bytes().decode(errors="replace").split("\n")[:-1]
    except (OSError, AttributeError, TypeError):
        return 0
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    mincore.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p
    is_resident = (ctypes.c_ubyte * (page_bytes // mmap.PAGESIZE))()
    moved_bytes = 0
    for line in lines if page_bytes else ():
        addresses, permissions, _, _, _, *path = line.split(maxsplit=5)
        if permissions != "rw-p" or path not in ([], ["[heap]"]):
            continue
        start, end = (int(address, 16) for address in addresses.split("-"))
        for address in range(-(-start // page_bytes) * page_bytes, end - page_bytes + 1, page_bytes):
            started = perf_counter()
            # memory that is not in use would be allocated
            if mincore(address, page_bytes, is_resident) or 2 * sum(is_resident) < len(is_resident):
                continue
            if not madvise(address, page_bytes, _MADVISE_COLLAPSE):
                moved_bytes += page_bytes
            sleep(pause_ratio * (perf_counter() - started))
    return moved_bytes


def _huge_page_bytes() -> int:
    """Size of a huge page, 0 where the system has none of a useful size, or they are switched off."""
    try:
        if "[never]" in (_HUGE_PAGE_SETTINGS / "enabled").read_text():
            return 0
        page_bytes = int((_HUGE_PAGE_SETTINGS / "hpage_pmd_size").read_text())
        return page_bytes if page_bytes <= _MAX_HUGE_PAGE_BYTES else 0
    except (OSError, ValueError):
        return 0


def flush_libraries() -> None:
    """Flush the C library's own output streams; no effect where it cannot be found."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)


def format_clock(seconds: float) -> str:
    """Format a duration as `1:02:03`, or `2:03` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
