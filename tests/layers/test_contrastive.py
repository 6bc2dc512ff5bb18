"""[contrastive]: an identity outside training, tied to the [yolo] whose labels it uses."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError
from darkpy.layers.contrastive import ContrastiveSpec
from darkpy.layers.loss import Loss, TrainingState
from darkpy.network import Network
from darkpy.training.trainer import Trainer

CFG = """
[net]
height=2
width=3
channels=16
[convolutional]
filters=8
activation=linear
[route]
layers=-1
[convolutional]
filters=16
activation=linear
[yolo]
classes=3
num=2
anchors=4,4, 8,8
embedding_layer=-3
[route]
layers=1
[contrastive]
yolo_layer=-2
"""


def test_embeddings_are_passed_on() -> None:
    plan = make_plan(CFG)
    network = Network(plan)
    network.initialize()
    outputs = network.trace(torch.randn(2, 16, 2, 3))
    assert plan.dialect is Dialect.ALEXEYAB and plan.nodes[5].type == "contrastive"
    assert torch.equal(outputs[5], outputs[1])
    assert [node.spec.shared_with(node.index) for node in plan.nodes[3:]] == [(0,), (), (3,)]


@pytest.mark.parametrize(("before", "after", "message"), [
    ("yolo_layer=-2", "yolo_layer=-1", r"yolo_layer=-1 is \[route\], not \[yolo\]"),
    ("yolo_layer=-2", "yolo_layer=0", r"yolo_layer=0 is \[convolutional\], not \[yolo\]"),
    ("yolo_layer=-2", "yolo_layer=5", "refers to layer 5, which is not before it"),
    ("yolo_layer=-2", "classes=9", "has no yolo_layer=, which is required"),
    ("filters=8", "filters=9", "9 channels cannot be split into embeddings of 2 anchors"),
])  # fmt: skip
def test_it_needs_a_yolo_layer_and_whole_embeddings(before: str, after: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan(CFG.replace(before, after))


def test_embeddings_of_another_grid_than_the_yolo_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"reads 6 x 4 x 8, but its yolo layer reads 3 x 2 x 16"):
        make_plan(CFG.replace("[contrastive]", "[upsample]\n[contrastive]").replace("yolo_layer=-2", "yolo_layer=3"))


def learn(rows: list[list[float]], embedding_BCHW: torch.Tensor) -> Loss:
    spec = make_plan(CFG).nodes[5].spec
    assert isinstance(spec, ContrastiveSpec)
    truth_BTE = torch.zeros(2, 200, 6)
    for image, x, y, class_id, track in rows:
        image_truth_TE = truth_BTE[int(image)]
        image_truth_TE[int((image_truth_TE[:, 0] != 0).sum())] = torch.tensor([x, y, 0.9, 0.9, class_id, track])
    return spec.loss(embedding_BCHW, embedding_BCHW, truth_BTE, TrainingState(make_plan(CFG).net, 2))


def noise() -> torch.Tensor:
    return torch.randn(2, 8, 2, 3, generator=torch.Generator().manual_seed(4))


SAME = [[0, 0.1, 0.1, 1, 7], [1, 0.9, 0.9, 1, 7]]


def test_two_views_of_one_object_are_turned_towards_each_other() -> None:
    unit_BCHW = functional.normalize(noise().view(2, 2, 4, 2, 3), dim=2).view(2, 8, 2, 3)
    delta_BCHW = learn(SAME, unit_BCHW).delta
    ends = [(0, slice(0, 4), 0, 0), (1, slice(0, 4), 1, 2)]
    assert int(delta_BCHW.any(1).sum()) == 2
    for own, other in (ends, ends[::-1]):
        pull_D = delta_BCHW[own]
        assert float(pull_D @ unit_BCHW[own]) == pytest.approx(0, abs=1e-9)  # the embedding turns, its length stays
        assert float(pull_D @ unit_BCHW[other]) > 1e-6


@pytest.mark.parametrize("rows", [
    [], SAME[:1], [[0, 0.1, 0.1, 1, 7], [1, 0.9, 0.9, 1, 8]], [[0, 0.1, 0.1, 1, 7], [1, 0.9, 0.9, 2, 7]],
    [[0, 0.1, 0.1, 1, -3], [1, 0.9, 0.9, 1, -3]],
])  # fmt: skip
def test_nothing_is_learnt_of_an_object_that_is_seen_once(rows: list[list[float]]) -> None:
    loss = learn(rows, noise())
    assert not loss.delta.any() and float(loss.cost) == 0


def test_an_embedding_of_zeros_learns_nothing_and_changes_nothing_else() -> None:
    embedding_BCHW = noise()
    embedding_BCHW[0, :, 0, 0] = 0
    loss = learn([*SAME, [1, 0.1, 0.1, 1, 7]], embedding_BCHW)
    assert bool(loss.delta.isfinite().all())
    assert not loss.delta[0].any() and loss.delta[1].any()


def test_without_comparable_objects_the_accuracy_is_minus_one() -> None:
    spec = make_plan(CFG).nodes[5].spec
    assert isinstance(spec, ContrastiveSpec)
    line = spec.log_line(5, learn(SAME, noise()))
    assert line.startswith(
        " Contrast accuracy = -1.000000 %, all = 0, good = 0, same = 0, diff = 0 \n contrastive loss = "
    )


def test_a_network_with_it_trains_and_its_embeddings_move() -> None:
    plan = make_plan(CFG.replace("[net]", "[net]\nbatch=2\nsubdivisions=1\nlearning_rate=.1"))
    network = Network(plan)
    network.initialize(torch.Generator().manual_seed(1))
    head = plan.nodes[5].spec
    assert isinstance(head, ContrastiveSpec) and head.truth_shape(plan.nodes[5].shape) == (200, 6)
    truth_BTE = torch.zeros(2, 200, 6)
    truth_BTE[:, 0] = torch.tensor([0.5, 0.5, 0.9, 0.9, 1, 7])
    before = network.layers[0].get_parameter("weights").detach().clone()
    report = Trainer(network).train_minibatch(torch.randn(2, 16, 2, 3), truth_BTE)
    assert len(report.losses) == 2 and float(report.losses[1].cost) > 0
    assert not torch.equal(before, network.layers[0].get_parameter("weights"))
