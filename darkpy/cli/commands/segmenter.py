"""Masks: darknet's `segmenter train`, `segmenter test`, `isegmenter train` and `isegmenter test`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.commands.train import HELP_BODY, train_command
from darkpy.cli.load import (
    OutputFiles,
    ask_paths,
    drawing_path,
    open_folder,
    open_network,
    text_path,
    write_image,
)
from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    OUTPUT_PATH,
    WEIGHTS_PATH,
    Command,
    LoadOptions,
    UnitFloat,
    compose,
    json_option,
    max_pixels_option,
    network_options,
    require_own,
    require_writable,
)
from darkpy.cli.training_options import train_options
from darkpy.data.lists.text_files import DataFile, names_for, read_data
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.evaluation import formats
from darkpy.evaluation.defaults import MASK_BATCH_SIZE

if TYPE_CHECKING:
    from darkpy.evaluation.segment import Segmentation
    from darkpy.network import Network

INPUT_FILE, PREDICTION_FILE = Path("orig.png"), Path("pred.png")
"""Files that darknet's program, built without OpenCV, says that it writes; they are JPEG files there."""

_MASK_FILES = """The masks of an image are in a text file: `images` and `JPEGImages` in its path become `mask`, the
suffix becomes `.txt`. Each line has the class and the runs of an object, row by row: pixels outside, inside, outside,
...; for example `3 1200,14,626,16`."""
SEGMENTER_HELP = f"""darknet's `segmenter train`: train a network that classifies each pixel.

\b
  darkpy segmenter train my.data my.cfg darknet19.conv.23
  darkpy segmenter train my.data my.cfg backup/my.backup

{_MASK_FILES}
The network's output is a map, with a channel for each class.

{HELP_BODY.format(more=", names= the classes")}"""
ISEGMENTER_HELP = f"""darknet's `isegmenter train`: train a network with [iseg], on masks of instances.

\b
  darkpy isegmenter train my.data my.cfg darknet19.conv.23
  darkpy isegmenter train my.data my.cfg backup/my.backup

{_MASK_FILES}
The first 90 objects of an image count.

{HELP_BODY.format(more=", names= the classes")}"""
TEST_HELP = """darknet's `segmenter test` and `isegmenter test`: find the masks of the classes on images.

\b
  darkpy segmenter test my.data my.cfg my.weights dog.jpg
  darkpy segmenter test my.data my.cfg my.weights photos/ --out drawn --save-masks masks
  darkpy segmenter test my.data my.cfg my.weights list.txt --json > masks.json

IMAGES are files, folders, or lists (.txt, .list) with a path per line; without any, paths are read from standard input.
names= in DATA has the names of the classes. A pixel belongs to the classes with a score above -thresh.

A single image, and each one named on standard input, gives darknet's drawings in the working directory: pred.png, the
network's map in the classes' colors, and orig.png, its input. --out draws the masks on the images themselves.

--json prints an array with one image per line: filename, width, height, and masks with class_id, name, pixels, share
(the fraction of the image), and runs, row by row: pixels outside, inside, outside, ... An unreadable image has filename
and error; the others continue, and the exit code is 2.
"""


_train_options = compose(train_options, click.option("-display", is_flag=True, help="The same as -show_imgs."))
train_segmenter = train_command("segmenter", SEGMENTER_HELP, options=_train_options)
train_isegmenter = train_command("isegmenter", ISEGMENTER_HELP, options=_train_options)


@click.command(cls=Command, help=TEST_HELP)
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@click.argument("images", type=FILE_PATH, nargs=-1)
@click.option(
    "-thresh",
    type=UnitFloat(),
    default=0.5,
    metavar="0..1",
    show_default=True,
    help="Score above which a pixel belongs to a class.",
)
@click.option("--out", type=OUTPUT_PATH, metavar="DIR", help="Draw the masks on the images into this folder.")
@click.option("--save-masks", type=OUTPUT_PATH, metavar="DIR", help="Write a mask file per image into this folder.")
@click.option("--overwrite", is_flag=True, help="Replace existing mask files, and images that darkpy did not make.")
@json_option
@network_options
@max_pixels_option
def test(
    data: Path,
    cfg: Path,
    weights: Path,
    images: tuple[Path, ...],
    thresh: float,
    out: Path | None,
    save_masks: Path | None,
    overwrite: bool,
    as_json: bool,
    load: LoadOptions,
) -> int:
    from darkpy.data.lists.paths import expand_paths
    from darkpy.evaluation.segment import mask_class_count, segment

    paths = expand_paths(images) if images else None
    is_drawn = not (out or as_json) and (paths is None or len(paths) == 1)
    if is_drawn:
        for file in (INPUT_FILE, PREDICTION_FILE):
            require_own(file, overwrite=overwrite, hint="--overwrite overwrites it")
    if out is not None:
        open_folder(out, paths or (), overwrite=overwrite)
    if save_masks is not None:
        open_folder(save_masks, paths or (), overwrite=overwrite, option="--save-masks", target=text_path)
    network = open_network(cfg, weights, load, examples=paths or ())
    names = names_for(mask_class_count(network), read_data(data).find("names"))
    writer = _MaskWriter(names, is_drawn=is_drawn, out=out, save_masks=save_masks, overwrite=overwrite)
    if paths is None:
        sources: Iterable[str | Path] = ask_paths(prompt_on_stderr=as_json)
        segmentations = segment(network, sources, thresh=thresh, prefetch=False)
    else:
        segmentations = console.track(segment(network, paths, thresh=thresh, batch_size=MASK_BATCH_SIZE), len(paths))
    written = writer.write_each(segmentations)
    texts = formats.array_json(image.to_dict(names) for image in written) if as_json else map(writer.text, written)
    for text in texts:
        console.echo(text, nl=False)
    return 2 if writer.files.has_failed else 0


