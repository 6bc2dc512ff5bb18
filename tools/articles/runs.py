"""A short training of a cfg on gray images, and what became of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

import darkpy
from darkpy.diagnostics.monitor.monitor import Monitor
from darkpy.finding import Finding
from darkpy.network import Network
from darkpy.training.trainer import Trainer
from tools.articles.images import CLASSES, Images, scaled

LAST = 20
"""Updates whose mean loss is told."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """bad: the first update whose loss or gradients are no numbers, None where there is none.

    first, loss: that of the first update, and the mean over the last ones. norm: the largest of all gradients together,
    in any update. accuracy: of the test images.
    """

    updates: int
    bad: int | None
    first: float
    loss: float
    norm: float
    accuracy: float

    @property
    def verdict(self) -> str:
        if self.bad is not None:
            return f"NaN or infinity at update {self.bad}"
        if self.loss < 0.8 * self.first:
            return "learns"
        return "learns slowly" if self.accuracy > 2 / CLASSES else "stands still"


def learn(cfg: str, images: Images, *, updates: int, seed: int = 0, truth: float = 1.0) -> tuple[Network, Outcome]:
    """Train for so many updates, or until one of them cannot be made; the network is then as it was left.

    truth: what the true class's number is to be.
    """
    torch.manual_seed(seed)
    trainer = Trainer(darkpy.load(cfg, dialect="pjreddie"), seed=seed)
    net, generator = trainer.net, torch.Generator().manual_seed(seed)
    losses: list[float] = []
    norms: list[float] = []
    bad = None
    while len(losses) < updates and bad is None:
        x_B1HW, truth_BK = images.minibatch(net.minibatch, net.width, generator)
        step = trainer.train_minibatch(x_B1HW, truth * truth_BK)
        losses.append(step.cost / net.minibatch)
        norms.append(math.nan if step.norm is None else float(step.norm))
        if not (math.isfinite(losses[-1]) and math.isfinite(norms[-1])):
            bad = len(losses)
    network = trainer.network.eval()
    last = losses[-LAST:]
    finite = [norm for norm in norms if math.isfinite(norm)]
    outcome = Outcome(
        len(losses), bad, losses[0], sum(last) / len(last), max(finite, default=math.inf), _accuracy(network, images)
    )
    return network, outcome


def watched(cfg: str, images: Images, *, updates: int, seed: int = 0) -> list[Finding]:
    """What the live watch says of the same training, up to the first update that it refuses."""
    torch.manual_seed(seed)
    trainer = Trainer(darkpy.load(cfg, dialect="pjreddie"), seed=seed)
    watch = Monitor(trainer)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        net = trainer.net
        if trainer.train_minibatch(*images.minibatch(net.minibatch, net.width, generator)).refused:
            break
    return watch.findings


@torch.no_grad()
def _accuracy(network: Network, images: Images) -> float:
    (found_BK11,) = network(scaled(images.test_x_B1HW, network.plan.net.width))
    return float((found_BK11.flatten(1).argmax(1) == images.test_y_B).float().mean())
