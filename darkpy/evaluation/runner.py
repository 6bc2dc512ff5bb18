"""Metrics over a list of images: the pipeline of `detect`, its tensors handed to each metric.

`darkpy.evaluate`: mean average precision of a network on a data set.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from darkpy.data.lists.image_list import open_list_and_data
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.evaluation.average_precision import AveragePrecision, MeanAveragePrecision, map_options
from darkpy.evaluation.detect import BATCH_SIZE, DetectOptions, ImageStatus, detect_batches, require_detector
from darkpy.evaluation.ground_truth import read_difficult, read_ground_truth
from darkpy.evaluation.tiles import TileGrid
from darkpy.network import Network, require_network
from darkpy.ops.boxes import Detections
from darkpy.sources.frames import Frame


class Metric(NamedTuple):
    """A consumer of detections, with its detection options; image_M are indices of the list."""

    options: DetectOptions
    add: Callable[[Detections], object]


def run_metrics(
    network: Network,
    paths: Sequence[str | os.PathLike[str]],
    metrics: Sequence[Metric],
    *,
    batch_size: int | None = None,
    tiles: str | tuple[int, int] | None = None,
) -> Iterator[ImageStatus]:
    """Detect on each image, pass the detections to all metrics, and yield each image's status when it is done.

    An image that cannot be read has no detections. Metrics with the same `letterbox` share a forward pass.
    Recurrent layers take the list as one sequence, as AlexeyAB's do, if images come one by one; else each batch starts
    from their initial state. batch_size: None takes 1 for recurrent networks, else a fast one.
    tiles: as in `darkpy.detect`.
    Raises: DarkpyError when the network has no detection head, or was opened for sequences, or `tiles` is not a grid.
    """
    batch_size = batch_size or (1 if network.has_memory else BATCH_SIZE)
    grid = None if tiles is None else TileGrid.parse(tiles)
    options = [metric.options for metric in metrics]
    for images, detections in detect_batches(
        network, map(Frame.of_file, paths), options, batch_size=batch_size, keep_state=batch_size == 1, tiles=grid
    ):
        if detections:
            for metric, detected in zip(metrics, detections, strict=True):
                metric.add(detected)
        yield from (image.status for image in images)


def evaluate(
    network: Network,
    images: str | os.PathLike[str],
    *,
    thresh: float = 0.25,
    iou_thresh: float = 0.5,
    points: int = 0,
    letterbox: bool | None = None,
    batch_size: int | None = None,
    tiles: str | tuple[int, int] | None = None,
) -> MeanAveragePrecision:
    """Compute the mean average precision that `darkpy detector map` prints.

    images: a `.data` file, whose `valid` list is used, a list file (.txt, .list), or a folder; their labels lie where
        the network's dialect looks for them.
    thresh: score above which detections count in TP, FP and FN; the average precision ranks all.
    iou_thresh: IoU above which a detection counts as correct.
    points: of the precision-recall curve: 11 as in VOC 2007, 101 as in COCO, 0 for the area under it.
    letterbox: None takes letter_box= of the cfg.
    tiles: as in `darkpy.detect`.
    Raises: DarkpyError when the network does not detect or is in training mode, or the list or its labels cannot be
        read. Images that cannot be read, and invalid labels, are warned about.
    """
    require_network(network, "evaluate")
    require_detector(network)
    if network.training:
        raise DarkpyError(f"{network.plan.file} is in training mode", hint="call network.eval() before evaluate")
    listed, data = open_list_and_data(Path(images), "valid")
    paths = [listed.file(index) for index in range(len(listed.images))]
    class_count, dialect = max(head.class_count for head in network.heads), network.plan.dialect
    truths = read_ground_truth(paths, dialect, class_count)
    difficult = None if data is None else read_difficult(data, paths, dialect, class_count)
    precision = AveragePrecision(truths, class_count, iou_thresh=iou_thresh, thresh=thresh, difficult=difficult)
    metrics = [Metric(map_options(network, letterbox), precision.add)]
    statuses = list(run_metrics(network, paths, metrics, batch_size=batch_size, tiles=tiles))
    unreadable = [status.error.message for status in statuses if status.error is not None]
    problems = [text for read in (truths, difficult) if read is not None for text in read.messages(len(paths))]
    problems += [f"unreadable images: {len(unreadable)}; first: {unreadable[0]}"] if unreadable else []
    for problem in problems:
        warnings.warn(problem, DarkpyWarning, stacklevel=2)
    return precision.result(points)
