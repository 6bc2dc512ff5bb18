"""A runner of programs that are each compiled for one shape of the input.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import torch
from torch.nn import functional

from darkpy.inference.winograd import ONEDNN_MATMUL

_COMPILER_LOCK = Lock()  # compilers have process-wide settings
Program = Callable[[torch.Tensor], Sequence[torch.Tensor]]


FILLED_PIECES = 4
"""Pieces filled up to the smallest program before one for a single image is compiled, which takes as long as these."""


class FixedShapeRunner:
    """Compiles each image shape at its first call, and again for each batch larger than any before.

    A smaller batch runs in pieces of known sizes, which is faster than to compile again; one that is smaller than all
    of them is filled up with black images, or, if there are many such, runs image by image.
    compile_program: return a program for inputs like the given one; it is called in the caller's inference mode.
    largest_batch: of a program; larger ones run in pieces.
    """

    def __init__(self, compile_program: Callable[[torch.Tensor], Program], *, largest_batch: int = sys.maxsize) -> None:
        self._compile, self._largest_batch = compile_program, largest_batch
        self._programs: dict[tuple[int, ...], dict[int, Program]] = {}  # by image shape, then by batch size
        self._filled_pieces = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> FixedShapeRunner:
        """Return itself, as copies of networks share packed weights: nothing writes to them."""
        return self

    def __call__(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        x_BCHW = x_BCHW.to(torch.float32, memory_format=torch.channels_last)
        pieces: list[list[torch.Tensor]] = []
        while len(x_BCHW) or not pieces:
            size, program = self._program(x_BCHW)
            piece_BCHW, x_BCHW = x_BCHW[:size], x_BCHW[size:]
            count = len(piece_BCHW)
            if count < size:
                piece_BCHW = functional.pad(piece_BCHW, (0, 0, 0, 0, 0, 0, 0, size - count))
            with ONEDNN_MATMUL:  # for convolutions by Winograd's algorithm
                pieces.append([output[:count].float() for output in program(piece_BCHW)])
        return pieces[0] if len(pieces) == 1 else [torch.cat(parts) for parts in zip(*pieces, strict=True)]

    def _program(self, x_BCHW: torch.Tensor) -> tuple[int, Program]:
        """Return the batch size to run next, and the program for it; the batch may be larger than what is left."""
        compiled, size = self._programs.setdefault(tuple(x_BCHW.shape[1:]), {}), min(len(x_BCHW), self._largest_batch)
        sizes = [known for known in list(compiled) if known]  # another thread may add one
        if 0 < size < max(sizes, default=0):
            if min(sizes) <= size:
                size = max(known for known in sizes if known <= size)
            elif self._filled_pieces < FILLED_PIECES:
                self._filled_pieces += 1
                size = min(sizes)
            else:
                size = 1
        if size not in compiled:  # checked without the lock: compiled programs need not wait for other compilations
            with _COMPILER_LOCK:
                if size not in compiled:
                    compiled[size] = self._compile(x_BCHW[:size])
        return size, compiled[size]
