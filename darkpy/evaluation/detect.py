"""From images to boxes: prepare, forward, decode, move back, suppress.

Legend: B images, C H W channels, rows, columns, M candidates, K classes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch.nn import functional

from darkpy.data.loading.images import Image, load_image, prepare, stack
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ImageError
from darkpy.evaluation.nms import suppress
from darkpy.evaluation.objects import Object, objects
from darkpy.evaluation.prefetch import BATCH_SIZE, load_in_batches
from darkpy.network import Network
from darkpy.ops.detections import Detections
from darkpy.ops.resample import letterbox_geometry


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectOptions:
    """How boxes are chosen; the defaults are those of `detector test`.

    thresh: objectness and class score must be above it; None takes the fork's (.5 pjreddie, .25 AlexeyAB).
    tree_thresh: darknet's `-hier`, for class trees.
    nms: intersection over union above which the lower box of a class goes; 0 keeps all.
    letterbox: keep the image's proportions; None as the fork does (pjreddie yes, AlexeyAB by [net] letter_box).
    """

    thresh: float | None = None
    tree_thresh: float = 0.5
    nms: float = 0.45
    letterbox: bool | None = None

    def resolved(self, network: Network) -> DetectOptions:
        """The same with the fork's values in place of None."""
        is_pjreddie = network.plan.dialect is Dialect.PJREDDIE
        thresh = (0.5 if is_pjreddie else 0.25) if self.thresh is None else self.thresh
        letterbox = (is_pjreddie or network.plan.net.letter_box) if self.letterbox is None else self.letterbox
        return replace(self, thresh=thresh, letterbox=letterbox)


@dataclass(frozen=True, slots=True)
class Result:
    """What was seen on one image, or why it could not be read (`error`)."""

    path: str
    image: Image | None
    objects: tuple[Object, ...] = ()
    error: ImageError | None = None


class _Image(NamedTuple):
    """An image, and what the network sees of it; None where it could not be read."""

    result: Result
    x_CHW: torch.Tensor | None


def detect(
    network: Network,
    paths: Iterable[str | os.PathLike[str]],
    names: Sequence[str],
    options: DetectOptions | None = None,
    *,
    batch_size: int | None = None,
    prefetch: bool = True,
) -> Iterator[Result]:
    """The objects on each image, in the order given; an image that cannot be read yields its error.

    Images are no film: layers with a memory see each as a first one.
    batch_size: by default what is fast.
    may_wait: whether paths may be asked for long before their turn; with batch_size 1 and False each has its result
        before the next one is asked for.
    Raises: DarkpyError when the network has no detection head, or was opened for sequences.
    """
    require_detector(network)
    chosen = (options or DetectOptions()).resolved(network)
    net = network.plan.input_shape

    def load(path: str | os.PathLike[str]) -> Result:
        try:
            return Result(os.fspath(path), load_image(path, channels=net.c))
        except ImageError as error:
            return Result(os.fspath(path), None, error=error)

    def prepared(result: Result) -> _Image:
        if result.image is None:
            return _Image(result, None)
        letterbox, channels_last = bool(chosen.letterbox), network.prefers_channels_last
        x_CHW = prepare(result.image, net.w, net.h, letterbox=letterbox, channels_last=channels_last)
        return _Image(result, x_CHW)

    for batch in load_in_batches(load, prepared, paths, batch_size or BATCH_SIZE, network.device, prefetch=prefetch):
        yield from _detect_batch(network, batch, names, chosen)


def detections_of(
    network: Network, outputs_BCHW: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]], options: DetectOptions
) -> Detections:
    """The suppressed candidates of a batch, as fractions of each image.

    sizes: (w, h) of each image in pixels, before it was prepared. options: resolved ones.
    Source: AlexeyAB/darknet src/network.c get_network_boxes.
    """
    assert options.thresh is not None and options.letterbox is not None
    candidates = decode_heads(
        network,
        outputs_BCHW,
        sizes,
        thresh=options.thresh,
        letterbox=options.letterbox,
        tree_thresh=options.tree_thresh,
    )
    return suppress(candidates, options.nms, *network.heads[-1].nms) if options.nms else candidates


