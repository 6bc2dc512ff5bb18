"""The derivatives of overlaps: AlexeyAB's numbers, and how far they are the true ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.ops.box_gradients import overlap_gradient
from darkpy.ops.boxes import OVERLAP_MEASURES

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "ops" / "box_gradients.npz")
KINDS = ("iou", "giou", "diou", "ciou")
place, side = st.floats(0.3, 0.5), st.floats(0.3, 0.6)  # such boxes overlap
box = st.tuples(place, place, side, side).map(lambda numbers: torch.tensor(numbers, dtype=torch.float64))


def true_gradient(pred: torch.Tensor, truth: torch.Tensor, kind: str) -> torch.Tensor:
    pred = pred.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(OVERLAP_MEASURES[kind](pred, truth).sum(), pred)
    return gradient


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_what_darknet_computes(kind: str) -> None:
    pairs = torch.from_numpy(GOLDEN["pairs"])
    found = overlap_gradient(pairs[:, :4], pairs[:, 4:], kind).numpy()
    assert np.abs(found - GOLDEN[kind]).max() <= 1e-5


def test_goldens_hold_boxes_together_and_apart() -> None:
    pairs = torch.from_numpy(GOLDEN["pairs"])
    overlap = OVERLAP_MEASURES["iou"](pairs[:, :4], pairs[:, 4:])
    assert (overlap > 0).sum() > 50 and (overlap == 0).sum() > 20


@pytest.mark.parametrize("kind", ["iou", "giou"])
@settings(deadline=None, max_examples=30)
@given(pred=box, truth=box)
def test_of_overlapping_boxes_they_are_true_by_the_center_and_doubled_by_the_size(
    kind: str, pred: torch.Tensor, truth: torch.Tensor
) -> None:
    if (pred - truth).abs().min() < 1e-3:  # edges that coincide have two derivatives
        return
    found, wanted = overlap_gradient(pred, truth, kind), true_gradient(pred, truth, kind)
    torch.testing.assert_close(found, wanted * torch.tensor([1.0, 1.0, 2.0, 2.0]), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_side_of_0_counts_as_1(kind: str) -> None:
    truth = torch.tensor([0.4, 0.5, 0.3, 0.2])
    flat, whole = torch.tensor([0.5, 0.5, 0.0, 0.2]), torch.tensor([0.5, 0.5, 1.0, 0.2])
    assert torch.equal(overlap_gradient(flat, truth, kind), overlap_gradient(whole, truth, kind))


def test_boxes_apart_get_what_giou_adds_with_an_intersection_that_may_be_negative() -> None:
    pred = torch.tensor([0.2, 0.5, 0.1, 0.3], dtype=torch.float64, requires_grad=True)
    truth = torch.tensor([0.7, 0.45, 0.1, 0.1], dtype=torch.float64)
    (x, _, w, h), (truth_x, truth_y, truth_w, truth_h) = pred, truth
    common = (x + w / 2 - truth_x + truth_w / 2) * (truth_y + truth_h / 2 - truth_y + truth_h / 2)
    around = (truth_x + truth_w / 2 - x + w / 2) * h
    (wanted,) = torch.autograd.grad((w * h + truth_w * truth_h - common) / around, pred)
    found = overlap_gradient(pred.detach(), truth, "giou")
    torch.testing.assert_close(found, wanted * torch.tensor([1.0, 1.0, 2.0, 2.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_leading_dimensions_are_the_callers(kind: str) -> None:
    pairs = torch.from_numpy(GOLDEN["pairs"])[:24]
    pred, truth = pairs[:, :4], pairs[:, 4:]
    found = overlap_gradient(pred.view(2, 3, 4, 4), truth.view(2, 3, 4, 4), kind)
    assert torch.equal(found.view(24, 4), overlap_gradient(pred, truth, kind))
    assert overlap_gradient(pred[:0], truth[:0], kind).shape == (0, 4)
