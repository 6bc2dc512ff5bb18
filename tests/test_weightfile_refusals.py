"""Weight files that do not fit, and files of other kinds: one clear error, and nothing has changed."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError, WeightsError
from tests.weightfiles import CONV, NET, NORMED, RECENT, TWO, loaded, refusal, weights, written


@pytest.mark.parametrize(("count", "position"), [
    (0, "0 values into layer 0 [convolutional] <cfg>:5, in its 'biases'"),
    (1, "1 values into layer 0 [convolutional] <cfg>:5, in its 'biases'"),
    (11, "11 values into layer 0 [convolutional] <cfg>:5, in its 'rolling_variance'"),
    (12, "12 values into layer 0 [convolutional] <cfg>:5, in its 'weights'"),
    (65, "65 values into layer 0 [convolutional] <cfg>:5, in its 'weights'"),
    (67, "1 values into layer 2 [convolutional] <cfg>:12, in its 'biases'"),
    (149, "83 values into layer 2 [convolutional] <cfg>:12, in its 'weights'"),
])  # fmt: skip
@pytest.mark.parametrize("allow_partial", [False, True])
def test_short_file_says_what_it_holds_and_where_it_ran_out(
    count: int, position: str, allow_partial: bool, tmp_path: Path
) -> None:
    path = written(tmp_path, count)
    assert refusal(TWO, path, allow_partial=allow_partial) == (
        f"{path} is too short: it holds {count} values, <cfg> needs 150; it ends {position}\n"
        "  hint: are this cfg and these weights a pair (classes, filters, dialect)?"
    )


def test_long_file_says_what_is_left_over(tmp_path: Path) -> None:
    path = written(tmp_path, 157)
    assert refusal(TWO, path) == (
        f"{path} is too long: it holds 157 values, <cfg> needs 150; 7 are left over\n"
        "  hint: are this cfg and these weights a pair (classes, filters, dialect)?"
    )


def test_weights_for_a_network_without_any_are_too_long(tmp_path: Path) -> None:
    assert "too long: it holds 3 values, <cfg> needs 0" in refusal("[maxpool]\n", written(tmp_path, 3))
    assert loaded("[maxpool]\n", written(tmp_path, 0))[1].loaded == 0


@pytest.mark.parametrize(("data", "words"), [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 248007048\n", "a Git-LFS pointer"),
    (b"<!DOCTYPE html><html><head><title>Quota exceeded</title>", "a web page"),
    (b"\xef\xbb\xbf\r\n <HTML>", "a web page"),
    (b"[net]\nbatch=1\nwidth=416\n", "a text file"),
    ("чужой текст".encode(), "a text file"),
    (("e" * 511 + "é").encode(), "a text file"),
    (b"PK\x03\x04\x14\0", "a zip archive (a PyTorch .pt file, perhaps)"),
    (b"\x80\x02\x8a\x0a", "a Python pickle"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x1f\x8b\x08\0", "a gzip archive"),
    (struct.pack("<Q", 64) + b'{"weights":{"dtype":"F32"', "a safetensors file"),
    (b"\xff\xd8\xff\xe0", "a JPEG image"),
    (b"", "an empty file"),
])  # fmt: skip
def test_file_of_another_kind_is_said_to_be_that(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "yolov3.weights"
    path.write_bytes(data)
    assert f"{path} is {words}" in refusal(CONV, path)


@pytest.mark.parametrize(("data", "words"), [
    (b"\0\0\0\0\x02\0\0", "has 7 bytes, fewer than a header"),
    (RECENT[:16], "has 16 bytes, fewer than a header"),
    (RECENT + b"\0\0\x80\x3f\0\0", "the 6 bytes after its header are not a whole number of float32"),
])  # fmt: skip
def test_broken_off_file_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.weights"
    path.write_bytes(data)
    assert words in refusal(CONV, path)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    assert refusal(CONV, tmp_path / "no.weights").endswith("no.weights: cannot be read: No such file or directory")
    assert refusal(CONV, tmp_path).endswith("cannot be read: is a folder, not a regular file")
    assert "cannot be read" in refusal(CONV, Path("a\0b"))


def test_device_without_an_end_is_refused() -> None:
    assert "is a device, not a regular file" in refusal(CONV, Path("/dev/zero"))


def test_file_of_terabytes_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.weights"
    with path.open("wb") as stream:
        stream.write(RECENT)
        stream.truncate((1 << 42) + 20)
    assert "too long" in refusal(CONV, path)


def test_partial_file_is_refused_by_default(tmp_path: Path) -> None:
    path = written(tmp_path, 66)
    assert refusal(TWO, path) == (
        f"{path} is a partial file: it fills 1 of 2 layers, up to layer 0 [convolutional] <cfg>:5\n"
        "  hint: training may start from it; --allow-partial (allow_partial=True) runs it anyway"
    )
    cfg = NET + TWO
    with pytest.raises(WeightsError):
        darkpy.load(cfg, path)
    assert darkpy.load(cfg, path, allow_partial=True).header.seen == 64 * 500


def test_folded_layer_is_neither_filled_nor_written(tmp_path: Path) -> None:
    path = written(tmp_path, 66)
    net, _ = loaded(NORMED, path)
    net.for_inference()
    folded = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(WeightsError, match=r"layer 0 \[convolutional\] <cfg>:5: scales was folded away"):
        net.save_weights(tmp_path / "out.weights")
    with pytest.raises(WeightsError, match="before for_inference"):
        net.load_weights(path)
    assert not (tmp_path / "out.weights").exists()
    assert all(torch.equal(tensor, folded[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_never_reaches_a_file(value: float, tmp_path: Path) -> None:
    net, _ = loaded(TWO, written(tmp_path, 150))
    target = tmp_path / "out.weights"
    target.write_bytes(b"earlier")
    with torch.no_grad():
        weights(net, 2)[0, 0, 0, 0] = value
    with pytest.raises(WeightsError, match=r"layer 2 .*: weights holds NaN or infinity; nothing is written"):
        net.save_weights(target)
    assert target.read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.weights", "some.weights"]


def test_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    net, _ = loaded(CONV, written(tmp_path, 57))
    with pytest.raises(DarkpyError, match=r"no/out\.weights: cannot be written"):
        net.save_weights(tmp_path / "no" / "out.weights")
