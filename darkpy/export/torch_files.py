"""`.pt` and `.pth` files: state dicts as torch writes them. Only arrays and plain values are read; no code is run."""

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
from darkpy.export.state_dict import CUT_OFF_HINT, METADATA_PREFIX, OpenArchive, WeightsMetadata

STATE_DICT_KEYS = ("state_dict", "model_state_dict", "ema", "model", "module")
"""Names under which training programs store the state dict in a checkpoint."""
SHARED_ARRAYS_LIMIT = 4
"""Largest ratio of the bytes of all arrays to those of the file: tied weights stand in it once."""
SMALL_FILE_BYTES = 1 << 20


def read_torch(path: Path) -> OpenArchive:
    """Read the arrays of a state dict, or of one inside a checkpoint.

    Raises: WeightsError when the file would run code, is cut off, holds no state dict, or unpacks into far more memory
        than it has bytes.
    """
    _check_sizes(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_NUMPY_PLACEHOLDERS):
            warnings.simplefilter("ignore")  # torch warns of irregular files that it can read
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    # a damaged or hostile file makes the reader raise nearly any exception
    except Exception as error:
        reason = " ".join(str(error).split())
        if "weights_only" in reason or "Unsupported" in reason:
            raise WeightsError(
                f"{path}: holds Python objects besides arrays; none of it was run",
                hint="if you trust it, save its model.state_dict() alone, with the program that wrote it",
            ) from error
        raise WeightsError(f"{path}: cannot be read: {reason or type(error).__name__}") from error
    arrays = _find_arrays(loaded)
    if not arrays:
        raise WeightsError(f"{path}: holds no state dict (names with arrays)")
    # arrays may share memory, or repeat one value by a stride of 0, and are unpacked when they are copied
    claimed = sum(array.numel() * array.element_size() for array in arrays.values())
    if claimed > SHARED_ARRAYS_LIMIT * path.stat().st_size + SMALL_FILE_BYTES:
        raise WeightsError(f"{path}: its arrays would take {claimed} bytes, the file has {path.stat().st_size}")
    metadata = getattr(loaded, "_metadata", None)
    texts = metadata.get(METADATA_PREFIX) if isinstance(metadata, Mapping) else None
    if not isinstance(texts, Mapping):  # a file of another program
        texts = {}
    texts = {name: text for name, text in texts.items() if isinstance(name, str) and isinstance(text, str)}
    return OpenArchive(path, arrays, WeightsMetadata.from_texts(path, texts))


def pack_torch(arrays: Mapping[str, torch.Tensor], metadata: WeightsMetadata) -> Iterator[bytes]:
    """Yield the bytes of a file that `network.load_state_dict(torch.load(file, weights_only=True))` takes.

    The metadata stands in `_metadata`, where torch keeps the versions of modules and ignores unknown entries.
    """
    state: OrderedDict[str, Any] = OrderedDict(arrays)
    state._metadata = {"": {"version": 1}, METADATA_PREFIX: metadata.as_texts()}  # type: ignore[attr-defined]
    stream = io.BytesIO()
    torch.save(state, stream)
    yield stream.getvalue()


def check_stored(path: Path, archive: zipfile.ZipFile) -> None:
    """Raises: WeightsError for an archive that is compressed, or whose members overlap: a small one unpacks to GB."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise WeightsError(f"{path}: a compressed zip archive, which torch never writes", hint="unpack it")
    total, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if total > size:
        raise WeightsError(f"{path}: its members take {total} bytes, the file has {size}")


class _Ignored:
    """Placeholder for a numpy value, which older checkpoints hold beside the arrays: a score, a loss.

    numpy's own readers must not see the file: a forged dtype would make them read its bytes as memory addresses.
    """

    def __init__(self, *values: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_NUMPY_PLACEHOLDERS: list[Any] = [
    (_Ignored, f"numpy.{name}")
    for name in (
        "ndarray",
        "dtype",
        *(f"{core}.multiarray.{maker}" for core in ("core", "_core") for maker in ("_reconstruct", "scalar")),
    )
]


def _check_sizes(path: Path) -> None:
    """Reject an archive that could unpack into far more memory: torch never compresses, nor stores a block twice."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                if file.read(4) == b"PK\x03\x04":  # its table of contents is at the end
                    raise WeightsError(f"{path}: not a complete zip archive", hint=CUT_OFF_HINT)
            return
        with zipfile.ZipFile(path) as archive:
            check_stored(path, archive)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error


def _find_arrays(loaded: object, depth: int = 3) -> dict[str, torch.Tensor]:
    """Return the state dict itself, or the one under a known name; the depth is limited, as a dict may hold itself."""
    if not isinstance(loaded, Mapping) or not depth:
        return {}
    for name in STATE_DICT_KEYS:
        if arrays := _find_arrays(loaded.get(name), depth - 1):
            return arrays
    return {name: value for name, value in loaded.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}
