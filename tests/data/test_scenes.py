"""Drawn scenes: what is painted, and where its box says it is.

Letters: 3 colors, H W rows and columns, N points.
"""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from darkpy.data.augment.sampler import DarknetRandom
from darkpy.data.scenes import CLASSES, MAX_HIDDEN, OUTLINES, SHAPES, Scene, draw_scene

SCENES = [draw_scene(DarknetRandom(f"test/{number}"), 96) for number in range(24)]


@pytest.mark.parametrize("scene", SCENES)
def test_box_is_tight_around_the_pixels_that_its_shape_paints(scene: Scene) -> None:
    black_3HW = torch.zeros_like(scene.ground_3HW)
    for shape in scene.shapes:
        white = shape._replace(color_3=torch.full((3,), 255.0))
        is_white_HW = Scene(black_3HW, black_3HW, (white,)).paint()[0] > 127
        left, top, right, bottom = shape.box_px
        inside_HW = is_white_HW[top:bottom, left:right]
        assert inside_HW.sum() == is_white_HW.sum() > 0
        assert inside_HW[0].any() and inside_HW[-1].any() and inside_HW[:, 0].any() and inside_HW[:, -1].any()


@pytest.mark.parametrize("scene", SCENES)
def test_image_differs_from_the_bare_one_in_its_shapes_alone(scene: Scene) -> None:
    differs_HW = (scene.paint() != scene._replace(shapes=()).paint()).any(0)
    covered_HW = torch.stack([shape.cover_HW for shape in scene.shapes]).amax(0)
    assert not differs_HW[covered_HW == 0].any()
    assert differs_HW[covered_HW == 1].float().mean() > 0.95


@pytest.mark.parametrize("scene", SCENES)
def test_shapes_are_whole_and_hardly_cover_each_other(scene: Scene) -> None:
    assert 1 <= len(scene.shapes) <= SHAPES[1]
    for shape in scene.shapes:
        assert not any(line.any() for edge in (0, -1) for line in (shape.cover_HW[edge], shape.cover_HW[:, edge]))
    for one, other in combinations(scene.shapes, 2):
        shared = torch.minimum(one.cover_HW, other.cover_HW).sum()
        assert shared <= MAX_HIDDEN * min(one.cover_HW.sum(), other.cover_HW.sum())


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("circle", [(0, 0), (0.99, 0), (0.7, -0.7)], [(1.01, 0), (0.8, 0.8)]),
        ("square", [(0, 0), (0.83, 0), (0.83, -0.83)], [(0.85, 0), (0, -0.85)]),
        ("triangle", [(0, 0), (0, -1.19), (1, 0.59)], [(0, 0.61), (0.6, -0.6), (0, -1.21)]),
        ("cross", [(0, 0), (1, 0.29), (-0.29, -1)], [(0.31, 0.31), (1.06, 0)]),
    ],
)
def test_class_has_the_outline_of_its_name(
    name: str, inside: list[tuple[float, float]], outside: list[tuple[float, float]]
) -> None:
    points_N2 = torch.tensor([*inside, *outside])
    is_inside_N = OUTLINES[name](*points_N2.unbind(1)) < 0
    assert is_inside_N.tolist() == [True] * len(inside) + [False] * len(outside)


def test_every_class_occurs() -> None:
    assert {shape.class_id for scene in SCENES for shape in scene.shapes} == set(range(len(CLASSES)))


def test_equal_dice_make_equal_images_and_others_others() -> None:
    one, again, other = (draw_scene(DarknetRandom(text), 64).paint() for text in ("a", "a", "b"))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
