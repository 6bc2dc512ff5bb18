"""darknet's `classifier demo`: the classes of the frames of a video, a camera or a stream."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from time import perf_counter

import click

from darkpy.cli import console
from darkpy.cli.commands.classifier import find_names_file, network_arguments, top_option
from darkpy.cli.load import open_network
from darkpy.cli.options import SOURCE_PATH, Command, LoadOptions, network_options
from darkpy.data.lists.text_files import names_for, read_data, read_top
from darkpy.dialect import Dialect

RATE_SMOOTHING = 0.9
"""Weight of the frames before in the rate that is printed, as in darknet."""

DEMO_HELP = """darknet's `classifier demo`: classify the frames of a video FILE, the URL of a stream, or a camera.

\b
  darkpy classifier demo my.data my.cfg my.weights film.mp4 -t 3
  darkpy classifier demo my.data my.cfg my.weights -c 0

Needs PyAV (the extra `video`). Prints the rate and the best classes of each frame. The frames are letterboxed
(pjreddie) or stretched (alexeyab). No frame of a file is skipped; frames of a camera or stream that arrive while the
network is busy are dropped. darkpy opens no window; Ctrl-C ends the run.
"""


@click.command(cls=Command, help=DEMO_HELP)
@network_arguments
@click.argument("file", type=SOURCE_PATH, required=False)
@click.option("-c", "camera", type=click.IntRange(0), default=0, metavar="N", help="Camera, if no FILE is given.")
@top_option
@network_options
def demo(
    data: Path, cfg: Path, weights: Path, file: str | None, camera: int, top: int | None, load: LoadOptions
) -> None:
    from darkpy.evaluation.classify import ClassifierOptions, class_count, classify, find_tree
    from darkpy.evaluation.image_views import OneView
    from darkpy.ops.resample import letterbox, resize
    from darkpy.sources.video import VideoFrames

    data_file = read_data(data)
    with closing(VideoFrames(camera if file is None else file)) as frames:
        network = open_network(cfg, weights, load, batch_size=1)
        names = names_for(class_count(network), find_names_file(data_file))
        tree = find_tree(network)
        options = ClassifierOptions(
            views=OneView(letterbox if network.plan.dialect is Dialect.PJREDDIE else resize),
            top=top or read_top(data_file),
            leaf=tree.leaf if tree else (),
        )
        rate, start = 0.0, perf_counter()
        for ranking in classify(network, frames, options, prefetch=not frames.is_live):
            if ranking.error is not None:
                raise ranking.error
            now = perf_counter()
            current, start = 1 / max(now - start, 1e-9), now
            rate = RATE_SMOOTHING * rate + (1 - RATE_SMOOTHING) * current if rate else current
            console.echo(f"FPS:{rate:.1f}")
            for class_id, prob in zip(ranking.class_ids, ranking.probs, strict=True):
                console.echo(f"{100 * prob:.1f}%: {names[class_id]}")
            console.echo()
