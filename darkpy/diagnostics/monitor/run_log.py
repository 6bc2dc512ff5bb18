"""A run's log beside its checkpoints: `BASE.health.jsonl`, one line of JSON for each thing that was seen.

A line has a `kind`. `run` starts or continues a run: the cfg, its [net], the layers. `update` describes an update, and
every layer where the layers were inspected; `map` has the mean average precision after one, `finding` a problem.
Lines are only ever added, each with one call: a run that is killed leaves whole lines, except perhaps the last.
Non-finite numbers are "nan", "inf" or "-inf", because JSON has none; null is a layer without this figure.

Writer of the log of a run, line by line.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.files import open_regular
from darkpy.finding import CfgEdit, Finding, Location, Remedy, printable
from darkpy.training.reports import UpdateReport

LOG_FORMAT = 1
LOG_SUFFIX = ".health.jsonl"
MAX_LINE_BYTES = 1 << 24
"""Longest line that is parsed; a layer takes some 100 bytes of it."""
MAX_INT = 1 << 62
"""Largest count in a log: TensorBoard's and NumPy's integers have 64 bits."""


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
    """The mean average precision, 0 to 1, that -map found after an update; or another metric of that `name`.

    ema: that of the averaged weights, NaN without them.
    """

    batch_num: int
    mean: float
    ema: float = math.nan
    name: str = "mAP"


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
    """Raises: DarkpyError when the file cannot be read or is not a log of a run."""
    reader = LogReader(path)
    reader.read_new(is_growing=False)
    return reader.log()


class LogReader:
    """Reads a log, also while a run adds to it.

    lines: number of those that were read. start: position in the file from which to read.
    most: thin out the updates when there are twice as many, which keeps the extremes of the loss; None keeps all.
    """

    def __init__(self, path: Path, *, start: int = 0, most: int | None = None) -> None:
        self.path, self._position, self._most = path, start, most
        self.lines = self._torn = 0
        self._starts: list[LoggedRun] = []
        self._updates: dict[int, UpdateReport] = {}
        self._maps: dict[int, LoggedMap] = {}
        self._refused: list[UpdateReport] = []
        self._findings: list[Finding] = []

    def read_new(self, *, is_growing: bool = True) -> None:
        """Read the lines since the last time; of a log that grows, an incomplete last line is left for the next time.

        Raises: DarkpyError when the file cannot be read or is not a log of a run.
        """
        try:
            with open_regular(self.path) as stream:
                stream.seek(self._position)
                for line in iter(lambda: stream.readline(MAX_LINE_BYTES), b""):
                    if is_growing and not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
                        break
                    self._position += len(line)
                    self.lines += 1
                    self._add(line)
        except (OSError, ValueError) as error:
            raise DarkpyError(f"{self.path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
        while self._most is not None and len(self._updates) > 2 * self._most:
            thinned = thin_out(self._sorted_updates())
            if len(thinned) == len(self._updates):
                break
            self._updates = {update.batch_num: update for update in thinned}

    def log(self) -> RunLog:
        """Return what has been read. Raises: DarkpyError when the file is not a run's log."""
        if not self._starts:
            raise DarkpyError(f"{self.path}: is not a log of a run")
        return RunLog(
            path=self.path,
            run=self._starts[-1],
            starts=tuple(self._starts),
            updates=self._sorted_updates(),
            maps=tuple(self._maps[n] for n in sorted(self._maps)),
            refused=tuple(self._refused),
            findings=tuple(self._findings),
            torn=self._torn,
        )

    def _sorted_updates(self) -> tuple[UpdateReport, ...]:
        return tuple(self._updates[n] for n in sorted(self._updates))

    def _add(self, line: bytes) -> None:
        """Take in one line. Raises: DarkpyError when the first one is that of another file."""
        try:
            record = json.loads(line.decode("utf-8", errors="replace"))
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            self._torn += 1
            return
        if self.lines == 1 and (record.get("kind") != "run" or record.get("format") != LOG_FORMAT):
            raise DarkpyError(f"{self.path}: is not a log of a run, or one of another version of darkpy")
        parsed = _parse(record)
        if isinstance(parsed, LoggedRun):
            self._starts.append(parsed)
            # updates after the checkpoint from which the run continues are undone
            self._updates = {n: update for n, update in self._updates.items() if n <= parsed.batch_num}
            self._maps = {n: mean for n, mean in self._maps.items() if n <= parsed.batch_num}
        elif isinstance(parsed, UpdateReport) and parsed.refused:
            self._refused.append(parsed)
        elif isinstance(parsed, UpdateReport):
            self._updates[parsed.batch_num] = parsed
        elif isinstance(parsed, LoggedMap):
            self._maps[parsed.batch_num] = parsed
        elif isinstance(parsed, Finding):
            self._findings.append(parsed)
        else:
            self._torn += 1


THINNED_GROUP_UPDATES = 4
MAX_LOOKED_UPDATES = 500
"""Updates with figures of the layers that thinning keeps; a heat map has fewer columns."""


def thin_out(updates: Sequence[UpdateReport]) -> list[UpdateReport]:
    """Leave the smallest and the largest loss of each four updates, and of the layers' figures at most every other one.

    The last updates stay. The time of those that go is added to those that stay.
    """
    looked = sum(bool(update.layers) for update in updates)
    thinned: list[UpdateReport] = []
    looks = 0
    for start in range(0, len(updates), THINNED_GROUP_UPDATES):
        group = updates[start : start + THINNED_GROUP_UPDATES]
        if start + THINNED_GROUP_UPDATES >= len(updates):
            thinned += group
            break
        by_loss = sorted(group, key=lambda update: update.loss if math.isfinite(update.loss) else math.inf)
        kept = {update.batch_num: update for update in (by_loss[0], by_loss[-1])}
        for update in group:
            if update.layers:
                looks += 1
                if looked <= MAX_LOOKED_UPDATES or looks % 2:
                    kept[update.batch_num] = update
                elif update.batch_num in kept:
                    kept[update.batch_num] = replace(update, layers={})
        seconds = sum(update.seconds for update in group) / len(kept)
        thinned += (replace(kept[n], seconds=seconds) for n in sorted(kept))
    return thinned


