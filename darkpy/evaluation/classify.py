"""Image classification: darknet's ways to fit an image, the top classes, and top-1 / top-k accuracy.

K classes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from darkpy.config.tree import Tree, read_tree
from darkpy.data.lists.text_files import read_lines
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ImageError
from darkpy.evaluation.formats import rounded
from darkpy.evaluation.image_outputs import image_outputs
from darkpy.evaluation.image_views import MakeViews, OneView, fit_short_side, several_sizes, stretched, ten_crops
from darkpy.network import Network
from darkpy.ops.hierarchy import Hierarchy
from darkpy.ops.resample import center_crop, letterbox, resize_min_crop
from darkpy.sources.frames import Frame


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierOptions:
    """Options of one of darknet's classifier commands.

    views: makes the network's inputs for an image, whose outputs are added. top: number of classes to return.
    leaf: in a class tree, a flag for each class that may be returned; empty for all.
    """

    views: MakeViews
    top: int = 1
    leaf: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranking:
    """Top classes of an image and their probabilities, best first; or the reason why it could not be read."""

    path: str
    class_ids: tuple[int, ...] = ()
    probs: tuple[float, ...] = ()
    error: ImageError | None = None

    def to_dicts(self, names: Sequence[str]) -> list[dict[str, object]]:
        """Return a record of each class for JSON."""
        return [
            {"class_id": class_id, "name": names[class_id], "confidence": rounded(prob)}
            for class_id, prob in zip(self.class_ids, self.probs, strict=True)
        ]


def predict_options(network: Network, top: int) -> ClassifierOptions:
    """Return the options of `classifier predict`.

    Source:  pjreddie/darknet examples/classifier.c, AlexeyAB/darknet src/classifier.c predict_classifier
    """
    if network.plan.dialect is Dialect.ALEXEYAB:
        return ClassifierOptions(views=OneView(resize_min_crop), top=top)
    tree = find_tree(network)
    return ClassifierOptions(views=OneView(letterbox), top=top, leaf=tree.leaf if tree else ())


def valid_options(
    network: Network, top: int, leaves: str | os.PathLike[str] | None = None, *, kind: str = ""
) -> ClassifierOptions:
    """Return the options of `classifier valid`, or of another command that measures accuracy.

    leaves: a file with the names of the tree's classes to return, one a line; by default those without children.
    kind: 10, crop, full or multi of `classifier valid10` and so on.
    Raises:  DarkpyError when that file cannot be read, or names no class of the tree.
    Source:  pjreddie/darknet examples/classifier.c, AlexeyAB/darknet src/classifier.c validate_classifier_single, ...;
        pjreddie/darknet src/tree.c change_leaves
    """
    dialect = network.plan.dialect
    views_by_kind: dict[str, MakeViews] = {
        "": OneView(resize_min_crop if dialect is Dialect.ALEXEYAB else center_crop),
        "10": ten_crops,
        "crop": stretched,
        "full": OneView(fit_short_side),
        "multi": partial(several_sizes, dialect=dialect),
    }
    views = views_by_kind[kind]
    tree = find_tree(network)
    if tree is None:
        return ClassifierOptions(views=views, top=top)
    if leaves is None:
        return ClassifierOptions(views=views, top=top, leaf=tree.leaf)
    listed = set(read_lines(leaves, hint="leaves= names a file with names of the tree's classes, one a line"))
    leaf = tuple(name in listed for name in tree.names)
    if not any(leaf):
        raise DarkpyError(f"{os.fspath(leaves)}: none of its {len(listed)} names is a class of the tree")
    return ClassifierOptions(views=views, top=top, leaf=leaf)


def find_tree(network: Network) -> Tree | None:
    """Read the class tree that the last layer with `tree=` names; None if there is none."""
    files = [file for node in network.plan.nodes if (file := getattr(node.spec, "tree", None))]
    return read_tree(files[-1]) if files else None


def find_hierarchy(network: Network) -> Hierarchy | None:
    """Return the probabilities of the class tree, on the network's device; None if there is none."""
    tree = find_tree(network)
    return Hierarchy(tree.parent, tree.group_size).to(network.device) if tree else None


def class_count(network: Network) -> int:
    """Number of classes of a classifier. Raises: DarkpyError when the network is a detector."""
    plan = network.plan
    if network.heads:
        raise DarkpyError(
            f"{plan.file} has a detection layer", hint="use darkpy detect, or darkpy evaluate for its mAP"
        )
    return plan.nodes[network.outputs[0]].shape.outputs


def classify(
    network: Network,
    images: Iterable[str | os.PathLike[str] | Frame],
    options: ClassifierOptions,
    *,
    batch_size: int = 1,
    prefetch: bool = True,
) -> Iterator[Ranking]:
    """Yield the top classes of each image, in order; recurrent layers start each batch from their initial state.

    images: paths, or frames, whose decoded pixels they keep. prefetch: as in `load_in_batches`.
    Raises:  DarkpyError when the network is a detector, or its output is NaN.
    """
    class_count(network)
    hierarchy = find_hierarchy(network)
    for path, prob_K, error in image_outputs(
        network,
        images,
        options.views,
        batch_size=batch_size,
        prefetch=prefetch,
        hierarchy=hierarchy,
        leaf=options.leaf,
    ):
        yield Ranking(path, error=error) if prob_K is None else _rank(path, prob_K, options.top)


def _rank(path: str, prob_K: Tensor, top: int) -> Ranking:
    """Select the top classes; of equal probabilities the lower class id comes first.

    Source: pjreddie/darknet src/utils.c top_k
    """
    prob_K, class_K = prob_K.sort(descending=True, stable=True)
    return Ranking(path, tuple(class_K[:top].tolist()), tuple(prob_K[:top].tolist()))


class Accuracy:
    """Top-1 and top-k accuracy of all images so far.

    labels: an image's class is the first of them that occurs in its path. An image without a label, and one that
    cannot be read, counts as wrong.
    Source: pjreddie/darknet examples/classifier.c validate_classifier_single
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels
        self.images = 0
        self.unlabeled: list[str] = []
        self.ambiguous: list[str] = []
        self._top_1 = self._top_k = 0

    def add(self, ranking: Ranking) -> int | None:
        """Count an image. Returns: its class, or None if no label occurs in its path."""
        self.images += 1
        class_ids = [class_id for class_id, label in enumerate(self.labels) if label in ranking.path]
        if not class_ids:
            self.unlabeled.append(ranking.path)
            return None
        if len(class_ids) > 1:
            self.ambiguous.append(ranking.path)
        self._top_1 += ranking.class_ids[:1] == (class_ids[0],)
        self._top_k += class_ids[0] in ranking.class_ids
        return class_ids[0]

    @property
    def problems(self) -> Iterator[str]:
        """Messages about images of which the class is unclear."""
        for message, files in (
            ("no label occurs in the path of", self.unlabeled),
            ("several labels occur, and the first one counts, in the path of", self.ambiguous),
        ):
            if files:
                yield f"{message} {len(files)} of {self.images} images; first: {files[0]}"

    @property
    def top_1(self) -> float:
        return self._top_1 / self.images

    @property
    def top_k(self) -> float:
        return self._top_k / self.images

    def line(self, top: int) -> str:
        """darknet's line for the last image; its quotients are float32."""
        return f"{self.images - 1}: top 1: {np.float32(self.top_1):f}, top {top}: {np.float32(self.top_k):f}"
