"""Page that compares two evaluations."""

from __future__ import annotations

from collections.abc import Sequence

from darkpy.diagnostics.report.evaluation_page import EVALUATION_CSS, HtmlCell, split_folder, table
from darkpy.diagnostics.report.html_frame import html_page, html_text
from darkpy.evaluation.run_comparison import (
    MAX_LISTED_CHANGES,
    ComparedValue,
    RunComparison,
    comparison_findings,
    points_text,
    value_text,
)

COMPARISON_CSS = """
td.change{min-width:230px;padding:0 10px}
td.change div{display:flex;align-items:center}
td.change i{display:block;height:14px;width:calc(100% * var(--v))}
td.change .half{flex:1;display:flex}
td.change .half:first-child{justify-content:flex-end;border-right:1px solid var(--muted)}
td.change b{font-weight:400;min-width:56px}
"""


def write_comparison_page(comparison: RunComparison) -> str:
    """HTML page of a comparison."""
    items = "".join(f"<li>{html_text(text)}</li>" for text in comparison_findings(comparison))
    what = "AP" if comparison.a.kind == "detector" else "recall"
    columns = []
    for title, changed in (("Worse in B", comparison.worse), ("Better in B", comparison.better)):
        shown = changed[:MAX_LISTED_CHANGES]
        folder, names = split_folder([image.path for image in shown])
        rows = ([name, str(image.a), str(image.b)] for name, image in zip(names, shown, strict=True))
        listed = table(["image", "errors in A", "in B"], rows, folder) if shown else "<p>None.</p>"
        rest = len(changed) - len(shown)
        more = f"<p class=muted>and {rest} more in the JSON</p>" if rest else ""
        columns.append(f"<div><h3>{title}</h3>{listed}{more}</div>")
    parts = [
        ("findings", "Findings", f'<ul class="findings">{items}</ul>'),
        ("metrics", "Metrics", _value_table("metric", comparison.metrics)),
        ("classes", f"Classes by change of their {what}", _value_table("class", comparison.classes)),
        ("images", "Images", f'<div class="pair">{"".join(columns)}</div>'),
    ]
    runs = "".join(
        f"<p class=muted><b>{name}</b>: {html_text(run.path)}, {html_text(run.weights)}, {run.images} images</p>"
        for name, run in (("A", comparison.a), ("B", comparison.b))
    )
    header = f"<header><h1>Two evaluations</h1>{runs}</header>"
    return html_page("Two evaluations", header, parts, EVALUATION_CSS + COMPARISON_CSS)


def _value_table(title: str, rows: Sequence[ComparedValue]) -> str:
    largest = max((abs(row.change) for row in rows if row.change is not None), default=0.0) or 1.0
    return table(
        [title, "A", "B", "B - A, percentage points"],
        ([row.name, value_text(row.a), value_text(row.b), _change_cell(row, largest)] for row in rows),
    )


def _change_cell(row: ComparedValue, largest: float) -> HtmlCell:
    """Table cell with a bar to the left for a lower value, to the right for a higher one."""
    change = row.change or 0.0
    kind = "good" if (change < 0) is row.lower_is_better else "bad"
    bars = "".join(
        f'<span class="half"><i style="--v:{max(0.0, part) / largest:.3f};background:var(--{kind})"></i></span>'
        for part in (-change, change)
    )
    return HtmlCell(f'<td class="change"><div>{bars}<b>{points_text(row.change)}</b></div></td>')
