"""Writer of the log of a run, line by line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from darkpy.diagnostics.monitor.log_reader import LOG_FORMAT, LoggedMap, LoggedRun, message_start
from darkpy.errors import DarkpyError
from darkpy.finding import Finding
from darkpy.training.reports import UpdateReport

SIGNIFICANT_DIGITS = 6
"""Significant digits of a number in the log; beyond a million, where the time is, there are 12."""
_UPDATE_FIELDS = ("batch_num", "seen", "images", "loss", "average", "rate", "norm", "seconds", "waited")


class LogWriter:
    """Adds lines to a log.

    Raises: DarkpyError when it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._stream = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            if path.stat().st_size:
                with path.open("rb") as stream:
                    stream.seek(-1, os.SEEK_END)
                    if stream.read(1) != b"\n":  # the last line is incomplete
                        os.write(self._stream, b"\n")
        except OSError as error:
            raise _unwritable(path, error) from error

    def __del__(self) -> None:
        if stream := self.__dict__.pop("_stream", None):
            os.close(stream)

    def begin(self, run: LoggedRun) -> None:
        self._add("run", {"format": LOG_FORMAT, **asdict(run)})

    def update(self, update: UpdateReport) -> None:
        # a run has many of these lines: they are made by hand, and what is as usual is left out
        numbers = [f'"{name}":{_text(getattr(update, name))}' for name in _UPDATE_FIELDS]
        if not math.isnan(update.largest):
            numbers.append(f'"largest":{_text(update.largest)}')
        if update.refused:
            numbers.append('"refused":true')
        if update.layers:
            rows = (f'"{name}":[{",".join(map(_text, row))}]' for name, row in update.layers.items())
            numbers.append(f'"layers":{{{",".join(rows)}}}')
        self._write(f'{{"kind":"update",{",".join(numbers)}}}')

    def map(self, one: LoggedMap) -> None:
        self._add("map", asdict(one))

    def finding(self, finding: Finding) -> None:
        record = {
            "name": finding.name,
            "batch_num": finding.batch_num,
            "message": message_start(finding.place, finding.batch_num) + finding.message,
            "index": finding.location.index,
            "place": finding.place,
            "hints": finding.hints,
            "evidence": finding.evidence,
            "paths": finding.paths,
        }
        self._add("finding", record)

    def _add(self, kind: str, record: Mapping[str, Any]) -> None:
        self._write(json.dumps({"kind": kind, **_plain(record)}, allow_nan=False, separators=(",", ":")))

    def _write(self, line: str) -> None:
        """Append a line with one system call, so that it is complete."""
        try:
            os.write(self._stream, f"{line}\n".encode())
        except OSError as error:
            raise _unwritable(self.path, error) from error


def _plain(value: Any) -> Any:
    """Convert to JSON values; numbers get SIGNIFICANT_DIGITS digits, non-finite ones become strings."""
    if isinstance(value, float):
        return (
            float(f"{value:.{SIGNIFICANT_DIGITS if abs(value) < 1e6 else 12}g}") if math.isfinite(value) else str(value)
        )
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _text(number: float | None) -> str:
    """Format a number as JSON with DIGITS significant digits; non-finite ones become strings."""
    if number is None:
        return "null"
    if isinstance(number, int):
        return str(number)
    return f"{number:.{SIGNIFICANT_DIGITS}g}" if math.isfinite(number) else f'"{number}"'


def _unwritable(path: Path, error: OSError) -> DarkpyError:
    return DarkpyError(f"{path}: cannot be written: {error.strerror or error}")
