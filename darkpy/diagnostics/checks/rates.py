"""What can be seen of a training in its schedule: rate, batch, burn-in, steps."""

from __future__ import annotations

from collections.abc import Iterator

from darkpy.config.net import NetSpec
from darkpy.diagnostics.checks.cfg import Cfg
from darkpy.errors import DarkpyError
from darkpy.finding import Cause, Finding
from darkpy.training.schedule import current_rate

DETECTOR_RATE, CLASSIFIER_RATE, ADAM_RATE = 0.05, 0.75, 0.02
"""Rates beyond which training fails. The largest of either fork's cfgs are 0.01 (yolov1-tiny), 0.5 and, with Adam,
0.002."""
COLD_RATE = 0.001
"""The largest rate at which either fork's detectors start without a burn-in, or steps that stand for one."""
MOST_DECAY = 0.1
"""Both forks' cfgs have 0.001 and less."""


def peak_rate(net: NetSpec) -> float:
    """The largest rate of the schedule; 0 where its keys give none.

    Every policy is monotonous between these updates, but for `random` and `sgdr`, whose largest is learning_rate.
    """
    ends = {1, net.burn_in - 1, net.burn_in, *net.steps, *(step - 1 for step in net.steps), net.max_batches}
    try:
        return max(current_rate(net, end, lambda: 1.0) for end in sorted(ends) if end > 0)
    except DarkpyError:
        return 0.0


def check_rates(cfg: Cfg) -> Iterator[Finding]:
    """The keys of [net] that say how fast and how long it learns; nothing of a network without a loss."""
    if not cfg.trains:
        return
    net = cfg.plan.net
    try:
        current_rate(net, max(1, net.burn_in), lambda: 1.0)
    except DarkpyError as error:
        yield error.as_finding("schedule", Cause.RATES, cfg.locate_net("policy"))
        return
    yield from _check_size(cfg)
    yield from _check_start(cfg)
    yield from _check_steps(cfg)
    for key, low, most in (("momentum", 0, 1), ("decay", 0, MOST_DECAY)):
        value = getattr(net, key)
        if not low <= value < most:
            hints = ("momentum=0.9",) if key == "momentum" else ("decay=0.0005",)
            yield _warning(cfg, key, f"{key}-range", f"{key}={value:g} is not from {low} to {most:g}", *hints)


def _check_size(cfg: Cfg) -> Iterator[Finding]:
    net, peak = cfg.plan.net, peak_rate(cfg.plan.net)
    most = ADAM_RATE if net.adam else DETECTOR_RATE if cfg.heads else CLASSIFIER_RATE
    if peak <= 0:
        text = f"learning_rate={net.learning_rate:g}: nothing is learnt"
        yield _warning(cfg, "learning_rate", "rate-zero", text, "learning_rate=0.001")
    elif peak > most:
        what = "with adam=1" if net.adam else "for a detector" if cfg.heads else "for a classifier"
        reached = "" if peak == net.learning_rate else f" reaches {peak:g},"
        text = (
            f"learning_rate={net.learning_rate:g}{reached} beyond {most:g} {what}: the loss will grow, and become NaN."
            " The rate acts on the mean gradient of the batch, so it is no smaller for a larger batch"
        )
        hint = f"learning_rate={0.001 if cfg.heads or net.adam else 0.1:g}"
        yield _warning(cfg, "learning_rate", "rate-too-high", text, hint, "burn_in=1000", "grad_clip_norm=10")


def _check_start(cfg: Cfg) -> Iterator[Finding]:
    net, peak = cfg.plan.net, peak_rate(cfg.plan.net)
    if net.max_batches and net.burn_in >= net.max_batches:
        text = f"burn_in={net.burn_in} does not end before max_batches={net.max_batches}: the rate only ever grows"
        yield _warning(cfg, "burn_in", "burn-in-too-long", text, f"burn_in={max(1, min(1000, net.max_batches // 10))}")
    is_cold = current_rate(net, 1, lambda: 1.0) >= 0.9 * peak
    if cfg.heads and is_cold and peak > COLD_RATE and not net.adam:
        text = f"burn_in={net.burn_in}: a detector starts at the full rate of {peak:g}, when its errors are largest"
        yield _warning(cfg, "learning_rate", "cold-start", text, "burn_in=1000", f"learning_rate={COLD_RATE:g}")


def _check_steps(cfg: Cfg) -> Iterator[Finding]:
    net = cfg.plan.net
    if net.policy != "steps":
        return
    shown = f"steps={','.join(map(str, net.steps))}"
    late = [step for step in net.steps if step >= net.max_batches > 0]
    if late:
        text = f"{shown}: {len(late)} of {len(net.steps)} come after the end, max_batches={net.max_batches}"
        better = f"steps={net.max_batches * 8 // 10},{net.max_batches * 9 // 10} with scales=.1,.1"
        raised = f"max_batches={max(net.steps) * 10 // 9}"
        yield _warning(cfg, "steps", "steps-beyond-end", text, better, raised)
    if list(net.steps) != sorted(net.steps):
        text = f"{shown} are not in order: those behind a larger one come with it"
        yield _warning(cfg, "steps", "steps-unordered", text, f"steps={','.join(map(str, sorted(net.steps)))}")
    early = [step for step in net.steps if 0 < step < net.burn_in]
    if early:
        text = f"{shown}: {len(early)} come before burn_in={net.burn_in} is over"
        yield _warning(cfg, "steps", "steps-in-burn-in", text, f"burn_in={min(early)}")


def _warning(cfg: Cfg, key: str, name: str, message: str, *hints: str) -> Finding:
    return Finding(name=name, message=message, cause=Cause.RATES, location=cfg.locate_net(key), hints=hints)
