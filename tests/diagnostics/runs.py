"""Small networks and endless images for them, watched while they are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

import darkpy
from darkpy.diagnostics.monitor.monitor import Monitor
from darkpy.errors import DarkpyError
from darkpy.finding import Finding
from darkpy.training.trainer import Trainer

Minibatch = tuple[torch.Tensor, torch.Tensor]
Change = Callable[[int, Minibatch], Minibatch]
"""What becomes of the minibatch before update n + 1."""

NET = """[net]
batch={batch}
subdivisions={subdivisions}
width={side}
height={side}
channels=3
learning_rate={rate}
momentum=0.9
decay=0.0005
max_batches=2000
{more}
"""
CONVOLUTION = """
[convolutional]
batch_normalize={norm}
filters={filters}
size={size}
stride={stride}
pad=1
activation={activation}
"""
CLASSES = """
[convolutional]
filters=4
size=1
activation=linear

[avgpool]

[softmax]
"""
BOXES = """
[convolutional]
filters=21
size=1
activation=linear

[yolo]
mask=0,1,2
anchors=5,5, 8,8, 12,12
num=3
classes=2
max=10
"""


def net(**keys: Any) -> str:
    usual = {"batch": 8, "subdivisions": 1, "side": 16, "rate": 0.01, "more": ""}
    return NET.format(**(usual | keys))


def convolution(**keys: Any) -> str:
    usual = {"norm": 1, "filters": 8, "size": 3, "stride": 1, "activation": "leaky"}
    return CONVOLUTION.format(**(usual | keys))


def classifier(layers: int = 3, *, head: str = CLASSES, section: str = "", **keys: Any) -> str:
    """Identical layers, of which the first two have a stride; `section` goes into each, `more` into [net]."""
    names = {"norm", "filters", "activation", "size"}
    of_layers = {name: keys.pop(name) for name in list(keys) if name in names}
    middle = "".join(convolution(stride=2 if n < 2 else 1, **of_layers) + section for n in range(layers))
    return net(**keys) + middle + head


def detector(layers: int = 3, **keys: Any) -> str:
    return classifier(layers, head=BOXES, **keys)


_plan = cache(darkpy.plan)


def images(text: str, n: int) -> Minibatch:
    """The minibatch before update n + 1: a bright patch on noise, whose color and place are to be learned."""
    plan = _plan(text)
    side, count = plan.net.width, plan.net.minibatch
    numbers = torch.Generator().manual_seed(n)
    x_BCHW = torch.rand(count, 3, side, side, generator=numbers) * 0.5
    kinds = torch.randint(0, 4, (count,), generator=numbers)
    sizes = torch.randint(4, 11, (count,), generator=numbers)
    truth_BT = torch.zeros(count, 10, 6 if plan.dialect is darkpy.Dialect.ALEXEYAB else 5)
    for image in range(count):
        size, kind = int(sizes[image]), int(kinds[image])
        left, top = (int(one) for one in torch.randint(0, side - size, (2,), generator=numbers))
        x_BCHW[image, kind % 3, top : top + size, left : left + size] += 0.5 if kind < 3 else -0.2
        box = ((left + size / 2) / side, (top + size / 2) / side, size / side, size / side, kind % 2)
        truth_BT[image, 0, :5] = torch.tensor(box)
    return x_BCHW.clamp(0, 1), truth_BT if "[yolo]" in text else torch.eye(4)[kinds]


@dataclass
class Run:
    """A watched run; `error` is what ended it."""

    text: str
    folder: Path | None = None
    seed: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    error: DarkpyError | None = None

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.monitor = Monitor(self.folder, **self.options)
        self.trainer = Trainer(darkpy.load(self.text), seed=self.seed, monitor=self.monitor)

    def __call__(self, updates: int, change: Change | None = None) -> Run:
        for n in range(updates * self.trainer.net.subdivisions):
            minibatch = images(self.text, 1000 * self.seed + n)
            if change is not None:
                minibatch = change(n, minibatch)
            paths = [(f"{n}_{image}.png",) for image in range(len(minibatch[0]))]
            try:
                self.trainer.train_minibatch(*minibatch, paths)
            except DarkpyError as error:
                self.error = error
                break
        return self

    def array(self, name: str) -> torch.Tensor:
        array: torch.Tensor = self.trainer.network.state_dict()[name]
        return array

    @property
    def findings(self) -> list[Finding]:
        return self.monitor.findings

    @property
    def names(self) -> list[str]:
        return [finding.name for finding in self.findings]

    def found(self, name: str) -> Finding:
        return next(finding for finding in self.findings if finding.name == name)
