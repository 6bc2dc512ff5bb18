"""Checks that need no image and no forward pass, for `doctor` and for the start of a training.

Checks of a training as a whole: schedule against weights, ignored keys, files of the lists, backup folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from darkpy.build import Plan
from darkpy.data.lists.image_list import NO_IMAGES_HINT, NO_IMAGES_MESSAGE
from darkpy.data.lists.paths import find_label, label_nearby, label_path
from darkpy.data.loading.datasets import ClassificationData, DetectionData
from darkpy.data.loading.mask_datasets import MaskData
from darkpy.diagnostics.checks.anchors import check_anchor_sizes, check_masks
from darkpy.diagnostics.checks.cfg import check_batch, check_layers, check_rates, heads_of, peak_rate, usual_max_batches
from darkpy.diagnostics.checks.lists import FINDING_NAME as LABELS_UNUSABLE
from darkpy.diagnostics.checks.lists import check_labels, check_names
from darkpy.diagnostics.checks.masks import check_mask_files
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import is_file
from darkpy.finding import Cause, Finding, Location, Remedy, Severity, data_finding, sort_findings
from darkpy.training.checkpoints import base_name
from darkpy.training.setup import TrainingSetup

MAX_FILES = 2000
"""Images of a list whose files are looked for: spread over it, they are enough to see that a rule is wrong."""
MAX_BASE_BYTES = 220
"""Longest start of the checkpoints' names: a file name has at most 255 bytes."""
IMAGES_ABSENT, LABELS_ABSENT = "images-absent", "labels-absent"
"""Findings about all images of a list, which explain those about single files."""
_EACH_HINT = "darkpy doctor CFG DATA names each of them, and what to do"
IGNORED_KEYS = ("weights_reject_freq", "adversarial_lr", "attention", "unsupervised", "notruth")
"""Keys of [net] that change a training in darknet and not here."""


