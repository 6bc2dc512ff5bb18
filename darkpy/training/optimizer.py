"""darknet's update, on torch's optimisers.

darknet sums gradients over the batch of B images and divides in the update; `torch.optim.SGD` on gradients divided by
B is the same arithmetic, momentum and decay included. Decay acts on weights alone, not on biases and scales; Adam's
acts on all.
Source: pjreddie/darknet src/convolutional_layer.c update_convolutional_layer, src/blas_kernels.cu adam_update_gpu.
Differs: layers that a fork forgets to update (AlexeyAB's connected, pjreddie's batchnorm) learn like all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from darkpy.build import Node
from darkpy.config.net import NetSpec
from darkpy.network import Network


class Optimizer:
    """Every layer's arrays with their rate, decay and freezing keys."""

    def __init__(self, network: Network) -> None:
        self.net = network.plan.net
        self.batch = self.net.minibatch * self.net.subdivisions
        # the key spreads to all layers before the last one that has it
        only_bn = [node.index for node in network.plan.nodes if node.spec.train_only_bn]
        trained = network.plan.nodes[only_bn[-1] + 1 if only_bn else 0 :]
        groups = [group for node in trained for group in self._groups(network, node)]
        self.torch = _torch_optimizer(groups, self.net, self.batch)

    def update(self, rate: float, batch_num: int) -> float:
        """One step on the gradients summed since the last one, which are then forgotten.

        The gradient of a layer whose update is put off (`dont_update`, `burnin_update`) is kept and added to.
        Returns: the norm of all gradients of the update, before `grad_clip_norm` and `grad_clip_value`.
        """
        put_off: list[tuple[nn.Parameter, torch.Tensor | None]] = []
        for group in self.torch.param_groups:
            group["lr"] = rate * group["node"].spec.learning_rate
            if not _is_due(group["node"], self.net, batch_num):
                put_off.extend((param, param.grad) for param in group["params"])
        for param, _ in put_off:
            param.grad = None
        norm = self._clip()
        self.torch.step()
        self._bound_weights()
        self.torch.zero_grad()
        for param, gradient in put_off:
            param.grad = gradient
        return norm

    def _clip(self) -> float:
        """Turn the sums into means over the batch, and clip these."""
        params = [param for group in self.torch.param_groups for param in group["params"] if param.grad is not None]
        torch._foreach_div_([param.grad for param in params], self.batch)
        net = self.net
        largest = net.grad_clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(params, largest, net.grad_clip_type or math.inf)
        if net.grad_clip_value:
            nn.utils.clip_grad_value_(params, net.grad_clip_value)
        return float(norm)

    @torch.no_grad()
    def _bound_weights(self) -> None:
        """The key `clip`: weights stay within +-bound."""
        for group in self.torch.param_groups:
            bound = group["node"].spec.weight_bound(self.net)
            if bound and group["is_decayed"]:
                torch._foreach_clamp_min_(group["params"], -bound)
                torch._foreach_clamp_max_(group["params"], bound)

    def _groups(self, network: Network, node: Node) -> Iterator[dict[str, Any]]:
        """One parameter group for the weights of a layer and one for its biases and scales."""
        layer = network.layers[node.index]
        for is_decayed in (True, False):
            slots = [slot for slot in node.slots if slot.is_decayed is is_decayed and not slot.is_statistic]
            decay = self.net.decay if is_decayed or self.net.adam else 0.0
            if slots:
                params = [layer.get_parameter(slot.name) for slot in slots]
                yield {"params": params, "weight_decay": decay, "node": node, "is_decayed": is_decayed}


def _torch_optimizer(groups: list[dict[str, Any]], net: NetSpec, batch: int) -> torch.optim.Optimizer:
    if net.adam:
        # darknet's numerator and denominator are `batch` times as large
        return torch.optim.Adam(groups, lr=net.learning_rate, betas=(net.B1, net.B2), eps=net.eps / batch)
    return torch.optim.SGD(groups, lr=net.learning_rate, momentum=net.momentum)


def _is_due(node: Node, net: NetSpec, batch_num: int) -> bool:
    """Source: AlexeyAB/darknet src/network_kernels.cu update_network_gpu."""
    return node.spec.dont_update < batch_num and node.spec.burnin_update * net.burn_in <= batch_num
