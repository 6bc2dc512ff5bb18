"""Metrics over a list of images: the pipeline of `detect`, its tensors handed to each metric."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from darkpy.evaluation.detect import BATCH_SIZE, DetectOptions, ImageStatus, detect_batches
from darkpy.network import Network
from darkpy.ops.boxes import Detections
from darkpy.sources.frames import Frame


class Metric(NamedTuple):
    """A consumer of detections, with the options it wants them for; image_M are indices of the list."""

    options: DetectOptions
    add: Callable[[Detections], None]


def run_metrics(
    network: Network,
    paths: Sequence[str | os.PathLike[str]],
    metrics: Sequence[Metric],
    *,
    batch_size: int | None = None,
) -> Iterator[ImageStatus]:
    """Detect on each image, pass the detections to all metrics, and yield each image's status when it is done.

    An image that cannot be read has no detections. Metrics with the same `letterbox` share a forward pass.
    Recurrent layers take the list as one sequence, as AlexeyAB's do, if images come one by one; else each batch starts
    from their initial state. batch_size: None takes 1 for recurrent networks, else a fast one.
    Raises: DarkpyError when the network has no detection head, or was opened for sequences.
    """
    batch_size = batch_size or (1 if network.has_memory else BATCH_SIZE)
    options = [metric.options for metric in metrics]
    for images, detections in detect_batches(
        network, map(Frame.of_file, paths), options, batch_size=batch_size, keep_state=batch_size == 1
    ):
        if detections:
            for metric, detected in zip(metrics, detections, strict=True):
                metric.add(detected)
        yield from (image.status for image in images)
