"""darknet's commands that write images for inspection: `mkimg` and `imtest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import darkpy
from darkpy.cli import console
from darkpy.cli.load import write_image
from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    OUTPUT_PATH,
    WEIGHTS_PATH,
    Command,
    compose,
    dialect_option,
    max_pixels_option,
    require_own,
    strict_option,
)
from darkpy.files import make_folder

if TYPE_CHECKING:
    from torch import Tensor

MAX_SIDE = 1 << 14
IMTEST_CHANGES = {
    "C1": (0.1, 1.5, 1.5),
    "C2": (-0.1, 0.66666, 0.66666),
    "C3": (0.1, 1.5, 0.66666),
    "C4": (0.1, 0.66666, 1.5),
}
"""Hue, saturation and exposure of the copies that `imtest` makes."""
GRAY_SHARES = (0.299, 0.587, 0.114)

MKIMG_HELP = """darknet's `mkimg`: draw textures of the filters of a network's first layer.

\b
  darkpy mkimg darknet19.cfg darknet19.weights 256 256 10 textures

Writes NUM images of H x W pixels: PREFIX/gen_0.jpg and so on. Each has 100 filters, turned, recolored and fading out
from their centers. The random numbers are darknet's: the same command draws the same images.
"""
IMTEST_HELP = """darknet's `imtest`, also called `test`: write recolored copies of an image.

\b
  darkpy imtest dog.jpg --out copies

Prints the L2 norm of the pixels (0 to 1), and writes Original.jpg, Gray.jpg and C1.jpg to C4.jpg: hue +-.1, saturation
and exposure times or divided by 1.5. darknet shows them in windows, or writes them if it was built without OpenCV.
`darkpy dataset preview CFG DATA` draws augmented training samples.
"""

_overwrite_option = click.option("--overwrite", is_flag=True, help="Overwrite images that darkpy did not make.")
_side = click.IntRange(1, MAX_SIDE)


@click.command(cls=Command, help=MKIMG_HELP)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@click.argument("h", type=_side)
@click.argument("w", type=_side)
@click.argument("num", type=click.IntRange(1))
@click.argument("prefix", type=OUTPUT_PATH)
@_overwrite_option
@dialect_option
@strict_option
def mkimg(
    cfg: Path,
    weights: Path,
    h: int,
    w: int,
    num: int,
    prefix: Path,
    overwrite: bool,
    dialect: str | None,
    strict: bool,
) -> None:
    from darkpy.export.filter_image import filters_of
    from darkpy.export.textures import draw_texture
    from darkpy.export.weight_tools import load_weights_file
    from darkpy.ops.c_random import CRandom

    loaded = load_weights_file(darkpy.plan(cfg, dialect, strict=strict, weights=weights), weights)
    _, filters_FCKK = filters_of(loaded, 0)
    random = CRandom(1)  # darknet sets no seed, and draws initial weights before it reads the file
    random.skip(loaded.network.initial_draws)
    for number in console.track(range(num), num):
        _write(draw_texture(filters_FCKK.detach(), w, h, random), prefix / f"gen_{number}.jpg", overwrite)


def _recolor(image: Path, folder: Path, overwrite: bool) -> None:
    from darkpy.data.loading.images import load_image
    from darkpy.ops.color import distort

    image_CHW = load_image(image).to_tensor()
    console.echo(f"L2 Norm: {image_CHW.double().norm():f}")
    gray_HW = sum(share * channel_HW for share, channel_HW in zip(GRAY_SHARES, image_CHW, strict=True))
    copies = {name: distort(image_CHW, *change) for name, change in IMTEST_CHANGES.items()}
    for name, copy_CHW in {"Original": image_CHW, "Gray": gray_HW[None], **copies}.items():
        _write(copy_CHW, folder / f"{name}.jpg", overwrite)


_imtest_parameters = compose(
    click.argument("image", type=FILE_PATH),
    click.option("--out", "folder", type=OUTPUT_PATH, metavar="DIR", default=Path(), help="Folder for the images."),
    _overwrite_option,
    max_pixels_option,
)
imtest, test = (
    click.command(name, cls=Command, help=IMTEST_HELP)(_imtest_parameters(_recolor)) for name in ("imtest", "test")
)


def _write(image_CHW: Tensor, path: Path, overwrite: bool) -> None:
    """Write an image of values from 0 to 1, cut to bytes as darknet cuts them."""
    import PIL.Image

    require_own(path, overwrite=overwrite, hint="--overwrite overwrites it")
    make_folder(path.parent)
    pixels_HWC = (255 * image_CHW).byte().permute(1, 2, 0).numpy()
    write_image(PIL.Image.fromarray(pixels_HWC if pixels_HWC.shape[2] == 3 else pixels_HWC[:, :, 0]), path)
