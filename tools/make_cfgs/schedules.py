"""Parts of [net] sections: sizes, learning-rate schedules and augmentation shared by several networks."""

from __future__ import annotations

from .writer import Keys, Value


def images(size: int, batch: int, subdivisions: int) -> dict[str, Value]:
    """Return keys for square color images; batch / subdivisions of them form a minibatch."""
    return {"batch": batch, "subdivisions": subdivisions, "width": size, "height": size, "channels": 3}


def optimizer(momentum: str = "0.9", decay: str = "0.0005") -> dict[str, Value]:
    return {"momentum": momentum, "decay": decay}


def falling_steps(rate: str, max_batches: int, first: int, second: int, burn_in: int = 1000) -> dict[str, Value]:
    """Return a schedule that warms up, and divides the rate by ten at each of two steps near the end."""
    schedule = {"learning_rate": rate, "policy": "steps", "steps": f"{first},{second}", "scales": ".1,.1"}
    return {**schedule, "burn_in": burn_in, "max_batches": max_batches}


def falling_polynomial(rate: str, max_batches: int) -> dict[str, Value]:
    return {"learning_rate": rate, "policy": "poly", "power": 4, "max_batches": max_batches}


DETECTOR_COLORS: Keys = {"angle": 0, "hue": ".1", "saturation": "1.5", "exposure": "1.5"}
IMAGENET_DISTORTION: Keys = {"angle": 7, "aspect": ".75", "hue": ".1", "saturation": ".75", "exposure": ".75"}


def imagenet(
    size: int, *, max_batches: int = 800000, batch: int = 1, rate: str = "0.1", **keys: Value
) -> dict[str, Value]:
    """Return [net] of the ImageNet classifiers; `keys` adds crops and burn-in."""
    updates = {**falling_polynomial(rate, max_batches), **optimizer()}
    return {**images(size, batch, 1), **updates, **IMAGENET_DISTORTION, **keys}
