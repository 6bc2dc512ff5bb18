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

from darkpy.errors import DarkpyError
from darkpy.inference.executor import plain_steps
from darkpy.network import Network, Runner

Program = Callable[[torch.Tensor], Any]


def compiled(network: Network, precision: str) -> Runner:
    """Compile with the weights as constants, for each shape of input at its first call.

    Of a batch smaller than one that was compiled for, pieces of known sizes are run: that is quicker than to compile.
    precision: "fp32", or "bf16" for products.
    Raises: DarkpyError without a C++ compiler, for layers with a memory, and where torch cannot compile.
    """
    if network.has_memory:
        raise DarkpyError("--compile: what a layer remembers cannot be compiled", hint="leave --compile out")
    if network.device.type == "cpu":
        _require_compiler()
    programs: dict[tuple[int, ...], dict[int, Program]] = {}  # by size of images, and of the batch

    def runner(x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        x_BCHW = x_BCHW.to(torch.float32, memory_format=torch.channels_last)
        known, count = programs.setdefault(tuple(x_BCHW.shape[1:]), {}), len(x_BCHW)
        size = max((size for size in known if size <= count), default=count)
        if count > max(known, default=0):
            size = count
        if size not in known:
            known[size] = _compile(network, x_BCHW[:size], precision)
        found = [output.float() for output in known[size](x_BCHW[:size])]
        if size == count:
            return found
        return [torch.cat(parts) for parts in zip(found, runner(x_BCHW[size:]), strict=True)]

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

    device, steps = network.device.type, plain_steps(network.plan, network.built, network.outputs)
    lower = torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()
    # a call from C++ saves the time of one from Python, operation by operation
    options = {"freezing": True, "cpp_wrapper": device == "cpu"}
    with torch.inference_mode(False), torch.no_grad():
        x_BCHW = x_BCHW.clone()  # a tensor made in inference_mode stays what it is
        try:
            with lower:
                operations = make_fx(lambda x_BCHW: steps(x_BCHW))(x_BCHW)
            program: Program = torch._inductor.compile(operations, [x_BCHW], options=options)
            program(x_BCHW)  # what is put off until then fails here
        except Exception as fault:  # whatever a compiler, or what it calls, may raise
            raise DarkpyError(
                f"--compile: torch cannot compile this: {_reason(fault)}", hint="leave --compile out"
            ) from fault
    return program


def _reason(fault: Exception) -> str:
    """The line that tells most: a compiler's own error, which stands below the command it was called by."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    own = [line for line in lines if "error:" in line]
    return (own or lines or [type(fault).__name__])[0]
