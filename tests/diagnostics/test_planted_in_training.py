"""Faults planted in trainings: each is found, and named at the layer or the image where it was planted."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from darkpy.diagnostics.monitor.policy import BadRunError
from tests.diagnostics.runs import Change, Minibatch, Run, classifier, detector

NAN, INF = math.nan, math.inf


class Fault(NamedTuple):
    """plant: is done to the weights; change: to minibatches. place: what the message begins with, but for the file."""

    text: str
    name: str
    place: str
    says: str
    plant: Callable[[Run], object] = lambda run: None
    change: Change | None = None
    updates: int = 15
    image: str = ""


def filled(array: str, value: float, number: int | slice = 0) -> Callable[[Run], object]:
    """One number, or some, of an array."""

    def plant(run: Run) -> None:
        run.array(array).view(-1)[number] = value

    return plant


def at(update: int, spoil: Callable[[torch.Tensor, torch.Tensor], object]) -> Change:
    """What happens to the minibatch of one update."""

    def change(n: int, minibatch: Minibatch) -> Minibatch:
        x_BCHW, truth = (array.clone() for array in minibatch)
        if n + 1 == update:
            spoil(x_BCHW, truth)
        return x_BCHW, truth

    return change


def label(entry: int, value: float) -> Change:
    """A number of the label of image 2 in update 8."""
    return at(8, lambda x_BCHW, truth: truth[2, 0].__setitem__(entry, value))


def pixel(value: float) -> Change:
    return at(8, lambda x_BCHW, truth: x_BCHW[3, 1].__setitem__((2, 2), value))


FIVE, BOXES, WHOLE = classifier(5), detector(), slice(None)
RELU = classifier(4, norm=0, activation="relu")
FAULTS = {
    "weight NaN": Fault(
        FIVE, "NonFinite", "layer 2 [convolutional]", "1 of its weights", filled("layers.2.weights", NAN)
    ),
    "bias infinite": Fault(
        FIVE, "NonFinite", "layer 3 [convolutional]", "of its biases", filled("layers.3.biases", INF)
    ),
    "scale NaN": Fault(FIVE, "NonFinite", "layer 1 [convolutional]", "of its scales", filled("layers.1.scales", NAN)),
    "rolling mean NaN": Fault(
        FIVE, "NonFinite", "layer 1 [convolutional]", "of its rolling_mean", filled("layers.1.rolling_mean", NAN)
    ),
    "weight NaN, deltas dropped": Fault(
        detector(activation="mish"), "NonFinite", "layer 2 [convolutional]", "weights", filled("layers.2.weights", NAN)
    ),
    "bias of a class NaN, deltas dropped": Fault(
        detector(activation="mish"), "NonFinite", "layer 3 [convolutional]", "biases", filled("layers.3.biases", NAN, 6)
    ),
    "outputs overflow": Fault(
        classifier(3, norm=0),
        "RuinedWeights",
        "layer 1 [convolutional]",
        "the weights are ruined: they are as large as 3e+38",
        filled("layers.1.weights", 3e38, WHOLE),
    ),
    "pixel infinite": Fault(FIVE, "NonFinite", "", "pixel values that are NaN", change=pixel(INF), image="7_3.png"),
    "pixel NaN": Fault(BOXES, "NonFinite", "", "pixel values that are NaN", change=pixel(NAN), image="7_3.png"),
    "image of 1e38": Fault(
        FIVE, "NonFinite", "", "pixel values up to", change=at(8, lambda x, truth: x[5].mul_(1e38)), image="7_5.png"
    ),
    "class label NaN": Fault(
        FIVE, "NonFinite", "", "label values", change=at(8, lambda x, truth: truth[2].fill_(NAN)), image="7_2.png"
    ),
    "box outside": Fault(BOXES, "BadLabel", "", "lies outside", change=label(0, 1.7), image="7_2.png"),
    "box without width": Fault(BOXES, "BadLabel", "", "impossible size", change=label(2, 0), image="7_2.png"),
    "box NaN": Fault(BOXES, "BadLabel", "", "impossible size", change=label(3, NAN), image="7_2.png"),
    "box of no class": Fault(BOXES, "BadLabel", "", "is of no class", change=label(4, 2), image="7_2.png"),
    "image a thousand times too bright": Fault(
        detector(norm=0, rate=0.002),
        "LossSpike",
        "",
        "the largest of the last 40 minibatches",
        change=at(41, lambda x, truth: x[5].mul_(1e3)),
        updates=45,
        image="40_5.png",
    ),
    "images of 0..255": Fault(
        FIVE, "ActivationRange", "", "the images' values go from 0 to 25", change=lambda n, m: (m[0] * 255, m[1])
    ),
    "scales of 1e6": Fault(
        FIVE, "ActivationRange", "layer 1 [convolutional]", "its outputs go", filled("layers.1.scales", 1e6, WHOLE)
    ),
    "weights that drift away": Fault(
        detector(rate=0.001, norm=0),
        "Diverging",
        "",
        "the average loss has risen to",
        change=lambda n, m: (m[0] * 1.2 ** max(0, n - 25), m[1]),
        updates=70,
    ),
    "rate x100": Fault(detector(rate=1.0), "Exploding", "layer 3 [convolutional]", "as large as the weights"),
    "rate x1000 without a norm": Fault(
        classifier(norm=0, rate=10.0), "Exploding", "layer 3 [convolutional]", "as large as the weights"
    ),
    "rate x100 with Adam": Fault(
        classifier(rate=1.0, more="adam=1"), "Exploding", "layer 2 [convolutional]", "as large as the weights"
    ),
    "rate of 0": Fault(
        classifier(more="policy=poly").replace("max_batches=2000", "max_batches=10"), "StuckRate", "", "policy=poly"
    ),
    "rate of 1e-9": Fault(classifier(rate=1e-9), "StuckRate", "", "float32 rounds it away"),
    "twelve logistic layers": Fault(
        classifier(12, norm=0, activation="logistic"), "Vanishing", "layer 0 [convolutional]", "of the largest layer's"
    ),
    "biases of -10 before relu": Fault(
        RELU, "DeadUnits", "layer 1 [convolutional]", "100% of its units", filled("layers.1.biases", -10, WHOLE)
    ),
    "biases of -10 behind batch norm": Fault(
        classifier(4, activation="relu"),
        "DeadUnits",
        "layer 1 [convolutional]",
        "100%",
        filled("layers.1.biases", -10, WHOLE),
    ),
    "constraint of a millionth": Fault(
        classifier(more="constrain=1e-6"), "ClampSaturated", "layer 3 [convolutional]", "100% of its deltas are clamped"
    ),
    "variance 0": Fault(
        classifier(size=1),
        "VarianceCollapse",
        "layer 0 [convolutional]",
        "100% of its channels is below 1e-05",
        change=lambda n, m: (torch.full_like(m[0], 0.5), m[1]),
        updates=101,
    ),
    "anchors three times too large": Fault(
        BOXES.replace("5,5, 8,8, 12,12", "15,15, 24,24, 36,36"), "AnchorMismatch", "layer 4 [yolo]", "overlap"
    ),
    "gradients piled up by dont_update": Fault(
        classifier(3, section="dont_update=12\n"), "OverfitHead", "layer 2 [convolutional]", "begins to learn"
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_planted_fault_is_found_where_it_is(fault: Fault, tmp_path: Path) -> None:
    run = Run(fault.text, tmp_path)
    fault.plant(run)
    run(fault.updates, fault.change)
    finding = run.found(fault.name)
    assert finding.place.startswith(f"{fault.place} <cfg>:") if fault.place else not finding.place
    assert fault.says in finding.message and f"update {finding.batch_num}:" in finding.text
    assert finding.hints
    if fault.image:
        assert finding.paths[0] == fault.image and fault.image in finding.message


@pytest.mark.parametrize("name", ["weight NaN", "bias infinite", "rolling mean NaN"])
def test_run_whose_arrays_are_no_numbers_ends_at_once(name: str) -> None:
    run = Run(FAULTS[name].text)
    FAULTS[name].plant(run)
    run(15)
    assert isinstance(run.error, BadRunError) and not run.error.is_savable
    assert run.trainer.batch_num == 0 and str(run.error).startswith(FAULTS[name].place)


def test_there_are_enough_of_them() -> None:
    assert len(FAULTS) >= 15
