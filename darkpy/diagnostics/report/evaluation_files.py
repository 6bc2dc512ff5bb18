"""Folder of an evaluation's report: a page, all numbers as JSON, and tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from darkpy.diagnostics.report.classifier_page import write_classifier_page
from darkpy.diagnostics.report.evaluation_page import write_evaluation_page
from darkpy.evaluation.classifier_report import (
    CLASSIFIER_TABLES,
    ClassifierReport,
    classifier_record,
    find_classifier_causes,
)
from darkpy.evaluation.detector_report import DETECTOR_TABLES, DetectorReport, detector_record
from darkpy.evaluation.error_findings import find_causes
from darkpy.evaluation.ground_truth import GroundTruth

PAGE_FILE, RECORD_FILE = "evaluation.html", "evaluation.json"
REPORT_FILES = (PAGE_FILE, RECORD_FILE, "classes.csv", "confusion.csv", "curves.csv", "images.csv")
"""Names of all files that a report may hold."""

Files = Mapping[str, Iterable[bytes]]


def detector_files(report: DetectorReport, truth: GroundTruth) -> Files:
    """Name and content of each file of a detector's report."""
    findings = find_causes(report)
    page = write_evaluation_page(report, truth, findings)
    return as_files(
        page,
        detector_record(report, [finding.message for finding in findings]),
        {name: rows(report) for name, rows in DETECTOR_TABLES.items()},
    )


def classifier_files(report: ClassifierReport) -> Files:
    """Name and content of each file of a classifier's report."""
    findings = find_classifier_causes(report)
    page = write_classifier_page(report, findings)
    return as_files(
        page,
        classifier_record(report, [finding.message for finding in findings]),
        {name: rows(report) for name, rows in CLASSIFIER_TABLES.items()},
    )


def as_files(page: str, record: Mapping[str, Any], tables: Mapping[str, Iterable[Sequence[object]]]) -> Files:
    """Encode a page, a JSON object and tables; bytes of names that are no UTF-8 become question marks."""
    record_text = json.dumps(record, allow_nan=False, indent=1)
    return {
        PAGE_FILE: [page.encode("utf-8", errors="replace")],
        RECORD_FILE: [record_text.encode(), b"\n"],
        **{name: _encode_rows(rows) for name, rows in tables.items()},
    }


def _encode_rows(rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """Encode a table row by row."""
    for row in rows:
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerow(row)
        yield stream.getvalue().encode("utf-8", errors="replace")
