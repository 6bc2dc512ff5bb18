"""`darkpy report`: an HTML report of a training run."""

from __future__ import annotations

from pathlib import Path

import click

from darkpy.cli import console
from darkpy.cli.options import FILE_PATH, OUTPUT_PATH, Command, force_option, require_own
from darkpy.files import make_folder, write_atomic

REPORT_HELP = """Write an HTML report of a training run: loss, learning rate, gradients, layers over time, findings.

\b
  darkpy report backup
  darkpy report backup/my.health.jsonl --out my.html --png images
  darkpy report backup --tensorboard events && tensorboard --logdir events

RUN is the folder of a training's checkpoints, or its log, BASE.health.jsonl. The run may still be going, or have been
killed.

The report is one self-contained HTML file, BASE.report.html beside the log by default. Crosses mark skipped updates,
dashed lines findings; in the heat maps each row is a layer. --png also writes the charts as files.
"""


@click.command(cls=Command, help=REPORT_HELP)
@click.argument("run", type=FILE_PATH)
@click.option("--out", type=OUTPUT_PATH, metavar="FILE", help="HTML file.  [default: BASE.report.html beside the log]")
@click.option("--png", "images", type=OUTPUT_PATH, metavar="DIR", help="Also write the charts as PNG files.")
@click.option(
    "--tensorboard", "events", type=OUTPUT_PATH, metavar="DIR", help="Also write TensorBoard events, into a new folder."
)
@force_option
def report(run: Path, out: Path | None, images: Path | None, events: Path | None, overwrite: bool) -> None:
    from darkpy.diagnostics.monitor.run_log import LOG_SUFFIX, find_log, read_log
    from darkpy.diagnostics.report.events import write_events
    from darkpy.diagnostics.report.page import drawings, write_page
    from darkpy.finding import count_text

    log = read_log(find_log(run))
    html = out or log.path.with_name(f"{log.path.name.removesuffix(LOG_SUFFIX)}.report.html")
    charts = {} if images is None else {images / f"{name}.png": drawing for name, drawing in drawings(log).items()}
    for target in (html, *charts):
        require_own(target, overwrite=overwrite)
    if events is not None:
        count = write_events(log, events)
        console.info(f"wrote {count} values for TensorBoard into {events}")
    if images is not None:
        make_folder(images)
        for target, drawing in charts.items():
            write_atomic(target, [drawing.png()])
        console.info(f"wrote the charts into {images}")
    write_atomic(html, [write_page(log).encode("utf-8", errors="replace")])
    counts = f"{count_text(len(log.updates), 'update')}, {count_text(len(log.findings), 'finding')}"
    console.echo(f"{html}: {counts}, {len(log.refused)} skipped")
