"""A tiny data set: red or green squares on gray, one an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_squares(count: int, folder: str = ".") -> None:
    """Write images 0.png, 1.png, ... and their label files into a folder, and list.txt into the working directory."""
    paths = [Path(folder, f"{number}.png") for number in range(count)]
    for number, path in enumerate(paths):
        pixels_HW3 = np.full((32, 32, 3), 60, np.uint8)
        pixels_HW3[8:20, 8:20, number % 2] = 250
        Image.fromarray(pixels_HW3).save(path)
        path.with_suffix(".txt").write_text(f"{number % 2} .4375 .4375 .375 .375\n")
    Path("list.txt").write_text("".join(f"{path}\n" for path in paths))
