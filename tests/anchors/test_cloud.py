"""The picture of boxes and anchors."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from darkpy.anchors.cloud import SIDE, draw_cloud


def test_boxes_are_points_in_the_colours_of_their_anchors_and_anchors_frames() -> None:
    sizes_N2 = np.array([(104.0, 104.0), (312.0, 208.0), (900.0, 900.0)])
    picture = Image.open(BytesIO(draw_cloud(sizes_N2, np.array([(100.0, 100.0), (320.0, 320.0)]), (416, 416))))
    assert picture.size == (SIDE, SIDE)
    assert picture.getpixel((SIDE // 4, SIDE // 4)) == (55, 33, 99)
    assert picture.getpixel((3 * SIDE // 4, SIDE // 2)) == (178, 99, 110)
    assert picture.getpixel((SIDE - 1, SIDE - 1)) == (178, 99, 110)  # what is too large is at the edge
    corner = round(320 * SIDE / 416)
    assert picture.getpixel((corner, 300)) == picture.getpixel((300, corner)) == (255, 255, 255)
    assert picture.getpixel((SIDE - 1, 0)) == (0, 0, 0)


def test_labelled_anchors_have_numbers() -> None:
    sizes_N2, anchors_K2 = np.array([(1.0, 1.0)]), np.array([(200.0, 200.0)])
    plain, labelled = (draw_cloud(sizes_N2, anchors_K2, (416, 416), labelled=labelled) for labelled in (False, True))
    assert plain != labelled
