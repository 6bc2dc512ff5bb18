"""Interface of a trainer's monitor: it sees every step and may refuse it before it changes the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from darkpy.layers.loss import Loss
    from darkpy.training.reports import StepReport, UpdateReport
    from darkpy.training.trainer import Trainer


class StepGuard:
    """Accepts everything and observes nothing; subclasses refuse what would harm the weights.

    The trainer undoes a refused step completely. An accepted step is exactly the step without a guard. All ranks must
    return the same answer.
    """

    needs_snapshots = False
    """True if it may refuse steps: the trainer then keeps a snapshot to go back to."""
    update: UpdateReport | None = None
    """The last update as this guard measured it."""

    def attach(self, trainer: Trainer) -> None:
        """Called once, by the trainer that it guards."""
        self.trainer = trainer

    def state(self) -> Mapping[str, Sequence[float]]:
        """Finite numbers that its decisions depend on, by name, for the resume file."""
        return {}

    def load_state(self, state: Mapping[str, Sequence[float]]) -> None:
        """Continue from the state in a resume file."""

    def begin(self, x_BCHW: Tensor, truth: Tensor, paths: Sequence[Sequence[str]]) -> None:
        """Called before the forward pass of a minibatch."""

    def accept_losses(self, losses: Sequence[Loss]) -> bool:
        """True if the backward pass of the minibatch may start."""
        return True

    def accept_update(self, norm: Tensor) -> bool:
        """True if the update may be made. The gradients are averaged, and not clipped yet."""
        return True

    def end(self, report: StepReport) -> None:
        """Called after the step, when a refused one is undone. Raises: DarkpyError to end the run."""
