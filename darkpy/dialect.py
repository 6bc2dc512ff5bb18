"""Dialects of the cfg language."""

from __future__ import annotations

from enum import Enum


class Dialect(Enum):
    """The darknet that a cfg is written for; resolved once, in `build`, and then stored in every spec."""

    PJREDDIE = "pjreddie"
    ALEXEYAB = "alexeyab"

    def __str__(self) -> str:
        return self.value
