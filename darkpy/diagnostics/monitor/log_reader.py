"""A run's log beside its checkpoints: `BASE.health.jsonl`, one line of JSON for each thing that was seen.

A line has a `kind`. `run` begins a run, or its going on: the cfg, its [net], the layers. `update` tells of one update,
and of every layer where the layers were looked at; `map` of the mean average precision after one, `finding` of what is
wrong. Lines are only ever added, each with one call: a run that is killed leaves whole lines, except perhaps the last.
Non-finite numbers are "nan", "inf" or "-inf", because JSON has none; null is a layer without this figure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from darkpy.errors import DarkpyError
from darkpy.finding import Finding, Location
from darkpy.training.reports import UpdateReport

LOG_FORMAT = 1
LOG_SUFFIX = ".health.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedLayer:
    """A layer of the cfg; `place` is how messages name it, `learns` whether it has weights."""

    index: int
    type: str
    line: int
    place: str
    learns: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedRun:
    """A run that begins, or goes on after `seen` images. net: the keys of [net] that a report needs.

    time: seconds since 1970.
    """

    cfg: str
    dialect: str
    time: float
    batch_num: int
    seen: int
    net: Mapping[str, Any]
    layers: tuple[LoggedLayer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedMap:
    """The mean average precision, 0 to 1, that -map found after an update."""

    batch_num: int
    mean: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLog:
    """Contents of a log: the last start of the run, its updates and validations in order, and all findings.

    A run that went on from a checkpoint made some updates again: the last time counts.
    refused: updates that were not applied. torn: lines that could not be read.
    """

    path: Path
    run: LoggedRun
    starts: tuple[LoggedRun, ...]
    updates: tuple[UpdateReport, ...]
    maps: tuple[LoggedMap, ...]
    refused: tuple[UpdateReport, ...]
    findings: tuple[Finding, ...]
    torn: int = 0


def log_path(folder: Path, base: str) -> Path:
    """Path of the log of a run whose checkpoints are called `base`."""
    return folder / f"{base}{LOG_SUFFIX}"


def find_log(run: Path) -> Path:
    """The log of a run: the file itself, or the newest in a folder of checkpoints.

    Raises: DarkpyError when there is none.
    """
    try:
        found = sorted(run.glob(f"*{LOG_SUFFIX}"), key=lambda path: path.stat().st_mtime) if run.is_dir() else [run]
    except OSError as error:
        raise DarkpyError(f"{run}: cannot be read: {error.strerror or error}") from error
    if not found or not found[-1].is_file():
        raise DarkpyError(
            f"{run}: holds no log of a run", hint=f"name the backup folder of a training, or its BASE{LOG_SUFFIX}"
        )
    return found[-1]


def read_log(path: Path) -> RunLog:
    """Raises: DarkpyError when the file cannot be read or is no log of a run."""
    starts: list[LoggedRun] = []
    updates: dict[int, UpdateReport] = {}
    maps: dict[int, LoggedMap] = {}
    refused: list[UpdateReport] = []
    findings: list[Finding] = []
    torn = 0
    for number, record in _records(path):
        if record is None:
            torn += 1
        elif number == 1 and (record.get("kind") != "run" or record.get("format") != LOG_FORMAT):
            raise DarkpyError(f"{path}: is no log of a run, or one of another version of darkpy")
        elif isinstance(one := _parse(record), LoggedRun):
            starts.append(one)
            # what came after the checkpoint from which it goes on has not been
            updates = {n: update for n, update in updates.items() if n <= one.batch_num}
            maps = {n: found for n, found in maps.items() if n <= one.batch_num}
        elif isinstance(one, UpdateReport) and one.refused:
            refused.append(one)
        elif isinstance(one, UpdateReport):
            updates[one.batch_num] = one
        elif isinstance(one, LoggedMap):
            maps[one.batch_num] = one
        elif isinstance(one, Finding):
            findings.append(one)
        else:
            torn += 1
    if not starts:
        raise DarkpyError(f"{path}: is no log of a run")
    return RunLog(
        path=path,
        run=starts[-1],
        starts=tuple(starts),
        updates=tuple(updates[n] for n in sorted(updates)),
        maps=tuple(maps[n] for n in sorted(maps)),
        refused=tuple(refused),
        findings=tuple(findings),
        torn=torn,
    )


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Line numbers and records; None for a line that is no record."""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    record = json.loads(line)
                except ValueError:
                    record = None
                yield number, record if isinstance(record, dict) else None
    except OSError as error:
        raise DarkpyError(f"{path}: cannot be read: {error.strerror or error}") from error


T = TypeVar("T", LoggedRun, UpdateReport, LoggedMap, LoggedLayer)


def _parse(record: dict[str, Any]) -> LoggedRun | UpdateReport | LoggedMap | Finding | None:
    """Parse a record; None if its kind is unknown or a field is missing."""
    try:
        if record["kind"] == "run":
            layers = tuple(_build(LoggedLayer, one) for one in record["layers"])
            return replace(_build(LoggedRun, record), layers=layers, net=dict(record["net"]))
        if record["kind"] == "update":
            rows = record.get("layers", {}).items()
            figures = {str(name): [None if one is None else float(one) for one in row] for name, row in rows}
            return replace(_build(UpdateReport, record), layers=figures)
        if record["kind"] == "map":
            return _build(LoggedMap, record)
        batch_num, place, index = int(record["batch_num"]), str(record.get("place", "")), record.get("index")
        location = Location.parse(place) if place else Location(index=None if index is None else int(index))
        return Finding(
            name=str(record["name"]),
            message=str(record["message"]).removeprefix(message_start(place, batch_num)),
            location=location,
            hints=tuple(map(str, record.get("hints", ()))),
            batch_num=batch_num,
            evidence=str(record.get("evidence", "")),
            paths=tuple(map(str, record.get("paths", ()))),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def message_start(place: str, batch_num: int) -> str:
    """Begin of a finding's message in the log, which names the layer and the update once more."""
    return f"{place}{', ' if place else ''}update {batch_num}: "


_FIELD_CONVERTERS: Mapping[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


def _build(cls: type[T], record: Mapping[str, Any]) -> T:
    """Build a dataclass from the fields of a record that it has.

    Raises: TypeError, ValueError when a field is missing or of another type.
    """
    types = {name: str(field.type) for name, field in cls.__dataclass_fields__.items()}
    return cls(
        **{
            name: _FIELD_CONVERTERS.get(types[name], _as_it_is)(value)
            for name, value in record.items()
            if name in types
        }
    )


def _as_it_is(value: Any) -> Any:
    return value
