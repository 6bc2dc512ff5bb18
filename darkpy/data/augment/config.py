"""Configuration of data augmentation: the keys of a cfg that describe it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import NamedTuple

from darkpy.config.net import NetSpec
from darkpy.data.augment.sampler import DarknetRandom
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, DarkpyWarning

MIXUP, CUTMIX, MOSAIC, CUTMIX_OR_MOSAIC = 1, 2, 3, 4


def mixing_code(net: NetSpec) -> int:
    """Combine the keys mosaic, cutmix and mixup into one code; 0 for none.

    Source:  AlexeyAB/darknet src/parser.c parse_net_options
    """
    if net.cutmix:
        return CUTMIX_OR_MOSAIC if net.mosaic else CUTMIX
    return MOSAIC if net.mosaic else net.mixup


class Color(NamedTuple):
    """Color change: an offset of the hue, and factors of saturation and value."""

    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0

    def __str__(self) -> str:
        factors = f"saturation x {self.saturation:.2f}, exposure x {self.exposure:.2f}"
        return f"hue {self.hue:+.2f}, {factors}" if self != Color() else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColorRange:
    """Range of random color changes: hue +/- an offset, saturation and exposure times or divided by a factor."""

    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0

    @classmethod
    def from_net(cls, net: NetSpec) -> ColorRange:
        """Read the range from [net]. Source: pjreddie/darknet src/data.c load_thread, where a factor of 0 means 1."""
        return cls(hue=net.hue, saturation=net.saturation or 1.0, exposure=net.exposure or 1.0)

    def draw(self, rng: DarknetRandom) -> Color:
        """Draw a color change. Source: pjreddie/darknet src/image.c random_distort_image."""
        return Color(rng.uniform(-self.hue, self.hue), rng.rand_scale(self.saturation), rng.rand_scale(self.exposure))


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionAugmentConfig:
    """Augmentation of a detector's training data: keys of [net] and of the last detection layer, `head`.

    mosaic, mixup: mix images in every other sample, on average.
    side: cells along each side of [detection]'s target grid; the other heads have a list of boxes as target.
    """

    dialect: Dialect
    head: str
    classes: int
    max: int
    jitter: float
    side: int = 7
    resize: float = 1.0
    color: ColorRange = ColorRange()
    flip: bool = True
    blur: int = 0
    gaussian_noise: int = 0
    letter_box: bool = False
    mosaic: bool = False
    mosaic_bound: bool = False
    mixup: bool = False

    @classmethod
    def from_net(
        cls, net: NetSpec, head: str, *, classes: int, max: int, jitter: float, resize: float = 1.0, side: int = 7
    ) -> DetectionAugmentConfig:
        """Read the configuration from [net] and the keys of the last detection layer.

        Raises:  DarkpyError for mosaic=1 with letter_box=1, which AlexeyAB refuses, and for impossible ranges.
        Source:  AlexeyAB/darknet src/data.c load_data_detection, load_data_region
        """
        if not 0 <= jitter < 1 or resize <= 0:
            raise DarkpyError(
                f"jitter={jitter:g} and resize={resize:g} leave nothing of an image",
                hint="jitter is at least 0 and below 1, resize above 0",
            )
        config = cls(
            dialect=net.dialect,
            head=head,
            classes=classes,
            max=max,
            jitter=jitter,
            side=side,
            color=ColorRange.from_net(net),
        )
        if not config.is_opencv:
            return config
        mixing = mixing_code(net)
        if net.cutmix:
            warnings.warn(
                "cutmix=1 applies to classifiers only; this detector is trained without it", DarkpyWarning, stacklevel=2
            )
        if mixing >= MOSAIC and net.letter_box:
            raise DarkpyError("mosaic=1 and letter_box=1 cannot be combined", hint="remove one of them from [net]")
        return replace(
            config,
            resize=resize,
            flip=net.flip,
            blur=net.blur,
            gaussian_noise=net.gaussian_noise,
            letter_box=net.letter_box,
            mosaic=mixing >= MOSAIC,
            mosaic_bound=net.mosaic_bound,
            mixup=mixing == MIXUP,
        )

    @property
    def is_opencv(self) -> bool:
        """True if augmentation follows AlexeyAB's program built with OpenCV; [detection] never does."""
        return self.dialect is Dialect.ALEXEYAB and self.head != "detection"

    @property
    def allow_class_only(self) -> bool:
        """True if a label may give a class without a box, as in the training of YOLO9000."""
        return self.dialect is Dialect.PJREDDIE and self.head == "region"

    @property
    def entries(self) -> int:
        """Numbers per object in a list of boxes: AlexeyAB adds the track as the sixth."""
        return 6 if self.is_opencv else 5

    def min_box_size(self, net_w: int, net_h: int) -> tuple[float, float]:
        """Return the width and height below which a box is dropped, as fractions of the input.

        Source:  pjreddie/darknet and AlexeyAB/darknet src/data.c fill_truth_detection, fill_truth_region
        """
        if self.is_opencv:
            return 1 / net_w, 1 / net_h
        smallest = 0.005 if self.head == "detection" and self.dialect is Dialect.PJREDDIE else 0.001
        return smallest, smallest


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassificationAugmentConfig:
    """Augmentation of a classifier's training data: keys of [net].

    min_crop, max_crop: range of the shorter side after scaling, in pixels, for a network input of `width`.
    center: use the largest central square instead of a random part.
    """

    dialect: Dialect
    width: int
    min_crop: float
    max_crop: float
    angle: float = 0.0
    aspect: float = 1.0
    color: ColorRange = ColorRange()
    flip: bool = True
    center: bool = False
    blur: int = 0
    mixing: int = 0
    label_smooth_eps: float = 0.0

    @classmethod
    def from_net(cls, net: NetSpec) -> ClassificationAugmentConfig:
        """Read the configuration from [net]. Source: src/parser.c parse_net_options of both darknets."""
        low = net.width if net.min_crop is None else net.min_crop
        high = 2 * net.width if net.max_crop is None else net.max_crop
        return cls(
            dialect=net.dialect,
            width=net.width,
            min_crop=low if net.min_ratio is None else net.min_ratio * net.width,
            max_crop=high if net.max_ratio is None else net.max_ratio * net.width,
            angle=net.angle,
            aspect=net.aspect or 1.0,
            color=ColorRange.from_net(net),
            flip=net.flip,
            center=net.center,
            blur=net.blur,
            mixing=mixing_code(net),
            label_smooth_eps=net.label_smooth_eps,
        )

    def without_ratios(self, net: NetSpec) -> ClassificationAugmentConfig:
        """Return the configuration without the keys that `tag train` does not read: aspect, min_crop, the ratios.

        Source: pjreddie/darknet examples/tag.c train_tag
        """
        high = 2 * net.width if net.max_crop is None else net.max_crop
        return replace(self, aspect=1.0, min_crop=net.width, max_crop=high)

    def crop_range(self, net_w: int) -> tuple[int, int]:
        """Return the range of the shorter side for an input of `net_w`; in pjreddie's dialect it scales with the input.

        Source:  pjreddie/darknet examples/classifier.c train_classifier; AlexeyAB/darknet src/classifier.c
        """
        ratio = net_w / self.width if self.dialect is Dialect.PJREDDIE else 1.0
        return int(self.min_crop * ratio), int(self.max_crop * ratio)
