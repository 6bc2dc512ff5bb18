"""Evaluations of a network while it is trained: `-map`, `--patience`, `--best-by`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from darkpy.data.lists.paths import find_masks, read_image_list
from darkpy.errors import DarkpyError, DarkpyWarning, ImageError
from darkpy.evaluation.average_precision import AveragePrecision, MeanAveragePrecision, map_options
from darkpy.evaluation.defaults import CLASSIFIER_BATCH_SIZE
from darkpy.evaluation.ground_truth import GroundTruth, read_difficult, read_ground_truth
from darkpy.evaluation.runner import Metric, run_metrics
from darkpy.files import is_file
from darkpy.network import Network
from darkpy.training.best_weights import ACCURACY_METRIC, IOU_METRIC, METRICS_BY_KIND, BestMetric, parse_metric
from darkpy.training.reports import UpdateReport
from darkpy.training.setup import TrainingSetup, read_class_labels

if TYPE_CHECKING:
    from darkpy.evaluation.mask_overlap import ClassOverlap

MIN_INTERVAL_UPDATES = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Result of an evaluation.

    value: of the run's metric; larger is better.
    mean: mean average precision, top-1 accuracy or mean IoU, NaN of losses; name: which of them, for the chart.
    result: counts and precision of each class of a detector. overlaps: pixels of each class of a segmentation network.
    """

    value: float
    mean: float = math.nan
    name: str = "mAP"
    result: MeanAveragePrecision | None = None
    overlaps: tuple[ClassOverlap, ...] = ()


class Validation:
    """Evaluation every so many updates; here of the average loss, which needs no image.

    metric: by which the best weights are kept. interval: updates between two evaluations.
    Source:  AlexeyAB/darknet src/detector.c train_detector
    Differs: validates after multiples of the interval, wherever training was begun; his counts from there.
    """

    has_map: ClassVar[bool] = False

    def __init__(self, network: Network, metric: BestMetric, interval: int) -> None:
        self.network, self.metric, self.interval = network, metric, max(MIN_INTERVAL_UPDATES, interval)
        self.size = (network.plan.net.width, network.plan.net.height)

    def is_due(self, report: UpdateReport) -> bool:
        """True if the network is to be validated after this update."""
        net, n = self.network.plan.net, report.batch_num
        return n == net.max_batches or (n % self.interval == 0 and n >= net.burn_in)

    def evaluate(self, report: UpdateReport) -> Evaluation | None:
        """Evaluate the network after an update. Returns: None if no image can be read."""
        return Evaluation(value=self.metric.value((), report.average))

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Put the network into inference mode at the cfg's own size for the time of a `with` block."""
        self.network.resize(*self.size)
        self.network.eval()
        try:
            yield
        finally:
            self.network.train()
            self.network.reset_state()


class DetectorValidation(Validation):
    """AlexeyAB's mean average precision."""

    has_map = True

    def __init__(
        self,
        network: Network,
        metric: BestMetric,
        interval: int,
        *,
        paths: Sequence[str],
        ground_truth: GroundTruth,
        classes: int,
        thresh: float,
        iou_thresh: float,
        difficult: GroundTruth | None = None,
    ) -> None:
        super().__init__(network, metric, interval)
        self.paths, self.ground_truth, self.difficult, self.classes = paths, ground_truth, difficult, classes
        self.thresh, self.iou_thresh = thresh, iou_thresh

    def evaluate(self, report: UpdateReport) -> Evaluation | None:
        rankings = {
            iou: AveragePrecision(
                self.ground_truth, self.classes, iou_thresh=iou, thresh=self.thresh, difficult=self.difficult
            )
            for iou in dict.fromkeys((self.iou_thresh, *self.metric.iou_threshs))
        }
        options = map_options(self.network)
        with self._inference():
            metrics = [Metric(options, ranking.add) for ranking in rankings.values()]
            statuses = run_metrics(self.network, self.paths, metrics)
            errors = [status.error for status in statuses if status.error is not None]
        if not _warn_of_unreadable(errors, len(self.paths)):
            return None
        results = {iou: ranking.result(0) for iou, ranking in rankings.items()}
        value = self.metric.value([results[iou] for iou in self.metric.iou_threshs], report.average)
        result = results[self.iou_thresh]
        return Evaluation(value=value, mean=result.mean, result=result)


class ClassifierValidation(Validation):
    """Top-1 accuracy, as `darkpy classifier valid` computes it. labels: that paths contain."""

    def __init__(
        self, network: Network, metric: BestMetric, interval: int, *, paths: Sequence[str], labels: Sequence[str]
    ) -> None:
        super().__init__(network, metric, interval)
        self.paths, self.labels = paths, labels

    def evaluate(self, report: UpdateReport) -> Evaluation | None:
        from darkpy.evaluation.classify import Accuracy, classify, valid_options

        accuracy = Accuracy(self.labels)
        errors: list[ImageError] = []
        options = valid_options(self.network, 1)
        with self._inference():
            for ranking in classify(self.network, self.paths, options, batch_size=CLASSIFIER_BATCH_SIZE):
                accuracy.add(ranking)
                errors += [ranking.error] if ranking.error is not None else []
        if not _warn_of_unreadable(errors, len(self.paths)):
            return None
        return Evaluation(value=accuracy.top_1, mean=accuracy.top_1, name=ACCURACY_METRIC.label)


