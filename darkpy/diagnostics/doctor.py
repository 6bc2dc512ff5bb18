"""Examination of a training before it begins: its cfg, its lists, its images and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from darkpy.build import Plan, detect_dialect, make_plan
from darkpy.config.edit import edit_cfg
from darkpy.config.text import MAX_SIZE as MAX_CFG_BYTES
from darkpy.config.text import Config, deduplicate, read
from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.lists.text_files import DataFile
from darkpy.data.loading.datasets import DetectionData
from darkpy.data.loading.mask_datasets import MaskData
from darkpy.diagnostics.checks.anchors import check_anchors
from darkpy.diagnostics.checks.cfg import lower_unknown_keys
from darkpy.diagnostics.checks.images import (
    InspectedImage,
    Inspector,
    check_max_boxes,
    check_whole,
    guess_inspector,
    readable_names,
)
from darkpy.diagnostics.checks.lists import FINDING_NAME as LABELS_UNUSABLE
from darkpy.diagnostics.checks.lists import check_balance, check_leaks, check_repeats, check_valid_counts, read_list
from darkpy.diagnostics.checks.weights import check_frozen_norms
from darkpy.diagnostics.cleaning import name_cleaning
from darkpy.diagnostics.preflight import IMAGES_ABSENT, LABELS_ABSENT, check_plan, check_setup, with_remedies
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError, DarkpyError
from darkpy.files import read_text
from darkpy.finding import Cause, CfgEdit, Finding, Location, Remedy, Severity, sort_findings
from darkpy.training.setup import TRAIN_LIST, TrainingSetup, open_setup

EXPLAINED_FINDINGS = {
    IMAGES_ABSENT: frozenset({"image-missing", "image-unreadable", "label-missing"}),
    LABELS_ABSENT: frozenset({"label-missing"}),
    LABELS_UNUSABLE: frozenset({"label-line", "box-over-edge", "images-empty", "classes-absent"}),
}
"""Findings of single files that a systematic mistake of all files explains, by the mistake's finding."""