def check_schedule(setup: TrainingSetup, seen: int, *, is_resumed: bool = False) -> Iterator[Finding]:
    """Check max_batches against the images that the weights have seen, and against the list.

    is_resumed: True if a resume file goes with the weights.
    """
    plan, net = setup.plan, setup.plan.net
    images = net.minibatch * net.subdivisions
    if not images:
        return
    done = seen // images
    finding = Finding(name="schedule", message="", cause=Cause.RATES, location=plan.locate_net("max_batches"))
    if not net.max_batches and setup.is_detector:
        message = "has no max_batches, the number of updates"
        yield replace(
            finding, message=message, severity=Severity.ERROR, hints=(f"max_batches={usual_max_batches(plan)}",)
        )
    elif 0 < net.max_batches <= done:
        message = (
            f"the weights have seen {seen} images, which is update {done} of max_batches={net.max_batches}: nothing is"
            " left to do"
        )
        hints = ("-clear sets the count to 0, to fine-tune; to continue, raise max_batches",)
        yield replace(finding, message=message, severity=Severity.ERROR, hints=hints)
    elif done and not is_resumed:
        end = f" of {net.max_batches}" if net.max_batches else ""
        message = f"training continues after update {done}{end}, where the weights are; -clear restarts the schedule"
        yield replace(finding, message=message, severity=Severity.NOTE)
    if 0 < net.max_batches * images < len(setup.paths):
        enough = max(2000 * setup.classes, -(-len(setup.paths) // images))
        message = f"max_batches={net.max_batches} updates of {images} images see less than the {len(setup.paths)}"
        yield replace(finding, name="too-short", message=f"{message} of the list", hints=(f"max_batches={enough}",))


def check_own_keys(setup: TrainingSetup) -> Iterator[Finding]:
    """Note keys that darknet does not know, and keys of darknet that are ignored here."""
    plan = setup.plan
    if extensions := plan.extensions:
        more = f" and {len(extensions) - 1} more" if len(extensions) > 1 else ""
        message = f"no darknet can run what this trains: {extensions[0]}{more}"
        yield Finding(name="extension", message=message, severity=Severity.NOTE, location=Location(plan.file))
    for key in IGNORED_KEYS:
        if getattr(plan.net, key):
            message = f"{key} is ignored: it changes nothing here"
            location = plan.locate_net(key)
            yield Finding(name="ignored-key", message=message, severity=Severity.NOTE, location=location)


def check_files(setup: TrainingSetup) -> Iterator[Finding]:
    """Look for the images of the training list and their labels, without reading them."""
    paths = setup.paths[:: -(-len(setup.paths) // MAX_FILES)]
    missing = [path for path in paths if not is_file(path)]
    if len(missing) == len(paths):
        place = Location(missing[0])
        yield data_finding(IMAGES_ABSENT, place, NO_IMAGES_MESSAGE, NO_IMAGES_HINT, severity=Severity.ERROR)
        return
    place = Location(str(setup.data.path))
    if missing:
        message = f"{len(missing)} of {len(paths)} images not found, they are skipped; the first: {missing[0]}"
        yield data_finding("images-missing", place, message, _EACH_HINT)
    dataset = setup.source.dataset
    if isinstance(dataset, ClassificationData) and dataset.labels is not None:
        yield from _check_class_labels(paths, dataset.labels, place)
        return
    if isinstance(dataset, MaskData):
        yield from check_mask_files(setup.paths, dataset.classes, place)
        return
    dialect = setup.plan.dialect
    labels = {path: _find_label(path, dialect) for path in paths}
    unlabeled = [path for path, label in labels.items() if label is None]
    elsewhere = [(label, label_path(path, dialect)) for path, label in labels.items() if label is not None]
    elsewhere = [(label, expected) for label, expected in elsewhere if label != expected]
    if len(unlabeled) == len(paths):
        yield _no_labels(unlabeled[0], dialect)
    elif unlabeled:
        is_used = not (isinstance(dataset, DetectionData) and dialect is Dialect.PJREDDIE)
        is_used &= setup.kind != "regressor"
        then = "they count as images without objects" if is_used else "they are skipped"
        message = f"{len(unlabeled)} of {len(paths)} images have no label file, {then}; the first: {unlabeled[0]}"
        yield data_finding("labels-missing", place, message, _EACH_HINT)
    if elsewhere:
        label, expected = elsewhere[0]
        message = f"{len(elsewhere)} label files are read where only the other darknet looks; the first: {label}"
        hint = f"move them for {dialect}'s program, this one to {expected}"
        yield data_finding("labels-elsewhere", place, message, hint)


def check_backup(
    setup: TrainingSetup, folder: Path, weights: Path | None, *, is_resumed: bool = False, overwrite: bool = False
) -> Iterator[Finding]:
    """Check that no weights of an earlier run are overwritten.

    weights: from which the training starts. is_resumed: True if a resume file goes with them: it is the same run.
    overwrite: True if the final weights of a finished run may be overwritten.
    """
    is_from_here = weights is not None and weights.resolve().parent == folder.resolve()
    if is_resumed and is_from_here:
        return
    base = base_name(setup.plan.file)
    if len(os.fsencode(base)) > MAX_BASE_BYTES:
        message = f"the names of its checkpoints would be too long; {MAX_BASE_BYTES} bytes of the cfg's name fit"
        yield Finding(
            name="long-name",
            message=message,
            severity=Severity.ERROR,
            cause=Cause.DETAILS,
            location=Location(setup.plan.file),
            hints=("give the cfg a shorter name",),
        )
    final = folder / f"{base}{setup.intervals.final}"
    if final.exists() and not overwrite:
        message = "is from a finished run and would be overwritten"
        advice = ("--force (overwrite=True) overwrites it", "name another folder with backup= in the .data file")
        yield Finding(
            name="overwrite-final",
            message=message,
            severity=Severity.ERROR,
            cause=Cause.DETAILS,
            location=Location(str(final)),
            hints=advice,
        )
    last = folder / f"{base}{setup.intervals.last}"
    if last.exists() and not is_from_here:
        message = "is from an earlier run and will be overwritten"
        hints = ("start from this file to continue that run",)
        yield Finding(name="overwrite", message=message, location=Location(str(last)), hints=hints)


def _check_class_labels(paths: Sequence[str], labels: Sequence[str], place: Location) -> Iterator[Finding]:
    odd = [path for path in paths if sum(label in path for label in labels) != 1]
    if not odd or len(labels) < 2:
        return
    if len(odd) == len(paths):
        message = "does not contain exactly one of the labels in its path, nor does any other image"
        hint = "the class of an image is the line of labels= that occurs in its path"
        yield data_finding("data", Location(odd[0]), message, hint, severity=Severity.ERROR)
        return
    message = f"{len(odd)} of {len(paths)} images do not have exactly one label in their path; the first: {odd[0]}"
    yield data_finding("labels", place, message)


def _find_label(path: str, dialect: Dialect) -> Path | None:
    try:
        file = find_label(path, dialect)
    except DarkpyError:
        return None
    return file if is_file(file) else None


def _no_labels(path: str, dialect: Dialect) -> Finding:
    """Name the label file that was looked for, and where it may be instead."""
    try:
        expected = label_path(path, dialect)
    except DarkpyError as error:
        return error.as_finding("data", Cause.DATA, Location(path))
    hint = "put them there, one .txt file for each image"
    if nearby := label_nearby(path):
        hint = f"there is {nearby}: move the label files to {expected.parent}"
        if nearby.name != expected.name and nearby.parent == expected.parent:
            hint = f"there is {nearby}: name it {expected.name}"
        if nearby.suffix == ".xml":
            hint = f"there is {nearby}: convert the annotations with darkpy dataset from-voc"
    message = f"has no labels at {expected}, nor has any other image of the list"
    return data_finding(LABELS_ABSENT, Location(path), message, hint, severity=Severity.ERROR)


def check_plan(plan: Plan) -> Iterator[Finding]:
    """Run the checks of a cfg alone."""
    for findings in (
        check_rates(plan),
        check_batch(plan),
        check_anchor_sizes(plan),
        check_masks(plan),
        check_layers(plan, peak_rate=peak_rate(plan.net)),
    ):
        yield from (with_remedies(plan, finding) for finding in findings)


def with_remedies(plan: Plan, finding: Finding) -> Finding:
    """Make remedies of the hints that are settings: of the finding's layer if that has such a key, else of [net]."""
    index = finding.location.index
    spec = None if index is None else plan.nodes[index].spec
    remedies: list[Remedy] = []
    for hint in () if finding.remedies else finding.hints:
        if (remedy := Remedy.parse(hint)) is not None:
            edits = (
                replace(edit, layer=index) if hasattr(spec, edit.key) else edit
                for edit in remedy.edits
                if hasattr(spec, edit.key) or hasattr(plan.net, edit.key)
            )
            remedies.append(Remedy(edits=tuple(edits), text=hint))
    known = tuple(remedy for remedy in remedies if remedy.edits)
    return replace(finding, remedies=known) if known else finding


def check_setup(setup: TrainingSetup, seen: int, *, is_resumed: bool = False) -> Iterator[Finding]:
    """Run the checks of a cfg with its data; `check_plan` and the images themselves are not among them.

    seen: images that the weights have seen. is_resumed: True if a resume file goes with the weights.
    """
    heads = heads_of(setup.plan)
    where = str(setup.plan.locate(heads[-1][0].index, "classes")) if heads else setup.plan.file
    schedule = check_schedule(setup, seen, is_resumed=is_resumed)
    yield from (with_remedies(setup.plan, finding) for finding in schedule)
    yield from check_names(setup.data, setup.classes, where)
    yield from check_own_keys(setup)
    yield from check_files(setup)
    yield from check_labels(setup)


def check_training(
    setup: TrainingSetup,
    *,
    seen: int,
    folder: Path,
    weights: Path | None,
    is_resumed: bool = False,
    allow_empty: bool = False,
    overwrite: bool = False,
) -> list[Finding]:
    """Run all checks of a training that is about to begin.

    folder: where checkpoints go. weights: from which it starts. seen, is_resumed: as in `check_setup`.
    allow_empty: only warn if no image has a usable object. overwrite: as in `check_backup`.
    Returns: warnings and notes.
    Raises: DarkpyError for the first error.
    """
    findings = [
        *check_plan(setup.plan),
        *check_setup(setup, seen, is_resumed=is_resumed),
        *check_backup(setup, folder, weights, is_resumed=is_resumed, overwrite=overwrite),
    ]
    if allow_empty:
        findings = [
            replace(
                finding,
                severity=Severity.WARNING,
                hints=tuple(hint for hint in finding.hints if not hint.startswith("--allow-empty")),
            )
            if finding.name == LABELS_UNUSABLE
            else finding
            for finding in findings
        ]
    findings = sort_findings(findings)
    if findings and findings[0].severity is Severity.ERROR:
        raise DarkpyError(findings[0].text, hint="; or ".join(findings[0].hints) or None)
    return findings
