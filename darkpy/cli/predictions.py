"""Predictions for single images, printed as darknet prints them or as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from darkpy.cli import console
from darkpy.cli.load import ask_paths
from darkpy.evaluation import formats
from darkpy.evaluation.defaults import CLASSIFIER_BATCH_SIZE

if TYPE_CHECKING:
    from darkpy.errors import ImageError


class _Prediction(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def error(self) -> ImageError | None: ...


Prediction = TypeVar("Prediction", bound=_Prediction)


def print_predictions(
    predict: Callable[[Iterable[Path | str], int], Iterator[Prediction]],
    paths: Sequence[Path] | None,
    *,
    lines: Callable[[Prediction, float], Iterable[str]],
    record: Callable[[Prediction], Mapping[str, Any]],
    as_json: bool,
) -> int:
    """Print a network's predictions for images, one by one; unreadable ones are errors.

    predict: yields the prediction for each image, in batches of the given size. paths: None asks for them.
    lines: of a prediction and the seconds that it took. record: of a prediction, beside the file name, for JSON.
    Returns: the exit code.
    """
    has_failed = False

    def timed() -> Iterator[tuple[Prediction, float]]:
        if as_json and paths is not None:
            yield from zip(console.track(predict(paths, CLASSIFIER_BATCH_SIZE), len(paths)), repeat(math.nan))
            return
        for path in ask_paths(prompt_on_stderr=as_json) if paths is None else paths:
            start = perf_counter()
            (prediction,) = predict([path], 1)
            yield prediction, perf_counter() - start

    def texts() -> Iterator[tuple[Mapping[str, Any], Iterable[str]]]:
        nonlocal has_failed
        for prediction, seconds in timed():
            if prediction.error is None:
                yield {"filename": prediction.path, **record(prediction)}, lines(prediction, seconds)
                continue
            console.error(prediction.error)
            has_failed = True
            yield {"filename": prediction.path, "error": str(prediction.error)}, ()

    if as_json:
        for text in formats.array_json(fields for fields, _ in texts()):
            console.echo(text, nl=False)
    else:
        for _, printed in texts():
            for line in printed:
                console.echo(line)
    return 2 if has_failed else 0


def print_lines(
    predictions: Iterable[Prediction], count: int, line: Callable[[Prediction], str], *, unreadable: str | None = None
) -> int:
    """Print a line for each image. unreadable: line of an image that cannot be read. Returns: the exit code."""
    exit_code = 0
    for prediction in console.track(predictions, count):
        if prediction.error is not None:
            console.error(prediction.error)
            exit_code = 2
        text = line(prediction) if prediction.error is None else unreadable
        if text is not None:
            console.echo(text)
    return exit_code
