"""`darkpy detect`: find the objects on images or a video."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.catalog import CatalogModel, find_model, find_weights
from darkpy.cli import console
from darkpy.cli.detection_options import FrameOptions, frame_options
from darkpy.cli.load import (
    PREDICTIONS_FILE,
    OutputFiles,
    ask_paths,
    class_names,
    drawing_path,
    find_video,
    open_folder,
    open_network,
    open_video_file,
    text_path,
    write_drawing,
    write_image,
)
from darkpy.cli.options import (
    FILE_PATH,
    OUTPUT_PATH,
    SOURCE_PATH,
    Command,
    LoadOptions,
    box_options,
    collect,
    fast_network_options,
    json_option,
    require_writable,
)
from darkpy.cli.processes import close_on_signals
from darkpy.data.lists.text_files import read_data
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.evaluation import formats
from darkpy.files import fit_name
from darkpy.finding import printable

if TYPE_CHECKING:
    from darkpy.evaluation.counting import ObjectCounter
    from darkpy.evaluation.result import Result
    from darkpy.sources.handoff import Worker

ALEXEYAB_THRESH = 0.24
"""Default of AlexeyAB's `detect`; `detector test` has .25."""
MAX_BATCH_SIZE = 1024
WEIGHTS_SUFFIXES = (".weights", ".backup", ".pt", ".pth", ".safetensors", ".onnx")
CSV_COLUMNS = ("filename", "class_id", "name", "confidence", "left", "top", "right", "bottom")
CSV_VIDEO_COLUMNS = ("frame", "time")
CSV_TRACK_COLUMNS = ("track_id",)

DETECT_HELP = """Detect objects on images or a video.

IMAGES are files, folders, or lists (.txt, .list) with a path per line, or else one video: its file, the URL of a
stream, or the number of a camera. Without any, paths are read from standard input, one per line.

\b
  darkpy detect yolov3.cfg yolov3.weights dog.jpg
  darkpy detect yolov3.cfg yolov3.weights photos/ --out drawn
  darkpy detect yolov3-tiny photos/
  darkpy detect my.cfg my.weights photos/ --names my.names --json > detections.json
  darkpy detect my.cfg my.weights photos/ --classes dog,cat --crop found --csv > detections.csv
  darkpy detect my.cfg my.weights film.mp4 --out drawn --json-lines > detections.jsonl

CFG may be a name of `darkpy models`; WEIGHTS are then those of `darkpy fetch` unless a file is given.

Without --out, a single image, and each one named on standard input, is drawn to predictions.jpg in the working
directory, as darknet does; not if the detections are printed for programs (--json, --json-lines, --csv).

Detections with a score above .5 are shown, or above .24 in alexeyab's dialect; see -thresh.

Of a video, which needs the extra `video`, --out writes a video with the boxes drawn, the other options files for each
frame, and the printed forms have the frame's number and time.

--save-labels writes a label file per image, with the best class of each box: labels to correct and train on.

--json prints an array with one image per line, detections by descending score: filename, width, height, and objects
with class_id, name, confidence, box (x and y of the center, w, h: fractions of the image) and box_px (left, top, right,
bottom: pixels, clipped to the image). --json-lines prints the same objects as they are found, one per line, without the
array. An unreadable image has filename and error; the others continue, and the exit code is 2.
"""


@dataclass(frozen=True, kw_only=True)
class _OutputOptions:
    """Choice and form of the detections: the values of `_output_options`."""

    classes: str | None
    limit: int | None
    out: Path | None
    drawing: Path | None
    line_width: int | None
    hide_labels: bool
    hide_scores: bool
    crop: Path | None
    save_labels: Path | None
    overwrite: bool
    as_json: bool
    as_json_lines: bool
    as_csv: bool


