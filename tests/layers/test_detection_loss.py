"""[detection]'s loss beyond the goldens: responsible boxes, empty and invalid cells, map inputs."""

from __future__ import annotations

import math

import pytest
import torch

from darkpy.build import make_plan
from darkpy.layers.detection import DetectionSpec
from darkpy.layers.loss import Loss, TrainingState
from darkpy.shapes import Shape

SIDE, NUM, CLASSES = 2, 3, 2
CELLS = SIDE * SIDE
INPUTS = CELLS * (5 * NUM + CLASSES)
KEYS = f"[detection]\nside={SIDE}\nnum={NUM}\nclasses={CLASSES}\ncoords=4\n"
CELL = [1.0, 0.0, 1.0, 0.3, 0.6, 0.5, 0.4]
EMPTY = [0.0] * 7


def learn(rows: list[list[float]], keys: str = "", seen: int = 1, net: str = f"inputs={INPUTS}") -> Loss:
    plan = make_plan(f"[net]\n{net}\n{KEYS}{keys}", "pjreddie")
    (node,) = plan.nodes
    assert isinstance(node.spec, DetectionSpec)
    assert node.spec.truth_shape(node.shape) == (CELLS, 7)
    x_BCHW = torch.randn(1, *plan.input_shape, generator=torch.Generator().manual_seed(3))
    output_BCHW = node.spec.build(node.inputs, plan.net)(x_BCHW)
    return node.spec.loss(x_BCHW, output_BCHW, torch.tensor([rows]), TrainingState(plan.net, seen))


def responsible(loss: Loss) -> list[int]:
    """The boxes with a delta."""
    box_A4 = loss.delta.flatten()[-CELLS * NUM * 4 :].view(-1, 4)
    return box_A4.any(1).nonzero().flatten().tolist()


def test_empty_cells_teach_objectness_alone() -> None:
    loss = learn([EMPTY] * CELLS)
    delta_C = loss.delta.flatten()
    assert not delta_C[: CELLS * CLASSES].any() and not delta_C[CELLS * (CLASSES + NUM) :].any()
    assert bool(delta_C[CELLS * CLASSES : CELLS * (CLASSES + NUM)].all())
    plan = make_plan(f"[net]\ninputs={INPUTS}\n{KEYS}")
    spec = plan.nodes[0].spec
    assert isinstance(spec, DetectionSpec)
    line = spec.log_line(0, loss)
    assert line.startswith("Detection Avg IOU: -nan, Pos Cat: -nan, All Cat: -nan, Pos Obj: -nan, Any Obj: ")
    assert line.endswith(", count: 0")


@pytest.mark.parametrize("place_value", [(3, math.nan), (5, 0.0), (6, -0.5), (0, math.nan), (2, math.inf)])
def test_a_cell_whose_truth_is_no_box_counts_as_empty(place_value: tuple[int, float]) -> None:
    place, value = place_value
    bad = list(CELL)
    bad[place] = value
    actual, expected = learn([EMPTY, bad, CELL, EMPTY]), learn([EMPTY, EMPTY, CELL, EMPTY])
    assert torch.equal(actual.delta, expected.delta)
    assert int(actual.report["rejected"]) == (0 if place == 0 else 1)  # a cell without a box is not a rejected one


@pytest.mark.parametrize(("size", "box"), [(0.3, 1), (0.4, 0)])
def test_forced_gives_small_objects_to_the_second_box(size: float, box: int) -> None:
    small = [*CELL[:5], size, size / 1.2]
    assert responsible(learn([EMPTY, small, EMPTY, EMPTY], "forced=1\n")) == [NUM + box]


def test_random_draws_the_responsible_box_while_64000_images_have_not_been_seen() -> None:
    rows = [EMPTY, CELL, EMPTY, EMPTY]
    torch.manual_seed(1)
    drawn = {responsible(learn(rows, "random=1\n", 63999))[0] for _ in range(40)}
    assert drawn == {NUM, NUM + 1, NUM + 2}
    settled = {responsible(learn(rows, "random=1\n", 64000))[0] for _ in range(5)}
    assert settled == set(responsible(learn(rows)))


def test_what_the_layer_before_receives_has_its_shape() -> None:
    actual = learn([EMPTY, CELL, EMPTY, EMPTY], net=f"width=2\nheight=2\nchannels={INPUTS // 4}")
    assert actual.delta.shape == (1, *Shape.vector(INPUTS)) and actual.input_delta.shape == (1, INPUTS // 4, 2, 2)
    assert torch.equal(actual.input_delta.flatten(), actual.delta.flatten())
