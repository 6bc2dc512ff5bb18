"""Everything that can be seen of a training before it begins, of its cfg and its data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from darkpy.build import detect_dialect, make_plan
from darkpy.config.text import Config, deduplicate, read
from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.lists.data_file import DataFile
from darkpy.data.lists.names import read_names
from darkpy.data.loading.datasets import ClassificationData, DetectionData
from darkpy.diagnostics.checks import anchors as anchor_checks
from darkpy.diagnostics.checks import cfg as cfg_checks
from darkpy.diagnostics.checks import lists as list_checks
from darkpy.diagnostics.checks import rates as rate_checks
from darkpy.diagnostics.checks.cfg import Cfg
from darkpy.diagnostics.checks.images import Inspector, Sample, check_whole
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError, DarkpyError
from darkpy.finding import Cause, Finding, Location, Severity
from darkpy.training.preflight import check_batch, check_data, check_settings
from darkpy.training.setup import TRAIN_LIST, TrainingSetup, open_setup

CHANNELS, SIDE, MANY = 3, 416, 1_000_000
"""What is taken for a network that cannot be built."""


@dataclass
class Examination:
    """Of a cfg, alone or with its data.

    plan of `cfg`: None where the cfg has faults that keep it from being built; its data are looked at all the same.
    task: what is trained, None where it cannot be, or without data. seen: images that the weights have seen.
    """

    config: Config
    cfg: Cfg | None
    data: DataFile | None
    setup: TrainingSetup | None = None
    train: list[str] = field(default_factory=list)
    valid: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    _findings: list[Finding] = field(default_factory=list)
    _valid_samples: list[Sample] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Images that `survey` looks at."""
        return len(self.train) + len(self.valid)

    @property
    def findings(self) -> list[Finding]:
        """Errors first, then data, rates, operations, details; notes last. Repeated findings are left out."""
        severities = list(Severity)
        findings = dict.fromkeys(self._findings)
        return sorted(findings, key=lambda finding: (severities.index(finding.severity), finding.cause))

    @property
    def is_trainable(self) -> bool:
        """Whether nothing was found that a training would stop at."""
        return not any(one.severity is Severity.ERROR for one in self._findings)

    def add(self, findings: Iterable[Finding]) -> None:
        self._findings += findings

    def survey(self) -> Iterator[Sample]:
        """Look at each image of both lists, then at the lists as a whole."""
        if self.data is None:
            return
        inspector = self._inspector()
        for paths, kept in ((self.train, self.samples), (self.valid, self._valid_samples)):
            for sample in inspector.survey(paths):
                kept.append(sample)
                self._findings += sample.found
                yield sample
        self._findings += self._check_lists(inspector.augment_config)

    def _inspector(self) -> Inspector:
        if self.setup is None:
            assert self.data is not None
            dialect = self.cfg.plan.dialect if self.cfg else detect_dialect(self.config)
            augment_config = _guess_augment_config(self.data, dialect)
            return Inspector(CHANNELS, SIDE, SIDE, augment_config)
        net, dataset = self.setup.plan.net, self.setup.source.dataset
        augment_config = dataset.augment_config if isinstance(dataset, DetectionData) else None
        return Inspector(net.channels, net.width, net.height, augment_config)

    def _check_lists(self, augment_config: DetectionAugmentConfig | None) -> Iterator[Finding]:
        assert self.data is not None
        train, valid = (str(self.data.find(key, key)) for key in ("train", "valid"))
        yield from list_checks.check_repeats(self.samples, train)
        if self._valid_samples:
            yield from list_checks.check_leaks(self.samples, self._valid_samples, (train, valid))
        if augment_config is not None:
            yield from check_whole([*self.samples, *self._valid_samples])
            names = _names(self.data, augment_config.classes)
            yield from list_checks.check_balance(self.samples, names, train)
        if self.cfg is not None and augment_config is not None:
            is_kept = augment_config.letter_box or augment_config.dialect is Dialect.PJREDDIE
            yield from anchor_checks.check_anchors(self.cfg, self.samples, keeps_proportions=is_kept)


def examine(cfg: Path, data: DataFile | None, *, dialect: str | None = None, seen: int = 0) -> Examination:
    """Look at a cfg and at the lists of its data; `survey` then looks at the images.

    seen: images that the weights have seen from which training would start.
    Raises: DarkpyError when the cfg cannot be read; what is wrong in it is found.
    """
    config = read(cfg)
    made, found = _make_cfg(config, dialect)
    exam = Examination(config, made, data)
    exam.add(found)
    if data is not None:
        exam.add(_read_lists(exam))
    if made is None:
        return exam
    exam.add([*rate_checks.check_rates(made), *anchor_checks.check_anchor_sizes(made)])
    exam.add([*cfg_checks.check_cfg(made, peak_rate=rate_checks.peak_rate(made.plan.net))])
    exam.add(_check_batch(made, is_training=data is not None))
    if data is not None:
        exam.add(_check_task(exam, made, data, seen))
    return exam


