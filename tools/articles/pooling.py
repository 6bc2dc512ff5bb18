"""Effect of a maximum over a whole map on its feature, compared with a mean, and of a norm behind it.

A maximum passes the whole gradient to one cell, a mean a share to every cell: features grow, and units die.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from tools.articles.images import GrayImages
from tools.articles.runs import Outcome, learn

LEARNING_RATE = 0.1
FEATURE_LAYER, NORM_LAYER = 5, 6
_GLOBAL_MAXPOOL = "[maxpool]\nsize=7\nstride=7\npadding=0\n"
_NET_SECTIONS = """[net]
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
_LAST_SECTIONS = "[connected]\noutput=10\nactivation=linear\n\n[softmax]\n"
POOLING_CASES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "[avgpool]": ("[avgpool]\n", ""),
        "[maxpool]": (_GLOBAL_MAXPOOL, ""),
        "[maxpool] [batchnorm]": (_GLOBAL_MAXPOOL, "[batchnorm]\n"),
        "[maxpool] [softmax]": (_GLOBAL_MAXPOOL, "[softmax]\nnoloss=1\n"),
        "[maxpool] [l2norm]": (_GLOBAL_MAXPOOL, "[l2norm]\n"),
        "[maxpool] [l2norm] scale=10": (_GLOBAL_MAXPOOL, "[l2norm]\nscale=10\n"),
    }
)


@dataclass(frozen=True, slots=True)
class FeatureStats:
    """Statistics of the pooled feature on the test images.

    zeros: share of values that are 0. dead: share of units that are always 0.
    largest, normed: largest value of the feature, and largest magnitude behind the norm.
    """

    outcome: Outcome
    zeros: float
    dead: float
    largest: float
    normed: float


def cfg(name: str) -> str:
    pool, norm = POOLING_CASES[name]
    return _NET_SECTIONS.format(rate=LEARNING_RATE) + pool + norm + _LAST_SECTIONS


def measure(name: str, images: GrayImages, *, updates: int, seed: int = 0) -> FeatureStats:
    network, outcome = learn(cfg(name), images, updates=updates, seed=seed)
    with torch.no_grad():
        layers = network.trace(images.test_x_B1HW)
    is_zero_BC = layers[FEATURE_LAYER].flatten(1) == 0
    normed = layers[NORM_LAYER] if POOLING_CASES[name][1] else layers[FEATURE_LAYER]
    return FeatureStats(
        outcome,
        float(is_zero_BC.float().mean()),
        float(is_zero_BC.all(0).float().mean()),
        float(layers[FEATURE_LAYER].max()),
        float(normed.abs().max()),
    )


def run(images: GrayImages, *, updates: int, seeds: int) -> Iterator[tuple[str, list[FeatureStats]]]:
    """Run each case with each seed."""
    for name in POOLING_CASES:
        yield name, [measure(name, images, updates=updates, seed=seed) for seed in range(seeds)]
