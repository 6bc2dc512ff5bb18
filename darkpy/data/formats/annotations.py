"""Annotated images in the form that every reader of a format yields and every writer takes, with boxes in pixels.

A reader parses each file into objects, notes what is wrong or lost in an `ImportReport`, finds the images with an
`ImageFinder`, and lets `annotated_image` settle their sizes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from operator import mul
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from darkpy.data.lists.paths import IMAGE_SUFFIXES, find_images_below, printable
from darkpy.data.loading.decoding import layout_of_bytes, read_image_layout
from darkpy.errors import DarkpyError, ImageError
from darkpy.files import is_file

MAX_SIDE_PX = 1 << 20
MAX_SHOWN_FAULTS = 20
MAX_TRIED_FOLDERS = 16
"""Folders at the end of a path by which an image is looked for."""
_SIZE_FROM_IMAGE = "image sizes that are missing, or impossible, are taken from the image files"
_SIZE_SWAPPED = "images have the width and height of their annotation swapped: the image files decide"
_BOXES_TURNED = "images are turned by their EXIF orientation, and their boxes with them"


class BoxPx(NamedTuple):
    """Edges of a box in pixels from the image's upper left corner; integers lie between two pixels."""

    left: float
    top: float
    right: float
    bottom: float


class AnnotatedObject(NamedTuple):
    """Object as a file has it, unchecked. is_difficult: VOC's difficult or COCO's iscrowd; it need not be detected."""

    name: str
    box: BoxPx
    is_difficult: bool = False


class EmbeddedImage(NamedTuple):
    """Image inside an annotation file. path: that it would have as a file. read: decodes its file's content."""

    path: Path
    read: Callable[[], bytes]

    @property
    def suffix(self) -> str:
        return self.path.suffix


ImageFile = Path | EmbeddedImage


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """Image and its objects. Units: w, h in pixels."""

    file: ImageFile
    w: int
    h: int
    objects: tuple[AnnotatedObject, ...]


@dataclass(frozen=True, slots=True)
class AnnotatedDataset:
    """Annotated data set.

    images: by the names that `splits` use. splits: names of images by split; empty if the source has none.
    missing: names of images that do not exist. names: classes in their order, if the source defines one.
    losses: locations of what is left out or changed, by its description.
    """

    images: Mapping[str, AnnotatedImage]
    splits: Mapping[str, Sequence[str]]
    missing: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    losses: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes, in alphabetical order if the source defines none."""
        return self.names or tuple(sorted({item.name for image in self.images.values() for item in image.objects}))


class ImportReport:
    """Faults and losses of all files of a data set.

    faults: `file: what is wrong`, each of which prevents the import. losses: locations by description, for what is left
    out or changed.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.losses: defaultdict[str, list[str]] = defaultdict(list)

    def found_losses(self) -> dict[str, list[str]]:
        """Return the losses that there are."""
        return {description: locations for description, locations in self.losses.items() if locations}

    def check(self, hint: str) -> None:
        """Raises: DarkpyError with all faults (up to a readable number) when there are any."""
        if not self.faults:
            return
        faults = list(dict.fromkeys(self.faults))
        more = len(faults) - MAX_SHOWN_FAULTS
        lines = [*faults[:MAX_SHOWN_FAULTS], *([f"... and {more} more"] if more > 0 else [])]
        raise DarkpyError("\n".join(lines), hint=hint)


class ImageFinder:
    """Finds images that annotation files name, also by paths of other computers: only below its folders.

    folders: in which a path may start. A name that several images have is added to the report's faults.
    """

    def __init__(self, folders: Iterable[Path], report: ImportReport) -> None:
        self.folders = tuple(dict.fromkeys(folders))
        self._report = report
        self._images: tuple[defaultdict[str, list[Path]], defaultdict[str, list[Path]]] | None = None

    def find(self, name: str, near: Sequence[Path] = ()) -> Path | None:
        """Find an image by its path, else by the end of the path, else by its file name anywhere below the folders.

        near: folders in which the path is looked for first.
        """
        parts = path_parts(name)
        if not parts or "\0" in name or Path(parts[-1]).suffix.lower() not in IMAGE_SUFFIXES:
            return None
        starts = range(max(0, len(parts) - MAX_TRIED_FOLDERS), len(parts))
        for start, folder in product(starts, (*near, *self.folders)):
            path = folder.joinpath(*parts[start:])
            if is_file(path):
                return path
        return self._single(self._index()[0].get(parts[-1], ()), name)

    def find_stem(self, stem: str) -> Path | None:
        """Find an image by its file name without the ending."""
        return self._single(self._index()[1].get(stem, ()), stem)

    def _index(self) -> tuple[defaultdict[str, list[Path]], defaultdict[str, list[Path]]]:
        """Return the images below the folders by file name and by stem."""
        if self._images is None:
            by_name: defaultdict[str, list[Path]] = defaultdict(list)
            by_stem: defaultdict[str, list[Path]] = defaultdict(list)
            for path in dict.fromkeys(path for folder in self.folders for path in find_images_below(folder)):
                by_name[path.name].append(path)
                by_stem[path.stem].append(path)
            self._images = by_name, by_stem
        return self._images

    def _single(self, paths: Sequence[Path], name: str) -> Path | None:
        if len(paths) > 1:
            shown = f"{printable(paths[0])} and {printable(paths[1])}"
            self._report.faults.append(f"{printable(name)[:80]}: {len(paths)} images have this name, {shown}")
        return paths[0] if paths else None


