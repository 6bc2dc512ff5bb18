"""What a maximum over a whole map does to the feature it makes, beside a mean; and what a norm behind it changes.

Of a maximum one cell gets the whole gradient, of a mean every cell its share: features grow, and units die.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from tools.articles.images import Images
from tools.articles.runs import Outcome, learn

RATE = 0.1
FEATURE, NORM = 5, 6  # the layers' numbers
_MAX = "[maxpool]\nsize=7\nstride=7\npadding=0\n"
_NET = """[net]
width=28
height=28
channels=1
batch=64
momentum=.9
decay=0
constrain=0
learning_rate={rate}

[convolutional]
filters=16
size=3
pad=1
activation=relu

[maxpool]
size=2
stride=2

[convolutional]
filters=32
size=3
pad=1
activation=relu

[maxpool]
size=2
stride=2

[convolutional]
filters=64
size=3
pad=1
activation=relu

"""
_END = "[connected]\noutput=10\nactivation=linear\n\n[softmax]\n"
CASES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "[avgpool]": ("[avgpool]\n", ""),
        "[maxpool]": (_MAX, ""),
        "[maxpool] [batchnorm]": (_MAX, "[batchnorm]\n"),
        "[maxpool] [softmax]": (_MAX, "[softmax]\nnoloss=1\n"),
        "[maxpool] [l2norm]": (_MAX, "[l2norm]\n"),
        "[maxpool] [l2norm] scale=10": (_MAX, "[l2norm]\nscale=10\n"),
    }
)


@dataclass(frozen=True, slots=True)
class Feature:
    """zeros: the share of the pooled numbers of the test images that are 0. dead: that of units which always are.

    largest, given: the largest number of the pooled feature, and of what the last layer is given.
    """

    outcome: Outcome
    zeros: float
    dead: float
    largest: float
    given: float


def cfg(name: str) -> str:
    pool, norm = CASES[name]
    return _NET.format(rate=RATE) + pool + norm + _END


def measure(name: str, images: Images, *, updates: int, seed: int = 0) -> Feature:
    network, outcome = learn(cfg(name), images, updates=updates, seed=seed)
    with torch.no_grad():
        layers = network.trace(images.test_x_B1HW)
    is_zero_BC = layers[FEATURE].flatten(1) == 0
    given = layers[NORM] if CASES[name][1] else layers[FEATURE]
    return Feature(
        outcome,
        float(is_zero_BC.float().mean()),
        float(is_zero_BC.all(0).float().mean()),
        float(layers[FEATURE].max()),
        float(given.abs().max()),
    )


def run(images: Images, *, updates: int, seeds: int) -> Iterator[tuple[str, list[Feature]]]:
    """Each case with each seed."""
    for name in CASES:
        yield name, [measure(name, images, updates=updates, seed=seed) for seed in range(seeds)]
