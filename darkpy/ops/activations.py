"""darknet's activations, by darknet's names.

Legend: B images, C channels, H rows, W columns.

y = f(x) on the way forward, delta *= g on the way back. For nearly all of them g is the derivative of f (at kinks
too, on the side that darknet takes), and torch's autograd finds it by itself. The few that follow another rule carry
it in `output_rule`.

Source:  both forks' src/activations.h, src/activations.c and src/activation_kernels.cu.
Differs: revleaky has leaky's g, as in darknet's CPU code; its GPU code divides by that g.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError

_BOTH = frozenset(Dialect)
_ALEXEYAB = frozenset({Dialect.ALEXEYAB})


@dataclass(frozen=True, eq=False, slots=True)
class Activation:
    """One activation: its word in a cfg, the forks that know the word, f, and darknet's g.

    `output_rule(y, delta)` returns the delta at x; None where the derivative of `forward` is what darknet uses.
    `overwrite` is `forward` with the result written into x; None where torch has no such operation.
    `slope_into(y, delta)` writes the delta at x into `delta`; None where torch needs x, or more than y, for that.

    Shapes: any float tensor; normalize_channels* take (B, C, ...) and work over C.
    """

    name: str
    dialects: frozenset[Dialect]
    forward: Callable[[Tensor], Tensor]
    overwrite: Callable[[Tensor], Tensor] | None = None
    output_rule: Callable[[Tensor, Tensor], Tensor] | None = None
    slope_into: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, x: Tensor, *, inplace: bool = False) -> Tensor:
        """y = f(x), with darknet's gradient.

        `inplace` says that x may be overwritten; while autograd records and needs x, it is left alone all the same.
        linear returns x itself, inplace or not.
        """
        is_recorded = torch.is_grad_enabled() and x.requires_grad
        if is_recorded and self.output_rule is not None:
            y: Tensor = _ByOutputRule.apply(x, self)  # type: ignore[no-untyped-call]
            return y
        if inplace and self.overwrite is not None and (self.slope_into is not None or not is_recorded):
            return self.overwrite(x)
        return self.forward(x)

    def __reduce__(self) -> tuple[Callable[[str], Activation], tuple[str]]:
        return get, (self.name,)


class _ByOutputRule(torch.autograd.Function):
    """The backward pass of an activation whose g is not its derivative; like darknet it keeps only y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: Activation) -> Tensor:
        y = activation.forward(x)
        ctx.save_for_backward(y)
        ctx.output_rule = activation.output_rule
        return y

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return ctx.output_rule(y, delta), None


def get(name: str) -> Activation:
    """The activation of that name.

    Raises:  DarkpyError for a name that neither fork knows.
    Differs: darknet prints a line and goes on with relu.
    """
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    near = get_close_matches(name, ACTIVATIONS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(ACTIVATIONS))}"
    raise DarkpyError(f"unknown activation {name}", hint=hint)


def _linear(x: Tensor) -> Tensor:
    return x


def _loggy(x: Tensor) -> Tensor:
    """2 / (1 + e^-x) - 1, which is tanh of x / 2 and keeps its digits near 0 that way."""
    return torch.tanh(x / 2)


def _ramp(x: Tensor) -> Tensor:
    """Slope 1.1 right of 0, .1 left of it."""
    return torch.add(functional.relu(x), x, alpha=0.1)


def _selu(x: Tensor) -> Tensor:
    """darknet rounds both constants to four digits, and takes the right-hand slope at 0, where torch takes the left.

    Differs: darknet multiplies e^x - 1 by 0 for x > 0, which is NaN once e^x overflows.
    """
    return 1.0507 * torch.where(x >= 0, x, 1.6732 * torch.expm1(x.clamp(max=0)))


def _plse(x: Tensor) -> Tensor:
    """Slope .125 for -4 <= x <= 4, y from 0 to 1; .01 outside."""
    middle = x.clamp(-4, 4)
    return 0.125 * middle + 0.5 + 0.01 * (x - middle)


