"""Evaluation of detection networks: `detector map`, `detector recall`, and `evaluate`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.detection_options import tiles_option
from darkpy.cli.load import class_names, open_network
from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    OUTPUT_PATH,
    WEIGHTS_PATH,
    Command,
    Decorator,
    LoadOptions,
    UnitFloat,
    collect,
    fast_network_options,
    force_option,
    json_option,
)
from darkpy.config.classmap import read_class_map
from darkpy.data.lists.text_files import names_for, read_data
from darkpy.errors import DarkpyError
from darkpy.evaluation.defaults import DEFAULT_TOP
from darkpy.files import require_output_folder, write_folder

if TYPE_CHECKING:
    from darkpy.evaluation.average_precision import AveragePrecision, MeanAveragePrecision
    from darkpy.evaluation.detect import ImageStatus
    from darkpy.evaluation.ground_truth import GroundTruth
    from darkpy.evaluation.runner import Metric

MAX_BATCH_SIZE = 1024
MAX_CURVE_POINTS = 1 << 16
EXIT_CODE_UNREADABLE_IMAGES = 2

_ABOUT_DATA = "valid= in DATA names the list of images; the --dialect decides where their labels are looked for."
MAP_HELP = f"""AlexeyAB's `detector map`: mean average precision on DATA's valid list, with the same numbers and output.

\b
  darkpy detector map my.data my.cfg my.weights
  darkpy detector map my.data my.cfg my.weights -iou_thresh .75 -points 101

{_ABOUT_DATA} difficult= may name a second list of the same length, with the labels of objects that do not count as
missed.

The mean is over all classes, including those without an object. Images are stretched, or letterboxed if the cfg has
letter_box=1, in both dialects: pjreddie's darknet has no such command.
"""
RECALL_HELP = f"""darknet's `detector recall`: the share of objects that some box matches, regardless of class.

\b
  darkpy detector recall my.data my.cfg my.weights

{_ABOUT_DATA} Each output line covers the images so far: index of the image, objects found, objects, boxes per image,
mean IoU of the objects with their best box, and recall.
"""
EVALUATE_HELP = f"""Evaluate a network on DATA's valid list: darknet's mAP and COCO's AP, accuracy, or IoU of masks.

\b
  darkpy evaluate my.cfg my.data my.weights
  darkpy evaluate my.cfg my.data my.weights --json > metrics.json
  darkpy evaluate my.cfg my.data my.weights --report report

--report writes a folder: evaluation.html, a page on the network's errors (findings, confused classes, kinds
of errors, curves, sizes, calibration, the worst errors as images), evaluation.json and CSV files with the same
numbers. `darkpy compare-runs` compares two reports.

Detectors: {_ABOUT_DATA} darknet's mAP is that of `darkpy detector map`: one IoU threshold, all classes. COCO's AP, with
pycocotools' numbers, is the mean over IoU .50 to .95 and the classes that have objects, for the detections of
`darkpy detector valid`.

Classifiers: accuracy as in `darkpy classifier valid`, of each class; k of top-k is top= in DATA, or {DEFAULT_TOP}. The
options -thresh, -iou_thresh, -points and -letter_box are for detectors.

Segmentation networks: IoU of each class and their mean, over the pixels of all images, and no report.
"""


@dataclass(frozen=True, kw_only=True)
class _MapOptions:
    """Average precision settings: the values of `_map_options`."""

    thresh: float
    iou_thresh: float
    points: int


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Forward passes over the images: the values of `run_options`."""

    batch_size: int | None
    tiles: str | None


def _letterbox_option(default: str) -> Decorator:
    """letterbox_option of commands with the same default in both dialects."""
    text = f"Letterbox images (keep the aspect ratio) or stretch them.  [default: {default}]"
    return click.option("letterbox", "-letter_box/--stretch", default=None, help=text)


def _check_points(ctx: click.Context, option: click.Parameter, value: int) -> int:
    if value == 1:
        raise click.BadParameter("a curve needs 0, 11, 101 or another number of points from 2.", ctx, option)
    return value


run_options = collect(
    RunOptions,
    "pace",
    click.option(
        "--batch-size",
        type=click.IntRange(1, MAX_BATCH_SIZE),
        metavar="N",
        help="Images per batch, or tiles.  [default: 8, or 1 for recurrent networks]",
    ),
    tiles_option,
)
_map_options = collect(
    _MapOptions,
    "metric",
    click.option(
        "-thresh",
        type=UnitFloat(),
        metavar="0..1",
        default=0.25,
        show_default=True,
        help="Score above which detections count in TP, FP and FN; the mAP uses all.",
    ),
    click.option(
        "-iou_thresh",
        type=UnitFloat(),
        metavar="0..1",
        default=0.5,
        show_default=True,
        help="IoU above which a detection counts as correct.",
    ),
    click.option(
        "-points",
        type=click.IntRange(0, MAX_CURVE_POINTS),
        metavar="N",
        default=0,
        show_default=True,
        callback=_check_points,
        help="Recall points: 11 as in VOC 2007, 101 as in COCO, 0 for the area under the curve.",
    ),
)


