"""Acceleration of a network for inference: engine, precision and compilation, each checked against the layers.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch

from darkpy.deprecation import renamed_arguments, warn_renamed
from darkpy.errors import DarkpyError, DarkpyNote
from darkpy.inference.backends import ENGINES_BY_NAME
from darkpy.inference.calibration import quantize_network
from darkpy.inference.compile import compile_network
from darkpy.inference.engine_selection import choose_engine
from darkpy.inference.executor import Executor, lower_layers
from darkpy.inference.kernel_selection import KernelSelector
from darkpy.inference.lowering import Lowering
from darkpy.inference.runner_selection import fastest_runner
from darkpy.network import Network, Runner, require_network

PRECISIONS_BY_ENGINE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "torch": ("fp32", "bf16", "int8"),
        "auto": ("fp32",),
        **{name: engine.precisions for name, engine in ENGINES_BY_NAME.items()},
    }
)
"""Inference engines and the precisions that each supports; auto selects the fastest installed engine."""
OUTPUT_TOLERANCES: Mapping[str, float] = MappingProxyType({"fp32": 1e-3, "bf16": 0.25, "int8": 0.5})
"""Largest error of an output by precision: root mean square of the difference over that of the expected output.

A larger error means that something is broken. The accuracy lost to a precision shows only in the average precision.
"""
EXTRA_WEIGHTS_RATIO = 2.0
"""Memory for kernels that need more than the weights, as a multiple of the weights of the network."""
MIN_EXTRA_BYTES = 128 << 20
FLOAT32_BYTES = 4
TUNE_MODES = ("off", "on", "again")
TUNE_VARIABLE = "DARKPY_TUNE"
"""Environment variable with the default of `InferenceConfig.tune`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InferenceConfig:
    """Engine, precision and compilation of a network in inference.

    engine: a key of PRECISIONS_BY_ENGINE; "auto" selects the fastest of those installed and names it in a warning; on
        a GPU it is torch. precision: of the weighted sums, "fp32", "bf16" or "int8".
    compiled: compile to C++ by torch's inductor.
    tune: with engine torch, and fp32 or bf16: "on" measures which kernels are fastest here, once for each kind of
        convolution, and stores the result in a file; "again" measures anew; "off" uses the default ones. None: the
        environment variable DARKPY_TUNE, else "on".
    batch: typical batch size, for which kernels are measured.
    image_count: total number of images, None for many. A program that costs more time than it saves is not prepared.
    low_memory: only kernels that need no more memory than the weights; the fastest may take seven times as much.
    """

    engine: str = "torch"
    precision: str = "fp32"
    compiled: bool = False
    tune: str | None = None
    batch: int = 1
    image_count: int | None = None
    low_memory: bool = False

    @property
    def is_plain(self) -> bool:
        """True for torch's float32 without compilation, which needs no check of the whole network."""
        return self.engine == "torch" and self.precision == "fp32" and not self.compiled

    def check(self, device: torch.device) -> None:
        """Raises: DarkpyError for an unknown engine or precision, and for an unsupported combination."""
        if self.engine not in PRECISIONS_BY_ENGINE:
            raise DarkpyError(f"unknown engine {self.engine!r}", hint=f"one of {', '.join(PRECISIONS_BY_ENGINE)}")
        if self.precision not in OUTPUT_TOLERANCES:
            raise DarkpyError(f"unknown precision {self.precision!r}", hint=f"one of {', '.join(OUTPUT_TOLERANCES)}")
        if self.precision not in PRECISIONS_BY_ENGINE[self.engine]:
            supported = ", ".join(PRECISIONS_BY_ENGINE[self.engine])
            raise DarkpyError(
                f"{self.engine} supports {supported}, not {self.precision}", hint="--engine torch supports all"
            )
        if self.compiled and (self.engine != "torch" or self.precision == "int8"):
            raise DarkpyError("--compile needs --engine torch and fp32 or bf16", hint="leave --compile out")
        if device.type != "cpu" and (self.engine in ENGINES_BY_NAME or self.precision == "int8"):
            raise DarkpyError(f"--engine and int8 need the CPU, not {device.type}", hint="add --device cpu")
        if self.tune_mode not in TUNE_MODES:
            origin = TUNE_VARIABLE if self.tune is None else "tune"
            raise DarkpyError(f"{origin}={self.tune_mode!r} is unknown", hint=f"one of {', '.join(TUNE_MODES)}")

    @property
    def tune_mode(self) -> str:
        """`tune`, or the value of the environment variable."""
        return os.environ.get(TUNE_VARIABLE) or "on" if self.tune is None else self.tune

    def selector(self, network: Network) -> KernelSelector:
        """Return a selector of kernels for one network."""
        extra_bytes = max(MIN_EXTRA_BYTES, round(EXTRA_WEIGHTS_RATIO * FLOAT32_BYTES * network.plan.parameter_count))
        limit_bytes = 0 if self.low_memory else extra_bytes
        return KernelSelector(again=self.tune_mode == "again", extra_bytes=limit_bytes, compiled=self.compiled)


