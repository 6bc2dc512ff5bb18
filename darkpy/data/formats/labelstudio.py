"""Reader of Label Studio's exports: JSON, a list of tasks with annotations; and JSON-MIN, a list of flat records."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from darkpy.data.formats.annotations import (
    AnnotatedDataset,
    AnnotatedImage,
    AnnotatedObject,
    BoxPx,
    ImageFinder,
    ImportReport,
    annotated_image,
    join_images,
)
from darkpy.data.formats.json_files import read_json, shown_value, to_pixels, to_points, to_text
from darkpy.data.formats.outlines import box_around, box_around_ellipse, box_around_rectangle, box_around_studio_mask
from darkpy.data.lists.paths import IMAGE_SUFFIXES
from darkpy.data.loading.decoding import read_image_size
from darkpy.errors import DarkpyError, ImageError

MAX_FILE_BYTES = 1 << 30
_STUDIO_HINT = "export as JSON or JSON-MIN: a list of tasks, each with data and annotations, or with labels"
_UPLOAD_PREFIX = re.compile(r"(?<![^/])[0-9a-f]{8}-(?=[^/]+$)")
"""Letters put before the name of a file that is uploaded."""
_OUTLINE_KEYS = frozenset({"height", "radiusX", "points", "rle"})
"""Keys of which a region with a size has one: of rectangles, ellipses, polygons and masks."""
_SHAPES_TO_BOXES = "regions that are not upright rectangles (rotated, polygons, ellipses, masks) become boxes"
_NO_BOX = "regions without a size (key points, classifications, texts) are left out"
_UNLABELED_REGIONS = "regions without a label are left out"
_SEVERAL_LABELS = "regions with several labels become an object of each"
_SEVERAL_ANNOTATIONS = "images have several annotations: the ground truth, or else the latest, counts"
_SKIPPED_TASKS = "tasks that were skipped are left out"
_UNANNOTATED_TASKS = "tasks without an annotation are left out; predictions are not annotations"


def read_labelstudio(file: Path, images: Path | None = None) -> AnnotatedDataset:
    """Read an export, JSON or JSON-MIN, whose images lie in a folder.

    images: folder of the images; without it they are looked for beside the file and in the folders there.
    Raises: DarkpyError with all faults, when the file is not such an export, or regions are malformed.
    """
    report = ImportReport()
    content = read_json(file, max_bytes=MAX_FILE_BYTES, hint=_STUDIO_HINT)
    tasks = [content] if isinstance(content, dict) else content
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks) or not tasks:
        raise DarkpyError(f"{file}: is not an export of Label Studio", hint=_STUDIO_HINT)
    by_address: defaultdict[str, list[_StudioAnnotation]] = defaultdict(list)
    for number, task in enumerate(tasks, start=1):
        studio_task = _StudioTask(task, f"{file}: task {shown_value(task.get('id', number))}", report)
        for address, annotation in studio_task.annotations():
            by_address[address].append(annotation)
    finder = ImageFinder([file.parent if images is None else images], report)
    annotated: dict[Path, AnnotatedImage] = {}
    missing: list[str] = []
    for address, candidates in by_address.items():
        paths = image_paths(address)
        plain = [_UPLOAD_PREFIX.sub("", path) for path in paths]
        found = next(filter(None, map(finder.find, dict.fromkeys([*paths, *plain]))), None)
        image = found if paths else finder.find_stem(unquote(address).rpartition("/")[2])
        if image is None:
            missing.append(address)
            continue
        if len(candidates) > 1:
            report.losses[_SEVERAL_ANNOTATIONS].append(candidates[0].location)
        chosen = sorted(candidates, key=lambda annotation: annotation.rank)[-1]  # of equal ones the last
        if image in annotated:
            report.faults.append(f"{chosen.location}: its image, {image}, is also that of another task")
        if made := chosen.to_image(image):
            annotated[image] = made
    report.check(_STUDIO_HINT)
    return join_images({"": annotated}, missing, report)


def image_paths(address: str) -> list[str]:
    """Return the paths that an image's address may name, the likeliest first; none without the ending of an image."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return []
    query = parts.query.removeprefix("d=")  # of local files: /data/local-files/?d=folder/a.jpg
    queried = [*parse_qs(parts.query).get("d", []), unquote(query)]
    paths = dict.fromkeys([*queried, unquote(parts.path), parts.path, unquote(address), address])
    return [path for path in paths if Path(path).suffix.lower() in IMAGE_SUFFIXES and path.isprintable()]