def decode_heads(
    network: Network,
    outputs_BCHW: Sequence[torch.Tensor],
    sizes: Sequence[tuple[int, int]],
    *,
    thresh: float,
    letterbox: bool,
    tree_thresh: float = 0.5,
    class_map: Sequence[int] = (),
) -> Detections:
    """What all heads see on a batch before suppression, as fractions of each image.

    They are on the processor: suppression asks for sizes again and again, and a GPU would have to be waited for.
    sizes: (w, h) of each image in pixels, before it was prepared. The others are as `HeadSpec.decode` has them.
    """
    net = network.plan.input_shape
    parts = []
    for head, output_BCHW in zip(network.heads, outputs_BCHW, strict=True):
        found = head.decode(output_BCHW, net.w, net.h, thresh, tree_thresh, class_map).to("cpu")
        is_moved = letterbox and head.corrects_letterbox
        parts.append(undo_letterbox(found, sizes, net.w, net.h) if is_moved else found)
    classes = max(part.prob_MK.shape[1] for part in parts)
    return Detections.cat(
        [replace(part, prob_MK=functional.pad(part.prob_MK, (0, classes - part.prob_MK.shape[1]))) for part in parts]
    )


def require_detector(network: Network) -> None:
    """Raises: DarkpyError when the network has no detection head, or was opened for sequences."""
    plan = network.plan
    if not network.heads:
        raise DarkpyError(
            f"{plan.file} has no detection layer", hint="networks that end in [softmax] classify, not detect"
        )
    if plan.net.time_steps > 1:
        raise DarkpyError(
            f"{plan.file} takes {plan.net.time_steps} images for one film (time_steps)",
            hint="darkpy.load(..., time_steps=1) takes them one by one",
        )


def undo_letterbox(detections: Detections, sizes: Sequence[tuple[int, int]], net_w: int, net_h: int) -> Detections:
    """Boxes as fractions of the image instead of the letterboxed input.

    The border is halved as a float here, though the image is pasted at a whole pixel: darknet's boxes are half a
    pixel off where the border is odd, and so are these.
    Source: pjreddie/darknet src/yolo_layer.c correct_yolo_boxes.
    """
    fitted = [letterbox_geometry(w, h, net_w, net_h) for w, h in sizes]
    fitted_B2 = detections.boxes_M4.new_tensor([(one.new_w, one.new_h) for one in fitted])
    net_2 = fitted_B2.new_tensor((net_w, net_h))
    share_M2 = (fitted_B2 / net_2)[detections.image_M]
    border_M2 = ((net_2 - fitted_B2) / 2 / net_2)[detections.image_M]
    center_M2, size_M2 = detections.boxes_M4.tensor_split(2, dim=1)
    boxes_M4 = torch.cat([(center_M2 - border_M2) / share_M2, size_M2 / share_M2], dim=1)
    return replace(detections, boxes_M4=boxes_M4)


def _detect_batch(
    network: Network, batch: Sequence[_Image], names: Sequence[str], options: DetectOptions
) -> Iterator[Result]:
    images = [picture.result.image for picture in batch if picture.result.image is not None]
    readable = [picture.x_CHW for picture in batch if picture.x_CHW is not None]
    found: Detections | None = None
    if readable:
        network.reset_state()
        with torch.inference_mode():
            outputs_BCHW = network(stack(readable).to(network.device))
            found = detections_of(network, outputs_BCHW, [(image.w, image.h) for image in images], options)
    place = iter(range(len(readable)))
    for picture in batch:
        if found is None or picture.x_CHW is None:
            yield picture.result
        else:
            seen = objects(found, next(place), names, options.thresh or 0)
            yield replace(picture.result, objects=tuple(seen))
