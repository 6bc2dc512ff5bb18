"""`.safetensors` files: named arrays and a few texts, without executable code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from darkpy.errors import DarkpyError, WeightsError
from darkpy.export.state_dict import CUT_OFF_HINT, OpenArchive, WeightsMetadata


class _LazyArrays(Mapping[str, torch.Tensor]):
    """Arrays of an open file, each read when it is accessed."""

    def __init__(self, file: Any) -> None:
        self._file, self._names = file, tuple(file.keys())

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_safetensors(path: Path) -> OpenArchive:
    """Open a file. Raises: WeightsError when it is not a complete safetensors file; DarkpyError without the package."""
    safetensors = _import_safetensors()
    try:
        file = safetensors.safe_open(str(path), framework="pt", device="cpu")
        texts = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not a complete safetensors file: {' '.join(str(error).split())}",
            hint=CUT_OFF_HINT,
        ) from error
    return OpenArchive(path, _LazyArrays(file), WeightsMetadata.from_texts(path, texts))


def pack_safetensors(arrays: Mapping[str, torch.Tensor], metadata: WeightsMetadata) -> Iterator[bytes]:
    """Yield the bytes of a file. Raises: DarkpyError without the package."""
    _import_safetensors()
    from safetensors.torch import save

    yield save(dict(arrays), metadata.as_texts())


def _import_safetensors() -> Any:
    try:
        import safetensors
    except ImportError:
        raise DarkpyError(
            "safetensors files need the package safetensors", hint='pip install "darkpy-yolo[safetensors]"'
        ) from None
    return safetensors
