"""What a minibatch changes in a trainer before the weights, so that it can be taken back as if never seen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from darkpy.network import Network
    from darkpy.training.trainer import Trainer


class Before:
    """A trainer as it is now, but for its weights, their averages and its optimizer, which only an update changes.

    That is `seen` and with it the schedule, batch norm's rolling statistics, random numbers, the figures of the
    DeltaFilter, and, where `has_gradients`, what is gathered so far.
    """

    def __init__(self, trainer: Trainer, *, has_gradients: bool) -> None:
        self._header, self._gathered = trainer.network.header, trainer.accumulated_images
        self._filter = replace(trainer.delta_filter)
        arrays: list[Tensor] = [getattr(owner, name) for owner, name in trainer.statistics]
        self._statistics = [(array, array.clone()) for array in arrays]
        self._random = torch.get_rng_state()
        self._device = torch.cuda.get_rng_state(trainer.device) if trainer.device.type == "cuda" else None
        self._policy = trainer.generator.get_state()
        self._gradients: list[Tensor | None] | None = None
        if has_gradients:
            gradients = (param.grad for param in trainer.optimizer.params)
            self._gradients = [None if gradient is None else gradient.clone() for gradient in gradients]

    @property
    def seen(self) -> int:
        return self._header.seen

    @torch.no_grad()
    def restore(self, trainer: Trainer) -> None:
        """Make it so again; it can be done more than once."""
        trainer.network.header, trainer.accumulated_images = self._header, self._gathered
        trainer.delta_filter = replace(self._filter)
        for array, kept in self._statistics:
            array.copy_(kept)
        torch.set_rng_state(self._random)
        if self._device is not None:
            torch.cuda.set_rng_state(self._device, trainer.device)
        trainer.generator.set_state(self._policy)
        if self._gradients is not None:
            for param, gradient in zip(trainer.optimizer.params, self._gradients, strict=True):
                param.grad = None if gradient is None else gradient.clone()


def owners_of_statistics(network: Network) -> list[tuple[nn.Module, str]]:
    """Who has rolling means and variances, and their names; constants that layers keep as buffers are not among them.

    The arrays themselves may be replaced by others, when weights are loaded.
    """
    found = []
    for node in network.plan.nodes:
        for array_spec in node.arrays:
            if array_spec.is_statistic:
                part, _, name = array_spec.name.rpartition(".")
                found.append((network.layers[node.index].get_submodule(part), name))
    return found
