"""Cfg for one's own data: a published cfg with the classes, anchors and schedule of a data set.

custom = make_custom_cfg("yolov4-tiny", "my.data", size=416)
Path("my.cfg").write_text(custom.text)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from darkpy.anchors.cfg_heads import anchor_edits, find_heads
from darkpy.anchors.kmeans import AnchorMatch
from darkpy.anchors.recommend import default_count, recommend
from darkpy.anchors.search import SearchConfig
from darkpy.build import Node, Plan, make_plan
from darkpy.catalog import find_cfg
from darkpy.config.edit import edit_cfg
from darkpy.config.schema import keys_of
from darkpy.data.lists.image_list import open_key
from darkpy.data.lists.labels import LabelTable
from darkpy.data.lists.text_files import DataFile, read_data, read_names
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import read_text
from darkpy.finding import CfgEdit
from darkpy.layers.head import HeadSpec

MAX_TEMPLATE_BYTES = 1 << 20
BATCH, SUBDIVISIONS = 64, 16
MIN_UPDATES, UPDATES_PER_CLASS = 6000, 2000
"""Length of a training, which is also at least the number of images: the advice in AlexeyAB's README."""
DECAY_STEPS_PERCENT = (80, 90)
MAX_WARM_UP_FRAC = 0.2
"""Share of the training in which steps that raise the rate are kept."""
ANCHOR_RESTARTS, SAMPLED_BOXES = 10, 100_000
SCHEDULE_REASON = f"the last {100 - DECAY_STEPS_PERCENT[0]} % of the updates at smaller rates"


@dataclass(frozen=True, slots=True)
class CfgChange:
    """Changed key of a cfg. old: its value before, None if it was not there. reason: for the new value."""

    edit: CfgEdit
    section: str
    old: str | None
    reason: str

    def __str__(self) -> str:
        """`layer 15 [convolutional] filters=24 (was 255): 3 anchors x (5 + 3 classes)`."""
        layer = "" if self.edit.layer is None else f"layer {self.edit.layer} "
        was = "new" if self.old is None else f"was {self.old}"
        return f"{layer}[{self.section}] {self.edit} ({was}): {self.reason}"


@dataclass(frozen=True, slots=True)
class CustomCfg:
    """Cfg for a data set.

    text: of the new cfg, with the comments of the original. changes: in the order of the cfg.
    """

    text: str
    plan: Plan
    changes: tuple[CfgChange, ...]


def find_template(name: str | os.PathLike[str]) -> Path:
    """Find a published cfg by name (`yolov4-tiny`), or a cfg by path. Raises: DarkpyError."""
    path = Path(find_cfg(name))
    if not path.is_file():
        raise DarkpyError(f"{path}: no such cfg", hint="darkpy models lists the published ones")
    return path


def make_custom_cfg(
    template: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    dialect: Dialect | str | None = None,
    seed: int = 0,
) -> CustomCfg:
    """Make a cfg for a data set out of a published one.

    Set are batch and subdivisions, the length of the training and its steps, the classes of every head and the
    channels before it, anchors and masks, and what the data need beyond that.

    template: name of a published cfg, or the path of a cfg. data: a `.data` file with `train` and `names`.
    size: width and height of the input in pixels; None keeps the template's. seed: of the anchor search.
    Raises: DarkpyError when the cfg has no detection head or the data no labels; ConfigError when the size does not
        fit the network.
    """
    path, data_file = find_template(template), read_data(data)
    text = read_text(path, max_bytes=MAX_TEMPLATE_BYTES, hint="a cfg starts with [net]")
    plan = make_plan(f"{text}\n", dialect)
    images = open_key(data_file, "train")
    labels = images.read_labels(plan.dialect)
    builder = _Customizer(text, plan, count_classes(data_file, labels), len(images.images), labels)
    builder.set_input(size)
    builder.set_schedule()
    builder.set_classes()
    builder.set_anchors(seed)
    custom = builder.finish()
    width, height = custom.plan.net.width, custom.plan.net.height
    things = f"{builder.classes} class{'es' if builder.classes > 1 else ''}"
    title = f"# {path.name} for {data_file.path.name}: {things}, {width} x {height}\n"
    return replace(custom, text=title + custom.text, plan=make_plan(f"{title}{custom.text}\n", plan.dialect))


