"""Pages of evaluations: one file each, whatever the number of classes, with all names escaped."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from darkpy.diagnostics.report import error_tiles
from darkpy.diagnostics.report.classifier_page import write_classifier_page
from darkpy.diagnostics.report.comparison_page import write_comparison_page
from darkpy.diagnostics.report.error_tiles import ErrorTile, TileSheet, visible_part
from darkpy.diagnostics.report.evaluation_files import PAGE_FILE, RECORD_FILE, detector_files
from darkpy.diagnostics.report.evaluation_page import split_folder, table
from darkpy.evaluation.average_precision import AveragePrecision
from darkpy.evaluation.classifier_report import ClassifierErrors, find_classifier_causes, make_classifier_report
from darkpy.evaluation.classify import Accuracy, Ranking
from darkpy.evaluation.coco import coco_precision
from darkpy.evaluation.detect import ImageStatus
from darkpy.evaluation.detection_store import DetectionStore
from darkpy.evaluation.detector_report import DetectorReport, EvaluatedRun, make_detector_report
from darkpy.evaluation.error_analysis import ErrorAnalysis
from darkpy.evaluation.error_findings import find_causes
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.evaluation.run_comparison import compare_runs, read_record
from darkpy.ops.boxes import Detections

EVALUATED = EvaluatedRun("my.cfg", "my.weights", "my.data", "0")
OUTSIDE = re.compile(r"(?:src|href)=\"(?!data:|#)|url\(|@import|<script", re.IGNORECASE)
IMAGES = 12


class _Tags(HTMLParser):
    """Checks that every tag is closed, and collects the identifiers and the targets of links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.identifiers: list[str] = []
        self.targets: set[str] = set()
        self.names: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.identifiers.append(value or "")
            elif name == "href":
                self.targets.add((value or "")[1:])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def make_report(
    folder: Path, classes: int, *, detected: bool = True, labeled: bool = True
) -> tuple[DetectorReport, GroundTruth]:
    """Random objects, found, missed and confused, on gray images."""
    rng = torch.Generator().manual_seed(classes)
    paths = [folder / f"{index}.png" for index in range(IMAGES)]
    for path in paths:
        Image.fromarray(np.full((60, 80, 3), 128, np.uint8)).save(path)
    count = 6 * IMAGES if labeled else 0
    boxes_N4 = torch.rand(count, 4, generator=rng) * 0.3 + 0.3
    class_N = torch.randint(classes, (count,), generator=rng)
    truth = GroundTruth(torch.arange(count) % IMAGES, class_N, boxes_N4)
    precision = AveragePrecision(truth, classes)
    analysis = ErrorAnalysis(precision, truth, classes, IMAGES)
    store = DetectionStore()
    if detected:
        prob_MK = torch.zeros(6 * IMAGES, classes)
        confused_M = torch.randint(classes, (6 * IMAGES,), generator=rng)
        right_M = (torch.rand(6 * IMAGES, generator=rng) < 0.7) & torch.tensor(labeled)
        found_M = torch.where(right_M, class_N, confused_M) if labeled else confused_M
        prob_MK[torch.arange(6 * IMAGES), found_M] = torch.rand(6 * IMAGES, generator=rng)
        boxes_M4 = boxes_N4 if labeled else torch.rand(6 * IMAGES, 4, generator=rng) * 0.3 + 0.3
        detections = Detections(torch.arange(6 * IMAGES) % IMAGES, boxes_M4, torch.ones(6 * IMAGES), prob_MK)
        analysis.add(detections)
        store.add(detections)
    names = [f"class {index}" for index in range(classes)]
    statuses = [ImageStatus(index, str(path), (80, 60)) for index, path in enumerate(paths)]
    coco = coco_precision(store, truth, statuses, classes)
    return make_detector_report(EVALUATED, names, statuses, analysis, truth, precision.result(), coco), truth


@pytest.mark.parametrize(
    ("classes", "detected", "labeled"), [(1, True, True), (3, True, False), (3, False, True), (80, True, True)]
)
def test_page_is_one_file_that_links_to_its_own_parts_only(
    tmp_path: Path, classes: int, detected: bool, labeled: bool
) -> None:
    report, truth = make_report(tmp_path, classes, detected=detected, labeled=labeled)
    files = {name: b"".join(chunks) for name, chunks in detector_files(report, truth).items()}
    text = files[PAGE_FILE].decode()
    assert not OUTSIDE.search(re.sub(r"data:[\w/;,+=]+", "data:", text))
    tags = _Tags(text)
    assert tags.targets <= set(tags.identifiers) and len(tags.identifiers) == len(set(tags.identifiers))
    assert len(text) < 2_000_000
    record = json.loads(files[RECORD_FILE])
    assert record["format"] == "darkpy evaluation"
    assert len(record["classes"]) == classes == len(files["classes.csv"].decode().splitlines()) - 1


def test_numbers_of_the_json_are_those_of_the_csv_and_of_both_evaluations(tmp_path: Path) -> None:
    report, truth = make_report(tmp_path, 3)
    files = {name: b"".join(chunks) for name, chunks in detector_files(report, truth).items()}
    record = json.loads(files[RECORD_FILE])
    assert record["coco"] == report.coco.stats and len(record["coco"]) == 12
    assert record["darknet"]["mean_average_precision"] == report.darknet.mean
    for row, class_row, line in zip(
        record["classes"], report.darknet.classes, files["classes.csv"].decode().splitlines()[1:], strict=True
    ):
        assert row["average_precision"] == class_row.average_precision and row["tp"] == class_row.tp
        assert line.split(",") == ["" if value is None else str(value) for value in row.values()]
    cells = record["confusion"]
    assert sum(cell["count"] for cell in cells if cell["true"] != "background") == len(truth)
    found = sum(cell["count"] for cell in cells if cell["detected"] != "background")
    assert found == report.darknet.tp + report.darknet.fp
    columns = record["per_image"]
    assert (sum(columns["tp"]), sum(columns["fp"])) == (report.darknet.tp, report.darknet.fp)
    assert sum(record["false_positives"].values()) == report.darknet.fp
    assert sum(record["missed"].values()) == report.darknet.fn


