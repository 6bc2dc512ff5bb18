"""A runner of programs that are each compiled for one shape of the input.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import torch

from darkpy.inference.winograd import ONEDNN_MATMUL

_COMPILER_LOCK = Lock()  # compilers have settings of the whole process
Program = Callable[[torch.Tensor], Sequence[torch.Tensor]]


class FixedShapeRunner:
    """Compiles each shape of an image at its first call, for one image and for each batch larger than any before.

    A smaller batch runs in pieces of known sizes, which is faster than to compile again.
    compile_program: return a program for inputs like the given one; it is called in the caller's inference mode.
    """

    def __init__(self, compile_program: Callable[[torch.Tensor], Program]) -> None:
        self._compile = compile_program
        self._programs: dict[tuple[int, ...], dict[int, Program]] = {}  # by image shape, then by batch size

    def __deepcopy__(self, memo: dict[int, Any]) -> FixedShapeRunner:
        """Return itself, as copies of networks share packed weights: nothing writes to them."""
        return self

    def __call__(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        x_BCHW = x_BCHW.to(torch.float32, memory_format=torch.channels_last)
        compiled, count = self._programs.setdefault(tuple(x_BCHW.shape[1:]), {}), len(x_BCHW)
        size = count
        if 0 < count < max(compiled, default=0):
            size = max((known for known in list(compiled) if known <= count), default=1)
        with _COMPILER_LOCK:
            if size not in compiled:
                compiled[size] = self._compile(x_BCHW[:size])
        with ONEDNN_MATMUL:  # for convolutions by Winograd's algorithm
            outputs = [output.float() for output in compiled[size](x_BCHW[:size])]
        if size == count:
            return outputs
        return [torch.cat(parts) for parts in zip(outputs, self(x_BCHW[size:]), strict=True)]
