"""The two readings of a cfg."""

from __future__ import annotations

from enum import Enum


class Dialect(Enum):
    """Which fork's meaning a cfg has; decided once, in `build`, then carried by every spec as data."""

    PJREDDIE = "pjreddie"
    ALEXEYAB = "alexeyab"

    def __str__(self) -> str:
        return self.value
