"""[convolutional]: cross-correlation, norm, activation.

Legend: B images, C channels in, F filters, H W rows and columns, K size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.config.schema import MAX_INT, key
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ShapeError
from darkpy.finding import Finding
from darkpy.layers.base import ArraySpec, Init, Layer, LayerSpec, absolute_index, section, skipped_cells
from darkpy.layers.weighted import WeightedLayer, WeightedLayerSpec
from darkpy.ops.antialiasing import blur, blur_to_onnx, blurred_sides
from darkpy.ops.binary import binarized, signs
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape

_AX = Dialect.ALEXEYAB


@section("convolutional", "conv")
@dataclass(frozen=True, kw_only=True, slots=True)
class ConvolutionalSpec(WeightedLayerSpec):
    """Cross-correlation, then batch norm or a bias, then the activation, then (AlexeyAB) an antialiasing blur.

    Source: src/convolutional_layer.c, src/convolutional_kernels.cu forward_convolutional_layer_gpu of both dialects.
    Differs: 1x1 with a stride subsamples the map; pjreddie's code without cuDNN reads consecutive cells. All readers
        of an antialiased layer get the blurred output; AlexeyAB's code passes some of them the wrong size. `binary`
        and `xnor` work as on the GPU; darknet's CPU code ignores `binary`, and takes the sign of 0 for -1.
    """

    filters: int = key(1, minimum=1)
    size: int = key(1, minimum=1)
    stride: int = key(1, minimum=1)
    stride_x: int | None = key(None, dialect=_AX, minimum=1)  # falls back to stride
    stride_y: int | None = key(None, dialect=_AX, minimum=1)
    pad: bool = key(False)  # a flag: padding is size // 2 then
    padding: int = key(0, minimum=0)  # on each side
    dilation: int = key(1, dialect=_AX, minimum=1)
    groups: int = key(1, minimum=1)
    batch_normalize: int = key(0, usual=(0, 2))
    cbn: bool = key(False, dialect=_AX)  # as batch_normalize=2: statistics over the subdivisions
    binary: bool = key(False)
    xnor: bool = key(False)
    flipped: bool = key(False)  # the file holds the weights transposed
    share_index: int | None = key(None, dialect=_AX)
    antialiasing: int = key(0, dialect=_AX, minimum=0, usual=(0, 2))

    # AlexeyAB's training
    assisted_excitation: int = key(0, dialect=_AX, usual=(0, MAX_INT))
    sway: bool = key(False, dialect=_AX)
    rotate: bool = key(False, dialect=_AX)
    stretch: bool = key(False, dialect=_AX)
    stretch_sway: bool = key(False, dialect=_AX)
    angle: float = key(15.0, dialect=_AX, usual=(0, 360))
    grad_centr: bool = key(False, dialect=_AX)
    reverse: float = key(0.0, dialect=_AX, usual=(0, 1))

    # without effect here: GPU scheduling, packed bits, and an experiment that never worked
    dot: float = key(0.0, dialect=Dialect.PJREDDIE)
    bin_output: bool = key(False, dialect=_AX)
    coordconv: bool = key(False, dialect=_AX)
    stream: int = key(-1, dialect=_AX)
    wait_stream: int = key(-1, dialect=_AX)

    @property
    def border(self) -> int:
        """Zero padding of each side, before dilation."""
        return self.size // 2 if self.pad else self.padding

    @property
    def strides(self) -> tuple[int, int]:
        """Strides down and across."""
        return self.stride_y or self.stride, self.stride_x or self.stride

    @property
    def conv_strides(self) -> tuple[int, int]:
        """Strides of the convolution itself: 1 with antialiasing, whose blur strides instead."""
        return (1, 1) if self.antialiasing else self.strides

    @property
    def is_normalized(self) -> bool:
        return bool(self.batch_normalize) or self.cbn

    @property
    def effective_dilation(self) -> int:
        """Dilation; darknet ignores it for 1x1."""
        return 1 if self.size == 1 else self.dilation

    @property
    def group_count(self) -> int:
        """Number of groups; AlexeyAB's xnor convolutions have one."""
        return 1 if self.xnor and self.dialect is _AX else self.groups

    def shared_with(self, index: int) -> tuple[int, ...]:
        return () if self.share_index is None else (absolute_index(self.share_index, index),)

    def check_shared(self, inputs: Sequence[Shape], shared: Sequence[tuple[LayerSpec, Sequence[Shape]]]) -> None:
        for other, other_inputs in shared:
            if not isinstance(other, ConvolutionalSpec):
                raise DarkpyError(f"share_index={self.share_index} is [{other.type}], not a convolutional layer")
            own_shapes = [array_spec.shape for array_spec in self._all_arrays(inputs)]
            other_shapes = [array_spec.shape for array_spec in other._all_arrays(other_inputs)]
            if own_shapes != other_shapes:
                raise ShapeError(
                    f"share_index={self.share_index} has arrays of {_sizes(other_shapes)};"
                    f" this layer has {_sizes(own_shapes)}",
                    hint="filters, size, groups, batch_normalize and input channels must be equal",
                )

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if x.c % self.group_count or self.filters % self.group_count:
            raise ShapeError(
                f"{x.c} channels and {self.filters} filters cannot be split into groups={self.group_count}",
                hint="both must be multiples of groups",
            )
        if self.effective_dilation > 1 and (self.size % 2 == 0 or self.border != self.size // 2):
            raise ShapeError(
                f"dilation={self.dilation} needs an odd size and pad=1; size={self.size} padding={self.border}"
            )
        if any(more >= stride for more, stride in zip(self.excess(x), self.conv_strides, strict=True)):
            raise ShapeError(
                f"size={self.size} is larger than the input, {x} with {self.border} on each side",
                hint="enlarge [net] width and height, or use smaller strides before it",
            )
        sides = self._conv_sides(x)
        if self.antialiasing:
            sides = blurred_sides(sides, self.antialiasing, self.strides)
        return self.check_norm(Shape(self.filters, *sides))

    def _conv_sides(self, x: Shape) -> tuple[int, int]:
        """Height and width before the antialiasing blur."""
        down, across = self.conv_strides
        overlap = 2 * self.border - self.size
        return max(0, x.h + overlap) // down + 1, max(0, x.w + overlap) // across + 1

    def excess(self, x: Shape) -> tuple[int, int]:
        """Rows and columns by which the window is larger than the input with its borders.

        If they are fewer than the stride, darknet's truncating division gives one output, and im2col reads zeros there.
        """
        window = self.size - 2 * self.border
        return max(0, window - x.h), max(0, window - x.w)

    def arrays(self, inputs: Sequence[Shape]) -> tuple[ArraySpec, ...]:
        if self.share_index is not None:
            return ()
        return self._all_arrays(inputs)

    def _all_arrays(self, inputs: Sequence[Shape]) -> tuple[ArraySpec, ...]:
        fan_in = self.size * self.size * (inputs[0].c // self.group_count)
        noise = Init(scale=math.sqrt(2 / fan_in), is_normal=self.dialect is Dialect.PJREDDIE)
        shape = (self.filters, inputs[0].c // self.group_count, self.size, self.size)
        biases = ArraySpec("biases", (self.filters,))
        weights = ArraySpec("weights", shape, noise, is_decayed=True, is_flipped=self.flipped)
        return (biases, *self.norm_arrays(self.filters), weights, *self.slope_arrays(self.filters))

    def lint(self, inputs: Sequence[Shape]) -> Iterator[Finding]:
        """Yield a stride that skips cells; not for 1x1, by which residual networks halve a map."""
        if self.size > 1:
            yield from skipped_cells(self.effective_dilation * (self.size - 1) + 1, self.strides)

    def operations(self, inputs: Sequence[Shape]) -> int:
        (weights,) = (array_spec.count for array_spec in self._all_arrays(inputs) if array_spec.is_decayed)
        h, w = self._conv_sides(inputs[0])
        return 2 * weights * h * w

    def weight_bound(self, net: NetSpec) -> float:
        return self.clip or net.clip  # AlexeyAB's key stands in the section, pjreddie's in [net]

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Convolutional:
        return Convolutional(self, self.arrays(inputs), net, excess=self.excess(inputs[0]))

    def tie_weights(self, index: int, layers: Sequence[Layer]) -> None:
        if self.share_index is None:
            return
        own, other = layers[index], layers[self.shared_with(index)[0]]
        assert isinstance(own, Convolutional) and isinstance(other, Convolutional)
        own.share(other)


class Convolutional(WeightedLayer):
    memory_format = torch.channels_last

    def __init__(
        self, spec: ConvolutionalSpec, arrays: Sequence[ArraySpec], net: NetSpec, *, excess: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__(spec, arrays, net)
        self.spec, self.excess = spec, excess
        self._owner: tuple[Convolutional, ...] = ()
        self.shares_arrays = False  # with another layer, as user or as owner

    @property
    def array_owner(self) -> Convolutional:
        """Layer whose arrays are used: itself, or the one that `share_index` names."""
        return self._owner[0] if self._owner else self

    def share(self, other: Convolutional) -> None:
        """Use the arrays of another layer."""
        # in a tuple, so that torch does not register the other layer as a submodule
        self._owner = (other.array_owner,)
        self.shares_arrays = other.array_owner.shares_arrays = True

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        spec = self.spec
        weights_FCKK = self.array_owner.weights
        if spec.xnor:
            x_BCHW = signs(x_BCHW)
        if spec.xnor or spec.binary:
            weights_FCKK = binarized(weights_FCKK)
        down, across = spec.excess(Shape(*x_BCHW.shape[1:]))  # of this input: sizes vary in training
        if down or across:
            x_BCHW = functional.pad(x_BCHW, (0, across, 0, down))
        padding = spec.border * spec.effective_dilation
        y_BFHW = functional.conv2d(
            x_BCHW,
            weights_FCKK,
            self.added_biases,
            spec.conv_strides,
            padding,
            spec.effective_dilation,
            spec.group_count,
        )
        y_BFHW = self.finish(y_BFHW)
        return blur(y_BFHW, spec.antialiasing, spec.strides) if spec.antialiasing else y_BFHW

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        spec, (x, _) = self.spec, sources[0]
        if spec.xnor:
            is_positive = graph.add("GreaterOrEqual", x, torch.tensor(0.0))
            x = graph.add("Where", is_positive, torch.tensor(1.0), torch.tensor(-1.0))
        weights_FCKK = self.array_owner.weights
        border, (down, across) = spec.border * spec.effective_dilation, self.excess
        y = self.product_to_onnx(
            graph,
            "Conv",
            x,
            binarized(weights_FCKK) if spec.xnor or spec.binary else weights_FCKK,
            kernel_shape=(spec.size, spec.size),
            strides=spec.conv_strides,
            pads=(border, border, border + down, border + across),
            dilations=(spec.effective_dilation, spec.effective_dilation),
            group=spec.group_count,
        )
        return blur_to_onnx(graph, y, spec.filters, spec.antialiasing, spec.strides) if spec.antialiasing else y


def _sizes(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes)
