"""Synthetic data set for trying darkpy: drawn images, their labels, and a network that learns them in a minute.

An image shows plain shapes on a texture, drawn at random, so that every box is known to the pixel.

Letters: 3 colors of 0..255, H W rows and columns of a square image, M candidate colors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from darkpy.data.augment.sampler import DarknetRandom
from darkpy.data.lists.paths import listed_folder
from darkpy.files import make_output_folder, write_atomic

SPLIT_NAMES = ("train", "valid")
SHAPES_PER_IMAGE = (2, 7)
RADIUS_FRAC = (0.08, 0.18)
"""Smallest and largest radius of a shape, as a fraction of the image's side."""
CORNER_RADII = 1.2
"""Largest distance of a shape's corners from its center, in radii."""
MAX_COVERED = 0.05
"""Largest part of a shape that another shape may cover."""
MAX_TRIES = 50
GRAIN_SIGMA = 6.0
"""Standard deviation of the noise of a pixel."""
TEXTURE_CONTRAST = 48.0
"""Largest difference of a texture's two colors from their common mean, in each channel."""
JPEG_QUALITY = 90


SHAPE_OUTLINES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": lambda u, v: torch.hypot(u, v) - 1,
    "square": lambda u, v: torch.maximum(u.abs(), v.abs()) - 0.84,
    "triangle": lambda u, v: torch.maximum(v, (math.sqrt(3) * u.abs() - v) / 2) - 0.6,
    "cross": lambda u, v: torch.maximum(torch.maximum(u.abs(), v.abs()) - 1.05, torch.minimum(u.abs(), v.abs()) - 0.3),
}
"""Classes, each with the signed distance of (u, v) from its edge, below 0 inside. Units: radii, from the center."""
CLASS_NAMES = tuple(SHAPE_OUTLINES)

_DATA_TEXT = """classes={classes}
train={folder}/train.txt
valid={folder}/valid.txt
names={folder}/sample.names
backup={folder}/backup
"""
_CFG_NET = """# Learns the images of `darkpy sample`; the same in both dialects

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
_CFG_CONVOLUTION = """
[convolutional]
batch_normalize=1
filters={}
size=3
stride=1
pad=1
activation=leaky
"""
_CFG_MAXPOOL = """
[maxpool]
size=2
stride=2
"""
_CFG_HEAD = """
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
CFG_TEXT = (
    _CFG_NET
    + _CFG_MAXPOOL.join(map(_CFG_CONVOLUTION.format, (8, 16, 32, 48, 64)))
    + _CFG_HEAD.format(classes=len(CLASS_NAMES), filters=3 * (5 + len(CLASS_NAMES)))
)


class PixelBox(NamedTuple):
    """Box in whole pixels; right and bottom are the first pixels outside it."""

    left: int
    top: int
    right: int
    bottom: int


class DrawnShape(NamedTuple):
    """Object of an image: its class, its color, and the share of each pixel that it covers, 0..1."""

    class_id: int
    color_3: Tensor
    cover_HW: Tensor

    @property
    def box_px(self) -> PixelBox:
        """Tight box around the pixels of which the shape covers half or more."""
        row_N, column_N = torch.nonzero(self.cover_HW >= 0.5, as_tuple=True)
        return PixelBox(int(column_N.min()), int(row_N.min()), int(column_N.max()) + 1, int(row_N.max()) + 1)

    def overlaps(self, other: DrawnShape) -> bool:
        """True if the two shapes share more than MAX_COVERED of the smaller one."""
        shared = torch.minimum(self.cover_HW, other.cover_HW).sum()
        return bool(shared > MAX_COVERED * torch.minimum(self.cover_HW.sum(), other.cover_HW.sum()))


