"""darknet's batch norm, in the arithmetic of its GPU path with cuDNN, which people's weights came from."""

from __future__ import annotations

import torch
from torch.nn import functional

from darkpy.errors import ShapeError

EPS = 1e-5  # inside the square root
RATE = 0.01  # rolling = .99 * rolling + .01 * statistics of this minibatch


def batch_normalize(
    x_BCHW: torch.Tensor,
    scales_C: torch.Tensor,
    biases_C: torch.Tensor,
    rolling_mean_C: torch.Tensor,
    rolling_variance_C: torch.Tensor,
    *,
    training: bool,
) -> torch.Tensor:
    """Normalise each channel; in training by this minibatch's statistics, which move the rolling ones.

    The biased variance normalises, the unbiased one moves the rolling variance.
    Raises: ShapeError in training when a channel has one number only.
    Source: pjreddie/darknet src/batchnorm_layer.c forward_batchnorm_layer_gpu (cuDNN).
    Differs: pjreddie's CPU code divides by sqrt(variance) + 1e-6, AlexeyAB's rolls with .9/.1.
    """
    if training and x_BCHW.numel() == x_BCHW.shape[1]:
        raise ShapeError(
            "batch norm cannot train on one number a channel",
            hint="use a minibatch of 2 or more (batch / subdivisions)",
        )
    return functional.batch_norm(
        x_BCHW, rolling_mean_C, rolling_variance_C, scales_C, biases_C, training, momentum=RATE, eps=EPS
    )


def fold_factors(
    scales_C: torch.Tensor, biases_C: torch.Tensor, rolling_mean_C: torch.Tensor, rolling_variance_C: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What each filter is multiplied by and the bias it gets so that batch norm is no longer needed, in double.

    Source: AlexeyAB/darknet src/network.c fuse_conv_batchnorm.
    """
    factor_C = scales_C.double() / torch.sqrt(rolling_variance_C.double() + EPS)
    return factor_C, biases_C.double() - factor_C * rolling_mean_C.double()
