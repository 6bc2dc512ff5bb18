"""A small data set to try everything on: drawn images, their labels, and a network that learns them in a minute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from darkpy.data.augment.sampler import DarknetRandom
from darkpy.data.lists.paths import listed_folder
from darkpy.data.scenes import CLASSES, Scene, draw_scene
from darkpy.files import make_output_folder, write_atomic

SPLITS = ("train", "valid")
QUALITY = 90
_DATA = """classes={classes}
train={folder}/train.txt
valid={folder}/valid.txt
names={folder}/sample.names
backup={folder}/backup
"""
_NET = """# Learns the images of `darkpy sample`; the same in both dialects

[net]
batch=8
subdivisions=1
width=128
height=128
channels=3
# schedule
learning_rate=0.02
policy=steps
steps=1100,1400
scales=.1,.1
burn_in=100
max_batches=1500
momentum=0.9
decay=0.0005
"""
_CONVOLUTION = """
[convolutional]
batch_normalize=1
filters={}
size=3
stride=1
pad=1
activation=leaky
"""
_HALVING = """
[maxpool]
size=2
stride=2
"""
_HEAD = """
# Head at stride 16: 3 anchors x (4 coordinates + objectness + {classes} classes)
[convolutional]
filters={filters}
size=1
stride=1
pad=1
activation=linear

[yolo]
mask=0,1,2
anchors=24,24, 31,31, 42,42
num=3
classes={classes}
jitter=.2
random=0
ignore_thresh=.5
truth_thresh=1
"""
CFG = (
    _NET
    + _HALVING.join(map(_CONVOLUTION.format, (8, 16, 32, 48, 64)))
    + _HEAD.format(classes=len(CLASSES), filters=3 * (5 + len(CLASSES)))
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticConfig:
    """What `darkpy sample` draws: so many images to train on and to judge by, of size x size pixels.

    Each image follows from the seed and its own number: a larger sample begins with the images of a smaller one.
    """

    images: int
    valid: int
    size: int
    seed: int

    def scenes(self) -> Iterator[tuple[Path, Scene]]:
        """What is on each image, and where its file lies in the sample's folder."""
        for name, count in zip(SPLITS, (self.images, self.valid), strict=True):
            for number in range(count):
                yield (
                    Path(name, f"{number:05}.jpg"),
                    draw_scene(DarknetRandom(f"{self.seed}/{name}/{number}"), self.size),
                )


def write_synthetic_dataset(
    sample: SyntheticConfig, folder: Path, *, voc_xml: bool = False, overwrite: bool = False
) -> Iterator[Path]:
    """Draw the images one after the other, each with its labels beside it, then write what trains on them.

    has_xml: write VOC's XML, too.
    Returns: the paths of the images, each when it is there.
    Raises:  DarkpyError when the folder cannot be written to, is not empty and not forced, or lies where not both
             forks would find the labels.
    """
    listed = listed_folder(folder, f"{SPLITS[0]}/00000.jpg")
    make_output_folder(folder, (*SPLITS, "backup"), overwrite=overwrite)
    lists: dict[str, list[str]] = {name: [] for name in SPLITS}
    for place, scene in sample.scenes():
        path = folder / place
        stream = BytesIO()
        Image.fromarray(scene.paint().permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=QUALITY)
        write_atomic(path, [stream.getvalue()])
        _write_texts({path.with_suffix(".txt"): _label_text(scene)})
        if voc_xml:
            _write_texts({path.with_suffix(".xml"): _xml_text(path.name, scene)})
        lists[place.parts[0]].append(f"{listed}/{place.as_posix()}\n")
        yield path
    texts = {
        **{f"{name}.txt": "".join(lines) for name, lines in lists.items()},
        "sample.names": "".join(f"{name}\n" for name in CLASSES),
        "sample.cfg": CFG,
        "sample.data": _DATA.format(classes=len(CLASSES), folder=listed),
    }
    _write_texts({folder / name: text for name, text in texts.items()})


def _write_texts(texts: Mapping[Path, str]) -> None:
    for path, text in texts.items():
        write_atomic(path, [text.encode()])


def _label_text(scene: Scene) -> str:
    """`class x y w h` for each object, as fractions."""
    lines = []
    for shape in scene.shapes:
        left, top, right, bottom = shape.box_px
        numbers = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        lines.append(" ".join((str(shape.class_id), *(f"{number / scene.size:.6f}" for number in numbers))) + "\n")
    return "".join(lines)


def _xml_text(name: str, scene: Scene) -> str:
    """An annotation as in PASCAL VOC, where pixels count from 1 and all four belong to the box."""
    annotation = ElementTree.Element("annotation")
    ElementTree.SubElement(annotation, "filename").text = name
    _add(annotation, "size", {"width": scene.size, "height": scene.size, "depth": 3})
    for shape in scene.shapes:
        left, top, right, bottom = shape.box_px
        one = _add(annotation, "object", {"name": CLASSES[shape.class_id], "truncated": 0, "difficult": 0})
        _add(one, "bndbox", {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom})
    ElementTree.indent(annotation)
    return ElementTree.tostring(annotation, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, tag: str, values: Mapping[str, object]) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    for name, value in values.items():
        ElementTree.SubElement(element, name).text = str(value)
    return element