class EvaluationSession:
    """A loaded network, its class names, and the images of the valid= list of a .data file.

    with_class_map: read map=, which selects classes of a tree; only those have names then.
    Raises: DarkpyError when one of the files cannot be read, ConfigError, WeightsError.
    """

    def __init__(
        self,
        data: Path,
        cfg: Path,
        weights: Path,
        load: LoadOptions,
        *,
        default_list: str = "data/train.txt",
        with_class_map: bool = False,
    ) -> None:
        from darkpy.data.lists.paths import read_image_list

        self.data = read_data(data)
        image_list = self.data.find("valid", default_list)
        assert image_list is not None
        if "valid" not in self.data.entries and not image_list.is_file():
            raise DarkpyError(f"{data}: has no valid=", hint="name the list of images to evaluate on: valid=val.txt")
        self.paths = read_image_list(image_list)
        self.cfg, self.weights, self.load = cfg, weights, load
        self.network = open_network(cfg, weights, load, examples=self.paths)
        names_file = self.data.find_names() if self.network.heads else None
        self.class_map: tuple[int, ...] = ()
        class_map_file = self.data.find("map") if with_class_map else None
        if class_map_file is not None and any(getattr(head, "tree", None) for head in self.network.heads):
            # darknet ignores map= without a tree
            self.class_map = read_class_map(class_map_file, max(head.class_count for head in self.network.heads))
        tree_names = names_for(len(self.class_map), names_file) if self.class_map else None
        self.names = tree_names or class_names(self.network, names_file)

    def read_ground_truth(self) -> GroundTruth:
        """Read the labels of the images; warn about missing and invalid ones."""
        from darkpy.evaluation.ground_truth import read_ground_truth

        return self._warned(read_ground_truth(self.paths, self.network.plan.dialect, len(self.names)))

    def read_difficult(self) -> GroundTruth | None:
        """Read the objects of the difficult= list, which do not count as missed. Raises: DarkpyError."""
        from darkpy.evaluation.ground_truth import read_difficult

        difficult = read_difficult(self.data, self.paths, self.network.plan.dialect, len(self.names))
        return None if difficult is None else self._warned(difficult)

    def average_precision(self, truths: GroundTruth, options: _MapOptions) -> AveragePrecision:
        from darkpy.evaluation.average_precision import AveragePrecision

        return AveragePrecision(
            truths,
            len(self.names),
            iou_thresh=options.iou_thresh,
            thresh=options.thresh,
            difficult=self.read_difficult(),
        )

    def run(self, metrics: Sequence[Metric], pace: RunOptions) -> list[ImageStatus]:
        """Run the network on all images; print an error for each that cannot be read."""
        from darkpy.evaluation.runner import run_metrics

        return self.follow(run_metrics(self.network, self.paths, metrics, batch_size=pace.batch_size, tiles=pace.tiles))

    def follow(self, running: Iterator[ImageStatus]) -> list[ImageStatus]:
        """Show the progress of a run over all images; print an error for each that cannot be read."""
        statuses = []
        for status in console.track(running, len(self.paths)):
            if status.error is not None:
                console.error(status.error)
            statuses.append(status)
        return statuses

    def report_precision_loss(
        self, result: MeanAveragePrecision, options: _MapOptions, letterbox: bool | None, pace: RunOptions
    ) -> None:
        """Print the mAP lost by --precision, from a second evaluation in fp32; nothing for fp32."""
        from darkpy.evaluation.average_precision import map_options
        from darkpy.evaluation.ground_truth import read_ground_truth
        from darkpy.evaluation.runner import Metric

        if self.load.precision == "fp32":
            return
        truths = read_ground_truth(self.paths, self.network.plan.dialect, len(self.names))  # warned about before
        precision = self.average_precision(truths, options)
        self.network = open_network(self.cfg, self.weights, replace(self.load, precision="fp32"), examples=self.paths)
        self.run([Metric(map_options(self.network, letterbox), precision.add)], pace)
        exact = precision.result(options.points)
        lost = 100 * (result.mean - exact.mean)
        low = f"mAP {result.mean:.2%} in {self.load.precision}"
        console.info(f"{low}, {exact.mean:.2%} in fp32: {lost:+.2f} points")

    def _warned(self, truths: GroundTruth) -> GroundTruth:
        for message in truths.messages(len(self.paths)):
            console.warn(message)
        return truths


