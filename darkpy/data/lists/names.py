"""What classes are called: `.names` files, and the two lists that most published networks were trained with."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

from darkpy.data.lists.text_files import read_lines
from darkpy.errors import DarkpyError, DarkpyWarning


def _split(listing: str) -> tuple[str, ...]:
    return tuple(" ".join(listing.split()).split(", "))


COCO = _split("""
person, bicycle, car, motorbike, aeroplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, sofa, pottedplant, bed, diningtable, toilet, tvmonitor, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
""")

VOC = _split("""
aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike, person,
pottedplant, sheep, sofa, train, tvmonitor
""")

_NO_COCO_CLASS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = tuple(number for number in range(1, 91) if number not in _NO_COCO_CLASS)
"""The number in COCO's own files of each of the 80 classes."""
_RENAMED = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "tvmonitor": "tv",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
}
COCO_OWN = tuple(_RENAMED.get(name, name) for name in COCO)
"""What they are called there; darknet has VOC's names for some."""

_KNOWN = {len(COCO): COCO, len(VOC): VOC}


def read_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The lines of a `.names` file.

    Raises:  DarkpyError when the file cannot be read, is empty or no text.
    Differs: carriage returns and blank lines at the end do not count; for darknet the latter are classes.
    """
    return tuple(read_lines(path, hint="in a file of names, line 1 is the name of class 0, and so on"))


def names_for(class_count: int, file: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """A name for each class of a network.

    file: a `.names` file; without one 80 classes are COCO's, 20 are VOC's, others are called by their numbers.
    Raises: DarkpyError when there are fewer names than classes.
    """
    if file is not None:
        return _checked(read_names(file), class_count, os.fspath(file))
    if class_count in _KNOWN:
        return _KNOWN[class_count]
    _warn(f"nothing says what the {class_count} classes are called: they go by their numbers")
    return tuple(map(str, range(class_count)))


def _checked(names: Sequence[str], class_count: int, file: str) -> tuple[str, ...]:
    told = f"{file}: holds {len(names)} names, the network has {class_count} classes"
    if len(names) < class_count:
        raise DarkpyError(told, hint="give the names that the network was trained with, one a line")
    if len(names) > class_count:
        _warn(f"{told}; the last {len(names) - class_count} are not used")
    return tuple(names[:class_count])


def _warn(message: str) -> None:
    warnings.warn(message, DarkpyWarning, stacklevel=3)
