"""File of the times of kernels on this machine: $XDG_CACHE_HOME/darkpy/kernels.json, by default in ~/.cache.

Several processes may use it at once. Anything unexpected in it is ignored, and costs only the time to measure again.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.files import is_file, is_true, make_folder, open_regular, write_atomic
from darkpy.process import cpu_name

FORMAT_VERSION = 5
MAX_CACHE_BYTES = 1 << 20
MAX_MACHINES = 16
MAX_TASKS = 2048
MAX_TEXT_LENGTH = 200
MAX_KERNELS = 32


KernelTimes = Mapping[str, float | None]
"""Milliseconds by kernel, None for one that cannot compute the convolution."""


class KernelCache:
    """Times by the key of a task, for this machine, software and number of threads."""

    def __init__(self) -> None:
        self._path, self._machine = _cache_path(), describe_setup()
        self._times = _read(self._path).get(self._machine, {})
        self._new: dict[str, KernelTimes] = {}

    def get(self, key: str) -> KernelTimes | None:
        return self._new.get(key) or self._times.get(key)

    def put(self, key: str, times: KernelTimes) -> None:
        self._new[key] = times

    def save(self) -> None:
        """Write new times, merged with those that other processes have written since; warn if that fails."""
        if not self._new or self._path is None:
            return
        machines = _read(self._path)  # if two processes write at the same moment, one of the writes is lost
        tasks = {**machines.pop(self._machine, {}), **self._new}
        machines[self._machine] = dict(list(tasks.items())[-MAX_TASKS:])
        recent = dict(list(machines.items())[-MAX_MACHINES:])
        text = json.dumps({"version": FORMAT_VERSION, "machines": recent}, indent=1)
        try:
            if is_true(self._path.exists) and not is_file(self._path):  # a write to a pipe would wait for a reader
                raise DarkpyError(f"{self._path}: is not a regular file")
            make_folder(self._path.parent)
            write_atomic(self._path, [text.encode()], durable=False, replace_input=True)
        except DarkpyError as error:
            message = f"{error.message}; kernels are measured again at each load (--tune off does not measure)"
            warnings.warn(message, DarkpyWarning, stacklevel=2)
        self._times.update(self._new)
        self._new.clear()


def describe_setup() -> str:
    """Describe the setup that a measurement depends on: processor, instructions, torch and threads."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA")
    instructions = f"{torch.backends.cpu.get_cpu_capability()}{f' {limit}' if limit else ''}"
    return f"{cpu_name()}, {instructions}, torch {torch.__version__}, {torch.get_num_threads()} threads"[
        :MAX_TEXT_LENGTH
    ]


def _cache_path() -> Path | None:
    """Return the path of the file, None for a user without a home. A relative XDG_CACHE_HOME is ignored."""
    try:
        named = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (named if named.is_absolute() else Path.home() / ".cache") / "darkpy" / "kernels.json"
    except RuntimeError:
        return None


def _read(path: Path | None) -> dict[str, dict[str, KernelTimes]]:
    """Return the times by machine and key; nothing if the file is absent, damaged or of another version."""
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
        name: {key: times for key, record in _text_items(tasks, MAX_TASKS) if (times := _times(record))}
        for name, tasks in machines
    }


def _times(record: Any) -> dict[str, float | None]:
    """Return a record as times; an empty dict if a value is invalid."""
    times = dict(_text_items(record, MAX_KERNELS))
    values = [value for value in times.values() if value is not None]
    is_valid = all(type(value) in (int, float) and 0 <= value <= sys.float_info.max for value in values)
    return times if is_valid else {}


def _text_items(mapping: Any, limit: int) -> list[tuple[str, Any]]:
    """Return at most `limit` items of a JSON object whose keys are short; an empty list for anything else."""
    items = mapping.items() if isinstance(mapping, dict) else ()
    return [(key, value) for key, value in items if len(key) <= MAX_TEXT_LENGTH][:limit]
