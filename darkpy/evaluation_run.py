"""Whole evaluations of detectors and classifiers, and `darkpy.write_evaluation_report`: their report as a function."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from darkpy.data.lists.image_list import open_list_and_data
from darkpy.data.lists.text_files import DataFile, names_for, read_top
from darkpy.detection_run import names_by_class
from darkpy.diagnostics.report.evaluation_files import PAGE_FILE, REPORT_FILES, classifier_files, detector_files
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.evaluation.average_precision import AveragePrecision, map_options
from darkpy.evaluation.classifier_report import ClassifierErrors, ClassifierReport, make_classifier_report
from darkpy.evaluation.classify import Accuracy, Ranking, class_count, classify, valid_options
from darkpy.evaluation.coco import coco_precision
from darkpy.evaluation.defaults import CLASSIFIER_BATCH_SIZE, DEFAULT_TOP
from darkpy.evaluation.detect import ImageStatus
from darkpy.evaluation.detection_store import DetectionStore
from darkpy.evaluation.detector_report import DetectorReport, EvaluatedRun, make_detector_report
from darkpy.evaluation.error_analysis import ErrorAnalysis
from darkpy.evaluation.ground_truth import GroundTruth, read_difficult, read_ground_truth
from darkpy.evaluation.result_files import valid_options as detector_valid_options
from darkpy.evaluation.runner import Metric, run_metrics
from darkpy.files import require_output_folder, write_folder
from darkpy.network import Network, require_network
from darkpy.training.setup import MASK_KINDS, find_kind, read_class_labels
from darkpy.version import __version__


class DetectorEvaluation:
    """Evaluation of a detector on a list of images: darknet's mAP, COCO's AP, and its errors.

    truths, difficult: objects that are to be found, and those that need not be.
    thresh, iou_thresh, letterbox: as in `darkpy.evaluate`.
    """

    def __init__(
        self,
        network: Network,
        names: Sequence[str],
        paths: Sequence[Path],
        truths: GroundTruth,
        *,
        difficult: GroundTruth | None = None,
        thresh: float = 0.25,
        iou_thresh: float = 0.5,
        letterbox: bool | None = None,
    ) -> None:
        self.network, self.names, self.paths = network, names, paths
        self.truths, self._difficult = truths, difficult
        precision = AveragePrecision(truths, len(names), iou_thresh=iou_thresh, thresh=thresh, difficult=difficult)
        self._analysis = ErrorAnalysis(precision, truths, len(names), len(paths))
        self._detections = DetectionStore()
        self._metrics = (
            Metric(map_options(network, letterbox), self._analysis.add),
            Metric(detector_valid_options(network, letterbox), self._detections.add),
        )
        self._statuses: list[ImageStatus] = []

    def run(
        self, *, batch_size: int | None = None, tiles: str | tuple[int, int] | None = None
    ) -> Iterator[ImageStatus]:
        """Run the network on each image; yield the image's status."""
        for status in run_metrics(self.network, self.paths, self._metrics, batch_size=batch_size, tiles=tiles):
            self._statuses.append(status)
            yield status

    def report(self, run: EvaluatedRun, points: int = 0) -> DetectorReport:
        """Compute the numbers after the run. points: as in `darkpy.evaluate`."""
        coco = coco_precision(self._detections, self.truths, self._statuses, len(self.names), self._difficult)
        darknet = self._analysis.precision.result(points)
        return make_detector_report(run, self.names, self._statuses, self._analysis, self.truths, darknet, coco)


class ClassifierEvaluation:
    """Evaluation of a classifier on a list of images: accuracy and errors.

    Raises: DarkpyError when labels= or names= of the data cannot be used.
    """

    def __init__(self, network: Network, data: DataFile, paths: Sequence[Path]) -> None:
        self.network, self.paths = network, paths
        classes = class_count(network)
        labels = read_class_labels(data, classes)
        names = data.find("names")
        self.names = names_for(classes, names) if names is not None else labels
        self.top = min(read_top(data, DEFAULT_TOP), classes)
        self._options = valid_options(network, self.top, data.find("leaves"))
        self._errors = ClassifierErrors(Accuracy(labels))

    def run(self, batch_size: int | None = None) -> Iterator[Ranking]:
        """Run the network on each image; yield the image's best classes."""
        for ranking in classify(
            self.network, self.paths, self._options, batch_size=batch_size or CLASSIFIER_BATCH_SIZE
        ):
            self._errors.add(ranking)
            yield ranking

    @property
    def problems(self) -> Iterator[str]:
        """Messages about images of which the class is unclear, after the run."""
        return self._errors.accuracy.problems

    def report(self, run: EvaluatedRun) -> ClassifierReport:
        """Compute the numbers after the run."""
        return make_classifier_report(run, self.names, self._errors, self.top)


