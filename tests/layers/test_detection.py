"""[detection]: YOLOv1's vector, against loops over darknet's memory."""

from __future__ import annotations

import pytest
import torch

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError
from darkpy.layers.detection import DetectionSpec
from darkpy.network import Network

SIDE, NUM, CLASSES = 3, 2, 4
INPUTS = SIDE * SIDE * (5 * NUM + CLASSES)
KEYS = f"side={SIDE}\nnum={NUM}\nclasses={CLASSES}\ncoords=4\n"
THRESH = 0.25


def head(keys: str = KEYS, inputs: int = INPUTS, dialect: Dialect = Dialect.PJREDDIE) -> DetectionSpec:
    spec = make_plan(f"[net]\ninputs={inputs}\n[detection]\n{keys}", dialect).nodes[0].spec
    assert isinstance(spec, DetectionSpec)
    return spec


def darknets_boxes(memory: list[float], power: int) -> list[tuple[list[float], float, list[float]]]:
    """(box, objectness, class scores) of one image in darknet's order."""
    cells, actual = SIDE * SIDE, []
    for cell in range(cells):
        row, column = divmod(cell, SIDE)
        classes = memory[cell * CLASSES : (cell + 1) * CLASSES]
        for n in range(NUM):
            objectness = memory[cells * CLASSES + cell * NUM + n]
            start = cells * (CLASSES + NUM) + (cell * NUM + n) * 4
            x, y, w, h = memory[start : start + 4]
            box = [(x + column) / SIDE, (y + row) / SIDE, w**power, h**power]
            scores = [objectness * score for score in classes]
            actual.append((box, objectness, [score if score > THRESH else 0 for score in scores]))
    return actual


@pytest.mark.parametrize("sqrt", [0, 1])
def test_boxes_are_darknets_in_darknets_order(sqrt: int) -> None:
    output_BCHW = torch.randn(2, INPUTS, 1, 1, generator=torch.Generator().manual_seed(7))
    actual = head(KEYS + f"sqrt={sqrt}\n").decode(output_BCHW, 448, 448, THRESH)
    assert actual.image_M.tolist() == [0] * (SIDE * SIDE * NUM) + [1] * (SIDE * SIDE * NUM)
    for image in range(2):
        expected = darknets_boxes(output_BCHW[image].flatten().tolist(), 1 + sqrt)
        of_image = actual.of(image)
        for place, got in enumerate((of_image.boxes_M4, of_image.objectness_M, of_image.prob_MK)):
            torch.testing.assert_close(got, torch.tensor([candidate[place] for candidate in expected]))


def test_a_score_at_the_threshold_is_not_above_it() -> None:
    map_BCHW = torch.zeros(1, 7, 1, 1)
    map_BCHW[0, :3, 0, 0] = torch.tensor([0.5, 0.75, 1.0])  # two classes and the objectness
    actual = head("side=1\nclasses=2\ncoords=4\n", 7).decode(map_BCHW, 448, 448, 0.5)
    assert actual.prob_MK.tolist() == [[0.0, 0.75]]


def test_letterboxed_boxes_are_left_alone() -> None:
    assert not head().corrects_letterbox


def test_softmax_goes_over_the_classes_of_each_cell_and_nothing_else() -> None:
    plan = make_plan(f"[net]\ninputs={INPUTS}\n[detection]\n{KEYS}softmax=1\n")
    (node,) = plan.nodes
    x_BCHW = torch.randn(2, INPUTS, 1, 1)
    y_BC = node.spec.build(node.inputs, plan.net)(x_BCHW).flatten(1)
    first = SIDE * SIDE * CLASSES
    expected = x_BCHW.flatten(1)[:, :first].reshape(2, -1, CLASSES).softmax(2).flatten(1)
    assert torch.equal(y_BC[:, :first], expected) and torch.equal(y_BC[:, first:], x_BCHW.flatten(1)[:, first:])


@pytest.mark.parametrize("keys", ["side=46340\n", "classes=2147483647\n", "num=2147483647\n", "side=2147483647\n"])
def test_sizes_that_do_not_fit_are_refused_before_anything_is_allocated(keys: str) -> None:
    with pytest.raises(ConfigError, match=r"reads 126 values, but side=.* are \d+\n.*output="):
        head(keys + KEYS)


def test_boxes_of_other_than_four_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="coords=1, but a box has 4"):
        head("side=3\nnum=2\nclasses=4\n")


def test_dialects_keep_their_own_number_of_truths() -> None:
    assert (head().max, head(dialect=Dialect.ALEXEYAB).max) == (90, 200)


def test_no_classes_are_accepted_as_by_both_darknets() -> None:
    spec = head(KEYS.replace(f"classes={CLASSES}", "classes=0"), SIDE * SIDE * 5 * NUM)
    boxes = spec.decode(torch.rand(1, SIDE * SIDE * 5 * NUM, 1, 1), 32, 32, THRESH)
    assert boxes.prob_MK.shape == (SIDE * SIDE * NUM, 0)
    assert [finding.name for finding in spec.lint(())] == ["no-classes"]
    cfg = "[net]\nwidth=8\nheight=8\nchannels=3\n[connected]\noutput=90\nactivation=linear\n"
    network = Network(make_plan(f"{cfg}[detection]\n{KEYS.replace(f'classes={CLASSES}', 'classes=0')}"))
    network.initialize()
    head_spec = network.plan.nodes[-1].spec
    assert isinstance(head_spec, DetectionSpec)
    assert head_spec.truth_shape(network.plan.nodes[-1].shape) == (9, 5)
