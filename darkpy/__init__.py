"""darkpy: reads, runs and trains darknet networks in PyTorch, with darknet's numbers.

network = darkpy.load("cfg/yolov3.cfg", "yolov3.weights")
outputs = network(x_BCHW)
"""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from darkpy.dialect import Dialect
from darkpy.errors import ConfigError, DarkpyError, DarkpyWarning, ImageError, ShapeError, WeightsError

if TYPE_CHECKING:
    import torch

    from darkpy.build import Plan
    from darkpy.diagnostics.monitor.monitor import Monitor
    from darkpy.inference.accelerate import accelerate
    from darkpy.network import Network
    from darkpy.training.trainer import Trainer

__all__ = [
    "ConfigError",
    "DarkpyError",
    "DarkpyWarning",
    "Dialect",
    "ImageError",
    "Monitor",
    "ShapeError",
    "Trainer",
    "WeightsError",
    "accelerate",
    "load",
    "plan",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """What needs torch is imported when it is asked for."""
    if name == "Trainer":
        from darkpy.training.trainer import Trainer

        return Trainer
    if name == "Monitor":
        from darkpy.diagnostics.monitor.monitor import Monitor

        return Monitor
    if name == "accelerate":
        from darkpy.inference.accelerate import accelerate

        return accelerate
    if name == "Watch":
        warnings.warn("darkpy.Watch is now darkpy.Monitor", DeprecationWarning, stacklevel=2)
        return __getattr__("Monitor")
    raise AttributeError(f"module 'darkpy' has no attribute {name!r}")


def plan(cfg: str | os.PathLike[str], dialect: Dialect | str | None = None, *, strict: bool = False) -> Plan:
    """The typed graph of a cfg, without allocating a tensor.

    cfg: a path, or cfg text (any string with a line break).
    dialect: "pjreddie" or "alexeyab"; None decides by what only one fork knows.
    strict: warnings (unknown keys, mostly) become errors.
    Raises: ConfigError with every finding of the file.
    """
    return _plan(cfg, dialect, strict=strict)


def load(
    cfg: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    dialect: Dialect | str | None = None,
    device: str | torch.device = "cpu",
    strict: bool = False,
    allow_partial: bool = False,
    mapped: bool = False,
    time_steps: int | None = None,
) -> Network:
    """The network of a cfg in inference mode, with the numbers of a `.weights` file or darknet's starting values.

    strict: warnings (unknown keys, mostly) become errors.
    allow_partial: accept a file that ends between two layers (`darknet53.conv.74`); the rest starts new.
    mapped: map the weights in place of reading them, for inference: what is mapped must not be cut short while it
        is used. `for_inference` and `accelerate` copy it, and then the file may go.
    time_steps: in place of the cfg's. With 1 every call is the next step of its sequences, as in AlexeyAB's commands
        that do not train.
    Raises: ConfigError, WeightsError.
    """
    from darkpy.network import Network

    made = _plan(cfg, dialect, strict=strict)
    if time_steps is not None:
        made = replace(made, net=replace(made.net, time_steps=time_steps))
    network = Network(made)
    if weights is not None:
        network.load_weights(weights, allow_partial=allow_partial, mapped=mapped)
    network.initialize()
    return network.to(device)


def _plan(cfg: str | os.PathLike[str], dialect: Dialect | str | None, *, strict: bool) -> Plan:
    """Plan a cfg, and warn whoever called us of what is odd in it."""
    from darkpy.build import make_plan
    from darkpy.config.text import deduplicate

    made = make_plan(cfg, dialect, strict=strict)
    for finding in deduplicate(made.warnings):
        warnings.warn(str(finding), DarkpyWarning, stacklevel=3)
    return made
