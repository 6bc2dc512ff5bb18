"""Load the network a command runs, its class names and its device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import darkpy
from darkpy.cli import console
from darkpy.cli.options import LoadOptions
from darkpy.data.lists.names import names_for
from darkpy.process import keep_freed_memory, use_physical_cores

if TYPE_CHECKING:
    import torch

    from darkpy.network import Network

MAX_CALIBRATION_IMAGES = 32


def open_network(
    cfg: Path, weights: Path, options: LoadOptions, *, accelerated: bool = True, examples: Sequence[Path] = ()
) -> Network:
    """Load a network with its weights for single images, whatever the time_steps of its training.

    accelerated: False keeps every layer's own output, as comparisons need.
    examples: images that calibrate int8 when the options name none.
    Raises: DarkpyError for an unusable device or an unsupported combination of options, ConfigError, WeightsError.
    """
    from darkpy.ops.device import find_device

    network = darkpy.load(
        cfg,
        weights,
        dialect=options.dialect,
        device=find_device(options.device),
        strict=options.strict,
        allow_partial=options.allow_partial,
        mapped=accelerated,
        time_steps=1,
    )
    if not accelerated:
        return network
    from darkpy.data.lists.paths import expand_paths
    from darkpy.inference.accelerate import InferenceConfig, accelerate

    use_physical_cores()
    keep_freed_memory()
    config = InferenceConfig(engine=options.engine, precision=options.precision, compiled=options.compiled)
    images: list[torch.Tensor] = []
    if options.precision == "int8":
        paths = expand_paths([options.calibrate]) if options.calibrate else examples
        images = _calibration_images(network, paths)
    return accelerate(network, config, images=images)


def _calibration_images(network: Network, paths: Sequence[Path]) -> list[torch.Tensor]:
    """Network inputs of images spread evenly over the paths; unreadable ones are skipped with a warning."""
    from darkpy.errors import ImageError
    from darkpy.evaluation.detect import DetectOptions, read_input

    letterbox = bool(DetectOptions().resolved(network).letterbox)
    inputs = []
    for path in paths[:: max(1, len(paths) // MAX_CALIBRATION_IMAGES)][:MAX_CALIBRATION_IMAGES]:
        try:
            inputs.append(read_input(network, path, letterbox=letterbox)[1])
        except ImageError as error:
            console.warn(error)
    return inputs


def class_names(network: Network, file: Path | None) -> tuple[str, ...]:
    """One name per class of the network's detection heads; () for a network without any.

    Raises: DarkpyError when the file cannot be read or has too few names.
    """
    counts = [head.class_count for head in network.heads]
    return names_for(max(counts), file) if counts else ()
