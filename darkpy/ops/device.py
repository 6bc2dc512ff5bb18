"""The device to use, and copies to a GPU that do not wait for its work, as torch's own constructors do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from darkpy.distributed import is_launched, local_rank, local_world
from darkpy.errors import DarkpyError

Record = TypeVar("Record")


def tensor_async(values: Sequence[float], device: torch.device | None, dtype: torch.dtype | None = None) -> Tensor:
    """Create a tensor like torch.tensor, without synchronizing with the device."""
    return torch.tensor(values, dtype=dtype).to(device=device, non_blocking=True)


def to_device(record: Record, device: torch.device) -> Record:
    """Copy a dataclass, with all its tensors moved to the device."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}  # type: ignore[arg-type]
    moved = {name: value.to(device, non_blocking=True) for name, value in values.items() if isinstance(value, Tensor)}
    return replace(record, **moved)  # type: ignore[type-var]


def find_device(name: str | int | torch.device | None) -> torch.device:
    """Return the device of that name; by default a GPU if there is one, under torchrun the process's own.

    name: as torch has them; "gpu" is "cuda", and a number the GPU of that number.
    Raises: DarkpyError when the device cannot be used, or there are more processes than GPUs.
    """
    if name is None and not torch.cuda.is_available():
        return torch.device("cpu")
    if name is None and is_launched():
        if local_world() > torch.cuda.device_count():
            raise DarkpyError(
                f"{local_world()} processes share {torch.cuda.device_count()} GPUs: each needs its own",
                hint=f"torchrun --nproc_per_node {torch.cuda.device_count()} ...",
            )
        return torch.device("cuda", local_rank())
    if name is None:
        return torch.device("cuda")
    text = str(name)
    try:
        device = torch.device("cuda" if text == "gpu" else f"cuda:{text}" if text.isdigit() else text)
    except RuntimeError as error:
        hint = "cpu, cuda, cuda:1, mps, or a GPU's number"
        raise DarkpyError(f"device {text}: no such device", hint=hint) from error
    hint = "the device cpu always works"
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DarkpyError(f"device {text}: torch finds no GPU here", hint=hint)
    try:
        torch.zeros(1, device=device).cpu()
    except (NotImplementedError, ImportError) as error:  # with all backends of all builds listed
        raise DarkpyError(f"device {text}: the torch installed here computes nothing on it", hint=hint) from error
    except (RuntimeError, AssertionError) as error:  # torch raises the second where it was built without CUDA
        reason = str(error).partition("\n")[0].removesuffix(".")
        raise DarkpyError(f"device {text}: {reason}", hint=hint) from error
    return device
