"""Trainings that several processes can share, and a program that runs them all as one of these: `python -m ... FILE`.

At the end one process starts from other weights, and then one dies.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import astuple
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import darkpy
from darkpy.data.loading.bad_files import BadLists, Problem
from darkpy.data.loading.datasets import TrainingSample
from darkpy.diagnostics.monitor.monitor import Monitor
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup, RankLostError, joined
from darkpy.errors import DarkpyError
from darkpy.training.loop import BatchSource, run_updates
from darkpy.training.trainer import Trainer

NET = """[net]
constrain=1
batch=16
subdivisions=2
width=16
height=16
channels=3
learning_rate=0.02
momentum=0.9
decay=0.0005
max_batches=8
"""
CONVOLUTION = """
[convolutional]
filters=8
size=3
stride=2
pad=1
activation=leaky
"""
PUT_OFF = CONVOLUTION.replace("activation", "dont_update=3\nactivation")
NORMALIZED = CONVOLUTION.replace("filters", "batch_normalize=1\nfilters")
CLASSES = """
[convolutional]
filters=3
size=1
activation=linear

[avgpool]

[softmax]
"""
YOLO = """
[convolutional]
filters=16
size=1
activation=linear

[yolo]
mask=0,1
anchors=4,4, 10,10
classes=3
num=2
ignore_thresh=.2
iou_loss=giou
show_details=1
"""
CASES = {
    "plain": NET + "grad_clip_norm=.05\n" + PUT_OFF + CONVOLUTION + CLASSES,
    "normalized": NET + NORMALIZED + NORMALIZED + CLASSES,
    "yolo": NET.replace("=8", "=12") + "num_sigmas_reject_badlabels=2\n" + NORMALIZED + CONVOLUTION + YOLO,
    "adam": NET + "adam=1\n" + NORMALIZED + CLASSES,
    "watched": NET + NORMALIZED + CLASSES,
}


Arrays = dict[str, npt.NDArray[np.generic]]
DIED = 7


class Images:
    """What is in an image follows from its number; for [yolo] 0 to 4 boxes. spoilt: those that are NaN."""

    def __init__(self, *, has_boxes: bool, spoilt: frozenset[int] = frozenset()) -> None:
        self.has_boxes, self.spoilt = has_boxes, spoilt

    def make(self, slot: int, w: int, h: int) -> TrainingSample:
        numbers = torch.Generator().manual_seed(slot)
        x_CHW = torch.rand(3, h, w, generator=numbers) * 0.5
        x_CHW[slot % 3] += math.nan if slot in self.spoilt else 0.3
        truth = torch.eye(3)[slot % 3]
        if self.has_boxes:
            truth = torch.zeros(6, 5)
            boxes = slot % 5
            truth[:boxes, :2] = torch.rand(boxes, 2, generator=numbers) * 0.8 + 0.1
            truth[:boxes, 2:4] = torch.rand(boxes, 2, generator=numbers) * 0.5 + 0.1
            truth[:boxes, 4] = float(slot % 3)
        problems = (Problem(False, f"{slot}.png", "odd"),) if slot % 20 == 19 else ()
        return TrainingSample(x_CHW, truth, (f"{slot}.png",), problems)


def run(case: str, process_group: ProcessGroup = SINGLE_PROCESS) -> Arrays:
    """All arrays after the training, its reports, and the number of recorded problems."""
    torch.manual_seed(5 + process_group.rank * (case == "different"))
    network = darkpy.load(CASES.get(case, CASES["plain"]), dialect="alexeyab")
    spoilt = frozenset({0, 37, 38, 47} if case == "watched" else ())
    monitor = Monitor() if spoilt else None
    trainer = Trainer(network, monitor=monitor, process_group=process_group)
    bad = BadLists(None)
    source = BatchSource(dataset=Images(has_boxes=case == "yolo", spoilt=spoilt), size=lambda _: (16, 16), bad=bad)
    losses, told = [], []
    for report in run_updates(trainer, source):
        losses.append(report.loss)
        told += [problem.entry for batch in report.batches for problem in batch.problems]
        if case == "dying" and report.batch_num == 3 and not process_group.is_main:
            os._exit(DIED)
    arrays = {name: array.numpy() for name, array in trainer.network.state_dict().items()}
    said = {name: float(value) for name, value in report.steps[-1].losses[0].report.items()}
    return {
        **arrays,
        "loss": np.array(losses),
        "norm": np.array(float(report.steps[-1].norm or 0)),
        "report": np.array([0.0, *said.values()]),
        "told": np.array(sorted(told)),
        "filter": np.array(astuple(trainer.delta_filter)),
        "skipped": np.array(trainer.skipped_images),
        "found": np.array(sorted({path for finding in monitor.findings for path in finding.paths} if monitor else ())),
        "written": np.array(sum(bad.files.values())),
    }


def main(file: str) -> None:
    torch.set_num_threads(1)
    with joined(torch.device("cpu"), timedelta(seconds=30)) as process_group:
        arrays: dict[str, Any] = {
            f"{case} {name}": array for case in CASES for name, array in run(case, process_group).items()
        }
        try:
            run("different", process_group)
        except DarkpyError as error:
            arrays["error"] = np.array(error.message)
        np.savez(f"{file}.{process_group.rank}.npz", **arrays)
        try:
            run("dying", process_group)
        except RankLostError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)  # as darkpy ends: gloo's threads do not always survive that Python takes itself to pieces


if __name__ == "__main__":
    main(sys.argv[1])
