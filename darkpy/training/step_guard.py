"""Who looks on while a trainer works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from darkpy.layers.loss import Loss
    from darkpy.training.trainer import StepReport


class StepGuard:
    """Sees every step, and may refuse what would harm the weights; this one sees nothing and refuses nothing.

    What a guard refuses the trainer takes back, so that it is as if it had not been there. What it lets pass it
    changes in no number. Of several ranks all must answer the same.
    """

    needs_snapshots = False
    """Whether the trainer need remember what it would take back."""

    def memory(self) -> Mapping[str, Sequence[float]]:
        """What its answers depend on besides the step it is asked of: finite numbers by name, for a resumed run."""
        return {}

    def begin(self, x_BCHW: Tensor, truth: Tensor, paths: Sequence[Sequence[str]]) -> None:
        """A minibatch comes."""

    def accept_losses(self, losses: Sequence[Loss]) -> bool:
        """Whether the backward pass of the minibatch may begin."""
        return True

    def accept_update(self, norm: Tensor) -> bool:
        """Whether the update may be made: the gradients are those of it, not clipped yet."""
        return True

    def end(self, report: StepReport) -> None:
        """The step is over, what was refused is taken back. Raises: DarkpyError to end the run."""


NO_GUARD = StepGuard()
