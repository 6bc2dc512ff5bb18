"""The image of boxes and anchors."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from darkpy.anchors.scatter import PLOT_SIDE_PX, draw_anchor_plot


def test_boxes_are_points_in_the_colors_of_their_anchors_and_anchors_frames() -> None:
    sizes_N2 = np.array([(104.0, 104.0), (312.0, 208.0), (900.0, 900.0)])
    image = Image.open(BytesIO(draw_anchor_plot(sizes_N2, np.array([(100.0, 100.0), (320.0, 320.0)]), (416, 416))))
    assert image.size == (PLOT_SIDE_PX, PLOT_SIDE_PX)
    assert image.getpixel((PLOT_SIDE_PX // 4, PLOT_SIDE_PX // 4)) == (55, 33, 99)
    assert image.getpixel((3 * PLOT_SIDE_PX // 4, PLOT_SIDE_PX // 2)) == (178, 99, 110)
    assert image.getpixel((PLOT_SIDE_PX - 1, PLOT_SIDE_PX - 1)) == (178, 99, 110)  # what is too large is at the edge
    corner = round(320 * PLOT_SIDE_PX / 416)
    assert image.getpixel((corner, 300)) == image.getpixel((300, corner)) == (255, 255, 255)
    assert image.getpixel((PLOT_SIDE_PX - 1, 0)) == (0, 0, 0)


def test_labeled_anchors_have_numbers() -> None:
    sizes_N2, anchors_K2 = np.array([(1.0, 1.0)]), np.array([(200.0, 200.0)])
    plain, labeled = (draw_anchor_plot(sizes_N2, anchors_K2, (416, 416), labeled=labeled) for labeled in (False, True))
    assert plain != labeled
