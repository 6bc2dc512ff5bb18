"""[region]'s loss beyond the goldens: delta of the layer before, the first images, invalid truths."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from darkpy.build import make_plan
from darkpy.config.net import NetSpec
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.layers.loss import Loss, TrainingState
from darkpy.layers.region import RegionSpec
from darkpy.shapes import Shape

PJ, AX = Dialect
H, W, CLASSES = 3, 4, 3
SHAPE = Shape(16, H, W)
ANCHORS = [(0.6, 0.8), (1.2, 1.0)]
KEYS = "classes=3\nnum=2\nanchors=.6,.8, 1.2,1\nsoftmax=1\n"
BOX = [0.4, 0.55, 0.3, 0.25, 1.0]
OTHER = [0.9, 0.1, 0.1, 0.45, 2.0]
TREE = "beast -1\nthing -1\ncat 0\n"
both = pytest.mark.parametrize("dialect", [PJ, AX])


def region(dialect: Dialect, keys: str = KEYS, coords: int = 4) -> tuple[RegionSpec, torch.nn.Module, NetSpec]:
    channels = len(ANCHORS) * (coords + 1 + CLASSES)
    plan = make_plan(f"[net]\nheight={H}\nwidth={W}\nchannels={channels}\n[region]\n{keys}", dialect)
    (node,) = plan.nodes
    assert isinstance(node.spec, RegionSpec)
    return node.spec, node.spec.build(node.inputs, plan.net), plan.net


def noise(channels: int = 16) -> torch.Tensor:
    return torch.randn(1, channels, H, W, generator=torch.Generator().manual_seed(5))


def learn(dialect: Dialect, rows: list[list[float]], keys: str = KEYS, seen: int = 20000, coords: int = 4) -> Loss:
    spec, module, net = region(dialect, keys, coords)
    width = spec.truth_shape(SHAPE)[1]
    truth_BTE = torch.zeros(1, spec.max, width)
    for place, row in enumerate(rows):
        truth_BTE[0, place, : len(row)] = torch.tensor(row)
    x_BCHW = noise(len(ANCHORS) * (coords + 1 + CLASSES))
    return spec.loss(x_BCHW, module(x_BCHW), truth_BTE, TrainingState(net, seen))


def by_place(map_BCHW: torch.Tensor) -> torch.Tensor:
    """(anchor, entry, row, column) of the single image."""
    return map_BCHW.view(len(ANCHORS), -1, H, W)


def test_pjreddies_delta_goes_back_through_the_logistic_of_center_and_objectness() -> None:
    loss = learn(PJ, [BOX, OTHER], seen=2)
    slope_AEHW = torch.ones(2, 8, H, W)
    logistic_AEHW = by_place(noise()).sigmoid()
    for entry in (0, 1, 4):
        slope_AEHW[:, entry] = (logistic_AEHW * (1 - logistic_AEHW))[:, entry]
    torch.testing.assert_close(by_place(loss.input_delta), by_place(loss.delta) * slope_AEHW)


def test_alexeyabs_delta_has_the_slope_in_it_and_the_inputs_order() -> None:
    loss = learn(AX, [BOX, OTHER], seen=2)
    assert torch.equal(loss.input_delta, loss.delta)
    # without boxes, which the dialects weight differently, it equals pjreddie's input delta
    torch.testing.assert_close(learn(AX, [], seen=2).delta, learn(PJ, [], seen=2).input_delta)


@both
@pytest.mark.parametrize(("seen", "is_drawn"), [(12799, True), (12800, False)])
def test_boxes_are_drawn_to_their_anchors_until_12800_images_have_been_seen(
    dialect: Dialect, seen: int, is_drawn: bool
) -> None:
    delta_AEHW = by_place(learn(dialect, [], seen=seen).input_delta)
    assert bool(delta_AEHW[:, :4].any()) is is_drawn
    if is_drawn:
        torch.testing.assert_close(delta_AEHW[:, 2:4], -0.01 * by_place(noise())[:, 2:4])


@both
@pytest.mark.parametrize("row", [
    [math.nan, 0.5, 0.2, 0.2, 1.0], [0.5, 0.5, 0.0, 0.2, 1.0], [0.5, 0.5, -0.2, 0.2, 1.0], [1.5, 0.5, 0.2, 0.2, 1.0],
    [0.5, 0.5, 0.2, 0.2, 3.0], [0.5, 0.5, 0.2, 0.2, -1.0], [0.5, math.inf, 0.2, 0.2, 1.0],
    [999999.0, 999999.0, 999999.0, 999999.0, 1.0],
])  # fmt: skip
def test_a_row_that_is_no_box_teaches_nothing_and_is_counted(dialect: Dialect, row: list[float]) -> None:
    actual, expected = learn(dialect, [BOX, row, OTHER]), learn(dialect, [BOX, OTHER])
    assert torch.equal(actual.delta, expected.delta)
    assert (int(actual.report["rejected"]), int(expected.report["rejected"])) == (1, 0)


@both
def test_a_center_on_the_far_edge_belongs_to_the_last_cell(dialect: Dialect) -> None:
    delta_AEHW = by_place(learn(dialect, [[1.0, 1.0, 0.15, 0.25, 0.0]]).delta)
    assert bool(delta_AEHW[:, 5:, H - 1, W - 1].any())
    assert int(delta_AEHW[:, 5:].any(1).sum()) == 1


@both
def test_without_boxes_only_objectness_goes_down_and_means_are_dashes(dialect: Dialect) -> None:
    loss = learn(dialect, [])
    assert not by_place(loss.delta)[:, [0, 1, 2, 3, 5, 6, 7]].any()
    assert bool((by_place(loss.delta)[:, 4] < 0).all())
    line = region(dialect)[0].log_line(3, loss)
    assert line.startswith("Region Avg IOU: -nan, Class: -nan, Obj: -nan, No Obj: 0.")
    assert line.endswith(", Avg Recall: -nan,  count: 0")


def test_more_coords_learn_from_the_row_before_the_class_with_a_whole_scale() -> None:
    row = [0.4, 0.55, 0.3, 0.25, 0.8, 0.1, 1.0]
    delta_AEHW = by_place(learn(PJ, [row], KEYS + "coords=6\nmask_scale=2.9\n", coords=6).delta)
    said_AEHW = by_place(noise(20)).sigmoid()
    ((anchor, y, x),) = delta_AEHW[:, 4:6].any(1).nonzero().tolist()
    assert (y, x) == (int(0.55 * H), int(0.4 * W))
    wanted_2 = 2 * (torch.tensor([0.8, 0.1]) - said_AEHW[anchor, 4:6, y, x])
    torch.testing.assert_close(delta_AEHW[anchor, 4:6, y, x], wanted_2)


@both
def test_an_image_with_a_class_alone_teaches_one_prediction_its_class_and_no_box(
    dialect: Dialect, tmp_path: Path
) -> None:
    (tmp_path / "some.tree").write_text(TREE)
    keys = f"{KEYS}tree={tmp_path}/some.tree\n"
    delta_AEHW = by_place(learn(dialect, [BOX, [999999.0, 999999.0, 0.1, 0.1, 2.0]], keys, seen=2).delta)
    ((anchor, y, x),) = delta_AEHW[:, 5:].any(1).nonzero().tolist()
    x_AEHW = by_place(noise())
    root_AHW, objectness_AHW = x_AEHW[:, 5:7].softmax(1)[:, 0], x_AEHW[:, 4].sigmoid()
    assert int((root_AHW * objectness_AHW).argmax()) == (anchor * H + y) * W + x
    assert not delta_AEHW[:, :4].any() and delta_AEHW[anchor, 4, y, x] == 0
    assert bool(delta_AEHW[:, 4].any()) is (dialect is PJ)


def test_focal_loss_needs_probabilities() -> None:
    with pytest.raises(DarkpyError, match="set softmax=1"):
        learn(AX, [BOX], KEYS.replace("softmax=1", "focal_loss=1"))


def test_truths_are_rows_of_five_numbers_or_of_six_with_the_track() -> None:
    shapes = [region(dialect, keys)[0] for dialect in (PJ, AX) for keys in (KEYS, KEYS + "max=7\n")]
    assert [spec.truth_shape(SHAPE) for spec in shapes] == [(30, 5), (7, 5), (200, 6), (7, 6)]
