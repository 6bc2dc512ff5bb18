"""Which image of the list stands at which place of the endless stream that training reads, and what chance does to it.

The stream's places, its slots, are numbered. Everything about a slot follows from the seed and its number, so that any
part of the stream can be made again, by any worker, in any order. There are no epochs: each slot draws from the list.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from darkpy.config.net import NetSpec


class DarknetRandom(random.Random):
    """darknet's random functions, on numbers that a text determines.

    Source:  pjreddie/darknet src/utils.c rand_scale, rand_int
    """

    def coin(self) -> bool:
        return self.random() < 0.5

    def scale(self, most: float) -> float:
        """U(1, most), or 1 by that."""
        factor = self.uniform(1, most)
        return factor if self.coin() else 1 / factor

    def rand_int(self, low: int, high: int) -> int:
        """A whole number, both ends included, whichever is the smaller."""
        return self.randint(min(low, high), max(low, high))


class SampleRngs(NamedTuple):
    """The dice of one slot, one for each thing that slots may have in common."""

    geometry: DarknetRandom
    color: DarknetRandom
    effects: DarknetRandom
    mixing: DarknetRandom


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """Draws with replacement from `count` images.

    pairs: [net] contrastive: slots 2k and 2k + 1 show one image; own_geometry, own_color: differing in that, too.
    frames: [net] track: the frames of a sequence, else 1. A minibatch of `minibatch` slots is as many sequences as it
        has slots for, in time-major order, one augmentation for all; they run through the list by 1..speed images.
    Source:  AlexeyAB/darknet src/data.c get_random_paths_custom, get_sequential_paths, load_data_detection
    Differs: darknet's numbers depend on its threads and cannot be had again.
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
        """The stream of a list of `count` images as [net] wants it for a classifier, which knows no tracks."""
        return cls(seed=seed, count=count, pairs=net.contrastive, own_geometry=True, own_color=True)

    @classmethod
    def for_detector(cls, net: NetSpec, count: int, seed: int) -> Sampler:
        """The stream of a list of `count` images as [net] wants it for a detector."""
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
        """Numbers of images for a slot, without end: the next one counts when the one before cannot be read.

        source: which of the images that are mixed into one.
        """
        if self.frames > 1:
            sequences = self.minibatch // self.frames
            batch, place = divmod(sample_index, self.minibatch)
            frame, sequence = divmod(place, sequences)
            step = self._rng("speed", batch, source).rand_int(1, self.speed)
            image = self._rng("start", batch, source, sequence).randrange(self.count) + step * frame
            while True:
                yield image % self.count
                image += 1
        rng = self._rng("image", sample_index - sample_index % 2 if self.pairs else sample_index, source)
        while True:
            yield rng.randrange(self.count)

    def rngs(self, sample_index: int) -> SampleRngs:
        first = sample_index - sample_index % 2 if self.pairs else sample_index
        geometry, color = sample_index if self.own_geometry else first, sample_index if self.own_color else first
        effects = sample_index
        if self.frames > 1:
            geometry = color = effects = sample_index // self.minibatch
        return SampleRngs(
            self._rng("geometry", geometry),
            self._rng("colour", color),  # this spelling is part of the seed: every run draws by it
            self._rng("effects", effects),
            self._rng("mixing", sample_index),
        )

    def _rng(self, *key: object) -> DarknetRandom:
        return DarknetRandom("/".join(map(str, (self.seed, *key))))
