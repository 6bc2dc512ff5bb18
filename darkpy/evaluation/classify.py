"""Image classification: darknet's ways to fit an image, the top classes, and top-1 / top-k accuracy.

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
from darkpy.data.loading.images import Image
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ImageError
from darkpy.evaluation.detect import load_in_batches
from darkpy.network import Network
from darkpy.ops.hierarchy import Hierarchy
from darkpy.ops.resample import center_crop, letterbox, resize_min_crop
from darkpy.sources.frames import Frame

FitImage = Callable[[Tensor, int, int], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierOptions:
    """Options of one of darknet's classifier commands.

    fit: function of (image_CHW, net_w, net_h) that returns the network's input. top: number of classes to return.
    leaf: in a class tree, a flag for each class that may be returned; empty for all.
    """

    fit: FitImage
    top: int = 1
    leaf: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranking:
    """Top classes of an image and their probabilities, best first; or the reason why it could not be read."""

    path: str
    class_ids: tuple[int, ...] = ()
    probs: tuple[float, ...] = ()
    error: ImageError | None = None


def predict_options(network: Network, top: int) -> ClassifierOptions:
    """Return the options of `classifier predict`.

    Source:  pjreddie/darknet examples/classifier.c, AlexeyAB/darknet src/classifier.c predict_classifier
    """
    if network.plan.dialect is Dialect.ALEXEYAB:
        return ClassifierOptions(fit=resize_min_crop, top=top)
    tree = find_tree(network)
    return ClassifierOptions(fit=letterbox, top=top, leaf=tree.leaf if tree else ())


def valid_options(network: Network, top: int, leaves: str | os.PathLike[str] | None = None) -> ClassifierOptions:
    """Return the options of `classifier valid`.

    leaves: a file with the names of the tree's classes to return, one a line; by default those without children.
    Raises:  DarkpyError when that file cannot be read, or names no class of the tree.
    Source:  pjreddie/darknet examples/classifier.c, AlexeyAB/darknet src/classifier.c validate_classifier_single;
        pjreddie/darknet src/tree.c change_leaves
    """
    fit = resize_min_crop if network.plan.dialect is Dialect.ALEXEYAB else center_crop
    tree = find_tree(network)
    if tree is None:
        return ClassifierOptions(fit=fit, top=top)
    if leaves is None:
        return ClassifierOptions(fit=fit, top=top, leaf=tree.leaf)
    listed = set(read_lines(leaves, hint="leaves= names a file with names of the tree's classes, one a line"))
    leaf = tuple(name in listed for name in tree.names)
    if not any(leaf):
        raise DarkpyError(f"{os.fspath(leaves)}: none of its {len(listed)} names is a class of the tree")
    return ClassifierOptions(fit=fit, top=top, leaf=leaf)


def find_tree(network: Network) -> Tree | None:
    """Read the class tree that the last layer with `tree=` names; None if there is none."""
    files = [file for node in network.plan.nodes if (file := getattr(node.spec, "tree", None))]
    return read_tree(files[-1]) if files else None


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
    net, tree = network.plan.input_shape, find_tree(network)
    device = network.device
    hierarchy = Hierarchy(tree.parent, tree.group_size).to(device) if tree else None

    def load(source: str | os.PathLike[str] | Frame) -> tuple[Ranking, Image | None]:
        frame = source if isinstance(source, Frame) else Frame.of_file(source)
        try:
            return Ranking(frame.path), frame.load(net.c)
        except ImageError as error:
            return Ranking(frame.path, error=error), None

    def fit(loaded: tuple[Ranking, Image | None]) -> tuple[Ranking, Tensor | None]:
        ranking, image = loaded
        return ranking, None if image is None else options.fit(image.view(), net.w, net.h)

    for batch in load_in_batches(load, fit, images, batch_size, device, prefetch=prefetch):
        readable = [(ranking.path, x_CHW) for ranking, x_CHW in batch if x_CHW is not None]
        ranked: Iterator[Ranking] = iter(())
        if readable:
            x_BCHW = torch.stack([x_CHW for _, x_CHW in readable]).to(device)
            prob_BK = _probabilities(network, x_BCHW, hierarchy, options.leaf)
            ranked = _rank([path for path, _ in readable], prob_BK, options.top)
        yield from (ranking if x_CHW is None else next(ranked) for ranking, x_CHW in batch)


@torch.inference_mode()
def _probabilities(network: Network, x_BCHW: Tensor, hierarchy: Hierarchy | None, leaf: Sequence[bool]) -> Tensor:
    """Probability of each class; in a tree the absolute one, 0 where `leaf` is unset.

    Source: pjreddie/darknet src/tree.c hierarchy_predictions
    """
    network.reset_state()
    prob_BK: Tensor = network(x_BCHW)[0].flatten(1).float()
    if hierarchy is not None:
        prob_BK = hierarchy.absolute(prob_BK, 1)
    return prob_BK * torch.tensor(leaf, device=prob_BK.device) if leaf else prob_BK


def _rank(paths: Sequence[str], prob_BK: Tensor, top: int) -> Iterator[Ranking]:
    """Select the top classes; of equal probabilities the lower class id comes first.

    Source: pjreddie/darknet src/utils.c top_k
    """
    is_nan_B = prob_BK.isnan().any(1)
    if is_nan_B.any():
        raise DarkpyError(
            f"{paths[int(is_nan_B.int().argmax())]}: the network's output is NaN",
            hint="the weights are damaged, or belong to another cfg",
        )
    prob_BK, class_BK = prob_BK.sort(dim=1, descending=True, stable=True)
    rows = zip(paths, class_BK[:, :top].tolist(), prob_BK[:, :top].tolist(), strict=True)
    return iter([Ranking(path, tuple(classes), tuple(probs)) for path, classes, probs in rows])


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
    def top_1(self) -> float:
        return self._top_1 / self.images

    @property
    def top_k(self) -> float:
        return self._top_k / self.images

    def line(self, top: int) -> str:
        """darknet's line for the last image; its quotients are float32."""
        return f"{self.images - 1}: top 1: {np.float32(self.top_1):f}, top {top}: {np.float32(self.top_k):f}"