def test_findings_name_the_main_errors(tmp_path: Path) -> None:
    report, _ = make_report(tmp_path, 3)
    names = [finding.name for finding in find_causes(report)]
    assert names[:2] == ["missed", "confused"] and "threshold" in names
    nothing, _ = make_report(tmp_path, 3, detected=False)
    assert [finding.name for finding in find_causes(nothing)] == ["no-detections"]
    unlabeled, _ = make_report(tmp_path, 3, labeled=False)
    assert [finding.name for finding in find_causes(unlabeled)] == ["no-truth"]


def test_classifier_of_1000_classes_fits_a_page(tmp_path: Path) -> None:
    names = [f"n{index:04}" for index in range(1000)]
    errors = ClassifierErrors(Accuracy(names))
    for index in range(3000):
        true_id = index % 1000
        best = true_id if index % 3 else (true_id + 1) % 1000
        errors.add(Ranking(f"{tmp_path}/n{true_id:04}_{index}.png", (best, true_id), (0.8, 0.1)))
    report = make_classifier_report(EVALUATED, names, errors, 2)
    assert (report.top_1, report.top_k) == (2 / 3, 1.0)
    assert sum(count for true_id, best_id, count in report.confusion if true_id == best_id) == 2000
    text = write_classifier_page(report, find_classifier_causes(report))
    _Tags(text)
    assert len(text) < 1_000_000


def test_names_are_text(tmp_path: Path) -> None:
    hostile = "<td><script>alert(1)</script>\u202e"
    errors = ClassifierErrors(Accuracy([hostile, "b"]))
    errors.add(Ranking("b", (0,), (0.9,)))
    report = make_classifier_report(EvaluatedRun(hostile, hostile, hostile, hostile), [hostile, "b"], errors, 1)
    text = write_classifier_page(report, find_classifier_causes(report))
    assert "script" not in _Tags(text).names and "\u202e" not in text
    assert "<td><b>" not in table(["a"], [["x", "<td><b>"]])


def test_tiles_of_a_page_are_bounded_and_unreadable_ones_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (90, 120, 3), np.uint8)).save(tmp_path / "a.png")
    tile = ErrorTile(str(tmp_path / "a.png"), [((0.5, 0.5, 0.2, 0.2), (255, 0, 0))], "a", "b", (0.5, 0.5, 0.2, 0.2))
    monkeypatch.setattr(error_tiles, "MAX_EMBEDDED_BYTES", 200_000)
    sheets = TileSheet()
    text = sheets.html([tile] * 9, "w")
    assert 0 < text.count("<img") < 9 and len(text) < 300_000 and sheets.omitted == 9 - text.count("<img")
    (tmp_path / "b.png").write_bytes(b"")
    assert TileSheet().html([ErrorTile(str(tmp_path / "b.png"), (), "a", "b")], "w") == ""


@pytest.mark.parametrize(
    "focus", [(0.0, 0.0, 0.1, 0.1), (1.0, 1.0, 2.0, 2.0), (0.5, 0.5, 0.0, 0.0), (-3.0, 9.0, 0.1, 0.1)]
)
@pytest.mark.parametrize("size", [(1, 1), (640, 480), (30, 4000)])
def test_part_of_an_image_is_inside_it(size: tuple[int, int], focus: tuple[float, ...]) -> None:
    left, top, right, bottom = visible_part(size, focus)
    assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]


def test_folder_that_paths_have_in_common_is_written_once() -> None:
    assert split_folder(["/a/b/x.png", "/a/b/c/y.png"]) == ("/a/b", ["x.png", "c/y.png"])
    assert split_folder(["x.png"]) == ("", ["x.png"]) and split_folder([]) == ("", [])


def test_two_reports_make_a_page(tmp_path: Path) -> None:
    for name, classes in (("a", 3), ("b", 4)):
        (tmp_path / name).mkdir()
        report, truth = make_report(tmp_path, classes)
        (tmp_path / name / RECORD_FILE).write_bytes(b"".join(detector_files(report, truth)[RECORD_FILE]))
    comparison = compare_runs(*(read_record(tmp_path / name, RECORD_FILE) for name in "ab"))
    changes = [row.change for row in comparison.classes if row.change is not None]
    assert changes == sorted(changes) and len(comparison.classes) == 4 and comparison.compared_images == IMAGES
    text = write_comparison_page(comparison)
    tags = _Tags(text)
    assert tags.targets <= set(tags.identifiers) and not OUTSIDE.search(text)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_browser_enlarges_a_tile_without_a_script_and_complains_of_nothing(tmp_path: Path) -> None:
    report, truth = make_report(tmp_path, 3)
    (tmp_path / "page.html").write_bytes(b"".join(detector_files(report, truth)[PAGE_FILE]))
    for fragment, is_dark in (("", False), ("#w0", True)):
        target = tmp_path / "shot.png"
        command = [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--window-size=1000,800"),
            *("--blink-settings=preferredColorScheme=1", f"--screenshot={target}"),
            (tmp_path / "page.html").as_uri() + fragment,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert not re.search(r"Refused to|CONSOLE", done.stderr), done.stderr
        pixels_HW3 = np.asarray(Image.open(target).convert("RGB")).astype(int)
        assert (pixels_HW3[400, 5].mean() < 60) == is_dark
