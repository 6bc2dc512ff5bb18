"""[sam] beyond the goldens."""

from __future__ import annotations

import pytest
import torch

from darkpy.build import make_plan
from darkpy.errors import ConfigError
from darkpy.network import Network

NET = "[net]\nwidth=5\nheight=4\nchannels=3\n[activation]\n"


def test_layers_are_multiplied_cell_by_cell_and_mish_is_computed() -> None:
    sections = "[activation]\nactivation=logistic\n[sam]\nfrom=-2\nactivation=mish\n"
    x_BCHW = torch.randn(2, 3, 4, 5)
    (actual,) = Network(make_plan(NET + sections, "alexeyab"))(x_BCHW)
    torch.testing.assert_close(actual, torch.nn.functional.mish(x_BCHW * torch.sigmoid(x_BCHW)))


def test_layers_of_different_size_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiplies 1 x 1 x 3 by 5 x 4 x 3"):
        make_plan(NET + "[avgpool]\n[sam]\nfrom=0\n", "alexeyab")
