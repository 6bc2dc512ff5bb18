"""Where an image lies in the network's input: drawn at random, painted, and followed by its boxes.

Letters: C color, H height, W width; N boxes, each center x, y, width, height, then its class (and more) as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from darkpy.data.augment.sampler import DarknetRandom
from darkpy.ops import warp
from darkpy.ops.resample import GRAY

CLASS_ONLY = 999999.0
"""What darknet writes in place of x, y, w and h where a label tells a class and no place."""


class Window(NamedTuple):
    """A part of the network's input, in pixels."""

    left: int
    top: int
    w: int
    h: int


class BoxTransform(NamedTuple):
    """An edge at `e`, a fraction of the image, is seen at `e * scale - shift`, a fraction of the network's input."""

    scale_x: float
    scale_y: float
    shift_x: float
    shift_y: float
    is_flipped: bool

    def apply(self, boxes_N: Tensor) -> Tensor:
        """Where the boxes are seen, cut off at the input's edges.

        Source:  pjreddie/darknet src/data.c correct_boxes
        """
        center_N2, size_N2, rest_N = boxes_N[:, :2], boxes_N[:, 2:4], boxes_N[:, 4:]
        scale_2, shift_2 = boxes_N.new_tensor(((self.scale_x, self.scale_y), (self.shift_x, self.shift_y)))
        low_N2 = (center_N2 - size_N2 / 2) * scale_2 - shift_2
        high_N2 = (center_N2 + size_N2 / 2) * scale_2 - shift_2
        if self.is_flipped:
            low_N2[:, 0], high_N2[:, 0] = 1 - high_N2[:, 0], 1 - low_N2[:, 0]
        low_N2.clamp_(0, 1)
        high_N2.clamp_(0, 1)
        moved_N4 = torch.cat(((low_N2 + high_N2) / 2, (high_N2 - low_N2).clamp_min_(0)), 1)
        moved_N4[(center_N2 == 0).all(1)] = CLASS_ONLY
        return torch.cat((moved_N4, rest_N), 1)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """The whole image, its sides distorted, as large as the network's input allows, somewhere on gray.

    Units:   pixels of the network's input; w, h, dx, dy with fractions, which boxes keep and painting drops.
    """

    net_w: int
    net_h: int
    w: float
    h: float
    dx: float
    dy: float
    is_flipped: bool

    @property
    def box_transform(self) -> BoxTransform:
        w, h = self.net_w, self.net_h
        return BoxTransform(self.w / w, self.h / h, -self.dx / w, -self.dy / h, self.is_flipped)

    def paint(self, image_CHW: Tensor) -> Tensor:
        x_CHW = torch.full((image_CHW.shape[0], self.net_h, self.net_w), GRAY)
        warp.place(image_CHW, int(self.w), int(self.h), int(self.dx), int(self.dy), x_CHW)
        return x_CHW.flip(2) if self.is_flipped else x_CHW


def draw_letterbox(
    w: int, h: int, net_w: int, net_h: int, *, jitter: float, flip: bool, rng: DarknetRandom
) -> Letterbox:
    """How pjreddie's `detector train` shows an image of w x h.

    Source:  pjreddie/darknet src/data.c load_data_detection
    """
    dw, dh = jitter * w, jitter * h
    ratio = (w + rng.uniform(-dw, dw)) / (h + rng.uniform(-dh, dh))
    new_w, new_h = (net_h * ratio, float(net_h)) if ratio < 1 else (float(net_w), net_w / ratio)
    dx, dy = rng.uniform(0, net_w - new_w), rng.uniform(0, net_h - new_h)
    return Letterbox(net_w, net_h, new_w, new_h, dx, dy, flip and rng.coin())


