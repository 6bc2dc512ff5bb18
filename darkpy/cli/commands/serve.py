"""`darkpy serve`: detection as a service over HTTP."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import click

from darkpy.catalog import find_model, find_weights
from darkpy.cli import console
from darkpy.cli.detection_options import tiles_option
from darkpy.cli.load import class_names, open_network
from darkpy.cli.options import FILE_PATH, WEIGHTS_PATH, Command, LoadOptions, box_options, fast_network_options
from darkpy.cli.processes import catch_signals
from darkpy.cli.serving_options import PORT_RANGE, host_option, tell_address

SERVE_PORT = 8080
GPU_BATCH_SIZE = 8
MAX_BODY_MEGABYTES = 1000
SERVE_HELP = """Detect objects on images that are posted over HTTP, and answer with JSON.

\b
  darkpy serve yolov4-tiny
  darkpy serve my.cfg my.weights --names my.names --port 8080
  curl -F image=@dog.jpg http://127.0.0.1:8080/detect
  curl -H 'Content-Type: image/jpeg' --data-binary @dog.jpg http://127.0.0.1:8080/detect

CFG may be a name of `darkpy models`; WEIGHTS are then those of `darkpy fetch` unless a file is given.

An answer has the image's width and height, and objects with class_id, name, confidence, box and box_px, as
`darkpy detect --json` prints them. http://127.0.0.1:8080/ is a page on which an image can be dropped, /health tells
that the service is running, /openapi.json describes it for programs.

Images wait in one queue. Images of more than 50 million pixels (--max-pixels) or 20 MB (--max-mb) are refused, and
further ones while 32 are being answered. Ctrl-C answers the ones that wait, and ends.
"""


@click.command(cls=Command, help=SERVE_HELP)
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=WEIGHTS_PATH, required=False)
@click.option(
    "--names", type=FILE_PATH, help="Class names, one per line.  [default: COCO or VOC, by number of classes]"
)
@click.option("--port", type=PORT_RANGE, default=SERVE_PORT, show_default=True, metavar="N", help="0 takes a free one.")
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
    help="Waiting images that the network takes at a time.  [default: 8 on a GPU, 1 on a CPU, where more is no faster]",
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
    tiles: str | None,
    thresh: float | None,
    hier: float,
    nms: float,
    letterbox: bool | None,
    load: LoadOptions,
) -> int:
    from darkpy.data.loading.decoding import MAX_PIXELS_VARIABLE, find_max_pixels
    from darkpy.evaluation.detect import DetectOptions
    from darkpy.evaluation.tiles import TileGrid
    from darkpy.serving.detection_service import MAX_SERVED_PIXELS, DetectionService
    from darkpy.serving.http_server import ServerLimits

    model = find_model(cfg)
    if weights is None:
        if model is None:
            raise click.UsageError("Missing argument 'WEIGHTS'.")
        weights = find_weights(cfg)
    if names is None and model is not None:
        names = model.names
    network = open_network(cfg, weights, load, batch_size=batch_size)
    service = DetectionService(
        network,
        class_names(network, names),
        DetectOptions(thresh=thresh, tree_thresh=hier, nms=nms, letterbox=letterbox),
        batch_size=batch_size or (GPU_BATCH_SIZE if network.device.type == "cuda" else 1),
        tiles=None if tiles is None else TileGrid.parse(tiles),
        max_pixels=find_max_pixels() if MAX_PIXELS_VARIABLE in os.environ else MAX_SERVED_PIXELS,
        host=host,
        port=port,
        limits=ServerLimits(body_bytes=max_mb << 20),
        log=console.warn,
    )
    ended, received = threading.Event(), list[int]()

    def stop(number: int) -> None:
        """End when the requests that wait are answered; a second signal ends at once."""
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
