"""`darkpy compare-runs`: comparison of two evaluations."""

from __future__ import annotations

import json
from pathlib import Path

import click

from darkpy.cli import console
from darkpy.cli.options import FILE_PATH, OUTPUT_PATH, Command, force_option, json_option, require_own

COMPARE_RUNS_HELP = """Compare two evaluations: metrics, classes sorted by their change, images that changed.

\b
  darkpy evaluate my.cfg my.data old.weights --report old
  darkpy evaluate my.cfg my.data new.weights --report new
  darkpy compare-runs old new
  darkpy compare-runs old new --html changes.html

A and B are folders written by `darkpy evaluate --report`, or the evaluation.json in them. Changes are those from A to
B, in percentage points. The errors of an image are its missed objects and false positives.
"""


@click.command("compare-runs", cls=Command, help=COMPARE_RUNS_HELP)
@click.argument("a", type=FILE_PATH)
@click.argument("b", type=FILE_PATH)
@click.option("--html", type=OUTPUT_PATH, metavar="FILE", help="Also write an HTML page.")
@json_option
@force_option
def compare_runs(a: Path, b: Path, html: Path | None, as_json: bool, overwrite: bool) -> None:
    from darkpy.diagnostics.report.comparison_page import write_comparison_page
    from darkpy.diagnostics.report.evaluation_files import RECORD_FILE
    from darkpy.evaluation import run_comparison
    from darkpy.files import write_atomic

    if html is not None:
        require_own(html, overwrite=overwrite)
    comparison = run_comparison.compare_runs(*(run_comparison.read_record(path, RECORD_FILE) for path in (a, b)))
    if html is not None:
        write_atomic(html, [write_comparison_page(comparison).encode("utf-8", errors="replace")])
        console.info(f"wrote {html}")
    if as_json:
        console.echo(json.dumps(run_comparison.comparison_record(comparison)))
    else:
        console.echo("\n".join(run_comparison.comparison_lines(comparison)))
