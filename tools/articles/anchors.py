"""Anchors of another size than the boxes: what the doctor says before a training, and the watch after some updates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

import darkpy
from darkpy.data.lists.data_file import read_data
from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset
from darkpy.diagnostics.doctor import examine
from darkpy.diagnostics.monitor.monitor import Monitor
from darkpy.training.loop import train
from darkpy.training.setup import open_setup
from darkpy.training.trainer import Trainer

IMAGES = 60
FACTORS = (1, 3)


@dataclass(frozen=True, slots=True)
class Told:
    """What each said of the anchors; empty for nothing."""

    doctor: str
    watch: str


def draw(folder: Path) -> None:
    """The images of `darkpy sample`, with their cfg and .data file."""
    for _ in write_synthetic_dataset(SyntheticConfig(images=IMAGES, valid=1, size=160, seed=0), folder):
        pass


def multiply_anchors(cfg: str, factor: float) -> str:
    """The cfg with all anchors so many times as large in both directions."""

    def grown(match: re.Match[str]) -> str:
        numbers = (float(number) * factor for number in match.group(1).split(","))
        return "anchors=" + ",".join(f"{number:g}" for number in numbers)

    return re.sub(r"anchors=([\d., ]+\d)", grown, cfg)


def look(folder: Path, factor: float, *, updates: int) -> Told:
    """Both verdicts on the sample in that folder with such anchors."""
    cfg = folder / f"anchors_x{factor:g}.cfg"
    cfg.write_text(multiply_anchors((folder / "sample.cfg").read_text(), factor))
    data = read_data(folder / "sample.data")
    exam = examine(cfg, data)
    for _ in exam.survey():
        pass
    doctor = [f"{one.place}: {one.message}" for one in exam.findings if one.name == "anchors"]
    torch.manual_seed(0)
    trainer = Trainer(darkpy.load(cfg))
    watch = Monitor(trainer)
    source = open_setup(trainer.network.plan, data, seed=0).source
    for _ in islice(train(trainer, source), updates):
        pass
    watched = [finding.text for finding in watch.findings if finding.name == "AnchorMismatch"]
    return Told("; ".join(doctor), "; ".join(watched))
