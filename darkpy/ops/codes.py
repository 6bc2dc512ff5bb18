"""8-bit numbers in place of float32: what they mean, and a convolution that computes on them.

torch's quantized tensors carry their scale with them; a convolution multiplies 8-bit inputs by 8-bit weights, one scale
a filter, and adds up in 32 bits.

Legend: B images, C channels in, F filters, H W rows and columns, K size, N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from darkpy.errors import DarkpyError
from darkpy.ops.activations import Activation
from darkpy.ops.fused import Geometry

LEVELS = 255
_CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
_SLOPES = {"leaky": 0.1, "revleaky": 0.1, "relie": 0.01}
_LEAST_STEP = 1e-8


@dataclass(frozen=True, slots=True)
class Scale:
    """A code c means (c - zero) * step; codes go from 0 to 255."""

    step: float
    zero: int

    @classmethod
    def between(cls, low: float, high: float) -> Scale:
        """Codes for the numbers from low to high, with one for 0 itself."""
        low, high = min(low, 0.0), max(high, 0.0)
        step = max((high - low) / LEVELS, _LEAST_STEP)
        return cls(step, min(LEVELS, max(0, round(-low / step))))

    @classmethod
    def of(
        cls,
        value_N: torch.Tensor,
        weight_N: torch.Tensor,
        activation: Callable[[torch.Tensor], torch.Tensor] = torch.clone,
    ) -> Scale:
        """The scale by which these values lose least, in the mean of squares: a few large ones may be cut off.

        activation: what reads the numbers; the loss is that of its output.
        """
        low, high = float(value_N.min()), float(value_N.max())
        wanted_N = activation(value_N.clone())

        def loss(scale: Scale) -> float:
            found_N = activation(scale.encode(value_N).dequantize())
            return float(((found_N - wanted_N).square() * weight_N).sum())

        above = min(_CLIPS, key=lambda clip: loss(cls.between(low, high * clip)))
        below = min(_CLIPS, key=lambda clip: loss(cls.between(low * clip, high * above)))
        return cls.between(low * below, high * above)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """The codes of x, which may have them already."""
        return x if x.is_quantized else torch.quantize_per_tensor(x, self.step, self.zero, torch.quint8)

    def wrap(self, bytes_BCHW: torch.Tensor) -> torch.Tensor:
        """Bytes as codes of this scale."""
        return torch._make_per_tensor_quantized_tensor(bytes_BCHW, self.step, self.zero)


def encoded_product(
    weights_FCKK: torch.Tensor,
    biases_F: torch.Tensor,
    geometry: Geometry,
    activation: Activation,
    scales: tuple[Scale, Scale, Scale],
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Convolution, bias and activation on codes. Its input may be float32; its output is codes, channels_last.

    scales: of the input, of what the activation reads, and of the output.
    Raises: DarkpyError where torch computes no convolution on codes.
    """
    source, raw, output = scales
    step_F = (weights_FCKK.abs().amax((1, 2, 3)) / 127).clamp(min=_LEAST_STEP).double()
    zero_F = torch.zeros_like(step_F, dtype=torch.int64)
    encoded_FCKK = torch.quantize_per_channel(weights_FCKK.contiguous(), step_F, zero_F, 0, torch.qint8)
    padding, strides, dilation, groups = geometry.lists
    quantized = torch.ops.quantized
    try:
        packed = quantized.conv2d_prepack(encoded_FCKK, biases_F, strides, padding, dilation, groups)
    except (RuntimeError, AttributeError) as error:
        raise DarkpyError(
            "int8: this build of torch computes no convolution on 8-bit numbers", hint="use --precision bf16 or fp32"
        ) from error
    has_relu, slope = activation.name == "relu", _SLOPES.get(activation.name)
    convolve = quantized.conv2d_relu.new if has_relu else quantized.conv2d.new
    is_bare = has_relu or activation.name == "linear"
    target = output if is_bare else raw

    def encoded(x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BFHW: torch.Tensor = convolve(source.encode(x_BCHW), packed, target.step, target.zero)
        if is_bare:
            return y_BFHW
        if slope is not None:
            leaky: torch.Tensor = quantized.leaky_relu(y_BFHW, slope, False, output.step, output.zero)
            return leaky
        return output.encode(activation(y_BFHW.dequantize(), inplace=True))

    return encoded


def encoded_sum(sources_BCHW: Sequence[torch.Tensor], output: Scale) -> torch.Tensor:
    """The codes of the sum of tensors of one shape."""
    sum_BCHW = sources_BCHW[0]
    for other_BCHW in sources_BCHW[1:]:
        sum_BCHW = torch.ops.quantized.add(sum_BCHW, other_BCHW, output.step, output.zero)
    return sum_BCHW
