"""Setup of a training from a cfg and a `.data` file: images, targets, sizes, checkpoint intervals."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from darkpy.build import Node, Plan
from darkpy.config.classmap import read_class_map
from darkpy.config.net import NetSpec
from darkpy.config.tree import read_tree
from darkpy.data.augment.config import ClassificationAugmentConfig, DetectionAugmentConfig
from darkpy.data.augment.sampler import MAX_CLASSIFIER_SIDE, Sampler, classifier_size, detector_minibatch, detector_size
from darkpy.data.lists.image_list import known_names
from darkpy.data.lists.paths import read_image_list
from darkpy.data.lists.text_files import DataFile, read_lines
from darkpy.data.loading.bad_files import BadLists
from darkpy.data.loading.datasets import ClassificationData, DetectionData, RegressionData
from darkpy.data.loading.mask_datasets import MaskData
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.layers.head import HeadSpec
from darkpy.layers.loss import LossSpec
from darkpy.training.loop import BatchSource
from darkpy.training.reports import UpdateReport
from darkpy.training.trainer import Trainer

TRAIN_LIST = "data/train.list"
LABELS_LIST = "data/labels.list"
NETWORK_KINDS = ("detector", "classifier", "segmenter", "isegmenter", "regressor", "tagger")
"""Kinds of networks, by darknet's commands: they learn boxes, classes, masks of classes, masks of instances, numbers,
and tags."""
MASK_KINDS = ("segmenter", "isegmenter")


@dataclass(frozen=True, kw_only=True, slots=True)
class Intervals:
    """Updates after which weights are written, and the ends of the files' names.

    last: overwritten every `last_every` updates; 0 for never.
    asked: updates between numbered and between last weights as a .data file asks for them (AlexeyAB's detector).
    number: number in the name of the weights to keep after an update, None for most updates.

    Source: pjreddie/darknet examples/detector.c train_detector, examples/classifier.c train_classifier;
        AlexeyAB/darknet src/detector.c train_detector, src/classifier.c train_classifier
    """

    last: str
    last_every: int
    number: Callable[[UpdateReport], int | None]
    final: str = "_final.weights"
    asked: tuple[int, int] = (0, 0)

    @classmethod
    def of_detector(cls, net: NetSpec, *, save_weights: int | None = None, save_last: int | None = None) -> Intervals:
        """Return a detector's. save_weights, save_last: `saveweights` and `savelast` of a .data file (AlexeyAB's)."""
        if net.dialect is Dialect.PJREDDIE:

            def often_at_first(report: UpdateReport) -> int | None:
                n = report.batch_num
                return n if n % 10000 == 0 or (n < 1000 and n % 100 == 0) else None

            return cls(last=".backup", last_every=100, number=often_at_first)
        every = save_weights or (1000 if net.max_batches < 10000 else 10000)
        last_every = save_last or 100
        return cls(
            last="_last.weights",
            last_every=last_every if every > last_every else 0,
            number=_multiples_of(every),
            asked=(every, last_every),
        )

    @classmethod
    def of_classifier(cls, net: NetSpec, images: int) -> Intervals:
        """Return a classifier's. images: in the list; pjreddie's numbers are those of epochs."""
        if net.dialect is Dialect.ALEXEYAB:
            return cls(last="_last.weights", last_every=100, number=_multiples_of(1000))
        return cls.of_epochs(images, last_every=1000)

    @classmethod
    def of_epochs(cls, images: int, *, last_every: int) -> Intervals:
        """Return those of pjreddie's classifier, and of kinds that only his program trains. images: in the list."""

        def epoch(report: UpdateReport) -> int | None:
            reached = report.seen // images
            return reached if reached > (report.seen - report.images) // images else None

        return cls(last=".backup", last_every=last_every, number=epoch, final=".weights")

    @classmethod
    def of_text(cls) -> Intervals:
        """Return those of a character-level network. Source: pjreddie/darknet examples/rnn.c train_char_rnn"""
        return cls(last=".backup", last_every=100, number=_multiples_of(10000))

    def names_due(self, report: UpdateReport) -> list[str]:
        number = self.number(report)
        names = [] if number is None else [f"_{number}.weights"]
        if self.last_every and report.batch_num % self.last_every == 0:
            names.append(self.last)
        return names


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """A cfg with its data. paths: images of the training list. largest: largest width and height trained at.

    kind: one of NETWORK_KINDS.
    """

    plan: Plan
    data: DataFile
    paths: tuple[str, ...]
    classes: int
    kind: str
    source: BatchSource
    intervals: Intervals
    largest: tuple[int, int]

    @property
    def is_detector(self) -> bool:
        return self.kind == "detector"

    @property
    def has_masks(self) -> bool:
        return self.kind in MASK_KINDS

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; the numbers of those that names= of the data does not name."""
        names = known_names(self.data)[: self.classes]
        return names + tuple(map(str, range(len(names), self.classes)))


def open_setup(
    plan: Plan,
    data: DataFile,
    *,
    seed: int,
    kind: str | None = None,
    workers: int = 0,
    bad: BadLists | None = None,
    draft: bool = False,
) -> TrainingSetup:
    """Return the setup of a training.

    kind: one of NETWORK_KINDS, see `find_kind`. draft: decode large JPEGs at reduced size.
    workers, bad: see `BatchSource`.
    Raises: DarkpyError when a list cannot be read, the data do not fit the network, or it is of another kind.
    """
    if not plan.net.width:
        raise DarkpyError(f"{plan.file} reads vectors, not images", hint="set width, height and channels in [net]")
    kind = find_kind(plan, data, kind)
    paths = tuple(map(str, read_image_list(_find(data, "train", TRAIN_LIST))))
    heads = [node.spec for node in plan.nodes if isinstance(node.spec, HeadSpec)]
    if heads:
        return _open_detector(plan, data, paths, heads[-1], seed=seed, draft=draft, workers=workers, bad=bad)
    if kind in ("classifier", "regressor", "tagger"):
        return _open_classifier(plan, data, paths, kind, seed=seed, draft=draft, workers=workers, bad=bad)
    if draft:
        raise DarkpyError("--draft: masks count the pixels of the whole image", hint="leave it out")
    return _open_segmenter(plan, data, paths, kind, seed=seed, workers=workers, bad=bad)


def find_kind(plan: Plan, data: DataFile, kind: str | None = None) -> str:
    """Return what a network learns, one of NETWORK_KINDS.

    A detection head makes a detector, [iseg] an isegmenter. Other networks are of the other kinds, as `kind` says;
    without it classifiers, or segmenters if the data have neither `labels` nor `tag`; these need a map as output.
    Raises: DarkpyError when `kind` is of other networks.
    """
    if any(isinstance(node.spec, HeadSpec) for node in plan.nodes):
        kinds = ["detector"]
    elif _instance_node(plan) is not None:
        kinds = ["isegmenter"]
    else:
        kinds = ["classifier", "regressor", "tagger"]
        if _output_node(plan).shape[1:] != (1, 1):
            kinds.insert(1 if data.entries.keys() & {"labels", "tag"} else 0, "segmenter")
    if kind is not None and kind not in kinds:
        raise DarkpyError(
            f"{plan.file} is not {'an' if kind == 'isegmenter' else 'a'} {kind}", hint=f"darkpy {kinds[0]} train"
        )
    return kind or kinds[0]


def _output_node(plan: Plan) -> Node:
    return next((node for node in reversed(plan.nodes) if node.spec.is_output), plan.nodes[-1])


def _instance_node(plan: Plan) -> Node | None:
    """Return the last layer that learns masks of instances."""
    loss_nodes = (node for node in reversed(plan.nodes) if isinstance(node.spec, LossSpec) and node.spec.max_instances)
    return next(loss_nodes, None)


def backup_folder(data: DataFile) -> Path:
    """Make the folder for checkpoints that `backup=` of a .data file names.

    Raises:  DarkpyError when nothing can be written there.
    Differs: darknet does not make it and fails at the first checkpoint; its default is the folder /backup.
    """
    folder = data.find_folder("backup", "backup")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise DarkpyError(
            f"{data.path}: backup={folder}: nothing can be written there: {error.strerror or error}",
            hint="backup= names the folder for the weights",
        ) from error
    return folder


def fingerprint(setup: TrainingSetup, trainer: Trainer, *, precision: str, draft: bool) -> dict[str, str]:
    """Return all settings that affect a training's results, by name, to check whether a resumed run is the same one.

    trainer: whose subdivisions may not be those of the cfg.
    """
    plan = trainer.network.plan
    settings = {"seed": str(trainer.seed), "precision": precision, "dialect": str(plan.dialect)}
    settings |= {"draft": str(int(draft)), "freeze": str(trainer.network.frozen_layers)}
    settings["train list"] = f"{len(setup.paths)} images {_short_digest(setup.paths)}"
    for key in fields(plan.net):
        value = getattr(plan.net, key.name)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        settings.setdefault(key.name, text)
    for node in plan.nodes:
        entries = (f"{entry.key}={entry.value}" for entry in node.section.entries.values())
        settings[f"layer {node.index} [{node.type}]"] = _short_digest(entries)
    return settings


def _short_digest(texts: Iterable[str]) -> str:
    sha = hashlib.sha256()
    for text in texts:
        sha.update(text.encode(errors="surrogateescape") + b"\n")
    return sha.hexdigest()[:8]


def changed_settings(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Describe the settings in which two fingerprints differ: `batch=32 (was 64)`, `layer 2 [yolo]`."""
    changes = []
    for name in dict.fromkeys((*now, *before)):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if name.startswith("layer "):
            changes.append(name)
        elif old is None or new is None:  # a key that only one version of darkpy has
            continue
        elif name == "train list":
            counts = [text.rpartition(" ")[0] for text in (new, old)]
            changes.append(
                f"{name}: {counts[0]} (was {counts[1]})" if counts[0] != counts[1] else f"{name}: other images"
            )
        else:
            changes.append(f"{name}={new} (was {old})")
    return tuple(changes)


