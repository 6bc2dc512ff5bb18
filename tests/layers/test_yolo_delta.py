"""[yolo]: cost and log line of a minibatch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from darkpy.build import make_plan
from darkpy.config.net import NetSpec
from darkpy.dialect import Dialect
from darkpy.layers.loss import DeltaFilter, Loss, TrainingState
from darkpy.layers.yolo import YoloSpec

PJ, AX = Dialect
KEYS = "classes=2\nnum=2\nanchors=10,14, 40,60\n"
THREE = ((0.3, 0.4, 0.1, 0.2, 1), (0.3, 0.4, 0.12, 0.2, 0), (0.8, 0.9, 0.5, 0.6, 1))


def learn(
    dialect: Dialect,
    keys: str = "",
    *,
    rows: Sequence[Sequence[float]] = THREE,
    shift: float = 0,
    state: TrainingState | None = None,
) -> tuple[YoloSpec, Loss]:
    """Two images on a grid of 3 x 2 cells, the objects in the first; `shift` is added to the head's input."""
    plan = make_plan(f"[net]\nheight=2\nwidth=3\nchannels=14\n[yolo]\n{KEYS}{keys}", dialect)
    spec = plan.nodes[0].spec
    assert isinstance(spec, YoloSpec)
    x_BCHW = shift + torch.randn(2, *plan.input_shape, generator=torch.Generator().manual_seed(1))
    truth_BTE = torch.zeros(2, *spec.truth_shape(plan.input_shape))
    truth_BTE[0, : len(rows), :5] = torch.tensor(rows).view(-1, 5)
    net = NetSpec(dialect=dialect, width=96, height=64, batch=2)
    output_BCHW = spec.build(plan.nodes[0].inputs, plan.net)(x_BCHW)
    return spec, spec.loss(x_BCHW, output_BCHW, truth_BTE, state or TrainingState(net, 2))


def parts(loss: Loss) -> tuple[float, float]:
    """Sums of squared deltas: of boxes, and of everything else."""
    square_BAEHW = loss.delta.view(2, 2, 7, 2, 3).square()
    return float(square_BAEHW[:, :, :4].sum()), float(square_BAEHW[:, :, 4:].sum())


@pytest.mark.parametrize(("dialect", "keys"), [(PJ, ""), (AX, ""), (AX, "iou_loss=ciou\nshow_details=0\n")])
def test_the_cost_is_the_sum_of_squared_deltas(dialect: Dialect, keys: str) -> None:
    _, loss = learn(dialect, keys)
    assert float(loss.cost) == pytest.approx(sum(parts(loss)))


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_the_cost_of_an_overlap_loss_is_how_much_overlap_lacks(kind: str) -> None:
    _, loss = learn(AX, f"iou_loss={kind}\nobj_normalizer=.5\niou_normalizer=.25\n")
    overlap = float(loss.report["giou" if kind == "giou" else "iou"] / loss.report["count"])
    assert float(loss.report["count"]) == 3
    assert float(loss.cost) == pytest.approx(0.25 * (1 - overlap) + 0.5 * parts(loss)[1])


@pytest.mark.parametrize("kind", ["mse", "iou", "giou", "diou", "ciou"])
def test_without_objects_the_cost_is_that_of_objectness(kind: str) -> None:
    spec, loss = learn(AX, f"iou_loss={kind}\n", rows=())
    assert float(loss.cost) == pytest.approx(parts(loss)[1])
    assert "Avg (IOU: 0.000000), count: 1, " in spec.log_line(3, loss)


def test_objectness_smooth_lets_the_first_of_several_truths_raise_an_objectness_that_is_0() -> None:
    keys = "objectness_smooth=1\ncounters_per_class=10,40\n"
    rows = ((0.3, 0.4, 0.1, 0.2, 1), (0.3, 0.4, 0.1, 0.2, 0))
    for order, weight in ((rows, 1), (rows[::-1], 4)):
        _, loss = learn(AX, keys, rows=order, shift=-200)
        assert float(loss.delta.view(2, 2, 7, 2, 3)[0, 0, 4].max()) == weight


def test_pjreddies_line() -> None:
    spec, loss = learn(PJ)
    report = {name: float(value) for name, value in loss.report.items()}
    expected = (
        f"Region 82 Avg IOU: {report['iou'] / 3:f}, Class: {report['class'] / 3:f}, Obj: {report['obj'] / 3:f}, "
        f"No Obj: {report['no_obj']:f}, .5R: {report['recall50'] / 3:f}, .75R: {report['recall75'] / 3:f},  count: 3"
    )
    assert spec.log_line(82, loss) == expected


@pytest.mark.parametrize(("kind", "name"), [("mse", "mse"), ("giou", "giou"), ("iou", "iou"), ("ciou", "iou")])
def test_alexeyabs_line(kind: str, name: str) -> None:
    spec, loss = learn(AX, f"iou_loss={kind}\niou_normalizer=.07\ncls_normalizer=.5\n")
    boxes, others = parts(loss)
    line = spec.log_line(16, loss)
    start, _, end = line.partition("count: 3, ")
    overlap = float(loss.report["iou"]) / 3
    assert start == (
        f"v3 ({name} loss, Normalizer: (iou: 0.07, obj: 1.00, cls: 0.50) Region 16 Avg (IOU: {overlap:f}), "
    )
    numbers = [float(part.split(" = ")[1]) for part in end.split(", ")]
    assert numbers == pytest.approx([others / 2, boxes / 2, (boxes + others) / 2], rel=1e-5)


def test_alexeyabs_line_without_details_has_the_total_alone() -> None:
    spec, loss = learn(AX, "show_details=0\n")
    total = float(loss.report["total_loss"])
    assert total == pytest.approx(sum(parts(loss)) / 2)
    assert spec.log_line(16, loss).endswith(f"count: 3, total_loss = {total:f} ")


def test_late_in_a_training_the_largest_deltas_are_thrown_out_before_the_cost() -> None:
    net = NetSpec(dialect=AX, width=96, height=64, batch=2, max_batches=8, badlabels_rejection_percentage=1.0)
    delta_filter = DeltaFilter(bound=1.0)
    _, early = learn(AX, state=TrainingState(net, 14, delta_filter))
    _, late = learn(AX, state=TrainingState(net, 16, delta_filter))
    assert float(early.delta.abs().max()) > 1
    assert torch.equal(late.delta, torch.where(early.delta.abs() > 1, 0.0, early.delta))
    assert float(late.cost) == pytest.approx(sum(parts(late)))
    assert delta_filter.bound == pytest.approx(1.01)
