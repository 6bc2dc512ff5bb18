"""Image paths from standard input, and drawings of detections."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli.options import require_writable
from darkpy.errors import DarkpyError
from darkpy.files import ENCODING_HINT, write_atomic

if TYPE_CHECKING:
    from darkpy.evaluation.detect import DetectResult

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


def ask_paths() -> Iterator[str]:
    """Yield image paths from standard input, one per line, prompting for each on demand.

    Raises:  DarkpyError when standard input is closed, as in a service.
    Differs: darknet prints its prompt on standard output, among the results.
    """
    if sys.stdin is None:
        raise DarkpyError("no image given, and standard input is closed", hint="name images after the weights")
    while True:
        click.echo("Enter Image Path: ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            click.echo(err=True)
            return
        if "\0" in line:
            raise DarkpyError("standard input: is UTF-16 text or binary", hint=ENCODING_HINT)
        if path := line.removeprefix("\ufeff").strip():
            yield path


def drawing_path(source: str | Path, folder: Path) -> Path:
    """Path of an image's drawing: the same name, plus .jpg for formats that cannot be written."""
    name = Path(source).name
    return folder / (name if Path(name).suffix.lower() in _PILLOW_FORMATS else f"{name}.jpg")


def open_folder(folder: Path, sources: Iterable[Path]) -> None:
    """Create the folder for drawings. Raises: DarkpyError when a drawing would replace an input or another drawing."""
    if folder.suffix == ".json":
        hint = "--json prints JSON; darkpy detector test -out FILE writes AlexeyAB's"
        raise DarkpyError(f"--out {folder}: must be a folder for drawings", hint=hint)
    targets = {source: drawing_path(source, folder) for source in sources}
    for source, target in targets.items():
        require_writable(target, source, overwrite=True)
    for target, count in Counter(targets.values()).most_common(1):
        if count > 1:
            hint = "draw them into different folders"
            raise DarkpyError(f"{target}: {count} images have this name", hint=hint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DarkpyError(f"--out {folder}: {error.strerror}") from error


def write_drawing(result: DetectResult, path: Path) -> None:
    """Draw the detections on the image and write it atomically.

    Raises: DarkpyError when it cannot be written, or is the image itself.
    """
    from darkpy.evaluation.draw import draw

    assert result.image is not None
    require_writable(path, result.path, overwrite=True)
    pixels_HWC = result.image.pixels_HWC
    pixels_HW3 = pixels_HWC.repeat(3 // pixels_HWC.shape[2], axis=2)
    stream = BytesIO()
    try:
        draw(pixels_HW3, result.objects).save(stream, _PILLOW_FORMATS[path.suffix.lower()], quality=JPEG_QUALITY)
    except (OSError, ValueError) as error:  # too large for the format
        raise DarkpyError(f"{path}: cannot be drawn: {error}") from error
    write_atomic(path, [stream.getvalue()])