def count_classes(data: DataFile, labels: LabelTable) -> int:
    """Return the number of classes: of the names, else by `classes=`, else by the labels.

    Raises: DarkpyError when the first two differ.
    """
    stated = data.entries.get("classes", "")
    count = int(stated) if stated.isdecimal() and len(stated) < 7 else None
    file = data.find("names")
    if file is not None:
        names = len(read_names(file))
        if count is not None and names != count:
            raise DarkpyError(
                f"{data.path}: classes={count}, but {file} holds {names} names",
                hint=f"classes={names} if all are meant",
            )
        return names
    return count or int(labels.class_N.max(initial=0)) + 1


class _Customizer:
    """One cfg text and the changes made to it so far; `plan` is that of the text as it is now."""

    def __init__(self, text: str, plan: Plan, classes: int, images: int, labels: LabelTable) -> None:
        self.text, self.plan, self.original = text, plan, plan
        self.classes, self.images, self.labels = classes, images, labels
        self.changes: dict[tuple[int | None, str], CfgChange] = {}
        if not self._heads():
            raise DarkpyError("the cfg has no detection head", hint="choose a detector, such as yolov4-tiny")

    def set_input(self, size: tuple[int, int] | None) -> None:
        """Set the input size, and batch and subdivisions for training."""
        net = self.plan.net
        values = {"batch": (str(BATCH), "images of an update")}
        values["subdivisions"] = (
            str(SUBDIVISIONS),
            f"forward passes of {BATCH // SUBDIVISIONS} images; more if memory is short",
        )
        if size is not None:
            values |= {
                key: (str(side), "the requested input size")
                for key, side in zip(("width", "height"), size, strict=True)
            }
        if net.letter_box and net.mosaic:
            values["letter_box"] = ("0", "AlexeyAB's program refuses it together with mosaic=1")
        self._apply(None, values)

    def set_schedule(self) -> None:
        """Set the number of updates and the steps by the advice of AlexeyAB's README."""
        net = self.plan.net
        updates = max(MIN_UPDATES, UPDATES_PER_CLASS * self.classes, self.images)
        reason = f"the largest of {MIN_UPDATES}, {UPDATES_PER_CLASS} x {self.classes} classes, {self.images} images"
        values = {"max_batches": (str(updates), reason)}
        if net.policy == "steps":
            pairs = list(zip(net.steps, net.scales, strict=False))
            rising = [
                index for index, (step, scale) in enumerate(pairs) if scale > 1 and step <= MAX_WARM_UP_FRAC * updates
            ]
            kept = pairs[: rising[-1] + 1] if rising else []
            steps = [*(step for step, _ in kept), *(updates * percent // 100 for percent in DECAY_STEPS_PERCENT)]
            scales = [*(f"{scale:g}" for _, scale in kept), *(".1" for _ in DECAY_STEPS_PERCENT)]
            values["steps"] = (",".join(map(str, steps)), SCHEDULE_REASON)
            if [float(scale) for scale in scales] != list(net.scales):
                values["scales"] = (",".join(scales), "a factor for each of steps=")
        self._apply(None, values)

    def set_classes(self) -> None:
        """Set the classes of every head and the channels of the layer before it."""
        counts = np.bincount(self.labels.image_N).max(initial=0)
        for node, spec in self._heads():
            if getattr(spec, "tree", None) or getattr(spec, "map", None):
                raise DarkpyError(f"{self.plan.place(node.index)} has a class tree", hint="choose another cfg")
            values = {"classes": (str(self.classes), "of the data")}
            if "counters_per_class" in node.section.entries:
                per_class = np.bincount(self.labels.class_N, minlength=self.classes)[: self.classes]
                values["counters_per_class"] = (",".join(map(str, per_class.tolist())), "objects of each class")
            if counts > getattr(spec, "max", counts):
                values["max"] = (str(counts), "objects on one image")
            self._edit(node.index, values)
            source = self.plan.nodes[node.sources[0]]
            key = "filters" if "filters" in keys_of(type(source.spec)) else "output"
            fitted = replace(spec, classes=self.classes)  # type: ignore[call-arg]
            self._edit(source.index, {key: (str(fitted.input_count), fitted.describe_input())})
        self._replan()

    def set_anchors(self, seed: int) -> None:
        """Set anchors and masks if anchors of the data fit better than the cfg's."""
        if all(spec.anchor_keys is None for _, spec in self._heads()):
            return
        heads = find_heads(self.plan)
        size_N2 = self.labels.box_N4[:, 2:]
        size_N2 = np.ascontiguousarray(size_N2[((size_N2 > 0) & (size_N2 <= 1)).all(axis=1)])
        count = default_count(heads)
        if len(np.unique(size_N2, axis=0)) < count:
            return
        search = SearchConfig(count=count, restarts=ANCHOR_RESTARTS, seed=seed, sample=SAMPLED_BOXES)
        found = recommend(self.plan, size_N2, search)
        if not found.is_better:
            return
        reasons = {
            "anchors": f"{_fit_text(found.new)} of the boxes; before {_fit_text(found.now)}",
            "mask": "the smallest anchors for the finest map",
            "num": "anchors in the list",
            "filters": "anchors of the head x its entries",
        }
        for edit in anchor_edits(found.anchors_K2, found.head_anchors):
            self._edit(edit.layer, {edit.key: (edit.value, reasons[edit.key])})
        self._replan()

    def finish(self) -> CustomCfg:
        changes = sorted(
            self.changes.values(), key=lambda change: -1 if change.edit.layer is None else change.edit.layer
        )
        return CustomCfg(self.text, self.plan, tuple(changes))

    def _heads(self) -> list[tuple[Node, HeadSpec]]:
        return [(node, node.spec) for node in self.plan.nodes if isinstance(node.spec, HeadSpec)]

    def _apply(self, layer: int | None, values: dict[str, tuple[str, str]]) -> None:
        self._edit(layer, values)
        self._replan()

    def _edit(self, layer: int | None, values: dict[str, tuple[str, str]]) -> None:
        section = self.original.net_section if layer is None else self.original.nodes[layer].section
        for key, (value, reason) in values.items():
            entry = section.entries.get(key)
            old = None if entry is None else entry.value
            edit = CfgEdit(key, value, layer)
            self.changes.pop((layer, key), None)
            if old != "".join(value.split()):
                self.changes[layer, key] = CfgChange(edit, section.type, old, reason)
            self.text = edit_cfg(self.text, [edit])

    def _replan(self) -> None:
        self.plan = make_plan(f"{self.text}\n", self.plan.dialect)


def _fit_text(fit: AnchorMatch) -> str:
    return f"average IoU {fit.average_iou:.0%}, recall {fit.recall:.0%}"


def describe(custom: CustomCfg) -> Iterator[str]:
    """Yield a line for each change; equal changes of several layers share one."""
    groups: dict[tuple[str, str, str | None, str], list[CfgChange]] = {}
    for change in custom.changes:
        key = str(change.edit), change.section, change.old, change.reason
        groups.setdefault(key, []).append(change)
    for changes in groups.values():
        layers = [str(change.edit.layer) for change in changes]
        text = str(changes[0])
        yield text.replace(f"layer {layers[0]} ", f"layers {', '.join(layers)} ", 1) if len(layers) > 1 else text
