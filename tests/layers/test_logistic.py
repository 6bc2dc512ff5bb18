"""[logistic] beyond the golden."""

from __future__ import annotations

import math

import pytest
import torch

from darkpy.build import make_plan
from darkpy.errors import ConfigError
from darkpy.layers.loss import TrainingState
from darkpy.network import Network

CFG = "[net]\nwidth=3\nheight=2\nchannels=5\n[logistic]\n"


def test_extreme_values_stay_finite() -> None:
    x_BCHW = torch.tensor([-1e9, -100.0, 0.0, 100.0, 1e9])[None, :, None, None].expand(1, 5, 2, 3)
    (y_BCHW,) = Network(make_plan(CFG))(x_BCHW)
    torch.testing.assert_close(y_BCHW[0, :, 0, 0], torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))


def test_only_pjreddies_dialect_has_it() -> None:
    with pytest.raises(ConfigError, match="use --dialect pjreddie"):
        make_plan(CFG, "alexeyab")


def test_a_confident_mistake_costs_sixteen_and_not_infinity() -> None:
    plan = make_plan("[net]\ninputs=2\n[logistic]\n")
    (spec,) = Network(plan).loss_specs
    x_BCHW = torch.tensor([-1e9, 1e9])[None, :, None, None]
    loss = spec.loss(x_BCHW, x_BCHW.sigmoid(), torch.tensor([[1.0, 0.0]]), TrainingState(plan.net, 1))
    assert loss.delta.flatten().tolist() == [1, -1]
    assert float(loss.cost) == pytest.approx(-2 * math.log(1e-7), rel=0.01)


def test_detection_layer_may_follow() -> None:
    text = "[net]\ninputs=2\n[connected]\noutput=7\n[logistic]\n[detection]\nclasses=2\ncoords=4\nside=1\nnum=1\n"
    assert [node.section.type for node in make_plan(text, "pjreddie").nodes] == ["connected", "logistic", "detection"]
