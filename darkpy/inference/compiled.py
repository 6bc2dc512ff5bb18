"""A network compiled by torch's own compiler, which writes C++ for it: worth its half minute for long runs alone."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext

import torch
from torch import nn

from darkpy.errors import DarkpyError
from darkpy.network import Network, Runner


class _Plain(nn.Module):
    """The layers' own arithmetic as the compiler takes it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        return self.network.plain(x_BCHW)


def compiled(network: Network, precision: str) -> Runner:
    """Compile with the weights as constants, for each shape of input at its first call.

    precision: "fp32", or "bf16" for products.
    Raises: DarkpyError without a C++ compiler.
    """
    compiler = os.environ.get("CXX", "g++")
    if network.device.type == "cpu" and shutil.which(compiler) is None:
        raise DarkpyError(
            f"--compile needs a C++ compiler, and there is no {compiler}",
            hint="install g++ (apt install g++), name another in CXX, or leave --compile out",
        )
    run = torch.compile(_Plain(network), dynamic=False, options={"freezing": True})
    device = network.device.type

    def runner(x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        lower = torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()
        with torch.no_grad(), lower:
            found: list[torch.Tensor] = run(x_BCHW)
        return [output.float() for output in found]

    return runner
