"""Output formats of detections on an image: darknet's lines, AlexeyAB's JSON, label files, darkpy's own JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.finding import printable

if TYPE_CHECKING:
    from darkpy.evaluation.counting import RegionCount
    from darkpy.evaluation.result import BoxFrac, Object

HIDDEN_CLASS_PREFIX = "dont_show"


def visible(objects: Iterable[Object]) -> tuple[Object, ...]:
    """Drop the objects of classes whose name begins with `dont_show`, as AlexeyAB's program does."""
    return tuple(detected for detected in objects if not detected.name.startswith(HIDDEN_CLASS_PREFIX))


def by_confidence(objects: Iterable[Object]) -> tuple[Object, ...]:
    """Sort objects, the highest confidence first."""
    return tuple(sorted(objects, key=lambda detected: -detected.confidence))


def left_to_right(objects: Sequence[Object]) -> tuple[Object, ...]:
    """Sort boxes by their left edge, the best class of each first: the order of AlexeyAB's lines."""
    boxes = sorted(_by_box(objects), key=lambda box: box[0].box_frac[0] - box[0].box_frac[2] / 2)
    return tuple(detected for box in boxes for detected in box)


def time_line(path: str, seconds: float, dialect: Dialect) -> str:
    """The line that darknet prints when it is done with an image."""
    path = printable(path)
    if dialect is Dialect.PJREDDIE:
        return f"{path}: Predicted in {seconds:f} seconds."
    return f"{path}: Predicted in {1000 * seconds:f} milli-seconds."


def object_lines(objects: Iterable[Object], size: tuple[int, int] | None = None) -> Iterator[str]:
    """Yield a line for each object, as darknet prints it.

    size: (w, h) of the image in pixels, for lines with the box (`-ext_output`).
    Source: pjreddie/darknet src/image.c draw_detections; AlexeyAB/darknet src/image.c draw_detections_v3
    """
    for detected in objects:
        line = f"{detected.label}: {100 * detected.confidence:.0f}%"
        if size is not None:
            x, y, w, h = detected.box_frac
            values = ((x - w / 2) * size[0], (y - h / 2) * size[1], w * size[0], h * size[1])
            left, top, width, height = (f"{_c_round(value):4.0f}" for value in values)
            line += f"\t(left_x: {left}   top_y: {top}   width: {width}   height: {height})"
        yield line


def label_lines(objects: Sequence[Object]) -> str:
    """A label file with the best class of each box.

    Source: AlexeyAB/darknet src/detector.c test_detector
    """
    by_box: dict[BoxFrac, Object] = {}
    for detected in by_confidence(objects):
        by_box.setdefault(detected.box_frac, detected)
    best = [detected for detected in objects if by_box[detected.box_frac] is detected]
    return "".join(
        f"{detected.class_id} {' '.join(f'{value:.4f}' for value in detected.box_frac)}\n" for detected in best
    )


def frame_json(frame_id: int, path: str | None, objects: Iterable[Object], counts: Sequence[RegionCount] = ()) -> str:
    """One image of AlexeyAB's JSON.

    path: None for a video's frame, which has no file name there. counts: of lines and zones, which are not in his.
    Source:  AlexeyAB/darknet src/network.c detection_to_json
    Differs: strings are escaped, and NaN is null.
    """
    entries = []
    for detected in objects:
        values = (*detected.box_frac, detected.confidence)
        x, y, w, h, confidence = (f"{value:f}" if math.isfinite(value) else "null" for value in values)
        box = f'{{"center_x":{x}, "center_y":{y}, "width":{w}, "height":{h}}}'
        track = "" if detected.track_id is None else f', "track_id":{detected.track_id}'
        entries.append(
            f'  {{"class_id":{detected.class_id}, "name":{_quoted(detected.name)}, "relative_coordinates":{box}, '
            f'"confidence":{confidence}{track}}}'
        )
    objects_text = ", \n".join(entries)
    file_line = "" if path is None else f' "filename":{_quoted(path)}, \n'
    count_line = f', \n "counts":{json.dumps([count.to_dict() for count in counts])}' if counts else ""
    return f'{{\n "frame_id":{frame_id}, \n{file_line} "objects": [ \n{objects_text}\n ]{count_line} \n}}'


def frames_json(frames: Iterable[str]) -> str:
    """AlexeyAB's JSON file, from the texts that `frame_json` makes of each image."""
    return "[\n" + ", \n".join(frames) + "\n]"


def image_record(path: str, size: tuple[int, int], objects: Iterable[Object]) -> dict[str, Any]:
    """The JSON object of an image, for programs.

    Units: box is the center form in fractions of the image, not clipped; box_px is left, top, right, bottom in whole
    pixels, clipped to the image.
    """
    return {
        "filename": path,
        "width": size[0],
        "height": size[1],
        "objects": [
            {
                "class_id": detected.class_id,
                "name": detected.name,
                "confidence": rounded(detected.confidence),
                "box": dict(zip("xywh", map(rounded, detected.box_frac), strict=True)),
                "box_px": _edges_px(detected.box_frac, size),
                **({} if detected.track_id is None else {"track_id": detected.track_id}),
            }
            for detected in objects
        ],
    }


def rounded(value: float) -> float | None:
    """Round to 6 digits for JSON, which has no NaN and no infinite numbers: these become None."""
    return round(value, 6) if math.isfinite(value) else None


def array_json(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the text of a JSON array line by line; each comma precedes its record, so that no look-ahead is needed.

    An error or Ctrl-C behind some records ends the array before it is raised: these are valid JSON.
    """
    yield "[\n"
    try:
        for index, record in enumerate(records):
            yield f"{',' if index else ''}{json.dumps(record, allow_nan=False)}\n"
    except (DarkpyError, KeyboardInterrupt):
        yield "]\n"
        raise
    yield "]\n"


def _by_box(objects: Sequence[Object]) -> Iterator[tuple[Object, ...]]:
    """Group the classes of each box, the best one first; boxes in detection order."""
    for _, box in groupby(objects, key=lambda detected: detected.box_frac):
        yield by_confidence(box)


def _c_round(value: float) -> float:
    """C's round, which takes halves away from zero; Python's goes to the even neighbor."""
    return math.copysign(math.floor(abs(value) + 0.5), value) if math.isfinite(value) else value


def _edges_px(box_frac: BoxFrac, size: tuple[int, int]) -> list[int] | None:
    x, y, w, h = box_frac
    if not all(map(math.isfinite, box_frac)):
        return None
    edges = ((x - w / 2, size[0]), (y - h / 2, size[1]), (x + w / 2, size[0]), (y + h / 2, size[1]))
    return [min(max(round(edge * pixels), 0), pixels) for edge, pixels in edges]


def _quoted(text: str) -> str:
    """A JSON string; letters stay as they are, except the surrogates that stand for undecodable bytes."""
    return json.dumps(text, ensure_ascii=not text.isprintable())
