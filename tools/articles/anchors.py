"""Anchors of another size than the boxes, as found by the doctor before a training and by the monitor in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

import darkpy
from darkpy.data.lists.text_files import read_data
from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset
from darkpy.diagnostics.doctor import examine
from darkpy.diagnostics.monitor.monitor import Monitor
from darkpy.training.loop import run_updates
from darkpy.training.setup import open_setup
from darkpy.training.trainer import Trainer

SYNTHETIC_IMAGES = 60
ANCHOR_FACTORS = (1, 3)


@dataclass(frozen=True, slots=True)
class AnchorFindings:
    """Messages on the anchors; empty for none."""

    doctor: str
    monitor: str


def write_images(folder: Path) -> None:
    """Write the images of `darkpy sample`, with their cfg and .data file."""
    for _ in write_synthetic_dataset(SyntheticConfig(images=SYNTHETIC_IMAGES, valid=1, size=160, seed=0), folder):
        pass


def multiply_anchors(cfg: str, factor: float) -> str:
    """Scale the width and height of all anchors of a cfg."""

    def scaled_anchors(match: re.Match[str]) -> str:
        values = (float(value) * factor for value in match.group(1).split(","))
        return "anchors=" + ",".join(f"{value:g}" for value in values)

    return re.sub(r"anchors=([\d., ]+\d)", scaled_anchors, cfg)


def find_mismatch(folder: Path, factor: float, *, updates: int) -> AnchorFindings:
    """Run the doctor and a training on the images of a folder, with anchors scaled by a factor."""
    cfg = folder / f"anchors_x{factor:g}.cfg"
    cfg.write_text(multiply_anchors((folder / "sample.cfg").read_text(), factor))
    data = read_data(folder / "sample.data")
    exam = examine(cfg, data)
    for _ in exam.survey():
        pass
    doctor = [f"{finding.place}: {finding.message}" for finding in exam.findings if finding.name == "anchors"]
    torch.manual_seed(0)
    monitor = Monitor()
    trainer = Trainer(darkpy.load(cfg), monitor=monitor)
    source = open_setup(trainer.network.plan, data, seed=0).source
    for _ in islice(run_updates(trainer, source), updates):
        pass
    in_training = [finding.text for finding in monitor.findings if finding.name == "AnchorMismatch"]
    return AnchorFindings("; ".join(doctor), "; ".join(in_training))