def _lhtan(x: Tensor) -> Tensor:
    """Slope 1 for 0 < x < 1, .001 outside; hardtanh, unlike clamp, has no slope at the two ends."""
    return torch.lerp(functional.hardtanh(x, 0, 1), x, 0.001)


def _stair(x: Tensor) -> Tensor:
    """Flat on [2k, 2k + 1], slope 1 on (2k + 1, 2k + 2)."""
    step = torch.floor(x / 2)
    return step + functional.relu(x - 2 * step - 1)


def _mish_into(x: Tensor) -> Tensor:
    """x * tanh(ln(1 + e^x)), written into x.

    With s = sigmoid(x) the tanh is r / (1 - r), r = s - s^2 / 2: nothing overflows, no digits cancel, and on a CPU it
    takes a quarter of the time of torch's own mish.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return functional.mish(x, inplace=True)
    s = torch.sigmoid(x)
    r = s.addcmul_(s, s, value=-0.5)
    return x.mul_(r).div_(r.neg_().add_(1))


def _hard_mish(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.where(x > -2, x * x / 2 + x, 0.0))


def _gelu_rule(y: Tensor, delta: Tensor) -> Tensor:
    """The derivative of gelu, taken at y as darknet does and not at x."""
    z = y.clamp(-10, 10)  # tanh is exactly 1 long before; y^3 stays finite in float16
    tanh = torch.tanh(0.0356774 * z**3 + 0.797885 * z)
    return delta * (0.5 * tanh + (0.0535161 * z**3 + 0.398942 * z) * (1 - tanh**2) + 0.5)


def _normalize_channels(x_BCHW: Tensor) -> Tensor:
    positive_BCHW = functional.relu(x_BCHW)
    return positive_BCHW / (1e-4 + positive_BCHW.sum(1, keepdim=True))


def _normalize_channels_rule(y_BCHW: Tensor, delta_BCHW: Tensor) -> Tensor:
    """delta * y where y > 0, delta elsewhere.

    Source:  AlexeyAB/darknet src/activation_kernels.cu gradient_array_normalize_channels_kernel
    Differs: the CPU code multiplies delta by the channel sum of y * delta instead. Neither is the true Jacobian.
    """
    return torch.where(y_BCHW > 0, delta_BCHW * y_BCHW, delta_BCHW)


def _normalize_channels_softmax(x_BCHW: Tensor) -> Tensor:
    """e^x / (1e-4 + sum of e^x over the channels), both scaled by the largest e^x where that is above 1.

    Differs: where e^x overflows, darknet's CPU code gives NaN and its GPU code 0; here it is what the formula says.
    """
    largest_B1HW = x_BCHW.amax(1, keepdim=True).clamp(min=0)
    exp_BCHW = torch.exp(x_BCHW - largest_B1HW)
    return exp_BCHW / (1e-4 * torch.exp(-largest_B1HW) + exp_BCHW.sum(1, keepdim=True))


def _normalize_channels_softmax_maxval(x_BCHW: Tensor) -> Tensor:
    exp_BCHW = torch.exp(x_BCHW - x_BCHW.amax(1, keepdim=True))
    return exp_BCHW / (1e-4 + exp_BCHW.sum(1, keepdim=True))


def _normalize_channels_softmax_rule(y_BCHW: Tensor, delta_BCHW: Tensor) -> Tensor:
    """delta * y * (1 - y), the diagonal of the Jacobian.

    Source:  AlexeyAB/darknet src/activation_kernels.cu gradient_array_normalize_channels_softmax_kernel
    Differs: the CPU code multiplies delta by the channel sum of y * delta instead.
    """
    return delta_BCHW * y_BCHW * (1 - y_BCHW)


def _of_torch(
    name: str, dialects: frozenset[Dialect], function: Callable[..., Tensor], **arguments: float
) -> Activation:
    """An activation that torch has, in place too."""
    overwrite = partial(function, inplace=True, **arguments)
    return Activation(name, dialects, partial(function, **arguments), overwrite)


def _leaky(name: str, dialects: frozenset[Dialect], slope: float) -> Activation:
    """One of darknet's leaky lines: y has the sign of x, and so tells the slope."""
    activation = _of_torch(name, dialects, functional.leaky_relu, negative_slope=slope)
    return replace(activation, slope_into=partial(_leaky_slope_into, slope=slope))