def _make_cfg(config: Config, dialect: str | None) -> tuple[Cfg | None, list[Finding]]:
    try:
        return Cfg(make_plan(config, dialect), config), []
    except ConfigError as error:
        return None, [cfg_checks.rate_severity(finding) for finding in deduplicate(error.findings)]


def _read_lists(exam: Examination) -> list[Finding]:
    assert exam.data is not None
    exam.train, found = list_checks.read_list(exam.data, "train", TRAIN_LIST)
    exam.valid, more = list_checks.read_list(exam.data, "valid")
    return [*found, *more]


def _check_batch(cfg: Cfg, *, is_training: bool) -> Iterator[Finding]:
    """Many published cfgs stand at the lines for testing, which is a fault only where they are to be trained."""
    if not cfg.trains:
        return
    try:
        cfg.plan.net.check_batch()
    except DarkpyError as error:
        yield error.as_finding("batch", Cause.RATES, cfg.locate_net("batch"))
        return
    for line in check_batch(cfg.plan.net):
        yield Finding(
            cause=Cause.RATES,
            severity=Severity.WARNING if is_training else Severity.NOTE,
            name="batch",
            location=cfg.locate_net("batch"),
            message=line,
            hints=("batch=64 subdivisions=16",),
        )


def _check_task(exam: Examination, cfg: Cfg, data: DataFile, seen: int) -> Iterator[Finding]:
    plan = cfg.plan
    try:
        exam.setup = setup = open_setup(plan, data, seed=0)
    except DarkpyError as error:
        if exam.train:  # else the list has been told of already
            yield error.as_finding("task", Cause.DATA, Location(str(data.path)))
        return
    where = str(plan.locate(cfg.heads[-1][0].index, "classes")) if cfg.heads else plan.file
    yield from list_checks.check_names(data, setup.classes, where)
    yield from _check_paths(setup)
    if not plan.net.minibatch:  # which `_check_batch` has told
        return
    try:
        for line in check_settings(setup, seen):
            message = line.removeprefix(f"{plan.file}: [net] ")
            yield Finding(
                name="schedule", message=message, severity=Severity.NOTE, cause=Cause.RATES, location=cfg.locate_net()
            )
    except DarkpyError as error:
        # weights at the end of their schedule are no fault: who has them may well ask which samples they do not know
        severity = Severity.NOTE if plan.net.max_batches else Severity.ERROR
        yield replace(error.as_finding("schedule", Cause.RATES, cfg.locate_net("max_batches")), severity=severity)
    images = plan.net.minibatch * plan.net.subdivisions
    if 0 < plan.net.max_batches * images < len(setup.paths):
        yield Finding(
            cause=Cause.RATES,
            name="too-short",
            location=cfg.locate_net("max_batches"),
            message=f"max_batches={plan.net.max_batches} updates of {images} images see less than the"
            f" {len(setup.paths)} of the list",
            hints=(f"max_batches={max(2000 * setup.classes, -(-len(setup.paths) // images))}",),
        )


def _check_paths(setup: TrainingSetup) -> Iterator[Finding]:
    """What a training would stop at; of a detector's images one by one `survey` tells more."""
    location = Location(str(setup.data.path))
    try:
        lines = list(check_data(setup))
    except DarkpyError as error:
        yield error.as_finding("data", Cause.DATA, location)
        return
    if isinstance(setup.source.dataset, ClassificationData):
        for line in lines:
            yield Finding(name="labels", message=line, cause=Cause.DATA, location=location)


def _names(data: DataFile, classes: int) -> list[str]:
    """A name for each class, its number where there is none."""
    names = _read_names(data)
    return [names[number] if number < len(names) else str(number) for number in range(classes)]


def _read_names(data: DataFile) -> Sequence[str]:
    """Those of the names file; none where it cannot be read, which `check_names` tells."""
    file = data.find("names")
    try:
        return () if file is None else read_names(file)
    except DarkpyError:
        return ()


def _guess_augment_config(data: DataFile, dialect: Dialect) -> DetectionAugmentConfig | None:
    """What the labels hold, for want of a network: None for those of a classifier."""
    if "labels" in data.entries:
        return None
    stated = data.entries.get("classes", "")
    classes = int(stated) if stated.isdecimal() and len(stated) < 7 else len(_read_names(data))
    return DetectionAugmentConfig(dialect=dialect, head="yolo", classes=classes or MANY, max=MANY, jitter=0)
