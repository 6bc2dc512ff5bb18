"""What a classifier takes images for: darknet's look at them, the surest classes, and how often these are right.

B images, C H W channels, rows, columns, K classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from darkpy.config.tree import Tree, read_tree
from darkpy.data.lists.text_files import read_lines
from darkpy.data.loading.images import Image, load_image
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ImageError
from darkpy.evaluation.prefetch import load_in_batches
from darkpy.network import Network
from darkpy.ops.hierarchy import Hierarchy
from darkpy.ops.resample import center_crop, letterbox, resize_min_crop

Prepare = Callable[[Tensor, int, int], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierOptions:
    """How one of darknet's commands looks at an image, and what it may say of it.

    prepare: from the image to what the network sees. top: how many classes are told.
    leaf: in a tree, whether each class may be told; empty for all.
    """

    prepare: Prepare
    top: int = 1
    leaf: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranking:
    """The surest classes of an image and their probabilities, the surest first; or why it could not be read."""

    path: str
    class_ids: tuple[int, ...] = ()
    probs: tuple[float, ...] = ()
    error: ImageError | None = None


def predict_options(network: Network, top: int) -> ClassifierOptions:
    """Those of `classifier predict`.

    Source:  pjreddie/darknet examples/classifier.c, AlexeyAB/darknet src/classifier.c predict_classifier
    """
    if network.plan.dialect is Dialect.ALEXEYAB:
        return ClassifierOptions(prepare=resize_min_crop, top=top)
    tree = find_tree(network)
    return ClassifierOptions(prepare=letterbox, top=top, leaf=tree.leaf if tree else ())


def valid_options(network: Network, top: int, leaves: str | os.PathLike[str] | None = None) -> ClassifierOptions:
    """Those of `classifier valid`.

    leaves: a file with the names of the tree's classes that may be told, one a line; by default nobody's parents.
    Raises:  DarkpyError when that file cannot be read, or names no class of the tree.
    Source:  pjreddie/darknet examples/classifier.c, AlexeyAB/darknet src/classifier.c validate_classifier_single
    """
    prepare = resize_min_crop if network.plan.dialect is Dialect.ALEXEYAB else center_crop
    tree = find_tree(network)
    if tree is None:
        return ClassifierOptions(prepare=prepare, top=top)
    return ClassifierOptions(prepare=prepare, top=top, leaf=tree.leaf if leaves is None else _read_leaves(leaves, tree))


def find_tree(network: Network) -> Tree | None:
    """The tree of the network's classes, which its last layer with a `tree` names."""
    files = [file for node in network.plan.nodes if (file := getattr(node.spec, "tree", None))]
    return read_tree(files[-1]) if files else None


def class_count(network: Network) -> int:
    """How many classes the network tells apart. Raises: DarkpyError when it is a detector."""
    plan = network.plan
    if network.heads:
        raise DarkpyError(
            f"{plan.file} has a detection layer", hint="darkpy detect finds objects, darkpy evaluate judges a detector"
        )
    return plan.nodes[network.outputs[0]].shape.outputs


def classify(
    network: Network, paths: Iterable[str | os.PathLike[str]], settings: ClassifierOptions, *, batch_size: int = 1
) -> Iterator[Ranking]:
    """The surest classes of each image, in order; a layer with a memory begins each batch anew.

    Raises:  DarkpyError when the network is a detector, or its output is no number (NaN).
    """
    class_count(network)
    net, tree = network.plan.input_shape, find_tree(network)
    device = network.device
    hierarchy = Hierarchy(tree.parent, tree.group_size).to(device) if tree else None

    def load(path: str | os.PathLike[str]) -> tuple[Ranking, Image | None]:
        try:
            return Ranking(os.fspath(path)), load_image(path, channels=net.c)
        except ImageError as error:
            return Ranking(os.fspath(path), error=error), None

    def prepare(loaded: tuple[Ranking, Image | None]) -> tuple[Ranking, Tensor | None]:
        ranking, image = loaded
        return ranking, None if image is None else settings.prepare(image.view(), net.w, net.h)

    for batch in load_in_batches(load, prepare, paths, batch_size, device):
        seen = [(ranking.path, x_CHW) for ranking, x_CHW in batch if x_CHW is not None]
        ranked: Iterator[Ranking] = iter(())
        if seen:
            x_BCHW = torch.stack([x_CHW for _, x_CHW in seen]).to(device)
            ranked = _rank([path for path, _ in seen], _score(network, x_BCHW, hierarchy, settings.leaf), settings.top)
        yield from (ranking if x_CHW is None else next(ranked) for ranking, x_CHW in batch)


@torch.inference_mode()
def _score(network: Network, x_BCHW: Tensor, hierarchy: Hierarchy | None, leaf: Sequence[bool]) -> Tensor:
    """Source: pjreddie/darknet src/tree.c hierarchy_predictions"""
    network.reset_state()
    prob_BK: Tensor = network(x_BCHW)[0].flatten(1).float()
    if hierarchy is not None:
        prob_BK = hierarchy.absolute(prob_BK, 1)
    return prob_BK * torch.tensor(leaf, device=prob_BK.device) if leaf else prob_BK


def _rank(paths: Sequence[str], prob_BK: Tensor, top: int) -> Iterator[Ranking]:
    """Of equal classes the first comes first.

    Source: pjreddie/darknet src/utils.c top_k
    """
    broken_B = prob_BK.isnan().any(1)
    if broken_B.any():
        raise DarkpyError(
            f"{paths[int(broken_B.int().argmax())]}: the network's output is no number (NaN)",
            hint="the weights are broken, or belong to another cfg",
        )
    prob_BK, class_BK = prob_BK.sort(dim=1, descending=True, stable=True)
    rows = zip(paths, class_BK[:, :top].tolist(), prob_BK[:, :top].tolist(), strict=True)
    return iter([Ranking(path, tuple(classes), tuple(probs)) for path, classes, probs in rows])


class Accuracy:
    """How often the right class is the surest one, or among those told, of all images so far.

    labels: an image's class is the first of them that occurs in its path. Without any, and where the image cannot
    be read, whatever is told is wrong.
    Source: pjreddie/darknet examples/classifier.c validate_classifier_single
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels
        self.images = 0
        self.unlabeled: list[str] = []
        self.ambiguous: list[str] = []
        self._first = self._among = 0

    def add(self, ranking: Ranking) -> None:
        self.images += 1
        found = [number for number, label in enumerate(self.labels) if label in ranking.path]
        if not found:
            self.unlabeled.append(ranking.path)
            return
        if len(found) > 1:
            self.ambiguous.append(ranking.path)
        self._first += ranking.class_ids[:1] == (found[0],)
        self._among += found[0] in ranking.class_ids

    @property
    def top_1(self) -> float:
        return self._first / self.images

    @property
    def top_k(self) -> float:
        return self._among / self.images

    def line(self, top: int) -> str:
        """darknet's line for the last image; its quotients are float32."""
        return f"{self.images - 1}: top 1: {np.float32(self.top_1):f}, top {top}: {np.float32(self.top_k):f}"


def _read_leaves(file: str | os.PathLike[str], tree: Tree) -> tuple[bool, ...]:
    """Source: pjreddie/darknet src/tree.c change_leaves"""
    wanted = set(read_lines(file, hint="leaves= names a file with names of the tree's classes, one a line"))
    leaf = tuple(name in wanted for name in tree.names)
    if not any(leaf):
        raise DarkpyError(f"{os.fspath(file)}: none of its {len(wanted)} names is a class of the tree")
    return leaf
