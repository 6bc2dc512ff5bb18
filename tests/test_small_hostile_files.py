"""Small files that would unpack into gigabytes are refused before they are unpacked."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

MAX_GROWTH_MB = 400
READ = """
import json, resource, sys, warnings
from pathlib import Path
import torch
from darkpy.data.loading.images import load_image
from darkpy.errors import DarkpyError
from darkpy.evaluation.dump import open_dump
from darkpy.export.torch_files import read_torch
from darkpy.shapes import Shape
from darkpy.training.checkpoints import open_resume

def read_dump(path):
    with open_dump(path) as dump:
        dump.read_layer(0, 1, Shape(1, 2, 2))

def read_state(path):
    for array in read_torch(path).arrays.values():
        array.float().contiguous().clone()

torch.zeros(8).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    {"pt": read_state, "resume": open_resume, "npz": read_dump, "png": load_image}[sys.argv[1]](Path(sys.argv[2]))
    message = ""
except DarkpyError as error:
    message = error.message
print(json.dumps([message, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024]))
"""


def shared_storage(path: Path) -> None:
    block = torch.zeros(1 << 20)
    torch.save(OrderedDict((f"a{index}", block[:]) for index in range(1500)), path)


def stride_zero(path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(1 << 31)}, path)


def overlapping_members(path: Path) -> None:
    torch.save({f"a{index}": torch.full((1 << 20,), float(index)) for index in range(4)}, path)
    _overlap(path)


def _overlap(path: Path) -> None:
    """Let the directory of a zip file name its largest member a thousand times."""
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        for index in range(1000):
            copy = zipfile.ZipInfo(f"{largest.filename}{index}")
            for name in ("header_offset", "file_size", "compress_size", "CRC", "compress_type"):
                setattr(copy, name, getattr(largest, name))
            archive.filelist.append(copy)
        archive._didModify = True  # type: ignore[attr-defined]


def compressed_resume(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, about=np.array("{}"), a=np.zeros(1 << 27))


def header_of_gigabytes(path: Path) -> None:
    claim = (1 << 31) - 1
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("layer0.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", claim))
        for _ in range(64):
            stream.write(b" " * (1 << 25))


def one_bit_png(path: Path) -> None:
    side = 13_376

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"\0" * (side * (side // 8 + 1)), 9)
    header = struct.pack(">2I5B", side, side, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("kind", "write", "message"),
    [
        ("pt", shared_storage, "its arrays would take"),
        ("pt", stride_zero, "its arrays would take"),
        ("pt", overlapping_members, "its members take"),
        ("resume", compressed_resume, "its contents are larger than the file"),
        ("npz", header_of_gigabytes, "cannot be read as a dump"),
        ("png", one_bit_png, "perhaps a decompression bomb"),
    ],
)
def test_file_is_refused_before_it_fills_the_memory(
    tmp_path: Path, kind: str, write: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / f"small.{kind}"
    write(path)
    assert path.stat().st_size < 20 << 20
    done = subprocess.run(
        [sys.executable, "-c", READ, kind, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    actual, growth_mb = json.loads(done.stdout)
    assert message in actual and growth_mb < MAX_GROWTH_MB


def test_tied_weights_are_read(tmp_path: Path) -> None:
    from darkpy.export.torch_files import read_torch

    weight = torch.randn(1 << 20)
    torch.save({"a": weight, "b": weight, "c": weight.half()}, tmp_path / "tied.pt")
    assert len(read_torch(tmp_path / "tied.pt").arrays) == 3
