"""darknet's lines, to the letter; what is expected was printed by both C programs, with other numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.evaluation.average_precision import ClassPrecision, MeanAveragePrecision
from darkpy.layers.loss import Loss, TrainingState
from darkpy.training.darknet_log import DarknetLog, LogLine
from darkpy.training.reports import CheckpointReport, StepReport, UpdateReport, ValidationReport

YOLO = """[net]
batch=8
subdivisions=4
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


def log(dialect: str, **options: object) -> DarknetLog:
    return DarknetLog(darkpy.load(YOLO, dialect=dialect), **options)  # type: ignore[arg-type]


def out(lines: Iterable[LogLine], *, stderr: bool = False) -> str:
    return "".join(line.text + line.end for line in lines if line.stderr == stderr)


class TestFirstLines:
    def first(self, of: DarknetLog) -> str:
        return out(of.first_lines("net", save_every=1000, save_last_every=100))

    def test_pjreddies_name_the_run_and_its_rate(self) -> None:
        assert self.first(log("pjreddie")) == "net\nLearning Rate: 0.001, Momentum: 0.9, Decay: 0.0001\n"

    def test_alexeyabs_tell_the_batch_the_intervals_and_the_heads(self) -> None:
        expected = (
            "net\n"
            "mini_batch = 2, batch = 8, time_steps = 1, train = 1 \n"
            "Weights are saved after: 1000 iterations. Last weights (*_last.weight) are stored every 100 iterations. \n"
            "Learning Rate: 0.001, Momentum: 0.9, Decay: 0.0001\n"
            " Detection layer: 1 - type = 28 \n"
        )
        assert self.first(log("alexeyab")) == expected
        map_lines = (
            " Prepare additional network for mAP calculation...\n"
            "mini_batch = 1, batch = 4, time_steps = 1, train = 0 \n"
        )
        assert self.first(log("alexeyab", map_interval=100)) == map_lines + expected

    def test_small_batches_are_warned_of(self) -> None:
        network = darkpy.load(YOLO.replace("batch=8", "batch=4"), dialect="alexeyab")
        warning = "\n\n Warning: You set batch=4 lower than 64! It is recommended to set batch=64 subdivision=64 \n"
        assert warning in self.first(DarknetLog(network))

    @pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
    def test_classifiers_count_gpus_and_images(self, dialect: str) -> None:
        rate = "Learning Rate: 0.001, Momentum: 0.9, Decay: 0.0001"
        assert self.first(log(dialect, images=77)) == f"net\n1\n{rate}\n77\n"


def test_update_lines_are_those_of_the_programs() -> None:
    assert out(log("pjreddie").update_lines(report())) == (
        "120: 1.500000, 2.250000 avg, 0.001000 rate, 35.500000 seconds, 240 images\n"
    )
    assert out(log("alexeyab").update_lines(report())) == (
        "\033[H\033[J120/500: loss=1.5 hours left=-1.0\a\n"
        " 120: 1.500000, 2.250000 avg loss, 0.001000 rate, 35.500000 seconds, 240 images, -1.000000 hours left\n"
    )
    assert out(log("pjreddie", images=100).update_lines(report())) == (
        "120, 2.400: 1.500000, 2.250000 avg, 0.001000 rate, 35.500000 seconds, 240 images\n"
    )
    assert out(log("alexeyab", images=100).update_lines(report())) == (
        "120, 2.400: 1.500000, 2.250000 avg, 0.001000 rate, 35.500000 seconds, 240 images, 3.800000 hours left\n"
    )


def test_hours_left_are_those_of_the_updates_before_and_follow_slowly() -> None:
    lines = log("alexeyab")
    assert out(lines.update_lines(report())).endswith(" -1.000000 hours left\n")
    assert out(lines.update_lines(report(batch_num=121, seconds=360.0))).endswith(" 3.800000 hours left\n")
    hours = 0.99 * 3.8 + 0.01 * (500 - 121) * 360 / 3600
    assert out(lines.update_lines(report(batch_num=122))).endswith(f" {hours:f} hours left\n")


def test_loading_is_reported_and_alexeyabs_calls_it_a_bottleneck_after_the_first_update() -> None:
    note = " - performance bottleneck on CPU or Disk HDD/SSD"
    for lines, expected in ((log("pjreddie"), ""), (log("alexeyab"), note), (log("alexeyab", images=9), "")):
        assert out(lines.loading_lines(report())) == "Loaded: 0.500000 seconds\n"
        assert out(lines.loading_lines(report())) == f"Loaded: 0.500000 seconds{expected}\n"
        assert out(lines.loading_lines(report(waited=0.05))) == "Loaded: 0.050000 seconds\n"


def test_random_sizes_are_reported_every_tenth_update_from_the_first_on() -> None:
    for dialect, random, size in (
        ("pjreddie", 1, "Resizing\n416\n"),
        ("alexeyab", 1, "Resizing, random_coef = 1.40 \n\n 416 x 416 \n"),
        ("alexeyab", 1.2, "Resizing, random_coef = 1.20 \n\n 416 x 416 \n"),
        ("alexeyab", 0, ""),
    ):
        lines = log(dialect, random=random)
        told = [out(lines.loading_lines(report(batch_num=n))).split("Loaded")[0] for n in range(1, 22)]
        assert told == [size if n in (1, 11, 21) else "" for n in range(1, 22)]


