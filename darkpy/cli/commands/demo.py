"""darknet's `detector demo`: detect the objects on a video, a camera or a stream, frame by frame."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.detection_options import FrameOptions, frame_options
from darkpy.cli.load import class_names, open_network, write_image
from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    OUTPUT_PATH,
    SOURCE_PATH,
    WEIGHTS_PATH,
    Command,
    LoadOptions,
    box_options,
    collect,
    fast_network_options,
    require_writable,
)
from darkpy.cli.processes import close_on_signals
from darkpy.cli.serving_options import StreamOptions, stream_options, tell_address
from darkpy.data.lists.text_files import read_data
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.evaluation import formats

if TYPE_CHECKING:
    import PIL.Image

    from darkpy.evaluation.detect import DetectOptions
    from darkpy.evaluation.result import Result
    from darkpy.network import Network
    from darkpy.serving.video_streams import VideoStreams
    from darkpy.sources.video import VideoFrames

RATE_WINDOW_SECONDS = 1.0
"""Time whose frames make the rate that is printed."""
JSON_END = b"\n]"

DEMO_HELP = """darknet's `detector demo`: detect the objects on a video FILE, the URL of a stream, or a camera.

\b
  darkpy detector demo coco.data yolov4.cfg yolov4.weights film.mp4 -out_filename drawn.mp4
  darkpy detector demo coco.data yolov4.cfg yolov4.weights -c 0 -json_file_output found.json
  darkpy detector demo coco.data yolov4.cfg yolov4.weights rtsp://camera/stream -mjpeg_port 8090 -json_port 8070

Needs PyAV (the extra `video`). No frame of a file is skipped; frames of a camera or stream that arrive while the
network is busy are dropped. Ctrl-C and -time_limit_sec end the run, and leave a video that plays and valid JSON.