_output_options = collect(
    _OutputOptions,
    "outputs",
    click.option("--classes", metavar="NAMES", help="Show only these classes: names or numbers, separated by commas."),
    click.option(
        "--max",
        "limit",
        type=click.IntRange(1),
        metavar="N",
        help="Show at most N detections per image, the best ones.",
    ),
    json_option,
    click.option(
        "--json-lines",
        "as_json_lines",
        is_flag=True,
        callback=console.reserve_stdout,
        help="Print a JSON object per image as it is done.",
    ),
    click.option(
        "--csv",
        "as_csv",
        is_flag=True,
        callback=console.reserve_stdout,
        help="Print CSV: a line per detection, edges in pixels.",
    ),
    click.option("--out", type=OUTPUT_PATH, metavar="DIR", help="Draw the images into this folder."),
    click.option(
        "-out",
        "drawing",
        type=OUTPUT_PATH,
        metavar="NAME",
        help="Draw NAME.jpg instead of predictions.jpg, as pjreddie's program; with several images, or if NAME is a "
        "folder, the same as --out.",
    ),
    click.option("--line-width", type=click.IntRange(1, 100), metavar="N", help="Line width of drawn boxes in pixels."),
    click.option("--hide-labels", is_flag=True, help="Draw boxes without names and scores."),
    click.option("--hide-scores", is_flag=True, help="Draw names without scores."),
    click.option("--crop", type=OUTPUT_PATH, metavar="DIR", help="Write the pixels of each box into this folder."),
    click.option(
        "--save-labels", type=OUTPUT_PATH, metavar="DIR", help="Write a darknet label file per image into this folder."
    ),
    click.option(
        "--overwrite", is_flag=True, help="Replace existing label files, and images that darkpy did not make."
    ),
)


@click.command(cls=Command, help=DETECT_HELP)
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=SOURCE_PATH, required=False)  # with a name as CFG it is the first of IMAGES
@click.argument("images", type=SOURCE_PATH, nargs=-1)
@click.option(
    "--names", type=FILE_PATH, help="Class names, one per line.  [default: COCO or VOC, by number of classes]"
)
@click.option("--data", type=FILE_PATH, help="A .data file with the class names.")
@_output_options
@click.option(
    "--batch-size",
    type=click.IntRange(1, MAX_BATCH_SIZE),
    metavar="N",
    help="Images per batch, frames of a video's file, or tiles.  [default: 8; fewer frames for large networks]",
)
@frame_options
@click.option("-ext_output", is_flag=True, expose_value=False, hidden=True)  # always on here
@box_options
@fast_network_options
def detect(
    cfg: Path,
    weights: str | None,
    images: tuple[str, ...],
    names: Path | None,
    data: Path | None,
    batch_size: int | None,
    per_frame: FrameOptions,
    thresh: float | None,
    hier: float,
    nms: float,
    letterbox: bool | None,
    load: LoadOptions,
    outputs: _OutputOptions,
) -> int:
    from darkpy.data.lists.paths import expand_paths
    from darkpy.detection_run import detect
    from darkpy.evaluation.counting import ObjectCounter
    from darkpy.sources.frames import open_frames

    if names is not None and data is not None:
        raise click.UsageError("--names and --data both name the classes: give one")
    model = find_model(cfg)
    weights_file, images = _find_weights(model, weights, images)
    if outputs.as_json + outputs.as_json_lines + outputs.as_csv > 1:
        raise click.UsageError("--json, --json-lines and --csv are three forms of the output: give one")
    video = find_video(images)
    paths = expand_paths(images) if images and video is None else None
    if outputs.drawing is not None and (
        outputs.drawing.is_dir() or video is not None or (paths is not None and len(paths) > 1)
    ):
        outputs = replace(outputs, out=outputs.drawing, drawing=None)
    is_for_programs = outputs.as_json or outputs.as_json_lines or outputs.as_csv
    counter = ObjectCounter(*per_frame.regions) if per_frame.regions else None
    is_tracked = per_frame.track or (counter is not None and counter.needs_tracks)
    writer = _Writer(outputs, paths, video, counter)
    if names is None and data is not None:
        names = read_data(data).find_names()
    if names is None and model is not None:
        names = model.names
    frames = None if video is None else open_frames(video)
    if frames is not None and frames.is_live and per_frame.tiles is None:
        batch_size = 1  # each frame of a camera is shown as it comes
    network = open_network(cfg, weights_file, load, examples=paths or (), batch_size=batch_size, frames=frames)
    if thresh is None and network.plan.dialect is Dialect.ALEXEYAB:
        thresh = ALEXEYAB_THRESH
    names_by_class = class_names(network, names)
    writer.choose_classes(names_by_class)
    source = frames or (ask_paths(prompt_on_stderr=is_for_programs) if paths is None else paths)
    results: Iterable[Result] = detect(
        network,
        source,
        names_by_class,
        thresh=thresh,
        nms=nms,
        tree_thresh=hier,
        letterbox=letterbox,
        batch_size=1 if paths is None and frames is None and per_frame.tiles is None else batch_size,
        tiles=per_frame.tiles,
        track=is_tracked,
        on_error="yield",
        keep_images=frames is not None and outputs.out is not None,  # another thread draws them
    )
    if paths is not None:
        results = console.track(results, len(paths))
    shown = writer.write_each(results)
    with close_on_signals(frames.close) if frames else nullcontext(()) as signals, writer:
        for text in _texts(shown, outputs, is_video=video is not None, is_tracked=is_tracked):
            console.echo(text, nl=False)
    writer.report()
    if signals:
        return 128 + signals[0]
    return 2 if writer.files.has_failed else 0


