"""Following the advice: the first remedy of the first finding is applied to the cfg, and the run then learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from darkpy.build import make_plan
from darkpy.config.edit import apply_remedy
from darkpy.diagnostics.preflight import check_plan, with_remedies
from darkpy.finding import Finding
from tests.diagnostics.runs import BOXES, Change, Run, classifier, detector

CLASSIFIER_LOSS, DETECTOR_LOSS = 1.2, 4.0
"""Bounds of the average loss at the end of a run that learns. It begins at 1.4 and at 13 to 20; healthy runs of this
length reach .5 to 1.1 and 1.8 to 3."""


class Fault(NamedTuple):
    """name: of the first finding. says: part of the remedy. updates: of the faulty run and of the cured one.

    checks: True if the finding is one of `doctor`, from the cfg alone.
    """

    text: str
    name: str
    says: str
    updates: tuple[int, int] = (15, 120)
    plant: Callable[[Run], object] = lambda run: None
    change: Change | None = None
    checks: bool = False


def filled(array: str, value: float) -> Callable[[Run], object]:
    return lambda run: run.array(array).fill_(value)


def in_alexeyab(section: str, **keys: Any) -> str:
    """A detector in AlexeyAB's dialect; section: more lines of its head."""
    return detector(more="burn_in=10", **keys) + f"scale_x_y=1.05\niou_normalizer=0.07\n{section}"


STANDS = (160, 120)
FAULTS = {
    # rates
    "rate of a detector 100 times too high": Fault(detector(rate=1.0), "Exploding", "learning_rate="),
    "rate of a detector 1000 times too high": Fault(detector(rate=10.0), "Exploding", "learning_rate="),
    "rate of a classifier far too high": Fault(classifier(rate=30.0), "Exploding", "learning_rate="),
    "rate too high without a norm": Fault(classifier(norm=0, rate=10.0), "Exploding", "grad_clip_norm="),
    "rate of a detector without a norm": Fault(
        detector(8, norm=0, rate=0.02, filters=32), "Exploding", "grad_clip_norm="
    ),
    "rate too high with Adam": Fault(classifier(rate=1.0, more="adam=1"), "Exploding", "learning_rate="),
    "losses summed over the batch": Fault(
        classifier(rate=0.5, more="loss_reduction=sum"), "Exploding", "learning_rate="
    ),
    "rate of 1e-9": Fault(classifier(rate=1e-9), "StuckRate", "learning_rate="),
    "rate of 1e-6": Fault(classifier(rate=1e-6), "StandingLoss", "learning_rate=", STANDS),
    "rate of a detector of 1e-7": Fault(detector(rate=1e-7), "StandingLoss", "learning_rate=", (310, 120)),
    # schedule
    "poly at its end": Fault(
        classifier(more="policy=poly").replace("max_batches=2000", "max_batches=10"), "StuckRate", "policy=constant"
    ),
    "steps at once": Fault(
        classifier(more="policy=steps\nsteps=2,3\nscales=.01,.01"), "StandingLoss", "steps=1600,1800", STANDS
    ),
    "steps beyond the end": Fault(
        classifier(more="policy=steps\nsteps=4000,4500\nscales=.1,.1"),
        "steps-beyond-end",
        "steps=1600,1800",
        checks=True,
    ),
    "steps out of order": Fault(
        classifier(more="policy=steps\nsteps=1800,1600\nscales=.1,.1"),
        "steps-unordered",
        "steps=1600,1800",
        checks=True,
    ),
    "burn-in without end": Fault(
        classifier(more="burn_in=100000"), "burn-in-too-long", "burn_in=", (0, 280), checks=True
    ),
    "rate of 0": Fault(classifier(rate=0), "rate-zero", "learning_rate=", checks=True),
    "momentum of .999": Fault(
        classifier(rate=0.05).replace("momentum=0.9", "momentum=0.999"), "Diverging", "momentum=0.9", (120, 120)
    ),
    "momentum of 9": Fault(
        classifier().replace("momentum=0.9", "momentum=9"), "momentum-range", "momentum=0.9", checks=True
    ),
    "decay of 5": Fault(classifier().replace("decay=0.0005", "decay=5"), "decay-range", "decay=0.0001", checks=True),
    "lines for testing": Fault(classifier(batch=1), "batch", "batch=64", checks=True),
    # gradients
    "gradients clipped to nothing": Fault(
        classifier(more="grad_clip_norm=1e-6"), "StuckRate", "grad_clip_norm=", (25, 120)
    ),
    "gradient values clipped to nothing": Fault(
        classifier(more="grad_clip_value=1e-9"), "StuckRate", "grad_clip_value=0", (25, 120)
    ),
    "constraint of a millionth": Fault(classifier(more="constrain=1e-6"), "ClampSaturated", "constrain=0"),
    "constraint in a section": Fault(
        classifier(section="constrain=1e-5\n"), "ClampSaturated", "constrain=0 in layers 0, 1, 2"
    ),
    "everything frozen": Fault(
        classifier(section="stopbackward=1\n").replace("filters=4\n", "filters=4\nstopbackward=1\n"),
        "StuckRate",
        "stopbackward=0",
        (25, 120),
    ),
    "gradients piled up": Fault(classifier(3, section="dont_update=12\n"), "OverfitHead", "grad_clip_norm="),
    # losses
    "classes that hide the boxes": Fault(
        in_alexeyab("cls_normalizer=1000\n"), "cls_normalizer-range", "cls_normalizer=1", checks=True
    ),
    "objectness that is not learned": Fault(
        in_alexeyab("obj_normalizer=0\n"), "normalizer-zero", "obj_normalizer=1", checks=True
    ),
    "boxes that are not learned": Fault(
        in_alexeyab("").replace("iou_normalizer=0.07", "iou_normalizer=0"),
        "normalizer-zero",
        "iou_normalizer=1",
        checks=True,
    ),
    # layers
    "frozen batch norm that was never loaded": Fault(
        classifier(more="bn_freeze=all"), "FrozenNorm", "bn_freeze=none", (5, 120)
    ),
    "frozen statistics that were never loaded": Fault(
        classifier(section="bn_freeze=stats\n"), "FrozenNorm", "bn_freeze=none in layers 0, 1, 2", (5, 120)
    ),
    "twelve logistic layers": Fault(
        classifier(12, norm=0, activation="logistic"), "Vanishing", "batch_normalize=1 in layers 0"
    ),
    "dead units": Fault(
        classifier(4, activation="relu"), "DeadUnits", "activation=leaky in layer", plant=filled("layers.1.biases", -10)
    ),
    # anchors
    "anchors three times too large": Fault(
        detector().replace(BOXES, BOXES.replace("5,5, 8,8, 12,12", "15,15, 24,24, 36,36")), "AnchorMismatch", "anchors="
    ),
    "anchors five times too small": Fault(
        detector().replace(BOXES, BOXES.replace("5,5, 8,8, 12,12", "1,1, 1.5,1.5, 2,2")), "AnchorMismatch", "anchors="
    ),
    "anchors in fractions": Fault(
        detector().replace(BOXES, BOXES.replace("5,5, 8,8, 12,12", ".3,.3, .5,.5, .7,.7")), "AnchorMismatch", "anchors="
    ),
}
QUICK = (
    "rate too high without a norm",
    "frozen batch norm that was never loaded",
    "steps beyond the end",
    "dead units",
)


