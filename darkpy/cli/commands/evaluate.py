"""What a detection network is worth: `detector map`, `detector recall`, `detector valid` and `evaluate`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkpy.cli import console
from darkpy.cli.commands.judging import Task
from darkpy.cli.options import (
    FILE_PATH,
    Decorator,
    UnitFloat,
    ignored_options,
    letterbox_option,
    network_options,
    speed_options,
)
from darkpy.cli.parsing import Command

if TYPE_CHECKING:
    from darkpy.evaluation.average_precision import AveragePrecision
    from darkpy.evaluation.detect import ImageStatus
    from darkpy.evaluation.ground_truth import GroundTruth

MAX_BATCH_SIZE = 1024
MAX_POINTS = 1 << 16

_LIST = "The images are those of the list that valid= in DATA names; where their labels lie is the --dialect's rule."
MAP_HELP = f"""AlexeyAB's `detector map`: the mean average precision on DATA's valid list, with his numbers and lines.

\b
  darkpy detector map my.data my.cfg my.weights
  darkpy detector map my.data my.cfg my.weights -iou_thresh .75 -points 101

{_LIST} difficult= may name a second list of the same length, whose labels are objects that need not be found.

The mean is over all classes, also those without an object. Images are stretched, or letterboxed where the cfg says
letter_box=1, in both dialects: pjreddie's darknet has no such command.
"""
RECALL_HELP = f"""darknet's `detector recall`: of how many objects a box is found, whatever its class.

\b
  darkpy detector recall my.data my.cfg my.weights

{_LIST} A line for each image counts all images up to it: the image's number, objects found, objects; boxes
per image, the objects' mean IoU with their best box, and the share found.
"""
VALID_HELP = """darknet's `detector valid`: write what is found on DATA's valid list for other programs to judge.

\b
  darkpy detector valid my.data my.cfg my.weights
  darkpy detector valid my.data my.cfg my.weights -out comp3_det_test_

DATA says which files: eval=voc (or nothing) writes comp4_det_test_CLASS.txt, eval=coco coco_results.json, eval=imagenet
imagenet-detection.txt, and there are bdd and kitti; results= names the folder, else it is results/.

Scores begin at .005 (pjreddie, letterboxed images, NMS .45) or .001 (alexeyab, stretched ones unless the cfg says
letter_box=1, NMS .6).
"""
EVALUATE_HELP = f"""How good is a detection network? darknet's mAP and COCO's AP, side by side.

\b
  darkpy evaluate my.cfg my.data my.weights
  darkpy evaluate my.cfg my.data my.weights --json > worth.json

{_LIST}

