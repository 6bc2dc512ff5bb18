"""Scenes to learn from: plain shapes on textures, drawn at random, whose places are known to the pixel.

Letters: 3 colors of 0..255, H W rows and columns of a square image, M candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from darkpy.data.augment.sampler import DarknetRandom

SHAPES = (2, 7)
RADII_FRAC = (0.08, 0.18)
"""Half a shape's size, least and most, as a share of the image's side."""
REACH = 1.2
"""How far a shape's corners are from its center at most, in radii."""
MAX_HIDDEN = 0.05
"""How much of a shape, or of one below it, another may cover."""
MAX_TRIES = 50
GRAIN, DEPTH = 6.0, 48.0  # how much neighboring pixels, and the colors of a texture, differ


def _circle(u: Tensor, v: Tensor) -> Tensor:
    return torch.hypot(u, v) - 1


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.84


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(v, (math.sqrt(3) * u.abs() - v) / 2) - 0.6


def _cross(u: Tensor, v: Tensor) -> Tensor:
    u, v = u.abs(), v.abs()
    return torch.maximum(torch.maximum(u, v) - 1.05, torch.minimum(u, v) - 0.3)


OUTLINES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
}
"""The classes; each tells how far (u, v) is from its edge, below 0 inside. Units: radii, from the center."""
CLASSES = tuple(OUTLINES)


class BoxPx(NamedTuple):
    """The pixels of right and bottom no longer belong to it."""

    left: int
    top: int
    right: int
    bottom: int


class Shape(NamedTuple):
    """One object: its class, its color, and how much of each pixel it covers, 0..1."""

    class_id: int
    color_3: Tensor
    cover_HW: Tensor

    @property
    def box_px(self) -> BoxPx:
        """The tight box of the pixels of which it covers half and more."""
        row_N, column_N = torch.nonzero(self.cover_HW >= 0.5, as_tuple=True)
        low = (int(column_N.min()), int(row_N.min()))
        return BoxPx(*low, int(column_N.max()) + 1, int(row_N.max()) + 1)

    def hides(self, other: Shape) -> bool:
        """Whether it lies on too much of another shape, or of itself on that."""
        shared = torch.minimum(self.cover_HW, other.cover_HW).sum()
        return bool(shared > MAX_HIDDEN * torch.minimum(self.cover_HW.sum(), other.cover_HW.sum()))


class Scene(NamedTuple):
    """What is on an image, the lowest shape first. Shapes: ground and grain (3, H, W)."""

    ground_3HW: Tensor
    grain_3HW: Tensor
    shapes: tuple[Shape, ...]

    @property
    def size(self) -> int:
        """The side of the image in pixels."""
        return self.ground_3HW.shape[2]

    def paint(self) -> Tensor:
        """The image. Shapes: (3, H, W) uint8."""
        painted_3HW = self.ground_3HW
        for shape in self.shapes:
            painted_3HW = painted_3HW.lerp(shape.color_3[:, None, None].expand_as(painted_3HW), shape.cover_HW)
        return (painted_3HW + self.grain_3HW).round().clamp(0, 255).byte()


def draw_scene(rng: DarknetRandom, size: int) -> Scene:
    """A texture of two colors that are near each other, and shapes in others, whole and hardly covered."""
    ends_23 = _colors(rng, 1) + torch.tensor([rng.uniform(-DEPTH, DEPTH) for _ in range(6)]).view(2, 3)
    mix_HW = rng.choice(TEXTURES)(rng, size)
    ground_3HW = ends_23[0, :, None, None].lerp(ends_23[1, :, None, None], mix_HW)
    grain_3HW = GRAIN * torch.randn(3, size, size, generator=_generator(rng))
    shapes: list[Shape] = []
    wanted = rng.rand_int(*SHAPES)
    for _ in range(MAX_TRIES):
        shape = _draw_shape(rng, size, ends_23)
        if not any(map(shape.hides, shapes)):
            shapes.append(shape)
        if len(shapes) == wanted:
            break
    return Scene(ground_3HW, grain_3HW, tuple(shapes))


def _draw_shape(rng: DarknetRandom, size: int, ends_23: Tensor) -> Shape:
    """A shape inside the image, its color far from every mixture of two others."""
    colors_M3 = _colors(rng, 4)
    line_3 = ends_23[1] - ends_23[0]
    share_M1 = ((colors_M3 - ends_23[0]) @ line_3 / (line_3 @ line_3)).clamp(0, 1)[:, None]
    contrast_M = (colors_M3 - ends_23[0] - share_M1 * line_3).norm(dim=1)

    class_id = rng.randrange(len(CLASSES))
    radius = size * rng.uniform(*RADII_FRAC)
    margin = REACH * radius + 1  # for the soft edge
    x, y = (rng.uniform(margin, size - margin) for _ in range(2))
    pixel = torch.arange(size) + 0.5
    u_HW, v_HW = _turn(rng, (pixel - x) / radius, (pixel - y) / radius)
    cover_HW = (0.5 - radius * OUTLINES[CLASSES[class_id]](u_HW, v_HW)).clamp(0, 1)
    return Shape(class_id, colors_M3[contrast_M.argmax()], cover_HW)


def _clouds(rng: DarknetRandom, size: int) -> Tensor:
    cells = rng.rand_int(4, 16)
    cells_11HW = torch.rand(1, 1, cells, cells, generator=_generator(rng))
    return functional.interpolate(cells_11HW, (size, size), mode="bicubic")[0, 0].clamp(0, 1)


def _gradient(rng: DarknetRandom, size: int) -> Tensor:
    along_HW = _slope(rng, size)
    return (along_HW - along_HW.min()) / (along_HW.max() - along_HW.min())


def _stripes(rng: DarknetRandom, size: int) -> Tensor:
    phase_HW = rng.uniform(4, 16) * _slope(rng, size) + rng.random()
    return (0.5 + rng.uniform(0.5, 3) * torch.sin(2 * math.pi * phase_HW)).clamp(0, 1)


TEXTURES: Sequence[Callable[[DarknetRandom, int], Tensor]] = (_clouds, _gradient, _stripes)
"""How much of the second color is where, 0..1."""


def _slope(rng: DarknetRandom, size: int) -> Tensor:
    """Places along a random direction, in sides of the image."""
    place = torch.arange(size) / size
    return _turn(rng, place, place)[0]


def _turn(rng: DarknetRandom, x_W: Tensor, y_H: Tensor) -> tuple[Tensor, Tensor]:
    """A grid of places, seen from axes that are turned at random. Shapes: both (H, W)."""
    angle = rng.uniform(0, 2 * math.pi)
    cos, sin, y_H1 = math.cos(angle), math.sin(angle), y_H[:, None]
    return cos * x_W + sin * y_H1, cos * y_H1 - sin * x_W


def _colors(rng: DarknetRandom, count: int) -> Tensor:
    return torch.tensor([rng.uniform(0, 255) for _ in range(3 * count)]).view(count, 3)


def _generator(rng: DarknetRandom) -> torch.Generator:
    return torch.Generator().manual_seed(rng.getrandbits(63))
