"""The page: one HTML file that needs nothing else, no script, no server, no network.

What a log holds is a stranger's text: all of it is escaped, and images are taken from beside the log alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timezone
from html import escape
from pathlib import Path

from darkpy.diagnostics.monitor.log_reader import RunLog
from darkpy.diagnostics.report import curves, heat
from darkpy.diagnostics.report.artifacts import sheet_uri
from darkpy.diagnostics.report.drawing import Drawing
from darkpy.diagnostics.report.style import style_sheet
from darkpy.finding import Finding
from darkpy.process import format_clock

MOST_FINDINGS = 200
MOST_SHEETS = 20
"""Contact sheets on the page; each has some 100 kB."""
MOST_PATHS = 10
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def drawings(log: RunLog) -> dict[str, Drawing]:
    """All that can be drawn of a log, by name."""
    made: dict[str, Drawing] = {}
    if log.updates:
        made = {"loss": curves.draw_loss(log), "rate": curves.draw_rate(log), "gradient": curves.draw_gradient(log)}
    if log.maps:
        made["map"] = curves.draw_map(log)
    for figure in heat.FIGURES:
        found = heat.gather(log, figure)
        if found is not None:
            made[f"layers_{figure.name}"] = heat.draw_heat(log, found)
    return made


def write_page(log: RunLog) -> str:
    """The HTML of a run."""
    title = f"{Path(log.run.cfg).name}: a run of darkpy"
    drawn = drawings(log)
    parts = [_section("findings", "Findings", _findings(log))]
    parts += (
        _section(name, text, _figure(drawn[name]))
        for name, text in (("loss", "Loss"), ("map", "mAP"), ("rate", "Learning rate"), ("gradient", "Gradients"))
        if name in drawn
    )
    for figure in heat.FIGURES:
        name = f"layers_{figure.name}"
        if name in drawn:
            parts.append(_section(name, f"{figure.title}, layer by layer", _figure(drawn[name], figure.told)))
    parts.append(_section("layers", "Layers at the end", _layer_table(log)))
    links = "".join(f'<li><a href="#{name}">{text}</a></li>' for name, text, _ in parts)
    sections = "".join(f'<section id="{name}"><h2>{text}</h2>{body}</section>' for name, text, body in parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}</title><style>{style_sheet()}</style></head><body>"
        f'<a class="skip" href="#findings">To the findings</a>{_header(log)}'
        f'<nav aria-label="Contents"><ul>{links}</ul></nav><main>{sections}<p>&nbsp;</p></main></body></html>\n'
    )


def _section(name: str, title: str, body: str) -> tuple[str, str, str]:
    return name, title, body


def _header(log: RunLog) -> str:
    run, last = log.run, log.updates[-1] if log.updates else None
    seconds = sum(one.seconds for one in log.updates if math.isfinite(one.seconds))
    end = f" of {run.net['max_batches']}" if run.net.get("max_batches") else ""
    facts = [
        ("updates", f"{last.batch_num if last else 0}{end}"),
        ("images seen", f"{last.seen if last else run.seen:,}".replace(",", " ")),
        ("average loss", f"{last.average:.4g}" if last else "-"),
        ("lowest average", f"{_least(one.average for one in log.updates)}"),
        ("learning rate", f"{last.rate:.3g}" if last else "-"),
        ("time of updates", format_clock(seconds)),
        ("refused", str(len(log.refused))),
        ("begun", _moment(log.starts[0].time) + (f", {len(log.starts)} starts" if len(log.starts) > 1 else "")),
    ]
    if log.maps:
        facts.append(("best mAP", f"{100 * max(one.mean for one in log.maps):.2f} %"))
    told = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    keys = ", ".join(f"{key}={_value(value)}" for key, value in run.net.items())
    return (
        f"<header><h1>{escape(Path(run.cfg).name)}</h1><p class=muted>{escape(run.cfg)}, as {escape(run.dialect)}'s"
        f" darknet reads it; {len(run.layers)} layers; log: {escape(str(log.path))}</p>{_verdict(log)}"
        f'<dl class="facts">{told}</dl><p class="muted"><code>{escape(keys)}</code></p></header>'
    )


def _verdict(log: RunLog) -> str:
    torn = f" {log.torn} lines of the log cannot be read." if log.torn else ""
    if not log.findings and not log.refused:
        return f'<p class="verdict">Nothing was found wrong.{torn}</p>'
    count = len(log.findings)
    text = f"{_count(count, 'finding')}, {_count(len(log.refused), 'minibatch')} refused.{torn}"
    first = f"<br>First: {escape(log.findings[0].text)}" if log.findings else ""
    return f'<p class="verdict bad"><strong>{text}</strong>{first}</p>'


def _findings(log: RunLog) -> str:
    if not log.findings:
        return "<p>None.</p>"
    sheets = 0
    items = []
    for one in log.findings[:MOST_FINDINGS]:
        uri = sheet_uri(log.path.parent, one.evidence) if one.evidence and sheets < MOST_SHEETS else None
        sheets += uri is not None
        items.append(_finding(one, uri))
    rest = len(log.findings) - len(items)
    more = f"<p>... and {rest} more in the log.</p>" if rest else ""
    return f'<ol class="findings">{"".join(items)}</ol>{more}'


def _finding(one: Finding, uri: str | None) -> str:
    tries = "".join(f"<li>{escape(hint)}</li>" for hint in one.hints)
    paths = "".join(f"<li><code>{escape(path)}</code></li>" for path in one.paths[:MOST_PATHS])
    more = f"<li>and {len(one.paths) - MOST_PATHS} more</li>" if len(one.paths) > MOST_PATHS else ""
    parts = [f"<h3>{escape(one.name)}, update {one.batch_num}</h3><p>{escape(one.text)}</p>"]
    if tries:
        parts.append(f'<p class="muted">Try, in this order:</p><ol class="tries">{tries}</ol>')
    if uri:
        told = f"The images of update {one.batch_num} with their labels, the worst first"
        parts.append(f'<figure><img alt="{told}" src="{uri}"></figure>')
    if one.evidence:
        parts.append(f'<p class="muted">Kept in <code>{escape(one.evidence)}</code></p>')
    if paths:
        parts.append(f"<details><summary>{_count(len(one.paths), 'picture')}</summary><ul>{paths}{more}</ul></details>")
    return f"<li>{''.join(parts)}</li>"


def _figure(drawing: Drawing, told: str = "") -> str:
    text = f"<p class=muted>{escape(told)}</p>" if told else ""
    return f"{text}<figure>{drawing.svg()}</figure>"


def _layer_table(log: RunLog) -> str:
    """The last look at each layer, as numbers."""
    looked = [one for one in log.updates if one.layers]
    if not looked:
        return "<p>The layers were not looked at.</p>"
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
        f"<details><summary>{len(rows)} layers, {len(columns)} figures</summary>"
        f'<div class="scroll" tabindex="0"><table><caption>As seen in update {last.batch_num}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 'es' if what.endswith('h') else 's'}"


def _least(values: Iterable[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    return f"{min(finite):.4g}" if finite else "-"


def _moment(time: float) -> str:
    try:
        return f"{datetime.fromtimestamp(time, tz=timezone.utc):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):  # a log may hold any number
        return "-"


def _value(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
