"""Activations of darknet, by darknet's names.

Legend: B images, C channels, H rows, W columns.

Forward: y = f(x). Backward: delta *= g. For nearly all activations g is the derivative of f (at kinks the one-sided
derivative that darknet takes), so that torch's autograd computes it. The few with another rule have an `output_rule`.

Source:  pjreddie/darknet and AlexeyAB/darknet src/activations.h, src/activations.c and src/activation_kernels.cu.
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

_IN_BOTH = frozenset(Dialect)
_IN_ALEXEYAB = frozenset({Dialect.ALEXEYAB})
_aten = torch.ops.aten  # its `grad_input` forms write into that tensor and return it


@dataclass(frozen=True, eq=False, slots=True)
class Activation:
    """An activation: its name in a cfg, the dialects that know it, f, and darknet's g.

    output_rule(y, delta): return the delta at x; None if darknet uses the derivative of `forward`.
    forward_inplace: `forward` with the result written into x; None if torch has no such operation.
    backward_inplace(y, delta): write the delta at x into `delta`; None if y alone does not determine it.

    Shapes: any float tensor; normalize_channels* take (B, C, ...) and work over C.
    """

    name: str
    dialects: frozenset[Dialect]
    forward: Callable[[Tensor], Tensor]
    forward_inplace: Callable[[Tensor], Tensor] | None = None
    output_rule: Callable[[Tensor, Tensor], Tensor] | None = None
    backward_inplace: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, x: Tensor, *, inplace: bool = False) -> Tensor:
        """Compute y = f(x), with darknet's gradient.

        inplace: x may be overwritten; it is not if autograd needs it for the backward pass.
        linear returns x itself, inplace or not.
        """
        needs_gradient = torch.is_grad_enabled() and x.requires_grad
        if needs_gradient and self.output_rule is not None:
            y: Tensor = _ByOutputRule.apply(x, self)
            return y
        if inplace and self.forward_inplace is not None and (self.backward_inplace is not None or not needs_gradient):
            return self.forward_inplace(x)
        return self.forward(x)

    def __reduce__(self) -> tuple[Callable[[str], Activation], tuple[str]]:
        return get, (self.name,)


class _ByOutputRule(torch.autograd.Function):
    """Backward pass of an activation whose g is not its derivative; like darknet, it saves only y."""

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
    """Look up an activation by name.

    Raises:  DarkpyError for a name that no dialect knows.
    Differs: darknet prints a line and uses relu.
    """
    if name in ACTIVATIONS_BY_NAME:
        return ACTIVATIONS_BY_NAME[name]
    close = get_close_matches(name, ACTIVATIONS_BY_NAME, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(ACTIVATIONS_BY_NAME))}"
    raise DarkpyError(f"unknown activation {name}", hint=hint)


def _selu(x: Tensor) -> Tensor:
    """Compute selu with darknet's constants, rounded to four digits, and its right-hand slope at 0 (torch: left).

    Differs: darknet multiplies e^x - 1 by 0 for x > 0, which is NaN once e^x overflows.
    """
    return 1.0507 * torch.where(x >= 0, x, 1.6732 * torch.expm1(x.clamp(max=0)))


def _plse(x: Tensor) -> Tensor:
    """Slope .125 for -4 <= x <= 4, y from 0 to 1; .01 outside."""
    outside = torch.where(x < -4, 0.01 * (x + 4), 0.01 * (x - 4) + 1)
    return torch.where((x >= -4) & (x <= 4), 0.125 * x + 0.5, outside)  # clamp has another slope at both ends in 2.14


def _lhtan(x: Tensor) -> Tensor:
    """Slope 1 for 0 < x < 1, .001 outside; hardtanh, unlike clamp, has slope 0 at both ends."""
    return torch.lerp(functional.hardtanh(x, 0, 1), x, 0.001)


def _stair(x: Tensor) -> Tensor:
    """Flat on [2k, 2k + 1], slope 1 on (2k + 1, 2k + 2)."""
    step = torch.floor(x / 2)
    return step + functional.relu(x - 2 * step - 1)


def _mish_into(x: Tensor) -> Tensor:
    """Compute mish, x * tanh(ln(1 + e^x)), in place.

    With s = sigmoid(x) the tanh is r / (1 - r), r = s - s^2 / 2: no overflow, no cancellation, and a quarter of the
    time of torch's own mish on a CPU.
    """
    # a traced program, which may run anywhere, has the one operation that every runtime and converter knows
    is_traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if x.device.type != "cpu" or x.dtype != torch.float32 or is_traced:
        return functional.mish(x, inplace=True)
    s = torch.sigmoid(x)
    r = s.addcmul_(s, s, value=-0.5)
    return x.mul_(r).div_(r.neg_().add_(1))


def _gelu_rule(y: Tensor, delta: Tensor) -> Tensor:
    """Apply the derivative of gelu at y, as darknet does, instead of at x."""
    z = y.clamp(-10, 10)  # tanh is exactly 1 well before; y^3 stays finite in float16
    tanh = torch.tanh(0.0356774 * z**3 + 0.797885 * z)
    return delta * (0.5 * tanh + (0.0535161 * z**3 + 0.398942 * z) * (1 - tanh**2) + 0.5)


def _normalize_channels(x_BCHW: Tensor) -> Tensor:
    positive_BCHW = functional.relu(x_BCHW)
    return positive_BCHW / (1e-4 + positive_BCHW.sum(1, keepdim=True))


def _normalize_channels_rule(y_BCHW: Tensor, delta_BCHW: Tensor) -> Tensor:
    """Return delta * y where y > 0, delta elsewhere.

    Source:  AlexeyAB/darknet src/activation_kernels.cu gradient_array_normalize_channels_kernel
    Differs: the CPU code multiplies delta by the channel sum of y * delta instead. Neither is the true Jacobian.
    """
    return torch.where(y_BCHW > 0, delta_BCHW * y_BCHW, delta_BCHW)


def _normalize_channels_softmax(x_BCHW: Tensor) -> Tensor:
    """Compute e^x / (1e-4 + sum of e^x over the channels), both scaled by the largest e^x if that is above 1.

    Differs: if e^x overflows, darknet's CPU code gives NaN and its GPU code 0; here the formula still holds.
    """
    largest_B1HW = x_BCHW.amax(1, keepdim=True).clamp(min=0)
    exp_BCHW = torch.exp(x_BCHW - largest_B1HW)
    return exp_BCHW / (1e-4 * torch.exp(-largest_B1HW) + exp_BCHW.sum(1, keepdim=True))


def _normalize_channels_softmax_maxval(x_BCHW: Tensor) -> Tensor:
    exp_BCHW = torch.exp(x_BCHW - x_BCHW.amax(1, keepdim=True))
    return exp_BCHW / (1e-4 + exp_BCHW.sum(1, keepdim=True))


def _normalize_channels_softmax_rule(y_BCHW: Tensor, delta_BCHW: Tensor) -> Tensor:
    """Return delta * y * (1 - y), the diagonal of the Jacobian.

    Source:  AlexeyAB/darknet src/activation_kernels.cu gradient_array_normalize_channels_softmax_kernel
    Differs: the CPU code multiplies delta by the channel sum of y * delta instead.
    """
    return delta_BCHW * y_BCHW * (1 - y_BCHW)


def _from_torch(
    name: str, dialects: frozenset[Dialect], function: Callable[..., Tensor], **arguments: float
) -> Activation:
    """Build an activation from a torch function, which also has an in-place form."""
    forward_inplace = partial(function, inplace=True, **arguments)
    return Activation(name, dialects, partial(function, **arguments), forward_inplace)


def _leaky(name: str, dialects: frozenset[Dialect], slope: float) -> Activation:
    """Build a leaky relu; y has the sign of x and therefore determines the slope."""
    activation = _from_torch(name, dialects, functional.leaky_relu, negative_slope=slope)
    backward = _aten.leaky_relu_backward.grad_input
    return replace(activation, backward_inplace=lambda y, delta: backward(delta, y, slope, True, grad_input=delta))


ACTIVATIONS_BY_NAME: Mapping[str, Activation] = MappingProxyType(
    {
        activation.name: activation
        for activation in (
            Activation("linear", _IN_BOTH, lambda x: x),
            Activation(
                "logistic",
                _IN_BOTH,
                torch.sigmoid,
                forward_inplace=torch.sigmoid_,
                backward_inplace=lambda y, delta: _aten.sigmoid_backward.grad_input(delta, y, grad_input=delta),
            ),
            # 2 / (1 + e^-x) - 1, without losing digits near 0
            Activation("loggy", _IN_BOTH, lambda x: torch.tanh(x / 2)),
            Activation(
                "tanh",
                _IN_BOTH,
                torch.tanh,
                forward_inplace=torch.tanh_,
                backward_inplace=lambda y, delta: _aten.tanh_backward.grad_input(delta, y, grad_input=delta),
            ),
            replace(
                _from_torch("relu", _IN_BOTH, functional.relu),
                backward_inplace=lambda y, delta: _aten.threshold_backward.grad_input(delta, y, 0, grad_input=delta),
            ),
            _leaky("leaky", _IN_BOTH, 0.1),
            _leaky("relie", _IN_BOTH, 0.01),
            # slope 1.1 for x > 0, .1 for x < 0
            Activation("ramp", _IN_BOTH, lambda x: torch.add(functional.relu(x), x, alpha=0.1)),
            _from_torch("elu", _IN_BOTH, functional.elu),
            Activation("selu", _IN_BOTH, _selu),
            Activation("plse", _IN_BOTH, _plse),
            Activation("stair", _IN_BOTH, _stair),
            _from_torch("hardtan", _IN_BOTH, functional.hardtanh),
            Activation("lhtan", _IN_BOTH, _lhtan),
            _from_torch("swish", _IN_ALEXEYAB, functional.silu),
            Activation("mish", _IN_ALEXEYAB, functional.mish, forward_inplace=_mish_into),
            Activation(
                "hard_mish", _IN_ALEXEYAB, lambda x: torch.where(x > 0, x, torch.where(x > -2, x * x / 2 + x, 0.0))
            ),
            _from_torch("relu6", _IN_ALEXEYAB, functional.relu6),
            _leaky("revleaky", _IN_ALEXEYAB, 0.1),
            Activation("gelu", _IN_ALEXEYAB, partial(functional.gelu, approximate="tanh"), output_rule=_gelu_rule),
            Activation("normalize_channels", _IN_ALEXEYAB, _normalize_channels, output_rule=_normalize_channels_rule),
            Activation(
                "normalize_channels_softmax",
                _IN_ALEXEYAB,
                _normalize_channels_softmax,
                output_rule=_normalize_channels_softmax_rule,
            ),
            Activation(
                "normalize_channels_softmax_maxval",
                _IN_ALEXEYAB,
                _normalize_channels_softmax_maxval,
                output_rule=_normalize_channels_softmax_rule,
            ),
        )
    }
)

PRELU_NAME = "prelu"
"""Leaky with a learned slope a channel; darkpy's own, for layers that have an array of slopes."""

# names that darknet's enum has and its parser does not know: it uses relu; silu is PyTorch's word for swish
ACTIVATION_ALIASES = MappingProxyType(
    {"norm_chan": "relu", "norm_chan_softmax": "relu", "norm_chan_softmax_maxval": "relu", "silu": "swish"}
)


def activation_names(dialect: Dialect) -> frozenset[str]:
    """Names of the activations that a dialect knows."""
    return frozenset(name for name, activation in ACTIVATIONS_BY_NAME.items() if dialect in activation.dialects)
