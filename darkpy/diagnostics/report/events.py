"""A run's log as TensorBoard's events."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from darkpy.diagnostics.monitor.run_log import RunLog
from darkpy.errors import DarkpyError

SCALAR_FIELDS = ("loss", "average", "rate", "norm", "largest")


def write_events(log: RunLog, folder: Path) -> int:
    """Write a new folder of events: curves of the run and of each layer, findings as text.

    Units: the wall time of an update follows from the run's beginning and the seconds that updates took.
    Returns: how many numbers were written.
    Raises: DarkpyError without TensorBoard, or when the folder is not empty or cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DarkpyError(
            "writing events needs the package tensorboard", hint='pip install "darkpy-yolo[tensorboard]"'
        ) from error
    try:
        if folder.exists() and any(folder.iterdir()):
            raise DarkpyError(f"{folder}: is not empty", hint="name a new folder: events of both would mix")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DarkpyError(f"{folder}: cannot be written: {error.strerror}") from error
    writer: Any = SummaryWriter(str(folder))
    count = 0
    time = log.starts[0].time
    try:
        for one in log.updates:
            time += one.seconds if math.isfinite(one.seconds) else 0
            scalars = [(f"run/{name}", float(getattr(one, name))) for name in SCALAR_FIELDS]
            for name, figures in one.layers.items():
                for layer, value in zip(log.run.layers, figures, strict=False):
                    if value is not None:
                        scalars.append((f"layers_{name}/{layer.index:03}_{layer.type}", value))
            for tag, value in scalars:
                writer.add_scalar(tag, value, one.batch_num, walltime=time)
            count += len(scalars)
        for mean in log.maps:
            name = mean.name.lower().replace(" ", "_")
            averages = {} if math.isnan(mean.ema) else {f"{name}_ema": mean.ema}
            for tag, value in {name: mean.mean, **averages}.items():
                writer.add_scalar(tag, value, mean.batch_num, walltime=time)
                count += 1
        for finding in log.findings:
            text = "  \n".join((finding.text, *(f"try: {hint}" for hint in finding.hints)))
            writer.add_text(f"findings/{finding.name}", text, finding.batch_num, walltime=time)
    finally:
        writer.close()
    return count
