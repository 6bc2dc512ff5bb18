"""Charts of an evaluation: precision and recall, the score threshold, calibration; and the confusion matrix."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from darkpy.diagnostics.report.drawing import Drawing, Line, Text
from darkpy.diagnostics.report.html_frame import html_text
from darkpy.diagnostics.report.plot import Curve, Scale, draw_axes, draw_curve, draw_legend
from darkpy.evaluation.error_analysis import ConfusionCell
from darkpy.evaluation.error_findings import percent
from darkpy.evaluation.score_sweep import Calibration
from darkpy.finding import printable

CHART_SIZE = (460.0, 330.0)
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 44.0, 44.0
CURVE_COLORS = ("first", "second", "good", "third", "fourth", "fifth")
CURVE_COLUMNS = 400
MAX_LEGEND_NAME = 12
MAX_MATRIX_CLASSES = 24
"""Classes of a confusion matrix; of more classes, those with the most errors are shown."""

MAX_HORIZONTAL_TITLES = 9


class Mark(NamedTuple):
    """Vertical line of a chart with its text; y: of the text, from 0 to 1."""

    x: float
    text: str
    color: str
    y: float


def _unit_chart(label: str, x_label: str) -> tuple[Drawing, Scale, Scale]:
    """An empty chart with both axes from 0 to 1."""
    width, height = CHART_SIZE
    drawing = Drawing(width, height, label)
    x_scale, y_scale = Scale(0, 1, LEFT, width - RIGHT), Scale(0, 1, height - BOTTOM, TOP)
    draw_axes(drawing, x_scale, y_scale, x_label=x_label, x_whole=False)
    return drawing, x_scale, y_scale


def draw_unit_curves(label: str, x_label: str, curves: Sequence[Curve], marks: Iterable[Mark] = ()) -> str:
    """Draw curves over 0 to 1 in both directions, as SVG."""
    drawing, x_scale, y_scale = _unit_chart(label, x_label)
    for mark in marks:
        x = x_scale(mark.x)
        drawing.items.append(Line(((x, y_scale(0)), (x, y_scale(1))), mark.color, 1.2, dashed=True))
        is_right = mark.x > 0.6
        anchor = "end" if is_right else "start"
        drawing.items.append(Text(x + (-4 if is_right else 4), y_scale(mark.y), mark.text, mark.color, anchor))
    for curve in curves:
        draw_curve(drawing, curve, x_scale, y_scale, columns=CURVE_COLUMNS)
    if len(curves) > 1:
        rows = (curves[:3], curves[3:])
        for row, y in zip(rows, (16, 32), strict=True):
            draw_legend(drawing, LEFT, y, row)
    return drawing.svg()


def curve_points(values: Sequence[float | None]) -> list[tuple[float, float]]:
    """Points of a curve over 0 to 1, from values at equal distances; those that are None are left out."""
    last = len(values) - 1
    return [(index / last, value) for index, value in enumerate(values) if value is not None]


def draw_calibration(calibration: Calibration) -> str:
    """Reliability diagram: the share of correct detections in each bin of the score, beside the diagonal."""
    facts = "no detections" if calibration.ece is None else f"expected calibration error {calibration.ece:.3f}"
    drawing, x_scale, y_scale = _unit_chart(f"Share of correct ones over the score: {facts}", "score")
    width = (x_scale(1) - x_scale(0)) / len(calibration.bins) - 3
    largest = max((bin_.count for bin_ in calibration.bins), default=0)
    for bin_ in calibration.bins:
        x = x_scale((bin_.low + bin_.high) / 2)
        if bin_.correct is not None:
            drawing.items.append(Line(((x, y_scale(0)), (x, y_scale(bin_.correct))), "first", width))
            drawing.items.append(Text(x, TOP - 6, f"{bin_.count}", "muted", "middle", 10.5))
    drawing.items.append(Line(((x_scale(0), y_scale(0)), (x_scale(1), y_scale(1))), "second", 2.0, dashed=True))
    if largest:
        drawing.items.append(Text(LEFT, 16, "share of correct ones; above: number of detections", "ink"))
    return drawing.svg()


def confusion_table(cells: Iterable[ConfusionCell], names: Sequence[str], *, background: bool = True) -> str:
    """Confusion matrix as a table, a row for each true class; shades are shares of the row.

    cells: true class, detected class and count; -1 is the background, whose row has the false positives and whose
    column the missed objects.
    """
    counts = Counter({(true_id, detected_id): count for true_id, detected_id, count in cells})
    present = sorted({class_id for cell in counts for class_id in cell if class_id >= 0})
    note = ""
    if len(present) > MAX_MATRIX_CLASSES:
        errors = Counter(dict.fromkeys(present, 0))
        for (true_id, detected_id), count in counts.items():
            if true_id != detected_id and min(true_id, detected_id) >= 0:
                errors.update({true_id: count, detected_id: count})
        chosen = [class_id for class_id, _ in errors.most_common(MAX_MATRIX_CLASSES)]
        note = f"<p class=muted>The {len(chosen)} classes that are confused most, of {len(present)}.</p>"
        present = sorted(chosen)
    ids = [*present, -1] if background else present
    titles = [html_text(names[class_id] if class_id >= 0 else "missed") for class_id in ids]
    wide = " wide" if len(ids) > MAX_HORIZONTAL_TITLES else ""
    head = "".join(f'<th scope="col" title="{title}"><span>{title}</span></th>' for title in titles)
    totals: Counter[int] = Counter()
    for (true_id, _), count in counts.items():
        totals[true_id] += count
    rows = []
    for true_id in ids:
        title = names[true_id] if true_id >= 0 else "background"
        tds = []
        for detected_id in ids:
            count = counts[true_id, detected_id]
            part = count / totals[true_id] if count else 0.0
            kind = "hit" if true_id == detected_id else "miss"
            tip = f"{percent(part)} of {title}" if count else ""
            shade = part if kind == "hit" else math.sqrt(part)  # a few errors must be seen
            tds.append(f'<td class="{kind}" style="--v:{shade:.3f}" title="{html_text(tip)}">{count or ""}</td>')
        rows.append(f'<tr><th scope="row">{html_text(title)}</th>{"".join(tds)}</tr>')
    return (
        f'{note}<div class="scroll" tabindex="0"><table class="matrix{wide}"><thead><tr><th>labeled \\ detected</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def legend_name(name: str) -> str:
    name = printable(name)
    return name if len(name) <= MAX_LEGEND_NAME else f"{name[: MAX_LEGEND_NAME - 1]}…"
