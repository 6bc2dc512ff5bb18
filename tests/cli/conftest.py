"""A tiny network with a known result: one box in the middle with two classes, whatever the image."""

from __future__ import annotations

import io
import math
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from darkpy.__main__ import main

CFG = """[net]
width=32
height=32
channels=3

[maxpool]
size=32
stride=32

[convolutional]
filters=7
size=1
stride=1
activation=linear

[yolo]
mask=0
anchors=16,8
classes=2
num=1
"""
LOGITS = (0.0, 0.0, 0.0, 0.0, 5.0, 3.0, 1.0)
"""Of x, y, w, h, objectness and two classes: half the input wide, a quarter high, 94.6 % cat and 72.6 % dog."""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with net.cfg, net.weights, pets.data, pets.names and a square image, a.png."""
    monkeypatch.chdir(tmp_path)
    Path("net.cfg").write_text(CFG)
    write_weights(LOGITS)
    Path("pets.names").write_text("cat\ndog\n")
    Path("pets.data").write_text("classes = 2\nnames = pets.names\n")
    write_image(Path("a.png"), 64, 64)
    return tmp_path


def write_weights(logits: Sequence[float], channels: int = 3) -> None:
    """net.weights for net.cfg, with biases alone."""
    numbers = (*logits, *(0.0,) * len(logits) * channels)
    Path("net.weights").write_bytes(struct.pack(f"<3iQ{len(numbers)}f", 0, 2, 0, 0, *numbers))


def set_scores(cat: float, dog: float) -> None:
    """net.weights with these scores of the two classes."""
    write_weights((0, 0, 0, 0, 20, math.log(cat / (1 - cat)), math.log(dog / (1 - dog))))


def write_image(path: Path, w: int, h: int) -> None:
    Image.fromarray(np.full((h, w, 3), 128, np.uint8)).save(path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in this process."""

    def run(*words: str, stdin: str = "") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = main(words)
        return Outcome(code, *capsys.readouterr())

    return run
