"""From what a command was given to a network that is ready to run, and to names for its classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import darkpy
from darkpy.cli import console
from darkpy.data.lists.names import names_for
from darkpy.process import keep_freed_memory, use_physical_cores

if TYPE_CHECKING:
    import torch

    from darkpy.network import Network

MAX_SHOWN = 32
"""Images that int8 looks at."""


def open_network(
    cfg: Path,
    weights: Path,
    *,
    dialect: str | None,
    device: str | None,
    allow_partial: bool,
    strict: bool = False,
    fold: bool = True,
    engine: str = "torch",
    precision: str = "fp32",
    compiled: bool = False,
    calibrate: Path | None = None,
    examples: Sequence[Path] = (),
) -> Network:
    """The network with its weights on its device, made fast unless every layer's own output matters.

    It takes single images, whatever the time_steps that it trains with.
    examples: images that int8 sees where `calibrate` names none.
    Raises: DarkpyError when the device cannot be used or a way cannot be gone, ConfigError, WeightsError.
    """
    from darkpy.ops.device import find_device

    chosen = find_device(device)
    network = darkpy.load(
        cfg,
        weights,
        dialect=dialect,
        device=chosen,
        strict=strict,
        allow_partial=allow_partial,
        mapped=fold,
        time_steps=1,
    )
    if not fold:
        return network
    from darkpy.data.lists.paths import expand_paths
    from darkpy.inference.accelerate import InferenceConfig, accelerate

    use_physical_cores()
    keep_freed_memory()
    config = InferenceConfig(engine=engine, precision=precision, compiled=compiled)
    is_shown = precision == "int8"
    shown = _show(network, expand_paths([calibrate]) if calibrate else examples) if is_shown else ()
    return accelerate(network, config, images=shown)


def _show(network: Network, paths: Sequence[Path]) -> list[torch.Tensor]:
    """Some of those images as the network takes them; those that cannot be read are left out."""
    from darkpy.errors import ImageError
    from darkpy.evaluation.detect import DetectOptions, read_input

    letterbox = bool(DetectOptions().resolved(network).letterbox)
    shown = []
    for path in paths[:: max(1, len(paths) // MAX_SHOWN)][:MAX_SHOWN]:
        try:
            shown.append(read_input(network, path, letterbox=letterbox)[1])
        except ImageError as error:
            console.warn(error)
    return shown


def class_names(network: Network, file: Path | None) -> tuple[str, ...]:
    """A name for each class that the network's detection heads know.

    Raises: DarkpyError when the file cannot be read or has fewer names.
    """
    counts = [head.class_count for head in network.heads]
    return names_for(max(counts), file) if counts else ()
