"""[contrastive]: an identity outside training, tied to the [yolo] whose labels it uses."""

from __future__ import annotations

import pytest
import torch

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError
from darkpy.network import Network

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


def test_embeddings_are_handed_on() -> None:
    plan = make_plan(CFG)
    network = Network(plan)
    network.initialise()
    outputs = network.trace(torch.randn(2, 16, 2, 3))
    assert plan.dialect is Dialect.ALEXEYAB and plan.nodes[5].type == "contrastive"
    assert torch.equal(outputs[5], outputs[1])
    assert [node.spec.refers(node.index) for node in plan.nodes[3:]] == [(0,), (), (3,)]


@pytest.mark.parametrize(("before", "after", "said"), [
    ("yolo_layer=-2", "yolo_layer=-1", r"yolo_layer=-1 is no yolo layer but \[route\]"),
    ("yolo_layer=-2", "yolo_layer=0", r"yolo_layer=0 is no yolo layer but \[convolutional\]"),
    ("yolo_layer=-2", "yolo_layer=5", "refers to layer 5, which does not come before it"),
    ("yolo_layer=-2", "classes=9", "has no yolo_layer=, which it needs"),
    ("filters=8", "filters=9", "9 channels cannot be split into embeddings of 2 anchors"),
])  # fmt: skip
def test_it_needs_a_yolo_layer_and_whole_embeddings(before: str, after: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_plan(CFG.replace(before, after))
