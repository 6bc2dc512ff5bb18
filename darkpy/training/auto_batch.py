"""How many images fit into a GPU's memory at a time.

An update is the same whatever the minibatches it is gathered from, but for batch norm, whose statistics are those of a
minibatch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from darkpy.config.net import NetSpec
from darkpy.errors import DarkpyError
from darkpy.layers.loss import LossSpec, TrainingState
from darkpy.training.trainer import Trainer


def fit(trainer: Trainer, size: tuple[int, int], *, at_most: int, is_allowed: bool) -> None:
    """Raise the subdivisions until a minibatch of at most so many images fits at this width and height.

    is_allowed: whether they may be raised.
    Raises: DarkpyError telling what would fit, if they may not; or when not even one image does.
    """
    net = trainer.net
    images = net.minibatch * net.subdivisions
    sizes = [count for count in range(net.time_steps, at_most + 1, net.time_steps) if images % count == 0]
    fitting = next((count for count in reversed(sizes) if _fits(trainer, count, size)), None)
    if fitting == net.minibatch:
        return
    text = f"a minibatch of {net.minibatch} at {size[0]} x {size[1]} does not fit into the memory of {trainer.device}"
    if fitting is None:
        raise DarkpyError(f"{text}, nor does any smaller one", hint="set a smaller width and height, or random=0")
    if not is_allowed:
        hint = f"{fitting} would: set subdivisions={images // fitting} in [net], or let --fit do it"
        raise DarkpyError(text, hint=hint)
    plan = trainer.network.plan
    trainer.network.plan = replace(plan, net=_with_minibatch(net, fitting))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether that is what torch means; of a CPU's memory it has no kind of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def remember(trainer: Trainer) -> Callable[[], None]:
    """A function that takes back an update that has been begun: its images and gradients.

    Rolling statistics and random numbers stay where they got to.
    """
    header, skipped = trainer.network.header, trainer.skipped_images
    params = list(trainer.network.parameters())
    deferred = [(param, param.grad.clone()) for param in params if param.grad is not None]

    def undo() -> None:
        trainer.network.header, trainer.skipped_images, trainer.accumulated_images = header, skipped, 0
        trainer.network.zero_grad()
        for param, gradient in deferred:
            param.grad = gradient

    return undo


def _with_minibatch(net: NetSpec, minibatch: int) -> NetSpec:
    images = net.minibatch * net.subdivisions
    return replace(net, batch=images // net.time_steps, subdivisions=images // minibatch)


def _fits(trainer: Trainer, images: int, size: tuple[int, int]) -> bool:
    """Whether a step on so many gray images goes through, beside what the optimizer will keep."""
    network = trainer.network
    with _untouched(trainer):
        try:
            kept = [] if trainer.optimizer.torch.state else [torch.empty_like(param) for param in network.parameters()]
            network.resize(*size)
            network.plan = replace(network.plan, net=_with_minibatch(trainer.net, images))
            node = next(node for node in network.plan.nodes if node.spec in network.loss_specs)
            assert isinstance(node.spec, LossSpec)
            x_BCHW = torch.full((images, *network.plan.input_shape), 0.5)
            trainer.gather(
                x_BCHW, torch.zeros(images, *node.spec.truth_shape(node.shape)), TrainingState(trainer.net, images)
            )
            del kept
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return False
    return True


@contextmanager
def _untouched(trainer: Trainer) -> Iterator[None]:
    """Leave everything that a step changes as it was."""
    network = trainer.network
    plan = network.plan
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    gradients = [(param, param.grad) for param in network.parameters()]
    network.zero_grad()
    devices = [trainer.device] if trainer.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        network.plan = plan
        for buffer, before in buffers:
            buffer.copy_(before)
        for param, gradient in gradients:
            param.grad = gradient
        if devices:
            torch.cuda.empty_cache()
