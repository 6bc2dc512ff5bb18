"""Writer of PASCAL VOC data sets: an XML file for each image, links to the images, and lists in ImageSets/Main."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from darkpy.data.formats.annotations import AnnotatedDataset, AnnotatedImage
from darkpy.data.formats.darknet_writer import link_or_copy
from darkpy.data.formats.voc import Corners
from darkpy.data.lists.paths import printable
from darkpy.errors import DarkpyError
from darkpy.files import make_output_folder, write_atomic

VOC_DECIMALS = 10


def write_voc(
    dataset: AnnotatedDataset, folder: Path, corners: Corners, *, copy: bool = False, overwrite: bool = False
) -> Iterator[Path]:
    """Write images and their XML, then the lists.

    corners: meaning of the written numbers. copy: copy the images instead of linking to them.
    Yields: the path of each image after it and its XML are written.
    Raises: DarkpyError when the folder cannot be written or is not empty (without `overwrite`), or XML cannot hold a
        name.
    """
    for name in (*dataset.class_names(), *dataset.images):
        if not name.isprintable():
            raise DarkpyError(f"{printable(name)}: XML cannot hold this name", hint="rename the class or image")
    make_output_folder(folder, ["Annotations", "JPEGImages", "ImageSets/Main"], overwrite=overwrite)
    for key, image in dataset.images.items():
        target = folder / "JPEGImages" / f"{key}{image.file.suffix}"
        link_or_copy(image.file, target, copy)
        write_atomic(folder / "Annotations" / f"{key}.xml", [to_xml(image, target.name, corners).encode()])
        yield target
    for split, members in dataset.splits.items():
        write_atomic(folder / "ImageSets" / "Main" / f"{split}.txt", ["".join(f"{key}\n" for key in members).encode()])


def to_xml(image: AnnotatedImage, filename: str, corners: Corners) -> str:
    """Format the annotation of an image."""
    low, high = corners.offsets
    lines = [
        f"<annotation>\n<filename>{escape(filename)}</filename>",
        f"<size><width>{image.w}</width><height>{image.h}</height><depth>3</depth></size>",
    ]
    for item in image.objects:
        left, top, right, bottom = item.box
        edges = {"xmin": left + low, "ymin": top + low, "xmax": right + high, "ymax": bottom + high}
        box = "".join(
            f"<{edge}>{round(value, VOC_DECIMALS):.{VOC_DECIMALS + 4}g}</{edge}>" for edge, value in edges.items()
        )
        lines.append(
            f"<object><name>{escape(item.name)}</name><difficult>{int(item.is_difficult)}</difficult>"
            f"<bndbox>{box}</bndbox></object>"
        )
    return "\n".join([*lines, "</annotation>\n"])
