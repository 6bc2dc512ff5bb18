"""Plot of box sizes as points, in the colors of their anchors.

Letters: N boxes, K anchors, S the side of the image.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from darkpy.anchors.kmeans import Floats, nearest

PLOT_SIDE_PX = 700
_CROSS_OFFSETS_PX = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


def draw_anchor_plot(sizes_N2: Floats, anchors_K2: Floats, size: tuple[int, int], *, labeled: bool = False) -> bytes:
    """Draw a PNG with a cross at the lower right corner of each box and a white frame for each anchor.

    size: width and height of the network's input, in the unit of boxes and anchors.
    labeled: write the index of each anchor beside it.
    Source: AlexeyAB/darknet src/image_opencv.cpp show_acnhors
    """
    canvas_SS3 = np.zeros((PLOT_SIDE_PX, PLOT_SIDE_PX, 3), np.uint8)
    index_K1 = np.arange(len(anchors_K2))[:, None]
    colors_K3 = ((index_K1 * (123, 321, 11) + (55, 33, 99)) % 255).astype(np.uint8)  # the program's own colors
    owner_N = nearest(sizes_N2, anchors_K2)
    x_N, y_N = np.clip(sizes_N2 * PLOT_SIDE_PX / size, 0, PLOT_SIDE_PX - 1).astype(np.intp).T
    for dx, dy in _CROSS_OFFSETS_PX:
        column_N, row_N = np.clip(x_N + dx, 0, PLOT_SIDE_PX - 1), np.clip(y_N + dy, 0, PLOT_SIDE_PX - 1)
        canvas_SS3[row_N, column_N] = colors_K3[owner_N]
    image = Image.fromarray(canvas_SS3)
    draw = ImageDraw.Draw(image)
    for index, (w, h) in enumerate(np.clip(anchors_K2 * PLOT_SIDE_PX / size, 0, PLOT_SIDE_PX - 1).tolist()):
        draw.rectangle((0, 0, w, h), outline="white")
        if labeled:
            position = (w - 3, h - 3)
            draw.text(
                position, str(index), "white", ImageFont.load_default(14), "rs", stroke_width=2, stroke_fill="black"
            )
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
