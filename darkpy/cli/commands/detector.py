"""`darkpy detector ...`: darknet's own commands for detection networks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from darkpy.cli import console
from darkpy.cli.images import PREDICTIONS, ask_paths, write_drawing
from darkpy.cli.load import class_names, open_network
from darkpy.cli.options import FILE_PATH, box_options, ignored_options, network_options, require_writable, speed_options
from darkpy.cli.parsing import Group
from darkpy.data.lists.data_file import read_data
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.evaluation import formats
from darkpy.files import write_atomic

if TYPE_CHECKING:
    from darkpy.evaluation.detect import DetectResult

TEST_HELP = """darknet's `detector test`: find the objects on IMAGE, or on each image that standard input names.

\b
  darkpy detector test coco.data yolov3.cfg yolov3.weights dog.jpg -thresh .25
  darkpy detector test my.data my.cfg my.weights -ext_output -out found.json < list.txt

What is printed and which defaults hold is the fork's whose --dialect the cfg speaks: pjreddie shows what is surer than
.5 and letterboxes, alexeyab .25 and stretches, with boxes from left to right. The drawing is predictions.jpg in the
working directory; darkpy opens no window, so -dont_show changes nothing. The time printed is all that one image took,
reading it included.
"""


@click.group(cls=Group, short_help="darknet's commands for detection networks.")
def detector() -> None:
    """darknet's commands for detection networks, with its own arguments."""


@detector.command(help=TEST_HELP, short_help="Find the objects on an image.")
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH)
@click.argument("image", type=FILE_PATH, required=False)
@click.option("-ext_output", is_flag=True, help="Tell where each box is, in pixels.")
@click.option(
    "-out",
    type=FILE_PATH,
    metavar="NAME",
    help="alexeyab: write the objects to this file as JSON. pjreddie: draw NAME.jpg instead of predictions.jpg.",
)
@click.option("-save_labels", is_flag=True, help="Write the boxes as the image's label file.")
@click.option("--overwrite", is_flag=True, help="Let -save_labels replace labels that are there.")
@box_options
@network_options
@speed_options
@ignored_options
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
    **opening: Any,
) -> int:
    from darkpy.evaluation.detect import DetectOptions, detect

    if out is not None:
        require_writable(out, data, cfg, weights, image, overwrite=True)
    names_file = read_data(data).find_names()
    network = open_network(cfg, weights, examples=(image,) if image else (), **opening)
    names = class_names(network, names_file)
    options = DetectOptions(thresh=thresh, tree_thresh=hier, nms=nms, letterbox=letterbox)
    report = _Report(network.plan.dialect, ext_output, out, save_labels, overwrite)
    for path in (image,) if image else ask_paths():
        began = perf_counter()
        (result,) = detect(network, [path], names, options, batch_size=1)
        report.add(result, perf_counter() - began)
    report.close()
    return 2 if report.has_failed else 0


@dataclass
class _Report:
    """What `detector test` prints and writes, image by image, in the manner of a fork."""

    dialect: Dialect
    has_places: bool
    out: Path | None
    is_saving: bool
    may_overwrite: bool
    frames: list[str] = field(default_factory=list)
    has_failed: bool = False

    def add(self, result: DetectResult, seconds: float) -> None:
        if result.error is not None:
            console.error(result.error)
            self.has_failed = True
            return
        assert result.image is not None
        shown = replace(result, objects=formats.visible(result.objects))
        ordered = formats.left_to_right(shown.objects) if self.is_alexeyab else shown.objects
        click.echo(formats.time_line(result.path, seconds, self.dialect))
        size = (result.image.w, result.image.h) if self.has_places else None
        for line in formats.object_lines(ordered, size):
            click.echo(line)
        write_drawing(shown, self.drawing)
        if self.is_alexeyab and self.out:
            self.frames.append(formats.frame_json(len(self.frames) + 1, result.path, shown.objects))
        if self.is_saving:
            self._save_labels(result)

    def close(self) -> None:
        if self.is_alexeyab and self.out:
            write_atomic(self.out, [formats.frames_json(self.frames).encode()])

    @property
    def is_alexeyab(self) -> bool:
        return self.dialect is Dialect.ALEXEYAB

    @property
    def drawing(self) -> Path:
        return Path(f"{self.out}.jpg") if self.out and not self.is_alexeyab else PREDICTIONS

    def _save_labels(self, result: DetectResult) -> None:
        from darkpy.data.lists.paths import label_path

        try:
            labels = label_path(result.path, self.dialect)
            if labels.exists() and not self.may_overwrite:
                raise DarkpyError(f"{labels}: already exists", hint="--overwrite replaces existing label files")
            write_atomic(labels, [formats.label_lines(result.objects).encode()])
        except DarkpyError as error:
            console.error(error)
            self.has_failed = True


@detector.command(
    cls=click.Command,
    short_help="Not in darkpy: video.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("rest", nargs=-1)
def demo(rest: tuple[str, ...]) -> None:
    """darknet's webcam and video window: darkpy has none."""
    raise DarkpyError(
        "detector demo shows video, which needs a camera library that darkpy does not have",
        hint="cut the video into images (ffmpeg -i film.mp4 frames/%06d.jpg) and detect on them: "
        "darkpy detect CFG WEIGHTS frames/ --out drawn",
    )
