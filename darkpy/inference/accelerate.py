"""One way to a network that runs as fast as this machine lets it: by which engine, in which precision, compiled or not.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch

from darkpy.errors import DarkpyError
from darkpy.inference.backends import onnx_runtime, openvino
from darkpy.inference.compile import compiled
from darkpy.inference.executor import Steps, quicken
from darkpy.inference.quantize import encoded
from darkpy.network import Network, Runner

ENGINES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"torch": ("fp32", "bf16", "int8"), "onnxruntime": ("fp32",), "openvino": ("fp32", "bf16")}
)
"""What can run a network, and in which precisions."""
PRECISIONS = ENGINES["torch"]
TOLERANCES: Mapping[str, float] = MappingProxyType({"fp32": 1e-3, "bf16": 0.25, "int8": 0.5})
"""How far outputs may be from the plain ones, root mean square by root mean square. Further off, something is broken;
what a precision costs is told by a difference of average precisions alone.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ways:
    """How a network is to be run: by which engine, with products in which precision, compiled by torch or not."""

    engine: str = "torch"
    precision: str = "fp32"
    is_compiled: bool = False

    def check(self, device: torch.device) -> None:
        """Raises: DarkpyError for an unknown word, and for what cannot be had together."""
        for word, known, option in ((self.engine, ENGINES, "engine"), (self.precision, PRECISIONS, "precision")):
            if word not in known:
                raise DarkpyError(f"{word!r} is no {option}", hint=f"one of {', '.join(known)}")
        if self.precision not in ENGINES[self.engine]:
            able = ", ".join(ENGINES[self.engine])
            raise DarkpyError(f"{self.engine} runs in {able} here, not {self.precision}", hint="--engine torch has all")
        if self.is_compiled and (self.engine != "torch" or self.precision == "int8"):
            raise DarkpyError("only what torch runs in fp32 or bf16 can be compiled", hint="leave --compile out")
        if device.type != "cpu" and (self.engine != "torch" or self.precision == "int8"):
            raise DarkpyError(f"--engine and int8 are for the processor, not {device.type}", hint="add --device cpu")

    @property
    def is_plain(self) -> bool:
        """Whether each layer's function has been compared with the plain one as it was made."""
        return self == Ways()


def accelerate(network: Network, ways: Ways | None = None, *, images: Sequence[torch.Tensor] = ()) -> Network:
    """Have the network run the fastest way that is known, from now on and with no way back; it is returned.

    It takes what it took and gives what it gave, and its weights may be gone: save or export it before. By default
    it computes in float32 what it computed, on any processor; `ways` asks for what needs more, or loses a little.

    Shapes: images x_1CHW, which int8 needs, a few dozen like those to come.
    Raises: DarkpyError when a way cannot be gone here, or gives something else than the layers do.
    """
    ways = ways or Ways()
    network.for_inference()
    ways.check(network.device)
    if ways.is_plain:
        network.run_by(_steps(network, torch.float32))
        return network
    x_1CHW = (images[0] if images else torch.rand((1, *network.plan.input_shape))).to(network.device)
    with torch.inference_mode():
        wanted = network.plain(x_1CHW)
        network.reset_state()
        runner = _open(network, ways, images)
        _check(runner(x_1CHW), wanted, ways)
    network.reset_state()
    network.run_by(runner, prefers_interleaved=ways.engine == "torch")
    return network


def _open(network: Network, ways: Ways, images: Sequence[torch.Tensor]) -> Runner:
    if ways.is_compiled:
        return compiled(network, ways.precision)
    if ways.precision == "int8":
        functions = encoded(network.plan, network.built, images)
        return Steps(network.plan, network.outputs, functions)
    openers: dict[str, Callable[[], Runner]] = {
        "torch": lambda: _steps(network, torch.bfloat16),
        "onnxruntime": lambda: onnx_runtime(network),
        "openvino": lambda: openvino(network, ways.precision),
    }
    return openers[ways.engine]()


def _steps(network: Network, dtype: torch.dtype) -> Steps:
    functions = quicken(network.plan, network.built, dtype)
    return Steps(network.plan, network.outputs, functions)


def _check(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], ways: Ways) -> None:
    """Raises: DarkpyError unless all outputs are as near as the precision lets them be; NaN never is."""
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        if not other.isfinite().all():
            raise DarkpyError(
                f"output {number} holds what is no number, whichever way the network is run",
                hint="its weights may be damaged, or meant for another cfg",
            )
        apart, size = (one - other).norm(), other.norm()
        if not (one.shape == other.shape and apart <= TOLERANCES[ways.precision] * size):
            way = f"{ways.engine}, {ways.precision}{', compiled' if ways.is_compiled else ''}"
            raise DarkpyError(
                f"{way}: output {number} is off by {apart / size:.1%} of what the layers compute",
                hint="run without --engine, --precision and --compile",
            )
