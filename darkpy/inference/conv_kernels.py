"""Convolutions to be computed in inference, and the kernels that compute them by operations of oneDNN, MKL and NNPACK.

torch's compiler emits oneDNN's operations, but they are private. Each function is therefore compared with the layer on
random input, and dropped if it is absent or differs.

Legend: B images, C channels in, F filters, H W rows and columns, K size, N cells of all images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch.nn import functional

from darkpy.ops.activations import Activation
from darkpy.shapes import Shape

ConvFunction = Callable[[torch.Tensor], torch.Tensor]

WINOGRAD_TOLERANCE = 3e-5
"""Largest difference of Winograd's algorithm from the direct convolution, as a fraction of the largest magnitude."""
CHECKED_CELLS = 13
"""Rows and columns of random input beyond the kernel's own size on which a convolution is checked."""
NNPACK_MAX_WEIGHTS = 1 << 19
"""Weights above which NNPACK, which transforms them at each call, is never fastest.

torch never frees its workspace: half a gigabyte for 512 channels, 1024 filters and 8 images of 13 x 13.
"""


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """Strides, padding of each side and dilation in cells, (down, across), and the number of groups."""

    strides: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def lists(self) -> tuple[list[int], list[int], list[int], int]:
        """padding, strides, dilation and groups, the argument order of oneDNN's operations."""
        return list(self.padding), list(self.strides), list(self.dilation), self.groups


@dataclass(frozen=True, slots=True, eq=False)
class ConvTask:
    """A folded convolution: its arrays, geometry and activation, and the input that it usually gets.

    x, batch: typical input shape and batch size, for which kernels are prepared; other inputs work, too.
    dtype: of the weighted sums, float32 or bfloat16.
    """

    weights_FCKK: torch.Tensor
    biases_F: torch.Tensor
    geometry: ConvGeometry
    activation: Activation
    x: Shape
    batch: int = 1
    dtype: torch.dtype = torch.float32

    @property
    def size(self) -> tuple[int, int]:
        return self.weights_FCKK.shape[2], self.weights_FCKK.shape[3]

    @property
    def filters(self) -> int:
        return len(self.weights_FCKK)

    @property
    def weights_bytes(self) -> int:
        """Bytes of the weights in the dtype of the weighted sums."""
        return self.weights_FCKK.numel() * self.dtype.itemsize

    @property
    def key(self) -> str:
        """Cache key, equal for tasks that take the same time."""
        geometry, (rows, columns) = self.geometry, self.size
        window = f"{rows}x{columns}/{_pair(geometry.strides)} pad {_pair(geometry.padding)}"
        more = f" dilation {_pair(geometry.dilation)}" if geometry.dilation != (1, 1) else ""
        more += f" groups {geometry.groups}" if geometry.groups != 1 else ""
        more += ", bf16" if self.dtype == torch.bfloat16 else ""
        return f"{self.batch} x {self.x} -> {self.filters}, {window}{more}, {self.activation.name}"

    @property
    def is_pointwise(self) -> bool:
        """True if each cell of the output is a weighted sum of the same cell of the input."""
        geometry = self.geometry
        return self.size == geometry.strides == (1, 1) and geometry.padding == (0, 0) and geometry.groups == 1

    def sample(self) -> torch.Tensor:
        """Return normal noise x_1CHW of a size on which a kernel is checked, channels_last, equal at every call."""
        sides = self.size[0] * self.geometry.dilation[0] + CHECKED_CELLS
        x = Shape(self.x.c, min(self.x.h, sides), min(self.x.w, sides))
        return random_input(x, 1).to(self.weights_FCKK.device)


class ConvKernel(Protocol):
    """An algorithm for convolutions.

    name: in the table of measurements.
    tolerances: largest difference from the layer's own output, as a fraction of its largest magnitude, by dtype; other
        dtypes are not supported.
    weight_ratio: numbers that it keeps for each weight.
    """

    @property
    def name(self) -> str: ...
    @property
    def tolerances(self) -> Mapping[torch.dtype, float]: ...
    @property
    def weight_ratio(self) -> float: ...

    def supports(self, task: ConvTask) -> bool:
        """Return False for a geometry, device or size that the kernel cannot compute, or never fast."""
        ...

    def build(self, task: ConvTask) -> ConvFunction:
        """Return a function with weights of its own: convolution, bias and activation of x_BCHW of any size.

        Raises: AttributeError, RuntimeError or NotImplementedError if this build of torch lacks an operation.
        """
        ...


