"""darknet's weight tools from the command line."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import darkpy
from darkpy.weightfile import read_header
from tests.cli.conftest import Run

CFG = """[net]
width=16
height=16
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
filters=18
activation=linear
[yolo]
mask=0,1,2
anchors=3,4, 5,6, 7,8
classes=1
num=3
"""
ONE_FILE = ("rgbgr", "rescale", "reset", "denormalize", "normalize", "oneoff")
WRITING = (*ONE_FILE, "partial", "average")


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """net.cfg with net.weights, and classes.weights, whose last convolution has the one class only."""
    monkeypatch.chdir(tmp_path)
    Path("net.cfg").write_text(CFG)
    torch.manual_seed(0)
    darkpy.load(CFG).save_weights("net.weights")
    classes = CFG.replace("filters=18", "filters=1").partition("[yolo]")[0]
    darkpy.load(classes).save_weights("classes.weights")


def words(tool: str, weights: str = "net.weights", out: str = "out.weights") -> list[str]:
    """A command line that works, unless the weights do not."""
    if tool == "oneoff" and weights == "net.weights":
        weights = "classes.weights"
    if tool == "average":
        return [tool, "net.cfg", out, weights, weights]
    return [tool, "net.cfg", weights, out, *(["2"] if tool == "partial" else [])]


@pytest.mark.parametrize("tool", WRITING)
def test_a_tool_writes_one_file_and_leaves_the_others(run: Run, tool: str) -> None:
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    outcome = run(*words(tool))
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.startswith("note: out.weights holds ")
    after = {path.name: path.read_bytes() for path in Path().iterdir()}
    assert after.pop("out.weights") and after == before


@pytest.mark.parametrize("tool", WRITING)
@pytest.mark.parametrize("name", ["net.cfg", "net.weights", "./net.weights"])
def test_nothing_given_is_written_over(run: Run, tool: str, name: str) -> None:
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    given = "classes.weights" if tool == "oneoff" and name != "net.cfg" else name
    outcome = run(*words(tool, out=given))
    assert outcome.code == 2 and "is an input of this command" in outcome.err
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize("tool", WRITING)
def test_a_file_is_replaced_only_by_force(run: Run, tool: str) -> None:
    Path("out.weights").write_text("the only copy")
    outcome = run(*words(tool))
    assert outcome.code == 2 and "out.weights: already exists" in outcome.err
    assert Path("out.weights").read_text() == "the only copy"
    assert run(*words(tool), "--force").code == 0
    assert Path("out.weights").stat().st_size > 20


def test_average_without_a_place_for_it_destroys_no_weights(run: Run) -> None:
    files = ("net.weights", "second.weights", "third.weights")
    for file in files[1:]:
        shutil.copyfile(files[0], file)
    before = Path("net.weights").read_bytes()
    outcome = run("average", "net.cfg", *files)
    assert outcome.code == 2 and "hint: OUT comes before the files it is made of" in outcome.err
    assert Path("net.weights").read_bytes() == before


@pytest.mark.parametrize("tool", WRITING)
@pytest.mark.parametrize("damage", ["wrong cfg", "truncated", "too long", "nan", "missing", "page", "pickle"])
def test_bad_input_is_one_clear_error_and_nothing_is_written(run: Run, tool: str, damage: str) -> None:
    good = Path("classes.weights" if tool == "oneoff" else "net.weights").read_bytes()
    data = {
        "wrong cfg": good[:20] + good[20:] * 2,
        "truncated": good[:-8],
        "too long": good + bytes(4),
        "nan": good[:20] + struct.pack("<f", float("nan")) * 3 + good[32:],
        "page": b"<!doctype html><html>" + bytes(100),
        "pickle": b"\x80\x02" + good,
    }
    if damage in data:
        Path("bad.weights").write_bytes(data[damage])
    before = sorted(path.name for path in Path().iterdir())
    outcome = run(*words(tool, "bad.weights"))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("error: ") == 1 and "Traceback" not in outcome.err
    assert ("layer 0 [convolutional]" if damage == "nan" else "bad.weights") in outcome.err
    assert sorted(path.name for path in Path().iterdir()) == before


@pytest.mark.parametrize("count", ["0", "5", "-1", "x", ""])
def test_a_number_of_layers_out_of_range_is_refused(run: Run, count: str) -> None:
    outcome = run("partial", "net.cfg", "net.weights", "out.weights", count)
    assert outcome.code == 2 and not Path("out.weights").exists()


def test_a_partial_file_starts_a_training(run: Run) -> None:
    assert run("partial", "net.cfg", "net.weights", "net.conv.2", "2").code == 0
    network = darkpy.load("net.cfg", "net.conv.2", allow_partial=True)
    assert torch.equal(network.layers[0].weights, darkpy.load("net.cfg", "net.weights").layers[0].weights)  # type: ignore[arg-type]
    assert read_header("net.conv.2")[0].seen == 0


@pytest.mark.parametrize(("tool", "setting"), [("denormalize", "0"), ("normalize", "1")])
def test_the_cfg_that_goes_with_it_is_written(run: Run, tool: str, setting: str) -> None:
    assert "--write-cfg" in run(*words(tool)).err
    outcome = run(*words(tool), "--write-cfg", "other.cfg", "--force")
    assert outcome.code == 0 and "--write-cfg" not in outcome.err
    assert f"batch_normalize={setting}" in Path("other.cfg").read_text()
    x_BCHW = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        (found,) = darkpy.load("other.cfg", "out.weights")(x_BCHW)
        (wanted,) = darkpy.load("net.cfg", "net.weights")(x_BCHW)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("other", ["net.cfg", "net.weights", "out.weights"])
def test_the_cfg_that_goes_with_it_replaces_nothing_given(run: Run, other: str) -> None:
    before = sorted(path.name for path in Path().iterdir())
    assert run(*words("denormalize"), "--write-cfg", other).code == 2
    assert sorted(path.name for path in Path().iterdir()) == before


def test_ops_counts_as_darknet_does(run: Run) -> None:
    count = 2 * 16 * 16 * 27 * 4 + 2 * 8 * 8 * 4 * 18
    lines = [f"Floating Point Operations: {count}", f"Floating Point Operations: {count / 1e9:.2f} Bn"]
    assert run("ops", "net.cfg").out.splitlines() == lines
    assert json.loads(run("ops", "net.cfg", "--json").out) == {"operations": count}


def test_statistics_are_lines_or_json(run: Run) -> None:
    outcome = run("statistics", "net.cfg", "net.weights")
    blocks = outcome.out.split("\n\n")
    assert blocks[0].splitlines()[:3] == [
        "Convolutional Layer 0",
        "Biases MSE: 0.000000, Mean: 0.000000, Variance: 0.000000",
        "Scales MSE: 1.000000, Mean: 1.000000, Variance: 0.000000",
    ]
    assert blocks[1].startswith("Convolutional Layer 2\n")
    found = json.loads(run("statistics", "net.cfg", "net.weights", "--json").out)
    assert [(one["layer"], one["array"]) for one in found][-2:] == [(2, "biases"), (2, "weights")]
    assert found[0] == {**found[0], "count": 4, "mse": 0, "not_finite": 0}


def test_statistics_tell_of_nan(run: Run) -> None:
    data = Path("net.weights").read_bytes()
    Path("bad.weights").write_bytes(data[:20] + struct.pack("<4f", *[float("nan")] * 4) + data[36:])
    outcome = run("statistics", "net.cfg", "bad.weights")
    assert "Biases MSE: nan, Mean: nan, Variance: nan, NaN or infinity: 4\n" in outcome.out
    found = json.loads(run("statistics", "net.cfg", "bad.weights", "--json").out)
    assert (found[0]["mean"], found[0]["not_finite"]) == (None, 4)


def test_print_is_a_filter_a_line_or_json(run: Run) -> None:
    weights = darkpy.load("net.cfg", "net.weights").layers[2].get_parameter("weights").detach().reshape(18, 4)
    lines = run("print", "net.cfg", "net.weights", "2").out.splitlines()
    assert lines == ["".join(f"{number:g} " for number in row) for row in weights.tolist()]
    found = json.loads(run("print", "net.cfg", "net.weights", "2", "--json").out)
    assert found["layer"] == 2 and np.array_equal(np.float32(found["arrays"]["weights"]), weights)
    assert run("print", "net.cfg", "net.weights", "0", "--array", "scales").out == "1 \n" * 4


@pytest.mark.parametrize("layer", ["1", "4", "-1", "x"])
def test_print_of_a_layer_without_weights_is_refused(run: Run, layer: str) -> None:
    outcome = run("print", "net.cfg", "net.weights", layer)
    assert (outcome.code, outcome.out) == (2, "")


def test_visualize_draws_a_png(run: Run) -> None:
    assert run("visualize", "net.cfg", "net.weights").code == 0
    with Image.open("filters.png") as image:
        assert image.size == (68, 68)
    assert run("visualize", "net.cfg", "--layer", "2", "--out", "two.png").code == 0
    with Image.open("two.png") as image:
        assert image.size == (4 * 34 - 2, 18 * 34 - 2)


def test_visualize_replaces_nothing_given(run: Run) -> None:
    shutil.copy("net.weights", "net.png")
    assert "is an input of" in run("visualize", "net.cfg", "net.png", "--out", "net.png").err
    assert "already exists" in run("visualize", "net.cfg", "--out", "net.png").err
    for more in ((), (), ("--out", "net.png", "--force")):  # filters.png is darkpy's own name
        assert run("visualize", "net.cfg", *more).code == 0
    assert "must be a .png file" in run("visualize", "net.cfg", "--out", "a.jpg").err
    assert run("visualize", "net.cfg", "--layer", "1").code == 2


@pytest.mark.parametrize("tool", [*WRITING, "ops", "statistics", "print", "visualize"])
def test_help_shows_a_command_line(run: Run, tool: str) -> None:
    outcome = run(tool, "--help")
    assert outcome.code == 0 and f"  darkpy {tool} " in outcome.out


def test_print_of_a_layer_made_of_layers_names_its_parts(run: Run) -> None:
    Path("gru.cfg").write_text("[net]\ninputs=2\nbatch=1\n[gru]\noutput=1\n")
    Path("gru.weights").write_bytes(struct.pack("<3iQ15f", 0, 2, 0, 0, *range(15)))
    printed = run("print", "gru.cfg", "gru.weights", "0").out.splitlines()
    assert printed[:4] == ["wz.weights", "1 ", "wr.weights", "3 "]
    assert printed[-2:] == ["uh.weights", "13 14 "]
    assert run("print", "gru.cfg", "gru.weights", "0", "--array", "wr.biases").out == "2 \n"
    blocks = run("statistics", "gru.cfg", "gru.weights").out.splitlines()
    assert blocks[:4] == [
        "Gru Layer 0",
        "wz",
        "Biases MSE: 0.000000, Mean: 0.000000, Variance: 0.000000",
        "Weights MSE: 1.000000, Mean: 1.000000, Variance: 0.000000",
    ]
