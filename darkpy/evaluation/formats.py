"""What is written down about an image: each fork's lines, AlexeyAB's JSON, label files, darkpy's own records."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from darkpy.dialect import Dialect

if TYPE_CHECKING:
    from darkpy.evaluation.objects import BoxFrac, Object

HIDDEN = "dont_show"


def visible(objects: Iterable[Object]) -> tuple[Object, ...]:
    """The objects that may be shown: AlexeyAB's users hide a class by a name that begins with `dont_show`."""
    return tuple(one for one in objects if not one.name.startswith(HIDDEN))


def by_confidence(objects: Iterable[Object]) -> tuple[Object, ...]:
    return tuple(sorted(objects, key=lambda one: -one.confidence))


def left_to_right(objects: Sequence[Object]) -> tuple[Object, ...]:
    """Boxes by their left edge, the best class of each first: the order of AlexeyAB's lines."""
    boxes = sorted(_by_box(objects), key=lambda box: box[0].box_frac[0] - box[0].box_frac[2] / 2)
    return tuple(one for box in boxes for one in box)


def time_line(path: str, seconds: float, dialect: Dialect) -> str:
    """The line that darknet prints when it is done with an image."""
    if dialect is Dialect.PJREDDIE:
        return f"{path}: Predicted in {seconds:f} seconds."
    return f"{path}: Predicted in {1000 * seconds:f} milli-seconds."


def object_lines(objects: Iterable[Object], size: tuple[int, int] | None = None) -> Iterator[str]:
    """A line for each object, as darknet prints it.

    size: (w, h) of the image in pixels, for lines that tell where the box is (`-ext_output`).
    Source: pjreddie/darknet src/image.c draw_detections; AlexeyAB/darknet src/image.c draw_detections_v3
    """
    for one in objects:
        yield f"{one.name}: {100 * one.confidence:.0f}%" + ("" if size is None else _place(one.box_frac, size))


def label_lines(objects: Sequence[Object]) -> str:
    """A label file with the best class of each box.

    Source: AlexeyAB/darknet src/detector.c test_detector
    """
    best = (box[0] for box in _by_box(objects))
    return "".join(f"{one.class_id} {' '.join(f'{value:.4f}' for value in one.box_frac)}\n" for one in best)


def frame_json(frame_id: int, path: str, objects: Iterable[Object]) -> str:
    """One image of AlexeyAB's JSON.

    Source:  AlexeyAB/darknet src/network.c detection_to_json
    Differs: strings are escaped, and NaN is null.
    """
    entries = ", \n".join(map(_entry, objects))
    return f'{{\n "frame_id":{frame_id}, \n "filename":{_quoted(path)}, \n "objects": [ \n{entries}\n ] \n}}'


def frames_json(frames: Iterable[str]) -> str:
    """AlexeyAB's JSON file, from what `frame_json` makes of each image."""
    return "[\n" + ", \n".join(frames) + "\n]"


def record(path: str, size: tuple[int, int], objects: Iterable[Object]) -> dict[str, Any]:
    """What a program wants to know of an image.

    Units: box is the center form in fractions of the image, not clipped; box_px is left, top, right, bottom in whole
    pixels, clipped to the image.
    """
    return {
        "filename": path,
        "width": size[0],
        "height": size[1],
        "objects": [
            {
                "class_id": one.class_id,
                "name": one.name,
                "confidence": _rounded(one.confidence),
                "box": dict(zip("xywh", map(_rounded, one.box_frac), strict=True)),
                "box_px": _edges_px(one.box_frac, size),
            }
            for one in objects
        ],
    }


def array_json(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The text of a JSON array, line by line as the records come; the comma stands before a record, not behind."""
    yield "[\n"
    for place, one in enumerate(records):
        yield f"{',' if place else ''}{json.dumps(one, allow_nan=False)}\n"
    yield "]\n"


def _by_box(objects: Sequence[Object]) -> Iterator[tuple[Object, ...]]:
    """What each box shows, its best class first; boxes in detection order."""
    for _, box in groupby(objects, key=lambda one: one.box_frac):
        yield by_confidence(box)


def _place(box_frac: BoxFrac, size: tuple[int, int]) -> str:
    x, y, w, h = box_frac
    numbers = ((x - w / 2) * size[0], (y - h / 2) * size[1], w * size[0], h * size[1])
    left, top, width, height = (f"{_round_half_away(number):4.0f}" for number in numbers)
    return f"\t(left_x: {left}   top_y: {top}   width: {width}   height: {height})"


def _round_half_away(number: float) -> float:
    """C's round; Python's own goes to the even neighbor."""
    return math.copysign(math.floor(abs(number) + 0.5), number) if math.isfinite(number) else number


def _edges_px(box_frac: BoxFrac, size: tuple[int, int]) -> list[int] | None:
    x, y, w, h = box_frac
    if not all(map(math.isfinite, box_frac)):
        return None
    edges = ((x - w / 2, size[0]), (y - h / 2, size[1]), (x + w / 2, size[0]), (y + h / 2, size[1]))
    return [min(max(round(edge * pixels), 0), pixels) for edge, pixels in edges]


def _entry(one: Object) -> str:
    x, y, w, h, confidence = map(_six_decimals, (*one.box_frac, one.confidence))
    place = f'{{"center_x":{x}, "center_y":{y}, "width":{w}, "height":{h}}}'
    told = f'"class_id":{one.class_id}, "name":{_quoted(one.name)}, "relative_coordinates":{place}'
    return f'  {{{told}, "confidence":{confidence}}}'


def _six_decimals(number: float) -> str:
    return f"{number:f}" if math.isfinite(number) else "null"


def _rounded(number: float) -> float | None:
    return round(number, 6) if math.isfinite(number) else None


def _quoted(text: str) -> str:
    """A JSON string; letters stay as they are, except the halves that stand for bytes of no known encoding."""
    return json.dumps(text, ensure_ascii=not text.isprintable())
