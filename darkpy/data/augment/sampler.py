"""Sampler of training data: the image that each sample shows, and the random numbers of its augmentation.

Training reads an endless sequence of samples without epochs: each sample draws an image from the list. All that is
random about a sample follows from the seed and its index, so that any worker can make any part of the sequence, in
any order, and a resumed run continues it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

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
    """Random number generators of one sample, one for each thing that samples may have to share."""

    geometry: DarknetRandom
    color: DarknetRandom
    effects: DarknetRandom
    mixing: DarknetRandom


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

    def rngs(self, sample_index: int) -> SampleRngs:
        """Make the generators of a sample; samples that share a seed draw the same numbers."""
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
        )

    def _rng(self, *key: object) -> DarknetRandom:
        return DarknetRandom("/".join(map(str, (self.seed, *key))))
