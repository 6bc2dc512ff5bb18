"""A runner of programs that are each compiled for one shape of the input.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import torch

from darkpy.inference.winograd import ONEDNN_MATMUL

_COMPILER_LOCK = Lock()  # compilers have process-wide settings
Program = Callable[[torch.Tensor], Sequence[torch.Tensor]]


class FixedShapeRunner:
    """Compiles each image shape at its first call, for one image and for each batch larger than any before.

    A smaller batch runs in pieces of known sizes, which is faster than to compile again.
    compile_program: return a program for inputs like the given one; it is called in the caller's inference mode.
    largest_batch: of a program; larger ones run in pieces.
    """

    def __init__(self, compile_program: Callable[[torch.Tensor], Program], *, largest_batch: int = sys.maxsize) -> None:
        self._compile, self._largest_batch = compile_program, largest_batch
        self._programs: dict[tuple[int, ...], dict[int, Program]] = {}  # by image shape, then by batch size

    def __deepcopy__(self, memo: dict[int, Any]) -> FixedShapeRunner:
        """Return itself, as copies of networks share packed weights: nothing writes to them."""
        return self

    def __call__(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        x_BCHW = x_BCHW.to(torch.float32, memory_format=torch.channels_last)
        pieces: list[list[torch.Tensor]] = []
        while len(x_BCHW) or not pieces:
            size, program = self._program(x_BCHW)
            with ONEDNN_MATMUL:  # for convolutions by Winograd's algorithm
                pieces.append([output.float() for output in program(x_BCHW[:size])])
            x_BCHW = x_BCHW[size:]
        return pieces[0] if len(pieces) == 1 else [torch.cat(parts) for parts in zip(*pieces, strict=True)]

    def _program(self, x_BCHW: torch.Tensor) -> tuple[int, Program]:
        """Return the number of images to run next, and the program for them."""
        compiled, size = self._programs.setdefault(tuple(x_BCHW.shape[1:]), {}), min(len(x_BCHW), self._largest_batch)
        sizes = list(compiled)  # another thread may add one
        if 0 < size < max(sizes, default=0):
            size = max((known for known in sizes if known <= size), default=1)
        if size not in compiled:  # checked without the lock: compiled programs need not wait for other compilations
            with _COMPILER_LOCK:
                if size not in compiled:
                    compiled[size] = self._compile(x_BCHW[:size])
        return size, compiled[size]
