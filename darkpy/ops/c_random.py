"""Random numbers of the C library that darknet is built with on Linux, so that its results can be repeated.

Source: glibc's documented additive feedback generator (TYPE_3 of random(3)); pjreddie/darknet src/utils.c rand_uniform
"""

from __future__ import annotations

from collections import deque

import numpy as np

RAND_MAX = 2**31 - 1
_STATE_LENGTH, _NEAR_LAG = 31, 3  # a number is the sum of the third last one and the thirty-first last one
_DISCARDED_NUMBERS = 310


class CRandom:
    """`srand(seed)` and the numbers that `rand()` returns after it.

    Differs: without `-srand` darknet seeds with the time.
    """

    def __init__(self, seed: int) -> None:
        first = seed % 2**32 or 1
        state = [first]
        previous = first - 2**32 if first >= 2**31 else first  # as a signed integer
        for _ in range(30):
            previous = previous * 16807 % RAND_MAX
            state.append(previous)
        self._state = deque([*state, *state[:3]], maxlen=_STATE_LENGTH)
        self.skip(_DISCARDED_NUMBERS)

    def rand(self) -> int:
        """Draw an integer from 0 to RAND_MAX."""
        number = (self._state[-_NEAR_LAG] + self._state[0]) % 2**32
        self._state.append(number)
        return number >> 1

    def skip(self, count: int) -> None:
        """Go on as if `count` numbers had been drawn, in the time of a few hundred."""
        window = [*self._state]
        for _ in range(_STATE_LENGTH):
            window.append((window[-_NEAR_LAG] + window[-_STATE_LENGTH]) % 2**32)
        factors = _power_of_x(count)
        self._state.extend(
            sum(factor * number for factor, number in zip(factors, window[start:], strict=False)) % 2**32
            for start in range(_STATE_LENGTH)
        )

    def rand_size(self) -> int:
        """Draw an unsigned integer of 64 bits."""
        number = 0
        for _ in range(8):
            number = number << 8 | self.rand() & 0xFF
        return number

    def uniform(self) -> float:
        """Draw U(0, 1), in single precision."""
        return float(np.float32(self.rand()) / np.float32(RAND_MAX))


def _power_of_x(exponent: int) -> list[int]:
    """Coefficients of x**exponent modulo the generator's polynomial, x**31 - x**28 - 1, and 2**32."""
    result = [1] + [0] * (_STATE_LENGTH - 1)
    for bit in f"{exponent:b}":
        product = [0] * (2 * _STATE_LENGTH)
        for i, first in enumerate(result):
            for j, second in enumerate(result):
                product[i + j + int(bit)] += first * second
        for power in range(2 * _STATE_LENGTH - 1, _STATE_LENGTH - 1, -1):
            product[power - _NEAR_LAG] += product[power]
            product[power - _STATE_LENGTH] += product[power]
        result = [coefficient % 2**32 for coefficient in product[:_STATE_LENGTH]]
    return result