def evaluate_masks(
    network: Network, data: DataFile, paths: Sequence[Path], batch_size: int | None, as_json: bool
) -> int:
    """Find the masks of all images of a list, and print the IoU of each class. Returns: the exit code.

    Raises: DarkpyError when none of the mask files has a mask that can be used.
    """
    from darkpy.evaluation.mask_overlap import MaskOverlap, mean_iou
    from darkpy.evaluation.segment import mask_class_count

    names = names_for(mask_class_count(network), data.find("names"))
    overlap, unreadable = MaskOverlap(len(names)), 0
    for error in console.track(overlap.follow(network, paths, batch_size=batch_size), len(paths)):
        if error is not None:
            console.error(error)
            unreadable += 1
    classes = overlap.classes()
    if not any(counted.true for counted in classes):
        raise DarkpyError(f"{data.path}: no mask of the valid= list can be used", hint="darkpy doctor names the faults")
    if as_json:
        records = [
            {"class_id": class_id, "name": name, **asdict(counted), "iou": counted.iou if counted.true else None}
            for class_id, (name, counted) in enumerate(zip(names, classes, strict=True))
        ]
        record = {"images": len(paths), "unreadable": unreadable, "mean_iou": mean_iou(classes), "classes": records}
        console.echo(json.dumps(record))
    else:
        for class_id, (name, counted) in enumerate(zip(names, classes, strict=True)):
            iou = f"{100 * counted.iou:.2f}%" if counted.true else "-"
            pixels = f"found = {counted.found}, true = {counted.true}, shared = {counted.shared}"
            console.echo(f"class_id = {class_id}, name = {name}, iou = {iou}   ({pixels})")
        console.echo(f"\n mean IoU = {100 * mean_iou(classes):.2f} %")
    return 2 if unreadable else 0


class _MaskWriter:
    """Files and lines of each image.

    is_drawn: write darknet's two drawings. out, save_masks: folders for drawings and mask files, None for none.
    """

    def __init__(
        self, names: Sequence[str], *, is_drawn: bool, out: Path | None, save_masks: Path | None, overwrite: bool
    ) -> None:
        self.names, self.is_drawn, self.out, self.save_masks = names, is_drawn, out, save_masks
        self.files = OutputFiles(overwrite=overwrite)
        self._began = perf_counter()

    def write_each(self, segmentations: Iterable[Segmentation]) -> Iterator[Segmentation]:
        """Yield the masks of each image, after writing its files or printing its error."""
        for image in segmentations:
            if image.error is not None:
                self.files.fail(image.error)
            else:
                self._write(image)
            yield image
            self._began = perf_counter()

    def text(self, image: Segmentation) -> str:
        """Return darknet's lines for an image, and one for each mask."""
        if image.score_KHW is None:
            return ""
        shares = (f"{self.names[mask.class_id]}: {100 * image.share(mask):.1f}%" for mask in image.masks)
        time_line = formats.time_line(image.path, perf_counter() - self._began, Dialect.PJREDDIE)
        return "\n".join((f"Predicted: {float(image.score_KHW.flatten()[0]):f}", time_line, *shares, ""))

    def _write(self, image: Segmentation) -> None:
        import PIL.Image

        from darkpy.data.lists.mask_files import format_masks
        from darkpy.diagnostics.monitor.artifacts import network_image
        from darkpy.evaluation.segment import darknet_colors
        from darkpy.files import write_atomic

        assert image.x_CHW is not None and image.score_KHW is not None
        if self.is_drawn:
            write_image(network_image(image.x_CHW), INPUT_FILE)
            write_image(PIL.Image.fromarray(darknet_colors(image.score_KHW)), PREDICTION_FILE)
        if self.out is not None:
            drawing = drawing_path(image.path, self.out)
            self.files.write(image.path, drawing, lambda: write_image(image.draw(self.names), drawing))
        if self.save_masks is not None:
            file = text_path(image.path, self.save_masks)
            text = format_masks(image.masks).encode()
            self.files.write(image.path, file, lambda: write_atomic(file, [text]), require_writable)
