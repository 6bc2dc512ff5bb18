"""JSON of annotation tools from unknown sources: limited size and depth, values checked where they are used."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from darkpy.data.formats.annotations import MAX_SIDE_PX
from darkpy.errors import DarkpyError
from darkpy.files import open_regular

MAX_TEXT_LETTERS = 1000


def read_json(file: Path, *, max_bytes: int, hint: str) -> Any:
    """Read a JSON file. hint: what it should contain.

    Raises: DarkpyError when it cannot be read, is larger than `max_bytes`, or not JSON.
    """
    try:
        with open_regular(file) as stream:
            if os.fstat(stream.fileno()).st_size > max_bytes:
                raise DarkpyError(f"{file}: is larger than {max_bytes >> 20} MB, too large for a file of its kind")
            return json.loads(stream.read())
    except OSError as error:
        raise DarkpyError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DarkpyError(f"{file}: is not JSON: {error}", hint=hint) from error


def shown_value(value: object) -> str:
    """Return the start of a value, for messages."""
    return repr(value)[:40]


def to_pixels(value: object) -> float:
    """Convert a number of JSON; NaN for anything else, and for one that no image's pixels reach."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) <= MAX_SIDE_PX else math.nan  # type: ignore[arg-type]


def to_text(value: object) -> str:
    """Return a text of one printable line without blanks around it; empty for anything else."""
    is_text = isinstance(value, str) and value.isprintable() and len(value) <= MAX_TEXT_LETTERS
    return str(value).strip() if is_text else ""


def to_points(value: object) -> list[tuple[float, float]]:
    """Convert a list of x, y pairs; empty if it is anything else."""
    if not isinstance(value, list) or not all(isinstance(point, list) and len(point) == 2 for point in value):
        return []
    points = [(to_pixels(x), to_pixels(y)) for x, y in value]
    return [] if any(math.isnan(x + y) for x, y in points) else points
