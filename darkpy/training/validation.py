"""`-map`: mean average precision of a detector while it is trained."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from darkpy.data.lists.paths import read_image_list
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.evaluation.average_precision import AveragePrecision, MeanAveragePrecision, map_options
from darkpy.evaluation.ground_truth import GroundTruth, read_ground_truth
from darkpy.evaluation.runner import Metric, run_metrics
from darkpy.network import Network
from darkpy.training.reports import UpdateReport
from darkpy.training.setup import TrainingSetup

MIN_INTERVAL_UPDATES = 100


class Validation:
    """AlexeyAB's mean average precision, every so many updates, at the cfg's own size.

    Source:  AlexeyAB/darknet src/detector.c train_detector
    Differs: validates after multiples of the interval, wherever training was begun; his counts from there.
    """

    def __init__(
        self,
        network: Network,
        paths: Sequence[str],
        ground_truth: GroundTruth,
        *,
        classes: int,
        interval: int,
        thresh: float,
        iou_thresh: float,
    ) -> None:
        self.network, self.paths, self.ground_truth, self.classes = network, paths, ground_truth, classes
        self.interval, self.thresh, self.iou_thresh = max(MIN_INTERVAL_UPDATES, interval), thresh, iou_thresh
        self.size = (network.plan.net.width, network.plan.net.height)

    def is_due(self, report: UpdateReport) -> bool:
        """True if the network is to be validated after this update."""
        net, n = self.network.plan.net, report.batch_num
        return n == net.max_batches or (n % self.interval == 0 and n >= net.burn_in)

    def evaluate(self) -> MeanAveragePrecision | None:
        """Run the network on all images, in inference mode only meanwhile.

        Images that cannot be read are warned of. Returns: None if none can be read.
        """
        network = self.network
        ranking = AveragePrecision(self.ground_truth, self.classes, iou_thresh=self.iou_thresh, thresh=self.thresh)
        network.resize(*self.size)
        network.eval()
        try:
            statuses = run_metrics(network, self.paths, [Metric(map_options(network), ranking.add)])
            errors = [status.error for status in statuses if status.error is not None]
        finally:
            network.train()
            network.reset_state()
        if errors:
            message = f"{len(errors)} of {len(self.paths)} images to validate on cannot be read; the first: {errors[0]}"
            warnings.warn(message, DarkpyWarning, stacklevel=2)
        return ranking.result(0) if len(errors) < len(self.paths) else None


def open_validation(
    network: Network, setup: TrainingSetup, epochs: int, *, thresh: float, iou_thresh: float
) -> Validation:
    """Return the validation on the .data file's `valid` list, or with a warning on the training list without one.

    epochs: of the training list, between two validations.
    Raises: DarkpyError for a network that is no detector of single images, or when the list cannot be used.
    """
    net, file = network.plan.net, setup.plan.file
    if not setup.is_detector:
        raise DarkpyError(f"-map validates detectors, and {file} is a classifier", hint="leave -map out")
    if net.time_steps > 1:
        raise DarkpyError(f"-map validates single images; {file} takes sequences (time_steps={net.time_steps})")
    valid_list = setup.data.find("valid")
    if valid_list is None:
        message = f"{setup.data.path}: has no valid=: -map validates on the training list"
        warnings.warn(message, DarkpyWarning, stacklevel=2)
    paths = setup.paths if valid_list is None else tuple(map(str, read_image_list(valid_list)))
    if not any(Path(path).is_file() for path in paths):
        hint = "paths in a list are relative to the working directory, or else to the list's own folder"
        raise DarkpyError(f"{paths[0]}: not found, nor is any other image to validate on", hint=hint)
    return Validation(
        network,
        paths,
        read_ground_truth(paths, setup.plan.dialect, setup.classes),
        classes=setup.classes,
        interval=epochs * len(setup.paths) // (net.minibatch * net.subdivisions),
        thresh=thresh,
        iou_thresh=iou_thresh,
    )
