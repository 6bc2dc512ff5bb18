"""Random sizes of the network's input.

A size is a function of the seed and the number of updates done, so that a resumed run continues with the sizes of the
uninterrupted one.
"""

from __future__ import annotations

import math

from darkpy.config.net import NetSpec
from darkpy.data.augment.sampler import DarknetRandom
from darkpy.dialect import Dialect

DETECTOR_PERIOD_UPDATES, CLASSIFIER_PERIOD_UPDATES = 10, 40
"""Number of updates with the same size."""
MAX_CLASSIFIER_SIDE = 448


def detector_size(net: NetSpec, random: float, batch_num: int, seed: int) -> tuple[int, int]:
    """Draw width and height for update `batch_num`, from 0; `random` is the last detection layer's key.

    Source:  pjreddie/darknet examples/detector.c and AlexeyAB/darknet src/detector.c, train_detector
    Differs: AlexeyAB's largest size, which shows early whether the memory suffices, comes first in a new training
             but not in a resumed one.
    """
    if not random:
        return net.width, net.height
    batch_num -= batch_num % DETECTOR_PERIOD_UPDATES
    rng = DarknetRandom(f"{seed}/size/{batch_num}")
    if net.dialect is Dialect.PJREDDIE:
        # 320 to 608, and the largest size for the last 200 updates
        side = 608 if batch_num + 200 > net.max_batches else 32 * rng.rand_int(10, 19)
        return side, side
    max_factor = _max_factor(random)
    factor = rng.rand_scale(max_factor)
    w, h = _scaled_size(net, factor)
    if factor < 1 and (w > net.width or h > net.height):  # rounding up made a smaller size larger
        w, h = net.width, net.height
    if batch_num == 0 or batch_num > net.max_batches - 100:
        w, h = _scaled_size(net, max_factor)
    smallest = int(net.resize_step)
    return max(w, smallest), max(h, smallest)


def classifier_size(net: NetSpec, batch_num: int, seed: int) -> tuple[int, int]:
    """Draw width and height for update `batch_num`, from 0.

    Source:  pjreddie/darknet examples/classifier.c train_classifier
    """
    if not net.random:
        return net.width, net.height
    rng = DarknetRandom(f"{seed}/size/{batch_num // CLASSIFIER_PERIOD_UPDATES}")
    side = rng.rand_int(4, MAX_CLASSIFIER_SIDE // 32) * 32
    return side, side


def detector_minibatch(net: NetSpec, random: float, minibatch: int, w: int, h: int) -> int:
    """Return the images of a minibatch at w x h.

    With `dynamic_minibatch`, as many as need no more memory than `minibatch` images of the largest size.

    Source:  AlexeyAB/darknet src/detector.c train_detector
    """
    if not (net.dynamic_minibatch and random):
        return minibatch
    largest_w, largest_h = _scaled_size(net, _max_factor(random))
    images = minibatch * largest_w * largest_h // (w * h)
    with_reserve = int(images * 0.8)  # darknet's margin for memory that does not scale with the images
    return with_reserve if with_reserve > minibatch else images


def _max_factor(random: float) -> float:
    """Largest scale factor; random=1 stands for darknet's default."""
    return 1.4 if random == 1 else random


def _scaled_size(net: NetSpec, factor: float) -> tuple[int, int]:
    """Scale both sides, round to the grid and add one step, as darknet does."""
    w, h = (math.floor(factor * side / net.resize_step + 1.5) for side in (net.width, net.height))
    return int(w * net.resize_step), int(h * net.resize_step)