# oneDNN's post-op for each darknet activation: its name, scalars and algorithm; those of relu, relu6 and hardtan make
# NaN a number
_ONEDNN_ACTIVATIONS: Mapping[str, tuple[str, list[float], str]] = MappingProxyType(
    {
        "linear": ("none", [], ""),
        "leaky": ("leaky_relu", [0.1], ""),
        "revleaky": ("leaky_relu", [0.1], ""),
        "relie": ("leaky_relu", [0.01], ""),
        "logistic": ("sigmoid", [], ""),
        "tanh": ("tanh", [], ""),
        "swish": ("swish", [], ""),
        "gelu": ("gelu", [], "tanh"),
    }
)
_SAME_SUMS: Mapping[torch.dtype, float] = MappingProxyType({torch.float32: 1e-4})


class OneDnnConv:
    """One operation of oneDNN with packed weights: convolution, bias and activation.

    An activation that oneDNN does not support is applied afterwards, in place. Fastest on channels_last input of the
    task's dtype.
    """

    name, weight_ratio = "oneDNN", 1.0
    tolerances: Mapping[torch.dtype, float] = MappingProxyType({torch.float32: 1e-4, torch.bfloat16: 3e-2})

    def supports(self, task: ConvTask) -> bool:
        return task.weights_FCKK.device.type == "cpu"

    def build(self, task: ConvTask) -> ConvFunction:
        dtype, activation = task.dtype, task.activation
        weights_FCKK, biases_F = task.weights_FCKK.detach().to(dtype), task.biases_F.detach().to(dtype)
        padding, strides, dilation, groups = task.geometry.lists
        operation = torch.ops.mkldnn._convolution_pointwise.default
        pack = torch.ops.mkldnn._reorder_convolution_weight.default
        packed = pack(weights_FCKK, padding, strides, dilation, groups, [1, *task.x])
        post_op, scalars, algorithm = _ONEDNN_ACTIVATIONS.get(activation.name, _ONEDNN_ACTIVATIONS["linear"])

        def conv(x_BCHW: torch.Tensor) -> torch.Tensor:
            if x_BCHW.dtype is not dtype:
                x_BCHW = x_BCHW.to(dtype)
            y_BFHW: torch.Tensor = operation(
                x_BCHW, packed, biases_F, padding, strides, dilation, groups, post_op, scalars, algorithm
            )
            return y_BFHW

        if activation.name in _ONEDNN_ACTIVATIONS:
            return conv
        return lambda x_BCHW: activation(conv(x_BCHW), inplace=True)


class UnfusedConv:
    """torch's own convolution, then the activation, in bfloat16 on any device."""

    name, weight_ratio = "torch", 1.0
    tolerances: Mapping[torch.dtype, float] = MappingProxyType({torch.bfloat16: 3e-2})

    def supports(self, task: ConvTask) -> bool:
        return True

    def build(self, task: ConvTask) -> ConvFunction:
        dtype, geometry, activation = task.dtype, task.geometry, task.activation
        weights_FCKK, biases_F = task.weights_FCKK.detach().to(dtype), task.biases_F.detach().to(dtype)

        def conv(x_BCHW: torch.Tensor) -> torch.Tensor:
            y_BFHW = functional.conv2d(
                x_BCHW.to(dtype),
                weights_FCKK,
                biases_F,
                geometry.strides,
                geometry.padding,
                geometry.dilation,
                geometry.groups,
            )
            return activation(y_BFHW, inplace=True)

        return conv


class MatmulConv:
    """A 1 x 1 convolution as one matrix product with less call overhead than a convolution: for small feature maps."""

    name, weight_ratio, tolerances = "matmul", 1.0, _SAME_SUMS

    def supports(self, task: ConvTask) -> bool:
        return task.is_pointwise and task.weights_FCKK.device.type == "cpu"

    def build(self, task: ConvTask) -> ConvFunction:
        filters, channels = task.weights_FCKK.shape[:2]
        weights_CF = task.weights_FCKK.detach().reshape(filters, channels).t().contiguous()
        biases_F, activate = task.biases_F.detach(), task.activation.forward_inplace or task.activation.forward
        addmm, is_linear = torch.addmm, task.activation.name == "linear"

        def conv(x_BCHW: torch.Tensor) -> torch.Tensor:
            batch, _, h, w = x_BCHW.shape
            x_NC = x_BCHW.permute(0, 2, 3, 1).reshape(-1, channels).float()
            y_BFHW = addmm(biases_F, x_NC, weights_CF).view(batch, h, w, filters).permute(0, 3, 1, 2)
            return y_BFHW if is_linear else activate(y_BFHW)

        return conv


