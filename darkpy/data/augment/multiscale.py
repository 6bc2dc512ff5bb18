"""Random sizes of the network's input: a function of the seed and the number of updates done, so that a resumed run
goes on with the sizes that the uninterrupted one would have had.
"""

from __future__ import annotations

import math

from darkpy.config.net import NetSpec
from darkpy.data.augment.sampler import DarknetRandom
from darkpy.dialect import Dialect

DETECTOR_PERIOD, CLASSIFIER_PERIOD = 10, 40
"""For how many updates a size stays."""
LARGEST_CLASSIFIER = 448


def detector_size(net: NetSpec, random: float, batch_num: int, seed: int) -> tuple[int, int]:
    """Width and height for the update after `batch_num` others; `random` is the last detection layer's.

    Source:  pjreddie/darknet examples/detector.c and AlexeyAB/darknet src/detector.c, train_detector
    Differs: AlexeyAB's largest size, which shows early whether memory suffices, comes when training starts and not
             again when it is resumed.
    """
    if not random:
        return net.width, net.height
    batch_num -= batch_num % DETECTOR_PERIOD
    rng = DarknetRandom(f"{seed}/size/{batch_num}")
    if net.dialect is Dialect.PJREDDIE:
        side = 608 if batch_num + 200 > net.max_batches else 32 * rng.rand_int(10, 19)
        return side, side
    most = _most(random)
    factor = rng.scale(most)
    w, h = _stretched(net, factor)
    if factor < 1 and (w > net.width or h > net.height):
        w, h = net.width, net.height
    if batch_num == 0 or batch_num > net.max_batches - 100:
        w, h = _stretched(net, most)
    least = int(net.resize_step)
    return max(w, least), max(h, least)


def classifier_size(net: NetSpec, batch_num: int, seed: int) -> tuple[int, int]:
    """Width and height for the update after `batch_num` others.

    Source:  pjreddie/darknet examples/classifier.c train_classifier
    """
    if not net.random:
        return net.width, net.height
    side = DarknetRandom(f"{seed}/size/{batch_num // CLASSIFIER_PERIOD}").rand_int(4, LARGEST_CLASSIFIER // 32) * 32
    return side, side


def detector_minibatch(net: NetSpec, random: float, minibatch: int, w: int, h: int) -> int:
    """Images of a minibatch at a size: with `dynamic_minibatch` as many as need no more memory than `minibatch` at the
    largest one.

    Source:  AlexeyAB/darknet src/detector.c train_detector
    """
    if not (net.dynamic_minibatch and random):
        return minibatch
    largest_w, largest_h = _stretched(net, _most(random))
    images = minibatch * largest_w * largest_h // (w * h)
    cautious = int(images * 0.8)
    return cautious if cautious > minibatch else images


def _most(random: float) -> float:
    """The largest factor; random=1 stands for darknet's own."""
    return 1.4 if random == 1 else random


def _stretched(net: NetSpec, factor: float) -> tuple[int, int]:
    """Both sides times a factor, rounded to the grid, and one step more, as darknet has it."""
    w, h = (math.floor(factor * side / net.resize_step + 1.5) for side in (net.width, net.height))
    return int(w * net.resize_step), int(h * net.resize_step)
