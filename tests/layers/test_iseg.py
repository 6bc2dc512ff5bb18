"""[iseg]: the logistic of the classes, the embedding unchanged."""

from __future__ import annotations

import math

import pytest
import torch

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError
from darkpy.layers.loss import Loss, LossSpec, TrainingState

CFG = "[net]\nheight=2\nwidth=3\nchannels=5\n[iseg]\nclasses=3\nids=2\n"


def test_only_the_classes_pass_the_logistic() -> None:
    plan = make_plan(CFG)
    (node,) = plan.nodes
    x_BCHW = torch.randn(2, 5, 2, 3)
    y_BCHW = node.spec.build(node.inputs, plan.net)(x_BCHW)
    assert torch.equal(y_BCHW[:, :3], x_BCHW[:, :3].sigmoid()) and torch.equal(y_BCHW[:, 3:], x_BCHW[:, 3:])


def test_channels_are_classes_and_ids() -> None:
    with pytest.raises(ConfigError, match=r"reads 5 channels, but classes=2147483647 \+ ids=2 are 2147483649"):
        make_plan(CFG.replace("classes=3", "classes=2147483647"))


def test_section_belongs_to_pjreddies_dialect() -> None:
    assert make_plan(CFG).dialect is Dialect.PJREDDIE
    with pytest.raises(ConfigError, match="use --dialect pjreddie"):
        make_plan(CFG, Dialect.ALEXEYAB)


def learn(truth: list[list[float]]) -> Loss:
    plan = make_plan(CFG)
    (node,) = plan.nodes
    assert isinstance(node.spec, LossSpec)
    assert node.spec.truth_shape(node.shape) == (90, 7)
    x_BCHW = torch.randn(1, 5, 2, 3, generator=torch.Generator().manual_seed(2))
    y_BCHW = node.spec.build(node.inputs, plan.net)(x_BCHW)
    return node.spec.loss(x_BCHW, y_BCHW, torch.tensor([truth]), TrainingState(plan.net, 1))


ONE, TWO, END = [0.0, 1, 1, 0, 0, 0, 0], [2.0, 0, 1, 0.5, 0, 0, 0], [-1.0] + [0.0] * 6


def test_instances_after_the_first_negative_class_are_not_read() -> None:
    actual, expected = learn([ONE, END, TWO]), learn([ONE, END])
    assert torch.equal(actual.delta, expected.delta) and int(actual.report["count"]) == 1


@pytest.mark.parametrize("bad", [[3.0, *ONE[1:]], [math.nan, *ONE[1:]], [0.0, 1, math.inf, 0, 0, 0, 0]])
def test_an_instance_of_no_class_or_without_a_mask_is_left_out_and_counted(bad: list[float]) -> None:
    actual, expected = learn([ONE, bad, TWO, END]), learn([ONE, TWO, END])
    assert torch.equal(actual.delta, expected.delta)
    assert (int(actual.report["rejected"]), int(actual.report["count"])) == (1, 2)


def test_without_instances_classes_go_down_and_embeddings_shrink() -> None:
    x_BCHW = torch.randn(1, 5, 2, 3, generator=torch.Generator().manual_seed(2))
    wanted_BCHW = -torch.cat((x_BCHW[:, :3].sigmoid(), 0.001 * x_BCHW[:, 3:]), dim=1)
    torch.testing.assert_close(learn([END]).delta, wanted_BCHW)
