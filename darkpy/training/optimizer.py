"""darknet's update, on torch's optimizers.

darknet sums gradients over the batch of B images and divides in the update; `torch.optim.SGD` on gradients divided by
B is the same arithmetic, momentum and decay included. Decay acts on weights alone, not on biases and scales; Adam's
acts on all.
Source: pjreddie/darknet src/convolutional_layer.c update_convolutional_layer, src/blas_kernels.cu adam_update_gpu.
Differs: layers that a dialect forgets to update (AlexeyAB's connected, pjreddie's batchnorm) learn like all others, and
the key `learning_rate` counts in recurrent layers too. Arrays that layers share are updated once, by the keys of the
layer that has them, and not once for each. With `adam` all layers learn by it, in AlexeyAB's program only convolutional
ones; it counts its steps from 1 when training goes on, like pjreddie's, where AlexeyAB's takes the number of the
update and so starts without bias correction.

The learning rate: burn-in, then one of darknet's policies.

Source: pjreddie/darknet and AlexeyAB/darknet src/network.c get_current_rate.
Differs: pjreddie counts updates without a sign, so that `steps=-1,...` never passes and `sigmoid` is 0 before its step;
here both work as written. `poly` stays at 0 after `max_batches`, where darknet's rate may grow again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from darkpy.build import Node
from darkpy.config.net import NetSpec
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup
from darkpy.errors import DarkpyError
from darkpy.network import Network


class Optimizer:
    """Every layer's arrays with their rate, decay and freezing keys.

    process_group: the ranks that share each minibatch, and make the same update.
    Raises: DarkpyError when the network has nothing to learn.
    """

    def __init__(self, network: Network, process_group: ProcessGroup = SINGLE_PROCESS) -> None:
        self.net = net = network.plan.net
        self.process_group = process_group
        groups = [group for node in network.plan.nodes for group in _parameter_groups(network, node)]
        if not groups:
            raise DarkpyError(
                f"{network.plan.file} has no weights to train", hint="add [convolutional], [connected], ..."
            )
        self.torch: torch.optim.Optimizer
        if net.adam:
            # darknet's numerator and denominator, and so its eps, are those of sums over the batch
            eps = net.eps / self._divisor()
            self.torch = torch.optim.Adam(groups, lr=net.learning_rate, betas=(net.B1, net.B2), eps=eps)
        else:
            self.torch = torch.optim.SGD(groups, lr=net.learning_rate, momentum=net.momentum)
        # train_only_bn spreads to all layers before the last one that has it
        only_bn = [node.index for node in network.plan.nodes if node.spec.train_only_bn]
        self.frozen = range(max(only_bn[-1] + 1 if only_bn else 0, network.frozen_layers))
        self.params: list[nn.Parameter] = [param for group in groups for param in group["params"]]
        self.norm = torch.zeros(())
        self.active_groups: list[dict[str, Any]] = []
        """Parameter groups that take part in the prepared update."""
        self.deferred: list[tuple[nn.Parameter, torch.Tensor | None]] = []
        """Parameters that take no part in it, with the gradients they keep for a later one."""

    def update(self, rate: float, batch_num: int, images: int | None = None) -> torch.Tensor:
        """Make one step on the gradients summed over `images`, [net]'s by default, and forget them.

        Returns: the norm, see `prepare`.
        """
        norm = self.prepare(rate, batch_num, images)
        self.step()
        return norm

    def prepare(self, rate: float, batch_num: int, images: int | None = None) -> torch.Tensor:
        """Turn the sums into means over `images`, unless `loss_reduction` says otherwise, for update `batch_num`.

        Gradients of layers whose update is deferred (`dont_update`, `burnin_update`) are set aside until `step`.
        Returns: the norm of all gradients of the update, before `grad_clip_norm` and `grad_clip_value`.
        Source: AlexeyAB/darknet src/network_kernels.cu update_network_gpu, for deferred layers.
        """
        active: list[dict[str, Any]] = []
        deferred: list[tuple[nn.Parameter, torch.Tensor | None]] = []
        for group in self.torch.param_groups:
            node: Node = group["node"]
            spec = node.spec
            group["lr"] = rate * spec.learning_rate
            frozen = node.index in self.frozen
            if not frozen and spec.dont_update < batch_num and spec.burnin_update * self.net.burn_in <= batch_num:
                active.append(group)
                continue
            if not frozen:
                deferred += [(param, param.grad) for param in group["params"]]
            for param in group["params"]:
                param.grad = None
        self.process_group.sum_all_([param.grad for group in active for param in group["params"]])
        self.process_group.sum_all_([gradient for _, gradient in deferred])
        self.active_groups, self.deferred = active, deferred
        gradients = [param.grad for param in self._active_params if param.grad is not None]
        if not gradients:
            self.norm = torch.zeros(())
        else:
            torch._foreach_div_(gradients, self._divisor(images))
            self.norm = nn.utils.get_total_norm(gradients, self.net.grad_clip_type or math.inf)
        return self.norm

    @torch.no_grad()
    def step(self) -> None:
        """Make the prepared update.

        A deferred gradient is kept and added to; of several ranks the main one keeps it.
        """
        net = self.net
        if params := self._active_params:
            if net.grad_clip_norm:
                nn.utils.clip_grads_with_norm_(params, net.grad_clip_norm, self.norm)
            if net.grad_clip_value:
                nn.utils.clip_grad_value_(params, net.grad_clip_value)
        self.torch.step()
        for group in self.active_groups:  # the key `clip`: weights stay within +-bound
            bound = group["node"].spec.weight_bound(net)
            if bound and group["is_decayed"]:
                torch._foreach_clamp_min_(group["params"], -bound)
                torch._foreach_clamp_max_(group["params"], bound)
        self.torch.zero_grad()
        for param, gradient in self.deferred if self.process_group.is_main else ():
            param.grad = gradient
        self.deferred = []

    @torch.no_grad()
    def last_step(self, param: nn.Parameter, group: dict[str, Any]) -> torch.Tensor | None:
        """Change that the last update made to a weight, but for its sign and for `clip`; None where it is not kept."""
        state, rate = self.torch.state.get(param, {}), group["lr"]
        if self.net.adam and state:
            (first, second), n = group["betas"], float(state["step"])
            scale = (state["exp_avg_sq"] / (1 - second**n)).sqrt_().add_(group["eps"])
            return torch.div(state["exp_avg"], scale, out=scale).mul_(rate / (1 - first**n))
        momentum = state.get("momentum_buffer")
        return None if momentum is None else momentum * rate

    def _divisor(self, images: int | None = None) -> int:
        if self.net.loss_reduction != "darknet":
            return 1
        return images or self.net.minibatch * self.net.subdivisions

    @property
    def _active_params(self) -> list[nn.Parameter]:
        """Parameters that the prepared update changes."""
        return [param for group in self.active_groups for param in group["params"] if param.grad is not None]


def _parameter_groups(network: Network, node: Node) -> Iterator[dict[str, Any]]:
    """One group for the weights of a layer and one for its biases and scales."""
    layer, net = network.layers[node.index], network.plan.net
    for is_decayed in (True, False):
        learned = [
            array_spec
            for array_spec in node.arrays
            if array_spec.is_decayed is is_decayed and not array_spec.is_statistic
        ]
        if learned:
            params = [layer.get_parameter(array_spec.name) for array_spec in learned]
            decay = net.decay if is_decayed or net.adam else 0.0
            yield {"params": params, "weight_decay": decay, "node": node, "is_decayed": is_decayed}


def current_rate(net: NetSpec, batch_num: int, random: Callable[[], float]) -> float:
    """Return the learning rate of update `batch_num`, which counts from 1.

    random: draws from U(0, 1), for the policy `random`.
    Raises: DarkpyError when the keys of the policy give no finite rate.
    """
    try:
        if batch_num < net.burn_in:
            return float(net.learning_rate * (batch_num / net.burn_in) ** net.power)
        return float(_policy_rate(net, batch_num, random))
    except ArithmeticError as error:
        raise DarkpyError(
            f"policy={net.policy} gives no learning rate at update {batch_num}: {error}",
            hint="check step, scale, gamma, power and max_batches in [net]",
        ) from error


def _policy_rate(net: NetSpec, n: int, random: Callable[[], float]) -> float:
    rate = net.learning_rate
    match net.policy:
        case "step":
            rate *= net.scale ** (n // net.step)
        case "steps":
            for step, scale in zip(net.steps, net.scales, strict=False):
                if step > n:
                    break
                rate *= scale
        case "exp":
            rate *= net.gamma**n
        case "poly":
            rate *= max(0.0, 1 - n / net.max_batches) ** net.power
        case "random":
            rate *= random() ** net.power
        case "sigmoid":  # as a tanh, which cannot overflow
            rate = rate * (1 - math.tanh(net.gamma * (n - net.step) / 2)) / 2
        case "sgdr":
            start, cycle = 0, max(1, net.sgdr_cycle or net.max_batches)
            while start + cycle < n:
                start += cycle
                cycle *= max(1, net.sgdr_mult)
            low = net.learning_rate_min
            rate = low + 0.5 * (rate - low) * (1 + math.cos(math.pi * (n - start) / cycle))
    return rate
