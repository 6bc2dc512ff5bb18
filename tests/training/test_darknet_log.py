"""darknet's lines, to the letter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import darkpy
from darkpy.layers.loss import Loss
from darkpy.training.darknet_log import DarknetLog
from darkpy.training.reports import StepReport, UpdateReport

YOLO = """[net]
batch=2
width=32
height=32
channels=3
learning_rate=.001
max_batches=500

[convolutional]
filters=7
size=1
stride=32
activation=linear

[yolo]
mask=0
anchors=8,8
classes=2
num=1
"""


def report(**changes: object) -> UpdateReport:
    made = UpdateReport(
        batch_num=120,
        loss=1.5,
        average=2.25,
        rate=0.001,
        seen=240,
        images=2,
        seconds=36.0,
        waited=0.5,
        size=(416, 416),
        steps=(),
        batches=(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def log(dialect: str, images: int | None = None) -> DarknetLog:
    return DarknetLog(darkpy.load(YOLO, dialect=dialect), images)


def test_update_lines_are_those_of_the_forks_programs() -> None:
    assert log("pjreddie").update_line(report()) == (
        "120: 1.500000, 2.250000 avg, 0.001000 rate, 35.500000 seconds, 240 images"
    )
    assert log("alexeyab").update_line(report()) == (
        " 120: 1.500000, 2.250000 avg loss, 0.001000 rate, 35.500000 seconds, 240 images, 3.800000 hours left"
    )
    assert log("pjreddie", 100).update_line(report()) == (
        "120, 2.400: 1.500000, 2.250000 avg, 0.001000 rate, 35.500000 seconds, 240 images"
    )
    assert log("alexeyab", 100).update_line(report()) == (
        "120, 2.400: 1.500000, 2.250000 avg, 0.001000 rate, 35.500000 seconds, 240 images, 3.800000 hours left"
    )


def test_hours_left_follow_slowly() -> None:
    one = log("alexeyab")
    one.update_line(report())
    line = one.update_line(report(batch_num=121, seconds=360.0))
    hours = 0.99 * 3.8 + 0.01 * (500 - 121) * 360 / 3600
    assert line.endswith(f"{hours:f} hours left")


def test_loading_is_told_and_alexeyabs_calls_it_a_bottleneck() -> None:
    assert log("pjreddie").loading_lines(report()) == ["Loaded: 0.500000 seconds"]
    assert log("alexeyab").loading_lines(report()) == [
        "Loaded: 0.500000 seconds - performance bottleneck on CPU or Disk HDD/SSD"
    ]
    assert log("alexeyab").loading_lines(report(waited=0.05)) == ["Loaded: 0.050000 seconds"]


def test_new_sizes_are_told() -> None:
    one, other = log("pjreddie"), log("alexeyab")
    for lines in (one, other):
        lines.loading_lines(report())
    assert one.loading_lines(report(size=(320, 320)))[:2] == ["Resizing", "320"]
    assert other.loading_lines(report(size=(320, 352)))[0] == "Resizing, 320 x 352"


@pytest.fixture
def losses() -> tuple[Loss, ...]:
    """What a [yolo] says of two images without an object."""
    network = darkpy.load(YOLO, dialect="pjreddie").train()
    truth = torch.zeros(2, 90, 5)
    from darkpy.layers.loss import TrainingState

    return tuple(network.losses(torch.rand(2, 3, 32, 32), truth, TrainingState(network.plan.net, 2))[1])


def test_head_without_objects_prints_dashes(losses: tuple[Loss, ...]) -> None:
    one = DarknetLog(darkpy.load(YOLO, dialect="pjreddie"), None)
    step = StepReport(0.001, 2, True, losses)
    (line,) = one.layer_lines(report(steps=(step,)))
    assert line.startswith("Region 1 Avg IOU: -, Class: -, Obj: -, No Obj: 0.")
    assert line.endswith(", .5R: -, .75R: -,  count: 0")


def test_first_lines_name_the_run() -> None:
    assert log("pjreddie").first_lines("yolo") == ["yolo", "Learning Rate: 0.001, Momentum: 0.9, Decay: 0.0001"]
