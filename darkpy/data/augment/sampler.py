"""Sampler of training data: the image that each sample shows, and the random numbers of its augmentation.

Training reads an endless sequence of samples without epochs: each sample draws an image from the list. All randomness
of a sample derives from the seed and its index, so that any worker can make any part of the sequence, in any order, and
a resumed run continues it.

Random sizes of the network's input.

A size is a function of the seed and the number of updates done, so that a resumed run continues with the sizes of the
uninterrupted one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from darkpy.config.net import NetSpec
from darkpy.dialect import Dialect

if TYPE_CHECKING:
    from darkpy.config.net import NetSpec


class DarknetRandom(random.Random):
    """darknet's random functions, seeded by a text.

    Source:  pjreddie/darknet src/utils.c rand_scale, rand_int
    """

    def coin(self) -> bool:
        """Toss a fair coin."""
        return self.random() < 0.5

    def rand_scale(self, max_factor: float) -> float:
        """Draw U(1, max_factor) or its reciprocal."""
        factor = self.uniform(1, max_factor)
        return factor if self.coin() else 1 / factor

    def rand_int(self, low: int, high: int) -> int:
        """Draw an integer, both ends included, in either order."""
        return self.randint(min(low, high), max(low, high))


class SampleRngs(NamedTuple):
    """Random number generators of one sample, one for each aspect that samples may share.

    steps: gets a description of each step of the augmentation; None where nothing reads them.
    """

    geometry: DarknetRandom
    color: DarknetRandom
    effects: DarknetRandom
    mixing: DarknetRandom
    steps: list[str] | None = None

    def note(self, step: object) -> None:
        """Describe a step of the augmentation, if descriptions are wanted."""
        if self.steps is not None and (text := str(step)):
            self.steps.append(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """Sampler with replacement from `count` images.

    pairs: [net] contrastive: samples 2k and 2k + 1 show one image; with own_geometry or own_color they differ in that.
    frames: [net] track: the frames of a sequence, else 1. A minibatch of `minibatch` samples holds minibatch / frames
        sequences in time-major order, with one augmentation for all; they step through the list by 1..speed images.
    Source:  AlexeyAB/darknet src/data.c get_random_paths_custom, get_sequential_paths, load_data_detection
    Differs: darknet's random numbers depend on its threads and cannot be reproduced.
    """

    seed: int
    count: int
    pairs: bool = False
    own_geometry: bool = False
    own_color: bool = False
    frames: int = 1
    minibatch: int = 1
    speed: int = 1

    @classmethod
    def for_classifier(cls, net: NetSpec, count: int, seed: int) -> Sampler:
        """Make the sampler that [net] describes for a classifier, which has no tracks."""
        return cls(seed=seed, count=count, pairs=net.contrastive, own_geometry=True, own_color=True)

    @classmethod
    def for_detector(cls, net: NetSpec, count: int, seed: int) -> Sampler:
        """Make the sampler that [net] describes for a detector."""
        return cls(
            seed=seed,
            count=count,
            pairs=net.contrastive,
            own_geometry=net.contrastive_jit_flip,
            own_color=net.contrastive_color,
            frames=net.time_steps if net.track else 1,
            minibatch=net.minibatch if net.track else 1,
            speed=net.augment_speed,
        )

    def candidates(self, sample_index: int, source: int = 0) -> Iterator[int]:
        """Yield image indices for a sample without end: the next one replaces an image that cannot be read.

        source: number of the image among those that are mixed into the sample.
        """
        if self.frames > 1:
            sequences = self.minibatch // self.frames
            batch, position = divmod(sample_index, self.minibatch)
            frame, sequence = divmod(position, sequences)
            step = self._rng("speed", batch, source).rand_int(1, self.speed)
            image = self._rng("start", batch, source, sequence).randrange(self.count) + step * frame
            while True:
                yield image % self.count
                image += 1
        rng = self._rng("image", sample_index - sample_index % 2 if self.pairs else sample_index, source)
        while True:
            yield rng.randrange(self.count)

    def rngs(self, sample_index: int, steps: list[str] | None = None) -> SampleRngs:
        """Make the generators of a sample; samples that share a seed draw the same numbers. steps: see SampleRngs."""
        first = sample_index - sample_index % 2 if self.pairs else sample_index
        geometry, color = sample_index if self.own_geometry else first, sample_index if self.own_color else first
        effects = sample_index
        if self.frames > 1:
            geometry = color = effects = sample_index // self.minibatch
        return SampleRngs(
            self._rng("geometry", geometry),
            self._rng("colour", color),  # the spelling is part of the seed: another one gives other numbers
            self._rng("effects", effects),
            self._rng("mixing", sample_index),
            steps,
        )

    def _rng(self, *key: object) -> DarknetRandom:
        return DarknetRandom("/".join(map(str, (self.seed, *key))))


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
