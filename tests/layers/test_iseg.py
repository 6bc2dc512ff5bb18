"""[iseg]: the logistic of the classes, the embedding as it is."""

from __future__ import annotations

import pytest
import torch

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError

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


def test_section_belongs_to_pjreddies_fork() -> None:
    assert make_plan(CFG).dialect is Dialect.PJREDDIE
    with pytest.raises(ConfigError, match="use --dialect pjreddie"):
        make_plan(CFG, Dialect.ALEXEYAB)
