"""A network compiled by torch's own compiler, which writes C++ for it: worth its seconds for long runs alone.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn import functional

from darkpy.errors import DarkpyError
from darkpy.network import Network, Runner

Program = Callable[[torch.Tensor], Any]


def compiled(network: Network, precision: str) -> Runner:
    """Compile with the weights as constants, for each size of a batch at its first call.

    A batch smaller than one that was compiled for is filled up with black, which is quicker than to compile anew.
    precision: "fp32", or "bf16" for products.
    Raises: DarkpyError without a C++ compiler, for layers with a memory, and where torch cannot compile.
    """
    if network.has_memory:
        raise DarkpyError("--compile: what a layer remembers cannot be compiled", hint="leave --compile out")
    if network.device.type == "cpu":
        _require_compiler()
    programs: dict[int, Program] = {}

    def runner(x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        count = len(x_BCHW)
        size = min((size for size in programs if size >= count), default=count)
        if size > count:
            x_BCHW = functional.pad(x_BCHW, (0,) * 7 + (size - count,))
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        if size not in programs:
            programs[size] = _compile(network, x_BCHW, precision)
        return [output[:count].float() for output in programs[size](x_BCHW)]

    return runner


def _require_compiler() -> None:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise DarkpyError(
            f"--compile needs a C++ compiler, and there is no {compiler}",
            hint="install g++ (apt install g++), name another in CXX, or leave --compile out",
        )


def _compile(network: Network, x_BCHW: torch.Tensor, precision: str) -> Program:
    """A program for inputs of that shape.

    The layers' operations are written down as they run once, and not found in their Python code: what torch finds there
    it looks after at every call, which takes a fiftieth of yolov3-tiny's time.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    device = network.device.type
    lower = torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()
    # a call from C++ saves the time of one from Python, operation by operation
    options = {"freezing": True, "cpp_wrapper": device == "cpu"}
    with torch.inference_mode(False), torch.no_grad():
        x_BCHW = x_BCHW.clone()  # a tensor made in inference_mode stays what it is
        with lower:
            operations = make_fx(lambda x_BCHW: network.plain(x_BCHW))(x_BCHW)
        try:
            program: Program = torch._inductor.compile(operations, [x_BCHW], options=options)
            program(x_BCHW)
        except Exception as fault:  # whatever a compiler, or what it calls, may raise
            reason = str(fault).strip().split("\n")[0]
            raise DarkpyError(f"--compile: torch cannot compile this: {reason}", hint="leave --compile out") from fault
    return program