class OneDnnLinear:
    """A 1 x 1 convolution as oneDNN's product of matrices, with bias and activation in the same operation."""

    name, weight_ratio, tolerances = "oneDNN linear", 1.0, _SAME_SUMS

    def supports(self, task: ConvTask) -> bool:
        is_fused = task.activation.name in _ONEDNN_ACTIVATIONS
        return is_fused and task.is_pointwise and task.weights_FCKK.device.type == "cpu"

    def build(self, task: ConvTask) -> ConvFunction:
        filters, channels = task.weights_FCKK.shape[:2]
        weights_FC = task.weights_FCKK.detach().reshape(filters, channels).contiguous()
        operation: Any = torch.ops.mkldnn._linear_pointwise.default
        packed = torch.ops.mkldnn._reorder_linear_weight(weights_FC, task.batch * task.x.h * task.x.w)
        biases_F = task.biases_F.detach()
        post_op, scalars, algorithm = _ONEDNN_ACTIVATIONS[task.activation.name]

        def conv(x_BCHW: torch.Tensor) -> torch.Tensor:
            x_BHWC = x_BCHW.permute(0, 2, 3, 1).contiguous().float()
            y_BFHW: torch.Tensor = operation(x_BHWC, packed, biases_F, post_op, scalars, algorithm).permute(0, 3, 1, 2)
            return y_BFHW

        return conv


class NnpackConv:
    """NNPACK's 3 x 3 convolution, a Winograd F(6 x 6) of few weights; for several images it is never fastest."""

    name, weight_ratio = "NNPACK", 1.0
    tolerances: Mapping[torch.dtype, float] = MappingProxyType({torch.float32: WINOGRAD_TOLERANCE})

    def supports(self, task: ConvTask) -> bool:
        geometry = task.geometry
        is_plain = geometry.strides == geometry.dilation == (1, 1) and geometry.groups == 1 and task.size == (3, 3)
        is_on_cpu = task.weights_FCKK.device.type == "cpu"
        is_useful = min(task.x.h, task.x.w) > 1 and task.batch == 1 and task.weights_FCKK.numel() <= NNPACK_MAX_WEIGHTS
        return is_plain and is_on_cpu and is_useful and torch._nnpack_available()

    def build(self, task: ConvTask) -> ConvFunction:
        weights_FCKK, biases_F = task.weights_FCKK.detach().contiguous(), task.biases_F.detach()
        padding, strides, _, _ = task.geometry.lists
        operation, activation = torch._nnpack_spatial_convolution, task.activation

        def conv(x_BCHW: torch.Tensor) -> torch.Tensor:
            y_BFHW = operation(x_BCHW.float().contiguous(), weights_FCKK, biases_F, padding, strides)
            return activation(y_BFHW.contiguous(memory_format=torch.channels_last), inplace=True)

        return conv


DEFAULT_KERNELS: tuple[ConvKernel, ...] = (OneDnnConv(), UnfusedConv())
"""Kernels without measurement: the first one that supports a convolution and agrees with the layer."""
BUILD_ERRORS = (AttributeError, RuntimeError, NotImplementedError)
"""Errors of operations that this build of torch lacks, or that cannot run on this processor."""


def build_checked(kernel: ConvKernel, task: ConvTask, reference: ConvFunction) -> ConvFunction | None:
    """Return the kernel's function if its output on random input is that of the layer; None for NaN or a difference."""
    try:
        function = kernel.build(task)
    except BUILD_ERRORS:
        return None
    return function if allclose(function, reference, task.sample(), kernel.tolerances[task.dtype]) else None


def build_default(task: ConvTask, reference: ConvFunction) -> ConvFunction | None:
    """Return the function of the first default kernel that agrees with the layer, None if there is none."""
    kernels = (kernel for kernel in DEFAULT_KERNELS if task.dtype in kernel.tolerances and kernel.supports(task))
    functions = (build_checked(kernel, task, reference) for kernel in kernels)
    return next((function for function in functions if function is not None), None)


def random_input(x: Shape, batch: int) -> torch.Tensor:
    """Return normal noise x_BCHW, channels_last, the same at every call."""
    noise_BCHW = torch.randn((batch, *x), generator=torch.Generator().manual_seed(0))
    return noise_BCHW.contiguous(memory_format=torch.channels_last)


def allclose(function: ConvFunction, reference: ConvFunction, x_BCHW: torch.Tensor, tolerance: float) -> bool:
    """True if `function` runs, and both outputs agree within `tolerance` of the largest magnitude; False for NaN."""
    with torch.inference_mode():
        try:
            y_BFHW = function(x_BCHW).float()
        except (RuntimeError, NotImplementedError):
            return False
        expected_BFHW = reference(x_BCHW).float()
    if y_BFHW.shape != expected_BFHW.shape:
        return False
    return bool((y_BFHW - expected_BFHW).abs().max() <= tolerance * expected_BFHW.abs().max())


def _pair(sides: tuple[int, int]) -> str:
    down, across = sides
    return str(down) if down == across else f"{down},{across}"
