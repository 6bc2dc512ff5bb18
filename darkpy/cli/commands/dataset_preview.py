"""`darkpy dataset preview`: augmented training samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    OUTPUT_PATH,
    Command,
    dialect_option,
    force_option,
    max_pixels_option,
    require_own,
)
from darkpy.files import make_folder, write_atomic

if TYPE_CHECKING:
    from darkpy.training.setup import TrainingSetup

DEFAULT_FOLDER, DEFAULT_COUNT = Path("preview"), 24

PREVIEW_HELP = """Draw augmented training samples with their boxes.

\b
  darkpy dataset preview my.cfg my.data
  darkpy dataset preview my.cfg my.data --out seen --count 60
  darkpy dataset preview my.cfg my.data --html seen.html --seed 3

The samples are made by the loader that `darkpy train` uses, with the augmentation of CFG: jitter, crop, letterbox,
flip, color, blur, noise, mixup, cutmix, mosaic, and the sizes of random=1. They are the first sample of updates 1, 11,
21, ... (classifiers: 1, 41, 81, ...) of a training with the same --seed. Each one lists its augmentation steps. A
classifier's samples have their classes instead of boxes.

DIR gets a PNG of each and a page with all, index.html; --html writes only the page, as one file.
"""


@click.command("preview", cls=Command, help=PREVIEW_HELP)
@click.argument("cfg", type=CFG_PATH)
@click.argument("data", type=FILE_PATH)
@click.option(
    "--out", "folder", type=OUTPUT_PATH, metavar="DIR", help="Folder for the PNGs and the page.  [default: preview]"
)
@click.option("--html", type=OUTPUT_PATH, metavar="FILE", help="Write the page to FILE, and no PNGs.")
@click.option(
    "--count",
    type=click.IntRange(1, 1000),
    metavar="N",
    default=DEFAULT_COUNT,
    show_default=True,
    help="Number of samples.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    metavar="N",
    default=0,
    show_default=True,
    help="Random seed of the training.",
)
@force_option
@dialect_option
@max_pixels_option
def preview(
    cfg: Path,
    data: Path,
    folder: Path | None,
    html: Path | None,
    count: int,
    seed: int,
    overwrite: bool,
    dialect: str | None,
) -> None:
    import darkpy
    from darkpy.data.lists.text_files import read_data
    from darkpy.training.setup import open_setup

    setup = open_setup(darkpy.plan(cfg, dialect), read_data(data), seed=seed)
    if html is None or folder is not None:
        folder = folder or DEFAULT_FOLDER
    page = write_previews(setup, folder, html, count=count, seed=seed, overwrite=overwrite)
    console.echo(f"{page}: {count} samples")


def write_previews(
    setup: TrainingSetup,
    folder: Path | None,
    page: Path | None,
    *,
    count: int,
    seed: int,
    seen: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write samples of a training as PNGs into a folder, if one is given, and as a page. Returns: the page.

    page: None for `index.html` in the folder. seen: images that the training has seen.
    Raises: DarkpyError when the images cannot be used, or a file is there that darkpy did not make.
    """
    from darkpy.cli.load import write_image
    from darkpy.diagnostics.report.augment_preview import preview_figure, preview_page, preview_samples

    if page is None:
        assert folder is not None
        page = folder / "index.html"
    files = [] if folder is None else [folder / f"{number:03}.png" for number in range(count)]
    for target in (page, *files):
        require_own(target, overwrite=overwrite)
    if folder is not None:
        make_folder(folder)
    figures: list[str] = []
    problems: list[str] = []
    for number, sample in enumerate(console.track(preview_samples(setup, count, seen=seen), count)):
        figures.append(preview_figure(sample))
        problems += sample.problems
        if files:
            write_image(sample.image, files[number])
    console.warn_many("files cannot be used, or only in part", problems)
    write_atomic(page, [preview_page(figures, setup, seed).encode("utf-8", errors="replace")])
    return page
