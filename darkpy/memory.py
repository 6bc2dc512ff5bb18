"""What the C library does with memory that Python has freed."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_... of glibc's malloc.h
_NEVER = 2**31 - 1
_LARGE = 1 << 30


def keep_freed_memory() -> bool:
    """Have this process keep what large tensors free, where glibc would hand it back to the kernel each time.

    The next tensor then costs no page faults, and the process stays as large as it once was. It is for programs to
    call, not for libraries; where there is no glibc, nothing happens.

    Returns: whether it is so now.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGE)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