@renamed_arguments(ways="config", pictures="images")
def accelerate(
    network: Network, config: InferenceConfig | None = None, *, images: Sequence[torch.Tensor] = ()
) -> Network:
    """Make a network run as fast as possible in inference, and return it. Irreversible.

    Inputs and outputs stay the same. Its weights may be freed: save or export it before. By default it computes in
    float32 on any processor; `config` selects options that need more software or lose accuracy.

    Shapes: images x_1CHW to calibrate int8 on, a few dozen typical ones.
    Raises: DarkpyError if the configuration is not available here, or its outputs differ from those of the layers.
    """
    require_network(network, "accelerate")
    config = config or InferenceConfig()
    network.for_inference()
    config.check(network.device)
    if config.engine == "auto" and network.device.type == "cpu":
        return _accelerate_by_fastest(network, config)
    if config.is_plain or config.engine == "auto":  # lowering has checked each layer on its own
        network.set_backend(_tuned_torch_runner(network, config))
        return network
    x_1CHW = (images[0] if images else torch.rand((1, *network.plan.input_shape))).to(network.device)
    with torch.inference_mode():
        expected = network.reference_forward(x_1CHW)
        network.reset_state()
        runner: Runner
        if config.engine in ENGINES_BY_NAME:
            runner = ENGINES_BY_NAME[config.engine].open(network, config.precision)
        elif config.compiled:
            runner = compile_network(network, config.precision)  # compiles at its first call
            if config.precision == "fp32":
                _torch_runner(network, Lowering(batch=config.batch, selector=_selector(network, config)))
        elif config.precision == "int8":
            functions = quantize_network(network.plan, network.built, images)
            runner = Executor(network.plan, network.outputs, functions)
        else:
            runner = _tuned_torch_runner(network, config)
        _check_outputs(runner(x_1CHW), expected, config)
    network.reset_state()
    network.set_backend(runner, prefers_channels_last=config.engine == "torch")
    return network


def _accelerate_by_fastest(network: Network, config: InferenceConfig) -> Network:
    """Run the network by the fastest engine; torch is opened last, because it takes over weights."""
    x_BCHW = torch.rand((config.batch, *network.plan.input_shape), generator=torch.Generator().manual_seed(0))
    openers: dict[str, Callable[[], Runner]] = {
        name: partial(engine.open, network, config.precision)
        for name, engine in ENGINES_BY_NAME.items()
        if engine.is_installed
    }
    openers["torch"] = lambda: _tuned_torch_runner(network, config)
    with torch.inference_mode():
        expected = network.reference_forward(x_BCHW)
        network.reset_state()
        chosen = choose_engine(openers, x_BCHW, expected)
    network.reset_state()
    network.set_backend(chosen.runner, prefers_channels_last=chosen.name == "torch")
    warnings.warn(chosen.summary, DarkpyNote, stacklevel=3)
    return network


def _tuned_torch_runner(network: Network, config: InferenceConfig) -> Runner:
    """Return the fastest of torch's runners in float32 or bfloat16, the default one if measuring is off."""
    lowering = Lowering(batch=config.batch, dtype=torch.bfloat16 if config.precision == "bf16" else torch.float32)
    if (selector := _selector(network, config)) is None:
        return _torch_runner(network, lowering)
    runner = fastest_runner(network, selector, lowering, image_count=config.image_count)
    selector.save()
    return runner


def _selector(network: Network, config: InferenceConfig) -> KernelSelector | None:
    """Return a selector of kernels, None if measuring is off or the device is not a CPU."""
    return None if config.tune_mode == "off" or network.device.type != "cpu" else config.selector(network)


def _torch_runner(network: Network, lowering: Lowering) -> Executor:
    functions = lower_layers(network.plan, network.built, lowering)
    if lowering.selector is not None:
        lowering.selector.save()
    return Executor(network.plan, network.outputs, functions)


def _check_outputs(
    outputs: Sequence[torch.Tensor], expected_outputs: Sequence[torch.Tensor], config: InferenceConfig
) -> None:
    """Raises: DarkpyError unless all outputs are finite and within the tolerance of the precision."""
    for index, (output, expected) in enumerate(zip(outputs, expected_outputs, strict=True)):
        if not expected.isfinite().all():
            raise DarkpyError(
                f"output {index} is NaN or infinite, with any engine and precision",
                hint="its weights may be damaged, or belong to another cfg",
            )
        error, size = (output - expected).norm(), expected.norm()
        if not (output.shape == expected.shape and error <= OUTPUT_TOLERANCES[config.precision] * size):
            way = f"{config.engine}, {config.precision}{', compiled' if config.compiled else ''}"
            raise DarkpyError(
                f"{way}: output {index} is off by {error / size:.1%} of what the layers compute",
                hint="run without --engine, --precision and --compile",
            )


def __getattr__(name: str) -> object:
    """Names of an earlier release."""
    if name == "Ways":
        warn_renamed("Ways", "InferenceConfig")
        return renamed_arguments(is_compiled="compiled")(InferenceConfig)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