def _leaky_slope_into(y: Tensor, delta: Tensor, slope: float) -> Tensor:
    torch.ops.aten.leaky_relu_backward.grad_input(delta, y, slope, True, grad_input=delta)
    return delta


def _relu_slope_into(y: Tensor, delta: Tensor) -> Tensor:
    torch.ops.aten.threshold_backward.grad_input(delta, y, 0, grad_input=delta)
    return delta


def _logistic_slope_into(y: Tensor, delta: Tensor) -> Tensor:
    torch.ops.aten.sigmoid_backward.grad_input(delta, y, grad_input=delta)
    return delta


def _tanh_slope_into(y: Tensor, delta: Tensor) -> Tensor:
    torch.ops.aten.tanh_backward.grad_input(delta, y, grad_input=delta)
    return delta


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        activation.name: activation
        for activation in (
            Activation("linear", _BOTH, _linear),
            Activation("logistic", _BOTH, torch.sigmoid, overwrite=torch.sigmoid_, slope_into=_logistic_slope_into),
            Activation("loggy", _BOTH, _loggy),
            Activation("tanh", _BOTH, torch.tanh, overwrite=torch.tanh_, slope_into=_tanh_slope_into),
            replace(_of_torch("relu", _BOTH, functional.relu), slope_into=_relu_slope_into),
            _leaky("leaky", _BOTH, 0.1),
            _leaky("relie", _BOTH, 0.01),
            Activation("ramp", _BOTH, _ramp),
            _of_torch("elu", _BOTH, functional.elu),
            Activation("selu", _BOTH, _selu),
            Activation("plse", _BOTH, _plse),
            Activation("stair", _BOTH, _stair),
            _of_torch("hardtan", _BOTH, functional.hardtanh),
            Activation("lhtan", _BOTH, _lhtan),
            _of_torch("swish", _ALEXEYAB, functional.silu),
            Activation("mish", _ALEXEYAB, functional.mish, overwrite=_mish_into),
            Activation("hard_mish", _ALEXEYAB, _hard_mish),
            _of_torch("relu6", _ALEXEYAB, functional.relu6),
            _leaky("revleaky", _ALEXEYAB, 0.1),
            Activation("gelu", _ALEXEYAB, partial(functional.gelu, approximate="tanh"), output_rule=_gelu_rule),
            Activation(
                "normalize_channels",
                _ALEXEYAB,
                _normalize_channels,
                output_rule=_normalize_channels_rule,
            ),
            Activation(
                "normalize_channels_softmax",
                _ALEXEYAB,
                _normalize_channels_softmax,
                output_rule=_normalize_channels_softmax_rule,
            ),
            Activation(
                "normalize_channels_softmax_maxval",
                _ALEXEYAB,
                _normalize_channels_softmax_maxval,
                output_rule=_normalize_channels_softmax_rule,
            ),
        )
    }
)

PRELU = "prelu"  # no darknet's: leaky with a learned slope a channel, for the layers that keep such an array

# names of darknet's enum that its parser does not know
ALIASES = MappingProxyType({"norm_chan": "relu", "norm_chan_softmax": "relu", "norm_chan_softmax_maxval": "relu"})


def activation_names(dialect: Dialect) -> frozenset[str]:
    """The names that a fork knows."""
    return frozenset(name for name, activation in ACTIVATIONS.items() if dialect in activation.dialects)
