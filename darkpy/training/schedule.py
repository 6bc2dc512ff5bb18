"""The learning rate: burn-in, then one of darknet's policies.

Source: pjreddie/darknet and AlexeyAB/darknet src/network.c get_current_rate.
Differs: pjreddie counts updates without a sign, so that `steps=-1,...` never passes and `sigmoid` is 0 before its step;
here both work as written. `poly` stays at 0 after `max_batches`, where darknet's rate may grow again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from darkpy.config.net import NetSpec
from darkpy.errors import DarkpyError


def current_rate(net: NetSpec, batch_num: int, random: Callable[[], float]) -> float:
    """Return the learning rate of update `batch_num`, which counts from 1.

    random: draws from U(0, 1), for the policy `random`.
    Raises: DarkpyError when the keys of the policy give no number.
    """
    try:
        if batch_num < net.burn_in:
            return float(net.learning_rate * (batch_num / net.burn_in) ** net.power)
        return float(_policy_rate(net, batch_num, random))
    except ArithmeticError as error:
        raise DarkpyError(
            f"policy={net.policy} gives no learning rate at update {batch_num}: {error}",
            hint="look at step, scale, gamma, power and max_batches in [net]",
        ) from error


def _policy_rate(net: NetSpec, n: int, random: Callable[[], float]) -> float:
    rate = net.learning_rate
    match net.policy:
        case "step":
            rate *= net.scale ** (n // net.step)
        case "steps":
            for step, scale in zip(net.steps, net.scales, strict=False):
                if step > n:
                    break
                rate *= scale
        case "exp":
            rate *= net.gamma**n
        case "poly":
            rate *= max(0.0, 1 - n / net.max_batches) ** net.power
        case "random":
            rate *= random() ** net.power
        case "sigmoid":  # as a tanh, which cannot overflow
            rate = rate * (1 - math.tanh(net.gamma * (n - net.step) / 2)) / 2
        case "sgdr":
            start, cycle = 0, max(1, net.sgdr_cycle or net.max_batches)
            while start + cycle < n:
                start += cycle
                cycle *= max(1, net.sgdr_mult)
            low = net.learning_rate_min
            rate = low + 0.5 * (rate - low) * (1 + math.cos(math.pi * (n - start) / cycle))
    return rate