@dataclass
class Examination:
    """Examination of a cfg, alone or with its data.

    plan: None if the cfg has errors; its data are still examined.
    setup: of the training; None if it cannot be trained, or without data.
    """

    config: Config
    plan: Plan | None
    data: DataFile | None
    setup: TrainingSetup | None = None
    train: list[str] = field(default_factory=list)
    valid: list[str] = field(default_factory=list)
    images: list[InspectedImage] = field(default_factory=list)
    _findings: list[Finding] = field(default_factory=list)
    _valid_images: list[InspectedImage] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of images that `survey` examines."""
        return len(self.train) + len(self.valid)

    @property
    def findings(self) -> list[Finding]:
        """Errors first, then data, rates, operations, details; notes last. Repeated findings are left out."""
        return sort_findings(self._findings)

    @property
    def is_trainable(self) -> bool:
        """True if there is no error, at which a training would stop."""
        return not any(finding.severity is Severity.ERROR for finding in self._findings)

    def add(self, findings: Iterable[Finding]) -> None:
        self._findings += findings

    def survey(self) -> Iterator[InspectedImage]:
        """Examine each image of both lists, then the lists as a whole."""
        if self.data is None:
            return
        if self.setup is None:
            dialect = self.plan.dialect if self.plan else detect_dialect(self.config)
            inspector = guess_inspector(self.data, dialect)
            augment_config = inspector.augment_config
        else:
            net, dataset = self.setup.plan.net, self.setup.source.dataset
            augment_config = dataset.augment_config if isinstance(dataset, DetectionData) else None
            mask_classes = dataset.classes if isinstance(dataset, MaskData) else 0
            inspector = Inspector(net.channels, net.width, net.height, augment_config, mask_classes)
        known = frozenset().union(*(EXPLAINED_FINDINGS.get(finding.name, ()) for finding in self._findings))
        for paths, images in ((self.train, self.images), (self.valid, self._valid_images)):
            for image in inspector.survey(paths):
                images.append(image)
                self._findings += (finding for finding in image.findings if finding.name not in known)
                yield image
        self._findings += (finding for finding in self._check_lists(augment_config) if finding.name not in known)
        images_by_list = {"train": self.images, "valid": self._valid_images}
        self._findings = name_cleaning(self._findings, self.data, inspector, images_by_list)

    def _check_lists(self, augment_config: DetectionAugmentConfig | None) -> Iterator[Finding]:
        assert self.data is not None
        train, valid = (str(self.data.find(key, key)) for key in ("train", "valid"))
        yield from check_repeats(self.images, train)
        if self._valid_images:
            yield from check_leaks(self.images, self._valid_images, (train, valid))
        if augment_config is not None:
            yield from check_whole([*self.images, *self._valid_images])
            heads = [node.index for node in self.plan.nodes if hasattr(node.spec, "max")] if self.plan else []
            yield from check_max_boxes([*self.images, *self._valid_images], augment_config.max, heads)
            names = list(readable_names(self.data)[: augment_config.classes])
            names += map(str, range(len(names), augment_config.classes))  # classes without a name
            yield from check_balance(self.images, names, train)
            yield from check_valid_counts(self._valid_images, names, valid)
        if self.plan is not None and augment_config is not None:
            letterbox = augment_config.letter_box or augment_config.dialect is Dialect.PJREDDIE
            yield from check_anchors(self.plan, self.images, letterbox=letterbox)


def apply_remedies(exam: Examination) -> tuple[str, list[Remedy]]:
    """Apply the first remedy of each finding to the cfg's text, notes included; of two edits of a key the first counts.

    Returns: the text, and the remedies that are in it.
    Raises: ConfigError when the text is not a valid cfg then.
    """
    text = read_text(Path(exam.config.file), max_bytes=MAX_CFG_BYTES, hint="a cfg starts with [net]")
    edits: dict[tuple[int | None, str], CfgEdit] = {}
    applied: list[Remedy] = []
    for remedy in (finding.remedies[0] for finding in exam.findings if finding.remedies):
        new = {(edit.layer, edit.key): edit for edit in remedy.edits}
        if new and not new.keys() & edits.keys():
            edits |= new
            applied.append(remedy)
    text = edit_cfg(text, edits.values())
    make_plan(f"{text}\n", exam.plan.dialect if exam.plan else None)
    return text, applied


def examine(
    cfg: Path, data: DataFile | None, *, dialect: str | None = None, seen: int = 0, weights: Path | None = None
) -> Examination:
    """Examine a cfg and the lists of its data; `Examination.survey` then examines the images.

    seen: images that the weights have seen, from which training would start.
    weights: the file whose header decides the dialect if the cfg fits both.
    Raises: DarkpyError when the cfg cannot be read; errors in it are findings.
    """
    config = read(cfg)
    try:
        plan = make_plan(config, dialect, weights=weights)
        findings: Sequence[Finding] = deduplicate(plan.warnings)
    except ConfigError as error:
        plan, findings = None, deduplicate(error.findings)
    exam = Examination(config, plan, data)
    exam.add(lower_unknown_keys(finding if plan is None else with_remedies(plan, finding)) for finding in findings)
    if data is not None:
        for key, default in (("train", TRAIN_LIST), ("valid", None)):
            paths, list_findings = read_list(data, key, default)
            getattr(exam, key).extend(paths)
            exam.add(list_findings)
    if plan is None:
        return exam
    for finding in check_plan(plan):
        # many published cfgs have the lines for testing, which matters only where they are to be trained
        is_note = finding.name == "batch" and finding.severity is Severity.WARNING and data is None
        exam.add([replace(finding, severity=Severity.NOTE) if is_note else finding])
    if data is not None:
        exam.add(_check_data(exam, plan, data, seen, has_weights=weights is not None))
    return exam


def _check_data(exam: Examination, plan: Plan, data: DataFile, seen: int, *, has_weights: bool) -> Iterator[Finding]:
    try:
        exam.setup = open_setup(plan, data, seed=0)
    except DarkpyError as error:
        if exam.train:  # else `read_list` has found it already
            yield error.as_finding("task", Cause.DATA, Location(str(data.path)))
        return
    for finding in (*check_setup(exam.setup, seen), *(check_frozen_norms(plan, None) if not has_weights else ())):
        if finding.name in ("images-missing", "labels-missing"):
            continue  # `survey` names each file
        if finding.name == "schedule" and plan.net.max_batches:
            # weights at the end of their schedule are no error here: they may still rank the samples
            finding = replace(finding, severity=Severity.NOTE)
        yield finding
