"""Settings of the process: OpenMP threads, the allocator of glibc, durations."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from darkpy.process import format_clock, keep_freed_memory, limit_thread_spinning


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


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3723.4, "1:02:03")])
def test_clock_shows_hours_only_if_there_are_any(seconds: float, text: str) -> None:
    assert format_clock(seconds) == text
