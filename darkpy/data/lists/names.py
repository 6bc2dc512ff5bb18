"""Class names: `.names` files, and the names of COCO and VOC."""

from __future__ import annotations

import os
import warnings

from darkpy.data.lists.text_files import read_lines
from darkpy.errors import DarkpyError, DarkpyWarning


def _split(listing: str) -> tuple[str, ...]:
    return tuple(" ".join(listing.split()).split(", "))


COCO_NAMES = _split("""
person, bicycle, car, motorbike, aeroplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, sofa, pottedplant, bed, diningtable, toilet, tvmonitor, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
""")

VOC_NAMES = _split("""
aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike, person,
pottedplant, sheep, sofa, train, tvmonitor
""")

_NO_COCO_CLASS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = tuple(number for number in range(1, 91) if number not in _NO_COCO_CLASS)
"""Category id of each of the 80 classes in COCO's own files."""
_COCO_NAME_OF = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "tvmonitor": "tv",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
}
COCO_ORIGINAL_NAMES = tuple(_COCO_NAME_OF.get(name, name) for name in COCO_NAMES)
"""Names in COCO's own files; darknet uses VOC's names for some classes."""

_NAMES_BY_COUNT = {len(COCO_NAMES): COCO_NAMES, len(VOC_NAMES): VOC_NAMES}


def read_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read a `.names` file, one class name on a line.

    Raises:  DarkpyError when the file cannot be read, is empty or not text.
    Differs: carriage returns and blank lines at the end are ignored; in darknet the latter are classes.
    """
    return tuple(read_lines(path, hint="in a file of names, line 1 is the name of class 0, and so on"))


def names_for(class_count: int, file: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Return a name for each class of a network.

    file: a `.names` file; without one, 80 classes are COCO's, 20 are VOC's, others are named by their numbers.
    Raises: DarkpyError when there are fewer names than classes.
    """
    if file is not None:
        names = read_names(file)
        message = f"{os.fspath(file)}: holds {len(names)} names, the network has {class_count} classes"
        if len(names) < class_count:
            raise DarkpyError(message, hint="give the names that the network was trained with, one on a line")
        if len(names) > class_count:
            extra = len(names) - class_count
            warnings.warn(f"{message}; the last {extra} are not used", DarkpyWarning, stacklevel=2)
        return names[:class_count]
    if class_count in _NAMES_BY_COUNT:
        return _NAMES_BY_COUNT[class_count]
    message = f"no names are given for the {class_count} classes: their numbers are shown"
    warnings.warn(message, DarkpyWarning, stacklevel=2)
    return tuple(map(str, range(class_count)))