class TestValidation:
    def validation(self, mean: float, *, is_best: bool = True) -> ValidationReport:
        row = ClassPrecision(average_precision=mean, truths=5, tp=3, fp=1)
        result = MeanAveragePrecision(
            classes=(row, row), detections=8, iou_sum=6.0, iou_thresh=0.5, thresh=0.25, points=0
        )
        return ValidationReport(batch_num=100, mean=mean, iou_thresh=0.5, is_best=is_best, result=result)

    def test_table_is_that_of_alexeyabs_program(self) -> None:
        lines = log("alexeyab", map_interval=100, map_names=("cat", "dog"), random=1)
        assert out(lines.validation_lines(self.validation(0.5))) == (
            "Resizing to initial size: 32 x 32 \n"
            " calculation mAP (mean average precision)...\n"
            " Detection layer: 1 - type = 28 \n"
            "\n"
            " detections_count = 8, unique_truth_count = 10  \n"
            "class_id = 0, name = cat, ap = 50.00%   \t (TP = 3, FP = 1) \n"
            "class_id = 1, name = dog, ap = 50.00%   \t (TP = 3, FP = 1) \n"
            "\n"
            " for conf_thresh = 0.25, precision = 0.75, recall = 0.60, F1-score = 0.67 \n"
            " for conf_thresh = 0.25, TP = 6, FP = 2, FN = 4, average IoU = 75.00 % \n"
            "\n"
            " IoU threshold = 50 %, used Area-Under-Curve for each unique Recall \n"
            " mean average precision (mAP@0.50) = 0.500000, or 50.00 % \n"
            "\n"
            "Set -points flag:\n"
            " `-points 101` for MS COCO \n"
            " `-points 11` for PascalVOC 2007 (uncomment `difficult` in voc.data) \n"
            " `-points 0` (AUC) for ImageNet, PascalVOC 2010-2012, your custom dataset\n"
            "\n"
            " mean_average_precision (mAP@0.50) = 0.500000 \n"
            "New best mAP!\n"
        )

    def test_next_and_last_precision_are_told_with_each_update(self) -> None:
        lines = log("alexeyab", map_interval=100, map_names=("cat", "dog"))
        first = "\n (next mAP calculation at 100 iterations) \033[H\033[J100/500: loss=1.5 hours left=-1.0\a\n 100: "
        assert out(lines.update_lines(report(batch_num=100))).startswith(first)
        list(lines.validation_lines(self.validation(0.5)))
        list(lines.validation_lines(self.validation(0.25, is_best=False)))
        assert out(lines.update_lines(report(batch_num=101))).startswith(
            "\n (next mAP calculation at 200 iterations) "
            "\n Last accuracy mAP@0.50 = 25.00 %, best = 50.00 % "
            "\033[H\033[J101/500: loss=1.5 map=0.25 best=0.50 hours left=4.0\a\n 101: "
        )

    def test_no_validation_comes_before_the_burn_in_ends(self) -> None:
        network = darkpy.load(YOLO.replace("max_batches=500", "max_batches=500\nburn_in=300"), dialect="alexeyab")
        line = out(DarknetLog(network, map_interval=100).update_lines(report(batch_num=7)))
        assert line.startswith("\n (next mAP calculation at 300 iterations) ")

    def test_pjreddies_log_has_the_last_lines_only(self) -> None:
        assert out(log("pjreddie").validation_lines(self.validation(0.5))) == (
            " mean_average_precision (mAP@0.50) = 0.500000 \nNew best mAP!\n"
        )


def test_weights_written_are_reported_on_stderr() -> None:
    paths = (Path("backup/net_500.weights"), Path("backup/net_last.weights"))
    last = CheckpointReport(batch_num=500, paths=paths, is_last=True)
    lines = [f"Saving weights to {path}\n" for path in paths]
    assert out(log("alexeyab").checkpoint_lines(last), stderr=True) == "".join(lines)
    assert out(log("alexeyab").checkpoint_lines(last)) == (
        "If you want to train from the beginning, then use flag in the end of training command: -clear \n"
    )
    assert out(log("alexeyab").checkpoint_lines(replace(last, is_last=False))) == ""
    assert out(log("pjreddie").checkpoint_lines(last), stderr=True) == "".join(reversed(lines))
    assert out(log("pjreddie").checkpoint_lines(last)) == ""


@pytest.fixture
def losses() -> tuple[Loss, ...]:
    """Losses of a [yolo] for two images without an object."""
    network = darkpy.load(YOLO, dialect="pjreddie").train()
    truth = torch.zeros(2, 90, 5)
    return tuple(network.losses(torch.rand(2, 3, 32, 32), truth, TrainingState(network.plan.net, 2))[1])


def test_head_without_objects_prints_nan(losses: tuple[Loss, ...]) -> None:
    step = StepReport(0.001, 2, True, losses)
    line = out(log("pjreddie").layer_lines(report(steps=(step,))))
    assert line.startswith("Region 1 Avg IOU: -nan, Class: -nan, Obj: -nan, No Obj: 0.")
    assert line.endswith(", .5R: -nan, .75R: -nan,  count: 0\n")


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        # AlexeyAB's scripts/log_parser/log_parser.py
        (r"([\d].*): .*?, (.*?) avg", ("120", "2.250000")),
        # plotters that split the line at commas
        (r"(\d+): ([\d.]+), ([\d.]+) avg(?: loss)?, ([\d.]+) rate, ([\d.]+) seconds, (\d+) images", None),
    ],
)
def test_published_parsers_read_the_update(dialect: str, pattern: str, numbers: tuple[str, ...] | None) -> None:
    lines = log(dialect)
    text = out([*lines.loading_lines(report()), *lines.update_lines(report())])
    assert re.findall(pattern, text) == [numbers or ("120", "1.500000", "2.250000", "0.001000", "35.500000", "240")]