@dataclass(frozen=True, slots=True)
class Crop:
    """The image without its margins, which may be negative, stretched to the network's input.

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
    is_flipped: bool
    is_opencv: bool

    @property
    def seen_w(self) -> int:
        return self.w - self.left - self.right

    @property
    def seen_h(self) -> int:
        return self.h - self.top - self.bottom

    @property
    def box_transform(self) -> BoxTransform:
        w, h = self.seen_w, self.seen_h
        return BoxTransform(self.w / w, self.h / h, self.left / w, self.top / h, self.is_flipped)

    def paint(self, image_CHW: Tensor, window: Window | None = None) -> Tensor:
        """What is seen, or that part of it; beyond the image is its average color, or its edge without OpenCV."""
        axis = warp.cropped_opencv if self.is_opencv else warp.cropped
        rows = axis(self.h, self.top, self.seen_h, self.net_h)
        columns = axis(self.w, self.left, self.seen_w, self.net_w)
        if self.is_flipped:
            columns = columns.mirrored()
        if window is not None:
            rows, columns = rows.window(window.top, window.h), columns.window(window.left, window.w)
        is_inside = min(self.left, self.right, self.top, self.bottom) >= 0
        fill_C = None if is_inside or not self.is_opencv else warp.mean_color(image_CHW)
        return warp.look(image_CHW, rows, columns, fill_C)

    def with_letterbox(self) -> Crop:
        """With margins that give the image its own sides again, where the jitter has not changed them."""
        missing_h = self.w * self.net_h / self.net_w - self.h
        if missing_h > 0:
            return replace(self, top=int(self.top - missing_h / 2), bottom=int(self.bottom - missing_h / 2))
        missing_w = self.h * self.net_w / self.net_h - self.w
        return replace(self, left=int(self.left - missing_w / 2), right=int(self.right - missing_w / 2))

    def toward_corner(self, *, is_right: bool, is_bottom: bool) -> Crop:
        """With its margins on the sides that a mosaic cuts off from the quadrant for which it is meant."""
        across, along = self.left + self.right, self.top + self.bottom
        left, right = (across, 0) if is_right != self.is_flipped else (0, across)
        top, bottom = (along, 0) if is_bottom else (0, along)
        return replace(self, left=left, right=right, top=top, bottom=bottom)

    def or_whole_image(self) -> Crop:
        """The whole image, where the margins leave nothing of it."""
        is_seen = self.seen_w > 0 and self.seen_h > 0 and self.left < self.w and self.top < self.h
        return self if is_seen else replace(self, left=0, right=0, top=0, bottom=0)


def draw_crop(w: int, h: int, net_w: int, net_h: int, *, jitter: float, rng: DarknetRandom) -> Crop:
    """How both forks' `yolo train`, for [detection], shows an image of w x h.

    Source:  pjreddie/darknet src/data.c load_data_region
    Differs: where the margins leave nothing, the whole image is seen; darknet crashes.
    """
    dw, dh = int(w * jitter), int(h * jitter)
    left, right = int(rng.uniform(-dw, dw)), int(rng.uniform(-dw, dw))
    top, bottom = int(rng.uniform(-dh, dh)), int(rng.uniform(-dh, dh))
    return Crop(w, h, net_w, net_h, left, right, top, bottom, rng.coin(), False).or_whole_image()


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
    """How AlexeyAB's `detector train`, built with OpenCV, shows an image of w x h; to be letterboxed and checked.

    Source:  AlexeyAB/darknet src/data.c load_data_detection
    """
    shares = [rng.random() for _ in range(4)]
    is_flipped = rng.coin() and flip
    zooms = (effects.random(), effects.random())
    left, right = (_margin(w, jitter, resize, share, zoom) for share, zoom in zip(shares[:2], zooms, strict=True))
    top, bottom = (_margin(h, jitter, resize, share, zoom) for share, zoom in zip(shares[2:], zooms, strict=True))
    return Crop(w, h, net_w, net_h, left, right, top, bottom, is_flipped, True)


def _margin(length: int, jitter: float, resize: float, share: float, zoom: float) -> int:
    """One margin; `share` and `zoom`, 0..1, are the luck of the draw."""
    most = int(length * jitter)
    # a zoom factor takes half of what it changes from each side; resize below 1 shows more of the image, never less
    low = int(length * (1 - max(resize, 1 / resize)) / 2)
    high = 0 if resize < 1 else int(length * (1 - min(resize, 1 / resize)) / 2)
    return int(int(most * (2 * share - 1)) + low + zoom * (high - low))
