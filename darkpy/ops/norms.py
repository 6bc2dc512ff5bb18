"""Batch norm with the arithmetic of darknet's GPU path (cuDNN), which trained most weights; group norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from darkpy.distributed import SINGLE_PROCESS, ProcessGroup
from darkpy.errors import ShapeError
from darkpy.ops.onnx_builder import Graph

NORM_EPS = 1e-5  # inside the square root
ROLLING_RATE = 0.01  # rolling = .99 * rolling + .01 * statistics of this minibatch
BN_FREEZE_MODES = ("none", "affine", "stats", "all")
"""Frozen part of batch norm in training: nothing; scales and biases; the rolling statistics, while the minibatch's own
still normalize; all, with the rolling statistics normalizing as in inference."""


def batch_normalize(
    x_BCHW: torch.Tensor,
    scales_C: torch.Tensor,
    biases_C: torch.Tensor,
    rolling_mean_C: torch.Tensor,
    rolling_variance_C: torch.Tensor,
    *,
    training: bool,
    process_group: ProcessGroup = SINGLE_PROCESS,
    freeze: str = "none",
) -> torch.Tensor:
    """Normalize each channel; in training by this minibatch's statistics, which also update the rolling ones.

    The biased variance normalizes, the unbiased one updates the rolling variance.
    freeze: one of BN_FREEZE_MODES; the caller freezes scales and biases.
    process_group: ranks that share the minibatch; statistics and gradients are those of all its images.
    Raises: ShapeError in training when a channel has only one value.
    Source: pjreddie/darknet src/batchnorm_layer.c forward_batchnorm_layer_gpu (cuDNN).
    Differs: pjreddie's CPU code divides by sqrt(variance) + 1e-6; AlexeyAB's has a rolling rate of .1.
    """
    training = training and freeze != "all"
    updates_rolling = freeze != "stats"
    if training and x_BCHW.numel() * process_group.world_size == x_BCHW.shape[1]:
        raise ShapeError(
            "batch norm cannot train on one value a channel", hint="use a minibatch of 2 or more (batch / subdivisions)"
        )
    if training and not process_group.is_alone:
        mean_C, variance_C = _share_statistics(x_BCHW.detach(), process_group)
        if updates_rolling:
            count = x_BCHW.numel() // x_BCHW.shape[1] * process_group.world_size
            rolling_mean_C.lerp_(mean_C, ROLLING_RATE)
            rolling_variance_C.lerp_(variance_C * (count / (count - 1)), ROLLING_RATE)
        shared: Tensor = _SharedNorm.apply(x_BCHW, scales_C, biases_C, mean_C, variance_C, process_group)
        return shared
    uses_rolling = updates_rolling or not training
    return functional.batch_norm(
        x_BCHW,
        rolling_mean_C if uses_rolling else None,
        rolling_variance_C if uses_rolling else None,
        scales_C,
        biases_C,
        training,
        momentum=ROLLING_RATE,
        eps=NORM_EPS,
    )


def group_normalize(x_BCHW: Tensor, groups: int, scales_C: Tensor, biases_C: Tensor) -> Tensor:
    """Normalize each group of channels of each image by its own mean and biased variance.

    Independent of the minibatch: training and inference are the same.
    Source: not in darknet; Wu and He, Group Normalization (2018); with one group Ba et al., Layer Normalization (2016).
    """
    return functional.group_norm(x_BCHW, groups, scales_C, biases_C, NORM_EPS)


def group_normalize_to_onnx(graph: Graph, x: str, groups: int, scales_C: Tensor, biases_C: Tensor) -> str:
    """Add `group_normalize` to a graph: a reshape makes each group a channel of an instance norm."""
    ones_G, zeros_G = torch.ones(groups), torch.zeros(groups)
    grouped = graph.add("InstanceNormalization", graph.reshape(x, 0, groups, -1), ones_G, zeros_G, epsilon=NORM_EPS)
    normalized = graph.add("Reshape", grouped, graph.add("Shape", x))
    return graph.add("Add", graph.add("Mul", normalized, scales_C[:, None, None]), biases_C[:, None, None])


def _share_statistics(x_BCHW: Tensor, process_group: ProcessGroup) -> tuple[Tensor, Tensor]:
    """Compute mean and biased variance of each channel over the images of all ranks."""
    axes = [axis for axis in range(x_BCHW.dim()) if axis != 1]
    variance_C, mean_C = torch.var_mean(x_BCHW.float(), axes, correction=0)
    mean_RC, variance_RC = process_group.gather(torch.stack((mean_C, variance_C)).double()).unbind(1)
    # total variance = mean of the variances + variance of the means, as all ranks have equally many images
    between_C = mean_RC.var(0, correction=0)
    return mean_RC.mean(0).float(), (variance_RC.mean(0) + between_C).float()


class _SharedNorm(torch.autograd.Function):
    """Batch norm with statistics of all ranks, also in the backward pass; gradients of scales and biases are local."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BCHW: Tensor,
        scales_C: Tensor,
        biases_C: Tensor,
        mean_C: Tensor,
        variance_C: Tensor,
        process_group: ProcessGroup,
    ) -> Tensor:
        ctx.save_for_backward(x_BCHW, scales_C, mean_C, variance_C)
        ctx.process_group = process_group
        return functional.batch_norm(x_BCHW, mean_C, variance_C, scales_C, biases_C, eps=NORM_EPS)

    @staticmethod
    def backward(ctx: Any, gradient_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, scales_C, mean_C, variance_C = ctx.saved_tensors
        inverse_std_C = torch.rsqrt(variance_C + NORM_EPS)
        # the gradient at fixed statistics, to which the path through mean and variance of all ranks is added below
        x_gradient_BCHW, scales_gradient_C, biases_gradient_C = torch.ops.aten.native_batch_norm_backward(
            gradient_BCHW, x_BCHW, scales_C, mean_C, variance_C, None, None, False, NORM_EPS, [True, True, True]
        )
        count = x_BCHW.numel() // x_BCHW.shape[1] * ctx.process_group.world_size
        both_2C = ctx.process_group.sum_(torch.stack((scales_gradient_C, biases_gradient_C)))
        by_variance_C, by_mean_C = scales_C * inverse_std_C / count * both_2C
        slope_C = by_variance_C * inverse_std_C
        channel_view = [1, -1, *(1 for _ in x_BCHW.shape[2:])]
        offset_C1 = (by_mean_C - slope_C * mean_C).view(channel_view)
        x_gradient_BCHW -= torch.addcmul(offset_C1, slope_C.view(channel_view), x_BCHW)
        return x_gradient_BCHW, scales_gradient_C, biases_gradient_C, None, None, None


def fold_factors(
    scales_C: torch.Tensor, biases_C: torch.Tensor, rolling_mean_C: torch.Tensor, rolling_variance_C: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the factor and the bias of each filter that replace batch norm, in double precision.

    Source: AlexeyAB/darknet src/network.c fuse_conv_batchnorm.
    """
    factor_C = scales_C.double() / torch.sqrt(rolling_variance_C.double() + NORM_EPS)
    return factor_C, biases_C.double() - factor_C * rolling_mean_C.double()
