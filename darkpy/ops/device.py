"""Numbers on their way to a GPU that nobody waits for; torch's own constructors wait until it has done its work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TypeVar

import torch
from torch import Tensor

Record = TypeVar("Record")


def tensor_async(numbers: Sequence[float], device: torch.device | None, dtype: torch.dtype | None = None) -> Tensor:
    """As torch.tensor, without waiting."""
    return torch.tensor(numbers, dtype=dtype).to(device=device, non_blocking=True)


def to_device(record: Record, device: torch.device) -> Record:
    """A dataclass with all its tensors there."""
    tensors = {field.name: getattr(record, field.name) for field in fields(record)}  # type: ignore[arg-type]
    there = {name: one.to(device, non_blocking=True) for name, one in tensors.items() if isinstance(one, Tensor)}
    return replace(record, **there)  # type: ignore[type-var]
