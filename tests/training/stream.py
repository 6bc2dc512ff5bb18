"""A stream of random images, one color brighter than the others: a task that is learnt in no time, without files."""

from __future__ import annotations

import torch

from darkpy.data.loading.datasets import TrainingSample

CFG = """[net]
batch=8
subdivisions=2
width=8
height=8
channels=3
learning_rate=0.02
momentum=0.9
decay=0.0005
max_batches={max_batches}
policy=steps
steps=30
scales=.1
burn_in=5
{net}

[convolutional]
batch_normalize=1
filters=6
size=3
pad=1
activation=leaky
{first}

[dropout]
probability=.2

[convolutional]
filters=3
size=1
activation=linear

[avgpool]

[softmax]
"""


def cfg(max_batches: int = 40, net: str = "", first: str = "") -> str:
    return CFG.format(max_batches=max_batches, net=net, first=first)


class Colors:
    """Everything about an image follows from its number."""

    def make(self, slot: int, w: int, h: int) -> TrainingSample:
        numbers = torch.Generator().manual_seed(slot)
        color = slot % 3
        x_CHW = torch.rand(3, h, w, generator=numbers) * 0.5
        x_CHW[color] += 0.3
        return TrainingSample(x_CHW, torch.eye(3)[color], (f"{slot}.png",), ())


def fixed_size(batch_num: int) -> tuple[int, int]:
    return 8, 8


def changing_size(batch_num: int) -> tuple[int, int]:
    side = 8 + 4 * (batch_num // 7 % 3)
    return side, side
