"""Configuration of augmentation from the keys of a cfg, by dialect and head."""

from __future__ import annotations

from dataclasses import replace

import pytest

from darkpy.config.net import NetSpec
from darkpy.data.augment.config import (
    CUTMIX,
    CUTMIX_OR_MOSAIC,
    MIXUP,
    MOSAIC,
    ClassificationAugmentConfig,
    ColorRange,
    DetectionAugmentConfig,
    mixing_code,
)
from darkpy.data.augment.sampler import DarknetRandom
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, DarkpyWarning

PJREDDIE = NetSpec(dialect=Dialect.PJREDDIE, width=224, height=224)
ALEXEYAB = NetSpec(dialect=Dialect.ALEXEYAB, width=224, height=224)


def config(net: NetSpec, head: str = "yolo", jitter: float = 0.3, resize: float = 1.5) -> DetectionAugmentConfig:
    return DetectionAugmentConfig.from_net(net, head, classes=3, max=90, jitter=jitter, resize=resize)


@pytest.mark.parametrize(
    ("mosaic", "cutmix", "mixup", "code"),
    [
        *((False, False, 0, 0), (False, False, 1, MIXUP), (False, True, 1, CUTMIX)),
        *((True, False, 1, MOSAIC), (True, True, 0, CUTMIX_OR_MOSAIC)),
    ],
)
def test_mosaic_and_cutmix_go_before_mixup(mosaic: bool, cutmix: bool, mixup: int, code: int) -> None:
    assert mixing_code(replace(ALEXEYAB, mosaic=mosaic, cutmix=cutmix, mixup=mixup)) == code


def test_alexeyabs_detectors_use_every_key() -> None:
    net = replace(ALEXEYAB, flip=False, blur=1, gaussian_noise=9, mosaic=True, mosaic_bound=True, hue=0.1)
    assert config(net) == DetectionAugmentConfig(
        dialect=Dialect.ALEXEYAB,
        head="yolo",
        classes=3,
        max=90,
        jitter=0.3,
        resize=1.5,
        color=ColorRange(hue=0.1),
        flip=False,
        blur=1,
        gaussian_noise=9,
        mosaic=True,
        mosaic_bound=True,
    )
    assert config(replace(ALEXEYAB, mixup=1)).mixup
    assert config(replace(ALEXEYAB, letter_box=True)).letter_box


def test_alexeyabs_v1_networks_are_trained_as_pjreddies_are() -> None:
    net = replace(ALEXEYAB, mosaic=True, letter_box=True, blur=1, gaussian_noise=9, mixup=1, flip=False)
    v1 = config(net, "detection")
    assert v1 == DetectionAugmentConfig(dialect=Dialect.ALEXEYAB, head="detection", classes=3, max=90, jitter=0.3)
    assert (v1.is_opencv, v1.entries) == (False, 5)


def test_cutmix_is_not_for_detectors() -> None:
    with pytest.warns(DarkpyWarning, match="cutmix=1 applies to classifiers only"):
        assert not config(replace(ALEXEYAB, cutmix=True, mixup=1)).mixup
    with pytest.warns(DarkpyWarning, match="cutmix=1 applies to classifiers only"):
        assert config(replace(ALEXEYAB, cutmix=True, mosaic=True)).mosaic


def test_impossible_values_are_errors() -> None:
    with pytest.raises(DarkpyError, match="mosaic=1 and letter_box=1"):
        config(replace(ALEXEYAB, mosaic=True, letter_box=True))
    for jitter, resize in ((1.0, 1.0), (-0.1, 1.0), (0.2, 0.0)):
        with pytest.raises(DarkpyError, match="leave nothing of an image"):
            config(PJREDDIE, jitter=jitter, resize=resize)


@pytest.mark.parametrize(
    ("net", "head", "least", "entries", "allow_class_only"),
    [
        (PJREDDIE, "yolo", (0.001, 0.001), 5, False),
        (PJREDDIE, "region", (0.001, 0.001), 5, True),
        (PJREDDIE, "detection", (0.005, 0.005), 5, False),
        (ALEXEYAB, "yolo", (1 / 608, 1 / 416), 6, False),
        (ALEXEYAB, "Gaussian_yolo", (1 / 608, 1 / 416), 6, False),
        (ALEXEYAB, "region", (1 / 608, 1 / 416), 6, False),
        (ALEXEYAB, "detection", (0.001, 0.001), 5, False),
    ],
)
def test_each_dialect_and_head_has_its_own_target(
    net: NetSpec, head: str, least: tuple[float, float], entries: int, allow_class_only: bool
) -> None:
    made = config(net, head)
    assert made.min_box_size(608, 416) == least
    assert (made.entries, made.allow_class_only) == (entries, allow_class_only)


def test_a_factor_of_0_changes_nothing_and_colors_stay_in_their_range() -> None:
    colors = ColorRange.from_net(replace(PJREDDIE, saturation=0.0, exposure=0.0, hue=0.1))
    assert colors == ColorRange(hue=0.1)
    rng = DarknetRandom("colors")
    drawn = [ColorRange(hue=0.1, saturation=1.5, exposure=2).draw(rng) for _ in range(1000)]
    for numbers, low, high in zip(zip(*drawn, strict=True), (-0.1, 1 / 1.5, 0.5), (0.1, 1.5, 2), strict=True):
        assert low <= min(numbers) < low + 0.02
        assert high - 0.02 < max(numbers) <= high


def test_pjreddies_crops_grow_with_the_network_and_alexeyabs_do_not() -> None:
    for net, expected in ((PJREDDIE, (224, 448)), (ALEXEYAB, (112, 224))):
        assert ClassificationAugmentConfig.from_net(net).crop_range(112) == (
            (112, 224) if net is PJREDDIE else (224, 448)
        )
        made = ClassificationAugmentConfig.from_net(replace(net, min_crop=112, max_crop=224))
        assert made.crop_range(448) == expected
    ratios = ClassificationAugmentConfig.from_net(replace(PJREDDIE, min_ratio=1.0, max_ratio=1.25, min_crop=7))
    assert ratios.crop_range(448) == (448, 560)