@click.command("map", cls=Command, help=MAP_HELP)
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@_map_options
@_letterbox_option("letter_box= of the cfg")
@run_options
@json_option
@fast_network_options
def map_command(
    data: Path,
    cfg: Path,
    weights: Path,
    metric: _MapOptions,
    letterbox: bool | None,
    pace: RunOptions,
    as_json: bool,
    load: LoadOptions,
) -> int:
    from darkpy.evaluation import metric_tables
    from darkpy.evaluation.average_precision import map_options
    from darkpy.evaluation.runner import Metric

    session = EvaluationSession(data, cfg, weights, load)
    precision = session.average_precision(session.read_ground_truth(), metric)
    statuses = session.run([Metric(map_options(session.network, letterbox), precision.add)], pace)
    result = precision.result(metric.points)
    session.report_precision_loss(result, metric, letterbox, pace)
    if as_json:
        console.echo(json.dumps(metric_tables.map_record(result, session.names)))
    else:
        console.echo("\n".join(metric_tables.map_lines(result, session.names)))
    return exit_code_of(statuses)


@click.command(cls=Command, help=RECALL_HELP)
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@_letterbox_option("stretch")
@run_options
@json_option
@fast_network_options
def recall(
    data: Path,
    cfg: Path,
    weights: Path,
    letterbox: bool | None,
    pace: RunOptions,
    as_json: bool,
    load: LoadOptions,
) -> int:
    from darkpy.evaluation import metric_tables
    from darkpy.evaluation.recall import RECALL_OPTIONS, Recall
    from darkpy.evaluation.runner import Metric

    session = EvaluationSession(data, cfg, weights, load)
    counts = Recall(session.read_ground_truth(), len(session.paths))
    settings = replace(RECALL_OPTIONS, letterbox=bool(letterbox))
    statuses = session.run([Metric(settings, counts.add)], pace)
    results = counts.result()
    if as_json:
        console.echo(json.dumps(metric_tables.recall_record(results[-1])))
    else:
        console.echo("\n".join(map(metric_tables.recall_line, results)))
    return exit_code_of(statuses)


@click.command(cls=Command, help=EVALUATE_HELP)
@click.argument("cfg", type=CFG_PATH)
@click.argument("data", type=FILE_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@_map_options
@_letterbox_option("as in detector map and detector valid")
@run_options
@json_option
@click.option("--report", "folder", type=OUTPUT_PATH, metavar="DIR", help="Write a report: HTML page, JSON, CSV.")
@force_option
@fast_network_options
def evaluate(
    cfg: Path,
    data: Path,
    weights: Path,
    metric: _MapOptions,
    letterbox: bool | None,
    pace: RunOptions,
    as_json: bool,
    folder: Path | None,
    overwrite: bool,
    load: LoadOptions,
) -> int:
    import darkpy
    from darkpy.cli.commands.classifier import evaluate_classifier
    from darkpy.cli.commands.segmenter import evaluate_masks
    from darkpy.diagnostics.report.evaluation_files import PAGE_FILE, REPORT_FILES, classifier_files, detector_files
    from darkpy.evaluation import metric_tables
    from darkpy.evaluation.detector_report import EvaluatedRun
    from darkpy.evaluation_run import DetectorEvaluation
    from darkpy.training.setup import MASK_KINDS, find_kind

    if folder is not None:
        require_output_folder(folder, REPORT_FILES, mark=PAGE_FILE, overwrite=overwrite)
    session = EvaluationSession(data, cfg, weights, load)
    run = EvaluatedRun(str(cfg), str(weights), str(data), darkpy.__version__)
    if find_kind(session.network.plan, session.data) in MASK_KINDS:
        if folder is not None:
            raise DarkpyError(
                f"{cfg} is a segmentation network, for which there is no report", hint="leave --report out"
            )
        return evaluate_masks(session.network, session.data, session.paths, pace.batch_size, as_json)
    if not session.network.heads:
        classified = evaluate_classifier(session.network, session.data, session.paths, run, pace.batch_size, as_json)
        if folder is not None:
            write_folder(folder, classifier_files(classified))
            console.info(f"wrote {folder / PAGE_FILE}")
        return EXIT_CODE_UNREADABLE_IMAGES if classified.unreadable else 0
    truths = session.read_ground_truth()
    evaluation = DetectorEvaluation(
        session.network,
        session.names,
        session.paths,
        truths,
        difficult=session.read_difficult(),
        thresh=metric.thresh,
        iou_thresh=metric.iou_thresh,
        letterbox=letterbox,
    )
    session.follow(evaluation.run(batch_size=pace.batch_size, tiles=pace.tiles))
    report = evaluation.report(run, metric.points)
    session.report_precision_loss(report.darknet, metric, letterbox, pace)
    if as_json:
        console.echo(json.dumps(metric_tables.evaluation_record(report.darknet, report.coco, session.names)))
    else:
        console.echo("\n".join(metric_tables.evaluation_lines(report.darknet, report.coco, session.names)))
    if folder is not None:
        write_folder(folder, detector_files(report, truths))
        console.info(f"wrote {folder / PAGE_FILE}")
    return exit_code_of(report.images)


def exit_code_of(statuses: Sequence[ImageStatus]) -> int:
    return EXIT_CODE_UNREADABLE_IMAGES if any(status.error is not None for status in statuses) else 0
