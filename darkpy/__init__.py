"""darkpy: load, run and train darknet networks in PyTorch, with darknet's results.

network = darkpy.load("cfg/yolov3.cfg", "yolov3.weights")
for result in darkpy.detect(network, "photos/"):
    print(result.boxes, result.scores, result.names)
"""

from __future__ import annotations

from darkpy import startup  # noqa: F401  before all that takes its time

# isort: split
import os
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from darkpy.deprecation import renamed_arguments, warn_renamed
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError, DarkpyError, DarkpyNote, DarkpyWarning, ImageError, ShapeError, WeightsError
from darkpy.finding import Finding
from darkpy.version import __version__ as __version__

if TYPE_CHECKING:
    import torch

    from darkpy.build import Plan
    from darkpy.custom_cfg import make_custom_cfg
    from darkpy.detection_run import detect, detect_image
    from darkpy.diagnostics.monitor.monitor import Monitor
    from darkpy.evaluation.average_precision import ClassPrecision, MeanAveragePrecision
    from darkpy.evaluation.counting import ObjectCounter, RegionCount
    from darkpy.evaluation.result import Object, Result
    from darkpy.evaluation.runner import evaluate
    from darkpy.evaluation_run import write_evaluation_report
    from darkpy.export.onnx_files import export_onnx
    from darkpy.inference.accelerate import accelerate
    from darkpy.network import Network
    from darkpy.training.reports import CheckpointReport, UpdateReport, ValidationReport
    from darkpy.training.trainer import Trainer
    from darkpy.training_run import train
    from darkpy.training_session import TrainingResult, TrainingRun

__all__ = [
    "CheckpointReport",
    "ClassPrecision",
    "ConfigError",
    "DarkpyError",
    "DarkpyWarning",
    "Dialect",
    "Finding",
    "ImageError",
    "MeanAveragePrecision",
    "Monitor",
    "Object",
    "ObjectCounter",
    "RegionCount",
    "Result",
    "ShapeError",
    "Trainer",
    "TrainingResult",
    "TrainingRun",
    "UpdateReport",
    "ValidationReport",
    "WeightsError",
    "accelerate",
    "detect",
    "detect_image",
    "evaluate",
    "export_onnx",
    "load",
    "make_custom_cfg",
    "plan",
    "train",
    "write_evaluation_report",
]

_LAZY_MODULES = {
    "ClassPrecision": "darkpy.evaluation.average_precision",
    "MeanAveragePrecision": "darkpy.evaluation.average_precision",
    "CheckpointReport": "darkpy.training.reports",
    "Monitor": "darkpy.diagnostics.monitor.monitor",
    "Object": "darkpy.evaluation.result",
    "ObjectCounter": "darkpy.evaluation.counting",
    "RegionCount": "darkpy.evaluation.counting",
    "Result": "darkpy.evaluation.result",
    "Trainer": "darkpy.training.trainer",
    "TrainingResult": "darkpy.training_session",
    "TrainingRun": "darkpy.training_session",
    "UpdateReport": "darkpy.training.reports",
    "ValidationReport": "darkpy.training.reports",
    "accelerate": "darkpy.inference.accelerate",
    "detect": "darkpy.detection_run",
    "detect_image": "darkpy.detection_run",
    "evaluate": "darkpy.evaluation.runner",
    "export_onnx": "darkpy.export.onnx_files",
    "make_custom_cfg": "darkpy.custom_cfg",
    "train": "darkpy.training_run",
    "write_evaluation_report": "darkpy.evaluation_run",
}
"""Modules of public names that need torch."""


def __getattr__(name: str) -> object:
    """Import what needs torch when it is first used."""
    if name == "Watch":
        warn_renamed("darkpy.Watch", "darkpy.Monitor")
        name = "Monitor"
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module 'darkpy' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY_MODULES[name]), name)


def __dir__() -> list[str]:
    """Public names, including those not imported yet."""
    return sorted({*globals(), *__all__})


def plan(
    cfg: str | os.PathLike[str],
    dialect: Dialect | str | None = None,
    *,
    strict: bool = False,
    weights: str | os.PathLike[str] | None = None,
) -> Plan:
    """Parse a cfg into its typed graph, without allocating a tensor.

    cfg: a path, the name of a network that comes with darkpy (`darkpy models`), or cfg text (any string with a line
        break).
    dialect: "pjreddie", "alexeyab" or "v5" (alexeyab without the keys that the library of darknet V5 does not read);
        None detects it by sections and keys that only one dialect knows, then by the header of `weights`.
    strict: warnings (mostly unknown keys) become errors.
    weights: the weight file that the cfg belongs to; it is not loaded.
    Raises: ConfigError with all findings of the file.
    """
    return _plan(cfg, dialect, strict=strict, weights=weights, stacklevel=3)


@renamed_arguments(is_partial_allowed="allow_partial", is_mapped="mapped")
def load(
    cfg: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    dialect: Dialect | str | None = None,
    device: str | int | torch.device = "cpu",
    strict: bool = False,
    allow_partial: bool = False,
    mapped: bool = False,
    time_steps: int | None = None,
) -> Network:
    """Create the network of a cfg in inference mode, with the weights of a file or darknet's initial values.

    cfg: as in `plan`. weights: a file, or such a name, for the weights that `darkpy fetch` has downloaded. With a name
        as cfg, they are the default; nothing is ever downloaded here.
    device: "cpu", "cuda", "cuda:1", "mps", or the number of a GPU.
    strict: warnings (mostly unknown keys) become errors.
    allow_partial: accept a file that ends between two layers (`darknet53.conv.74`); the others are initialized.
    mapped: memory-map the weights instead of reading them, for inference. The file must not be truncated while it is
        in use; `for_inference` and `accelerate` copy the weights.
    time_steps: override of the cfg's value. With 1 every call is the next step of its sequences, as in AlexeyAB's
        inference commands.
    Raises: ConfigError, WeightsError, DarkpyError when the device cannot be used.
    """
    from darkpy.catalog import find_model, find_weights
    from darkpy.network import Network
    from darkpy.ops.device import find_device

    target = find_device(device)
    if weights is None and (model := find_model(cfg)) and model.urls:
        weights = model.name
    if weights is not None:
        weights = find_weights(weights)
    made = _plan(cfg, dialect, strict=strict, weights=weights, stacklevel=4)
    if time_steps is not None:
        made = replace(made, net=replace(made.net, time_steps=time_steps))
    network = Network(made)
    if weights is not None:
        network.load_weights(weights, allow_partial=allow_partial, mapped=mapped)
    network.initialize()
    return network.to(target)


def _plan(
    cfg: str | os.PathLike[str],
    dialect: Dialect | str | None,
    *,
    strict: bool,
    weights: str | os.PathLike[str] | None,
    stacklevel: int,
) -> Plan:
    """Build a plan, and issue its warnings for the caller `stacklevel` frames up."""
    from darkpy.build import make_plan
    from darkpy.catalog import find_cfg
    from darkpy.config.text import deduplicate

    made = make_plan(find_cfg(cfg), dialect, strict=strict, weights=weights)
    for finding in deduplicate(made.warnings):
        category = DarkpyNote if finding.is_note else DarkpyWarning
        warnings.warn(str(finding), category, stacklevel=stacklevel)
    return made