def first_finding(fault: Fault) -> Finding:
    if fault.checks:
        plan = make_plan(fault.text)
        findings = [*(with_remedies(plan, warning) for warning in plan.warnings), *check_plan(plan)]
        return next(finding for finding in findings if not finding.is_note)
    run = Run(fault.text, options={"every": 10})
    fault.plant(run)
    return run(fault.updates[0], fault.change).findings[0]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAULTS]
)
def test_run_learns_when_the_first_advice_is_followed(name: str) -> None:
    fault = FAULTS[name]
    finding = first_finding(fault)
    assert finding.name == fault.name
    remedy = finding.remedies[0]
    assert fault.says in str(remedy) and finding.hints[0] == str(remedy)
    cured = apply_remedy(fault.text, remedy)
    assert cured != fault.text
    run = Run(cured, options={"every": 10})
    fault.plant(run)
    run(fault.updates[1])
    loss = run.monitor.average
    assert run.error is None and loss < (DETECTOR_LOSS if "[yolo]" in cured else CLASSIFIER_LOSS), (remedy, loss)


def test_advice_names_no_key_that_has_its_value_already() -> None:
    for fault in FAULTS.values():
        for remedy in first_finding(fault).remedies if fault.checks else ():
            assert apply_remedy(fault.text, remedy) != fault.text


def test_there_are_30_faults() -> None:
    assert len(FAULTS) >= 30
