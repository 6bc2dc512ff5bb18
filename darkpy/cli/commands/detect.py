"""`darkpy detect`: find the objects on images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.load import (
    PREDICTIONS_FILE,
    ask_paths,
    class_names,
    drawing_path,
    open_folder,
    open_network,
    write_drawing,
)
from darkpy.cli.options import (
    FILE_PATH,
    Command,
    LoadOptions,
    box_options,
    fast_network_options,
    ignored_options,
    json_option,
)
from darkpy.data.lists.text_files import read_data
from darkpy.dialect import Dialect
from darkpy.evaluation import formats

if TYPE_CHECKING:
    from darkpy.errors import ImageError
    from darkpy.evaluation.result import Result

ALEXEYAB_THRESH = 0.24
"""Default of AlexeyAB's `detect`; his `detector test` has .25."""
MAX_BATCH_SIZE = 1024

DETECT_HELP = """Detect objects on images.

IMAGES are files, folders, or lists (.txt, .list) with a path per line; without any, paths are read from standard input,
one per line.

\b
  darkpy detect yolov3.cfg yolov3.weights dog.jpg
  darkpy detect yolov3.cfg yolov3.weights photos/ --out drawn
  darkpy detect my.cfg my.weights photos/ --names my.names --json > detections.json

Without --out and --json, a single image, and each one named on standard input, is drawn to predictions.jpg in the
working directory, as darknet does.

Detections with a score above .5 are shown, or above .24 in alexeyab's dialect; see -thresh.

--json prints an array with one image per line, detections by descending score: filename, width, height, and objects
with class_id, name, confidence, box (x and y of the center, w, h: fractions of the image) and box_px (left, top, right,
bottom: pixels, clipped to the image). An unreadable image has filename and error; the others continue, and the exit
code is 2.
"""


@click.command(cls=Command, help=DETECT_HELP)
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH)
@click.argument("images", type=FILE_PATH, nargs=-1)
@click.option(
    "--names", type=FILE_PATH, help="Class names, one per line.  [default: COCO or VOC, by number of classes]"
)
@click.option("--data", type=FILE_PATH, help="A .data file with the class names.")
@json_option
@click.option("--out", type=FILE_PATH, metavar="DIR", help="Draw the images into this folder.")
@click.option(
    "--batch-size",
    type=click.IntRange(1, MAX_BATCH_SIZE),
    metavar="N",
    help="Images per batch.  [default: 8]",
)
@click.option("-ext_output", is_flag=True, expose_value=False, hidden=True)  # always on here
@box_options
@fast_network_options
@ignored_options
def detect(
    cfg: Path,
    weights: Path,
    images: tuple[Path, ...],
    names: Path | None,
    data: Path | None,
    as_json: bool,
    out: Path | None,
    batch_size: int | None,
    thresh: float | None,
    hier: float,
    nms: float,
    letterbox: bool | None,
    load: LoadOptions,
) -> int:
    from darkpy.data.lists.paths import expand_paths
    from darkpy.detection_run import detect

    if names is not None and data is not None:
        raise click.UsageError("--names and --data both name the classes: give one")
    paths = expand_paths(images) if images else None
    if out is not None:
        open_folder(out, paths or ())
    if names is None and data is not None:
        names = read_data(data).find_names()
    network = open_network(cfg, weights, load, examples=paths or (), batch_size=batch_size)
    if thresh is None and network.plan.dialect is Dialect.ALEXEYAB:
        thresh = ALEXEYAB_THRESH
    results: Iterable[Result] = detect(
        network,
        ask_paths() if paths is None else paths,
        class_names(network, names),
        thresh=thresh,
        nms=nms,
        tree_thresh=hier,
        letterbox=letterbox,
        batch_size=batch_size if paths is not None else 1,
        on_error="yield",
    )
    if paths is not None:
        results = console.track(results, len(paths))
    draws_predictions = not as_json and (paths is None or len(paths) == 1)
    errors: list[ImageError] = []
    shown = _draw_each(results, out, draws_predictions, errors)
    for text in formats.array_json(result.to_dict() for result in shown) if as_json else map(_text, shown):
        console.echo(text, nl=False)
    return 2 if errors else 0


def _draw_each(
    results: Iterable[Result], out: Path | None, draws_predictions: bool, errors: list[ImageError]
) -> Iterator[Result]:
    """Yield the results by descending score, after drawing each or printing its error, which `errors` collects."""
    for result in results:
        shown = result.visible()
        if shown.error is not None:
            console.error(shown.error)
            errors.append(shown.error)
        elif out is not None:
            write_drawing(shown, drawing_path(shown.path, out))
        elif draws_predictions:
            write_drawing(shown, PREDICTIONS_FILE)
        yield shown


def _text(result: Result) -> str:
    if result.error is not None:
        return ""
    count = len(result)
    lines = formats.object_lines(result.objects, result.size)
    return "\n".join((f"{result.path}: {count} object{'' if count == 1 else 's'}", *lines, ""))
