"""[route] beyond the goldens: order, groups, sizes that differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import darkpy
from darkpy.build import detect_dialect, make_plan
from darkpy.config.net import NetSpec
from darkpy.config.text import parse
from darkpy.errors import ConfigError, ShapeError
from darkpy.layers.route import RouteSpec
from darkpy.network import Network
from darkpy.shapes import Shape

AX, PJ = darkpy.Dialect.ALEXEYAB, darkpy.Dialect.PJREDDIE
SHAPES = (Shape(4, 2, 3), Shape(8, 2, 3))


def spec(dialect: darkpy.Dialect = AX, **keys: Any) -> RouteSpec:
    return RouteSpec(dialect=dialect, layers=(-1, 0), **keys)


def tensors(*shapes: Shape) -> list[torch.Tensor]:
    """Values that encode their source."""
    return [1000 * n + torch.arange(2.0 * x.outputs).reshape(2, *x) for n, x in enumerate(shapes)]


def routed(layer_spec: RouteSpec, *shapes: Shape) -> torch.Tensor:
    y_BCHW: torch.Tensor = layer_spec.build(shapes, NetSpec())(*tensors(*shapes))
    assert tuple(y_BCHW.shape[1:]) == layer_spec.shape(shapes)
    return y_BCHW


def test_layers_come_in_the_order_in_which_they_are_listed() -> None:
    plan = make_plan("[net]\nwidth=3\nheight=2\nchannels=1\n" + "[maxpool]\n" * 5 + "[route]\nlayers=-2, 0,-1\n")
    assert plan.nodes[5].sources == (3, 0, 4)
    first, second = tensors(*SHAPES)
    assert torch.equal(routed(spec(), *SHAPES), torch.cat((first, second), 1))


def test_layer_alone_is_passed_on_without_a_copy() -> None:
    (x_BCHW,) = tensors(SHAPES[0])
    assert spec().build((SHAPES[0],), NetSpec())(x_BCHW) is x_BCHW


@pytest.mark.parametrize("group_id", [0, 1, 3])
def test_group_is_taken_of_each_layer_before_they_are_joined(group_id: int) -> None:
    actual = routed(spec(groups=4, group_id=group_id), *SHAPES)
    first, second = tensors(*SHAPES)
    expected = (first[:, group_id : group_id + 1], second[:, 2 * group_id : 2 * group_id + 2])
    assert torch.equal(actual, torch.cat(expected, 1))


def test_group_that_is_not_there_is_refused() -> None:
    with pytest.raises(ShapeError, match="group_id=2 is not below groups=2"):
        spec(groups=2, group_id=2).shape(SHAPES)


def test_groups_must_divide_the_channels_of_every_layer() -> None:
    with pytest.raises(ShapeError, match="6 channels cannot be split into groups=4"):
        spec(groups=4).shape((Shape(4, 2, 3), Shape(6, 2, 3)))


def test_layers_of_different_sizes_become_one_vector_in_pjreddies_dialect() -> None:
    shapes = (Shape(4, 2, 3), Shape(2, 4, 6))
    actual = routed(spec(PJ), *shapes)
    assert actual.shape == (2, 24 + 48, 1, 1)
    assert torch.equal(actual[:, :, 0, 0], torch.cat([x.flatten(1) for x in tensors(*shapes)], 1))


def test_vector_reads_a_layers_memory_channel_by_channel() -> None:
    shapes = (Shape(4, 2, 3), Shape(2, 4, 6))
    parts = [x.contiguous(memory_format=torch.channels_last) for x in tensors(*shapes)]
    assert torch.equal(spec(PJ).build(shapes, NetSpec())(*parts), routed(spec(PJ), *shapes))


def test_layers_of_different_sizes_are_refused_in_alexeyabs_dialect() -> None:
    with pytest.raises(ShapeError, match="the layers differ in height or width: 3 x 2 x 4, 6 x 4 x 2"):
        spec(AX).shape((Shape(4, 2, 3), Shape(2, 4, 6)))


@pytest.mark.parametrize("layers", ["5", "-2", "0", "-3"])
def test_only_earlier_layers_can_be_routed(layers: str) -> None:
    with pytest.raises(ConfigError, match=r"refers to layer -?\d, which is not before it"):
        make_plan(f"[net]\nwidth=3\nheight=2\nchannels=1\n[route]\nlayers={layers}\n")


def test_each_layer_gets_back_its_own_part_of_the_gradient() -> None:
    parts = [x.requires_grad_(True) for x in tensors(*SHAPES)]
    y_BCHW = spec(groups=2, group_id=1).build(SHAPES, NetSpec())(*parts)
    torch.autograd.backward(y_BCHW, torch.arange(float(y_BCHW.numel())).reshape(y_BCHW.shape))
    for part, channels, start in zip(parts, (2, 4), (0, 2), strict=True):
        assert part.grad is not None and not part.grad[:, :channels].any()
        handed = torch.arange(float(y_BCHW.numel())).reshape(y_BCHW.shape)[:, start : start + channels]
        assert torch.equal(part.grad[:, channels:], handed)


@pytest.mark.parametrize("dialect", [AX, PJ])
def test_route_lhalf_is_the_first_half_of_each_layer_with_a_warning(dialect: darkpy.Dialect) -> None:
    """WongKinYiu's section for the first half of the channels, in both dialects."""
    head = "[net]\nwidth=4\nheight=4\nchannels=8\n[dropout]\nprobability=.1\n[dropout]\nprobability=.1\n"
    plan = make_plan(f"{head}[route_lhalf]\nlayers=-1,0\n", dialect)
    assert plan.nodes[-1].shape == Shape(8, 4, 4)
    assert [finding.message for finding in plan.warnings] == [
        "is a section of WongKinYiu's PyTorch_YOLOv4, read as [route] with groups=2 and group_id=0"
    ]
    assert any("[route_lhalf]" in text for text in plan.extensions)
    x_BCHW = torch.arange(8.0)[None, :, None, None].expand(1, 8, 4, 4)
    assert Network(plan).eval()(x_BCHW)[-1][0, :, 0, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert detect_dialect(parse(f"{head}[route_lhalf]\nlayers=-1\n")) is AX
