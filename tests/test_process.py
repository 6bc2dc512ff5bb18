"""Settings of the process: OpenMP threads, the allocator of glibc, durations."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from darkpy import process
from darkpy.process import format_clock, keep_freed_memory, limit_thread_spinning, use_huge_pages


@pytest.mark.parametrize(
    ("told", "spins"), [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)]
)
def test_thread_spinning_is_limited_unless_the_environment_sets_it(
    told: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = dict(told)
    monkeypatch.setattr("os.environ", environment)
    limit_thread_spinning()
    assert environment.get("GOMP_SPINCOUNT") == spins


PAGE_FAULT_SCRIPT = """
import platform, resource, torch
from darkpy.process import keep_freed_memory
is_kept = keep_freed_memory()
assert is_kept == (platform.libc_ver()[0] == "glibc"), platform.libc_ver()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(4_000_000).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
assert not is_kept or faults() < 1000
"""


def test_large_tensors_cost_page_faults_once() -> None:
    # each of the twenty has some 4000 pages
    subprocess.run([sys.executable, "-c", PAGE_FAULT_SCRIPT], check=True)


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str | None) -> object:
        return object()

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert keep_freed_memory() is False
    assert use_huge_pages() == 0


HUGE_PAGE_SCRIPT = """
import mmap, platform, sys, torch
from darkpy.process import keep_freed_memory, use_huge_pages
def kilobytes(name):
    (line,) = (line for line in open("/proc/self/smaps_rollup") if line.startswith(name + ":"))
    return int(line.split()[1])
file = open(sys.argv[1], "wb+")
file.truncate(4096)
mapped = mmap.mmap(file.fileno(), 0)  # a line of /proc/self/maps
keep_freed_memory()
used, unused = torch.arange(16 << 20), torch.empty(32 << 20)  # 128 MiB each
resident, huge = kilobytes("Rss"), kilobytes("AnonHugePages")
moved_bytes = use_huge_pages()
version = tuple(map(int, platform.release().split(".")[:2]))
try:
    is_off = "[never]" in open("/sys/kernel/mm/transparent_hugepage/enabled").read()
except OSError:
    is_off = True
assert (moved_bytes > 64 << 20) == (version >= (6, 1) and not is_off), (moved_bytes, version)
if moved_bytes:
    assert kilobytes("AnonHugePages") - huge > 64 << 10
    assert kilobytes("Rss") - resident < 32 << 10
assert torch.equal(used, torch.arange(16 << 20))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_memory_in_use_moves_to_huge_pages_unchanged_and_unused_memory_stays_unallocated(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", HUGE_PAGE_SCRIPT, tmp_path / "line\r\u2028end"], check=True)


@pytest.mark.parametrize(
    "files",
    [
        {"enabled": "always madvise [never]", "hpage_pmd_size": "2097152"},
        {"enabled": "always [madvise] never", "hpage_pmd_size": "536870912"},
        {},
    ],
)
def test_huge_pages_that_are_switched_off_too_large_or_absent_are_not_used(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(process, "_HUGE_PAGE_SETTINGS", tmp_path)
    assert use_huge_pages() == 0


HUGE_PAGE_THREAD_SCRIPT = """
import threading
from darkpy import process
events, is_over = [], threading.Event()
def sleep(seconds):
    events.append(seconds)
    is_over.wait()
process.sleep = sleep
process.use_huge_pages = lambda *, pause_ratio: events.append(pause_ratio)
process.use_huge_pages_later()
process.use_huge_pages_later()
(thread,) = (thread for thread in threading.enumerate() if thread.name == "huge pages")
assert thread.daemon
is_over.set()
thread.join()
assert events == [30, 4], events
"""


def test_thread_for_huge_pages_starts_once_waits_and_does_not_delay_the_end() -> None:
    subprocess.run([sys.executable, "-c", HUGE_PAGE_THREAD_SCRIPT], check=True)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3723.4, "1:02:03")])
def test_clock_shows_hours_only_if_there_are_any(seconds: float, text: str) -> None:
    assert format_clock(seconds) == text
