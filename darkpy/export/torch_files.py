"""`.pt` and `.pth`: state dicts as torch writes them. Nothing in such a file is run: arrays and plain values alone."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from darkpy.errors import WeightsError
from darkpy.export.state_dict import PREFIX, OpenArchive, WeightsMetadata

WRAPPERS = ("state_dict", "model_state_dict", "ema", "model", "module")
"""Under what names training programs put the state dict among other things."""


def read_torch(path: Path) -> OpenArchive:
    """The arrays of a state dict, also where it lies inside a checkpoint.

    Raises: WeightsError when the file would run code, broke off, or holds no state dict.
    """
    _check_sizes(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore")  # of what torch finds odd and reads all the same
            found = torch.load(path, map_location="cpu", weights_only=True)
    # a damaged or hostile file makes the reader fail in many ways
    except Exception as error:
        reason = " ".join(str(error).split())
        if "weights_only" in reason or "Unsupported" in reason:
            raise WeightsError(
                f"{path}: holds Python objects besides arrays; none of it was run",
                hint="where you trust it, save its model.state_dict() alone, with the program that wrote it",
            ) from error
        raise WeightsError(f"{path}: cannot be read: {reason or type(error).__name__}") from error
    arrays = _find_arrays(found)
    if not arrays:
        raise WeightsError(f"{path}: holds no state dict (names with arrays)")
    return OpenArchive(path, arrays, WeightsMetadata.from_texts(path, _find_texts(found)))


def pack_torch(arrays: Mapping[str, torch.Tensor], about: WeightsMetadata) -> Iterator[bytes]:
    """The bytes of a file that `network.load_state_dict(torch.load(file, weights_only=True))` takes.

    What it is about stands where torch keeps the versions of modules.
    """
    state: OrderedDict[str, Any] = OrderedDict(arrays)
    state._metadata = {"": {"version": 1}, PREFIX: about.as_texts()}  # type: ignore[attr-defined]
    stream = io.BytesIO()
    torch.save(state, stream)
    yield stream.getvalue()


class _LeftOut:
    """Stands for one of numpy's own values, which older checkpoints keep beside the arrays: a score, a loss.

    numpy's own readers are not let near the file: a made-up type would have them take its bytes for addresses.
    """

    def __init__(self, *values: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_HARMLESS: list[Any] = [
    (_LeftOut, f"numpy.{name}")
    for name in (
        "ndarray",
        "dtype",
        *(f"{core}.multiarray.{maker}" for core in ("core", "_core") for maker in ("_reconstruct", "scalar")),
    )
]


def _check_sizes(path: Path) -> None:
    """Refuse an archive that would unpack into more than it is: torch stores, and never packs."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            is_packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    if is_packed:
        raise WeightsError(f"{path}: a packed zip archive, no file of torch", hint="unpack it")


def _find_arrays(found: object, depth: int = 3) -> dict[str, torch.Tensor]:
    """The state dict itself, or the one under a training program's name for it; a dict may hold itself."""
    if not isinstance(found, Mapping) or not depth:
        return {}
    for name in WRAPPERS:
        if arrays := _find_arrays(found.get(name), depth - 1):
            return arrays
    return {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}


def _find_texts(found: object) -> dict[str, str]:
    """What `pack_torch` says of the arrays; nothing in files of others."""
    told = getattr(found, "_metadata", None)
    texts = told.get(PREFIX) if isinstance(told, Mapping) else None
    if not isinstance(texts, Mapping):
        return {}
    return {name: text for name, text in texts.items() if isinstance(name, str) and isinstance(text, str)}
