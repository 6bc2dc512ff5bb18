"""Report of a run: one HTML file without scripts, servers or other files.

The text of a log is not trusted: all of it is escaped, and images are read only from the folder of the log.
"""

from __future__ import annotations

import math
from datetime import datetime, timezone
from html import escape
from pathlib import Path

import PIL.Image

from darkpy.data.loading.images import load_image
from darkpy.diagnostics.monitor.run_log import RunLog
from darkpy.diagnostics.report import curves, heat
from darkpy.diagnostics.report.contact_sheet import SHEET_FILE
from darkpy.diagnostics.report.drawing import Drawing, as_uri
from darkpy.diagnostics.report.html_frame import html_content, html_page
from darkpy.errors import ImageError
from darkpy.finding import Finding, count_text
from darkpy.process import format_clock

MAX_FINDINGS = 200
MAX_SHEETS = 20
"""Contact sheets on the page; each has some 100 kB."""
MAX_PATHS = 10
MAX_SHEET_SIZE = 1280, 1520
"""Largest width and height of a contact sheet on the page."""


def drawings(log: RunLog) -> dict[str, Drawing]:
    """Draw all that a log has, by name, but for heat maps without a value other than 0."""
    by_name: dict[str, Drawing] = {}
    if log.updates:
        by_name = {"loss": curves.draw_loss(log), "rate": curves.draw_rate(log), "gradient": curves.draw_gradient(log)}
    if log.maps:
        by_name["map"] = curves.draw_map(log)
    for figure in heat.HEAT_MAP_FIGURES:
        heat_map = heat.gather(log, figure)
        if heat_map is not None and not heat_map.is_zero:
            by_name[f"layers_{figure.name}"] = heat.draw_heat(log, heat_map)
    return by_name


def write_page(log: RunLog) -> str:
    """HTML report of a run."""
    return html_page(f"{Path(log.run.cfg).name}: a run of darkpy", _header(log), _parts(log))


def page_content(log: RunLog) -> str:
    """The report without its frame, for a page that is updated."""
    return html_content(_header(log), _parts(log))


def _parts(log: RunLog) -> list[tuple[str, str, str]]:
    """Identifier, title and HTML of each section."""
    drawn = drawings(log)
    metric = log.maps[-1].name if log.maps else ""
    parts = [("findings", "Findings", _findings(log))]
    parts += (
        (name, text, _figure(drawn[name]))
        for name, text in (("loss", "Loss"), ("map", metric), ("rate", "Learning rate"), ("gradient", "Gradients"))
        if name in drawn
    )
    zeros = []
    for figure in heat.HEAT_MAP_FIGURES:
        name = f"layers_{figure.name}"
        if name in drawn:
            parts.append((name, f"{figure.title}, layer by layer", _figure(drawn[name], figure.description)))
        elif heat.gather(log, figure) is not None:
            zeros.append(figure.title)
    if zeros:
        text = f"<p>0 in every measurement of every layer: {', '.join(zeros)}.</p>"
        parts.append(("layers_without", "Not drawn", text))
    parts.append(("layers", "Layers at the end", _layer_table(log)))
    return parts


def _header(log: RunLog) -> str:
    run, last = log.run, log.updates[-1] if log.updates else None
    torn = f" {log.torn} lines of the log cannot be read." if log.torn else ""
    seconds = sum(update.seconds for update in log.updates if math.isfinite(update.seconds))
    try:
        begun = f"{datetime.fromtimestamp(log.starts[0].time, tz=timezone.utc):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):  # a log may contain any number
        begun = "-"
    averages = [update.average for update in log.updates if math.isfinite(update.average)]
    end = f" of {run.net['max_batches']}" if run.net.get("max_batches") else ""
    facts = [
        ("updates", f"{last.batch_num if last else 0}{end}"),
        ("images seen", f"{last.seen if last else run.seen:,}".replace(",", " ")),
        ("average loss", f"{last.average:.4g}" if last else "-"),
        ("lowest average", f"{min(averages):.4g}" if averages else "-"),
        ("learning rate", f"{last.rate:.3g}" if last else "-"),
        ("time of updates", format_clock(seconds)),
        ("refused", str(len(log.refused))),
        ("begun", begun + (f", {len(log.starts)} starts" if len(log.starts) > 1 else "")),
    ]
    if log.maps:
        facts.append((f"best {log.maps[-1].name}", f"{100 * max(validation.mean for validation in log.maps):.2f} %"))
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    keys = ", ".join(
        f"{key}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for key, value in run.net.items()
    )
    if log.findings or log.refused:
        text = f"{count_text(len(log.findings), 'finding')}, {count_text(len(log.refused), 'minibatch')} refused."
        verdict, style = f"<strong>{text}{torn}</strong>", "verdict bad"
        if log.findings:
            verdict += f"<br>First: {escape(log.findings[0].text)}"
    else:
        verdict, style = f"Nothing was found wrong.{torn}", "verdict"
    return (
        f"<header><h1>{escape(Path(run.cfg).name)}</h1><p class=muted>{escape(run.cfg)}, as {escape(run.dialect)}'s"
        f" darknet reads it; {count_text(len(run.layers), 'layer')}; log: {escape(str(log.path))}</p>"
        f'<p class="{style}">{verdict}</p>'
        f'<dl class="facts">{items}</dl><p class="muted"><code>{escape(keys)}</code></p></header>'
    )


