"""A GPU for machines without one: tensors that say they are there, compute here, and tell who would wait for them.

It knows what torch's CUDA kernels need the processor for: numbers fetched, sizes that depend on numbers, copies that
are not told to go on. It refuses what they refuse, arrays of both places in one operation.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import darkpy

GPU = torch.device("cuda", 0)
PACKAGE = darkpy.__path__[0]
WAITS = {
    "_local_scalar_dense",
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "repeat_interleave.Tensor",
    "unique_consecutive",
    "unique_dim",
}
"""Operations after which the processor knows something of the numbers."""


class There(Tensor):
    """A tensor on the pretended GPU; to torch it is on the device `meta`, which computes nothing.

    here: its numbers.
    """

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        make: Callable[..., There] = Tensor._make_wrapper_subclass
        made = make(cls, here.shape, strides=here.stride(), dtype=here.dtype, device="meta")
        made.here = here
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False

    def new_tensor(self, data: Any, dtype: Any = None, **_: Any) -> Tensor:  # type: ignore[override]
        return torch.tensor(data, dtype=dtype or self.dtype, device=GPU)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"There({self.here!r})"

    @classmethod
    def __torch_dispatch__(cls, operation: Any, *_: Any) -> Any:
        raise AssertionError(f"{operation} on the pretended GPU after its end")


class PretendedGpu(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """waits: how often each line of darkpy would wait for it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), str(operation).removeprefix("aten.")
        arrays = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [array for array in arrays if isinstance(array, There)]
        device = kwargs.get("device")
        is_there = bool(there) if device is None else torch.device(device).type in ("cuda", "meta")
        self._look(name, args, kwargs, bool(there) != is_there)
        if there and not name.startswith(("_to_copy", "copy_", "index", "_index")):
            assert all(isinstance(one, There) or not one.dim() for one in arrays), f"{name} of arrays here and there"
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        result = operation(*tree_map(_here, args), **tree_map(_here, kwargs))
        known = {id(array.here): array for array in there}  # what was written into is who it was
        return tree_map(
            lambda one: known.get(id(one), There(one)) if is_there and isinstance(one, Tensor) else one, result
        )

    def _look(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], is_moved: bool) -> None:
        is_there = bool(args) and isinstance(args[0], There)
        if is_there and (name in WAITS or name.partition(".")[0] in WAITS):
            self._note(name)
        if is_there and name.startswith(("index.", "index_put")):
            places = [place for place in args[1] if place is not None]
            if any(place.dtype == torch.bool or not isinstance(place, There) for place in places):
                self._note(name)
        if name.startswith("_to_copy") and is_moved and not kwargs.get("non_blocking"):
            self._note("a copy")
        if name.startswith("copy_") and is_there != isinstance(args[1], There) and not any(args[2:]):
            self._note("a copy")

    def _note(self, why: str) -> None:
        own = [frame for frame in traceback.extract_stack() if frame.filename.startswith(PACKAGE)]
        where = f"{own[-1].filename.removeprefix(PACKAGE)}: {own[-1].line}" if own else "outside of darkpy"
        self.waits[f"{where}: {why}"] += 1


def _here(value: Any) -> Any:
    return value.here if isinstance(value, There) else value


@contextmanager
def pretended_gpu() -> Iterator[PretendedGpu]:
    """Within it `GPU` is a device; what is there is of no use behind it."""
    had = torch._C._only_lift_cpu_tensors(), torch.__future__.get_overwrite_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch, PretendedGpu() as gpu:
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
        torch._C._set_only_lift_cpu_tensors(True)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            yield gpu
        finally:
            torch._C._set_only_lift_cpu_tensors(had[0])
            torch.__future__.set_overwrite_module_params_on_conversion(had[1])
