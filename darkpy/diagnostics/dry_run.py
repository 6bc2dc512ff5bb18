"""Dry run: the first updates of a training, with all layers measured in each; nothing is saved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from darkpy.diagnostics.checks.cfg import peak_rate
from darkpy.diagnostics.monitor.monitor import Monitor
from darkpy.errors import DarkpyError
from darkpy.finding import Cause, Finding, Location
from darkpy.network import Network
from darkpy.training.loop import run_updates
from darkpy.training.reports import UpdateReport
from darkpy.training.setup import TrainingSetup
from darkpy.training.trainer import Trainer

DRY_RUN_SEED = 0
MIN_LOSS_GROWTH = 2.0
"""Ratio of the last losses to the first ones above which the loss grows, and does not only fluctuate."""
MIN_UPDATES = 4
"""Updates that are needed for this."""


@dataclass
class DryRun:
    """A few updates of a network that is then discarded.

    location: of learning_rate= in the cfg. reports: of the updates made so far.
    findings: of the monitor, and a growing loss.
    Raises: DarkpyError as a training does.
    """

    network: Network
    setup: TrainingSetup
    updates: int
    location: Location
    reports: list[UpdateReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def run(self) -> Iterator[UpdateReport]:
        """Make the updates one by one."""
        plan = self.network.plan
        # a run that starts from finished weights is tried as if the schedule began
        end = plan.net.max_batches
        if end and self.network.header.seen // (plan.net.minibatch * plan.net.subdivisions) >= end:
            self.network.header = self.network.header.with_seen(0)
        trainer = Trainer(self.network, seed=DRY_RUN_SEED, monitor=Monitor(every=1, on_finding=self.findings.append))
        source = replace(self.setup.source, bad=None)
        try:
            for report in run_updates(trainer, source):
                self.reports.append(report)
                yield report
                if len(self.reports) >= self.updates:
                    break
        except DarkpyError as error:
            self.findings.append(error.as_finding("dry-run", Cause.RATES, Location(plan.file)))
        self.findings += self._check_loss()

    def verdict(self) -> str:
        """Summarize the updates in one line."""
        if not self.reports:
            return "dry run: no update could be made"
        first, last = self.reports[0], self.reports[-1]
        net = self.network.plan.net
        text = (
            f"dry run: updates {first.batch_num} to {last.batch_num}, loss {first.loss:.4g} to {last.loss:.4g},"
            f" rate up to {max(one.rate for one in self.reports):.3g} of {peak_rate(net):.3g}"
        )
        text += f", {self.seconds:.3g} s an update"
        if net.max_batches:
            minutes = self.seconds * net.max_batches / 60
            duration = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"
            text += f": all {net.max_batches} take about {duration} here"
        return text

    @property
    def seconds(self) -> float:
        """Median time of an update; the first one is slower."""
        return median(one.seconds for one in self.reports) if self.reports else math.nan

    def _check_loss(self) -> Iterator[Finding]:
        """Compare the losses of the last quarter with the largest of the first."""
        losses = [one.loss for one in self.reports if math.isfinite(one.loss)]
        if len(losses) < MIN_UPDATES:
            return
        part = -(-len(losses) // 4)
        before, after = max(losses[:part]), median(losses[-part:])
        if after > MIN_LOSS_GROWTH * before > 0:
            last = self.reports[-1]
            yield Finding(
                cause=Cause.RATES,
                name="loss-grows",
                location=self.location,
                message=f"the loss grows from {before:.4g} to {after:.4g} in {len(losses)} updates, at a rate of"
                f" {last.rate:.3g}",
                hints=(
                    f"learning_rate={self.network.plan.net.learning_rate / 10:.2g}",
                    "burn_in=1000",
                    "grad_clip_norm=10",
                ),
            )


def as_record(run: DryRun) -> dict[str, object]:
    """Updates for JSON; null for non-finite values."""
    figures: Sequence[tuple[str, list[float]]] = [
        ("loss", [one.loss for one in run.reports]),
        ("rate", [one.rate for one in run.reports]),
        ("seconds", [one.seconds for one in run.reports]),
    ]
    rows = {name: [value if math.isfinite(value) else None for value in values] for name, values in figures}
    return {"updates": len(run.reports), **rows, "verdict": run.verdict()}