class Scene(NamedTuple):
    """Content of an image, the lowest shape first. Shapes: ground and grain (3, H, W)."""

    ground_3HW: Tensor
    grain_3HW: Tensor
    shapes: tuple[DrawnShape, ...]

    @property
    def size(self) -> int:
        """Side of the image in pixels."""
        return self.ground_3HW.shape[2]

    def paint(self) -> Tensor:
        """Render the image. Shapes: (3, H, W) uint8."""
        painted_3HW = self.ground_3HW
        for shape in self.shapes:
            painted_3HW = painted_3HW.lerp(shape.color_3[:, None, None].expand_as(painted_3HW), shape.cover_HW)
        return (painted_3HW + self.grain_3HW).round().clamp(0, 255).byte()


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticConfig:
    """Number of training and validation images, their side in pixels, and the seed.

    Each image follows from the seed and its own index: a larger data set begins with the images of a smaller one.
    """

    images: int
    valid: int
    size: int
    seed: int

    def scenes(self) -> Iterator[tuple[Path, Scene]]:
        """Yield the path of each image in the data set's folder, and its content."""
        for split, count in zip(SPLIT_NAMES, (self.images, self.valid), strict=True):
            for index in range(count):
                scene = draw_scene(DarknetRandom(f"{self.seed}/{split}/{index}"), self.size)
                yield Path(split, f"{index:05}.jpg"), scene


def write_synthetic_dataset(
    config: SyntheticConfig, folder: Path, *, voc_xml: bool = False, overwrite: bool = False
) -> Iterator[Path]:
    """Draw the images with a label file beside each, then write lists, names, `.data` file and cfg.

    voc_xml: write VOC annotations too.
    Yields:  the path of each image after it is written.
    Raises:  DarkpyError when the folder cannot be written, is not empty (without `overwrite`), or has a path under
             which one of the two darknets would not find the labels.
    """
    listed = listed_folder(folder, f"{SPLIT_NAMES[0]}/00000.jpg")
    make_output_folder(folder, (*SPLIT_NAMES, "backup"), overwrite=overwrite)
    lists: dict[str, list[str]] = {split: [] for split in SPLIT_NAMES}
    for relative_path, scene in config.scenes():
        path = folder / relative_path
        stream = BytesIO()
        Image.fromarray(scene.paint().permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=JPEG_QUALITY)
        write_atomic(path, [stream.getvalue()])
        lines = []  # `class x y w h` of each object, as fractions of the image
        for shape in scene.shapes:
            left, top, right, bottom = shape.box_px
            box = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
            lines.append(" ".join((str(shape.class_id), *(f"{value / scene.size:.6f}" for value in box))) + "\n")
        write_atomic(path.with_suffix(".txt"), ["".join(lines).encode()])
        if voc_xml:
            write_atomic(path.with_suffix(".xml"), [_xml_text(path.name, scene).encode()])
        lists[relative_path.parts[0]].append(f"{listed}/{relative_path.as_posix()}\n")
        yield path
    texts = {
        **{f"{split}.txt": "".join(images) for split, images in lists.items()},
        "sample.names": "".join(f"{name}\n" for name in CLASS_NAMES),
        "sample.cfg": CFG_TEXT,
        "sample.data": _DATA_TEXT.format(classes=len(CLASS_NAMES), folder=listed),
    }
    for name, text in texts.items():
        write_atomic(folder / name, [text.encode()])


def draw_scene(rng: DarknetRandom, size: int) -> Scene:
    """Draw a texture of two similar colors, and shapes of other colors that lie inside and hardly overlap."""
    mean_13 = _draw_colors(rng, 1)
    ends_23 = mean_13 + torch.tensor([rng.uniform(-TEXTURE_CONTRAST, TEXTURE_CONTRAST) for _ in range(6)]).view(2, 3)
    mix_HW = rng.choice(TEXTURE_PAINTERS)(rng, size)
    ground_3HW = ends_23[0, :, None, None].lerp(ends_23[1, :, None, None], mix_HW)
    grain_3HW = GRAIN_SIGMA * torch.randn(3, size, size, generator=_torch_generator(rng))
    shapes: list[DrawnShape] = []
    count = rng.rand_int(*SHAPES_PER_IMAGE)
    for _ in range(MAX_TRIES):
        shape = _draw_shape(rng, size, ends_23)
        if not any(map(shape.overlaps, shapes)):
            shapes.append(shape)
        if len(shapes) == count:
            break
    return Scene(ground_3HW, grain_3HW, tuple(shapes))


