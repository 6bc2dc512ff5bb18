"""What trips people, told before the first image is loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from darkpy.config.net import NetSpec
from darkpy.data.lists.data_file import DataFile
from darkpy.data.lists.paths import label_path
from darkpy.data.loading.datasets import ClassificationData
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.training.checkpoints import base_name
from darkpy.training.setup import TrainingSetup

LOOKED_AT = 2000
"""Images of a list whose files are looked for: spread over it, they are enough to see that a rule is wrong."""
FEW = 8
"""Images of an update below which AlexeyAB warns."""
UNUSED = ("weights_reject_freq", "adversarial_lr", "attention", "unsupervised", "notruth")
"""Keys of [net] that change a training in darknet and not here."""


def check(
    setup: TrainingSetup, *, seen: int, folder: Path, weights: Path | None, is_resumed: bool = False
) -> list[str]:
    """What should be known of a training that is about to begin, a line each.

    seen: images that the network has been trained on. folder: where checkpoints go. weights: what it starts from.
    is_resumed: whether a resume file goes with them.
    Raises: DarkpyError when it would come to nothing.
    """
    return [
        *_check_schedule(setup, seen, is_resumed),
        *check_batch(setup.plan.net),
        *_check_keys(setup),
        *check_data(setup),
        *_check_folder(setup, folder, weights),
    ]


def check_settings(setup: TrainingSetup, seen: int) -> Iterator[str]:
    """The part of `check` that is about [net] and what the weights have seen. Raises: DarkpyError as it does."""
    yield from _check_schedule(setup, seen, is_resumed=False)
    yield from _check_unused(setup)


def check_data(setup: TrainingSetup) -> Iterator[str]:
    """The part of `check` that looks for images and what belongs to them. Raises: DarkpyError as it does."""
    yield from _check_images(setup)
    yield from _check_truths(setup)


def backup_folder(data: DataFile) -> Path:
    """Where `backup=` of a .data file says that checkpoints go; made if it is not there.

    Raises:  DarkpyError when nothing can be written there.
    Differs: darknet does not make it, says so at the first checkpoint, and its default is the folder /backup.
    """
    folder = Path(data.entries.get("backup", "backup"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise DarkpyError(
            f"{data.path}: backup={folder}: nothing can be written there: {error.strerror or error}",
            hint="backup= names the folder for the weights",
        ) from error
    return folder


def _check_schedule(setup: TrainingSetup, seen: int, is_resumed: bool) -> Iterator[str]:
    net, file = setup.plan.net, setup.plan.file
    done = seen // (net.minibatch * net.subdivisions)
    if not net.max_batches and setup.is_detector:
        raise DarkpyError(f"{file}: [net] has no max_batches, the number of updates", hint="set max_batches=6000, say")
    if net.max_batches and done >= net.max_batches:
        raise DarkpyError(
            f"the weights have seen {seen} images, which is update {done} of max_batches={net.max_batches}:"
            " nothing is left to do",
            hint="-clear sets the count to 0, to fine-tune; to go on, raise max_batches",
        )
    if done and not is_resumed:
        end = f" of {net.max_batches}" if net.max_batches else ""
        yield f"training goes on after update {done}{end}, where the weights are; -clear starts the schedule anew"


def check_batch(net: NetSpec) -> Iterator[str]:
    """darknet's own cfgs begin with the lines for testing."""
    images = net.minibatch * net.subdivisions
    text = f"batch={net.batch} subdivisions={net.subdivisions} are {images} image{'s' if images > 1 else ''} an update"
    if images == 1:
        yield f"{text}: lines for testing? darknet's cfgs train with batch=64 subdivisions=16"
    elif images < FEW:
        yield f"{text}, which is few; darknet's cfgs train with 64"
    elif net.batch % net.subdivisions:
        yield f"{text}, for subdivisions do not divide batch"


def _check_unused(setup: TrainingSetup) -> Iterator[str]:
    if foreign := setup.plan.extensions:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        yield f"no darknet can run what this trains: {foreign[0]}{more}"
    for key in UNUSED:
        if getattr(setup.plan.net, key):
            yield f"{setup.plan.file}: [net] {key} is not obeyed: it changes nothing here"


def _check_keys(setup: TrainingSetup) -> Iterator[str]:
    yield from _check_unused(setup)
    stated = setup.data.entries.get("classes")
    if stated is not None and stated != str(setup.classes):
        yield f"{setup.data.path}: classes={stated[:20]}, but the network has {setup.classes}; the network's count"


def _check_images(setup: TrainingSetup) -> Iterator[str]:
    paths = _spread(setup.paths)
    lost = [path for path in paths if not Path(path).is_file()]
    if len(lost) == len(paths):
        raise DarkpyError(
            f"{lost[0]}: is not there, nor is any other image of the list",
            hint="paths in a list count from the working directory, or else from the list's own folder",
        )
    if lost:
        yield f"{len(lost)} of {len(paths)} images are not there and will be passed over; the first: {lost[0]}"


def _check_truths(setup: TrainingSetup) -> Iterator[str]:
    dataset, paths = setup.source.dataset, _spread(setup.paths)
    if isinstance(dataset, ClassificationData) and dataset.labels is not None:
        odd = [path for path in paths if sum(label in path for label in dataset.labels) != 1]
        if len(odd) == len(paths) and dataset.classes > 1:
            raise DarkpyError(
                f"{odd[0]}: does not hold exactly one of the labels in its path, nor does any other image",
                hint="the class of an image is the line of labels= that occurs in its path",
            )
        if odd and dataset.classes > 1:
            yield f"{len(odd)} of {len(paths)} images do not have exactly one label in their path; the first: {odd[0]}"
        return
    dialect = setup.plan.dialect
    lost = [path for path in paths if _labels(path, dialect) is None]
    if len(lost) == len(paths):
        raise _no_labels(lost[0], dialect)
    if lost:
        then = "are passed over" if dialect is Dialect.PJREDDIE else "count as images without objects"
        yield f"{len(lost)} of {len(paths)} images have no label file and {then}; the first: {lost[0]}"


def _check_folder(setup: TrainingSetup, folder: Path, weights: Path | None) -> Iterator[str]:
    last = folder / f"{base_name(setup.plan.file)}{setup.intervals.last}"
    if last.exists() and (weights is None or weights.resolve().parent != folder.resolve()):
        yield f"{last} is of an earlier run and will be written over; to go on with that run, start from this file"


def _spread(paths: Sequence[str]) -> Sequence[str]:
    return paths[:: -(-len(paths) // LOOKED_AT)]


def _labels(path: str, dialect: Dialect) -> Path | None:
    """The label file of an image, if it is there."""
    try:
        file = label_path(path, dialect)
    except DarkpyError:
        return None
    return file if file.is_file() else None


def _no_labels(path: str, dialect: Dialect) -> DarkpyError:
    """Of a list whose images have none: where one was looked for, and where it perhaps is."""
    try:
        text = f"{path}: has no labels at {label_path(path, dialect)}, nor has any other image of the list"
    except DarkpyError as error:
        return error
    for other in Dialect:
        if other is not dialect and (found := _labels(path, other)):
            return DarkpyError(text, hint=f"they are at {found}, where {other}'s darknet looks: use --dialect {other}")
    return DarkpyError(text, hint=f"put them where {dialect}'s darknet looks, one .txt file for each image")
