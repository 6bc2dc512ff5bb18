"""Videos, addresses, folders, lists and files of other runtimes where an image, weights or a target is expected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import CFG, Run

MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(200)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (MP4, "an MP4 or QuickTime video"),
        (b"RIFF\x00\x10\x00\x00AVI LIST", "an AVI video"),
        (b"\x1aE\xdf\xa3\x01\x00\x00\x00", "a Matroska or WebM video"),
    ],
)
def test_video_given_as_an_image_is_said_to_be_one(task: Path, run: Run, start: bytes, kind: str) -> None:
    Path("film.jpg").write_bytes(start)
    code, _, err = run("detect", "net.cfg", "net.weights", "film.jpg")
    assert code == 2
    assert f"film.jpg: {kind}, not an image: cut it into images (mkdir frames && ffmpeg -i" in err


def test_image_of_the_same_container_is_no_video(task: Path, run: Run) -> None:
    Path("a.avif").write_bytes(MP4.replace(b"isom\x00", b"avif\x00"))
    assert "starts like a HEIC or AVIF image" in run("detect", "net.cfg", "net.weights", "a.avif").err


def test_address_keeps_its_slashes_in_the_message(task: Path, run: Run) -> None:
    address = "https://example.org/net.cfg"
    code, _, err = run("show", address)
    assert code == 2 and f"error: {address}: is an address, and darkpy reads files" in err
    code, _, err = run("detector", "test", "pets.data", "net.cfg", "net.weights", address)
    assert code == 2 and f"error: {address}: is an address, and darkpy reads files" in err


def test_folder_or_list_given_to_detector_test_shows_the_way(task: Path, run: Run) -> None:
    Path("list.txt").write_text("a.png\n")
    Path("frames").mkdir()
    Path("a.png").rename("frames/a.png")
    for given, kind in (("frames", "a folder"), ("list.txt", "a list")):
        code, _, err = run("detector", "test", "pets.data", "net.cfg", "net.weights", given)
        assert code == 2 and f"{given}: is {kind}, not an image\n  hint: darkpy detect CFG WEIGHTS {given}" in err
        assert (f"< {given}" in err) == (given == "list.txt"), "no shell reads a folder"
    assert run("detect", "net.cfg", "net.weights", "frames").code == 0


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x08\x08\x12\x07pytorch\x1a\x05" + bytes(30), "an ONNX or Core ML file"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(30), "a TFLite file"),
        (b"ptrt" + bytes(30), "a TensorRT engine"),
        (b'<?xml version="1.0"?>\n<net name="x" version="11">', "an OpenVINO .xml file"),
        (b"7767517\n3 3\nInput data 0 1 data\n", "an ncnn .param file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(30), "an HDF5 file (Keras)"),
        (b"\n:\n\x05image\x12\x0bPlaceholder*\x0b\n\x05dtype\x12\x02\x30\x01" + bytes(30), "a TensorFlow graph (.pb)"),
        (b"\n\x9a\x05\n\x06conv/w\x12\x05Const*" + bytes(30), "a TensorFlow graph (.pb)"),
        (b'\x9c\x01\0\0{"description": "YOLOv8n"}', "a TensorRT engine, as ultralytics writes it"),
        (b"\x47\x6b\x30\x01" + bytes(30), "an ncnn .bin file"),
        (b"\xdd\x85v\0\x4b\0\0\0" + bytes(30), "an ncnn .param.bin file"),
        (b"\x80\x04\x95\x10\0\0\0" + bytes(30), "a Python pickle (of PaddlePaddle, perhaps)"),
        (MP4, "a video or an image"),
        (b"RIFF\x00\x10\x00\x00AVI LIST" + bytes(30), "a video or an image"),
        (b"\x1aE\xdf\xa3\x01\x00\x00\x00" + bytes(30), "a video or an image"),
        (np.linspace(-1, 1, 10, dtype="<f4").tobytes(), "damaged, or another binary file"),
    ],
)
def test_file_of_another_runtime_given_as_weights_is_recognized(
    task: Path, run: Run, content: bytes, kind: str
) -> None:
    Path("net.weights").write_bytes(content)
    code, _, err = run("detect", "net.cfg", "net.weights", "a.png")
    assert code == 2 and f"net.weights is {kind}, not a darknet weight file" in err and "download" not in err


@pytest.mark.parametrize(
    ("name", "start", "kind"),
    [
        ("yolo.bin", b"", "a .bin file of ncnn or OpenVINO"),
        ("yolo.bin", bytes(4), "a .bin file of ncnn or OpenVINO"),  # ncnn: an array of 32-bit floats follows
        ("yolo.pb", b"", "a TensorFlow graph"),
        ("yolo.caffemodel", b"\n\x04", "a Caffe model"),
        ("yolo.mnn", b"\x20\0\0\0", "an MNN model"),
        ("yolo.torchscript", b"PK\x03\x04", "a TorchScript program"),
        ("yolo.pt2", b"PK\x03\x04", "a program of torch.export"),
        ("yolo.keras", b"PK\x03\x04", "a Keras file"),
    ],
)
def test_file_of_another_runtime_without_a_mark_is_recognized_by_its_name(
    task: Path, run: Run, name: str, start: bytes, kind: str
) -> None:
    Path(name).write_bytes(start + np.linspace(-1, 1, 100, dtype="<f4").tobytes())
    code, _, err = run("detect", "net.cfg", name, "a.png")
    assert code == 2 and f"{name} is {kind}, not a darknet weight file" in err
    assert "hint: give the .weights file that it was made from" in err
    Path(name).write_bytes(Path("net.weights").read_bytes())
    assert run("detect", "net.cfg", name, "a.png").code == 0


@pytest.mark.parametrize("suffix", ["tflite", "engine", "xml", "h5", "pb"])
def test_target_of_another_runtime_names_the_way_by_onnx(task: Path, run: Run, suffix: str) -> None:
    code, _, err = run("convert", "net.weights", f"net.{suffix}", "--cfg", "net.cfg")
    assert code == 2 and f"darkpy does not write .{suffix} files\n  hint: write net.onnx" in err


def test_target_of_core_ml_names_the_kind_that_replaced_it(task: Path, run: Run) -> None:
    code, _, err = run("convert", "net.weights", "net.mlmodel", "--cfg", "net.cfg")
    assert code == 2 and "does not write .mlmodel files\n  hint: --to coreml writes net.mlpackage" in err


def test_weights_of_another_class_count_name_partial(task: Path, run: Run) -> None:
    Path("net3.cfg").write_text(CFG.replace("filters=7", "filters=8").replace("classes=2", "classes=3"))
    code, _, err = run("detect", "net3.cfg", "net.weights", "a.png")
    assert code == 2 and "darkpy partial CFG net.weights START.weights 1 makes a start for a training" in err
    assert run("partial", "net.cfg", "net.weights", "START.weights", "1").code in (0, 2)
