"""Settings of the process: OpenMP threads, the allocator of glibc, durations."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from darkpy.process import format_clock, keep_freed_memory, let_waiting_threads_sleep


@pytest.mark.parametrize(
    ("told", "spins"), [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)]
)
def test_waiting_threads_sleep_soon_unless_the_environment_says_otherwise(
    told: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = dict(told)
    monkeypatch.setattr("os.environ", environment)
    let_waiting_threads_sleep()
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


HUGE_PAGES_SCRIPT = """
from pathlib import Path
from darkpy.process import keep_freed_memory
keep_freed_memory()
import torch
tensor = torch.empty(20_000_000)
is_around = False
for line in Path("/proc/self/smaps").read_text().splitlines():
    first, _, rest = line.partition(" ")
    if "-" in first:
        start, end = (int(address, 16) for address in first.split("-"))
        is_around = start <= tensor.data_ptr() < end
    elif is_around and first == "VmFlags:":
        assert "hg" in rest.split(), rest
        print("huge")
"""


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists() or platform.libc_ver()[0] != "glibc",
    reason="Linux without huge pages, or another C library",
)
def test_large_tensors_are_in_huge_pages() -> None:
    done = subprocess.run([sys.executable, "-c", HUGE_PAGES_SCRIPT], check=True, capture_output=True, text=True)
    assert done.stdout == "huge\n"


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str | None) -> object:
        return object()

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert keep_freed_memory() is False


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3723.4, "1:02:03")])
def test_clock_shows_hours_only_if_there_are_any(seconds: float, text: str) -> None:
    assert format_clock(seconds) == text
