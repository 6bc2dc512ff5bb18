"""Detections on one image: `Result` holds them as arrays, `Object` one of them as plain Python values.

Legend: N detections, one for each class of a box; M boxes, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from darkpy.config.schema import nearest
from darkpy.data.lists.paths import label_path
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ImageError
from darkpy.evaluation import formats
from darkpy.evaluation.draw import draw
from darkpy.evaluation.formats import HIDDEN_CLASS_PREFIX
from darkpy.files import write_atomic
from darkpy.ops.boxes import Detections
from darkpy.sources.frames import Frame

if TYPE_CHECKING:
    from darkpy.evaluation.counting import RegionCount

MAX_LINE_WIDTH_PX = 100

BoxFrac = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Object:
    """One class of one box: one line of darknet's output, one entry of its JSON.

    track_id: the same for an object from frame to frame; None where objects are not followed.
    Units:   box_frac is (x, y, w, h) in center form, fractions of the image, not clipped.
    """

    class_id: int
    name: str
    confidence: float
    box_frac: BoxFrac
    track_id: int | None = None

    @property
    def label(self) -> str:
        """Name, and the number of the track if there is one."""
        return self.name if self.track_id is None else f"{self.name} #{self.track_id}"


def to_objects(detections: Detections, image: int, names: Sequence[str], thresh: float) -> list[Object]:
    """Return one object for each class above thresh of each box of an image.

    Returns: boxes in detection order, the classes of a box by number.
    Raises:  DarkpyError when a class has no name.
    """
    return list(to_result(detections, image, names, thresh, Frame()).objects)


def to_result(
    detections: Detections,
    image: int,
    names: Sequence[str],
    thresh: float,
    frame: Frame,
    size: tuple[int, int] = (0, 0),
    dialect: Dialect = Dialect.PJREDDIE,
) -> Result:
    """Return the result of an image: boxes in detection order, the classes of a box by number.

    Raises: DarkpyError when a class has no name.
    """
    of_image = detections.of(image)
    classes = of_image.prob_MK.shape[1]
    if classes > len(names):
        raise DarkpyError(
            f"the network has {classes} classes, the list of names has {len(names)}",
            hint="give the names file the network was trained with (names= in the .data file)",
        )
    box_N, class_N = torch.nonzero(of_image.prob_MK > thresh, as_tuple=True)
    return Result(
        source=frame,
        size=size,
        boxes_frac=of_image.boxes_M4[box_N].float().numpy(),
        scores=of_image.prob_MK[box_N, class_N].float().numpy(),
        class_ids=class_N.numpy(),
        class_names=tuple(names),
        dialect=dialect,
    )


def _no_boxes() -> NDArray[np.float32]:
    return np.empty((0, 4), np.float32)


def _no_scores() -> NDArray[np.float32]:
    return np.empty(0, np.float32)


def _no_ids() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Result:
    """Detections on one image, the highest score first, or the reason why it could not be read (`error`).

    A box has one detection for each class above the threshold. `len`, iteration and indexing go over the detections: an
    index gives an `Object`, a slice, mask or array of indices another Result.

    size: (w, h) of the image in pixels. class_names: of all classes of the network; `names` has one per detection.
    track_ids: one per detection where objects are followed, else None. counts: of `ObjectCounter`.
    Shapes:  boxes_frac (N, 4) center form; scores, class_ids (N,).
    Units:   boxes_frac in fractions of the image. Boxes are not clipped to the image, as in darknet.
    """

    source: Frame
    size: tuple[int, int] = (0, 0)
    boxes_frac: NDArray[np.float32] = field(default_factory=_no_boxes)
    scores: NDArray[np.float32] = field(default_factory=_no_scores)
    class_ids: NDArray[np.int64] = field(default_factory=_no_ids)
    class_names: tuple[str, ...] = ()
    track_ids: NDArray[np.int64] | None = None
    counts: tuple[RegionCount, ...] = ()
    dialect: Dialect = Dialect.PJREDDIE
    error: ImageError | None = None

    @property
    def path(self) -> str:
        """Path of the image or the video, as it was given; empty for an image in memory."""
        return self.source.path

    @property
    def frame(self) -> int:
        """Position in the source, or the number of the video's frame, from 0."""
        return self.source.index

    @property
    def time(self) -> float | None:
        """Seconds since the start of a video; None for images."""
        return self.source.time_s

    @property
    def boxes(self) -> NDArray[np.float32]:
        """Left, top, right and bottom edges in pixels, (N, 4); not clipped to the image."""
        center_N2, size_N2 = np.hsplit(self.boxes_frac.astype(np.float64), 2)
        edges_N4 = np.hstack((center_N2 - size_N2 / 2, center_N2 + size_N2 / 2)) * (*self.size, *self.size)
        return edges_N4.astype(np.float32)

    @property
    def names(self) -> tuple[str, ...]:
        """Class name of each detection."""
        return tuple(self.class_names[class_id] for class_id in self.class_ids.tolist())

    @property
    def objects(self) -> tuple[Object, ...]:
        """Detections as plain Python values."""
        track_ids = [None] * len(self) if self.track_ids is None else self.track_ids.tolist()
        columns = (self.class_ids.tolist(), self.names, self.scores.tolist(), self.boxes_frac.tolist(), track_ids)
        return tuple(
            Object(class_id, name, score, (x, y, w, h), track_id)
            for class_id, name, score, (x, y, w, h), track_id in zip(*columns, strict=True)
        )

    @property
    def image(self) -> NDArray[np.uint8]:
        """Pixels, (H, W, 3) RGB, gray if the network is; a file is decoded again if its pixels were released.

        Raises: ImageError when the image could not be read, or the pixels of a generator's image were released.
        """
        if self.error is not None:
            raise self.error
        pixels_HWC = self.source.load().pixels_HWC
        return pixels_HWC if pixels_HWC.shape[2] == 3 else pixels_HWC.repeat(3, axis=2)

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Object]:
        return iter(self.objects)

    @overload
    def __getitem__(self, index: int) -> Object: ...

    @overload
    def __getitem__(self, index: slice | NDArray[Any] | list[int] | list[bool]) -> Result: ...

    def __getitem__(self, index: int | slice | NDArray[Any] | list[int] | list[bool]) -> Object | Result:
        if isinstance(index, int | np.integer):
            return self.objects[int(index)]
        if isinstance(index, list):
            index = np.array(index, bool if index and isinstance(index[0], bool) else np.int64)
        return replace(
            self,
            boxes_frac=self.boxes_frac[index],
            scores=self.scores[index],
            class_ids=self.class_ids[index],
            track_ids=None if self.track_ids is None else self.track_ids[index],
        )

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Result({self.source.name}: {self.error.message})"
        found = ", ".join(f"{detected.name} {detected.confidence:.2f}" for detected in self.objects[:10])
        return f"Result({self.source.name}: {len(self)} detections{': ' if found else ''}{found})"

    def by_score(self) -> Result:
        """Return the same detections with the highest score first."""
        return self[np.argsort(-self.scores, kind="stable")]

    def filter(self, classes: Iterable[int | str] | int | str | None = None, min_score: float = 0.0) -> Result:
        """Return the detections of these classes (names or numbers) with at least this score.

        Raises: DarkpyError for an unknown class.
        """
        is_wanted_N = self.scores >= min_score
        if classes is not None:
            chosen = [classes] if isinstance(classes, int | np.integer | str) else list(classes)
            is_wanted_N = is_wanted_N & np.isin(self.class_ids, find_classes(chosen, self.class_names))
        return self[is_wanted_N]

    def visible(self) -> Result:
        """Return the detections without classes whose name begins with `dont_show`, as AlexeyAB's program does."""
        return self[[not name.startswith(HIDDEN_CLASS_PREFIX) for name in self.names]]

    def draw(self, *, line_width: int | None = None, labels: bool = True, scores: bool = True) -> PIL.Image.Image:
        """Return a drawing of the image with its boxes, lines and zones; `numpy.asarray` makes an RGB array of it.

        line_width: in pixels, from 1 to 100; None fits the image's size. labels, scores: write names and scores.
        Raises: DarkpyError for another width; ImageError as `image`.
        """
        if line_width is not None and not (isinstance(line_width, int) and 1 <= line_width <= MAX_LINE_WIDTH_PX):
            raise DarkpyError(f"line_width={line_width!r} is not a number of pixels from 1 to {MAX_LINE_WIDTH_PX}")
        return draw(self.image, self.objects, self.counts, line_width=line_width, labels=labels, scores=scores)

    def crop(self) -> list[NDArray[np.uint8]]:
        """Return a copy of each detection's pixels, clipped to the image; empty for a box outside it.

        Raises: ImageError as `image`.
        """
        limit_4 = (*self.size, *self.size)
        first_N2, last_N2 = np.hsplit(self.boxes, 2)
        edges_N4 = np.clip(np.hstack((np.floor(first_N2), np.ceil(last_N2))), 0, limit_4).astype(int)
        pixels_HWC = self.image
        return [pixels_HWC[top:bottom, left:right].copy() for left, top, right, bottom in edges_N4.tolist()]

    def to_dict(self) -> dict[str, Any]:
        """Return the record that `darkpy detect --json` prints for an image."""
        if self.error is not None:
            return {"filename": self.path, "error": str(self.error)}
        record = formats.image_record(self.path, self.size, self.objects)
        if self.counts:
            record["counts"] = [count.to_dict() for count in self.counts]
        return record if self.time is None else {**record, "frame": self.frame, "time": round(self.time, 6)}

    def to_json(self) -> str:
        """Return `to_dict` as JSON text, without NaN or infinite values."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def save_labels(self, path: Path | str | None = None, *, overwrite: bool = False) -> Path:
        """Write a darknet label file with the best class of each box.

        path: None for the file where the network's dialect looks for the labels of the image.
        Raises: DarkpyError when the file exists and is not to be overwritten, cannot be written, or `path` is None for
            an image in memory; ImageError when the image could not be read.
        """
        if self.error is not None:
            raise self.error
        if path is None and not self.path:
            raise DarkpyError(f"{self.source.name}: has no path that a label file belongs to", hint="give a path")
        target = label_path(self.path, self.dialect) if path is None else Path(path)
        if target.exists() and not overwrite:
            raise DarkpyError(f"{target}: already exists", hint="--overwrite (overwrite=True) replaces label files")
        write_atomic(target, [formats.label_lines(self.objects).encode()])
        return target


def find_classes(classes: Iterable[int | str], names: Sequence[str]) -> list[int]:
    """Return the numbers of classes given by name or number. Raises: DarkpyError for an unknown one."""
    numbers = []
    for name in classes:
        if isinstance(name, str) and name in names:
            numbers += [class_id for class_id, other in enumerate(names) if other == name]
        elif (isinstance(name, int | np.integer) or (isinstance(name, str) and name.isdecimal())) and 0 <= int(
            name
        ) < len(names):
            numbers.append(int(name))
        else:
            hint = nearest(str(name), names) or f"the classes are {', '.join(names[:20])}{'...' if names[20:] else ''}"
            raise DarkpyError(f"no class is called {name!r}", hint=hint)
    return numbers
