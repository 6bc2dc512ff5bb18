"""glibc's habits can be changed, and elsewhere nothing happens."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from darkpy.process import keep_freed_memory

SCRIPT = """
import platform, resource, torch
from darkpy.process import keep_freed_memory
kept = keep_freed_memory()
assert kept == (platform.libc_ver()[0] == "glibc"), platform.libc_ver()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(4_000_000).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
assert not kept or faults() < 1000
"""


def test_large_tensors_cost_page_faults_once() -> None:
    # each of the twenty has some 4000 pages
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str | None) -> object:
        return object()

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert keep_freed_memory() is False
