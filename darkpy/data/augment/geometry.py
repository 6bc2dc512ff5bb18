"""Random placement of an image in the network's input: drawn, rendered, and applied to the boxes.

Letters: C color, H height, W width; N boxes, each center x, y, width, height, then the class (and more), unchanged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from darkpy.data.augment.sampler import DarknetRandom
from darkpy.ops import opencv, warp
from darkpy.ops.resample import LETTERBOX_FILL

CLASS_ONLY = 999999.0
"""darknet's x, y, w and h of a label that gives a class without a box."""


class Window(NamedTuple):
    """Part of the network's input, in pixels."""

    left: int
    top: int
    w: int
    h: int


class BoxTransform(NamedTuple):
    """Affine map of box edges: `e`, a fraction of the image, goes to `e * scale - shift`, a fraction of the input.

    flip: then mirror at the vertical axis.
    """

    scale_x: float
    scale_y: float
    shift_x: float
    shift_y: float
    flip: bool

    def apply(self, boxes_N: Tensor) -> Tensor:
        """Transform boxes and clip them to the input; a box without a place becomes CLASS_ONLY.

        Source:  pjreddie/darknet src/data.c correct_boxes
        """
        center_N2, size_N2, rest_N = boxes_N[:, :2], boxes_N[:, 2:4], boxes_N[:, 4:]
        scale_2, shift_2 = boxes_N.new_tensor(((self.scale_x, self.scale_y), (self.shift_x, self.shift_y)))
        low_N2 = (center_N2 - size_N2 / 2) * scale_2 - shift_2
        high_N2 = (center_N2 + size_N2 / 2) * scale_2 - shift_2
        if self.flip:
            low_N2[:, 0], high_N2[:, 0] = 1 - high_N2[:, 0], 1 - low_N2[:, 0]
        low_N2.clamp_(0, 1)
        high_N2.clamp_(0, 1)
        moved_N4 = torch.cat(((low_N2 + high_N2) / 2, (high_N2 - low_N2).clamp_min_(0)), 1)
        moved_N4[(center_N2 == 0).all(1)] = CLASS_ONLY
        return torch.cat((moved_N4, rest_N), 1)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Placement of the whole image, with a jittered aspect ratio and as large as fits, on a gray canvas.

    Units:   pixels of the network's input; w, h, dx, dy have fractions, which boxes keep and rendering drops.
    """

    net_w: int
    net_h: int
    w: float
    h: float
    dx: float
    dy: float
    flip: bool

    @property
    def box_transform(self) -> BoxTransform:
        w, h = self.net_w, self.net_h
        return BoxTransform(self.w / w, self.h / h, -self.dx / w, -self.dy / h, self.flip)

    def render(self, image_CHW: Tensor) -> Tensor:
        """Resample the image into the network's input."""
        x_CHW = torch.full((image_CHW.shape[0], self.net_h, self.net_w), LETTERBOX_FILL)
        warp.place(image_CHW, int(self.w), int(self.h), int(self.dx), int(self.dy), x_CHW)
        return x_CHW.flip(2) if self.flip else x_CHW

    def __str__(self) -> str:
        place = f"{int(self.w)} x {int(self.h)} at {int(self.dx)}, {int(self.dy)}"
        return f"letterboxed: {place}{', flipped' if self.flip else ''}"


def draw_letterbox(
    w: int, h: int, net_w: int, net_h: int, *, jitter: float, flip: bool, rng: DarknetRandom
) -> Letterbox:
    """Draw a placement of an image of w x h as pjreddie's `detector train` does.

    Source:  pjreddie/darknet src/data.c load_data_detection
    """
    # the order of the draws is darknet's: width, height, x, y, flip
    dw, dh = jitter * w, jitter * h
    aspect = (w + rng.uniform(-dw, dw)) / (h + rng.uniform(-dh, dh))
    new_w, new_h = (net_h * aspect, float(net_h)) if aspect < 1 else (float(net_w), net_w / aspect)
    dx, dy = rng.uniform(0, net_w - new_w), rng.uniform(0, net_h - new_h)
    return Letterbox(net_w, net_h, new_w, new_h, dx, dy, flip and rng.coin())


