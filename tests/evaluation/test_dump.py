"""Dumps are read as they were written, and a bad file is refused in one message before anything is unpacked."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darkpy.errors import DarkpyError, ShapeError
from darkpy.evaluation.dump import is_dump, is_output_shape, layer_number, open_dump, write_dump
from darkpy.shapes import Shape

SHAPE = Shape(2, 3, 4)
OUTPUT_BCHW = torch.arange(24.0).reshape(1, *SHAPE) / 7


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def npy(shape: str, body: bytes, descr: str = "'<f4'") -> bytes:
    """An array file with any header."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def write_member(path: Path, content: bytes, name: str = "layer0.npy") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return path


def read_layer(path: Path, shape: Shape = SHAPE) -> torch.Tensor:
    with open_dump(path) as dump:
        return dump.read_layer(0, 1, shape)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    x_BCHW = torch.rand(1, 3, 5, 6)
    write_dump(path, x_BCHW, [OUTPUT_BCHW, -OUTPUT_BCHW])
    with open_dump(path) as dump:
        assert dump.has_input and dump.layers == [0, 1] and not dump.unknown_names
        assert torch.equal(dump.read_input(Shape(3, 5, 6), max_batch=1), x_BCHW)
        assert torch.equal(dump.read_layer(1, 1, SHAPE), -OUTPUT_BCHW)


def test_the_same_outputs_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_dump(tmp_path / name, OUTPUT_BCHW, [OUTPUT_BCHW])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_dump_never_replaces_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "net.weights"
    path.write_bytes(b"precious")
    with pytest.raises(DarkpyError, match=r"a dump is an \.npz file"):
        write_dump(path, OUTPUT_BCHW, [OUTPUT_BCHW])
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize(
    "array",
    [
        OUTPUT_BCHW.numpy(),
        OUTPUT_BCHW[0].numpy(),
        OUTPUT_BCHW.flatten().numpy(),
        OUTPUT_BCHW.flatten(1).numpy(),
        np.asfortranarray(OUTPUT_BCHW.numpy()),
        OUTPUT_BCHW.numpy().astype(">f4"),
        OUTPUT_BCHW.double().numpy(),
    ],
    ids=["BCHW", "CHW", "flat", "B outputs", "Fortran order", "big-endian", "double"],
)
def test_arrays_of_other_programs_are_understood(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    assert torch.equal(read_layer(write(tmp_path / "d.npz", layer0=array)), OUTPUT_BCHW)


def test_an_array_with_its_channels_last_is_refused_with_both_shapes(tmp_path: Path) -> None:
    path = write(tmp_path / "d.npz", layer0=OUTPUT_BCHW.permute(0, 2, 3, 1).numpy())
    with pytest.raises(ShapeError, match=r"layer0 has the shape \(1, 3, 4, 2\), the cfg gives \(1, 2, 3, 4\)"):
        read_layer(path)


def test_a_pickled_object_is_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("unpickled",))

    path = write(tmp_path / "d.npz", layer0=np.array([Trap()], dtype=object))
    with pytest.raises(DarkpyError, match="layer0 is a pickled Python object, which is never loaded"):
        read_layer(path)


def test_numbers_that_are_no_floats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match="layer0 holds int64, a dump holds float32"):
        read_layer(write(tmp_path / "d.npz", layer0=np.zeros((1, *SHAPE), dtype=np.int64)))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "d.npz", layer0=OUTPUT_BCHW.numpy())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DarkpyError, match=r"d\.npz: cannot be read as a dump"):
        read_layer(path)


def test_damaged_numbers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "d.npz", layer0=OUTPUT_BCHW.numpy())
    content = bytearray(path.read_bytes())
    content[content.index(OUTPUT_BCHW.numpy().tobytes()) + 5] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DarkpyError, match="CRC"):
        read_layer(path)


def test_a_huge_claimed_shape_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = write_member(tmp_path / "d.npz", npy("(1000000, 1000000, 1000)", bytes(96)))
    with pytest.raises(ShapeError, match=r"layer0 has the shape \(1000000, 1000000, 1000\)"):
        read_layer(path)


def test_a_right_shape_without_its_numbers_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    shape = Shape(1 << 20, 1 << 15, 1)
    path = write_member(tmp_path / "d.npz", npy(f"(1, {1 << 20}, {1 << 15}, 1)", bytes(96)))
    with pytest.raises(DarkpyError, match="takes 182 bytes, its header announces 137438953558"):
        read_layer(path, shape)


def test_a_bomb_of_zeros_is_not_unpacked(tmp_path: Path) -> None:
    path = write(tmp_path / "d.npz", layer0=OUTPUT_BCHW.numpy())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy("(100000, 2, 3, 4)", bytes(100000 * 96)))
    with open_dump(path) as dump, pytest.raises(ShapeError, match="x holds 100000 images, at most 8"):
        dump.read_input(SHAPE, max_batch=8)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an array",
        b"\x93NUMPY\x09\x00" + bytes(40),
        npy("(1, 2, 3, 4)", bytes(96), descr="'<q9'"),
        npy("((((", bytes(96)),
        npy("(-1, 2, 3, 4)", bytes(96)),
        npy("'four'", bytes(96)),
    ],
    ids=["empty", "text", "version 9", "no type", "broken header", "negative", "no shape"],
)
def test_a_broken_array_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DarkpyError, match=r"d\.npz"):
        read_layer(write_member(tmp_path / "d.npz", content))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"plain text", bytes(100)])
def test_what_is_no_archive_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(content)
    with pytest.raises(DarkpyError, match="cannot be read as a dump"), open_dump(path):
        pass


def test_a_fault_of_the_reader_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "d.npz", layer0=OUTPUT_BCHW.numpy())
    with pytest.raises(ZeroDivisionError), open_dump(path):
        raise ZeroDivisionError


def test_only_plain_numbers_name_layers() -> None:
    assert layer_number("layer12") == 12
    assert [layer_number(name) for name in ("layer", "layer01", "layer-1", "layer1x", "layer9999999999", "x")] == [
        None
    ] * 6


def test_a_dump_is_known_by_its_name_or_its_bytes(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros(3))
    (tmp_path / "a").write_bytes(stream.getvalue())
    (tmp_path / "b.npz").write_bytes(b"broken")
    (tmp_path / "c.weights").write_bytes(bytes(20))
    assert [is_dump(tmp_path / name) for name in ("a", "b.npz", "c.weights")] == [True, True, False]
    with pytest.raises(DarkpyError, match="cannot be read"):
        is_dump(tmp_path / "absent.npz")


def test_a_batch_must_be_named_where_it_is_more_than_one() -> None:
    assert (
        is_output_shape((2, 2, 3, 4), 2, SHAPE)
        and is_output_shape((48,), 2, SHAPE)
        and is_output_shape((2, 24), 2, SHAPE)
    )
    assert not is_output_shape((2, 3, 4), 2, SHAPE)
