"""Splits that can be made again: the same names and the same seed, on any machine and in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

from darkpy.errors import DarkpyError


def split(names: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Deal names at random into parts of given shares of the whole; within a part they keep their order.

    Where a name goes follows from the seed, itself, and how many there are: of a set that has grown a little, few
    names change their part.

    Returns: the parts that hold a name; each of them does where there are as many names as parts.
    Raises:  DarkpyError when the shares are not above 0 or more than 1 together.
    """
    total = sum(shares.values())
    if not shares or min(shares.values()) <= 0 or total > 1 + 1e-9:
        raise DarkpyError(
            f"{', '.join(f'{part}={share:g}' for part, share in shares.items())} are no shares of a whole",
            hint="shares are above 0, and 1 together or less, as in train=.8,valid=.2",
        )
    shuffled = sorted(names, key=lambda name: (_number(seed, name), name))
    ends = _ends(len(names), list(shares.values()))
    part_of = {
        name: part for part, first, end in zip(shares, [0, *ends], ends, strict=False) for name in shuffled[first:end]
    }
    parts: dict[str, list[str]] = {part: [] for part in shares}
    for name in names:
        if name in part_of:
            parts[part_of[name]].append(name)
    return {part: members for part, members in parts.items() if members}


def _number(seed: int, name: str) -> bytes:
    return sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()


def _ends(count: int, shares: Sequence[float]) -> list[int]:
    """Where each part ends, none of them empty if that can be."""
    ends: list[int] = []
    done = 0.0
    for place, share in enumerate(shares):
        done += share
        left = len(shares) - 1 - place
        end = min(round(done * count), count - left)
        ends.append(min(max(end, ends[-1] + 1 if ends else 1), count))
    return ends
