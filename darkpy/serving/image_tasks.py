"""Tasks of `darkpy serve`: its answers to posted images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

from darkpy.errors import DarkpyError, ImageError
from darkpy.evaluation.classify import ClassifierOptions, class_count, classify, predict_options
from darkpy.evaluation.defaults import DEFAULT_TOP
from darkpy.evaluation.detect import DetectOptions, detect_frames, require_detector
from darkpy.evaluation.tiles import TileGrid
from darkpy.network import Network
from darkpy.serving.openapi import classification_schema, detection_schema
from darkpy.sources.frames import Frame


class ImageTask(Protocol):
    """Work of a network on images.

    verb: "detect" or "classify", also the path of the service. noun: for titles. names: of the classes.
    """

    @property
    def verb(self) -> str: ...

    @property
    def noun(self) -> str: ...

    @property
    def network(self) -> Network: ...

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of a record."""

    def records(self, frames: Sequence[Frame], batch_size: int) -> Iterator[dict[str, Any] | ImageError]:
        """Yield the record of each image, or why it could not be read."""


@dataclass(frozen=True, slots=True)
class DetectionTask:
    """Detections of each image, the highest score first. Raises: DarkpyError for a network that detects nothing."""

    network: Network
    names: Sequence[str]
    options: DetectOptions = field(default_factory=DetectOptions)
    tiles: TileGrid | None = None
    verb: str = field(default="detect", init=False)
    noun: str = field(default="Detection", init=False)

    def __post_init__(self) -> None:
        require_detector(self.network)

    @property
    def schema(self) -> dict[str, Any]:
        return detection_schema(self.names)

    def records(self, frames: Sequence[Frame], batch_size: int) -> Iterator[dict[str, Any] | ImageError]:
        results = detect_frames(
            self.network,
            frames,
            self.names,
            self.options,
            batch_size=len(frames) if self.tiles is None else batch_size,
            prefetch=False,
            tiles=self.tiles,
        )
        for result in chain.from_iterable(results):
            if result.error is not None:
                yield result.error
                continue
            record = result.by_score().visible().to_dict()
            del record["filename"]
            yield record


@dataclass(frozen=True, slots=True)
class ClassificationTask:
    """The `top` classes of each image, the best first. Raises: DarkpyError for a network that classifies no images."""

    network: Network
    names: Sequence[str]
    top: int = DEFAULT_TOP
    verb: str = field(default="classify", init=False)
    noun: str = field(default="Classification", init=False)
    _options: ClassifierOptions = field(init=False)

    def __post_init__(self) -> None:
        class_count(self.network)
        plan = self.network.plan
        if plan.input_shape.c not in (1, 3):
            raise DarkpyError(f"{plan.file} takes {plan.input_shape.c} channels, an image has 1 or 3")
        object.__setattr__(self, "_options", predict_options(self.network, self.top))

    @property
    def schema(self) -> dict[str, Any]:
        return classification_schema(self.names)

    def records(self, frames: Sequence[Frame], batch_size: int) -> Iterator[dict[str, Any] | ImageError]:
        rankings = classify(self.network, frames, self._options, batch_size=len(frames), prefetch=False)
        for frame, ranking in zip(frames, rankings, strict=True):
            if ranking.error is not None:
                yield ranking.error
                continue
            image = frame.load()
            yield {"width": image.w, "height": image.h, "classes": ranking.to_dicts(self.names)}
