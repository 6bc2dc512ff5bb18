"""darkpy convert: files, messages, and errors for wrong files."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from safetensors import safe_open

from darkpy.export.convert import TARGET_FORMATS
from tests.cli.conftest import Run


def test_there_and_back_without_the_cfg(task: Path, run: Run) -> None:
    first = Path("net.weights").read_bytes()
    assert run("convert", "net.weights", "a.safetensors", "--cfg", "net.cfg", "--names", "pets.names").code == 0
    assert run("convert", "a.safetensors", "--to", "pt").code == 0
    Path("net.cfg").unlink()
    outcome = run("convert", "a.pt", "b.weights")
    assert outcome == (0, "", "note: b.weights holds 28 weights of 1 layers\n")
    assert Path("b.weights").read_bytes() == first
    with safe_open("a.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["darkpy.names"]) == ["cat", "dog"]


def test_the_cfg_beside_the_weights_is_found(task: Path, run: Run) -> None:
    assert run("convert", "net.weights", "a.pt").code == 0
    Path("net.cfg").rename("other.cfg")
    assert "--cfg CFG" in run("convert", "net.weights", "b.pt").err
    assert not Path("b.pt").exists()


@pytest.mark.parametrize("output", [(), ("--output", "boxes"), ("--output", "rows"), ("--nms", ".45")])
def test_an_onnx_file_sees_what_its_source_sees(task: Path, run: Run, output: tuple[str, ...]) -> None:
    outcome = run("convert", "net.weights", "net.onnx", "--data", "pets.data", "--check", "a.png", *output)
    assert outcome.code == 0
    source, result = outcome.out[outcome.out.index("source") :].split("result")
    assert source.split() == ["source" + result.split()[0], *result.split()[1:]]
    assert "cat: 95%" in source and "dog: 73%" in source
    assert ("largest |a-b|" in outcome.out) == ("--nms" not in output)


@pytest.mark.parametrize("options", [(), ("--output", "boxes"), ("--output", "rows"), ("--precision", "fp16")])
def test_ncnn_files_see_what_their_source_sees(task: Path, run: Run, options: tuple[str, ...]) -> None:
    pytest.importorskip("ncnn")
    outcome = run("convert", "net.cfg", "--to", "ncnn", "--data", "pets.data", "--check", "a.png", *options)
    assert outcome.code == 0, outcome.err
    assert Path("net.param").exists() and Path("net.bin").exists()
    assert outcome.out.count("cat: 95%") == 2
    assert "class names are not stored" in outcome.err


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.onnx", ("--output", "raw")),
        ("a.onnx", ("--output", "corners")),
        ("a.onnx", ("--precision", "fp16")),
        ("a.onnx", ("--precision", "int8", "--calibrate", "a.png")),
        ("a.onnx", ("--dynamic-size", "--size", "64x32")),
        ("a.torchscript", ()),
        ("a.deepstream.txt", ("--to", "deepstream")),
        ("a.param", ("--output", "raw", "--size", "64x32")),
    ],
)
def test_every_way_out_sees_what_its_source_sees(task: Path, run: Run, name: str, options: tuple[str, ...]) -> None:
    outcome = run("convert", "net.cfg", name, "--data", "pets.data", "--check", "a.png", *options)
    assert outcome.code == 0, outcome.err
    source, result = outcome.out[outcome.out.index("source") :].split("result")
    assert source.count("cat: 95%") == result.count("cat: 95%") > 0
    assert ("best class only" in outcome.err) == (result.count("%") < source.count("%"))


def test_deepstream_gets_its_configuration_network_and_labels(task: Path, run: Run) -> None:
    assert run("convert", "net.cfg", "--to", "deepstream", "--data", "pets.data", "--precision", "fp16").code == 0
    lines = Path("net.deepstream.txt").read_text().splitlines()
    assert {"onnx-file=net.deepstream.onnx", "labelfile-path=net.deepstream.labels.txt"} <= set(lines)
    assert {"num-detected-classes=2", "network-mode=2", "pre-cluster-threshold=0.25"} <= set(lines)
    assert Path("net.deepstream.labels.txt").read_text() == "cat\ndog\n"
    assert [output.name for output in onnx.load("net.deepstream.onnx").graph.output] == ["output"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("a.engine", "write a.onnx; TensorRT's trtexec makes an engine of it"),
        ("a.tflite", "write a.onnx; onnx2tf makes TensorFlow's files of it"),
        ("a.pb", "write a.onnx; onnx2tf"),
        ("a.h5", "write a.onnx; onnx2tf"),
        ("a.xml", "write a.onnx; OpenVINO reads it"),
        ("a.mnn", "write a.onnx; the runtime's converter"),
        ("a.mlmodel", "--to coreml writes a.mlpackage"),
        ("a.ts", "--to torchscript writes a.torchscript"),
    ],
)
def test_kind_of_file_that_darkpy_lacks_names_the_way(task: Path, run: Run, name: str, hint: str) -> None:
    outcome = run("convert", "net.cfg", name)
    assert outcome.code == 2 and f"hint: {hint}" in outcome.err


def test_both_files_of_ncnn_must_be_new(task: Path, run: Run) -> None:
    Path("a.bin").write_bytes(b"other")
    assert "a.bin: already exists" in run("convert", "net.weights", "a.param").err
    assert not Path("a.param").exists() and Path("a.bin").read_bytes() == b"other"


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.weights"])
def test_check_compares_other_kinds_of_files_too(task: Path, run: Run, name: str) -> None:
    outcome = run("convert", "net.weights", name, "--data", "pets.data", "--check", "a.png")
    assert outcome.code == 0
    assert "layer 2 [yolo]                        0               0\n" in outcome.out
    assert outcome.out.count("cat: 95%") == 2


def test_a_cfg_stands_for_the_weights_beside_it(task: Path, run: Run) -> None:
    assert run("convert", "net.cfg", "--to", "safetensors").code == 0
    assert run("convert", "net.safetensors", "again.weights").code == 0
    assert Path("again.weights").read_bytes() == Path("net.weights").read_bytes()


def test_a_partial_file_is_converted_but_not_run(task: Path, run: Run) -> None:
    Path("net.cfg").write_text(Path("net.cfg").read_text() + "[route]\nlayers=1\n[convolutional]\nfilters=2\n")
    words = ("convert", "net.cfg", "a.safetensors", "--allow-partial")
    outcome = run(*words)
    assert outcome.code == 0 and "a partial file: up to layer 1 [convolutional]" in outcome.err
    assert "warning" not in outcome.err
    for word in (("--check", "a.png"), ("--to", "onnx")):
        refusal = run("convert", "a.safetensors", "b.safetensors", *word)
        assert refusal.code == 2 and "layer 4 [convolutional]" in refusal.err
        assert not Path("b.safetensors").exists()


@pytest.mark.parametrize(("package", "target"), [("onnx", "a.onnx"), ("safetensors", "a.safetensors")])
def test_without_a_package_the_message_says_what_to_install(
    task: Path, run: Run, monkeypatch: pytest.MonkeyPatch, package: str, target: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    outcome = run("convert", "net.cfg", target, "--data", "pets.data")
    assert outcome.code == 2 and f'hint: pip install "darkpy-yolo[{package}]"' in outcome.err
    assert not Path(target).exists()


def test_check_for_programs(task: Path, run: Run) -> None:
    found = json.loads(run("convert", "net.cfg", "a.onnx", "--data", "pets.data", "--check", "a.png", "--json").out)
    assert [one["name"] for one in found["source"]] == ["cat", "dog"] == [one["name"] for one in found["result"]]
    (row,) = found["outputs"]
    assert row["name"] == "layer 2 [yolo]" and row["departs"] is False and row["difference"] < 1e-5 < row["largest"]


def test_check_of_a_result_that_departs_has_exit_code_1(task: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ones = replace(TARGET_FORMATS["onnx"], run=lambda path, x: {"layer2": torch.ones(1, 7, 1, 1)})
    monkeypatch.setitem(TARGET_FORMATS, "onnx", ones)
    outcome = run("convert", "net.weights", "net.onnx", "--data", "pets.data", "--check", "a.png")
    assert outcome.code == 1 and "differs" in outcome.out


def test_folded_batch_norm_is_named(task: Path, run: Run) -> None:
    cfg = Path("net.cfg").read_text().replace("filters=7", "filters=7\nbatch_normalize=1")
    Path("net.cfg").write_text(cfg)
    Path("net.weights").write_bytes(Path("net.weights").read_bytes() + torch.ones(21).numpy().tobytes())
    assert "batch norm is folded" in run("convert", "net.weights", "net.onnx", "--data", "pets.data").err


def test_names_stand_in_the_metadata(task: Path, run: Run) -> None:
    run("convert", "net.weights", "net.onnx", "--data", "pets.data")
    texts = {entry.key: entry.value for entry in onnx.load("net.onnx").metadata_props}
    assert texts["darkpy.names"] == '["cat", "dog"]'
    assert texts["darkpy.cfg"] == Path("net.cfg").read_text()
    assert json.loads(texts["darkpy.anchors"])["layer2"]["anchors"] == [16, 8]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("net.weights",), "name the file to write (DST) or its format (--to)"),
        (("net.weights", "net.exe"), "net.exe: its suffix names no format\n  hint: one of .weights, .pt"),
        (("net.weights", "net.weights"), "net.weights: is an input of this command"),
        (("net.weights", "net.weights", "--force"), "net.weights: is an input of this command"),
        (("net.weights", "whole.safetensors"), "whole.safetensors: already exists\n  hint: --force overwrites it"),
        (("net.weights", "a.onnx", "--check", "absent.png"), "absent.png"),
        (("net.weights", "a.pt", "--output", "boxes"), "--output boxes is not for pt files"),
        (("net.weights", "a.param", "--nms", ".4"), "--nms is for .onnx files"),
        (("net.weights", "a.param", "--dynamic-size"), "--dynamic-size is for .onnx files"),
        (("net.weights", "a.param", "--output", "corners"), "which take heads, raw, boxes, rows"),
        (("net.weights", "a.pt", "--size", "64"), "--size is for exported networks"),
        (("net.weights", "a.onnx", "--precision", "int8"), "--precision int8 and --calibrate IMAGES need each other"),
        (("net.weights", "a.onnx", "--size", "48x0"), "is not a size such as 416"),
        (("net.weights", "a.onnx", "--output", "rows", "--nms", ".4"), "--output rows has none"),
        (("absent.weights", "a.pt", "--cfg", "net.cfg"), "absent.weights: cannot be read: No such file"),
        (("long.weights", "a.pt", "--cfg", "net.cfg"), "long.weights is too long"),
        (("a.png", "a.pt", "--cfg", "net.cfg"), "a.png is a PNG image, not a darknet weight file"),
        (("code.pt", "a.safetensors", "--cfg", "net.cfg"), "none of it was run"),
        (("cut.safetensors", "a.pt", "--cfg", "net.cfg"), "cut.safetensors: not a complete safetensors file"),
        (("net.weights", "a/a.pt"), "a/a.pt: cannot be written"),
        (("alone.cfg", "--to", "onnx"), "alone.cfg: a cfg has no weights, and there is no alone.weights beside it"),
        (("some.onnx", "a.weights", "--cfg", "net.cfg"), "some.onnx: an ONNX file cannot be converted back"),
        (("some.torchscript", "a.weights", "--cfg", "net.cfg"), "a TorchScript program cannot be converted back"),
        (("some.pt2", "a.weights", "--cfg", "net.cfg"), "a program of torch.export cannot be converted back"),
    ],
)
def test_a_mistake_is_one_message_and_nothing_is_written(
    task: Path, run: Run, words: tuple[str, ...], said: str
) -> None:
    Path("alone.cfg").write_text(Path("net.cfg").read_text())
    for suffix in ("onnx", "torchscript", "pt2"):
        Path(f"some.{suffix}").touch()
    Path("long.weights").write_bytes(Path("net.weights").read_bytes() + bytes(4))
    torch.save({"layers.1.biases": Path("harm")}, "code.pt")
    run("convert", "net.weights", "whole.safetensors")
    Path("cut.safetensors").write_bytes(Path("whole.safetensors").read_bytes()[:-9])
    before = {path: path.read_bytes() for path in task.iterdir()}
    code, out, err = run("convert", *words)
    assert (code, out) == (2, "")
    assert err.count("error: ") == 1 and said in err and "Traceback" not in err
    assert {path: path.read_bytes() for path in task.iterdir()} == before
