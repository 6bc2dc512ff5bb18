"""`-map`: a detector judged while it is trained, and its best weights kept."""

from __future__ import annotations

from collections.abc import Sequence

from darkpy.evaluation.average_precision import AveragePrecision, MeanAveragePrecision, map_options
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.evaluation.runner import Metric, run_metrics
from darkpy.training.loop import UpdateReport
from darkpy.training.trainer import Trainer

LEAST_INTERVAL = 100  # updates


class Validation:
    """AlexeyAB's mean average precision, every so many epochs of the training list, at the cfg's own size.

    Source:  AlexeyAB/darknet src/detector.c train_detector
    Differs: it comes after multiples of the interval, wherever training was begun; his counts from there.
    """

    def __init__(
        self,
        trainer: Trainer,
        paths: Sequence[str],
        truths: GroundTruth,
        *,
        classes: int,
        interval: int,
        thresh: float,
        iou_thresh: float,
    ) -> None:
        self.trainer, self.paths, self.truths, self.classes = trainer, paths, truths, classes
        self.interval, self.thresh, self.iou_thresh = max(LEAST_INTERVAL, interval), thresh, iou_thresh
        self.size = (trainer.net.width, trainer.net.height)

    def is_due(self, report: UpdateReport) -> bool:
        net, n = self.trainer.net, report.batch_num
        return n == net.max_batches or (n % self.interval == 0 and n >= net.burn_in)

    def judge(self) -> MeanAveragePrecision:
        """Show the network all images; it is in training again afterwards."""
        network = self.trainer.network
        ranking = AveragePrecision(self.truths, self.classes, iou_thresh=self.iou_thresh, thresh=self.thresh)
        network.resize(*self.size)
        network.eval()
        try:
            for _ in run_metrics(network, self.paths, [Metric(map_options(network), ranking.add)]):
                pass
        finally:
            network.train()
            network.reset_state()
        return ranking.result(0)