def _find_weights(
    model: CatalogModel | None, weights: str | None, images: tuple[str, ...]
) -> tuple[Path, tuple[str, ...]]:
    """Return the weights, and the images: with a name as CFG the word after it may be the first of these."""
    if model is not None and weights is not None and Path(weights).suffix.lower() not in WEIGHTS_SUFFIXES:
        images, weights = (weights, *images), None
    if weights is None and model is None:
        raise click.UsageError("Missing argument 'WEIGHTS'.")
    file = find_weights(model.name if model is not None and weights is None else weights or "")
    if model is not None:
        console.info(f"{model.name}: cfg {model.cfg}, weights {file}")
    return file, images


def _texts(results: Iterable[Result], outputs: _OutputOptions, *, is_video: bool, is_tracked: bool) -> Iterable[str]:
    """Text of the results in the form that the options ask for."""
    if outputs.as_json:
        return formats.array_json(result.to_dict() for result in results)
    if outputs.as_json_lines:
        return (f"{result.to_json()}\n" for result in results)
    if outputs.as_csv:
        added = (*(CSV_VIDEO_COLUMNS if is_video else ()), *(CSV_TRACK_COLUMNS if is_tracked else ()))
        return chain([_csv([(*CSV_COLUMNS, *added)])], map(_csv_rows, results))
    return map(_text, results)