def path_parts(name: str) -> tuple[str, ...]:
    """Return the folders and the file name of a path with slashes or backslashes, without `..`, root and drive."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return tuple(part for part in parts if part not in ("/", "//", "..") and not part.endswith(":"))


def unique_image_names(images: Sequence[Path]) -> dict[Path, str]:
    """Return a name for each image in one folder: its stem, or more of its path where others have the same."""
    names = {image: image.stem for image in images}
    for depth in range(2, max((len(image.parts) for image in images), default=1) + 2):
        counts = Counter(name.lower() for name in names.values())
        shared = [image for image, name in names.items() if counts[name.lower()] > 1]
        for image in shared:
            folders = [part for part in image.parts[-depth:-1] if part not in ("/", "..", "images")]
            suffix = image.suffix.replace(".", "_") if depth > len(image.parts) else ""
            names[image] = "_".join([*folders, image.stem]) + suffix
    return names


def join_images(
    splits: Mapping[str, Mapping[Path, AnnotatedImage]],
    missing: Sequence[str],
    report: ImportReport,
    names: Sequence[str] = (),
) -> AnnotatedDataset:
    """Make a data set of images by their paths. splits: one with an empty name for a source without splits."""
    images = {path: image for members in splits.values() for path, image in members.items()}
    keys = unique_image_names(list(images))
    by_key = {keys[path]: image for path, image in images.items()}
    members = {split: [keys[path] for path in paths] for split, paths in splits.items() if split and paths}
    return AnnotatedDataset(by_key, members, tuple(missing), tuple(names), report.found_losses())


def annotated_image(
    location: str,
    file: ImageFile,
    size_px: tuple[float, float] | None,
    objects: Sequence[AnnotatedObject],
    report: ImportReport,
    *,
    in_fractions: bool = False,
) -> AnnotatedImage | None:
    """Combine an annotation with its image, whose own size counts where the annotation's is missing or swapped.

    location: of the annotation, for messages. size_px: as annotated, NaN for a missing side; None in a format without
        sizes, whose boxes are those of the upright image, in fractions of it or in pixels.
    Returns: None when neither the annotation nor the image has a size, which is a fault.
    """
    is_sized = size_px is not None and all(1 <= side <= MAX_SIDE_PX for side in size_px)
    w, h = map(round, size_px) if size_px and is_sized else (0, 0)
    try:
        layout = read_image_layout(file) if isinstance(file, Path) else layout_of_bytes(file.read(), str(file.path))
    except ImageError as error:
        if isinstance(file, EmbeddedImage):
            report.faults.append(error.message)
            return None
        if is_sized:
            return AnnotatedImage(file, w, h, tuple(objects))
        if size_px is None:
            report.faults.append(f"{location}: the size of the image is unknown ({error})")
            return None
        shown = " x ".join("?" if side != side else f"{side:g}" for side in size_px)
        report.faults.append(
            f"{location}: the image's size is {shown}, and boxes cannot be scaled without it ({error})"
        )
        return None
    if size_px is None:
        if in_fractions:
            scale = (layout.w, layout.h, layout.w, layout.h)
            objects = [item._replace(box=BoxPx(*map(mul, item.box, scale))) for item in objects]
        return AnnotatedImage(file, layout.w, layout.h, tuple(objects))
    if not is_sized:
        report.losses[_SIZE_FROM_IMAGE].append(location)
    elif w == h or (w, h) != (layout.h, layout.w):
        return AnnotatedImage(file, w, h, tuple(objects))  # of a resized image, perhaps: boxes are fractions of it
    elif layout.swaps_sides:
        report.losses[_BOXES_TURNED].append(location)
        objects = [item._replace(box=BoxPx(*layout.to_upright(item.box))) for item in objects]
    else:
        report.losses[_SIZE_SWAPPED].append(location)
    return AnnotatedImage(file, layout.w, layout.h, tuple(objects))
