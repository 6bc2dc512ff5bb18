"""[l2norm] beyond the golden."""

from __future__ import annotations

import torch

from darkpy.build import make_plan
from darkpy.network import Network

CFG = "[net]\nwidth=3\nheight=2\nchannels=5\n[l2norm]\n"


def test_each_pixel_has_length_one_and_its_direction() -> None:
    x_BCHW = torch.randn(2, 5, 2, 3)
    (y_BCHW,) = Network(make_plan(CFG))(x_BCHW)
    torch.testing.assert_close(y_BCHW.norm(dim=1), torch.ones(2, 2, 3))
    torch.testing.assert_close(y_BCHW * x_BCHW.norm(dim=1, keepdim=True), x_BCHW)


def test_a_pixel_of_zeros_stays_zero_with_a_finite_gradient() -> None:
    x_BCHW = torch.randn(1, 5, 2, 3)
    x_BCHW[:, :, 1, 2] = 0
    x_BCHW.requires_grad_()
    (y_BCHW,) = Network(make_plan(CFG))(x_BCHW)
    y_BCHW.square().sum().backward()
    assert not y_BCHW[:, :, 1, 2].any()
    assert x_BCHW.grad is not None
    assert bool(torch.isfinite(x_BCHW.grad).all())


def test_gradient_is_the_true_one() -> None:
    x_BCHW = torch.randn(1, 5, 2, 3, dtype=torch.float64, requires_grad=True)
    layer = Network(make_plan(CFG)).layers[0]
    assert torch.autograd.gradcheck(layer, [x_BCHW])
