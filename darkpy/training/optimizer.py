"""darknet's update, on torch's optimizers.

darknet sums gradients over the batch of B images and divides in the update; `torch.optim.SGD` on gradients divided by
B is the same arithmetic, momentum and decay included. Decay acts on weights alone, not on biases and scales; Adam's
acts on all.
Source: pjreddie/darknet src/convolutional_layer.c update_convolutional_layer, src/blas_kernels.cu adam_update_gpu.
Differs: layers that a fork forgets to update (AlexeyAB's connected, pjreddie's batchnorm) learn like all others, and
the key `learning_rate` counts in recurrent layers too. Arrays that layers share are updated once, by the keys of the
layer that has them, and not once for each. With `adam` all layers learn by it, in AlexeyAB's fork only convolutional
ones; it counts its steps from 1 when training goes on, like pjreddie's, where AlexeyAB's takes the number of the
update and so starts without bias correction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from darkpy.build import Node
from darkpy.config.net import NetSpec
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup
from darkpy.errors import DarkpyError
from darkpy.network import Network
from darkpy.training.rank_sync import sum_gradients


class Optimizer:
    """Every layer's arrays with their rate, decay and freezing keys.

    ranks: that share each minibatch, and make the same update.
    Raises: DarkpyError when the network has nothing to learn.
    """

    def __init__(self, network: Network, process_group: ProcessGroup = SINGLE_PROCESS) -> None:
        self.net = network.plan.net
        self.process_group = process_group
        groups = [group for node in network.plan.nodes for group in self._groups(network, node)]
        if not groups:
            raise DarkpyError(
                f"{network.plan.file} has no weights to train", hint="add [convolutional], [connected], ..."
            )
        self.torch = _torch_optimizer(groups, self.net, self._divisor())
        # the key spreads to all layers before the last one that has it
        only_bn = [node.index for node in network.plan.nodes if node.spec.train_only_bn]
        self.frozen = range(only_bn[-1] + 1 if only_bn else 0)
        self.params: list[nn.Parameter] = [param for group in groups for param in group["params"]]
        self.norm = torch.zeros(())
        self.active_groups: list[dict[str, Any]] = []
        """The groups that take part in the update that is prepared."""
        self.deferred: list[tuple[nn.Parameter, torch.Tensor | None]] = []
        """What has gradients, and no part in it."""

    def update(self, rate: float, batch_num: int, images: int | None = None) -> torch.Tensor:
        """One step on the gradients summed over `images`, [net]'s by default, since the last one; they are forgotten.

        Returns: what `prepare` does.
        """
        norm = self.prepare(rate, batch_num, images)
        self.step()
        return norm

    def prepare(self, rate: float, batch_num: int, images: int | None = None) -> torch.Tensor:
        """Turn the sums into means over `images`, unless `loss_reduction` says otherwise, for update `batch_num`.

        `step` makes the step. The gradients of layers whose update is put off (`dont_update`, `burnin_update`) are laid
        aside until then.
        Returns: the norm of all gradients of the update, before `grad_clip_norm` and `grad_clip_value`.
        """
        active: list[dict[str, Any]] = []
        deferred: list[tuple[nn.Parameter, torch.Tensor | None]] = []
        for group in self.torch.param_groups:
            node: Node = group["node"]
            group["lr"] = rate * node.spec.learning_rate
            if node.index in self.frozen:
                _forget(group["params"])
            elif _is_due(node, self.net, batch_num):
                active.append(group)
            else:
                deferred += [(param, param.grad) for param in group["params"]]
                _forget(group["params"])
        sum_gradients([param.grad for group in active for param in group["params"]], self.process_group)
        sum_gradients([gradient for _, gradient in deferred], self.process_group)
        self.active_groups, self.deferred = active, deferred
        gradients = [param.grad for param in self._learning if param.grad is not None]
        if not gradients:
            self.norm = torch.zeros(())
        else:
            torch._foreach_div_(gradients, self._divisor(images))
            self.norm = nn.utils.get_total_norm(gradients, self.net.grad_clip_type or math.inf)
        return self.norm

    def step(self) -> None:
        """Update the weights by what was prepared.

        The gradient of a layer whose update is put off is kept and added to; of several ranks the main one keeps it.
        """
        if params := self._learning:
            self._clip(params)
        self.torch.step()
        self._bound_weights(self.active_groups)
        self.torch.zero_grad()
        for param, gradient in self.deferred if self.process_group.is_main else ():
            param.grad = gradient
        self.deferred = []

    def _divisor(self, images: int | None = None) -> int:
        if self.net.loss_reduction != "darknet":
            return 1
        return images or self.net.minibatch * self.net.subdivisions

    @torch.no_grad()
    def last_step(self, param: nn.Parameter, group: dict[str, Any]) -> torch.Tensor | None:
        """What the last update added to a weight, but for its sign and for `clip`; None where that is not kept."""
        state, rate = self.torch.state.get(param, {}), group["lr"]
        if self.net.adam and state:
            (first, second), n = group["betas"], float(state["step"])
            scale = (state["exp_avg_sq"] / (1 - second**n)).sqrt_().add_(group["eps"])
            return torch.div(state["exp_avg"], scale, out=scale).mul_(rate / (1 - first**n))
        momentum = state.get("momentum_buffer")
        return None if momentum is None else momentum * rate

    @property
    def _learning(self) -> list[nn.Parameter]:
        """What the update that is prepared changes."""
        return [param for group in self.active_groups for param in group["params"] if param.grad is not None]

    def _clip(self, params: list[nn.Parameter]) -> None:
        net = self.net
        if net.grad_clip_norm:
            nn.utils.clip_grads_with_norm_(params, net.grad_clip_norm, self.norm)
        if net.grad_clip_value:
            nn.utils.clip_grad_value_(params, net.grad_clip_value)

    @torch.no_grad()
    def _bound_weights(self, groups: list[dict[str, Any]]) -> None:
        """The key `clip`: weights stay within +-bound."""
        for group in groups:
            bound = group["node"].spec.weight_bound(self.net)
            if bound and group["is_decayed"]:
                torch._foreach_clamp_min_(group["params"], -bound)
                torch._foreach_clamp_max_(group["params"], bound)

    def _groups(self, network: Network, node: Node) -> Iterator[dict[str, Any]]:
        """One parameter group for the weights of a layer and one for its biases and scales."""
        layer = network.layers[node.index]
        for is_decayed in (True, False):
            arrays = [
                array_spec
                for array_spec in node.arrays
                if array_spec.is_decayed is is_decayed and not array_spec.is_statistic
            ]
            decay = self.net.decay if is_decayed or self.net.adam else 0.0
            if arrays:
                params = [layer.get_parameter(array_spec.name) for array_spec in arrays]
                yield {"params": params, "weight_decay": decay, "node": node, "is_decayed": is_decayed}


def _torch_optimizer(groups: list[dict[str, Any]], net: NetSpec, divisor: int) -> torch.optim.Optimizer:
    if net.adam:
        # darknet's numerator and denominator, and so its eps, are those of sums
        return torch.optim.Adam(groups, lr=net.learning_rate, betas=(net.B1, net.B2), eps=net.eps / divisor)
    return torch.optim.SGD(groups, lr=net.learning_rate, momentum=net.momentum)


def _forget(params: list[nn.Parameter]) -> None:
    for param in params:
        param.grad = None


def _is_due(node: Node, net: NetSpec, batch_num: int) -> bool:
    """Source: AlexeyAB/darknet src/network_kernels.cu update_network_gpu."""
    return node.spec.dont_update < batch_num and node.spec.burnin_update * net.burn_in <= batch_num