darkpy opens no window: -out_filename writes a video (H.264, which browsers play, if the name ends in .mp4), -prefix
images, and -mjpeg_port shows the frames in a browser: http://127.0.0.1:8090/. Viewers that are slower than the network
miss frames and never delay it. FPS is measured over the last second, and AVG_FPS over the run, everything included.
"""


@dataclass(frozen=True, kw_only=True)
class _DemoOptions:
    """Source and output: the values of `_demo_options`."""

    camera: int
    out_filename: Path | None
    json_file_output: Path | None
    prefix: str | None
    ext_output: bool
    dontdraw_bbox: bool
    benchmark: bool
    time_limit_sec: float | None
    skip: int
    rate: float | None
    width: int | None
    height: int | None


_demo_options = collect(
    _DemoOptions,
    "demo",
    click.option("-c", "camera", type=click.IntRange(0), default=0, metavar="N", help="Camera, if no FILE is given."),
    click.option("-out_filename", type=OUTPUT_PATH, metavar="FILE", help="Write a video with the boxes drawn."),
    click.option("-json_file_output", type=OUTPUT_PATH, metavar="FILE", help="Write the detections as JSON."),
    click.option("-prefix", metavar="NAME", help="Write each frame to NAME_00000001.jpg and so on."),
    click.option("-ext_output", is_flag=True, help="Print the position of each box in pixels."),
    click.option("-dontdraw_bbox", is_flag=True, help="Write frames without boxes."),
    click.option("-benchmark", is_flag=True, help="Measure the forward pass alone, repeated on the first frame."),
    click.option(
        "-time_limit_sec", type=click.FloatRange(0, min_open=True), metavar="N", help="Stop after this many seconds."
    ),
    click.option("-s", "skip", type=click.IntRange(0), default=0, metavar="N", help="Skip N frames after each one."),
    click.option(
        "-fps",
        "rate",
        type=click.FloatRange(0, 1000, min_open=True),
        metavar="N",
        help="Frames per second to request from a camera, or of a video written without times (.avi).",
    ),
    click.option("-w", "width", type=click.IntRange(1), metavar="N", help="Requested width of a camera; needs -h."),
    click.option("-h", "height", type=click.IntRange(1), metavar="N", help="Requested height of a camera; needs -w."),
)


def _say_no_average(ctx: click.Context, option: click.Parameter, value: int | None) -> None:
    """Source: AlexeyAB/darknet src/demo.c detect_in_thread; pjreddie/darknet src/demo.c demo, which reads no `avg`."""
    if value is not None:
        console.info(
            "-avgframes has no effect in darkpy: AlexeyAB's program averages nothing with it, but draws the boxes on "
            "the image of (N - 1) / 2 frames before; darkpy draws them on the image in which they were found"
        )


@click.command(cls=Command, help=DEMO_HELP)
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@click.argument("file", type=SOURCE_PATH, required=False)
@_demo_options
@stream_options
@click.option("-avgframes", "-avg", type=int, expose_value=False, hidden=True, callback=_say_no_average)
@frame_options
@box_options
@fast_network_options
def demo(
    data: Path,
    cfg: Path,
    weights: Path,
    file: str | None,
    per_frame: FrameOptions,
    thresh: float | None,
    hier: float,
    nms: float,
    letterbox: bool | None,
    load: LoadOptions,
    demo: _DemoOptions,
    streams: StreamOptions,
) -> int:
    from darkpy.detection_run import usual_batch_size
    from darkpy.evaluation.counting import ObjectCounter
    from darkpy.evaluation.detect import DetectOptions, detect_frames
    from darkpy.evaluation.tiles import TileGrid
    from darkpy.evaluation.tracker import Tracker
    from darkpy.sources.video import VideoFrames

    if (demo.width is None) != (demo.height is None):
        raise click.UsageError("-w and -h go together: give both")
    targets = [target for target in (demo.out_filename, demo.json_file_output) if target is not None]
    if len({target.resolve() for target in targets}) < len(targets):
        raise click.UsageError("-out_filename and -json_file_output name the same file: give two")
    for target in targets:
        require_writable(target, overwrite=True)
    size = (demo.width, demo.height) if demo.width and demo.height else None
    names_file = read_data(data).find_names()
    frames = VideoFrames(demo.camera if file is None else file, rate=demo.rate, size=size, skip=demo.skip)
    with ExitStack() as open_things:
        open_things.callback(frames.close)
        viewers = None
        if streams.are_used:
            once = demo.time_limit_sec is not None
            viewers = open_things.enter_context(_open_streams(streams, cfg.stem, frames.name, post_once=once))
        # viewers see each frame as it comes
        batch_size = 1 if demo.benchmark or (viewers and per_frame.tiles is None) else None
        network = open_network(cfg, weights, load, batch_size=batch_size, frames=frames)
        names = class_names(network, names_file)
        options = DetectOptions(thresh=thresh, tree_thresh=hier, nms=nms, letterbox=letterbox)
        if demo.time_limit_sec is not None:
            limit = threading.Timer(demo.time_limit_sec, frames.close)
            limit.daemon = True
            limit.start()
            open_things.callback(limit.cancel)
        rate = demo.rate or (frames.rate and frames.rate / (demo.skip + 1))
        if demo.benchmark:
            _benchmark(network, frames, options, demo.time_limit_sec)
            return 0
        received = open_things.enter_context(close_on_signals(frames.close))
        report = open_things.enter_context(_DemoReport(demo, network.plan.dialect, rate, viewers))
        grid = None if per_frame.tiles is None else TileGrid.parse(per_frame.tiles)
        counter = ObjectCounter(*per_frame.regions) if per_frame.regions else None
        tracker = Tracker() if per_frame.track or (counter and counter.needs_tracks) else None
        for results in detect_frames(
            network,
            frames,
            names,
            options,
            batch_size=batch_size or usual_batch_size(network, frames, grid),
            prefetch=not frames.is_live,
            keep_state=True,
            tiles=grid,
        ):
            report.count(len(results))
            for result in results:
                shown = (tracker.update(result) if tracker else result).visible()
                report.add(counter.update(shown) if counter else shown)
    console.info(report.summary(frames))
    return 128 + received[0] if received else 0


def _open_streams(options: StreamOptions, title: str, source: str, *, post_once: bool) -> VideoStreams:
    from darkpy.serving.video_streams import VideoStreams

    streams = VideoStreams(
        title,
        source,
        mjpeg_port=options.mjpeg_port,
        json_port=options.json_port,
        host=options.host,
        post_host=options.http_post_host,
        post_once=post_once,
        log=console.warn,
    )
    for server in streams.servers:
        tell_address(server)
    return streams


class _DemoReport:
    """Output of `detector demo`, frame by frame: lines, JSON, and drawings, which two threads make and write."""

    def __init__(
        self, options: _DemoOptions, dialect: Dialect, rate: float | None, streams: VideoStreams | None
    ) -> None:
        from darkpy.evaluation.video_writer import VideoWriter
        from darkpy.sources.handoff import Worker

        self.options, self.dialect, self._streams = options, dialect, streams
        self._rate = _FrameRate()
        self._closing = ExitStack()
        with ExitStack() as closing:  # open ones are closed if the next cannot be opened
            self._json = None
            if options.json_file_output is not None:
                self._json = closing.enter_context(_JsonFile(options.json_file_output))
            self._video = None
            if options.out_filename is not None:
                self._video = VideoWriter(options.out_filename, rate)
                closing.callback(self._video.close)
            self._draws = self._video is not None or options.prefix is not None
            # the drawing one is finished first, and gives the writing one its last frames
            self._writing: Worker[tuple[PIL.Image.Image, int, float | None]] = Worker(self._write)
            closing.callback(self._writing.finish)
            self._drawing: Worker[Result] = Worker(
                lambda result: self._writing.put((self._draw(result), result.frame, result.time))
            )
            closing.callback(self._drawing.finish)
            self._closing = closing.pop_all()

    def __enter__(self) -> _DemoReport:
        return self

    def __exit__(self, *_: object) -> None:
        """Finish all files. Raises: DarkpyError when one cannot be written."""
        self._closing.close()
        self._rate.count(0)  # the time to finish them is part of the run

    def count(self, frames: int) -> None:
        """Count frames whose results have come together."""
        self._rate.count(frames)

    def add(self, result: Result) -> None:
        if result.error is not None:
            raise result.error
        is_alexeyab = self.dialect is Dialect.ALEXEYAB
        ordered = formats.left_to_right(result.objects) if is_alexeyab else result.objects
        lines = "".join(
            f"{line}\n" for line in formats.object_lines(ordered, result.size if self.options.ext_output else None)
        )
        lines += "".join(f"{count.region} {count}\n" for count in result.counts)
        now, average = self._rate.recent, self._rate.average
        if is_alexeyab:
            console.echo(f"Objects:\n\n{lines}\nFPS:{now:.1f} \t AVG_FPS:{average:.1f}")
        else:
            console.echo(f"\nFPS:{now:.1f}\nObjects:\n\n{lines}", nl=False)
        record = formats.frame_json(result.frame + 1, None, result.objects, result.counts)
        if self._json is not None:
            self._json.add(record)
        if self._streams is not None:
            self._streams.add(result, record, now)
        if self._draws:
            self._drawing.put(result)
        elif self._streams is not None:
            self._streams.show(partial(self._draw, result))

    def summary(self, frames: VideoFrames) -> str:
        """The last line: frames, time, rate, and the frames that were dropped."""
        count = "1 frame" if self._rate.frames == 1 else f"{self._rate.frames} frames"
        text = f"{count} in {self._rate.seconds:.1f} s, {self._rate.average:.1f} per second"
        return f"{text}; {frames.dropped} frames were dropped" if frames.is_live else text

    def _draw(self, result: Result) -> PIL.Image.Image:
        import PIL.Image

        return PIL.Image.fromarray(result.image) if self.options.dontdraw_bbox else result.draw()

    def _write(self, drawn: tuple[PIL.Image.Image, int, float | None]) -> None:
        image, index, time_s = drawn
        if self._streams is not None:
            self._streams.show(lambda: image)
        if self._video is not None:
            self._video.write(image, time_s)
        if self.options.prefix is not None:
            write_image(image, Path(f"{self.options.prefix}_{index + 1:08d}.jpg"))


class _JsonFile:
    """AlexeyAB's JSON array in a file that is valid after each frame, also after a kill or on a full disk."""

    def __init__(self, path: Path) -> None:
        try:
            # unbuffered: a frame and the end of the array reach the file together
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise DarkpyError(f"{path}: {error.strerror or error}") from error
        self._path, self._is_seekable = path, self._file.seekable()
        self._end, self._separator = 0, b"[\n"

    def __enter__(self) -> _JsonFile:
        return self

    def add(self, record: str) -> None:
        """Add a frame. Raises: DarkpyError when the disk is full, for example."""
        data = self._separator + record.encode(errors="replace")
        try:
            self._write(data + JSON_END if self._is_seekable else data)
            self._end, self._separator = self._end + len(data), b", \n"
            if self._is_seekable:
                self._file.seek(self._end)
        except OSError as error:
            raise DarkpyError(f"{self._path}: {error.strerror or error}") from error

    def __exit__(self, *_: object) -> None:
        with suppress(OSError), self._file:  # reported by `add`
            if self._is_seekable:
                self._file.seek(self._end)
                self._file.truncate()  # what a full disk has left of a frame, and so there is room for the end
            self._write(JSON_END if self._end else b"[\n" + JSON_END)

    def _write(self, data: bytes) -> None:
        """Write all of it: a nearly full disk accepts a part, and fails only at the next write."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]


class _FrameRate:
    """Frames per second, from the times at which results came."""

    def __init__(self) -> None:
        self._start_s = perf_counter()
        self._counts: deque[tuple[float, int]] = deque([(self._start_s, 0)])
        """Time, and number of frames until then, of the last counts."""

    def count(self, frames: int = 1) -> None:
        """Count frames whose results have just come."""
        self._counts.append((perf_counter(), self.frames + frames))
        while len(self._counts) > 2 and self._counts[-1][0] - self._counts[0][0] > RATE_WINDOW_SECONDS:
            self._counts.popleft()

    @property
    def frames(self) -> int:
        return self._counts[-1][1]

    @property
    def seconds(self) -> float:
        return self._counts[-1][0] - self._start_s

    @property
    def recent(self) -> float:
        """Frames per second over the last second."""
        (first_s, before), (last_s, frames) = self._counts[0], self._counts[-1]
        return (frames - before) / max(last_s - first_s, 1e-9)

    @property
    def average(self) -> float:
        """Frames per second since the start."""
        return self.frames / max(self.seconds, 1e-9)


def _benchmark(network: Network, frames: VideoFrames, options: DetectOptions, limit_s: float | None) -> None:
    """Print the rate of the forward pass once a second, until the time limit or Ctrl-C."""
    import torch

    from darkpy.data.loading.images import prepare

    net = network.plan.input_shape
    frame = next(iter(frames), None)
    if frame is None:
        return
    letterbox = bool(options.resolved(network).letterbox)
    x_BCHW = prepare(frame.load(net.c), net.w, net.h, letterbox=letterbox)[None].to(network.device)
    rate = _FrameRate()
    printed_s = 0.0
    with torch.inference_mode():
        while limit_s is None or rate.seconds < limit_s:
            for output in network(x_BCHW):
                output.flatten()[:1].cpu()  # waits for a GPU
            rate.count()
            if rate.seconds - printed_s >= RATE_WINDOW_SECONDS or (limit_s is not None and rate.seconds >= limit_s):
                printed_s = rate.seconds
                console.echo(f"FPS:{rate.recent:.1f} \t AVG_FPS:{rate.average:.1f}")
