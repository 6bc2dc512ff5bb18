"""Outputs of a detector averaged with those for the mirrored image."""

from __future__ import annotations

import torch
from torch import Tensor

from darkpy.errors import DarkpyError
from darkpy.network import Network


def average_with_mirror(network: Network) -> None:
    """Let inference average each head's output with that for the mirrored image, mirrored back.

    Raises:  DarkpyError for a head without anchors, whose output the C program does not average either.
    Source:  pjreddie/darknet examples/detector.c validate_detector_flip, src/yolo_layer.c avg_flipped_yolo
    Differs: the center of a mirrored box is 1 - x; darknet takes -x, which moves boxes by half a cell, but not in the
        middle column of an odd number of cells; of several anchors it takes the first channels for the centers; it
        counts boxes before it averages, and may crash.
    """
    for node in network.plan.nodes:
        if node.index in network.outputs and not getattr(node.spec, "anchor_keys", None):
            raise DarkpyError(
                f"{network.plan.place(node.index)}: its output is not averaged with that of a mirrored image",
                hint="darkpy detector valid DATA CFG WEIGHTS runs without that",
            )
    compute = network.runner
    entries = [keys.entries for head in network.heads if (keys := head.anchor_keys) is not None]

    def run(x_BCHW: Tensor) -> list[Tensor]:
        outputs_BCHW = compute(x_BCHW)
        network.reset_state()
        mirrored_BCHW = compute(x_BCHW.flip(3))
        return [_average(*pair) for pair in zip(outputs_BCHW, mirrored_BCHW, entries, strict=True)]

    network.set_backend(run, prefers_channels_last=network.prefers_channels_last)


@torch.no_grad()
def _average(output_BCHW: Tensor, mirrored_BCHW: Tensor, entries: int) -> Tensor:
    """Average two outputs; the first entry of each anchor is the center of its box within the cell."""
    back_BCHW = mirrored_BCHW.flip(3)
    back_BCHW[:, ::entries] = 1 - back_BCHW[:, ::entries]
    return (output_BCHW + back_BCHW) / 2
