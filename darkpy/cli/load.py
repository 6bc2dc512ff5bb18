"""Load the network a command runs, its class names and its device.

Image paths from standard input, and the files that a command writes for each image.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import darkpy
from darkpy.cli import console
from darkpy.cli.options import LoadOptions, require_own, require_writable
from darkpy.data.lists.paths import require_decoded, require_one_path
from darkpy.data.lists.text_files import names_for
from darkpy.errors import DarkpyError
from darkpy.files import (
    ENCODING_HINT,
    PROGRAM_MARK,
    TEXT_FILE,
    fit_name,
    identify,
    is_true,
    note_input,
    unquote,
    write_atomic,
)
from darkpy.process import keep_freed_memory, use_huge_pages_later, use_physical_cores

if TYPE_CHECKING:
    import PIL.Image
    import torch

    from darkpy.evaluation.result import Result
    from darkpy.evaluation.video_writer import VideoWriter
    from darkpy.network import Network
    from darkpy.sources.frames import FrameSource


MAX_CALIBRATION_IMAGES = 32
FEWEST_TUNED_IMAGES = 8
"""Images from which measuring the kernels, or preparing the fastest, takes less time than it saves."""


def open_network(
    cfg: Path,
    weights: Path | None,
    options: LoadOptions,
    *,
    accelerated: bool = True,
    examples: Sequence[Path] = (),
    batch_size: int | None = None,
    frames: FrameSource | None = None,
) -> Network:
    """Load a network with its weights for single images, whatever the time_steps of its training.

    accelerated: False keeps every layer's own output, as comparisons need.
    examples: the images to come, if they are known: they calibrate int8 when the options name none, and for a few,
        nothing is measured or prepared that takes longer than it saves.
    batch_size: of most calls; None is that of detection. frames: a video to detect on.
    Raises: DarkpyError for an unusable device or an unsupported combination of options, ConfigError, WeightsError.
    """
    from darkpy.ops.device import find_device

    network = darkpy.load(
        cfg,
        weights,
        dialect=options.dialect,
        device=find_device(options.device),
        strict=options.strict,
        allow_partial=options.allow_partial,
        mapped=accelerated,
        time_steps=1,
    )
    if not accelerated:
        return network
    from darkpy.data.lists.paths import expand_paths
    from darkpy.detection_run import usual_batch_size
    from darkpy.evaluation.detect import BATCH_SIZE
    from darkpy.inference.accelerate import InferenceConfig, accelerate

    use_physical_cores()
    keep_freed_memory()
    if frames is None:
        usual, image_count = min(batch_size or BATCH_SIZE, len(examples)), len(examples) or None
    else:
        usual, image_count = batch_size or usual_batch_size(network, frames), frames.count
    config = InferenceConfig(
        engine=options.engine,
        precision=options.precision,
        compiled=options.compiled,
        tune="off" if options.tune is None and 0 < len(examples) < FEWEST_TUNED_IMAGES else options.tune,
        batch=max(1, usual),
        image_count=image_count,
        low_memory=options.low_memory,
    )
    images: list[torch.Tensor] = []
    if options.precision == "int8":
        paths = expand_paths([options.calibrate]) if options.calibrate else examples
        images = calibration_images(network, paths)
    accelerate(network, config, images=images)
    if network.device.type == "cpu":
        use_huge_pages_later()
    return network


def calibration_images(network: Network, paths: Sequence[Path]) -> list[torch.Tensor]:
    """Network inputs of images spread evenly over the paths; unreadable ones are skipped with a warning."""
    from darkpy.errors import ImageError
    from darkpy.evaluation.detect import DetectOptions, read_input

    letterbox = bool(DetectOptions().resolved(network).letterbox)
    inputs = []
    for path in paths[:: max(1, len(paths) // MAX_CALIBRATION_IMAGES)][:MAX_CALIBRATION_IMAGES]:
        try:
            inputs.append(read_input(network, path, letterbox=letterbox)[1])
        except ImageError as error:
            console.warn(error)
    return inputs


def class_names(network: Network, file: Path | None) -> tuple[str, ...]:
    """One name per class of the network's detection heads; () for a network without any.

    Raises: DarkpyError when the file cannot be read or has too few names.
    """
    counts = [head.class_count for head in network.heads]
    return names_for(max(counts), file) if counts else ()


PREDICTIONS_FILE = Path("predictions.jpg")
JPEG_QUALITY = 80  # as darknet writes
_PILLOW_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}


def ask_paths(*, prompt_on_stderr: bool = False) -> Iterator[str]:
    """Yield image paths from standard input, one per line, prompting for each on demand.

    The prompt goes to standard output, as darknet's: converters of its output split it there.
    Raises: DarkpyError when standard input is closed, as in a service, or is not a list of paths.
    """
    if sys.stdin is None:
        raise DarkpyError("no image given, and standard input is closed", hint="name images after the weights")
    is_checked = sys.stdin.isatty()  # interactive input is a wrong path, not a wrong file
    while True:
        console.echo("Enter Image Path: ", nl=False, err=prompt_on_stderr)
        line = sys.stdin.readline()
        if not line:
            console.echo(err=prompt_on_stderr)
            return
        if not is_checked and line.strip():
            kind = identify(os.fsencode(line))
            if kind is not None and kind is not TEXT_FILE and "UTF-16" not in kind.description:
                raise DarkpyError(f"standard input: is {kind.description}", hint="name images, one path on each line")
            require_one_path(line.strip(), "standard input: line 1", Path())
            is_checked = True
        if "\0" in line:
            raise DarkpyError("standard input: is UTF-16 text or binary", hint=ENCODING_HINT)
        if path := line.removeprefix("\ufeff").strip():
            if not is_true(Path(path).exists):
                path = unquote(path)  # a terminal writes the file that is dropped on it in quotes
                require_decoded(path, "standard input")
            yield path


def find_video(words: Sequence[str]) -> str | int | None:
    """Return the video that the words name: a file, a stream's URL, or a camera's number; None for images.

    Raises: DarkpyError for a video among other paths.
    """
    from darkpy.sources.frames import is_video

    videos = [word for word in words if is_video(word) or (word.isdecimal() and not Path(word).exists())]
    if videos and len(words) > 1:
        raise DarkpyError(f"{videos[0]}: is a video among other images", hint="give each video to a command of its own")
    return None if not videos else videos[0] if is_video(videos[0]) else int(videos[0])


def drawing_path(source: str | Path, folder: Path) -> Path:
    """Path of an image's drawing: the same name, plus .jpg for formats that cannot be written."""
    name = Path(source).name
    return folder / (name if Path(name).suffix.lower() in _PILLOW_FORMATS else fit_name(name, ".jpg"))


