"""A list of images through a network: loaded ahead, forward in batches, what is detected handed to whoever judges it.

B images, C H W channels, rows, columns, M candidates, K classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from darkpy.data.loading.images import Image, load_image, prepare, stack
from darkpy.errors import ImageError
from darkpy.evaluation.detect import decode_heads, require_detector
from darkpy.evaluation.nms import suppress, suppress_by_objectness
from darkpy.evaluation.prefetch import BATCH_SIZE, load_in_batches
from darkpy.network import Network
from darkpy.ops.detections import Detections


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How one of darknet's evaluations comes to its boxes.

    thresh: what objectness and class scores must be above. tree_thresh, class_map: as `HeadSpec.decode` has them.
    nms: how much boxes may overlap; in each class, or by_objectness.
    """

    thresh: float
    nms: float
    letterbox: bool
    tree_thresh: float = 0.5
    by_objectness: bool = False
    class_map: tuple[int, ...] = ()


class Metric(NamedTuple):
    """Whoever takes in what is detected with some settings; image_M are numbers of the list."""

    settings: Settings
    add: Callable[[Detections], None]


@dataclass(frozen=True, slots=True)
class ImageStatus:
    """An image of the list that went through: its (w, h) in pixels, or why it could not be read."""

    number: int
    path: str
    size: tuple[int, int] = (0, 0)
    error: ImageError | None = None


class _Image(NamedTuple):
    """x_CHW: what the network sees, keyed by whether it is letterboxed."""

    view: ImageStatus
    x_CHW: dict[bool, Tensor]


def run(
    network: Network,
    paths: Sequence[str | os.PathLike[str]],
    judges: Sequence[Metric],
    *,
    batch_size: int | None = None,
) -> Iterator[ImageStatus]:
    """Show the network the images one after the other, and the judges what it detects; an image is yielded when done.

    An image that cannot be read has no detections. Judges that look at the images in the same form share a pass.
    The list is one film for layers with a memory, as it is for AlexeyAB's, if images come one by one; else each batch
    starts anew. batch_size: by default one where a layer has a memory, else what is fast.
    Raises: DarkpyError when the network has no detection head, or was opened for sequences.
    """
    require_detector(network)
    net, forms = network.plan.input_shape, {judge.settings.letterbox for judge in judges}
    fit = partial(prepare, net_w=net.w, net_h=net.h, channels_last=network.prefers_channels_last)

    def load(item: tuple[int, str | os.PathLike[str]]) -> tuple[ImageStatus, Image | None]:
        number, path = item
        try:
            image = load_image(path, channels=net.c)
        except ImageError as error:
            return ImageStatus(number, os.fspath(path), error=error), None
        return ImageStatus(number, os.fspath(path), (image.w, image.h)), image

    def prepared(loaded: tuple[ImageStatus, Image | None]) -> _Image:
        view, image = loaded
        if image is None:
            return _Image(view, {})
        return _Image(view, {form: fit(image, letterbox=form) for form in forms})

    batch_size = batch_size or (1 if network.has_memory else BATCH_SIZE)
    network.reset_state()
    for batch in load_in_batches(load, prepared, enumerate(paths), batch_size, network.device):
        if batch_size > 1:
            network.reset_state()
        readable = [picture for picture in batch if picture.view.error is None]
        for form in forms if readable else ():
            _show(network, readable, form, [judge for judge in judges if judge.settings.letterbox is form])
        yield from (picture.view for picture in batch)


@torch.inference_mode()
def _show(network: Network, pictures: Sequence[_Image], form: bool, judges: Sequence[Metric]) -> None:
    x_BCHW = stack([picture.x_CHW[form] for picture in pictures])
    x_BCHW = x_BCHW.to(network.device)
    outputs_BCHW = network(x_BCHW)
    number_B = torch.tensor([picture.view.number for picture in pictures])
    sizes = [picture.view.size for picture in pictures]
    for judge in judges:
        settings = judge.settings
        candidates = decode_heads(
            network,
            outputs_BCHW,
            sizes,
            thresh=settings.thresh,
            letterbox=settings.letterbox,
            tree_thresh=settings.tree_thresh,
            class_map=settings.class_map,
        )
        candidates = replace(candidates, image_M=number_B[candidates.image_M])
        if settings.by_objectness:
            judge.add(suppress_by_objectness(candidates, settings.nms))
        else:
            kept = suppress(candidates, settings.nms, *network.heads[-1].nms)
            judge.add(kept.select(_sorting(candidates)))


def _sorting(candidates: Detections) -> Tensor:
    """The order in which darknet's suppression leaves its boxes, image by image.

    It sorts them by the scores of one class after the other: those of the last class count most, and equal boxes stay
    as they were. What counts only the first detection of a truth, or breaks ties, depends on it.
    Source: pjreddie/darknet src/box.c do_nms_sort
    """
    level_M: Tensor
    _, level_M = torch.unique(candidates.prob_MK.flip(1), dim=0, return_inverse=True)
    by_level = level_M.argsort(descending=True, stable=True)
    return by_level[candidates.image_M[by_level].argsort(stable=True)]
