"""[Gaussian_yolo]: log line of a minibatch."""

from __future__ import annotations

import pytest
import torch

from darkpy.build import make_plan
from darkpy.config.net import NetSpec
from darkpy.layers.gaussian_yolo import GaussianYoloSpec
from darkpy.layers.loss import Loss, TrainingState

SECTION = "[Gaussian_yolo]\nclasses=2\nnum=2\nanchors=10,14, 40,60\n"


def learn(keys: str = "", rows: tuple[tuple[float, ...], ...] = ((0.3, 0.4, 0.4, 0.9, 1),)) -> Loss:
    plan = make_plan(f"[net]\nheight=2\nwidth=3\nchannels=22\n{SECTION}{keys}")
    spec = plan.nodes[0].spec
    assert isinstance(spec, GaussianYoloSpec)
    x_BCHW = torch.randn(2, *plan.input_shape, generator=torch.Generator().manual_seed(1))
    truth_BTE = torch.zeros(2, *spec.truth_shape(plan.input_shape))
    for row, numbers in enumerate(rows):
        truth_BTE[0, row, :5] = torch.tensor(numbers)
    output_BCHW = spec.build(plan.nodes[0].inputs, plan.net)(x_BCHW)
    return spec.loss(x_BCHW, output_BCHW, truth_BTE, TrainingState(NetSpec(width=96, height=64, batch=2), 2))


def test_the_line_divides_the_loss_as_darknet_does() -> None:
    """uc_loss is all of w and h with their sigmas; iou_loss is x and y with theirs."""
    loss = learn()
    square_BAEHW = loss.delta.view(2, 2, 11, 2, 3).square()
    entries = (slice(0, 4), slice(4, 8), slice(8, 11))
    center, size, others = (float(square_BAEHW[:, :, part].sum()) / 2 for part in entries)
    report = {name: float(value) for name, value in loss.report.items()}
    expected = (
        f"Region 9 Avg IOU: {report['iou']:f}, Class: {report['class']:f}, Obj: {report['obj']:f}, "
        f"No Obj: {report['no_obj']:f}, .5R: {report['recall50']:f}, .75R: {report['recall75']:f},  count: 1, "
        f"class_loss = {others:.2f}, iou_loss = {center:.2f}, uc_loss = {size:.2f}, "
        f"total_loss = {center + size + others:.2f} "
    )
    spec = make_plan(f"[net]\nheight=2\nwidth=3\nchannels=22\n{SECTION}").nodes[0].spec
    assert isinstance(spec, GaussianYoloSpec)
    assert spec.log_line(9, loss) == expected
    assert float(loss.cost) == pytest.approx(2 * (center + size + others))


def test_overlap_is_iou_under_mse_and_giou_under_every_other_loss() -> None:
    """A small object that does not overlap its prediction."""
    rows = ((0.02, 0.02, 0.01, 0.01, 1),)
    assert float(learn(rows=rows).report["iou"]) == 0
    for kind in ("iou", "giou", "diou", "ciou"):
        report = learn(f"iou_loss={kind}\n", rows).report
        assert float(report["iou"]) == float(report["giou"]) < 0