def text_path(source: str | Path, folder: Path) -> Path:
    """Path of an image's label or mask file: the same name with the suffix .txt."""
    return folder / fit_name(Path(source).stem, ".txt")


def open_folder(
    folder: Path,
    sources: Iterable[Path],
    *,
    overwrite: bool,
    option: str = "--out",
    target: Callable[[Path, Path], Path] = drawing_path,
) -> None:
    """Create the folder for a file of each image.

    option: that names the folder, for messages. target: path of an image's file in the folder.
    Raises: DarkpyError when a file would replace an input, another one, or one that darkpy did not make.
    """
    if folder.suffix == ".json":
        hint = "--json prints JSON; darkpy detector test -out FILE writes AlexeyAB's"
        raise DarkpyError(f"{option} {folder}: must be a folder", hint=hint)
    targets = {source: target(source, folder) for source in sources}
    for source in targets:
        note_input(source)
    for file in targets.values():
        require_own(file, overwrite=overwrite, hint="--overwrite overwrites it")
    for file, count in Counter(targets.values()).most_common(1):
        if count > 1:
            hint = f"give them to several commands with different folders for {option}"
            raise DarkpyError(f"{file}: {count} images have this name", hint=hint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is a file, not a folder" if folder.is_file() else error.strerror
        raise DarkpyError(f"{option} {folder}: {reason}") from error


class OutputFiles:
    """Files that a command writes for its images, none of them over another image's.

    Paths on standard input are not known before, and crops of several images may have the same name.
    has_failed: an error was printed, of an image or of a file that is not written.
    """

    def __init__(self, *, overwrite: bool) -> None:
        self.overwrite, self.has_failed = overwrite, False
        self._images: dict[tuple[int, int], str] = {}

    def fail(self, error: DarkpyError) -> None:
        """Print an error after which the other images and files go on."""
        console.error(error)
        self.has_failed = True

    def image_of(self, path: Path) -> str:
        """Return the image whose output was written to this path; empty for other and for absent files."""
        return self._images.get(_identity(path), "") if path.exists() else ""

    def write(
        self, image: str, path: Path, write: Callable[[], object], require: Callable[..., None] = require_own
    ) -> None:
        """Write a file of an image; print an error if another image's is there, or one that `require` refuses."""
        other = self.image_of(path)
        try:
            if other not in ("", image):
                hint = "give images of the same name to several commands with different folders"
                raise DarkpyError(f"{path}: belongs to {other}, that of {image} is not written", hint=hint)
            if not other:
                require(path, overwrite=self.overwrite, hint="--overwrite overwrites it")
        except DarkpyError as error:
            self.fail(error)
        else:
            write()
            self._images[_identity(path)] = image


def _identity(path: Path) -> tuple[int, int]:
    """Device and inode of a file: the same for all its names, also where upper and lower case are one."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def open_video_file(source: str, folder: Path) -> VideoWriter:
    """Open the drawn video of a video, by the same name in a folder. Raises: DarkpyError, also if it is the source."""
    from darkpy.evaluation.video_writer import VideoWriter

    stem = re.sub(r"[^\w.-]+", "_", Path(source.rstrip("/")).stem) or "video"
    path = folder / f"{stem}.mp4"
    require_writable(path, overwrite=True)
    return VideoWriter(path, None)


def write_drawing(
    result: Result, path: Path, line_width: int | None = None, labels: bool = True, scores: bool = True
) -> None:
    """Draw the detections on the image, with a style as in `Result.draw`, and write it atomically.

    A PREDICTIONS_FILE, which no option asks for, that cannot be written is a warning.
    Raises: DarkpyError when it cannot be written, or is the image itself.
    """
    if result.path is not None:
        note_input(result.path)
    require_writable(path, overwrite=True)
    try:
        write_image(result.draw(line_width=line_width, labels=labels, scores=scores), path)
    except DarkpyError as error:
        if path is not PREDICTIONS_FILE or not isinstance(error.__cause__, OSError):
            raise
        console.warn(error)


def write_image(image: PIL.Image.Image, path: Path) -> None:
    """Write an image in the format of its ending, atomically. Raises: DarkpyError."""
    from PIL.PngImagePlugin import PngInfo

    stream = BytesIO()
    try:
        info = PngInfo()
        info.add_text("Software", PROGRAM_MARK)
        # as a PNG's text or a JPEG's comment; the other formats have none of them
        kind = _PILLOW_FORMATS[path.suffix.lower()]
        image.save(stream, kind, quality=JPEG_QUALITY, pnginfo=info, comment=PROGRAM_MARK)
    except (OSError, ValueError) as error:  # too large for the format
        raise DarkpyError(f"{path}: cannot be drawn: {error}") from error
    write_atomic(path, [stream.getvalue()])
