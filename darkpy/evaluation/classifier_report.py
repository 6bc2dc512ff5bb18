"""Report of a classifier's evaluation: accuracy, confused classes, calibration and the worst images.

I images, K classes.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from darkpy.evaluation.classify import Accuracy, Ranking
from darkpy.evaluation.detector_report import RECORD_VERSION, EvaluatedRun, Row, confusion_rows, record_rows, share
from darkpy.evaluation.error_analysis import MAX_LISTED_ERRORS, ConfusionCell
from darkpy.evaluation.error_findings import MIN_CALIBRATED, MIN_ECE, MIN_TRUTHS, evaluation_finding, listed, percent
from darkpy.evaluation.score_sweep import Calibration, calibrate
from darkpy.finding import Cause, Finding, count_text

MAX_CONFUSED_PAIRS = 3
MIN_RECALL_LOSS = 0.15
"""Difference to the top-1 accuracy from which a class is named as weak."""
MIN_ERROR_SHARE = 0.05
"""Share of the errors from which a pair of classes is named."""
UNREADABLE_NAME = "unreadable"


class ClassifierErrors:
    """Accumulate the classes of images: the true one, the best one with its probability, and the true one's rank.

    accuracy: gives the true class of an image, and counts it.
    """

    def __init__(self, accuracy: Accuracy) -> None:
        self.accuracy = accuracy
        self.paths: list[str] = []
        self.unreadable: list[str] = []
        self._true, self._best, self._rank, self._prob = array("q"), array("q"), array("q"), array("d")

    def add(self, ranking: Ranking) -> None:
        class_id = self.accuracy.add(ranking)
        self.paths.append(ranking.path)
        if ranking.error is not None:
            self.unreadable.append(ranking.path)
        self._true.append(-1 if class_id is None else class_id)
        self._best.append(ranking.class_ids[0] if ranking.class_ids else -1)
        self._prob.append(ranking.probs[0] if ranking.probs else 0.0)
        self._rank.append(ranking.class_ids.index(class_id) + 1 if class_id in ranking.class_ids else 0)

    def columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """True class and best class, or -1, the best one's probability, and the true one's rank from 1, or 0."""
        whole = (torch.tensor(column, dtype=torch.int64) for column in (self._true, self._best, self._rank))
        true_I, best_I, rank_I = whole
        return true_I, best_I, torch.tensor(self._prob, dtype=torch.float64), rank_I


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierReport:
    """Numbers of an evaluation. Images without a label count as wrong in top_1 and top_k, and nowhere else.

    truths_K, correct_K, given_K: images of a class, those recognized, and those taken for it.
    true_I, best_I, prob_I, rank_I: as `ClassifierErrors.columns`. worst: indices of wrong images.
    """

    run: EvaluatedRun
    names: tuple[str, ...]
    paths: tuple[str, ...]
    unreadable: tuple[str, ...]
    unlabeled: tuple[str, ...]
    top_1: float
    top_k: float
    k: int
    truths_K: Tensor
    correct_K: Tensor
    given_K: Tensor
    confusion: tuple[ConfusionCell, ...]
    calibration: Calibration
    true_I: Tensor
    best_I: Tensor
    prob_I: Tensor
    rank_I: Tensor
    worst: tuple[int, ...]


def make_classifier_report(
    run: EvaluatedRun, names: Sequence[str], errors: ClassifierErrors, top: int
) -> ClassifierReport:
    """Compute the numbers from what a run over all images has accumulated. top: k of the top-k accuracy."""
    true_I, best_I, prob_I, rank_I = errors.columns()
    is_judged_I = (true_I >= 0) & (best_I >= 0)
    is_correct_I = is_judged_I & (true_I == best_I)
    columns = len(names) + 1
    keys, counts = torch.unique((true_I * columns + best_I + 1)[true_I >= 0], return_counts=True)
    (wrong_N,) = torch.nonzero(is_judged_I & ~is_correct_I, as_tuple=True)
    worst_N = wrong_N[prob_I[wrong_N].argsort(descending=True, stable=True)][:MAX_LISTED_ERRORS]
    accuracy = errors.accuracy
    return ClassifierReport(
        run=run,
        names=tuple(names),
        paths=tuple(errors.paths),
        unreadable=tuple(errors.unreadable),
        unlabeled=tuple(accuracy.unlabeled),
        top_1=accuracy.top_1,
        top_k=accuracy.top_k,
        k=top,
        truths_K=torch.bincount(true_I[true_I >= 0], minlength=len(names)),
        correct_K=torch.bincount(true_I[is_correct_I], minlength=len(names)),
        given_K=torch.bincount(best_I[is_judged_I], minlength=len(names)),
        confusion=tuple(
            (key // columns, key % columns - 1, count)
            for key, count in zip(keys.tolist(), counts.tolist(), strict=True)
        ),
        calibration=calibrate(prob_I[is_judged_I], is_correct_I[is_judged_I]),
        true_I=true_I,
        best_I=best_I,
        prob_I=prob_I,
        rank_I=rank_I,
        worst=tuple(worst_N.tolist()),
    )


def class_accuracies(report: ClassifierReport) -> list[dict[str, Any]]:
    """Numbers of each class, as JSON objects and as rows of the table."""
    columns = (column_K.tolist() for column_K in (report.truths_K, report.correct_K, report.given_K))
    return [
        {
            "class_id": class_id,
            "name": name,
            "truths": truths,
            "correct": correct,
            "precision": share(correct, given),
            "recall": share(correct, truths),
            "f1": share(2 * correct, truths + given) if truths else None,
        }
        for class_id, (name, truths, correct, given) in enumerate(zip(report.names, *columns, strict=True))
    ]


def accuracy_lines(report: ClassifierReport) -> Iterator[str]:
    """Accuracy of a classifier: the classes that have images, then of all."""
    rows = [("class", "images", "correct", "precision", "recall")]
    for row in class_accuracies(report):
        if row["truths"]:
            counts = (str(row["truths"]), str(row["correct"]))
            rows.append((row["name"], *counts, percent(row["precision"], 2), percent(row["recall"], 2)))
    width = max(len(cells[0]) for cells in rows)
    for cells in rows:
        yield f"{cells[0]:{width}} {cells[1]:>8} {cells[2]:>8} {cells[3]:>10} {cells[4]:>10}"
    yield ""
    yield f"top-1 {percent(report.top_1, 2)}, top-{report.k} {percent(report.top_k, 2)} of {len(report.paths)} images"


def classifier_record(report: ClassifierReport, findings: Iterable[str]) -> dict[str, Any]:
    """The JSON object of a report. findings: as texts."""
    names = (*report.names, UNREADABLE_NAME)
    return {
        "format": "darkpy evaluation",
        "format_version": RECORD_VERSION,
        "kind": "classifier",
        **report.run._asdict(),
        "images": len(report.paths),
        "unreadable": list(report.unreadable),
        "unlabelled": list(report.unlabeled),
        "findings": list(findings),
        "top_1": report.top_1,
        "k": report.k,
        "top_k": report.top_k,
        "classes": class_accuracies(report),
        "confusion": [
            {"true": names[true_id], "detected": names[best_id], "count": count}
            for true_id, best_id, count in report.confusion
        ],
        "calibration": asdict(report.calibration),
        "per_image": {
            "path": list(report.paths),
            "true": [names[class_id] if class_id >= 0 else None for class_id in report.true_I.tolist()],
            "best": [names[class_id] if class_id >= 0 else None for class_id in report.best_I.tolist()],
            "prob": report.prob_I.tolist(),
            "rank": report.rank_I.tolist(),
        },
    }


def _class_rows(report: ClassifierReport) -> Iterator[Row]:
    return record_rows(class_accuracies(report))


def _confusion_rows(report: ClassifierReport) -> Iterator[Row]:
    return confusion_rows(report.confusion, (*report.names, UNREADABLE_NAME))


def _image_rows(report: ClassifierReport) -> Iterator[Row]:
    yield "image", "true", "best", "prob", "rank"
    names = (*report.names, "")
    columns = (column_I.tolist() for column_I in (report.true_I, report.best_I, report.prob_I, report.rank_I))
    for path, true_id, best_id, prob, rank in zip(report.paths, *columns, strict=True):
        yield path, names[true_id], names[best_id], prob, rank or ""


CLASSIFIER_TABLES: Mapping[str, Callable[[ClassifierReport], Iterator[Row]]] = {
    "classes.csv": _class_rows,
    "confusion.csv": _confusion_rows,
    "images.csv": _image_rows,
}
"""Rows of each CSV file, by its name; the first one has the titles."""


def find_classifier_causes(report: ClassifierReport) -> list[Finding]:
    """Findings of a classifier's report, the most important first."""
    images = len(report.paths)
    text = f"{percent(report.top_1)} of the images are recognized, {percent(report.top_k)} among the best {report.k}"
    findings = [evaluation_finding("accuracy", text)]
    findings += _on_confused_pairs(report)
    rows = [row for row in class_accuracies(report) if row["truths"]]
    weak = sorted((row["recall"], row["name"]) for row in rows if row["recall"] < report.top_1 - MIN_RECALL_LOSS)
    if weak:
        names = listed([f"{name} ({percent(recall)})" for recall, name in weak])
        text = f"Recall is far below the mean in {count_text(len(weak), 'class')}: {names}"
        findings.append(evaluation_finding("weak-classes", text, hard=True))
    calibration = report.calibration
    judged = sum(bin_.count for bin_ in calibration.bins)
    if (
        calibration.ece is not None
        and calibration.gap is not None
        and calibration.ece >= MIN_ECE
        and judged >= MIN_CALIBRATED
    ):
        kind = "too high" if calibration.gap > 0 else "too low"
        findings.append(evaluation_finding("calibration", f"Probabilities are {kind} (ECE {calibration.ece:.2f})"))
    rare = [row["name"] for row in rows if row["truths"] < MIN_TRUTHS]
    if rare:
        text = f"{count_text(len(rare), 'class')} with fewer than {MIN_TRUTHS} images, too few for certain numbers"
        findings.append(evaluation_finding("rare-classes", f"{text}: {listed(rare)}", cause=Cause.DATA))
    for name, text, paths in (
        ("unlabeled", "have no label in their path, and count as wrong", report.unlabeled),
        ("unreadable", "cannot be read, and count as wrong", report.unreadable),
    ):
        if paths:
            text = f"{len(paths)} of {count_text(images, 'image')} {text}; first: {paths[0]}"
            findings.append(evaluation_finding(name, text, hard=True, cause=Cause.DATA))
    return findings


def _on_confused_pairs(report: ClassifierReport) -> Iterator[Finding]:
    cells = [cell for cell in report.confusion if cell[0] != cell[1] and cell[1] >= 0]
    wrong = sum(count for _, _, count in cells)
    cells = sorted((cell for cell in cells if cell[2] >= max(2, MIN_ERROR_SHARE * wrong)), key=lambda cell: -cell[2])
    truths = report.truths_K.tolist()
    parts = [
        f"{report.names[true_id]} is taken for {report.names[best_id]} ({count} of {truths[true_id]})"
        for true_id, best_id, count in cells
    ]
    if parts:
        yield evaluation_finding("confused", listed(parts, MAX_CONFUSED_PAIRS, "; "), hard=True)
