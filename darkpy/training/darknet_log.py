"""Lines that darknet prints while it trains, for programs that read its logs."""

from __future__ import annotations

from collections.abc import Iterator

from darkpy.dialect import Dialect
from darkpy.layers.loss import LossSpec
from darkpy.network import Network
from darkpy.training.reports import UpdateReport

SLOW_LOADING = 0.1
"""Seconds of waiting for images above which AlexeyAB's program warns of a bottleneck."""
_HOURS_SHARE = 0.01  # of one update in AlexeyAB's average of the hours left


class DarknetLog:
    """Formats darknet's lines for each update; AlexeyAB's program writes those of the layers to standard error.

    images: how many the training list has, for a classifier; None for a detector.

    Source: pjreddie/darknet examples/detector.c train_detector, examples/classifier.c train_classifier;
        AlexeyAB/darknet src/detector.c, src/classifier.c, src/network_kernels.cu forward_network_gpu
    Differs: `-` stands where darknet divides by a count of 0 and prints -nan; the sequence with which AlexeyAB's
        clears the screen, and the line for its title, are left out.
    """

    def __init__(self, network: Network, images: int | None) -> None:
        self.network, self.images = network, images
        self.is_pjreddie = network.plan.dialect is Dialect.PJREDDIE
        self.size = (0, 0)
        self.boxes = self.rewritten = 0
        self.hours: float | None = None

    def first_lines(self, base: str) -> list[str]:
        """Return the lines before the first update."""
        net = self.network.plan.net
        return [base, f"Learning Rate: {net.learning_rate:g}, Momentum: {net.momentum:g}, Decay: {net.decay:g}"]

    def loading_lines(self, report: UpdateReport) -> list[str]:
        """Return the new size of the images, if it has changed, and the time they were waited for."""
        lines = []
        if self.size not in ((0, 0), report.size):
            w, h = report.size
            lines += ["Resizing", str(w)] if self.is_pjreddie else [f"Resizing, {w} x {h}"]
        self.size = report.size
        is_slow = report.waited > SLOW_LOADING and not self.is_pjreddie and self.images is None
        note = " - performance bottleneck on CPU or Disk HDD/SSD" if is_slow else ""
        return [*lines, f"Loaded: {report.waited:f} seconds{note}"]

    def layer_lines(self, report: UpdateReport) -> Iterator[str]:
        """Yield the layers' lines of each minibatch."""
        plan = self.network.plan
        nodes = [node for node in plan.nodes if isinstance(node.spec, LossSpec) and node.spec.has_loss]
        for step in report.steps:
            for node, loss in zip(nodes, step.losses, strict=True):
                assert isinstance(node.spec, LossSpec)
                if line := node.spec.log_line(node.index, loss):
                    yield line
                self.boxes += int(loss.report.get("total_bbox", 0))
                self.rewritten += int(loss.report.get("rewritten_bbox", 0))
            if self.boxes and not self.is_pjreddie:
                yield f" total_bbox = {self.boxes}, rewritten_bbox = {100 * self.rewritten / self.boxes:f} % "

    def update_line(self, report: UpdateReport) -> str:
        """Return the line that charts are drawn from."""
        n, seconds = report.batch_num, report.seconds - report.waited
        numbers = f"{report.loss:f}, {report.average:f}"
        speed = f"{report.rate:f} rate, {seconds:f} seconds"
        if self.images is not None:
            line = f"{n}, {report.seen / self.images:.3f}: {numbers} avg, {speed}, {report.seen} images"
            return line if self.is_pjreddie else f"{line}, {self._hours_left(report):f} hours left"
        if self.is_pjreddie:
            return f"{n}: {numbers} avg, {speed}, {n * report.images} images"
        hours = self._hours_left(report)
        return f" {n}: {numbers} avg loss, {speed}, {n * report.images} images, {hours:f} hours left"

    def _hours_left(self, report: UpdateReport) -> float:
        now = (self.network.plan.net.max_batches - report.batch_num) * report.seconds / 3600
        self.hours = now if self.hours is None else _HOURS_SHARE * now + (1 - _HOURS_SHARE) * self.hours
        return self.hours