class _Writer:
    """Files of each image: drawing, crops, labels; of a video one drawn video.

    paths: the images; None if they are asked for one by one, or `video` is the source. counter: of the detections of
        the chosen classes.
    Raises: DarkpyError when a folder cannot be made, or two images would have the same file.
    """

    def __init__(
        self,
        options: _OutputOptions,
        paths: Sequence[Path] | None,
        video: str | int | None = None,
        counter: ObjectCounter | None = None,
    ) -> None:
        self.options, self.counter = options, counter
        self.is_video = video is not None
        self._drawing: Worker[Result] | None = None
        self._closing = ExitStack()
        self.draws_predictions = not (options.out or options.as_json or options.as_json_lines or options.as_csv) and (
            video is None and (paths is None or len(paths) == 1)
        )
        self.classes: list[int] | None = None
        self.kept_labels = 0
        self.files = OutputFiles(overwrite=options.overwrite)
        for option, folder in (
            ("--out", options.out),
            ("--crop", options.crop),
            ("--save-labels", options.save_labels),
        ):
            if folder is not None:
                target = drawing_path if option != "--save-labels" else text_path
                is_free = options.overwrite or option == "--save-labels"  # existing labels are skipped
                open_folder(folder, paths or (), overwrite=is_free, option=option, target=target)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the video."""
        self._closing.close()

    def report(self) -> None:
        """Print the crossings of lines, and the number of label files that were left as they are."""
        for count in self.counter.line_counts if self.counter else ():
            console.info(f"{count.region} {count}")
        if self.kept_labels:
            console.info(f"label files that were there and are left as they are: {self.kept_labels} (see --overwrite)")

    def choose_classes(self, names: Sequence[str]) -> None:
        """Raises: DarkpyError for a class of --classes that the network does not have."""
        from darkpy.evaluation.result import find_classes

        if self.options.classes is not None:
            try:
                (chosen,) = csv.reader([self.options.classes], skipinitialspace=True)  # "a,b" in quotes is one name
            except csv.Error as error:
                message = f"--classes {printable(self.options.classes[:60])}: is not a list of names"
                raise DarkpyError(message, hint="put commas between the names, and no line breaks") from error
            self.classes = find_classes([name.strip() for name in chosen], names)

    def write_each(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yield the detections to show of each image, after writing its files or printing its error."""
        options = self.options
        for result in results:
            chosen = result.visible().filter(self.classes)
            shown = (self.counter.update(chosen) if self.counter else chosen)[: options.limit]
            if shown.error is not None:
                self.files.fail(shown.error)
            else:
                name = f"{Path(shown.path).stem}_{shown.frame:08}.jpg" if self.is_video else shown.path
                named = Path(f"{options.drawing}.jpg") if options.drawing else PREDICTIONS_FILE
                drawing = drawing_path(name, options.out) if options.out else named
                style = (options.line_width, not options.hide_labels, not options.hide_scores)
                if self.is_video and options.out is not None:
                    self._write_frame(shown, options.out, *style)
                elif options.out is not None:
                    self.files.write(shown.path, drawing, partial(write_drawing, shown, drawing, *style))
                elif options.drawing is not None or self.draws_predictions:
                    write_drawing(shown, drawing, *style)
                if options.crop is not None:
                    self._write_crops(shown, drawing_path(name, options.crop))
                if options.save_labels is not None:
                    self._save_labels(shown, text_path(name, options.save_labels))
            yield shown

    def _write_frame(self, result: Result, folder: Path, line_width: int | None, labels: bool, scores: bool) -> None:
        """Give a frame to the thread that draws and encodes the video, which is opened with the first one."""
        from darkpy.sources.handoff import Worker

        if self._drawing is None:
            video = self._closing.enter_context(closing(open_video_file(result.path, folder)))

            def write(frame: Result) -> None:
                video.write(frame.draw(line_width=line_width, labels=labels, scores=scores), frame.time)

            self._drawing = Worker(write)
            self._closing.callback(self._drawing.finish)
        self._drawing.put(result)

    def _save_labels(self, result: Result, path: Path) -> None:
        if path.exists() and not self.options.overwrite and self.files.image_of(path) in ("", result.path):
            self.kept_labels += 1
        else:
            write = partial(result.save_labels, path, overwrite=True)
            self.files.write(result.path, path, write, require_writable)

    def _write_crops(self, result: Result, target: Path) -> None:
        """Write the pixels of each detection whose box is not outside the image; names begin like the target."""
        import PIL.Image

        for index, (name, pixels_HWC) in enumerate(zip(result.names, result.crop(), strict=True)):
            if pixels_HWC.size:
                suffix = re.sub(r"[^\w-]+", "_", name)[:40]
                path = target.with_name(fit_name(target.stem, f"_{index:03}_{suffix}{target.suffix}"))
                self.files.write(result.path, path, partial(write_image, PIL.Image.fromarray(pixels_HWC), path))


def _csv_rows(result: Result) -> str:
    boxes = ([round(edge, 2) for edge in box] for box in result.boxes.tolist())
    tracks = [()] * len(result) if result.track_ids is None else [(number,) for number in result.track_ids.tolist()]
    rows = zip(result.class_ids.tolist(), result.names, result.scores.tolist(), boxes, tracks, strict=True)
    path = printable(result.path)
    place = () if result.time is None else (result.frame, round(result.time, 6))
    return _csv(
        (path, class_id, printable(name), round(score, 6), *box, *place, *track)
        for class_id, name, score, box, track in rows
    )


def _csv(rows: Iterable[Sequence[object]]) -> str:
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _text(result: Result) -> str:
    if result.error is not None:
        return ""
    count = len(result)
    name = result.source.name
    lines = formats.object_lines(result.objects, result.size)
    regions = (f"{count.region} {count}" for count in result.counts)
    return "\n".join((f"{name}: {count} object{'' if count == 1 else 's'}", *lines, *regions, ""))
