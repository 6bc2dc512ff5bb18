"""`darkpy serve`: detection or classification as a service over HTTP."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from darkpy.catalog import find_model, find_weights
from darkpy.cli import console
from darkpy.cli.detection_options import tiles_option
from darkpy.cli.load import class_names, open_network
from darkpy.cli.options import FILE_PATH, WEIGHTS_PATH, Command, LoadOptions, box_options, fast_network_options
from darkpy.cli.processes import catch_signals
from darkpy.cli.serving_options import PORT_RANGE, host_option, tell_address
from darkpy.data.lists.text_files import names_for
from darkpy.errors import DarkpyError
from darkpy.evaluation.defaults import DEFAULT_TOP

if TYPE_CHECKING:
    from darkpy.serving.image_tasks import ImageTask

SERVE_PORT = 8080
GPU_BATCH_SIZE = 8
MAX_BODY_MEGABYTES = 1000
SERVE_HELP = """Detect objects on images that are posted over HTTP, or classify the images, and answer with JSON.

\b
  darkpy serve yolov4-tiny
  darkpy serve my.cfg my.weights --names my.names --port 8080
  curl -F image=@dog.jpg http://127.0.0.1:8080/detect
  curl -H 'Content-Type: image/jpeg' --data-binary @dog.jpg http://127.0.0.1:8080/detect
  darkpy serve darknet19.cfg darknet19.weights --names imagenet.shortnames.list --top 3
  curl -F image=@dog.jpg http://127.0.0.1:8080/classify

CFG may be a name of `darkpy models`; WEIGHTS are then those of `darkpy fetch` unless a file is given.

An answer has the image's width and height, and objects with class_id, name, confidence, box and box_px, as
`darkpy detect --json` prints them; that of a classifier has classes with class_id, name and confidence.
http://127.0.0.1:8080/ is a page that takes images by drag and drop, /health responds while the service is running,
/openapi.json describes it for programs.

Images wait in one queue. Images of more than 50 million pixels (--max-pixels) or 20 MB (--max-mb) are refused, and
others while 32 are being processed. On Ctrl-C the service answers waiting requests and ends.
"""


@click.command(cls=Command, help=SERVE_HELP)
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=WEIGHTS_PATH, required=False)
@click.option(
    "--names", type=FILE_PATH, help="Class names, one per line.  [default: COCO or VOC, by number of classes]"
)
@click.option("--port", type=PORT_RANGE, default=SERVE_PORT, show_default=True, metavar="N", help="Port; 0: any free.")
@host_option
@click.option(
    "--max-mb",
    type=click.IntRange(1, MAX_BODY_MEGABYTES),
    default=20,
    show_default=True,
    metavar="N",
    help="Refuse requests of more megabytes.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Maximum number of waiting images per batch.  [default: 8 on a GPU, 1 on a CPU, where more is no faster]",
)
@click.option(
    "top",
    "-t",
    "--top",
    type=click.IntRange(1),
    metavar="K",
    help=f"Number of classes in the answers of a classifier.  [default: {DEFAULT_TOP}]",
)
@tiles_option
@box_options
@fast_network_options
def serve(
    cfg: Path,
    weights: Path | None,
    names: Path | None,
    port: int,
    host: str,
    max_mb: int,
    batch_size: int | None,
    top: int | None,
    tiles: str | None,
    thresh: float | None,
    hier: float,
    nms: float,
    letterbox: bool | None,
    load: LoadOptions,
) -> int:
    from darkpy.data.loading.decoding import MAX_PIXELS_VARIABLE, find_max_pixels
    from darkpy.evaluation.classify import class_count
    from darkpy.evaluation.detect import DetectOptions
    from darkpy.evaluation.tiles import TileGrid
    from darkpy.serving.http_server import ServerLimits
    from darkpy.serving.image_service import MAX_SERVED_PIXELS, ImageService
    from darkpy.serving.image_tasks import ClassificationTask, DetectionTask

    model = find_model(cfg)
    if weights is None:
        if model is None:
            raise click.UsageError("Missing argument 'WEIGHTS'.")
        weights = find_weights(cfg)
    if names is None and model is not None:
        names = model.names
    network = open_network(cfg, weights, load, batch_size=batch_size)
    task: ImageTask
    if network.heads:
        if top is not None:
            raise DarkpyError(f"{cfg} detects: --top is for classifiers", hint="-thresh shows fewer objects")
        options = DetectOptions(thresh=thresh, tree_thresh=hier, nms=nms, letterbox=letterbox)
        grid = None if tiles is None else TileGrid.parse(tiles)
        task = DetectionTask(network, class_names(network, names), options, grid)
    else:
        source_of = click.get_current_context().get_parameter_source
        of_boxes = ("thresh", "hier", "nms", "letterbox", "tiles")
        if any(source_of(name) is ParameterSource.COMMANDLINE for name in of_boxes):
            hint = "leave out -thresh, -hier, --nms, -letter_box and --tiles"
            raise DarkpyError(f"{cfg} is a classifier, which has no boxes", hint=hint)
        task = ClassificationTask(network, names_for(class_count(network), names), top or DEFAULT_TOP)
    service = ImageService(
        task,
        batch_size=batch_size or (GPU_BATCH_SIZE if network.device.type == "cuda" else 1),
        max_pixels=find_max_pixels() if MAX_PIXELS_VARIABLE in os.environ else MAX_SERVED_PIXELS,
        host=host,
        port=port,
        limits=ServerLimits(body_bytes=max_mb << 20),
        log=console.warn,
    )
    ended, received = threading.Event(), list[int]()

    def stop(number: int) -> None:
        """End when the waiting requests are answered; a second signal ends at once."""
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt
        ended.set()

    with catch_signals(stop):
        tell_address(service.server)
        ended.wait()
        service.close()
    counts = ", ".join(f"{count} with status {status}" for status, count in sorted(service.server.statuses.items()))
    console.info(f"requests answered: {counts or 'none'}")
    return 128 + received[0]
