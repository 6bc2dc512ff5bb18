"""What training does to an image and its boxes before the network sees them, in each fork's way.

Letters: C color, H height, W width; N boxes, each center x, y, width, height as fractions, class, and perhaps a track.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from darkpy.data.augment.config import Color, DetectionRecipe
from darkpy.data.augment.geometry import Cropped, Placed, Window, draw_cropped, draw_cropped_opencv, draw_placed
from darkpy.data.augment.sampler import Chance, Dice
from darkpy.ops.blur import gaussian_blur
from darkpy.ops.color import distort, distort_bounded

BACKGROUND_BLUR = 17
"""The kernel that AlexeyAB blurs the background with."""


class Sample(NamedTuple):
    """What the network sees, and the boxes on it."""

    x_CHW: Tensor
    boxes_N: Tensor


def augment(
    image_CHW: Tensor, boxes_N: Tensor, recipe: DetectionRecipe, net_w: int, net_h: int, chance: Chance
) -> Sample:
    """One image and its boxes as training shows them, unmixed; image_CHW is uint8 or 0..1.

    Source:  pjreddie/darknet and AlexeyAB/darknet src/data.c load_data_detection, load_data_region
    Differs: in floats throughout; AlexeyAB with OpenCV rounds to 8 bits at each step.
        The shuffling of the boxes is fair.
    """
    view = draw_view(image_CHW, recipe, net_w, net_h, chance)
    if isinstance(view, Cropped):
        view = view.checked()
    boxes_N = follow(boxes_N, view, recipe, chance)
    return Sample(show(image_CHW, view, boxes_N, recipe, chance), boxes_N)


def draw_view(image_CHW: Tensor, recipe: DetectionRecipe, net_w: int, net_h: int, chance: Chance) -> Placed | Cropped:
    """Where the image will lie."""
    _, h, w = image_CHW.shape
    jitter, flip, dice = recipe.jitter, recipe.flip, chance.geometry
    if recipe.head == "detection":
        return draw_cropped(w, h, net_w, net_h, jitter=jitter, dice=dice)
    if not recipe.is_opencv:
        return draw_placed(w, h, net_w, net_h, jitter=jitter, flip=flip, dice=dice)
    view = draw_cropped_opencv(
        *(w, h, net_w, net_h), jitter=jitter, resize=recipe.resize, flip=flip, dice=dice, effects=chance.effects
    )
    return view.letterboxed() if recipe.letter_box else view


def follow(boxes_N: Tensor, view: Placed | Cropped, recipe: DetectionRecipe, chance: Chance) -> Tensor:
    """The boxes in random order where the view shows them; first those beyond `max` go, then those too small to see.

    Source:  pjreddie/darknet and AlexeyAB/darknet src/data.c fill_truth_detection
    """
    order = list(range(len(boxes_N)))
    chance.mixing.shuffle(order)
    if recipe.head != "detection":
        order = order[: recipe.max]
    boxes_N = view.frame.move(boxes_N[order])
    least_w, least_h = recipe.least_size(view.net_w, view.net_h)
    return boxes_N[(boxes_N[:, 2] >= least_w) & (boxes_N[:, 3] >= least_h)]


def show(
    image_CHW: Tensor,
    view: Placed | Cropped,
    boxes_N: Tensor,
    recipe: DetectionRecipe,
    chance: Chance,
    window: Window | None = None,
) -> Tensor:
    """The image in its view, its colors changed, blurred, with noise: all of it, or what is in a window."""
    color = recipe.color.draw(chance.color)
    if isinstance(view, Placed):
        return change_color(view.paint(image_CHW), color, is_bounded=False)
    blur = _draw_blur(boxes_N, view, recipe, chance.effects)
    # what is blurred away lies in part outside the window
    x_CHW = change_color(view.paint(image_CHW, None if blur else window), color, is_bounded=recipe.is_opencv)
    if blur == 1:
        x_CHW = _blur_background(x_CHW, boxes_N)
    elif blur:
        x_CHW = gaussian_blur(x_CHW, blur)
    if blur and window is not None:
        x_CHW = x_CHW[:, window.top : window.top + window.h, window.left : window.left + window.w]
    if recipe.gaussian_noise and chance.effects.coin():
        x_CHW = _add_noise(x_CHW, recipe.gaussian_noise, chance.effects)
    return x_CHW


def change_color(x_CHW: Tensor, color: Color, *, is_bounded: bool) -> Tensor:
    """The colors changed, as OpenCV does it where `is_bounded`; nothing is computed where nothing is changed."""
    if color == Color():
        return x_CHW
    return (distort_bounded if is_bounded else distort)(x_CHW, *color)


def _draw_blur(boxes_N: Tensor, view: Cropped, recipe: DetectionRecipe, dice: Dice) -> int:
    """0 for none, 1 for the background alone, else the size of the kernel.

    An eighth of the smallest side of a box is the most: a small object takes the blur from the whole image, or leaves
    it to the background, and so does an image without objects.
    """
    if not recipe.blur:
        return 0
    blur = (0, 1, recipe.blur)[dice.whole(0, 2)]
    if blur <= 1:
        return blur
    sides_N2 = boxes_N[:, 2:4] * boxes_N.new_tensor((view.net_w, view.net_h))
    smallest = int(sides_N2.min()) if len(boxes_N) else 0
    return min(blur, smallest // 8)


def _blur_background(x_CHW: Tensor, boxes_N: Tensor) -> Tensor:
    """Blurred where no box is."""
    _, h, w = x_CHW.shape
    size_2 = boxes_N.new_tensor((w, h))
    corner_N2 = ((boxes_N[:, :2] - boxes_N[:, 2:4] / 2) * size_2).trunc()
    end_N2 = corner_N2 + (boxes_N[:, 2:4] * size_2).trunc()
    column_W, row_H = torch.arange(w), torch.arange(h)
    in_columns_NW = (column_W >= corner_N2[:, :1]) & (column_W < end_N2[:, :1])
    in_rows_NH = (row_H >= corner_N2[:, 1:]) & (row_H < end_N2[:, 1:])
    is_object_HW = in_rows_NH.float().T @ in_columns_NW.float() > 0
    return torch.where(is_object_HW, x_CHW, gaussian_blur(x_CHW, BACKGROUND_BLUR))


def _add_noise(x_CHW: Tensor, deviation: int, dice: Dice) -> Tensor:
    """Gaussian noise of which darknet loses the half below 0, so that it only brightens."""
    numbers = torch.Generator().manual_seed(dice.getrandbits(63))
    noise_CHW = torch.randn(x_CHW.shape, generator=numbers).mul_(max(0, min(deviation, 127)) / 255)
    return noise_CHW.clamp_(min=0).add_(x_CHW).clamp_(max=1)