class MaskValidation(Validation):
    """IoU of the masks of the classes that `darkpy segmenter test` finds, on the images in their own size."""

    def __init__(
        self, network: Network, metric: BestMetric, interval: int, *, paths: Sequence[str], classes: int
    ) -> None:
        super().__init__(network, metric, interval)
        self.paths, self.classes = paths, classes

    def evaluate(self, report: UpdateReport) -> Evaluation | None:
        from darkpy.evaluation.mask_overlap import MaskOverlap, mean_iou

        overlap = MaskOverlap(self.classes)
        with self._inference():
            errors = [error for error in overlap.follow(self.network, self.paths) if error is not None]
        if not _warn_of_unreadable(errors, len(self.paths)):
            return None
        overlaps = overlap.classes()
        if not any(counted.true for counted in overlaps):
            message = f"no mask of the {len(self.paths)} images to validate on can be used: there is no IoU"
            warnings.warn(message, DarkpyWarning, stacklevel=2)
            return None
        mean, class_id = mean_iou(overlaps), self.metric.class_id
        value = mean if class_id is None else overlaps[class_id].iou
        return Evaluation(value=value, mean=mean, name=IOU_METRIC.label, overlaps=overlaps)


def _warn_of_unreadable(errors: Sequence[DarkpyError], images: int) -> bool:
    """Warn of images that cannot be read. Returns: True if any other can."""
    if errors:
        message = f"{len(errors)} of {images} images to validate on cannot be read; the first: {errors[0]}"
        warnings.warn(message, DarkpyWarning, stacklevel=3)
    return len(errors) < images


def open_validation(
    network: Network,
    setup: TrainingSetup,
    epochs: int,
    *,
    best_by: str | None = None,
    wanted_by: str = "",
    thresh: float,
    iou_thresh: float,
) -> Validation:
    """Return the evaluation on the .data file's `valid` list; with -map and without one, on the training list.

    epochs: of the training list, between two evaluations. best_by: metric, see `parse_metric`.
    wanted_by: option that asks for it in place of -map, and that needs a valid list.
    Raises: DarkpyError for a network that is not a detector of single images, or when the list cannot be used.
    """
    net, file = network.plan.net, setup.plan.file
    interval = epochs * len(setup.paths) // (net.minibatch * net.subdivisions)
    metric = parse_metric(best_by, names=setup.class_names, kind=setup.kind, iou_thresh=iou_thresh)
    if metric.is_loss and wanted_by:
        return Validation(network, metric, interval)
    if not (setup.is_detector or wanted_by):
        word = METRICS_BY_KIND.get(setup.kind, ("loss",))[0]
        hint = f"--best-by {word} is for {setup.kind}s" + (", on the `valid` list" if word != "loss" else "")
        raise DarkpyError(f"-map validates detectors, not {setup.kind}s such as {file}", hint=hint)
    if net.time_steps > 1:
        message = f"{wanted_by or '-map'} validates single images; {file} takes sequences (time_steps={net.time_steps})"
        raise DarkpyError(message, hint="--best-by loss needs no images" if wanted_by else None)
    valid_list = setup.data.find("valid")
    if valid_list is None and wanted_by:
        hint = f"name a list of images in {setup.data.path}: valid=valid.txt; --best-by loss needs none"
        raise DarkpyError(f"{setup.data.path}: has no valid=, on which {wanted_by} evaluates", hint=hint)
    if valid_list is None:
        message = f"{setup.data.path}: has no valid=: -map validates on the training list"
        warnings.warn(message, DarkpyWarning, stacklevel=2)
    paths = setup.paths if valid_list is None else tuple(map(str, read_image_list(valid_list)))
    if not any(map(is_file, paths)):
        hint = "paths in a list are relative to the working directory, or else to the list's own folder"
        raise DarkpyError(f"{paths[0]}: not found, nor is any other image to validate on", hint=hint)
    if setup.has_masks:
        if not any(map(find_masks, paths)):
            hint = "the masks of images/dog.jpg are in mask/dog.txt"
            raise DarkpyError(f"{paths[0]}: has no mask file, nor has any other image to validate on", hint=hint)
        return MaskValidation(network, metric, interval, paths=paths, classes=setup.classes)
    if not setup.is_detector:
        labels = read_class_labels(setup.data, setup.classes)
        return ClassifierValidation(network, metric, interval, paths=paths, labels=labels)
    dialect = setup.plan.dialect
    return DetectorValidation(
        network,
        metric,
        interval,
        paths=paths,
        ground_truth=read_ground_truth(paths, dialect, setup.classes),
        difficult=None if valid_list is None else read_difficult(setup.data, paths, dialect, setup.classes),
        classes=setup.classes,
        thresh=thresh,
        iou_thresh=iou_thresh,
    )