def _draw_shape(rng: DarknetRandom, size: int, ends_23: Tensor) -> DrawnShape:
    """Draw a shape inside the image, of the candidate color that is farthest from every mix of two ground colors."""
    colors_M3 = _draw_colors(rng, 4)
    # distance of each candidate from the segment between the ground colors: the mixes are its points
    line_3 = ends_23[1] - ends_23[0]
    share_M1 = ((colors_M3 - ends_23[0]) @ line_3 / (line_3 @ line_3)).clamp(0, 1)[:, None]
    contrast_M = (colors_M3 - ends_23[0] - share_M1 * line_3).norm(dim=1)

    class_id = rng.randrange(len(CLASS_NAMES))
    radius = size * rng.uniform(*RADIUS_FRAC)
    margin = CORNER_RADII * radius + 1  # 1 pixel for the soft edge
    x, y = (rng.uniform(margin, size - margin) for _ in range(2))
    pixel = torch.arange(size) + 0.5
    u_HW, v_HW = _rotated_grid(rng, (pixel - x) / radius, (pixel - y) / radius)
    # anti-aliasing: coverage falls from 1 to 0 within one pixel across the edge
    cover_HW = (0.5 - radius * SHAPE_OUTLINES[CLASS_NAMES[class_id]](u_HW, v_HW)).clamp(0, 1)
    return DrawnShape(class_id, colors_M3[contrast_M.argmax()], cover_HW)


def _draw_clouds(rng: DarknetRandom, size: int) -> Tensor:
    cells = rng.rand_int(4, 16)
    cells_11HW = torch.rand(1, 1, cells, cells, generator=_torch_generator(rng))
    return functional.interpolate(cells_11HW, (size, size), mode="bicubic")[0, 0].clamp(0, 1)


def _draw_gradient(rng: DarknetRandom, size: int) -> Tensor:
    along_HW = _draw_ramp(rng, size)
    return (along_HW - along_HW.min()) / (along_HW.max() - along_HW.min())


def _draw_stripes(rng: DarknetRandom, size: int) -> Tensor:
    phase_HW = rng.uniform(4, 16) * _draw_ramp(rng, size) + rng.random()
    return (0.5 + rng.uniform(0.5, 3) * torch.sin(2 * math.pi * phase_HW)).clamp(0, 1)


TEXTURE_PAINTERS: Sequence[Callable[[DarknetRandom, int], Tensor]] = (_draw_clouds, _draw_gradient, _draw_stripes)
"""Each draws the share of the second ground color in every pixel, 0..1."""


def _draw_ramp(rng: DarknetRandom, size: int) -> Tensor:
    """Coordinates along a random direction, in sides of the image. Shapes: (H, W)."""
    coordinate = torch.arange(size) / size
    return _rotated_grid(rng, coordinate, coordinate)[0]


def _rotated_grid(rng: DarknetRandom, x_W: Tensor, y_H: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of a grid in axes that are rotated at random. Shapes: both (H, W)."""
    angle = rng.uniform(0, 2 * math.pi)
    cos, sin, y_H1 = math.cos(angle), math.sin(angle), y_H[:, None]
    return cos * x_W + sin * y_H1, cos * y_H1 - sin * x_W


def _draw_colors(rng: DarknetRandom, count: int) -> Tensor:
    return torch.tensor([rng.uniform(0, 255) for _ in range(3 * count)]).view(count, 3)


def _torch_generator(rng: DarknetRandom) -> torch.Generator:
    return torch.Generator().manual_seed(rng.getrandbits(63))


def _xml_text(name: str, scene: Scene) -> str:
    """Format a VOC annotation, in which pixels count from 1 and all four edges belong to the box."""
    annotation = ElementTree.Element("annotation")
    ElementTree.SubElement(annotation, "filename").text = name
    _add(annotation, "size", {"width": scene.size, "height": scene.size, "depth": 3})
    for shape in scene.shapes:
        left, top, right, bottom = shape.box_px
        entry = _add(annotation, "object", {"name": CLASS_NAMES[shape.class_id], "truncated": 0, "difficult": 0})
        _add(entry, "bndbox", {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom})
    ElementTree.indent(annotation)
    return ElementTree.tostring(annotation, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, tag: str, values: Mapping[str, object]) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    for name, value in values.items():
        ElementTree.SubElement(element, name).text = str(value)
    return element