@dataclass(frozen=True, slots=True)
class Crop:
    """Placement of the image without its margins, stretched to the network's input; negative margins add space.

    Units:   margins in pixels of the image of w x h.
    """

    w: int
    h: int
    net_w: int
    net_h: int
    left: int
    right: int
    top: int
    bottom: int
    flip: bool

    @property
    def crop_w(self) -> int:
        return self.w - self.left - self.right

    @property
    def crop_h(self) -> int:
        return self.h - self.top - self.bottom

    @property
    def box_transform(self) -> BoxTransform:
        w, h = self.crop_w, self.crop_h
        return BoxTransform(self.w / w, self.h / h, self.left / w, self.top / h, self.flip)

    def render(self, image_CHW: Tensor) -> Tensor:
        """Resample the crop into the network's input; outside the image are its edge pixels."""
        rows = warp.crop_taps(self.h, self.top, self.crop_h, self.net_h)
        columns = warp.crop_taps(self.w, self.left, self.crop_w, self.net_w)
        return warp.sample(image_CHW, rows, columns.mirrored() if self.flip else columns)

    def render_opencv(self, image_CHW: Tensor, window: Window | None = None) -> Tensor:
        """Resample the crop to bytes of the network's input, or a window of it; outside is the image's mean color."""
        rows_3N = opencv.resize_taps(self.top, self.crop_h, self.net_h)
        columns_3N = opencv.resize_taps(self.left, self.crop_w, self.net_w)
        if self.flip:
            columns_3N = columns_3N[:, ::-1]
        if window is not None:
            rows_3N = rows_3N[:, window.top : window.top + window.h]
            columns_3N = columns_3N[:, window.left : window.left + window.w]
        return opencv.resize(image_CHW, rows_3N, columns_3N)

    def with_letterbox(self) -> Crop:
        """Add margins that restore the image's aspect ratio, up to the jitter ([net] letter_box)."""
        missing_h = self.w * self.net_h / self.net_w - self.h
        if missing_h > 0:
            return replace(self, top=int(self.top - missing_h / 2), bottom=int(self.bottom - missing_h / 2))
        missing_w = self.h * self.net_w / self.net_h - self.w
        return replace(self, left=int(self.left - missing_w / 2), right=int(self.right - missing_w / 2))

    def for_quadrant(self, *, is_right: bool, is_bottom: bool) -> Crop:
        """Move the margins to the outer sides of a mosaic's quadrant, so that the image touches the mosaic's cut."""
        horizontal, vertical = self.left + self.right, self.top + self.bottom
        left, right = (horizontal, 0) if is_right != self.flip else (0, horizontal)
        top, bottom = (vertical, 0) if is_bottom else (0, vertical)
        return replace(self, left=left, right=right, top=top, bottom=bottom)

    def or_whole_image(self) -> Crop:
        """Return this crop, or the whole image where the margins leave nothing of it."""
        is_valid = self.crop_w > 0 and self.crop_h > 0 and self.left < self.w and self.top < self.h
        return self if is_valid else replace(self, left=0, right=0, top=0, bottom=0)

    def __str__(self) -> str:
        """Margins in percent of the image; negative ones add space."""
        shares = (self.left / self.w, self.right / self.w, self.top / self.h, self.bottom / self.h)
        names = ("left", "right", "top", "bottom")
        margins = ", ".join(f"{name} {100 * share:.0f} %" for name, share in zip(names, shares, strict=True))
        return f"cropped: {margins}{', flipped' if self.flip else ''}"


def draw_crop(w: int, h: int, net_w: int, net_h: int, *, jitter: float, rng: DarknetRandom) -> Crop:
    """Draw a crop of an image of w x h as `yolo train` does for [detection] in both dialects.

    Source:  pjreddie/darknet src/data.c load_data_region
    Differs: where the margins leave nothing, the whole image is used; darknet crashes.
    """
    dw, dh = int(w * jitter), int(h * jitter)
    left, right = int(rng.uniform(-dw, dw)), int(rng.uniform(-dw, dw))
    top, bottom = int(rng.uniform(-dh, dh)), int(rng.uniform(-dh, dh))
    return Crop(w, h, net_w, net_h, left, right, top, bottom, rng.coin()).or_whole_image()


