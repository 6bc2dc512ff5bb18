"""The learning rate: burn-in, then one of darknet's policies.

Source: pjreddie/darknet and AlexeyAB/darknet src/network.c get_current_rate.
Differs: pjreddie counts updates without a sign, so that `steps=-1,...` never passes and `sigmoid` is 0 before its step;
here both mean what they say. `poly` stays at 0 after `max_batches`, where darknet's rate may grow again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from darkpy.config.net import NetSpec
from darkpy.errors import DarkpyError

Random = Callable[[], float]
"""A number of U(0, 1), drawn afresh at each call: the policy `random` wants one."""


def current_rate(net: NetSpec, batch_num: int, random: Random) -> float:
    """The rate of update `batch_num`, which counts from 1.

    Raises: DarkpyError when the keys of the policy give no number.
    """
    try:
        if batch_num < net.burn_in:
            return float(net.learning_rate * (batch_num / net.burn_in) ** net.power)
        return _POLICIES[net.policy](net, batch_num, random)
    except ArithmeticError as error:
        raise DarkpyError(
            f"policy={net.policy} gives no learning rate at update {batch_num}: {error}",
            hint="look at step, scale, gamma, power and max_batches in [net]",
        ) from error


def _constant(net: NetSpec, n: int, random: Random) -> float:
    return net.learning_rate


def _step(net: NetSpec, n: int, random: Random) -> float:
    return float(net.learning_rate * net.scale ** (n // net.step))


def _steps(net: NetSpec, n: int, random: Random) -> float:
    rate = net.learning_rate
    for step, scale in zip(net.steps, net.scales, strict=False):
        if step > n:
            break
        rate *= scale
    return rate


def _exp(net: NetSpec, n: int, random: Random) -> float:
    return float(net.learning_rate * net.gamma**n)


def _poly(net: NetSpec, n: int, random: Random) -> float:
    return float(net.learning_rate * max(0.0, 1 - n / net.max_batches) ** net.power)


def _random(net: NetSpec, n: int, random: Random) -> float:
    return float(net.learning_rate * random() ** net.power)


def _sigmoid(net: NetSpec, n: int, random: Random) -> float:
    # as a tanh, which cannot overflow
    return net.learning_rate * (1 - math.tanh(net.gamma * (n - net.step) / 2)) / 2


def _sgdr(net: NetSpec, n: int, random: Random) -> float:
    start, cycle = 0, max(1, net.sgdr_cycle or net.max_batches)
    while start + cycle < n:
        start += cycle
        cycle *= max(1, net.sgdr_mult)
    low, high = net.learning_rate_min, net.learning_rate
    return low + 0.5 * (high - low) * (1 + math.cos(math.pi * (n - start) / cycle))


_POLICIES: Mapping[str, Callable[[NetSpec, int, Random], float]] = {
    "constant": _constant,
    "step": _step,
    "steps": _steps,
    "exp": _exp,
    "poly": _poly,
    "random": _random,
    "sigmoid": _sigmoid,
    "sgdr": _sgdr,
}
