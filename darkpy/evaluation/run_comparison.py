"""Comparison of two evaluations, from the JSON of their reports: metrics, classes, and images that changed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkpy.errors import DarkpyError
from darkpy.evaluation.detector_report import RECORD_VERSION
from darkpy.files import read_text
from darkpy.finding import count_text

MAX_RECORD_BYTES = 1 << 28
MAX_LISTED_CHANGES = 20
_RECORD_HINT = "darkpy evaluate CFG DATA WEIGHTS --report DIR writes one"
_DETECTOR_METRICS = (
    ("darknet's mAP", ("darknet", "mean_average_precision")),
    ("COCO's AP", ("coco", "AP")),
    ("COCO's AP50", ("coco", "AP50")),
    ("COCO's AP75", ("coco", "AP75")),
    ("COCO's AP, small", ("coco", "AP_small")),
    ("COCO's AP, medium", ("coco", "AP_medium")),
    ("COCO's AP, large", ("coco", "AP_large")),
    ("precision", ("darknet", "precision")),
    ("recall", ("darknet", "recall")),
    ("F1", ("darknet", "f1")),
    ("best F1", ("best", "f1")),
    ("ECE", ("calibration", "ece")),
)
_CLASSIFIER_METRICS = (("top-1", ("top_1",)), ("top-k", ("top_k",)), ("ECE", ("calibration", "ece")))


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """Parts of a report's JSON that are compared.

    metrics: None where one is not defined. classes: AP, or the recall of a classifier, of each class with objects.
    settings: what must agree for a fair comparison. errors: number of errors on each image, by its path.
    """

    path: str
    kind: str
    weights: str
    images: int
    metrics: Mapping[str, float | None]
    classes: Mapping[str, float]
    settings: Mapping[str, object]
    errors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ComparedValue:
    """A metric, or the AP of a class, in both runs."""

    name: str
    a: float | None
    b: float | None
    lower_is_better: bool = False

    @property
    def change(self) -> float | None:
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True, slots=True)
class ChangedImage:
    """Errors on an image in both runs: missed objects and false positives; 0 or 1 of a classifier."""

    path: str
    a: int
    b: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunComparison:
    """Comparison of two evaluations.

    classes: the largest loss first; classes without objects in one of the runs come last.
    worse, better: images with more, and with fewer errors in B, the largest change first.
    notes: differences between the runs that make the numbers hard to compare.
    """

    a: EvaluationRecord
    b: EvaluationRecord
    metrics: tuple[ComparedValue, ...]
    classes: tuple[ComparedValue, ...]
    worse: tuple[ChangedImage, ...]
    better: tuple[ChangedImage, ...]
    compared_images: int
    notes: tuple[str, ...]


def read_record(path: Path, record_file: str) -> EvaluationRecord:
    """Read the JSON of a report, from its folder or from the file itself.

    record_file: its name in the folder.
    Raises: DarkpyError when it cannot be read, or is not a report.
    """
    file = path / record_file if path.is_dir() else path
    try:
        record = json.loads(read_text(file, max_bytes=MAX_RECORD_BYTES, hint=_RECORD_HINT))
    except (ValueError, RecursionError) as error:
        raise DarkpyError(f"{file}: is not JSON: {error}", hint=_RECORD_HINT) from error
    if not isinstance(record, dict) or record.get("format") != "darkpy evaluation":
        raise DarkpyError(f"{file}: is not a report of darkpy evaluate", hint=_RECORD_HINT)
    if record.get("format_version") != RECORD_VERSION or record.get("kind") not in ("detector", "classifier"):
        raise DarkpyError(f"{file}: was written by another version of darkpy", hint=_RECORD_HINT)
    is_detector = record["kind"] == "detector"
    metrics = _DETECTOR_METRICS if is_detector else _CLASSIFIER_METRICS
    settings = (("darknet", "thresh"), ("darknet", "iou_thresh"), ("darknet", "points")) if is_detector else (("k",),)
    images = _number(record.get("images"))
    return EvaluationRecord(
        path=str(path),
        kind=record["kind"],
        weights=str(record.get("weights", "")),
        images=int(images or 0),
        metrics={name: _number(_lookup(record, keys)) for name, keys in metrics},
        classes=dict(_class_values(record.get("classes"), "average_precision" if is_detector else "recall")),
        settings={keys[-1]: _lookup(record, keys) for keys in settings},
        errors=_image_errors(record.get("per_image"), is_detector=is_detector),
    )


def compare_runs(a: EvaluationRecord, b: EvaluationRecord) -> RunComparison:
    """Compare two evaluations. Raises: DarkpyError for a detector and a classifier."""
    if a.kind != b.kind:
        raise DarkpyError(f"{a.path} is of a {a.kind}, {b.path} of a {b.kind}", hint="compare two runs of one kind")
    names = dict.fromkeys((*a.classes, *b.classes))
    classes = [ComparedValue(name, a.classes.get(name), b.classes.get(name)) for name in names]
    changes = [ChangedImage(path, errors, b.errors[path]) for path, errors in a.errors.items() if path in b.errors]
    changed = sorted((image for image in changes if image.a != image.b), key=lambda image: -abs(image.b - image.a))
    notes = [
        f"{key} is {value} in A and {b.settings[key]} in B"
        for key, value in a.settings.items()
        if value != b.settings[key]
    ]
    if a.images != b.images or (a.errors and b.errors and a.errors.keys() != b.errors.keys()):
        common = f", {len(changes)} of them the same" if changes else ""
        notes.append(f"the runs have different images: {a.images} and {b.images}{common}")
    if a.classes.keys() != b.classes.keys():
        both = len(a.classes.keys() & b.classes.keys())
        notes.append(f"the runs have different classes with objects: {both} in common")
    return RunComparison(
        a=a,
        b=b,
        metrics=tuple(ComparedValue(name, value, b.metrics[name], name == "ECE") for name, value in a.metrics.items()),
        classes=tuple(sorted(classes, key=lambda row: (row.change is None, row.change or 0.0, row.name))),
        worse=tuple(image for image in changed if image.b > image.a),
        better=tuple(image for image in changed if image.b < image.a),
        compared_images=len(changes),
        notes=tuple(notes),
    )


def comparison_findings(comparison: RunComparison) -> list[str]:
    """The main changes in words."""
    main = comparison.metrics[0]
    texts = []
    if main.change is not None:
        verdict = "as good as A" if abs(main.change) < 5e-5 else "better than A" if main.change > 0 else "worse than A"
        texts.append(f"B is {verdict}: {main.name} {points_text(main.change)} points")
    known = [row for row in comparison.classes if row.change is not None]
    for text, rows in (
        ("lost most", [row for row in known if (row.change or 0) < 0][:3]),
        ("gained most", [row for row in reversed(known) if (row.change or 0) > 0][:3]),
    ):
        if rows and len(known) > 1:
            texts.append(f"{text}: {', '.join(f'{row.name} ({points_text(row.change)})' for row in rows)}")
    if comparison.compared_images:
        same = comparison.compared_images - len(comparison.worse) - len(comparison.better)
        changes = f"{len(comparison.better)} better, {len(comparison.worse)} worse, {same} unchanged"
        texts.append(f"{count_text(comparison.compared_images, 'image')}: {changes}")
    return [*texts, *comparison.notes]


def comparison_lines(comparison: RunComparison) -> Iterator[str]:
    """Tables for the console."""
    yield f"A: {comparison.a.path} ({comparison.a.weights})"
    yield f"B: {comparison.b.path} ({comparison.b.weights})"
    for title, rows in (("metric", comparison.metrics), ("class", comparison.classes)):
        width = max((len(row.name) for row in rows), default=5)
        yield ""
        yield f"{title:{width}} {'A':>10} {'B':>10} {'B - A':>8}"
        for row in rows:
            if row.a is not None or row.b is not None:
                yield f"{row.name:{width}} {value_text(row.a):>10} {value_text(row.b):>10} {points_text(row.change):>8}"
    for title, images in (("worse in B", comparison.worse), ("better in B", comparison.better)):
        if images:
            yield ""
            yield f"{title}: {count_text(len(images), 'image')}; errors in A and B"
            for image in images[:MAX_LISTED_CHANGES]:
                yield f"  {image.a:>4} {image.b:>4}  {image.path}"
    yield ""
    yield from comparison_findings(comparison)


def comparison_record(comparison: RunComparison) -> dict[str, Any]:
    """The JSON object of `compare-runs`."""

    def values(rows: Sequence[ComparedValue]) -> list[dict[str, Any]]:
        return [{"name": row.name, "a": row.a, "b": row.b, "change": row.change} for row in rows]

    def images(changed: Sequence[ChangedImage]) -> list[dict[str, Any]]:
        return [{"image": image.path, "errors_a": image.a, "errors_b": image.b} for image in changed]

    return {
        "a": {"path": comparison.a.path, "weights": comparison.a.weights, "images": comparison.a.images},
        "b": {"path": comparison.b.path, "weights": comparison.b.weights, "images": comparison.b.images},
        "findings": comparison_findings(comparison),
        "metrics": values(comparison.metrics),
        "classes": values(comparison.classes),
        "compared_images": comparison.compared_images,
        "worse": images(comparison.worse),
        "better": images(comparison.better),
    }


def value_text(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def points_text(change: float | None) -> str:
    """Change in percentage points, with its sign."""
    return "-" if change is None else f"{100 * change:+.2f}"


def _number(value: object) -> float | None:
    """The value if it is a finite number; JSON of others may hold anything."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _lookup(record: object, keys: Sequence[str]) -> object:
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def _class_values(rows: object, key: str) -> Iterator[tuple[str, float]]:
    """Name and value of each class; a name that repeats gets the number of its class."""
    seen: set[str] = set()
    for index, row in enumerate(rows if isinstance(rows, list) else ()):
        value = _number(_lookup(row, (key,)))
        if value is not None:
            name = str(row.get("name"))
            name = f"{name} ({index})" if name in seen else name
            seen.add(name)
            yield name, value


def _image_errors(columns: object, *, is_detector: bool) -> dict[str, int]:
    """Number of errors on each image; empty if the JSON has none."""
    keys = ("path", "truths", "tp", "fp") if is_detector else ("path", "true", "best", "rank")
    lists = [_lookup(columns, (key,)) for key in keys]
    if not all(isinstance(column, list) for column in lists):
        return {}
    errors: dict[str, int] = {}
    for path, first, second, third in zip(*lists, strict=False):
        if is_detector:
            truths, tp, fp = (_number(value) for value in (first, second, third))
            count = int((truths or 0) - (tp or 0) + (fp or 0))
        else:
            count = int(first is None or first != second)
        errors.setdefault(str(path), count)
    return errors
