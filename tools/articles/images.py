"""Gray images of ten kinds: Fashion-MNIST where it is installed, else drawn ones that look like it.

Letters: B images, 1 the gray channel, H W rows and columns, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from tools.fashion_mnist import SIDE, read_idx

CLASSES = 10
TEST = 500
COARSE = 7  # rows and columns of a drawn kind's outline


@dataclass(frozen=True, slots=True)
class Images:
    """x_B1HW in 0..1 and their classes y_B, to learn from and to be tested by. name: where they are from."""

    name: str
    x_B1HW: Tensor
    y_B: Tensor
    test_x_B1HW: Tensor
    test_y_B: Tensor

    def minibatch(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """So many at random, of side x side pixels, and truths_BK."""
        drawn = torch.randint(len(self.y_B), (count,), generator=generator)
        return scaled(self.x_B1HW[drawn], side), functional.one_hot(self.y_B[drawn], CLASSES).float()


def scaled(x_B1HW: Tensor, side: int) -> Tensor:
    if x_B1HW.shape[-1] == side:
        return x_B1HW
    return functional.interpolate(x_B1HW, size=(side, side), mode="bilinear", antialias=False)


def fashion(source: Path, count: int = 8192) -> Images:
    """The first images of Fashion-MNIST."""
    arrays = []
    for stem, wanted in (("train", count), ("t10k", TEST)):
        x_BHW = torch.from_numpy(read_idx(source / f"{stem}-images-idx3-ubyte.gz", 3)[:wanted].copy())
        y_B = torch.from_numpy(read_idx(source / f"{stem}-labels-idx1-ubyte.gz", 1)[:wanted].copy())
        arrays += [x_BHW[:, None].float() / 255, y_B.long()]
    return Images("Fashion-MNIST", *arrays)


def drawn(count: int = 2048) -> Images:
    """Bright outlines on black, alike left and right as clothes are, each a little moved, dimmed and noisy."""
    generator = torch.Generator().manual_seed(0)
    half_K1HW = torch.rand(CLASSES, 1, COARSE, COARSE // 2 + 1, generator=generator)
    coarse_K1HW = torch.cat((half_K1HW, half_K1HW[..., :-1].flip(3)), 3)
    kinds_K1HW = functional.interpolate(coarse_K1HW, size=(SIDE - 4, SIDE - 4), mode="bicubic")
    kinds_K1HW = functional.pad(((kinds_K1HW - 0.45) * 4).clamp(0, 1), (2, 2, 2, 2))
    arrays = []
    for wanted in (count, TEST):
        y_B = torch.randint(CLASSES, (wanted,), generator=generator)
        x_B1HW = kinds_K1HW[y_B]
        moves_B2 = torch.randint(-2, 3, (wanted, 2), generator=generator).tolist()
        x_B1HW = torch.stack([x.roll(tuple(move), (1, 2)) for x, move in zip(x_B1HW, moves_B2, strict=True)])
        light_B111 = 0.4 + 0.6 * torch.rand(wanted, 1, 1, 1, generator=generator)
        noise_B1HW = 0.1 * torch.randn(x_B1HW.shape, generator=generator)
        arrays += [(x_B1HW * (light_B111 + noise_B1HW)).clamp(0, 1), y_B]
    return Images("drawn images", *arrays)


def find(source: Path) -> Images:
    """Fashion-MNIST where its files are, else drawn ones."""
    return fashion(source) if (source / "train-images-idx3-ubyte.gz").is_file() else drawn()
