"""Copies to a device that do not wait for it; torch.tensor(..., device=) would synchronize with the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TypeVar

import torch
from torch import Tensor

Record = TypeVar("Record")


def tensor_async(values: Sequence[float], device: torch.device | None, dtype: torch.dtype | None = None) -> Tensor:
    """Create a tensor like torch.tensor, without synchronizing with the device."""
    return torch.tensor(values, dtype=dtype).to(device=device, non_blocking=True)


def to_device(record: Record, device: torch.device) -> Record:
    """Copy a dataclass, with all its tensors moved to the device."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}  # type: ignore[arg-type]
    moved = {name: value.to(device, non_blocking=True) for name, value in values.items() if isinstance(value, Tensor)}
    return replace(record, **moved)  # type: ignore[type-var]
