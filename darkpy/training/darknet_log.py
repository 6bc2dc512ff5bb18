"""Lines that darknet prints while it trains, for programs that read its logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from darkpy.dialect import Dialect
from darkpy.layers.loss import LossSpec
from darkpy.network import Network
from darkpy.training.reports import CheckpointReport, UpdateReport, ValidationReport

SLOW_LOADING_SECONDS = 0.1
"""Waiting for images above which AlexeyAB's program warns of a bottleneck."""
CLEAR_SCREEN, BELL = "\033[H\033[J", "\a"
"""Control sequences before and after AlexeyAB's title."""
RESIZE_UPDATES = {True: 10, False: 40}
"""Updates between two random sizes, of a detector and of a classifier."""

_HOURS_SHARE = 0.01  # of one update in AlexeyAB's average of the hours left
_RECOMMENDED_BATCH = 8  # below it AlexeyAB's program warns
_LAYER_NUMBERS = {"region": 27, "yolo": 28, "Gaussian_yolo": 29}  # LAYER_TYPE in AlexeyAB's include/darknet.h
_POINTS_NOTE = (
    "\nSet -points flag:\n `-points 101` for MS COCO \n"
    " `-points 11` for PascalVOC 2007 (uncomment `difficult` in voc.data) \n"
    " `-points 0` (AUC) for ImageNet, PascalVOC 2010-2012, your custom dataset"
)


class LogLine(NamedTuple):
    """Text for stdout or stderr, as in the C program.

    end: what follows it, a line break or nothing. control: the text is a control sequence for terminals.
    """

    text: str
    stderr: bool = False
    end: str = "\n"
    control: bool = False


