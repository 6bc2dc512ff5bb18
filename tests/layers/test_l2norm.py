"""[l2norm] beyond the golden."""

from __future__ import annotations

import pytest
import torch

import darkpy
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


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
def test_scale_is_where_each_channels_learned_factor_starts(dialect: str) -> None:
    x_BCHW = torch.randn(2, 5, 2, 3)
    plain = darkpy.load(CFG)(x_BCHW)[0]
    made = darkpy.load(CFG + "scale=20\n", dialect=dialect)
    torch.testing.assert_close(made(x_BCHW)[0], 20 * plain)
    made.layers[0].get_parameter("scales").data = torch.arange(5.0)
    torch.testing.assert_close(made(x_BCHW)[0], torch.arange(5.0)[:, None, None] * plain)


def test_gradient_is_the_jacobian_written_out_scales_included() -> None:
    """dy_c / dx_d = s_c / |x| * (1 if c is d - x_c * x_d / |x|^2)."""
    x_BCHW = torch.randn(1, 5, 1, 1, dtype=torch.float64, requires_grad=True)
    layer = darkpy.load(CFG + "scale=3\n").double().layers[0]
    scales = layer.get_parameter("scales")
    scales.data = torch.tensor([1.0, 2, 3, -4, 5], dtype=torch.float64)
    assert torch.autograd.gradcheck(layer, [x_BCHW])
    x = x_BCHW.detach().flatten()
    expected = scales.detach()[:, None] / x.norm() * (torch.eye(5) - torch.outer(x, x) / x.square().sum())
    (actual,) = torch.autograd.functional.jacobian(layer, (x_BCHW,))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(actual.reshape(5, 5), expected)
    layer(x_BCHW).sum().backward()
    assert scales.grad is not None
    torch.testing.assert_close(scales.grad, x / x.norm())


def test_section_without_scale_has_no_arrays_and_is_pjreddies() -> None:
    assert make_plan(CFG).nodes[0].arrays == ()
    assert make_plan(CFG, "pjreddie").extensions == ()
    assert make_plan(CFG, "alexeyab").extensions == ("layer 0 [l2norm] <cfg>:5: [l2norm]",)
    assert make_plan(CFG + "scale=20\n", "pjreddie").extensions == ("layer 0 [l2norm] <cfg>:5: scale=20",)
