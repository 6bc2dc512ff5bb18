"""File of the fastest kernels on this machine: $XDG_CACHE_HOME/darkpy/kernels.json, by default in ~/.cache.

Several processes may use it at once. Anything unexpected in it is ignored, and costs only the time to measure again.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.files import make_folder, open_regular, write_atomic
from darkpy.process import cpu_name

FORMAT_VERSION = 1
MAX_CACHE_BYTES = 1 << 20
MAX_MACHINES = 16
MAX_TASKS = 2048
MAX_TEXT_LENGTH = 200
MAX_KERNELS = 32


class Measurement(NamedTuple):
    """The fastest kernel of a convolution, and the milliseconds of each that was measured."""

    kernel: str
    ms: Mapping[str, float]


class KernelCache:
    """Measurements by the key of a task, on the machine and with the software and threads at hand."""

    def __init__(self) -> None:
        self._path, self._machine = _cache_path(), describe_setup()
        self._measurements = _read(self._path).get(self._machine, {})
        self._new: dict[str, Measurement] = {}

    def get(self, key: str) -> Measurement | None:
        return self._new.get(key) or self._measurements.get(key)

    def put(self, key: str, measurement: Measurement) -> None:
        self._new[key] = measurement

    def save(self) -> None:
        """Write what is new, with what other processes have written since; warn if that fails."""
        if not self._new or self._path is None:
            return
        machines = _read(self._path)  # what two processes write at the same moment is lost for one of them
        tasks = {**machines.pop(self._machine, {}), **self._new}
        machines[self._machine] = dict(list(tasks.items())[-MAX_TASKS:])
        recent = dict(list(machines.items())[-MAX_MACHINES:])
        records = {name: {key: entry._asdict() for key, entry in entries.items()} for name, entries in recent.items()}
        text = json.dumps({"version": FORMAT_VERSION, "machines": records}, indent=1)
        try:
            make_folder(self._path.parent)
            write_atomic(self._path, [text.encode()], durable=False)
        except DarkpyError as error:
            message = f"{error.message}; kernels are measured again at each load (--tune off does not measure)"
            warnings.warn(message, DarkpyWarning, stacklevel=2)
        self._measurements.update(self._new)
        self._new.clear()


def describe_setup() -> str:
    """Return all that a measurement depends on besides the task: processor, instructions, torch and threads."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA")
    instructions = f"{torch.backends.cpu.get_cpu_capability()}{f' {limit}' if limit else ''}"
    return f"{cpu_name()}, {instructions}, torch {torch.__version__}, {torch.get_num_threads()} threads"[
        :MAX_TEXT_LENGTH
    ]


def _cache_path() -> Path | None:
    """Return the path of the file, None for a user without a home."""
    try:
        folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(folder) / "darkpy" / "kernels.json"


def _read(path: Path | None) -> dict[str, dict[str, Measurement]]:
    """Return the measurements by machine and key; nothing if the file is absent, damaged or of another version."""
    if path is None:
        return {}
    try:
        with open_regular(path) as stream:
            data = stream.read(MAX_CACHE_BYTES + 1)
        content = json.loads(data) if len(data) <= MAX_CACHE_BYTES else None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or content.get("version") != FORMAT_VERSION:
        return {}
    machines = _text_items(content.get("machines"), MAX_MACHINES)
    return {
        name: {key: entry for key, record in _text_items(tasks, MAX_TASKS) if (entry := _measurement(record))}
        for name, tasks in machines
    }


def _measurement(record: Any) -> Measurement | None:
    """Return a record as a measurement, None if it is none."""
    if not isinstance(record, dict) or not isinstance(kernel := record.get("kernel"), str):
        return None
    times = dict(_text_items(record.get("ms"), MAX_KERNELS))
    is_valid = all(type(value) in (int, float) and math.isfinite(value) and value >= 0 for value in times.values())
    return Measurement(kernel, {name: float(value) for name, value in times.items()}) if is_valid else None


def _text_items(mapping: Any, limit: int) -> list[tuple[str, Any]]:
    """Return at most `limit` items of a JSON object whose keys are short; none for anything else."""
    items = mapping.items() if isinstance(mapping, dict) else ()
    return [(key, value) for key, value in items if len(key) <= MAX_TEXT_LENGTH][:limit]