class DarknetLog:
    """Makes the lines of darknet's program of the network's dialect.

    images: number of images in a classifier's training list; None for a detector.
    random: of the head whose sizes are random, 0 for a fixed size.
    map_interval: updates between two validations; 0 without `-map`.
    map_names: names of the classes for the table of a validation.

    Source: pjreddie/darknet examples/detector.c train_detector, examples/classifier.c train_classifier;
        AlexeyAB/darknet src/detector.c train_detector, validate_detector_map, src/classifier.c train_classifier
    Differs: no table of the layers, no lines about the build, the loader's threads and the progress of a validation;
        0 in the table of a validation where the program prints -nan.
    """

    def __init__(
        self,
        network: Network,
        *,
        images: int | None = None,
        random: float = 0,
        map_interval: int = 0,
        map_names: tuple[str, ...] = (),
        gpus: int = 1,
    ) -> None:
        self.network, self.images, self.random, self.gpus = network, images, random, gpus
        self.map_interval, self.map_names = map_interval, map_names
        self.is_pjreddie = network.plan.dialect is Dialect.PJREDDIE
        self.is_first = True
        self.boxes = self.rewritten = 0
        self.hours = -1.0
        self.mean = self.best = -1.0
        self.iou_thresh = 0.5

    def first_lines(self, base: str, *, save_every: int, save_last_every: int) -> Iterator[LogLine]:
        """Yield the lines before the first update. base, save_every, save_last_every: of the names of weight files."""
        net = self.network.plan.net
        rates = LogLine(f"Learning Rate: {net.learning_rate:g}, Momentum: {net.momentum:g}, Decay: {net.decay:g}")
        if self.images is not None:
            yield from (LogLine(base), LogLine(str(self.gpus)), rates, LogLine(str(self.images)))
            return
        if self.is_pjreddie:
            yield from (LogLine(base), rates)
            return
        if self.map_interval:
            yield LogLine(" Prepare additional network for mAP calculation...")
            yield LogLine(f"mini_batch = 1, batch = {net.subdivisions}, time_steps = 1, train = 0 ")
        yield LogLine(base)
        batch = net.minibatch * net.subdivisions
        yield LogLine(f"mini_batch = {net.minibatch}, batch = {batch}, time_steps = {net.time_steps}, train = 1 ")
        if batch < _RECOMMENDED_BATCH:
            advice = "It is recommended to set batch=64 subdivision=64"
            yield LogLine(f"\n Warning: You set batch={batch} lower than 64! {advice} ")
        yield LogLine(
            f"Weights are saved after: {save_every} iterations. "
            f"Last weights (*_last.weight) are stored every {save_last_every} iterations. "
        )
        yield rates
        yield from self._head_lines()

    def loading_lines(self, report: UpdateReport) -> Iterator[LogLine]:
        """Yield the new size of the images, and the time they were waited for."""
        w, h = report.size
        is_detector = self.images is None
        if self.random and (report.batch_num - 1) % RESIZE_UPDATES[is_detector] == 0:
            if self.is_pjreddie:
                yield from (LogLine("Resizing"), LogLine(str(w)))
            else:
                yield LogLine(f"Resizing, random_coef = {1.4 if self.random == 1 else self.random:.2f} ")
                net = self.network.plan.net
                images = f"  (batch = {report.images // net.subdivisions})" if net.dynamic_minibatch else ""
                yield LogLine(f"\n {w} x {h}{images} ")
        is_slow = report.waited > SLOW_LOADING_SECONDS and not (self.is_pjreddie or self.is_first) and is_detector
        note = " - performance bottleneck on CPU or Disk HDD/SSD" if is_slow else ""
        self.is_first = False
        yield LogLine(f"Loaded: {report.waited:f} seconds{note}")

    def layer_lines(self, report: UpdateReport) -> Iterator[LogLine]:
        """Yield the layers' lines of each minibatch."""
        plan = self.network.plan
        nodes = [node for node in plan.nodes if isinstance(node.spec, LossSpec) and node.spec.has_loss]
        for step in report.steps:
            for node, loss in zip(nodes, step.losses, strict=True):
                assert isinstance(node.spec, LossSpec)
                if line := node.spec.log_line(node.index, loss):
                    # AlexeyAB's program prints the lines of newer layers only on stderr
                    yield LogLine(line, stderr=not self.is_pjreddie and node.spec.type not in ("region", "detection"))
                self.boxes += int(loss.report.get("total_bbox", 0))
                self.rewritten += int(loss.report.get("rewritten_bbox", 0))
            if self.boxes and not self.is_pjreddie:
                share = 100 * self.rewritten / self.boxes
                yield LogLine(f" total_bbox = {self.boxes}, rewritten_bbox = {share:f} % ", stderr=True)

    def update_lines(self, report: UpdateReport) -> Iterator[LogLine]:
        """Yield the line that charts are drawn from, in AlexeyAB's dialect with those around it."""
        n, seconds = report.batch_num, report.seconds - report.waited
        numbers = f"{report.loss:f}, {report.average:f}"
        speed = f"{report.rate:f} rate, {seconds:f} seconds"
        if self.images is not None:
            line = f"{n}, {report.seen / self.images:.3f}: {numbers} avg, {speed}, {report.seen} images"
            if not self.is_pjreddie:
                self._count_hours(report)
                line = f"{line}, {self.hours:f} hours left"
            yield LogLine(line)
            return
        if self.is_pjreddie:
            yield LogLine(f"{n}: {numbers} avg, {speed}, {n * report.images} images")
            return
        net = self.network.plan.net
        title = f"{n}/{net.max_batches}: loss={report.loss:.1f}"
        if self.map_interval:
            due = max(-(-n // self.map_interval) * self.map_interval, net.burn_in)
            yield LogLine(f"\n (next mAP calculation at {due} iterations) ", end="")
            if self.mean > 0:
                percent = f"{100 * self.mean:2.2f} %, best = {100 * self.best:2.2f} % "
                yield LogLine(f"\n Last accuracy mAP@{self.iou_thresh:.2f} = {percent}", end="")
                title += f" map={self.mean:.2f} best={self.best:.2f}"
        yield LogLine(CLEAR_SCREEN, end="", control=True)
        # the hours are those before this update: -1 in the first one
        yield LogLine(f"{title} hours left={self.hours:.1f}", end="")
        yield LogLine(BELL, control=True)
        images = f"{n * report.images} images"
        yield LogLine(f" {n}: {numbers} avg loss, {speed}, {images}, {self.hours:f} hours left")
        self._count_hours(report)

    def validation_lines(self, report: ValidationReport) -> Iterator[LogLine]:
        """Yield the table of a validation in AlexeyAB's dialect; pjreddie's program has none, and the last lines do."""
        if report.result is None:  # no program evaluates classifiers, or losses alone, in training
            return
        self.mean, self.best, self.iou_thresh = report.mean, max(report.mean, self.best), report.iou_thresh
        if not self.is_pjreddie:
            from darkpy.evaluation.metric_tables import map_lines

            net = self.network.plan.net
            if self.random:
                yield LogLine(f"Resizing to initial size: {net.width} x {net.height} ", end="")
            yield LogLine("\n calculation mAP (mean average precision)...")
            yield from self._head_lines()
            yield LogLine("")
            yield from map(LogLine, map_lines(report.result, self.map_names))
            yield LogLine(_POINTS_NOTE)
            yield LogLine("")
        yield LogLine(f" mean_average_precision (mAP@{report.iou_thresh:.2f}) = {report.mean:f} ")
        if report.is_best:
            yield LogLine(f"New best {'mAP' if report.is_by_map else report.metric}!")

    def checkpoint_lines(self, report: CheckpointReport) -> Iterator[LogLine]:
        """Yield a line on stderr for each weight file, and AlexeyAB's last one after the last."""
        # pjreddie's program writes the numbered weights last
        for path in reversed(report.paths) if self.is_pjreddie else report.paths:
            yield LogLine(f"Saving weights to {path}", stderr=True)
            if path.name.endswith("_ema.weights"):
                yield LogLine(f" EMA weights are saved to the file: {path} ")
        net = self.network.plan.net
        if report.is_last and not self.is_pjreddie and self.images is None and report.batch_num >= net.max_batches:
            advice = "then use flag in the end of training command: -clear"
            yield LogLine(f"If you want to train from the beginning, {advice} ")

    def _head_lines(self) -> Iterator[LogLine]:
        for node in self.network.plan.nodes:
            if number := _LAYER_NUMBERS.get(node.spec.type):
                yield LogLine(f" Detection layer: {node.index} - type = {number} ")

    def _count_hours(self, report: UpdateReport) -> None:
        now = (self.network.plan.net.max_batches - report.batch_num) * report.seconds / 3600
        self.hours = now if self.hours < 0 else _HOURS_SHARE * now + (1 - _HOURS_SHARE) * self.hours
