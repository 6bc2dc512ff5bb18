"""A short training of a cfg on gray images, and its outcome."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

import darkpy
from darkpy.diagnostics.monitor.monitor import Monitor
from darkpy.finding import Finding
from darkpy.network import Network
from darkpy.training.trainer import Trainer
from tools.articles.images import CLASS_COUNT, GrayImages, scaled

LOSS_MEAN_UPDATES = 20
"""Updates at the end whose mean loss is reported."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a training.

    nonfinite_update: the first update with a non-finite loss or gradient, None without any.
    first_loss, loss: the loss of the first update, and the mean over the last ones.
    norm: the largest norm of all gradients of an update. accuracy: on the test images.
    """

    updates: int
    nonfinite_update: int | None
    first_loss: float
    loss: float
    norm: float
    accuracy: float

    @property
    def verdict(self) -> str:
        if self.nonfinite_update is not None:
            return f"NaN or infinity at update {self.nonfinite_update}"
        if self.loss < 0.8 * self.first_loss:
            return "learns"
        return "learns slowly" if self.accuracy > 2 / CLASS_COUNT else "stalls"


def learn(cfg: str, images: GrayImages, *, updates: int, seed: int = 0, truth: float = 1.0) -> tuple[Network, Outcome]:
    """Train for a number of updates, or until one is non-finite.

    truth: target value of the true class.
    """
    torch.manual_seed(seed)
    trainer = Trainer(darkpy.load(cfg, dialect="pjreddie"), seed=seed)
    net, generator = trainer.net, torch.Generator().manual_seed(seed)
    losses: list[float] = []
    norms: list[float] = []
    nonfinite_update = None
    while len(losses) < updates and nonfinite_update is None:
        x_B1HW, truth_BK = images.minibatch(net.minibatch, net.width, generator)
        step = trainer.train_minibatch(x_B1HW, truth * truth_BK)
        losses.append(step.cost / net.minibatch)
        norms.append(math.nan if step.norm is None else float(step.norm))
        if not (math.isfinite(losses[-1]) and math.isfinite(norms[-1])):
            nonfinite_update = len(losses)
    network = trainer.network.eval()
    last_losses = losses[-LOSS_MEAN_UPDATES:]
    finite = [norm for norm in norms if math.isfinite(norm)]
    outcome = Outcome(
        len(losses),
        nonfinite_update,
        losses[0],
        sum(last_losses) / len(last_losses),
        max(finite, default=math.inf),
        _accuracy(network, images),
    )
    return network, outcome


def find_symptoms(cfg: str, images: GrayImages, *, updates: int, seed: int = 0) -> list[Finding]:
    """Return the live monitor's findings in the same training, up to the first refused update."""
    torch.manual_seed(seed)
    monitor = Monitor()
    trainer = Trainer(darkpy.load(cfg, dialect="pjreddie"), seed=seed, monitor=monitor)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        net = trainer.net
        if trainer.train_minibatch(*images.minibatch(net.minibatch, net.width, generator)).refused:
            break
    return monitor.findings


@torch.no_grad()
def _accuracy(network: Network, images: GrayImages) -> float:
    (score_BK11,) = network(scaled(images.test_x_B1HW, network.plan.net.width))
    return float((score_BK11.flatten(1).argmax(1) == images.test_y_B).float().mean())