def _findings(log: RunLog) -> str:
    if not log.findings:
        return "<p>None.</p>"
    sheets = 0
    items = []
    for finding in log.findings[:MAX_FINDINGS]:
        uri = sheet_uri(log.path.parent, finding.evidence) if finding.evidence and sheets < MAX_SHEETS else None
        sheets += uri is not None
        items.append(_finding_item(finding, uri))
    rest = len(log.findings) - len(items)
    more = f"<p>... and {rest} more in the log.</p>" if rest else ""
    return f'<ol class="findings">{"".join(items)}</ol>{more}'


def _finding_item(finding: Finding, uri: str | None) -> str:
    hints = "".join(f"<li>{escape(hint)}</li>" for hint in finding.hints)
    paths = "".join(f"<li><code>{escape(path)}</code></li>" for path in finding.paths[:MAX_PATHS])
    more = f"<li>and {len(finding.paths) - MAX_PATHS} more</li>" if len(finding.paths) > MAX_PATHS else ""
    parts = [f"<h3>{escape(finding.name)}, update {finding.batch_num}</h3><p>{escape(finding.text)}</p>"]
    if hints:
        parts.append(f'<p class="muted">Try, in this order:</p><ol class="tries">{hints}</ol>')
    if uri:
        alt = f"The images of update {finding.batch_num} with their labels, the worst first"
        parts.append(f'<figure><img alt="{alt}" src="{uri}"></figure>')
    if finding.evidence:
        parts.append(f'<p class="muted">Kept in <code>{escape(finding.evidence)}</code></p>')
    if paths:
        parts.append(
            f"<details><summary>{count_text(len(finding.paths), 'image')}</summary><ul>{paths}{more}</ul></details>"
        )
    return f"<li>{''.join(parts)}</li>"


def sheet_uri(folder: Path, evidence: str) -> str | None:
    """Data URI of the contact sheet of a finding; None if there is none that can be read.

    folder: of the run; nothing outside it is read. evidence: the finding's folder, relative to it.
    """
    try:
        path = (folder / evidence / SHEET_FILE).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            return None
        sheet = PIL.Image.fromarray(load_image(path).pixels_HWC)
    except (ImageError, OSError, ValueError):
        return None
    height = round(sheet.width * MAX_SHEET_SIZE[1] / MAX_SHEET_SIZE[0])
    if sheet.height > height:
        sheet = sheet.crop((0, 0, sheet.width, height))
    sheet.thumbnail(MAX_SHEET_SIZE)
    return as_uri(sheet, form="JPEG")


def _figure(drawing: Drawing, caption: str = "") -> str:
    text = f"<p class=muted>{escape(caption)}</p>" if caption else ""
    return f"{text}<figure>{drawing.svg()}</figure>"


def _layer_table(log: RunLog) -> str:
    """Table of the last measurement of each layer."""
    looked = [update for update in log.updates if update.layers]
    if not looked:
        return "<p>The layers were not measured.</p>"
    last = looked[-1]
    columns = [name for name, figures in last.layers.items() if any(value is not None for value in figures)]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("layer", *columns))
    rows = []
    for layer in log.run.layers:
        values = [last.layers[name][layer.index] if layer.index < len(last.layers[name]) else None for name in columns]
        if any(value is not None for value in values):
            cells = "".join(f"<td>{'' if value is None else f'{value:.4g}'}</td>" for value in values)
            rows.append(f'<tr><th scope="row">{escape(layer.place)}</th>{cells}</tr>')
    return (
        f"<details><summary>{count_text(len(rows), 'layer')}, {count_text(len(columns), 'figure')}</summary>"
        f'<div class="scroll" tabindex="0"><table><caption>Measured in update {last.batch_num}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )
