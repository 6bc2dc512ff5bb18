"""`darkpy report`: a run on one page."""

from __future__ import annotations

from pathlib import Path

import click

from darkpy.cli import console
from darkpy.cli.options import FILE_PATH
from darkpy.cli.parsing import Command
from darkpy.errors import DarkpyError
from darkpy.files import make_folder, write_atomic

HELP = """Show a run on one page: loss, learning rate, gradients, every layer over time, and what was found wrong.

\b
  darkpy report backup
  darkpy report backup/my.health.jsonl --out my.html --png images
  darkpy report backup --tensorboard events && tensorboard --logdir events

RUN is the folder of a training's checkpoints, or its log, BASE.health.jsonl. A run that is still going may be looked
at, and so may one that was killed.

The page, BASE.report.html beside the log unless --out says otherwise, is one file that opens in any browser: it holds
its images and asks for nothing else. Crosses are minibatches that were refused, dashed lines findings; in the heat
maps each row is a layer. --png writes the same images as files.
"""


@click.command(cls=Command, help=HELP, short_help="A run on one page, with what was found wrong.")
@click.argument("run", type=FILE_PATH)
@click.option("--out", type=FILE_PATH, metavar="FILE", help="The page.  [default: BASE.report.html beside the log]")
@click.option("--png", "images", type=FILE_PATH, metavar="DIR", help="Write the images as PNG files, too.")
@click.option(
    "--tensorboard", "events", type=FILE_PATH, metavar="DIR", help="Write TensorBoard events into a new folder."
)
def report(run: Path, out: Path | None, images: Path | None, events: Path | None) -> None:
    from darkpy.diagnostics.monitor.log_reader import ENDING, find_log, read_log
    from darkpy.diagnostics.report.events import write_events
    from darkpy.diagnostics.report.page import drawings, write_page

    log = read_log(find_log(run))
    page = out or log.path.with_name(f"{log.path.name.removesuffix(ENDING)}.report.html")
    if page.resolve() == log.path.resolve():
        raise DarkpyError(f"{page} is the log itself", hint="name another file with --out")
    if events is not None:
        count = write_events(log, events)
        console.info(f"{events} holds {count} numbers for TensorBoard")
    if images is not None:
        make_folder(images)
        for name, drawing in drawings(log).items():
            write_atomic(images / f"{name}.png", [drawing.png()])
        console.info(f"{images} holds the images")
    write_atomic(page, [write_page(log).encode("utf-8", errors="replace")])
    click.echo(f"{page}: {len(log.updates)} updates, {len(log.findings)} findings, {len(log.refused)} refused")