@dataclass(frozen=True, slots=True)
class _StudioTask:
    """Task of an export, or record of JSON-MIN, whose keys are those of the task's data and of its labels."""

    content: Mapping[str, Any]
    location: str
    report: ImportReport

    def annotations(self) -> Iterator[tuple[str, _StudioAnnotation]]:
        """Yield the annotations that count, with the addresses of their images."""
        data = self.content.get("data")
        addresses = self.addresses(data if isinstance(data, dict) else self.content)
        if not addresses:
            self.report.faults.append(f"{self.location}: names no image")
            return
        entries = self.entries() if isinstance(data, dict) else self.record()
        kept = [entry for entry in entries if not (entry.get("was_cancelled") or entry.get("skipped"))]
        if not kept:
            self.report.losses[_SKIPPED_TASKS if entries else _UNANNOTATED_TASKS].append(self.location)
        for entry in kept:
            regions = entry.get("result")
            if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
                self.report.faults.append(f"{self.location}: an annotation has the result {shown_value(regions)}")
                continue
            time = to_text(entry.get("updated_at")) or to_text(entry.get("created_at"))
            rank = (entry.get("ground_truth") is True, time)
            for index, address in enumerate(addresses):
                own = [region for region in regions if len(addresses) == 1 or region.get("item_index", 0) == index]
                yield address, _StudioAnnotation(self.location, own, rank, self.report)

    def entries(self) -> list[dict[str, Any]]:
        """Return the annotations of a task."""
        entries = self.content.get("annotations", self.content.get("completions"))  # the latter in versions before 1.0
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    def record(self) -> list[dict[str, Any]]:
        """Return the annotation of a record of JSON-MIN."""
        if self.content.get("annotation_id", 0) is None:
            return []
        lists = [value for value in self.content.values() if isinstance(value, list)]
        regions = [{"value": region} for values in lists for region in values if isinstance(region, dict)]
        return [{**self.content, "result": regions}]

    @staticmethod
    def addresses(data: Mapping[str, Any]) -> list[str]:
        """Return the addresses of a task's images: of one, or of a list of them."""
        if isinstance(image := data.get("image"), str) and image:
            return [image]
        for value in data.values():
            candidates = value if isinstance(value, list) else [value]
            if candidates and all(isinstance(entry, str) and image_paths(entry) for entry in candidates):
                return candidates
        return []


@dataclass(frozen=True, slots=True)
class _StudioAnnotation:
    """Annotation of an image. regions: results as the JSON has them. rank: the highest of an image counts."""

    location: str
    regions: Sequence[Mapping[str, Any]]
    rank: tuple[bool, str]
    report: ImportReport

    def to_image(self, path: Path) -> AnnotatedImage | None:
        """Convert the regions, which are in percent of the image as browsers show it, upright."""
        size_px: tuple[float, float] | None = None
        for region in self.regions:
            value = region.get("value")
            owner = value if isinstance(value, dict) and "original_width" in value else region
            if "original_width" in owner and size_px is None:
                size_px = to_pixels(owner.get("original_width")), to_pixels(owner.get("original_height"))
        w, h = size_px or (math.nan, math.nan)
        if not (w >= 1 and h >= 1):
            try:
                w, h = read_image_size(path)
            except ImageError as error:
                self.report.faults.append(f"{self.location}: the size of the image is unknown ({error})")
                return None
        objects = [
            item
            for number, value in enumerate(self.values(), start=1)
            for item in self.objects(value, (w, h), f"{self.location}: region {number}")
        ]
        return annotated_image(self.location, path, size_px, objects, self.report)

    def values(self) -> list[dict[str, Any]]:
        """Return the values of the regions: with <Rectangle> and <Labels> the shape and its labels have one id."""
        joined: dict[object, dict[str, Any]] = {}
        for number, region in enumerate(self.regions):
            key, value = region.get("id"), region.get("value")
            is_known = isinstance(key, str | int)
            values = value if isinstance(value, dict) else {}  # relations between regions have none
            joined[key if is_known else (number,)] = {**joined.get(key if is_known else (number,), {}), **values}
        return list(joined.values())

    def objects(
        self, value: Mapping[str, Any], size_px: tuple[float, float], location: str
    ) -> Iterator[AnnotatedObject]:
        """Yield the objects of a region; what is malformed is a fault."""
        if not _OUTLINE_KEYS & value.keys():
            self.report.losses[_NO_BOX].append(location)
            return
        lists = [entries for key, entries in value.items() if key.endswith("labels") and isinstance(entries, list)]
        labels = list(dict.fromkeys(filter(None, map(to_text, (label for entries in lists for label in entries)))))
        if not labels:
            self.report.losses[_UNLABELED_REGIONS].append(location)
            return
        try:
            box = region_box(value, size_px)
        except ValueError as error:
            self.report.faults.append(f"{location}: {error}")
            return
        if box is None:
            self.report.losses[_NO_BOX].append(location)
            return
        if "height" not in value or to_pixels(value.get("rotation", 0)):
            self.report.losses[_SHAPES_TO_BOXES].append(location)
        if len(labels) > 1:
            self.report.losses[_SEVERAL_LABELS].append(location)
        yield from (AnnotatedObject(label, box) for label in labels)


def region_box(value: Mapping[str, Any], size_px: tuple[float, float]) -> BoxPx | None:
    """Return the box around a region, in pixels; None for an empty mask. Raises: ValueError when it is malformed."""
    w_px, h_px = size_px
    if "rle" in value:
        rle = value["rle"]
        if not isinstance(rle, list) or not all(isinstance(byte, int) and 0 <= byte < 256 for byte in rle):
            raise ValueError("its mask is not a list of bytes")
        return box_around_studio_mask(bytes(rle), round(w_px), round(h_px))
    if "points" in value:
        points = to_points(value["points"])
        if not points:
            raise ValueError(f"its points are {shown_value(value['points'])}")
        return box_around((x / 100 * w_px, y / 100 * h_px) for x, y in points)
    keys = ("x", "y", "radiusX", "radiusY") if "radiusX" in value else ("x", "y", "width", "height")
    x, y, w, h, degrees = (to_pixels(value.get(key, 0 if key == "rotation" else None)) for key in (*keys, "rotation"))
    if math.isnan(x + y + w + h + degrees):
        raise ValueError(f"its {', '.join(keys)} are not four numbers")
    surround = box_around_ellipse if "radiusX" in value else box_around_rectangle
    return surround(x / 100 * w_px, y / 100 * h_px, w / 100 * w_px, h / 100 * h_px, degrees)
