"""Letterbox undone: boxes in the network's input become boxes in the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.data.loading.images import Image, prepare
from darkpy.ops.boxes import Detections, undo_letterbox
from darkpy.ops.resample import letterbox_geometry


def candidate(*box: float) -> Detections:
    return Detections(torch.tensor([0]), torch.tensor([box]), torch.ones(1), torch.ones(1, 1))


sides = st.integers(1, 2000)
net_sides = st.sampled_from([(416, 416), (608, 320), (33, 65)])


@settings(deadline=None)
@given(w=sides, h=sides, net=net_sides, corners=st.tuples(*(st.floats(0, 1) for _ in range(4))))
def test_box_in_the_letterbox_comes_back_to_its_place_in_the_image(
    w: int, h: int, net: tuple[int, int], corners: tuple[float, float, float, float]
) -> None:
    """Where the border is odd, half a pixel of the input beside it: the image is pasted at whole pixels."""
    net_w, net_h = net
    (left, right), (top, bottom) = sorted(corners[:2]), sorted(corners[2:])
    box = torch.tensor(((left + right) / 2, (top + bottom) / 2, right - left, bottom - top))
    place = letterbox_geometry(w, h, net_w, net_h)
    x, y = (place.left + float(box[0]) * place.new_w) / net_w, (place.top + float(box[1]) * place.new_h) / net_h
    pasted = candidate(x, y, float(box[2]) * place.new_w / net_w, float(box[3]) * place.new_h / net_h)
    (actual,) = undo_letterbox(pasted, [(w, h)], net_w, net_h).boxes_M4
    odd = [(net_side - new_side) % 2 for net_side, new_side in zip(net, place[:2], strict=True)]
    shift = torch.tensor((odd[0] / 2 / place.new_w, odd[1] / 2 / place.new_h, 0, 0))
    torch.testing.assert_close(actual, box - shift, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("w", "h"), [(640, 480), (100, 300), (64, 64), (333, 200), (200, 333)])
def test_box_drawn_on_the_image_comes_back(w: int, h: int) -> None:
    left, top, right, bottom = w // 5, h // 4, w - w // 3, h - h // 3
    pixels_HWC = np.zeros((h, w, 3), np.uint8)
    pixels_HWC[top:bottom, left:right] = 255
    x_CHW = prepare(Image(Path("white.png"), pixels_HWC), 416, 320, letterbox=True)
    place = letterbox_geometry(w, h, 416, 320)
    inside_HW = torch.zeros(320, 416, dtype=torch.bool)
    inside_HW[place.top : place.top + place.new_h, place.left : place.left + place.new_w] = True
    row_N, column_N = torch.nonzero((x_CHW[0] > 0.5) & inside_HW, as_tuple=True)
    edges = (column_N.min() / 416, row_N.min() / 320, (column_N.max() + 1) / 416, (row_N.max() + 1) / 320)
    x1, y1, x2, y2 = (float(edge) for edge in edges)
    seen = candidate((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    (actual,) = undo_letterbox(seen, [(w, h)], 416, 320).boxes_M4
    expected = ((left + right) / 2 / w, (top + bottom) / 2 / h, (right - left) / w, (bottom - top) / h)
    # corner pixels lie on corner pixels: towards the edges half a pixel of the image, beside the edge's own pixel
    pixels = 1 / min(w, h) + 1 / min(place.new_w, place.new_h)
    torch.testing.assert_close(actual, torch.tensor(expected), rtol=0, atol=pixels)


def test_each_candidate_is_moved_by_the_size_of_its_own_image() -> None:
    both = Detections.cat([candidate(0.5, 0.25, 0.5, 0.5), candidate(0.5, 0.25, 0.5, 0.5)])
    both = Detections(torch.tensor([1, 0]), both.boxes_M4, both.objectness_M, both.prob_MK)
    first, second = undo_letterbox(both, [(100, 100), (200, 100)], 32, 32).boxes_M4.tolist()
    assert first == [0.5, 0.0, 0.5, 1.0] and second == [0.5, 0.25, 0.5, 0.5]
