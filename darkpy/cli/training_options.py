"""Arguments and options of the commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import click

from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    OUTPUT_PATH,
    WEIGHTS_PATH,
    UnitFloat,
    compose,
    device_option,
    dialect_option,
    max_pixels_option,
    strict_option,
)
from darkpy.cli.serving_options import dashboard_options


class TrainOptions(TypedDict, total=False):
    """Options of all commands that train by the names that click gives them.

    map*, *thresh: of detectors. display: of masks.
    """

    clear: bool
    resume: str | None
    freeze: int
    patience: int
    best_by: str | None
    darknet_log: bool
    show_imgs: bool
    chart: Path | None
    precision: str
    no_monitor: bool
    no_watch: bool
    max_bad_updates: int
    allow_empty: bool
    auto_batch: bool
    workers: int | None
    draft: bool
    dashboard: int | None
    host: str
    seed: int | None
    overwrite: bool
    rescue: bool
    device: str | None
    gpus: str | None
    dialect: str | None
    strict: bool
    validate: bool
    map_epochs: int | None
    iou_thresh: float
    thresh: float
    display: bool


train_options = compose(
    click.option("-clear", is_flag=True, help="Restart the schedule, as if WEIGHTS had seen 0 images."),
    click.option("--resume", type=click.Choice(("auto",)),
                 help="auto: continue from the newest whole checkpoint in backup=, if there is one; else start from "
                 "WEIGHTS."),
    click.option("--freeze", type=click.IntRange(0), metavar="N", default=0,
                 help="Do not train the first N layers, nor their batch norm statistics; `darkpy show CFG --freeze N` "
                 "lists those that still learn."),
    click.option("--patience", type=click.IntRange(0), metavar="N", default=0,
                 help="End the run after N evaluations without improvement of the metric; the best weights are kept."),
    click.option("--best-by", metavar="METRIC",
                 help="Metric of the best weights, evaluated on DATA's `valid` list: map50, map, f1, recall, "
                 "class:NAME or loss; of a classifier accuracy or loss; of masks iou, class:NAME or loss; of others "
                 "loss.  [default: mAP at -iou_thresh, accuracy, iou or loss]"),
    click.option("--darknet-log", is_flag=True, help="Print what darknet's program prints, line for line."),
    click.option("-show_imgs", "show_imgs", is_flag=True,
                 help="First write augmented samples into preview_BASE/ beside the weights; see "
                 "`darkpy dataset preview`."),
    click.option("-chart", type=OUTPUT_PATH, metavar="FILE",
                 help="PNG chart of loss and mAP, redrawn as it trains.  [default: chart_BASE.png beside the weights]"),
    click.option("--precision", type=click.Choice(("fp32", "bf16")), default="fp32", show_default=True,
                 help="bf16 is about twice as fast where the hardware supports it, and less accurate."),
    click.option("--no-monitor", is_flag=True, help="Disable the monitor: make every update, report nothing."),
    click.option("--no-watch", is_flag=True, hidden=True),  # its earlier name
    click.option("--max-bad-updates", type=click.IntRange(1), default=100, metavar="N", show_default=True,
                 help="Stop with an error after so many skipped updates in a row."),
    click.option("--allow-empty", is_flag=True, help="Train although no image has a usable object."),
    click.option("--fit", "auto_batch", is_flag=True,
                 help="Raise the subdivisions if GPU memory is insufficient."),
    click.option("--workers", type=click.IntRange(0, 256), metavar="N",
                 help="Processes that load images.  [default: 1 with a CPU, up to 8 with a GPU]"),
    click.option("--draft", is_flag=True,
                 help="Decode JPEGs of twice the network's size and more at a half, a quarter or an eighth: faster, "
                 "with other pixels than darknet's."),
    click.option("--seed", type=click.IntRange(0, 2**63 - 1), metavar="N",
                 help="Random seed; the same seed reproduces the run.  [default: 0; a resumed run keeps its own]"),
    click.option("--rescue", is_flag=True,
                 help="Continue a ruined run from its healthy weights, with the first remedy of its findings in a copy "
                 "of CFG."),
    click.option("--force", "overwrite", is_flag=True, help="Overwrite the final weights of a finished run."),
    dashboard_options,
    device_option,
    click.option("-gpus", metavar="N,N", help="GPUs that share each minibatch: batch and rate do not change."),
    dialect_option,
    strict_option,
    max_pixels_option,
)  # fmt: skip
map_options = compose(
    click.option("-map", "validate", is_flag=True, help="Compute mAP on DATA's `valid` list during training."),
    click.option("-mAP_epochs", "map_epochs", type=click.IntRange(1), metavar="N",
                 help="Epochs between two computations of mAP.  [default: 4]"),
    click.option("-iou_thresh", type=UnitFloat(), default=0.5, metavar="0..1", show_default=True,
                 help="IoU above which a detection counts as correct."),
    click.option("-thresh", type=UnitFloat(), default=0.25, metavar="0..1", show_default=True,
                 help="Score above which detections count; does not change the mAP."),
)  # fmt: skip
data_argument = click.argument("data", type=FILE_PATH)
cfg_argument = click.argument("cfg", type=CFG_PATH)
weights_argument = click.argument("weights", type=WEIGHTS_PATH, required=False)
data_cfg_weights = compose(data_argument, cfg_argument, weights_argument)
"""Arguments of darknet's commands, in darknet's order."""