def draw_crop_opencv(
    w: int,
    h: int,
    net_w: int,
    net_h: int,
    *,
    jitter: float,
    resize: float,
    flip: bool,
    rng: DarknetRandom,
    effects: DarknetRandom,
) -> Crop:
    """Draw a crop of an image of w x h as AlexeyAB's `detector train`, built with OpenCV, does.

    The caller adds the letterbox, if any, and then calls `or_whole_image`.

    Source:  AlexeyAB/darknet src/data.c load_data_detection
    """
    # darknet's order: four jitters (left, right, top, bottom) and the flip from one generator; from the other one zoom
    # for left and top, and one for right and bottom
    jitters = [rng.random() for _ in range(4)]
    is_flipped = rng.coin() and flip
    zooms = (effects.random(), effects.random())
    left, right = (_draw_margin(w, jitter, resize, draw, zoom) for draw, zoom in zip(jitters[:2], zooms, strict=True))
    top, bottom = (_draw_margin(h, jitter, resize, draw, zoom) for draw, zoom in zip(jitters[2:], zooms, strict=True))
    return Crop(w, h, net_w, net_h, left, right, top, bottom, is_flipped)


def _draw_margin(length: int, jitter: float, resize: float, jitter_draw: float, zoom_draw: float) -> int:
    """Margin on one side of a length; the draws are uniform in 0..1."""
    max_jitter = int(length * jitter)
    # a zoom factor takes half of what it changes from each side; resize below 1 shows more of the image, never less
    low = int(length * (1 - max(resize, 1 / resize)) / 2)
    high = 0 if resize < 1 else int(length * (1 - min(resize, 1 / resize)) / 2)
    # the truncations to int are those of the C program
    return int(int(max_jitter * (2 * jitter_draw - 1)) + low + zoom_draw * (high - low))


@dataclass(frozen=True, slots=True)
class RotatedCrop:
    """Placement of an image that is scaled, stretched and rotated, and of which the network's input is cut out.

    Units:   rad: radians; dx, dy: shift of the crop from the image's center, in pixels of the network's input.
    """

    net_w: int
    net_h: int
    rad: float
    scale: float
    dx: float
    dy: float
    aspect: float
    flip: bool

    def render(self, image_CHW: Tensor, divisor: int = 1) -> Tensor:
        """Resample the crop, for 1 pixel of `divisor` in each direction; outside the image is black."""
        rad, scale, aspect = self.rad, self.scale / divisor, self.aspect
        w, h, dx, dy = self.net_w // divisor, self.net_h // divisor, self.dx / divisor, self.dy / divisor
        x_CHW = warp.rotate_crop(image_CHW, rad, scale, w, h, dx, dy, aspect)
        return x_CHW.flip(2) if self.flip else x_CHW

    def __str__(self) -> str:
        size, turned = f"{self.net_w} x {self.net_h}", f"rotated by {math.degrees(self.rad):.0f}°"
        crop = f"scaled by {self.scale:.2f}, aspect x {self.aspect:.2f}, {turned}, {size} cut out"
        return f"{crop}{', flipped' if self.flip else ''}"


def draw_rotated_crop(
    w: int,
    h: int,
    net_w: int,
    net_h: int,
    *,
    angle: float,
    aspect: float,
    crop_range: tuple[int, int],
    stays_inside: bool,
    flip: bool,
    rng: DarknetRandom,
) -> RotatedCrop:
    """Draw a crop of an image of w x h.

    angle: largest rotation in degrees. crop_range: of the shorter side after scaling, in pixels.
    stays_inside: do not shift a crop that is larger than the image.
    Source:  pjreddie/darknet src/image.c random_augment_args
    """
    # the order of the draws is darknet's
    aspect = rng.rand_scale(aspect)
    scale = rng.rand_int(*crop_range) / max(1, int(min(h, w * aspect)))
    rad = rng.uniform(-angle, angle) * math.pi / 180
    # range of the shift of the crop; darknet subtracts the width in both directions
    free_x, free_y = (w * scale / aspect - net_w) / 2, (h * scale - net_w) / 2
    if stays_inside:
        free_x, free_y = max(0.0, free_x), max(0.0, free_y)
    dx, dy = rng.uniform(-free_x, free_x), rng.uniform(-free_y, free_y)
    return RotatedCrop(net_w, net_h, rad, scale, dx, dy, aspect, rng.coin() and flip)
