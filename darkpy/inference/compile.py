"""Compilation of a network to C++ by torch's inductor; it takes seconds, so it pays for long runs only.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext

import torch

from darkpy.errors import DarkpyError
from darkpy.inference.executor import reference_executor
from darkpy.inference.fixed_shapes import FixedShapeRunner, Program
from darkpy.network import Network, Runner


def compile_network(network: Network, precision: str) -> Runner:
    """Return a runner that compiles each input shape at its first call, with the weights as constants.

    precision: of the weighted sums, "fp32" or "bf16".
    Raises: DarkpyError without a C++ compiler, for recurrent layers, and if torch cannot compile the network.
    """
    if network.has_memory:
        raise DarkpyError("--compile: recurrent layers cannot be compiled", hint="leave --compile out")
    compiler = os.environ.get("CXX", "g++")
    if network.device.type == "cpu" and shutil.which(compiler) is None:
        raise DarkpyError(
            f"--compile needs a C++ compiler, and {compiler} was not found",
            hint="install g++ (apt install g++), set CXX to another, or leave --compile out",
        )
    return FixedShapeRunner(lambda x_BCHW: _compile(network, x_BCHW, precision))


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
