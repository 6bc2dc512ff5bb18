"""Errors of other libraries that are recognized."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch

from darkpy.errors import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not create a memory object"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 5.10 GB)"),
        RuntimeError(
            "Caught RuntimeError in DataLoader worker process 0.\n... DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("unable to mmap 4096 bytes from file </torch_1>: Cannot allocate memory (12)"),
    ],
    ids=lambda error: str(error)[:40],
)
def test_memory_that_does_not_suffice_is_recognized_in_every_librarys_words(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("could not create a primitive descriptor for the convolution"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("out of memory"),
    ],
    ids=str,
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_the_allocators_of_torch_and_numpy_are_recognized_as_they_really_fail() -> None:
    for allocate in (lambda: torch.empty(1 << 50), lambda: np.empty(1 << 58)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert is_out_of_memory(caught.value), caught.value


CONVOLUTION_WITHOUT_MEMORY = """
import resource, sys, torch
from darkpy.errors import is_out_of_memory
layer, x = torch.nn.Conv2d(64, 64, 3, padding=1), torch.zeros(1, 64, 8, 8)
with torch.no_grad():
    layer(x)
big = torch.zeros(1, 64, 900, 900)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
texts = []
for spare in (1 << 20, 8 << 20, 64 << 20, 200 << 20):
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, -1))
    try:
        with torch.no_grad():
            layer(big)
    except (RuntimeError, MemoryError) as error:
        assert is_out_of_memory(error), error
        texts.append(str(error))
assert texts
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS") or sys.platform != "linux", reason="limits of Linux")
def test_a_convolution_in_a_process_with_too_little_memory_is_recognized() -> None:
    subprocess.run([sys.executable, "-c", CONVOLUTION_WITHOUT_MEMORY], check=True, timeout=60)
