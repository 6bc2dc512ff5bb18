"""Page of a detector's evaluation: one HTML file that explains its errors.

Names and paths are not trusted: all text is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from darkpy.diagnostics.report.error_tiles import DETECTION_RGB, MISSED_RGB, TRUTH_RGB, ErrorTile, TileSheet
from darkpy.diagnostics.report.evaluation_charts import (
    CURVE_COLORS,
    Mark,
    confusion_table,
    curve_points,
    draw_calibration,
    draw_unit_curves,
    legend_name,
)
from darkpy.diagnostics.report.html_frame import html_page, html_text
from darkpy.diagnostics.report.plot import Curve
from darkpy.evaluation.detector_report import DetectorReport, EvaluatedRun, class_records, f1, share
from darkpy.evaluation.error_analysis import ListedError
from darkpy.evaluation.error_findings import percent
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.evaluation.score_sweep import Calibration
from darkpy.finding import Finding, count_text

MAX_LISTED_IMAGES, MAX_LISTED_CLASSES = 20, 1000
MAX_CURVES = len(CURVE_COLORS)
SECTION_OF_FINDING = {
    "missed": "missed",
    "confused": "confusion",
    "false-positives": "worst",
    "labels-missing": "worst",
    "threshold": "curves",
    "weak-classes": "classes",
    "rare-classes": "classes",
    "absent-classes": "classes",
    "imprecise": "coco",
    "calibration": "calibration",
}
"""Section of the page that shows what a finding is about."""
KIND_TEXTS = {
    "duplicate": "second box of an object",
    "wrong_class": "wrong class",
    "poorly_placed": "poorly placed",
    "both": "wrong class, poorly placed",
    "background": "nothing is labeled there",
    "below_thresh": "only below the threshold",
    "not_detected": "not detected",
    "unreadable": "unreadable image",
}
KIND_COLORS = {
    "duplicate": "fourth",
    "wrong_class": "second",
    "poorly_placed": "third",
    "both": "fifth",
    "background": "bad",
    "below_thresh": "fourth",
    "not_detected": "bad",
    "unreadable": "muted",
}
COCO_TEXTS = {
    "AP": "AP, IoU .50 to .95",
    "AP50": "AP, IoU .50",
    "AP75": "AP, IoU .75",
    "AP_small": "AP, small objects",
    "AP_medium": "AP, medium objects",
    "AP_large": "AP, large objects",
    "AR_1": "AR, 1 detection an image",
    "AR_10": "AR, 10 detections an image",
    "AR_100": "AR, 100 detections an image",
    "AR_small": "AR, small objects",
    "AR_medium": "AR, medium objects",
    "AR_large": "AR, large objects",
}
EVALUATION_CSS = """
main,header,nav{max-width:1040px}
ul.findings{list-style:none;margin:16px 0 0;padding:0}
ul.findings li{margin:6px 0;padding:8px 14px;border-left:5px solid var(--first);background:var(--panel)}
ul.findings li.hard{border-color:var(--bad)}
ul.findings a{color:inherit;text-decoration:none}
ul.findings a:hover{text-decoration:underline}
ul.findings a:after{content:" ↓";color:var(--first)}
ul.findings .try{color:var(--muted);display:block;font-size:13px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:8px 24px}
.pair td,.pair th{padding:3px 6px}
.stack{display:flex;height:26px;margin:4px 0 2px;border-radius:4px;overflow:hidden;background:var(--grid)}
.stack i{display:block;height:100%;min-width:1px}
.key{display:flex;flex-wrap:wrap;gap:2px 18px;list-style:none;margin:4px 0 14px;padding:0;font-size:13px}
.key i{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:6px}
td.bar{background:linear-gradient(90deg,rgba(116,169,247,.38) var(--v),transparent var(--v))}
td.low{color:var(--bad)}
table.matrix{min-width:0}
table.matrix td{min-width:46px;text-align:center;border:1px solid var(--grid)}
table.matrix thead th{vertical-align:bottom;text-align:center;max-width:110px;overflow:hidden;text-overflow:ellipsis}
table.matrix thead th:first-child{max-width:none;font-weight:400;color:var(--muted);font-size:12px}
table.matrix.wide thead span{writing-mode:vertical-rl;transform:rotate(180deg);max-height:110px;overflow:hidden}
td.hit{background:rgba(70,130,220,calc(.06 + .7*var(--v)))}
td.miss{background:rgba(225,110,20,calc(.8*var(--v)))}
ul.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px;list-style:none;padding:0;
 margin:10px 0 0}
