"""`darkpy.evaluate` and `darkpy.export_onnx`: the commands' numbers and files, from Python."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError
from darkpy.network import Network

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


@pytest.fixture
def network() -> Network:
    return darkpy.load(WEIGHTS / "sample.cfg", WEIGHTS / "sample.weights")


@pytest.mark.parametrize(
    "function",
    [
        darkpy.Trainer,
        darkpy.accelerate,
        lambda network: darkpy.evaluate(network, "x.data"),
        lambda network: darkpy.export_onnx(network, "x.onnx"),
        lambda network: darkpy.detect(network, "x.jpg"),
        lambda network: darkpy.write_evaluation_report(network, "x.data", "judged"),
    ],
    ids=["Trainer", "accelerate", "evaluate", "export_onnx", "detect", "write_evaluation_report"],
)
def test_file_in_the_place_of_a_network_is_reported(
    function: Callable[[Any], object], request: pytest.FixtureRequest
) -> None:
    with pytest.raises(DarkpyError, match=f"^{request.node.callspec.id} takes a network, not str") as caught:
        function("sample.cfg")
    assert str(caught.value.hint).startswith("darkpy.load(")


def test_evaluate_is_detector_map(
    network: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from darkpy.__main__ import main

    monkeypatch.chdir(tmp_path)
    assert main(["sample", "shapes", "--images", "4", "--valid", "6"]) == 0
    capsys.readouterr()
    assert (
        main(["detector", "map", "shapes/sample.data", str(WEIGHTS / "sample.cfg"), str(WEIGHTS / "sample.weights")])
        == 0
    )
    printed = capsys.readouterr().out
    result = darkpy.evaluate(network, "shapes/sample.data")
    assert f"mean average precision (mAP@0.50) = {result.mean:.6f}" in printed
    assert result == darkpy.evaluate(network, "shapes/valid")
    data = Path("shapes/sample.data").read_text()
    Path("shapes/quoted.data").write_text(re.sub(r"(?m)^valid\s*=\s*(.*)$", r'valid="\1"', data))
    with pytest.warns(darkpy.DarkpyWarning, match="valid= is in quotes") as warned:
        assert result == darkpy.evaluate(network, "shapes/quoted.data")
    assert sum("in quotes" in str(warning.message) for warning in warned) == 1  # the file is read once
    (tmp_path / "shapes/valid/00000.jpg").write_bytes(b"no image")
    with pytest.warns(darkpy.DarkpyWarning, match="unreadable images: 1"):
        darkpy.evaluate(network, "shapes/valid")
    with pytest.raises(DarkpyError, match="training mode"):
        darkpy.evaluate(network.train(), "shapes/valid")


def test_export_leaves_the_network_as_it_is(network: Network, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    before = copy.deepcopy(network.state_dict())
    file = darkpy.export_onnx(network, tmp_path / "a.onnx", names=["a", "b", "c", "d"])
    after = network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    x_BCHW = torch.rand(2, *network.plan.input_shape)
    with torch.inference_mode():
        expected = network(x_BCHW)
    actual = onnxruntime.InferenceSession(str(file)).run(None, {"x": x_BCHW.numpy()})
    for ours, theirs in zip(expected, actual, strict=True):
        torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-4, atol=1e-4)
    with pytest.raises(DarkpyError, match="already exists"):
        darkpy.export_onnx(network, file)
    with pytest.raises(DarkpyError, match="outputs='box' is unknown"):
        darkpy.export_onnx(network, tmp_path / "b.onnx", outputs="box")
    with pytest.raises(DarkpyError, match="nms needs boxes"):
        darkpy.export_onnx(network, tmp_path / "b.onnx", nms=0.4)
    with pytest.raises(darkpy.DarkpyError, match="precision='int4' is unknown"):
        darkpy.export_onnx(network, tmp_path / "b.onnx", precision="int4")
    with pytest.raises(DarkpyError, match="discarded for speed"):
        darkpy.export_onnx(darkpy.accelerate(network), tmp_path / "b.onnx")
