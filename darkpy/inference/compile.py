"""Compilation of a network to C++ by torch's inductor; it takes seconds, so it pays for long runs only.

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
from darkpy.inference.executor import reference_executor
from darkpy.inference.winograd import ONEDNN_MATMUL
from darkpy.network import Network, Runner

Program = Callable[[torch.Tensor], Any]


def compile_network(network: Network, precision: str) -> Runner:
    """Return a runner that compiles each input shape at its first call, with the weights as constants.

    A batch smaller than a compiled one runs in pieces of known sizes, which is faster than to compile again.
    precision: of the weighted sums, "fp32" or "bf16".
    Raises: DarkpyError without a C++ compiler, for layers with a memory, and if torch cannot compile the network.
    """
    if network.has_memory:
        raise DarkpyError("--compile: layers with a memory cannot be compiled", hint="leave --compile out")
    compiler = os.environ.get("CXX", "g++")
    if network.device.type == "cpu" and shutil.which(compiler) is None:
        raise DarkpyError(
            f"--compile needs a C++ compiler, and {compiler} was not found",
            hint="install g++ (apt install g++), set CXX to another, or leave --compile out",
        )
    programs: dict[tuple[int, ...], dict[int, Program]] = {}  # by image shape, then by batch size

    def runner(x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        x_BCHW = x_BCHW.to(torch.float32, memory_format=torch.channels_last)
        compiled, count = programs.setdefault(tuple(x_BCHW.shape[1:]), {}), len(x_BCHW)
        size = max((size for size in compiled if size <= count), default=count)
        if count > max(compiled, default=0):
            size = count
        if size not in compiled:
            compiled[size] = _compile(network, x_BCHW[:size], precision)
        with ONEDNN_MATMUL:
            outputs = [output.float() for output in compiled[size](x_BCHW[:size])]
        if size == count:
            return outputs
        return [torch.cat(parts) for parts in zip(outputs, runner(x_BCHW[size:]), strict=True)]

    return runner


def _compile(network: Network, x_BCHW: torch.Tensor, precision: str) -> Program:
    """Compile for inputs of this shape.

    make_fx records the operations of one run. torch.compile would trace the layers' Python code and check guards at
    every call, which takes 2 % of yolov3-tiny's time.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    device, executor = network.device.type, reference_executor(network.plan, network.built, network.outputs)
    autocast = torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()
    # cpp_wrapper: operations called from C++ avoid the overhead of calls from Python
    options = {"freezing": True, "cpp_wrapper": device == "cpu"}
    with torch.inference_mode(False), torch.no_grad():
        x_BCHW = x_BCHW.clone()  # a tensor created in inference_mode stays an inference tensor
        try:
            with autocast:
                operations = make_fx(lambda x_BCHW: executor(x_BCHW))(x_BCHW)
            program: Program = torch._inductor.compile(operations, [x_BCHW], options=options)
            program(x_BCHW)  # errors deferred to the first call are raised here
        except Exception as error:  # the compiler and its subprocesses raise exceptions of many types
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            compiler_errors = [line for line in lines if "error:" in line]  # they follow the compiler's command line
            reason = (compiler_errors or lines or [type(error).__name__])[0]
            raise DarkpyError(f"--compile: torch cannot compile this: {reason}", hint="leave --compile out") from error
    return program
