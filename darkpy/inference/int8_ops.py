"""8-bit quantization: parameters of a tensor, and convolution and sum of quantized tensors.

torch's quantized tensors carry their parameters. A quantized convolution multiplies 8-bit inputs by 8-bit weights, with
one weight scale a filter, and accumulates in 32 bits.

Legend: B images, C channels in, F filters, H W rows and columns, K size, N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from darkpy.errors import DarkpyError
from darkpy.inference.conv_kernels import ConvFunction, ConvGeometry
from darkpy.ops.activations import Activation

QUINT8_MAX = 255
QINT8_MAX = 127
_CLIP_RATIOS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Fractions of the observed range that are tried as the quantized range."""
_LEAKY_SLOPES = {"leaky": 0.1, "revleaky": 0.1, "relie": 0.01}
_MIN_SCALE = 1e-8


@dataclass(frozen=True, slots=True)
class QuantParams:
    """Affine quint8 quantization: a byte q from 0 to 255 means (q - zero_point) * scale."""

    scale: float
    zero_point: int

    @classmethod
    def from_range(cls, low: float, high: float) -> QuantParams:
        """Return parameters that span low to high and represent 0 exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / QUINT8_MAX, _MIN_SCALE)
        return cls(scale, min(QUINT8_MAX, max(0, round(-low / scale))))

    @classmethod
    def from_histogram(
        cls,
        value_N: torch.Tensor,
        weight_N: torch.Tensor,
        activation: Callable[[torch.Tensor], torch.Tensor] = torch.clone,
    ) -> QuantParams:
        """Return the parameters with the least mean squared error; a few large values may be clipped for it.

        activation: reads the quantized values, without overwriting them; the error is that of its output.
        """
        low, high = float(value_N.min()), float(value_N.max())
        expected_N = activation(value_N)

        def error(params: QuantParams) -> float:
            output_N = activation(params.quantize(value_N).dequantize())
            return float(((output_N - expected_N).square() * weight_N).sum())

        high_ratio = min(_CLIP_RATIOS, key=lambda ratio: error(cls.from_range(low, high * ratio)))
        low_ratio = min(_CLIP_RATIOS, key=lambda ratio: error(cls.from_range(low * ratio, high * high_ratio)))
        return cls.from_range(low * low_ratio, high * high_ratio)

    def quantize(self, x: torch.Tensor) -> torch.Tensor:
        """Quantize x; a tensor that is quantized already is returned as it is."""
        return x if x.is_quantized else torch.quantize_per_tensor(x, self.scale, self.zero_point, torch.quint8)

    def wrap(self, bytes_BCHW: torch.Tensor) -> torch.Tensor:
        """Return bytes as a quantized tensor with these parameters."""
        return torch._make_per_tensor_quantized_tensor(bytes_BCHW, self.scale, self.zero_point)


def byte_view(x: torch.Tensor) -> torch.Tensor:
    """Return a view of a quantized tensor's bytes; torch's int_repr copies them one by one."""
    return torch.empty(0, dtype=torch.uint8).set_(x.untyped_storage(), x.storage_offset(), x.shape, x.stride())


def quantized_conv(
    weights_FCKK: torch.Tensor,
    biases_F: torch.Tensor,
    geometry: ConvGeometry,
    source: QuantParams,
    output: QuantParams,
    *,
    relu: bool = False,
) -> ConvFunction:
    """Return an int8 convolution with bias, and relu if set. Input float32 or quantized; output channels_last.

    source, output: parameters of the input and of the output.
    Raises: DarkpyError if this build of torch has no int8 convolution.
    """
    scale_F = (weights_FCKK.abs().amax((1, 2, 3)) / QINT8_MAX).clamp(min=_MIN_SCALE).double()
    zero_point_F = torch.zeros_like(scale_F, dtype=torch.int64)
    int8_FCKK = torch.quantize_per_channel(weights_FCKK.contiguous(), scale_F, zero_point_F, 0, torch.qint8)
    padding, strides, dilation, groups = geometry.lists
    quantized = torch.ops.quantized
    try:
        packed = quantized.conv2d_prepack(int8_FCKK, biases_F, strides, padding, dilation, groups)
    except (RuntimeError, AttributeError) as error:
        raise DarkpyError(
            "int8: this build of torch has no int8 convolution", hint="use --precision bf16 or fp32"
        ) from error
    convolve = quantized.conv2d_relu.new if relu else quantized.conv2d.new

    def conv(x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BFHW: torch.Tensor = convolve(source.quantize(x_BCHW), packed, output.scale, output.zero_point)
        return y_BFHW

    return conv


def quantized_activation(activation: Activation, output: QuantParams) -> ConvFunction:
    """Return an activation of quantized tensors. output: parameters of its output."""
    slope = _LEAKY_SLOPES.get(activation.name)
    if slope is None:
        return lambda x_BFHW: output.quantize(activation(x_BFHW.dequantize(), inplace=True))

    def leaky(x_BFHW: torch.Tensor) -> torch.Tensor:
        y_BFHW: torch.Tensor = torch.ops.quantized.leaky_relu(x_BFHW, slope, False, output.scale, output.zero_point)
        return y_BFHW

    return leaky


def commutes_with_maximum(activation: Activation) -> bool:
    """True if the activation is increasing, so that it may follow the maximum, and takes a pass of its own."""
    return activation.name in _LEAKY_SLOPES


def quantized_sum(sources_BCHW: Sequence[torch.Tensor], output: QuantParams) -> torch.Tensor:
    """Add quantized tensors of one shape."""
    sum_BCHW = sources_BCHW[0]
    for source_BCHW in sources_BCHW[1:]:
        sum_BCHW = torch.ops.quantized.add(sum_BCHW, source_BCHW, output.scale, output.zero_point)
    return sum_BCHW