def write_evaluation_report(
    network: Network,
    images: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    names: Sequence[str] | str | os.PathLike[str] | None = None,
    thresh: float = 0.25,
    iou_thresh: float = 0.5,
    points: int = 0,
    letterbox: bool | None = None,
    batch_size: int | None = None,
    tiles: str | tuple[int, int] | None = None,
    overwrite: bool = False,
) -> DetectorReport | ClassifierReport:
    """Evaluate a network, and write the folder of `darkpy evaluate --report`: HTML page, JSON and CSV files.

    images: a `.data` file, whose `valid` list is used; for a detector also a list file (.txt, .list), or a folder.
    folder: new; with `overwrite` an earlier report may be there.
    names: of a detector's classes, as in `darkpy.detect`; None takes those of the `.data` file.
    thresh, iou_thresh, points, letterbox, tiles: as in `darkpy.evaluate`, for detectors.
    Returns: the numbers of the report. Of a detector `darknet` has those of `darkpy.evaluate`, `coco.stats` COCO's
        twelve, and `errors` the kinds of errors; of a classifier `top_1` and `top_k` are the accuracies.
    Raises: DarkpyError when the network is in training mode, a file cannot be used, or the folder holds anything else.
        Images that cannot be read, and missing or invalid labels, are warned about.
    """
    require_network(network, "write_evaluation_report")
    if network.training:
        raise DarkpyError(
            f"{network.plan.file} is in training mode", hint="call network.eval() before write_evaluation_report"
        )
    source, target = Path(images), Path(folder)
    require_output_folder(target, REPORT_FILES, mark=PAGE_FILE, overwrite=overwrite)
    listed, data = open_list_and_data(source, "valid")
    paths = [listed.file(index) for index in range(len(listed.images))]
    run = EvaluatedRun(network.plan.file, network.weights_file, str(source), __version__)
    report: DetectorReport | ClassifierReport
    files: Mapping[str, Iterable[bytes]]
    if not network.heads:
        if data is None:
            raise DarkpyError(f"{source}: a classifier needs a .data file", hint="its labels= names the classes")
        if find_kind(network.plan, data) in MASK_KINDS:
            hint = "darkpy evaluate CFG DATA WEIGHTS prints their IoU"
            raise DarkpyError(f"{network.plan.file} is a segmentation network, for which there is no report", hint=hint)
        classified = ClassifierEvaluation(network, data, paths)
        errors = [ranking.error for ranking in classified.run(batch_size) if ranking.error is not None]
        problems = list(classified.problems)
        report = accuracies = classified.report(run)
        files = classifier_files(accuracies)
    else:
        classes, dialect = max(head.class_count for head in network.heads), network.plan.dialect
        truths = read_ground_truth(paths, dialect, classes)
        difficult = None if data is None else read_difficult(data, paths, dialect, classes)
        detected = DetectorEvaluation(
            network,
            names_by_class(network, names if names is not None or data is None else data.find_names())[:classes],
            paths,
            truths,
            difficult=difficult,
            thresh=thresh,
            iou_thresh=iou_thresh,
            letterbox=letterbox,
        )
        statuses = detected.run(batch_size=batch_size, tiles=tiles)
        errors = [status.error for status in statuses if status.error is not None]
        problems = [text for read in (truths, difficult) if read is not None for text in read.messages(len(paths))]
        report = precisions = detected.report(run, points)
        files = detector_files(precisions, truths)
    problems += [f"unreadable images: {len(errors)}; first: {errors[0].message}"] if errors else []
    for problem in problems:
        warnings.warn(problem, DarkpyWarning, stacklevel=2)
    write_folder(target, files)
    return report