def _open_detector(
    plan: Plan,
    data: DataFile,
    paths: tuple[str, ...],
    head: Any,
    *,
    seed: int,
    draft: bool,
    workers: int,
    bad: BadLists | None,
) -> TrainingSetup:
    """head: the last one, whose keys count in both of darknet's dialects."""
    net = plan.net
    classes = len(read_class_map(head.map, head.classes)) if getattr(head, "map", None) else head.classes
    augment_config = DetectionAugmentConfig.from_net(
        net,
        head.type,
        classes=classes,
        max=head.max,
        jitter=head.jitter,
        resize=head.resize,
        side=getattr(head, "side", 7),
    )
    dataset = DetectionData(paths, augment_config, Sampler.for_detector(net, len(paths), seed), net.channels, draft)

    def size(batch_num: int) -> tuple[int, int]:
        return detector_size(net, head.random, batch_num, seed)

    def images(minibatch: int, w: int, h: int) -> int:
        return detector_minibatch(net, head.random, minibatch, w, h)

    intervals = Intervals.of_detector(
        net, save_weights=_number(data, "saveweights"), save_last=_number(data, "savelast")
    )
    # in both dialects the last updates are made at the largest size
    largest = size(net.max_batches)
    # images of a sequence have fixed positions in a minibatch
    dynamic = net.dynamic_minibatch and net.time_steps == 1
    source = BatchSource(dataset=dataset, size=size, images=images if dynamic else None, workers=workers, bad=bad)
    return TrainingSetup(plan, data, paths, classes, "detector", source, intervals, largest)


