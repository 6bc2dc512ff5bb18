"""A network as one TorchScript program, whose operations oneDNN's graph library compiles for one input shape.

A call of a oneDNN operation from Python has an overhead of 20 us, which is more than small convolutions take. In a
program it is a third of that, and oneDNN fuses a shortcut with the convolution before it.

Legend: B images, C H W channels, rows, columns, F filters.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch.nn import functional

from darkpy.inference.conv_kernels import ConvFunction, ConvKernel, ConvTask, random_input
from darkpy.inference.executor import Executor, in_float32, reference_executor
from darkpy.inference.fixed_shapes import FixedShapeRunner, Program
from darkpy.inference.lowering import plain_function, take_weights
from darkpy.inference.winograd import WinogradConv
from darkpy.network import Network
from darkpy.shapes import Shape

_GELU_SCALE, _GELU_CUBE = (2 / math.pi) ** 0.5, 0.044715 * (2 / math.pi) ** 0.5
_LARGEST_BATCH = 8  # all outputs for a batch stay in memory while it is traced
_LARGEST_WEIGHTS_BYTES = 128 << 20  # call overhead is a small part of the time of larger networks
_RUNS_TO_COMPILE = 2  # TorchScript records shapes in the first run, and oneDNN compiles before the second
_ZERO, _ONE, _SIX = torch.zeros(()), torch.ones(()), torch.full((), 6.0)
# oneDNN's graph library lacks silu, treats any gelu as the exact one, and clips NaN to a finite value
_SPELLED_OUT: Mapping[str, ConvFunction] = MappingProxyType(
    {
        "relu": lambda x: torch.maximum(x, _ZERO),
        "relu6": lambda x: torch.minimum(torch.maximum(x, _ZERO), _SIX),
        "hardtan": lambda x: torch.minimum(torch.maximum(x, -_ONE), _ONE),
        "swish": lambda x: x * torch.sigmoid(x),
        "gelu": lambda x: x * (0.5 * torch.tanh(x * (_GELU_SCALE + _GELU_CUBE * x * x)) + 0.5),
    }
)


class GraphRunner:
    """Runs a network on the CPU by a program for each input shape, compiled at its first call.

    For a shape that cannot be compiled, the functions of the program run one by one.
    tasks, kernels: of its convolutions, by layer; oneDNN computes those that are not Winograd's. Layers without
        `preserves_dtype` compute in float32.
    """

    def __init__(
        self, network: Network, tasks: Mapping[int, ConvTask], kernels: Mapping[int, ConvKernel | None]
    ) -> None:
        self._layers, self._convs = network.built, dict[int, ConvFunction]()
        for index, task in tasks.items():
            kernel = kernels[index]
            self._convs[index] = kernel.build_plain(task) if isinstance(kernel, WinogradConv) else _convolution(task)
        functions = {
            index: plain_function(layer) if layer.preserves_dtype else in_float32(plain_function(layer))
            for index, layer in enumerate(network.built)
        }
        executor = reference_executor(network.plan, network.built, network.outputs, functions | self._convs)
        self._run = FixedShapeRunner(partial(_compile_or_not, executor), largest_batch=_LARGEST_BATCH)

    def __call__(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        return self._run(x_BCHW)

    def take_weights(self) -> None:
        """Replace the layers' convolutions by those of the program, and free the weights that they do not share."""
        for index, conv in self._convs.items():
            take_weights(self._layers[index], conv)


def extra_bytes_of_kernels(tasks: Collection[ConvTask], limit_bytes: int) -> int:
    """Return the memory beyond the weights for Winograd's kernels of a runner, negative if the network is too large.

    oneDNN repacks all weights, and TorchScript keeps them, too.
    limit_bytes: of the runner beyond the weights.
    """
    is_small = sum(task.weights_FCKK.nbytes for task in tasks) <= _LARGEST_WEIGHTS_BYTES
    return (limit_bytes - sum(task.weights_bytes for task in tasks)) // 2 if is_small else -1


def _convolution(task: ConvTask) -> ConvFunction:
    """Return the operations that oneDNN fuses into one."""
    dtype, geometry = task.dtype, task.geometry
    weights_FCKK, biases_F = task.weights_FCKK.detach().to(dtype), task.biases_F.detach().to(dtype)
    arguments = geometry.strides, geometry.padding, geometry.dilation, geometry.groups
    activate = _SPELLED_OUT.get(task.activation.name, task.activation.forward)

    def conv(x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = x_BCHW if x_BCHW.dtype is dtype else x_BCHW.to(dtype)
        return activate(functional.conv2d(x_BCHW, weights_FCKK, biases_F, *arguments))

    return conv


def _compile_or_not(executor: Executor, x_BCHW: torch.Tensor) -> Program:
    """Return a program for inputs of this shape, or the executor: torch's functions are private and may change."""
    try:
        return _compile(executor, x_BCHW)
    except Exception:  # they raise exceptions of many types, TypeError if arguments have changed
        return torch.no_grad()(executor)


def _compile(executor: Executor, x_BCHW: torch.Tensor) -> Program:
    """Return a program for inputs of this shape."""
    sample_BCHW = random_input(Shape(*x_BCHW.shape[1:]), len(x_BCHW))
    with _fused_by_onednn(), _plain_arithmetic(), torch.inference_mode(False), torch.no_grad():
        # functions returned by torch.jit.trace are never freed
        trace, compile_graph = torch._C._create_graph_by_tracing, torch._C._create_function_from_graph
        inputs = (sample_BCHW.clone(),)
        graph, _ = trace(lambda x_BCHW: tuple(executor(x_BCHW)), inputs, lambda _: "", True, False, None, [])
        program = compile_graph("network", graph)
        for _ in range(_RUNS_TO_COMPILE):
            program(sample_BCHW.clone())

    def run(x_BCHW: torch.Tensor) -> Sequence[torch.Tensor]:
        if x_BCHW.stride() != sample_BCHW.stride():  # strides of dimensions of size 1 may vary
            x_BCHW = torch.empty_like(sample_BCHW).copy_(x_BCHW)
        with _plain_arithmetic(), torch.no_grad():
            outputs: Sequence[torch.Tensor] = program(x_BCHW)
        return outputs

    return run


def _plain_arithmetic() -> AbstractContextManager[None]:
    """Disable the caller's autocast, which would be compiled in, and break compiled programs."""
    return torch.autocast("cpu", enabled=False)


@contextmanager
def _fused_by_onednn() -> Iterator[None]:
    """Context in which oneDNN compiles the programs that TorchScript optimizes, in any thread.

    Suppressed warnings: TorchScript is deprecated; sizes become constants.
    """
    jit: Any = torch.jit
    former = jit.onednn_fusion_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jit.enable_onednn_fusion(True)
        try:
            yield
        finally:
            jit.enable_onednn_fusion(former)