darknet's mAP is that of `darkpy detector map`: one IoU, all classes. COCO's is the mean over IoU .50 to .95 and the
classes that have objects, for the boxes that `darkpy detector valid` writes; it needs pycocotools (pip install
pycocotools), and is left out without it.
"""

_batch_option = click.option(
    "--batch-size",
    type=click.IntRange(1, MAX_BATCH_SIZE),
    metavar="N",
    help="Images at a time.  [default: 8, or 1 where a layer has a memory]",
)
_json_option = click.option("--json", "is_json", is_flag=True, help="Print JSON instead of lines.")


def _letterbox_option(default: str) -> Decorator:
    """letterbox_option, for commands that have the same default in both dialects."""
    text = f"Keep an image's proportions, or not.  [default: {default}]"
    return click.option("letterbox", "-letter_box/--stretch", default=None, help=text)


def _check_points(ctx: click.Context, option: click.Parameter, value: int) -> int:
    if value == 1:
        raise click.BadParameter("one point is no curve: 0, 11, 101 or another number from 2.", ctx, option)
    return value


def _map_options(function: Any) -> Any:
    for decorator in (
        click.option(
            "-points",
            type=click.IntRange(0, MAX_POINTS),
            metavar="N",
            default=0,
            show_default=True,
            callback=_check_points,
            help="Points of recall: 11 as in VOC 2007, 101 as in COCO; 0 is the area under the curve.",
        ),
        click.option(
            "-iou_thresh",
            type=UnitFloat(),
            metavar="0..1",
            default=0.5,
            show_default=True,
            help="By how much a box must fit an object.",
        ),
        click.option(
            "-thresh",
            type=UnitFloat(),
            metavar="0..1",
            default=0.25,
            show_default=True,
            help="What TP, FP and FN count; not the mAP.",
        ),
    ):
        function = decorator(function)
    return function


@click.command("map", cls=Command, help=MAP_HELP, short_help="Mean average precision, AlexeyAB's way.")
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH)
@_map_options
@_letterbox_option("as letter_box in the cfg says")
@_batch_option
@_json_option
@network_options
@speed_options
@ignored_options
def map_command(
    data: Path,
    cfg: Path,
    weights: Path,
    thresh: float,
    iou_thresh: float,
    points: int,
    letterbox: bool | None,
    batch_size: int | None,
    is_json: bool,
    **opening: Any,
) -> int:
    from darkpy.evaluation import metric_tables
    from darkpy.evaluation.average_precision import map_options
    from darkpy.evaluation.runner import Metric

    task = Task(data, cfg, weights, **opening)
    ranking = _ranking(task, task.read_ground_truth(), iou_thresh, thresh)
    views = task.run([Metric(map_options(task.network, letterbox), ranking.add)], batch_size)
    found = ranking.result(points)
    task.tell_loss(found, points, letterbox, batch_size)
    if is_json:
        click.echo(json.dumps(metric_tables.map_record(found, task.names)))
    else:
        click.echo("\n".join(metric_tables.map_lines(found, task.names)))
    return _exit_code(views)


@click.command(cls=Command, help=RECALL_HELP, short_help="How many objects are found, whatever their class.")
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH)
@_letterbox_option("stretched")
@_batch_option
@_json_option
@network_options
@speed_options
@ignored_options
def recall(
    data: Path,
    cfg: Path,
    weights: Path,
    letterbox: bool | None,
    batch_size: int | None,
    is_json: bool,
    **opening: Any,
) -> int:
    from darkpy.evaluation import metric_tables
    from darkpy.evaluation.recall import RECALL_OPTIONS, Recall
    from darkpy.evaluation.runner import Metric

    task = Task(data, cfg, weights, **opening)
    counts = Recall(task.read_ground_truth(), len(task.paths))
    views = task.run([Metric(replace(RECALL_OPTIONS, letterbox=bool(letterbox)), counts.add)], batch_size)
    found = counts.result()
    if is_json:
        click.echo(json.dumps(metric_tables.recall_record(found[-1])))
    else:
        click.echo("\n".join(map(metric_tables.recall_line, found)))
    return _exit_code(views)


@click.command(cls=Command, help=VALID_HELP, short_help="Write what is found for other programs to judge.")
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH)
@click.option("-out", metavar="NAME", help="What the files' names begin with, in place of darknet's.")
@letterbox_option
@_batch_option
@network_options
@speed_options
@ignored_options
def valid(
    data: Path,
    cfg: Path,
    weights: Path,
    out: str | None,
    letterbox: bool | None,
    batch_size: int | None,
    **opening: Any,
) -> int:
    from darkpy.evaluation.detection_store import DetectionStore
    from darkpy.evaluation.result_files import RESULT_FORMATS, check_names, valid_options, write_results
    from darkpy.evaluation.runner import Metric

    task = Task(data, cfg, weights, default_list="data/train.list", with_class_map=True, **opening)
    kind = task.data.entries.get("eval", "voc")
    if kind not in RESULT_FORMATS:
        console.warn(f"{data}: eval={kind} is not one of {', '.join(RESULT_FORMATS)}: voc's files are written")
        kind = "voc"
    check_names(kind, task.names)
    found = DetectionStore()
    views = task.run([Metric(valid_options(task.network, letterbox, task.class_map), found.add)], batch_size)
    folder = Path(task.data.entries.get("results", "results"))
    if found.nan_count:
        console.warn(f"boxes that are no numbers (NaN) and are left out: {found.nan_count}")
    written = write_results(kind, folder, found, views, task.names, task.network.plan.dialect, out)
    console.info(f"{written[0]} is written" if len(written) == 1 else f"{len(written)} files are written into {folder}")
    return _exit_code(views)


@click.command(cls=Command, help=EVALUATE_HELP, short_help="How good is a detection network?")
@click.argument("cfg", type=FILE_PATH)
@click.argument("data", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH)
@_map_options
@_letterbox_option("as in darknet's own commands")
@_batch_option
@_json_option
@network_options
@speed_options
def evaluate(
    cfg: Path,
    data: Path,
    weights: Path,
    thresh: float,
    iou_thresh: float,
    points: int,
    letterbox: bool | None,
    batch_size: int | None,
    is_json: bool,
    **opening: Any,
) -> int:
    from darkpy.evaluation import coco, metric_tables
    from darkpy.evaluation.average_precision import map_options
    from darkpy.evaluation.detection_store import DetectionStore
    from darkpy.evaluation.result_files import valid_options
    from darkpy.evaluation.runner import Metric

    has_coco = coco.is_available()
    if not has_coco:
        console.info("COCO's AP is left out: it needs pycocotools (pip install pycocotools)")
    task = Task(data, cfg, weights, **opening)
    truths, boxes = task.read_ground_truth(), DetectionStore()
    ranking = _ranking(task, truths, iou_thresh, thresh)
    judges = [Metric(map_options(task.network, letterbox), ranking.add)]
    if has_coco:
        judges.append(Metric(valid_options(task.network, letterbox), boxes.add))
    views = task.run(judges, batch_size)
    found = ranking.result(points)
    task.tell_loss(found, points, letterbox, batch_size)
    others = coco.coco_precision(boxes, truths, views, len(task.names)) if has_coco else None
    if is_json:
        click.echo(json.dumps(metric_tables.evaluation_record(found, others, task.names)))
    else:
        click.echo("\n".join(metric_tables.evaluation_lines(found, others, task.names)))
    return _exit_code(views)


def _ranking(task: Task, truths: GroundTruth, iou_thresh: float, thresh: float) -> AveragePrecision:
    from darkpy.evaluation.average_precision import AveragePrecision

    difficult = task.read_difficult()
    return AveragePrecision(truths, len(task.names), iou_thresh=iou_thresh, thresh=thresh, difficult=difficult)


def _exit_code(views: list[ImageStatus]) -> int:
    return 2 if any(view.error is not None for view in views) else 0
