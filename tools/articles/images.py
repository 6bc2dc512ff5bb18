"""Gray images of ten classes: Fashion-MNIST if it is installed, else synthetic ones that resemble it.

Legend: B images, 1 the gray channel, H W rows and columns, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from tools.fashion_mnist import IMAGE_PX, read_idx

CLASS_COUNT = 10
TEST_IMAGES = 500
OUTLINE_CELLS = 7  # rows and columns of a synthetic class's outline


@dataclass(frozen=True, slots=True)
class GrayImages:
    """x_B1HW in 0..1 and their classes y_B, for training and for testing. name: their source."""

    name: str
    x_B1HW: Tensor
    y_B: Tensor
    test_x_B1HW: Tensor
    test_y_B: Tensor

    def minibatch(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw images at random, scaled to side x side pixels, and their truth_BK."""
        index_B = torch.randint(len(self.y_B), (count,), generator=generator)
        return scaled(self.x_B1HW[index_B], side), functional.one_hot(self.y_B[index_B], CLASS_COUNT).float()


def scaled(x_B1HW: Tensor, side: int) -> Tensor:
    if x_B1HW.shape[-1] == side:
        return x_B1HW
    return functional.interpolate(x_B1HW, size=(side, side), mode="bilinear", antialias=False)


def read_fashion_mnist(source: Path, count: int = 8192) -> GrayImages:
    """Read the first images of Fashion-MNIST."""
    arrays = []
    for stem, limit in (("train", count), ("t10k", TEST_IMAGES)):
        x_BHW = torch.from_numpy(read_idx(source / f"{stem}-images-idx3-ubyte.gz", 3)[:limit].copy())
        y_B = torch.from_numpy(read_idx(source / f"{stem}-labels-idx1-ubyte.gz", 1)[:limit].copy())
        arrays += [x_BHW[:, None].float() / 255, y_B.long()]
    return GrayImages("Fashion-MNIST", *arrays)


def draw_images(count: int = 2048) -> GrayImages:
    """Draw bright outlines on black, symmetric like clothes; each image is shifted, dimmed and noisy."""
    generator = torch.Generator().manual_seed(0)
    half_K1HW = torch.rand(CLASS_COUNT, 1, OUTLINE_CELLS, OUTLINE_CELLS // 2 + 1, generator=generator)
    coarse_K1HW = torch.cat((half_K1HW, half_K1HW[..., :-1].flip(3)), 3)
    outline_K1HW = functional.interpolate(coarse_K1HW, size=(IMAGE_PX - 4, IMAGE_PX - 4), mode="bicubic")
    outline_K1HW = functional.pad(((outline_K1HW - 0.45) * 4).clamp(0, 1), (2, 2, 2, 2))
    arrays = []
    for images in (count, TEST_IMAGES):
        y_B = torch.randint(CLASS_COUNT, (images,), generator=generator)
        x_B1HW = outline_K1HW[y_B]
        shift_B2 = torch.randint(-2, 3, (images, 2), generator=generator).tolist()
        x_B1HW = torch.stack([x.roll(tuple(shift), (1, 2)) for x, shift in zip(x_B1HW, shift_B2, strict=True)])
        light_B111 = 0.4 + 0.6 * torch.rand(images, 1, 1, 1, generator=generator)
        noise_B1HW = 0.1 * torch.randn(x_B1HW.shape, generator=generator)
        arrays += [(x_B1HW * (light_B111 + noise_B1HW)).clamp(0, 1), y_B]
    return GrayImages("synthetic images", *arrays)


def load_images(source: Path) -> GrayImages:
    """Return Fashion-MNIST if its files are there, else synthetic images."""
    return read_fashion_mnist(source) if (source / "train-images-idx3-ubyte.gz").is_file() else draw_images()
