"""Dialects of the cfg language."""

from __future__ import annotations

from enum import Enum

ALEXEYAB_REVISION = 5
"""Revision in the header of weight files: AlexeyAB's program writes version 0.2.5 since 2018-10, pjreddie's 0.2.0."""
EXTENSION_REVISION = 1 << 16
"""Bit of a header's revision: the file has extension arrays. darknet ignores the bit and misreads such a file."""


V5_NAME = "v5"
"""hank-ai's darknet, which reads AlexeyAB's dialect: `Dialect("v5")` is `Dialect.ALEXEYAB`."""


class Dialect(Enum):
    """The darknet that a cfg is written for; resolved once, in `build`, and then stored in every spec."""

    PJREDDIE = "pjreddie"
    ALEXEYAB = "alexeyab"

    @classmethod
    def _missing_(cls, value: object) -> Dialect | None:
        return cls.ALEXEYAB if value == V5_NAME else None

    def __str__(self) -> str:
        return self.value


DIALECT_NAMES = (*map(str, Dialect), V5_NAME)


def use_dialect(dialect: Dialect) -> str:
    """Hint to read a cfg in another dialect."""
    return f"use --dialect {dialect}"
