"""Largest minibatch that fits into a device's memory.

An update is the same whatever minibatches its gradients are summed over, but for batch norm, whose statistics are
those of a minibatch.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from darkpy.config.net import NetSpec
from darkpy.errors import DarkpyError, is_out_of_memory
from darkpy.layers.loss import LossSpec, TrainingState
from darkpy.training.trainer import Trainer


def fit_minibatch(trainer: Trainer, size: tuple[int, int], *, at_most: int, auto_batch: bool) -> None:
    """Raise the subdivisions until a minibatch of at most `at_most` images fits at this width and height.

    auto_batch: False raises an error in place of changing the subdivisions.
    Raises: DarkpyError with what would fit, without `auto_batch`; or when not even one image does.
    """
    net = trainer.net
    images = net.minibatch * net.subdivisions
    counts = [count for count in range(net.time_steps, at_most + 1, net.time_steps) if images % count == 0]
    fitting = next((count for count in reversed(counts) if _fits(trainer, count, size)), None)
    if fitting == net.minibatch:
        return
    text = f"a minibatch of {net.minibatch} at {size[0]} x {size[1]} does not fit into the memory of {trainer.device}"
    if fitting is None:
        raise DarkpyError(f"{text}, nor does any smaller one", hint="set a smaller width and height, or random=0")
    if not auto_batch:
        hint = f"{fitting} would: set subdivisions={images // fitting} in [net], or let --fit do it"
        raise DarkpyError(text, hint=hint)
    plan = trainer.network.plan
    trainer.network.plan = replace(plan, net=_with_minibatch(net, fitting))


def _with_minibatch(net: NetSpec, minibatch: int) -> NetSpec:
    images = net.minibatch * net.subdivisions
    return replace(net, batch=images // net.time_steps, subdivisions=images // minibatch)


def _fits(trainer: Trainer, images: int, size: tuple[int, int]) -> bool:
    """True if a step on so many gray images succeeds, in addition to the optimizer's memory."""
    network = trainer.network
    fits = True
    with trainer.preserved():
        try:
            network.zero_grad()
            moments = [] if trainer.optimizer.torch.state else [torch.empty_like(p) for p in network.parameters()]
            network.resize(*size)
            network.plan = replace(network.plan, net=_with_minibatch(trainer.net, images))
            node = next(node for node in network.plan.nodes if node.spec in network.loss_specs)
            assert isinstance(node.spec, LossSpec)
            x_BCHW = torch.full((images, *network.plan.input_shape), 0.5)
            truth = torch.zeros(images, *node.spec.truth_shape(node.shape))
            trainer.accumulate(x_BCHW, truth, TrainingState(trainer.net, images))
            del moments
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            fits = False
    if trainer.device.type == "cuda":
        torch.cuda.empty_cache()
    return fits