T = TypeVar("T", LoggedRun, UpdateReport, LoggedMap, LoggedLayer)


def _parse(record: dict[str, Any]) -> LoggedRun | UpdateReport | LoggedMap | Finding | None:
    """Parse a record; None if its kind is unknown or a field is missing."""
    try:
        if record["kind"] == "run":
            layers = tuple(_build(LoggedLayer, one) for one in record["layers"])
            if any(layer.index < 0 for layer in layers):
                raise ValueError("a layer's index is negative")
            return replace(_build(LoggedRun, record), layers=layers, net=_showable(dict(record["net"])))
        if record["kind"] == "update":
            rows = record.get("layers", {}).items()
            figures = {_str(name): [None if one is None else float(one) for one in row] for name, row in rows}
            return replace(_build(UpdateReport, record), layers=figures)
        if record["kind"] == "map":
            return _build(LoggedMap, record)
        batch_num, place, index = _int(record["batch_num"]), _str(record.get("place", "")), record.get("index")
        location = Location.parse(place) if place else Location(index=None if index is None else _int(index))
        return Finding(
            name=_str(record["name"]),
            message=_str(record["message"]).removeprefix(message_start(place, batch_num)),
            location=location,
            hints=tuple(map(_str, record.get("hints", ()))),
            batch_num=batch_num,
            evidence=_str(record.get("evidence", "")),
            paths=tuple(map(_str, record.get("paths", ()))),
            remedies=tuple(map(_remedy, record.get("remedies", ()))),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return None


def _int(value: Any) -> int:
    """Convert to an integer. Raises: TypeError, ValueError, OverflowError for anything that is not a count."""
    number = int(value)
    if abs(number) > MAX_INT:
        raise OverflowError("beyond 64 bits")
    return number


def _str(value: Any) -> str:
    """Convert to text that can be shown and encoded: JSON may hold lone surrogates."""
    return printable(value, lines=True)


def _showable(value: Any) -> Any:
    """Return a JSON value with all its texts as `_str` makes them."""
    if isinstance(value, dict):
        return {_str(key): _showable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_showable(inner) for inner in value]
    return _str(value) if isinstance(value, str) else value


def _remedy(record: Mapping[str, Any]) -> Remedy:
    """Raises: KeyError, TypeError, ValueError when a field is missing or of another type."""
    edits = tuple(
        CfgEdit(_str(edit["key"]), _str(edit["value"]), None if edit["layer"] is None else _int(edit["layer"]))
        for edit in record["edits"]
    )
    command = tuple(map(_str, record["command"]))
    return Remedy(edits=edits, command=command, reason=_str(record["reason"]), text=_str(record["text"]))


def message_start(place: str, batch_num: int) -> str:
    """Begin of a finding's message in the log, which names the layer and the update once more."""
    return f"{place}{', ' if place else ''}update {batch_num}: "


_FIELD_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {"int": _int, "float": float, "str": _str, "bool": bool}


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


SIGNIFICANT_DIGITS = 6
"""Significant digits of a number in the log; beyond a million, where the time is, there are 12."""
_UPDATE_FIELDS = ("batch_num", "seen", "images", "loss", "average", "rate", "norm", "seconds", "waited")


class LogWriter:
    """Adds lines to a log. A line that cannot be written is lost, with one warning: the training continues.

    Raises: DarkpyError when the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._has_failed = self._is_torn = False
        try:
            self._stream = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            if path.stat().st_size:
                with path.open("rb") as stream:
                    stream.seek(-1, os.SEEK_END)
                    if stream.read(1) != b"\n":  # the last line is incomplete
                        os.write(self._stream, b"\n")
        except OSError as error:
            raise DarkpyError(f"{path}: cannot be written: {error.strerror or error}") from error

    def __del__(self) -> None:
        if stream := self.__dict__.pop("_stream", None):
            os.close(stream)

    def begin(self, run: LoggedRun) -> None:
        self._add("run", {"format": LOG_FORMAT, **asdict(run)})

    def update(self, update: UpdateReport) -> None:
        # a run has many of these lines: they are formatted by hand, and default values are left out
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
        self._add("map", {name: value for name, value in asdict(one).items() if value == value})  # NaN is left out

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
            "remedies": [asdict(remedy) for remedy in finding.remedies],
        }
        self._add("finding", record)

    def _add(self, kind: str, record: Mapping[str, Any]) -> None:
        self._write(json.dumps({"kind": kind, **_plain(record)}, allow_nan=False, separators=(",", ":")))

    def _write(self, line: str) -> None:
        """Append a line with one system call, so that it is complete."""
        # a line cut off by a full disk must not corrupt the next one
        data = f"{chr(10) * self._is_torn}{line}\n".encode()
        try:
            self._is_torn = os.write(self._stream, data) < len(data)
        except OSError as error:
            if not self._has_failed:
                reason = error.strerror or error
                message = f"{self.path}: cannot be written, the training continues without it: {reason}"
                warnings.warn(message, DarkpyWarning, stacklevel=3)
            self._has_failed = True


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