def _open_classifier(
    plan: Plan,
    data: DataFile,
    paths: tuple[str, ...],
    kind: str,
    *,
    seed: int,
    draft: bool,
    workers: int,
    bad: BadLists | None,
) -> TrainingSetup:
    """Return the setup of a classifier, regressor or tagger.

    Source: pjreddie/darknet examples/classifier.c, examples/regressor.c, examples/tag.c
    """
    net = plan.net
    classes = _output_node(plan).shape.outputs
    given = "numbers" if kind == "regressor" else "classes"
    _check_targets(plan, (classes,), f"a list of images gives one of {classes} {given}")
    config, sampler = ClassificationAugmentConfig.from_net(net), Sampler.for_classifier(net, len(paths), seed)
    dataset: ClassificationData | RegressionData
    if kind == "regressor":
        _check_number_count(data, plan, classes)
        dataset = RegressionData(paths, config, sampler, classes, net.channels, draft)
    elif kind == "tagger":
        config = config.without_ratios(net)
        dataset = ClassificationData(paths, config, sampler, classes, None, None, net.channels, draft)
    else:
        file = data.find("tree")
        tree = None if file is None else read_tree(file)
        labels = None if data.entries.get("tag", "0") != "0" else read_class_labels(data, classes)
        dataset = ClassificationData(paths, config, sampler, classes, labels, tree, net.channels, draft)
    has_random_size = kind == "classifier" and net.random

    def size(batch_num: int) -> tuple[int, int]:
        return classifier_size(net, batch_num, seed) if has_random_size else (net.width, net.height)

    largest = (MAX_CLASSIFIER_SIDE, MAX_CLASSIFIER_SIDE) if has_random_size else (net.width, net.height)
    if kind == "classifier":
        intervals = Intervals.of_classifier(net, len(paths))
    else:
        intervals = Intervals.of_epochs(len(paths), last_every=100)
    source = BatchSource(dataset=dataset, size=size, workers=workers, bad=bad)
    return TrainingSetup(plan, data, paths, classes, kind, source, intervals, largest)


