"""Detections written for other programs: darknet's `detector valid` and `detector valid2`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from darkpy.cli import console
from darkpy.cli.commands.evaluate import EvaluationSession, RunOptions, exit_code_of, run_options
from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    WEIGHTS_PATH,
    Command,
    LoadOptions,
    compose,
    fast_network_options,
    letterbox_option,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

VALID_HELP = """darknet's `detector valid`: write the detections on DATA's valid list for external evaluation.

\b
  darkpy detector valid my.data my.cfg my.weights
  darkpy detector valid my.data my.cfg my.weights -out comp3_det_test_

eval= in DATA chooses the format: voc (the default) writes comp4_det_test_CLASS.txt, coco coco_results.json, imagenet
imagenet-detection.txt; bdd and kitti exist too. results= names the folder.  [default: results]

Detections start at a score of .005 (pjreddie: letterboxed images, NMS .45) or .001 (alexeyab: stretched images unless
the cfg has letter_box=1, NMS .6).
"""
VALID2_HELP = """darknet's `detector valid2`: `detector valid`, with outputs averaged with those for the mirrored image.

\b
  darkpy detector valid2 my.data my.cfg my.weights

It takes twice the time. Four faults of darknet's are corrected: its boxes are half a cell off, for one.
"""


class _ValidOptions(TypedDict):
    data: Path
    cfg: Path
    weights: Path
    out: str | None
    letterbox: bool | None
    pace: RunOptions
    load: LoadOptions


_valid_parameters = compose(
    click.argument("data", type=FILE_PATH),
    click.argument("cfg", type=CFG_PATH),
    click.argument("weights", type=WEIGHTS_PATH),
    click.option("-out", metavar="NAME", help="Prefix of the files' names, in place of darknet's."),
    letterbox_option,
    run_options,
    fast_network_options,
)


@click.command(cls=Command, help=VALID_HELP)
@_valid_parameters
def valid(**options: Unpack[_ValidOptions]) -> int:
    return _write_results(mirrors=False, **options)


@click.command(cls=Command, help=VALID2_HELP)
@_valid_parameters
def valid2(**options: Unpack[_ValidOptions]) -> int:
    return _write_results(mirrors=True, **options)


def _write_results(
    *,
    mirrors: bool,
    data: Path,
    cfg: Path,
    weights: Path,
    out: str | None,
    letterbox: bool | None,
    pace: RunOptions,
    load: LoadOptions,
) -> int:
    """Write the files of `eval=`. mirrors: average with the outputs for mirrored images. Returns: the exit code."""
    from darkpy.evaluation.detection_store import DetectionStore
    from darkpy.evaluation.mirroring import average_with_mirror
    from darkpy.evaluation.result_files import RESULT_FORMATS, check_names, valid_options, write_results
    from darkpy.evaluation.runner import Metric

    session = EvaluationSession(data, cfg, weights, load, default_list="data/train.list", with_class_map=True)
    result_format = session.data.entries.get("eval", "voc")
    if result_format not in RESULT_FORMATS:
        console.warn(f"{data}: eval={result_format} is not one of {', '.join(RESULT_FORMATS)}: using voc")
        result_format = "voc"
    check_names(result_format, session.names)
    if mirrors:
        average_with_mirror(session.network)
    detections = DetectionStore()
    settings = valid_options(session.network, letterbox, session.class_map)
    statuses = session.run([Metric(settings, detections.add)], pace)
    folder = session.data.find_folder("results", "results")
    dialect = session.network.plan.dialect
    files = write_results(result_format, folder, detections, statuses, session.names, dialect, out)
    console.info(f"wrote {files[0]}" if len(files) == 1 else f"wrote {len(files)} files into {folder}")
    return exit_code_of(statuses)
