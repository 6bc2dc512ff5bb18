"""`--engine`, `--precision`, `--compile`, `--calibrate`: available, effective, and the accuracy lost is reported."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from darkpy.inference import accelerate
from darkpy.inference import calibration as int8
from tests.cli.conftest import Run, write_image

DETECT = ("detect", "net.cfg", "net.weights", "a.png", "--names=pets.names", "--json", "-nogpu")
TEST = ("detector", "test", "pets.data", "net.cfg", "net.weights", "a.png", "-nogpu")
JUDGED = ("judged.data", "net.cfg", "net.weights", "-nogpu")


@pytest.fixture
def judged(task: Path) -> Path:
    """A list of one image with the cat that the network detects everywhere."""
    (task / "a.txt").write_text("0 .5 .5 .5 .25\n")
    (task / "list.txt").write_text(f"{task / 'a.png'}\n")
    (task / "judged.data").write_text(f"classes=2\nnames=pets.names\nvalid={task / 'list.txt'}\n")
    return task


def engines() -> list[str]:
    return [name for name in ("onnxruntime", "openvino") if find_spec("onnx") and find_spec(name)]


def test_every_way_sees_the_same(task: Path, run: Run) -> None:
    code, out, err = run(*DETECT)
    assert (code, err) == (0, "")
    (plain,) = json.loads(out)
    ways = [("--precision", "bf16"), ("--precision", "int8"), *(("--engine", name) for name in engines())]
    for way in ways:
        code, out, err = run(*DETECT, *way)
        assert (code, err) == (0, ""), way
        (found,) = json.loads(out)
        for one, other in zip(found["objects"], plain["objects"], strict=True):
            assert one["name"] == other["name"]
            assert one["confidence"] == pytest.approx(other["confidence"], abs=0.01)
    assert run(*TEST, "--precision", "bf16").code == 0


@pytest.mark.parametrize("command", [("detector", "map", *JUDGED), ("evaluate", "net.cfg", "judged.data", *JUDGED[2:])])
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_what_a_precision_costs_is_reported_as_points_of_map(
    command: tuple[str, ...], precision: str, judged: Path, run: Run
) -> None:
    code, _, err = run(*command, "--precision", precision)
    assert code == 0
    assert re.search(rf"mAP 50\.00% in {precision}, 50\.00% in fp32: \+0\.00 points", err), err
    assert "points" not in run(*command).err


def test_recall_and_valid_take_them_too(judged: Path, run: Run) -> None:
    for command in ("recall", "valid"):
        assert run("detector", command, *JUDGED, "--precision", "bf16").code == 0


def test_int8_looks_at_the_images_that_calibrate_names(task: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    true = int8.quantize_network

    def watched(plan: object, layers: object, images: list[object]) -> object:
        seen.append(len(images))
        return true(plan, layers, images)  # type: ignore[arg-type]

    monkeypatch.setattr(accelerate, "quantize_network", watched)
    (task / "shown").mkdir()
    for number in range(40):
        write_image(task / f"shown/{number}.png", 20, 30)
    (task / "shown/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code = run(*DETECT, "--precision", "int8", "--calibrate", "shown").code
    assert code == 0 and len(seen) == 1 and 20 <= seen[0] <= 32
    assert run(*DETECT, "--precision", "int8").code == 0
    assert seen[1] == 1


def test_images_from_standard_input_cannot_be_looked_at_beforehand(task: Path, run: Run) -> None:
    words = [word for word in DETECT if word not in ("a.png", "--json")]
    code, _, err = run(*words, "--precision", "int8", stdin="a.png\n")
    assert code == 2 and "int8 needs images" in err and "--calibrate" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "onnxruntime", "--precision", "bf16"), "onnxruntime supports fp32, not bf16"),
        (("--precision", "fp16"), "fp16"),
        (("--compile", "--precision", "int8"), "--compile needs --engine torch and fp32 or bf16"),
    ],
)
def test_ways_that_cannot_be_gone_are_mistakes(words: tuple[str, ...], message: str, task: Path, run: Run) -> None:
    code, _, err = run(*DETECT, *words)
    assert code == 2 and message in err and "Traceback" not in err
