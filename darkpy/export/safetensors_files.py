"""`.safetensors`: named arrays and a few texts, and nothing in it can run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from darkpy.errors import DarkpyError, WeightsError
from darkpy.export.state_dict import OpenArchive, WeightsMetadata


class _Arrays(Mapping[str, torch.Tensor]):
    """The arrays of an opened file, each read when it is asked for."""

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
    """Raises: WeightsError when the file is no safetensors file, or broke off; DarkpyError without the package."""
    safetensors = _package()
    try:
        file = safetensors.safe_open(str(path), framework="pt", device="cpu")
        texts = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: no whole safetensors file: {' '.join(str(error).split())}",
            hint="the download or copy broke off, perhaps; fetch it again",
        ) from error
    return OpenArchive(path, _Arrays(file), WeightsMetadata.from_texts(path, texts))


def pack_safetensors(arrays: Mapping[str, torch.Tensor], about: WeightsMetadata) -> Iterator[bytes]:
    """The bytes of a file. Raises: DarkpyError without the package."""
    _package()
    from safetensors.torch import save

    yield save(dict(arrays), about.as_texts())


def _package() -> Any:
    try:
        import safetensors
    except ImportError:
        raise DarkpyError(
            "safetensors files need the package safetensors", hint="pip install darkpy[safetensors]"
        ) from None
    return safetensors
