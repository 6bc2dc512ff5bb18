"""Page of a classifier's evaluation: one HTML file with accuracy, confused classes and the worst images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from darkpy.diagnostics.report.error_tiles import ErrorTile, TileSheet
from darkpy.diagnostics.report.evaluation_charts import confusion_table
from darkpy.diagnostics.report.evaluation_page import (
    EVALUATION_CSS,
    MAX_LISTED_CLASSES,
    bar_cell,
    calibration_section,
    findings_list,
    page_header,
    table,
)
from darkpy.diagnostics.report.html_frame import html_page
from darkpy.evaluation.classifier_report import UNREADABLE_NAME, ClassifierReport, class_accuracies
from darkpy.evaluation.error_findings import percent
from darkpy.finding import Finding

MAX_LISTED_PAIRS = 12


def write_classifier_page(report: ClassifierReport, findings: Sequence[Finding]) -> str:
    """HTML page of a report."""
    tiles = []
    for index in report.worst:
        true_id, best_id = int(report.true_I[index]), int(report.best_I[index])
        rank = f"rank {int(report.rank_I[index])}" if report.rank_I[index] else f"not among the best {report.k}"
        title = f"{report.names[best_id]} {float(report.prob_I[index]):.2f}"
        tiles.append(ErrorTile(report.paths[index], (), title, f"is {report.names[true_id]}, {rank}"))
    names = (*report.names, UNREADABLE_NAME)
    wrong = sorted((cell for cell in report.confusion if cell[0] != cell[1]), key=lambda cell: -cell[2])
    rows = [
        [names[true_id], names[best_id], str(count), bar_cell(count / int(report.truths_K[true_id]))]
        for true_id, best_id, count in wrong[:MAX_LISTED_PAIRS]
    ]
    note = "<p class=muted>Rows: the true class. Columns: the class with the highest probability.</p>"
    pairs = (
        table(["class", "taken for", "images", "of the class"], rows, "The most frequent confusions.") if rows else ""
    )
    matrix = confusion_table(report.confusion, report.names, background=False)
    parts = [
        ("findings", "Findings", findings_list(findings)),
        ("confusion", "Confusion", f"{note}{matrix}{pairs}"),
        ("worst", "Wrong with the highest probability", TileSheet().html(tiles, "w") or "<p>None.</p>"),
        ("classes", "Classes", _accuracy_table(report)),
        ("calibration", "Calibration of the best class", calibration_section(report.calibration)),
    ]
    ece = report.calibration.ece
    facts = [
        ("top-1", percent(report.top_1, 2)),
        (f"top-{report.k}", percent(report.top_k, 2)),
        ("images", str(len(report.paths))),
        ("classes", str(len(report.names))),
        ("ECE", "-" if ece is None else f"{ece:.3f}"),
    ]
    title = f"{Path(report.run.weights).name}: evaluation"
    return html_page(title, page_header(report.run, facts), parts, EVALUATION_CSS)


def _accuracy_table(report: ClassifierReport) -> str:
    records = [row for row in class_accuracies(report) if row["truths"]]
    rows = [
        [row["name"], str(row["truths"]), bar_cell(row["recall"]), bar_cell(row["precision"]), f"{row['f1']:.3f}"]
        for row in sorted(records, key=lambda row: (row["recall"], row["name"]))[:MAX_LISTED_CLASSES]
    ]
    return table(["class", "images", "recall", "precision", "F1"], rows, "The lowest recall first.")
