"""darknet's `detector test`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.load import PREDICTIONS_FILE, ask_paths, class_names, open_network, write_drawing
from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    OUTPUT_PATH,
    WEIGHTS_PATH,
    Command,
    LoadOptions,
    box_options,
    fast_network_options,
    require_writable,
)
from darkpy.data.lists.image_list import LIST_SUFFIXES
from darkpy.data.lists.text_files import read_data
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.evaluation import formats
from darkpy.files import write_atomic

if TYPE_CHECKING:
    from darkpy.evaluation.result import Result

TEST_HELP = """darknet's `detector test`: detect the objects on IMAGE, or on each image named on standard input.

\b
  darkpy detector test coco.data yolov3.cfg yolov3.weights dog.jpg -thresh .25
  darkpy detector test my.data my.cfg my.weights -ext_output -out detections.json < list.txt

Output and defaults follow the dialect of the cfg: pjreddie shows scores above .5 and letterboxes; alexeyab shows scores
above .25, stretches, and sorts boxes from left to right. The drawing is predictions.jpg in the working directory;
darkpy opens no window, so -dont_show has no effect. The time printed covers everything for one image, reading included.
"""


@click.command(cls=Command, help=TEST_HELP)
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@click.argument("image", type=FILE_PATH, required=False)
@click.option("-ext_output", is_flag=True, help="Print the position of each box in pixels.")
@click.option(
    "-out",
    type=OUTPUT_PATH,
    metavar="NAME",
    help="alexeyab, or a name that ends in .json: write the detections to this file as JSON. pjreddie: draw NAME.jpg "
    "instead of predictions.jpg.",
)
@click.option("-save_labels", is_flag=True, help="Write the boxes as the image's label file.")
@click.option("--overwrite", is_flag=True, help="Let -save_labels replace existing label files.")
@box_options
@fast_network_options
def test(
    data: Path,
    cfg: Path,
    weights: Path,
    image: Path | None,
    ext_output: bool,
    out: Path | None,
    save_labels: bool,
    overwrite: bool,
    thresh: float | None,
    hier: float,
    nms: float,
    letterbox: bool | None,
    load: LoadOptions,
) -> int:
    from darkpy.evaluation.detect import DetectOptions, detect_frames
    from darkpy.sources.frames import Frame

    if out is not None:
        require_writable(out, overwrite=True)
    if image is not None and (image.is_dir() or image.suffix.lower() in LIST_SUFFIXES):
        hint = f"darkpy detect CFG WEIGHTS {image} takes folders and lists"
        if is_list := not image.is_dir():
            hint += f"; darkpy detector test DATA CFG WEIGHTS < {image} reads the paths in a list"
        raise DarkpyError(f"{image}: is {'a list' if is_list else 'a folder'}, not an image", hint=hint)
    names_file = read_data(data).find_names()
    network = open_network(cfg, weights, load, examples=(image,) if image else ())
    names = class_names(network, names_file)
    options = DetectOptions(thresh=thresh, tree_thresh=hier, nms=nms, letterbox=letterbox)
    report = _Report(
        network.plan.dialect, with_positions=ext_output, out=out, save_labels=save_labels, overwrite=overwrite
    )
    with closing(report):  # Ctrl-C, too, leaves the detections so far
        for path in (image,) if image else ask_paths():
            start = perf_counter()
            ((result,),) = detect_frames(network, [Frame.of_file(path)], names, options, batch_size=1, prefetch=False)
            report.add(result, perf_counter() - start)
    return 2 if report.has_failed else 0


@dataclass
class _Report:
    """Output of `detector test`, image by image, as the dialect's program writes it."""

    dialect: Dialect
    with_positions: bool
    out: Path | None
    save_labels: bool
    overwrite: bool
    frames: list[str] = field(default_factory=list)
    has_failed: bool = False

    def add(self, result: Result, seconds: float) -> None:
        if result.error is not None:
            console.error(result.error)
            self.has_failed = True
            return
        shown = result.visible()
        ordered = formats.left_to_right(shown.objects) if self.is_alexeyab else shown.objects
        console.echo(formats.time_line(result.path, seconds, self.dialect))
        for line in formats.object_lines(ordered, result.size if self.with_positions else None):
            console.echo(line)
        write_drawing(shown, self.drawing)
        if self.is_json and self.out:
            self.frames.append(formats.frame_json(len(self.frames) + 1, result.path, shown.objects))
        if self.save_labels:
            try:
                result.save_labels(overwrite=self.overwrite)
            except DarkpyError as error:
                console.error(error)
                self.has_failed = True

    def close(self) -> None:
        if self.is_json and self.out:
            write_atomic(self.out, [formats.frames_json(self.frames).encode()])

    @property
    def is_alexeyab(self) -> bool:
        return self.dialect is Dialect.ALEXEYAB

    @property
    def is_json(self) -> bool:
        """True if `out` is AlexeyAB's JSON; by a name that ends so also in the other dialect."""
        return self.is_alexeyab or (self.out is not None and self.out.suffix.lower() == ".json")

    @property
    def drawing(self) -> Path:
        return Path(f"{self.out}.jpg") if self.out and not self.is_json else PREDICTIONS_FILE