def _check_number_count(data: DataFile, plan: Plan, numbers: int) -> None:
    """Raises: DarkpyError when classes= is not how many numbers the network gives. Differs: 1 by default in darknet."""
    stated = data.entries.get("classes")
    if stated is not None and stated != str(numbers):
        raise DarkpyError(
            f"{data.path}: classes={stated[:20]}, but {plan.file} gives {numbers} numbers for an image",
            hint=f"classes={numbers}, or another number of outputs in the network's last layer",
        )


def _open_segmenter(
    plan: Plan,
    data: DataFile,
    paths: tuple[str, ...],
    kind: str,
    *,
    seed: int,
    workers: int,
    bad: BadLists | None,
) -> TrainingSetup:
    """Return the setup of a training on masks.

    Source:  pjreddie/darknet examples/segmenter.c, examples/instance-segmenter.c
    Differs: the masks have as many classes as the network; darknet's `segmenter` has 80.
    """
    net = plan.net
    node = _output_node(plan) if kind == "segmenter" else _instance_node(plan)
    assert node is not None
    _, h, w = node.shape
    divisor = net.width // w
    if (w * divisor, h * divisor) != (net.width, net.height):
        raise DarkpyError(
            f"{plan.place(node.index)}: a map of {w} x {h} is not a fraction of the input, {net.width} x {net.height}",
            hint="masks need an output whose sides are those of [net] divided by one whole number",
        )
    classes = node.spec.class_channels(node.shape)
    max_instances = node.spec.max_instances if isinstance(node.spec, LossSpec) else 0
    target = (max_instances, 1 + h * w) if max_instances else (node.shape.outputs,)
    _check_targets(plan, target, f"masks of {classes} classes have {' x '.join(map(str, target))}")
    config = replace(ClassificationAugmentConfig.from_net(net), dialect=Dialect.PJREDDIE)
    sampler = Sampler(seed=seed, count=len(paths))
    dataset = MaskData(paths, config, sampler, classes, divisor, max_instances, net.channels)
    source = BatchSource(dataset=dataset, size=lambda _: (net.width, net.height), workers=workers, bad=bad)
    intervals = Intervals.of_epochs(len(paths), last_every=100)
    return TrainingSetup(plan, data, paths, classes, kind, source, intervals, (net.width, net.height))


def _check_targets(plan: Plan, shape: tuple[int, ...], given: str) -> None:
    """Check that each layer with a loss takes targets of this shape. given: the data's targets, for messages."""
    for node in plan.nodes:
        if isinstance(node.spec, LossSpec) and node.spec.has_loss:
            expected = node.spec.truth_shape(node.shape)
            if expected != shape:
                raise DarkpyError(
                    f"{plan.place(node.index)}: its target has {' x '.join(map(str, expected))} numbers, but {given}",
                    hint="train it from Python with darkpy.Trainer, and targets of your own",
                )


def read_class_labels(data: DataFile, classes: int) -> tuple[str, ...]:
    """Read the strings of labels=, of which a path contains that of its class; no more than the network has classes.

    Raises: DarkpyError when there are fewer.
    """
    file = _find(data, "labels", LABELS_LIST)
    hint = "labels= names a file with the label of one class on each line"
    labels = tuple(read_lines(file, hint=hint, keep_bytes=True))  # parts of paths, which are bytes
    if len(labels) < classes:
        raise DarkpyError(
            f"{file}: holds {len(labels)} labels, the network has {classes} classes",
            hint=f"set filters={len(labels)} in the network's last convolutional layer (output= in a connected one)",
        )
    return labels[:classes]


def _find(data: DataFile, key: str, default: str) -> Path:
    file = data.find(key, default)
    assert file is not None
    if key not in data.entries and not file.is_file():
        raise DarkpyError(f"{data.path}: has no {key}=", hint=f"name the file: {key}={Path(default).name}")
    return file


def _number(data: DataFile, key: str) -> int | None:
    text = data.entries.get(key)
    if text is None:
        return None
    if not text.isdecimal() or not int(text[:18]):
        raise DarkpyError(f"{data.path}: {key}={text[:20]} is not a number of updates", hint=f"{key}=1000, for example")
    return int(text[:18])


def _multiples_of(every: int) -> Callable[[UpdateReport], int | None]:
    return lambda report: report.batch_num if report.batch_num % every == 0 else None