ul.tiles li{font-size:12.5px;line-height:1.35;overflow-wrap:anywhere}
ul.tiles img{width:100%;aspect-ratio:4/3;object-fit:contain;background:var(--panel);border-radius:3px;cursor:zoom-in}
ul.tiles .close{display:none}
ul.tiles li:target{position:fixed;inset:0;z-index:2;background:rgba(0,0,0,.9);color:#fff;display:flex;
 flex-direction:column;align-items:center;justify-content:center;font-size:16px;padding:2vmin}
ul.tiles li:target img{width:auto;height:82vh;max-width:96vw;aspect-ratio:auto;background:none;cursor:default}
ul.tiles li:target .close{display:block;position:absolute;inset:0;padding:8px 18px;font-size:34px;line-height:1;
 text-align:right;color:#fff;text-decoration:none}
ul.tiles li:target .muted{color:#ccc}
@media print{ul.tiles li{break-inside:avoid}}
"""


def write_evaluation_page(report: DetectorReport, truth: GroundTruth, findings: Sequence[Finding]) -> str:
    """HTML page of a report. truth: its boxes are drawn on the tiles."""
    sheets = TileSheet()
    wrong = sheets.html([_wrong_tile(report, truth, error) for error in report.errors.worst_false_positives], "w")
    missed = sheets.html([_missed_tile(report, truth, error) for error in report.errors.worst_missed], "m")
    omitted = f"<p class=muted>{count_text(sheets.omitted, 'tile')} left out.</p>" if sheets.omitted else ""
    colors = (("labeled", TRUTH_RGB), ("detected", DETECTION_RGB), ("missed", MISSED_RGB))
    items = "".join(f'<li><i style="background:rgb{color}"></i>{name}</li>' for name, color in colors)
    drawn = {"worst": wrong, "missed": f"{missed}{omitted}"}
    parts = [("findings", "Findings", findings_list(findings))]
    for name, title, section in PAGE_SECTIONS:
        tiles = f'<ul class="key">{items}</ul>{drawn[name]}' if drawn.get(name) else "<p>None.</p>"
        parts.append((name, title, tiles if section is None else section(report)))
    return html_page(f"{Path(report.run.weights).name}: evaluation", _header(report), parts, EVALUATION_CSS)


def findings_list(findings: Iterable[Finding]) -> str:
    """Findings with their hints, each with a link to the section that shows it."""
    items = []
    for finding in findings:
        section = SECTION_OF_FINDING.get(finding.name)
        text = html_text(finding.message)
        text = f'<a href="#{section}">{text}</a>' if section else text
        hints = html_text("; or ".join(finding.hints))
        tries = f'<span class="try">Try: {hints}</span>' if hints else ""
        items.append(f"<li{'' if finding.is_note else ' class=hard'}>{text}{tries}</li>")
    return f'<ul class="findings">{"".join(items)}</ul>' if items else "<p>None.</p>"


class HtmlCell(str):
    """A table cell with its tags; any other text of a table is escaped."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Table of texts, which are escaped, and of cells that are HTML already."""
    titles = "".join(f'<th scope="col">{html_text(title)}</th>' for title in head)
    lines = []
    for first, *cells in rows:
        tds = "".join(cell if isinstance(cell, HtmlCell) else f"<td>{html_text(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{html_text(first)}</th>{tds}</tr>')
    label = f"<caption>{html_text(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0"><table>{label}<thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def bar_cell(value: float | None, *, low: bool = False) -> HtmlCell:
    """Table cell with a share from 0 to 1 as a text and a bar."""
    width = 0.0 if value is None else 100 * value
    return HtmlCell(f'<td class="bar{" low" if low else ""}" style="--v:{width:.1f}%">{percent(value, 1)}</td>')


def page_header(run: EvaluatedRun, facts: Iterable[tuple[str, str]]) -> str:
    """Title, inputs and main numbers of an evaluation."""
    items = "".join(f"<div><dt>{html_text(name)}</dt><dd>{html_text(value)}</dd></div>" for name, value in facts)
    return (
        f"<header><h1>{html_text(Path(run.weights).name)}</h1><p class=muted>{html_text(run.cfg)} with "
        f"{html_text(run.weights)} on {html_text(run.data)}; darkpy {html_text(run.version)}</p>"
        f'<dl class="facts">{items}</dl></header>'
    )


def _header(report: DetectorReport) -> str:
    result = report.darknet
    facts = [(f"darknet's mAP@{result.iou_thresh:.2f}".replace("0.", "."), f"{100 * result.mean:.2f} %")]
    for text, stat in (("COCO's AP", "AP"), ("COCO's AP50", "AP50")):
        facts.append((text, percent(report.coco.stats[stat], 2)))
    facts += [
        (f"precision at {result.thresh:g}", percent(result.precision, 1)),
        (f"recall at {result.thresh:g}", percent(result.recall, 1)),
        (f"F1 at {result.thresh:g}", f"{result.f1:.3f}"),
    ]
    if report.best_overall:
        facts.append(("best F1", f"{report.best_overall.f1:.3f} at {report.best_overall.thresh:g}"))
    facts += [("images", str(len(report.images))), ("objects", str(result.truths))]
    return page_header(report.run, facts)


def _error_bars(report: DetectorReport) -> str:
    result, errors = report.darknet, report.errors
    bars = []
    for title, good, count, kinds in (
        (count_text(result.truths, "object"), "found", result.tp, errors.missed),
        (
            f"{count_text(result.tp + result.fp, 'detection')} above {result.thresh:g}",
            "correct",
            result.tp,
            errors.false_positives,
        ),
    ):
        whole = count + sum(kinds.values())
        shares = [(good, count, "good")]
        ranked = sorted(kinds.items(), key=lambda item: -item[1])
        shares += [(KIND_TEXTS[kind], number, KIND_COLORS[kind]) for kind, number in ranked if number]
        pieces = "".join(
            f'<i style="width:{100 * number / whole:.2f}%;background:var(--{color})" title="{name}: {number}"></i>'
            for name, number, color in shares
            if number
        )
        keys = "".join(
            f'<li><i style="background:var(--{color})"></i>{name}: {number} ({percent(share(number, whole))})</li>'
            for name, number, color in shares
        )
        bars.append(f'<h3>{title}</h3><div class="stack">{pieces}</div><ul class="key">{keys}</ul>')
    return "".join(bars)


def _class_table(report: DetectorReport) -> str:
    thresh, records = report.darknet.thresh, class_records(report)
    known = sorted((row for row in records if row["truths"]), key=lambda row: (row["average_precision"], row["name"]))
    rest = [row for row in records if not row["truths"] and row["fp"]]
    mean = sum(row["average_precision"] for row in known) / len(known) if known else 0.0
    head = [
        "class",
        "objects",
        "AP",
        "COCO AP",
        "precision",
        "recall",
        "F1",
        "TP",
        "FP",
        "missed",
        "best F1",
        "at thresh",
    ]

    def cells(row: dict[str, Any]) -> list[str]:
        ap = row["average_precision"]
        best = (
            "-" if row[key] is None else f"{row[key]:{form}}"
            for key, form in (("best_f1", ".3f"), ("best_thresh", "g"))
        )
        return [
            row["name"],
            str(row["truths"]),
            bar_cell(ap, low=ap is not None and ap < mean - 0.1),
            percent(row["coco_ap"], 1),
            bar_cell(row["precision"]),
            bar_cell(row["recall"]),
            "-" if row["f1"] is None else f"{row['f1']:.3f}",
            *(str(row[key]) for key in ("tp", "fp", "fn")),
            *best,
        ]

    without = sum(not row["truths"] for row in records)
    note = f"; {count_text(without, 'class')} without an object" if without else ""
    shown = [*known, *rest]
    if len(shown) > MAX_LISTED_CLASSES:
        note += f"; {len(shown) - MAX_LISTED_CLASSES} more are in classes.csv"
    caption = f"The lowest AP first. Precision, recall and F1 at a threshold of {thresh:g}{note}."
    return table(head, map(cells, shown[:MAX_LISTED_CLASSES]), caption)


def _confusion(report: DetectorReport) -> str:
    note = (
        "Rows: the labeled class. Columns: the detected class. Shades are shares of the row. Last column: missed "
        "objects; last row: detections where nothing is labeled."
    )
    return f"<p class=muted>{note}</p>{confusion_table(report.errors.confusion, report.names)}"


def _curves(report: DetectorReport) -> str:
    result = report.darknet
    tp_S, fp_S = (counts_KS.sum(0).tolist() for counts_KS in (report.tp_KS, report.fp_KS))
    sweep = list(zip(tp_S, fp_S, strict=True))
    over_thresh = [
        Curve("precision", "first", curve_points([share(tp, tp + fp) for tp, fp in sweep]), 2.0),
        Curve("recall", "second", curve_points([share(tp, result.truths) for tp, _ in sweep]), 2.0),
        Curve("F1", "good", curve_points([f1(tp, fp, result.truths) for tp, fp in sweep]), 2.5),
    ]
    best = report.best_overall
    marks = [Mark(result.thresh, f"{result.thresh:g}", "muted", 0.12)]
    if best is not None:
        marks.append(Mark(best.thresh, f"best F1 {best.f1:.3f} at {best.thresh:g}", "bad", 0.03))
    with_truth = [k for k, row in enumerate(result.classes) if row.truths]
    chosen = sorted(with_truth, key=lambda k: result.classes[k].average_precision)[:MAX_CURVES]
    by_class = [
        Curve(legend_name(report.names[k]), color, curve_points(report.precision_KR[k].tolist()), 2.0)
        for k, color in zip(chosen, CURVE_COLORS, strict=False)
    ]
    note = (
        f" of the {len(chosen)} classes with the lowest AP, of {len(with_truth)}"
        if len(with_truth) > MAX_CURVES
        else ""
    )
    left = draw_unit_curves("Precision, recall and F1 over the score threshold", "score threshold", over_thresh, marks)
    right = draw_unit_curves(f"Precision over recall{note}", "recall", by_class)
    return (
        f'<div class="pair"><div><h3>Over the score threshold, all classes</h3><figure>{left}</figure></div>'
        f"<div><h3>Precision over recall{note}</h3><figure>{right}</figure></div></div>"
    )


def _size_table(report: DetectorReport) -> str:
    limits = {"small": " (to 32 x 32)", "medium": " (to 96 x 96)", "large": ""}
    whole = sum(bucket.truths for bucket in report.errors.sizes)
    lost = sum(bucket.truths - bucket.found for bucket in report.errors.sizes)
    rows = []
    for bucket in report.errors.sizes:
        missed = bucket.truths - bucket.found
        rows.append([
            f"{bucket.name}{limits[bucket.name]}",
            f"{bucket.truths} ({percent(share(bucket.truths, whole))})",
            bar_cell(share(bucket.found, bucket.truths)),
            f"{missed} ({percent(share(missed, lost))})",
            percent(report.coco.stats[f"AP_{bucket.name}"], 1),
        ])  # fmt: skip
    head = ["pixels", "objects", "found", "missed", "COCO AP"]
    return table(head, rows, f"Recall at a threshold of {report.darknet.thresh:g}.")


def calibration_section(calibration: Calibration) -> str:
    """Reliability diagram with the expected calibration error."""
    if calibration.ece is None or calibration.gap is None:
        return "<p>No scores.</p>"
    kind = "too high" if calibration.gap > 0 else "too low"
    text = (
        f"Expected calibration error (ECE): {calibration.ece:.3f}. Scores are {abs(calibration.gap):.3f} {kind} on "
        "average. Bars that end at the dashed line have calibrated scores."
    )
    return f"<p>{text}</p><figure>{draw_calibration(calibration)}</figure>"


def _image_table(report: DetectorReport) -> str:
    errors = report.errors
    missed_I = errors.truths_I - errors.tp_I
    worst = torch.argsort(errors.fp_I + missed_I, descending=True, stable=True)[:MAX_LISTED_IMAGES].tolist()
    worst = [i for i in worst if int(errors.fp_I[i] + missed_I[i])]
    if not worst:
        return "<p>No image has an error.</p>"
    folder, names = split_folder([report.images[i].path for i in worst])
    columns = (errors.truths_I, errors.tp_I, missed_I, errors.fp_I)
    rows = [[name, *(str(int(column_I[i])) for column_I in columns)] for name, i in zip(names, worst, strict=True)]
    return table(["image", "objects", "found", "missed", "false positives"], rows, folder)


def split_folder(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that all paths have in common, and the rest of each path."""
    folders = [path.replace("\\", "/").split("/")[:-1] for path in paths]
    shared = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False))]
    start = sum(len(part) + 1 for part in shared)
    return "/".join(shared), [path[start:] for path in paths]


def _coco_table(report: DetectorReport) -> str:
    result = report.darknet
    points = f"{result.points} points of recall" if result.points else "area under the curve"
    rule = f"darknet's mAP@{result.iou_thresh:.2f}, {points}, all {len(report.names)} classes"
    rows = [[rule, bar_cell(result.mean)]]
    rows += [[f"COCO's {text}", bar_cell(report.coco.stats[stat])] for stat, text in COCO_TEXTS.items()]
    return table(["number", "value"], rows)


def _rules(report: DetectorReport) -> str:
    iou, thresh = f"{report.darknet.iou_thresh:g}", f"{report.darknet.thresh:g}"
    return (
        f"<p>TP, FP, AP and mAP are those of AlexeyAB's <code>detector map</code>: a detection is correct if it "
        f"overlaps an object of its class by an IoU above {iou} that no other one has taken. Confusion: of the "
        f"detections above {thresh}, the one with the highest score takes the object of any class that it overlaps "
        f"most, if by an IoU above {iou}; then the next one takes one of those left. Poorly placed: an IoU of .1 to "
        f"{iou}. COCO's numbers are those of pycocotools for the detections of <code>detector valid</code>. "
        f"Calibration: the detections above {thresh} in ten bins of the score; the ECE is the mean distance of score "
        f"and share of correct ones, weighted by the bins' counts.</p>"
    )


def _sizes_and_scores(report: DetectorReport) -> str:
    scores = f'<h3 id="calibration">Calibration of the scores</h3>{calibration_section(report.calibration)}'
    return f'<div class="pair"><div><h3>Sizes</h3>{_size_table(report)}</div><div>{scores}</div></div>'


PAGE_SECTIONS: tuple[tuple[str, str, Callable[[DetectorReport], str] | None], ...] = (
    ("errors", "Kinds of errors", _error_bars),
    ("classes", "Classes", _class_table),
    ("confusion", "Confusion", _confusion),
    ("curves", "Precision, recall and the threshold", _curves),
    ("sizes", "Sizes and scores", _sizes_and_scores),
    ("worst", "Worst false positives", None),
    ("missed", "Missed objects", None),
    ("images", "Images with the most errors", _image_table),
    ("coco", "COCO's numbers and darknet's", _coco_table),
    ("rules", "Rules", _rules),
)
"""Identifier, title and function of each section of the page after the findings; None for sheets of tiles."""


def _truth_boxes(truth: GroundTruth, image: int) -> list[tuple[list[float], tuple[int, int, int]]]:
    return [(box, TRUTH_RGB) for box in truth.boxes_N4[truth.image_N == image].tolist()]


def _wrong_tile(report: DetectorReport, truth: GroundTruth, error: ListedError) -> ErrorTile:
    name = report.names[error.class_id]
    other = "" if error.other_class_id is None else f", IoU {error.iou:.2f} with {report.names[error.other_class_id]}"
    boxes = [*_truth_boxes(truth, error.image), (error.box_frac, DETECTION_RGB)]
    title = f"{name} {error.score or 0:.2f}"
    text = f"{KIND_TEXTS[error.kind]}{other}"
    return ErrorTile(report.images[error.image].path, boxes, title, text, error.box_frac)


def _missed_tile(report: DetectorReport, truth: GroundTruth, error: ListedError) -> ErrorTile:
    detail = KIND_TEXTS[error.kind]
    if error.kind == "wrong_class" and error.other_class_id is not None:
        detail = f"detected as {report.names[error.other_class_id]}"
    elif error.kind == "poorly_placed":
        detail = f"{detail}, IoU {error.iou:.2f}"
    boxes = [*_truth_boxes(truth, error.image), (error.box_frac, MISSED_RGB)]
    return ErrorTile(report.images[error.image].path, boxes, report.names[error.class_id], detail, error.box_frac)
