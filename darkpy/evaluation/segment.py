"""Masks of the classes on an image, by a network whose output is a map of scores.

Letters: B images, C color, H height, W width of an image or a map, K classes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkpy.data.lists.mask_files import Mask, encode_runs
from darkpy.data.loading.images import Image, load_image, prepare
from darkpy.errors import DarkpyError, ImageError
from darkpy.evaluation.detect import load_in_batches
from darkpy.evaluation.draw import draw_masks
from darkpy.evaluation.image_outputs import require_no_nan
from darkpy.layers.loss import LossSpec
from darkpy.network import Network
from darkpy.ops.resample import letterbox_geometry
from darkpy.ops.warp import sample, taps_at

DEFAULT_THRESH = 0.5
_DARKNET_COLORS = ((1, 0, 1), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 1, 0), (1, 0, 0))


@dataclass(frozen=True, eq=False, slots=True)
class Segmentation:
    """Masks of the classes on an image, or the reason why it could not be read.

    x_CHW: the network's input. score_KHW: the network's scores, on its map. masks: one for each class with a score
    above the threshold somewhere, of the image's pixels, the largest first. best_HW: class with the highest score above
    the threshold at each pixel, -1 for none.
    """

    path: str
    image: Image | None = None
    x_CHW: Tensor | None = None
    score_KHW: Tensor | None = None
    masks: tuple[Mask, ...] = ()
    best_HW: NDArray[np.int32] | None = None
    error: ImageError | None = None

    def share(self, mask: Mask) -> float:
        """Return the fraction of the image's pixels that a mask covers."""
        assert self.image is not None
        return mask.pixels / (self.image.w * self.image.h)

    def draw(self, names: Sequence[str]) -> PIL.Image.Image:
        """Color the image's pixels by their classes, with a legend. Returns: a new image."""
        assert self.image is not None and self.best_HW is not None
        pixels_HW3 = np.broadcast_to(self.image.pixels_HWC, (self.image.h, self.image.w, 3))
        return draw_masks(pixels_HW3, self.best_HW, [(mask.class_id, names[mask.class_id]) for mask in self.masks])

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the masks for JSON, with the runs of a mask file."""
        if self.image is None:
            return {"filename": self.path, "error": str(self.error)}
        masks = [
            {
                "class_id": mask.class_id,
                "name": names[mask.class_id],
                "pixels": mask.pixels,
                "share": round(self.share(mask), 6),
                "runs": mask.runs_N.tolist(),
            }
            for mask in self.masks
        ]
        return {"filename": self.path, "width": self.image.w, "height": self.image.h, "masks": masks}


def mask_class_count(network: Network) -> int:
    """Number of classes of a network that classifies pixels. Raises: DarkpyError when the network does not."""
    plan = network.plan
    node = plan.nodes[network.outputs[0]]
    if network.heads:
        raise DarkpyError(f"{plan.file} has a detection layer", hint="darkpy detect finds boxes with it")
    if node.shape[1:] == (1, 1) or not plan.net.width:
        raise DarkpyError(
            f"{plan.file}: its output, {node.shape}, is not a map of an image", hint="darkpy classify gives its classes"
        )
    return node.spec.class_channels(node.shape)


def segment(
    network: Network,
    paths: Iterable[str | os.PathLike[str]],
    *,
    thresh: float | None = DEFAULT_THRESH,
    batch_size: int = 1,
    prefetch: bool = True,
) -> Iterator[Segmentation]:
    """Yield the masks of each image, in order.

    thresh: a pixel belongs to the classes with a score above it. None is what the network was trained for: behind a
        softmax of each pixel the class with the highest score alone, else those above .5. prefetch: load images early.
    Raises:  DarkpyError when the network does not classify pixels, or its output is NaN.
    Source:  pjreddie/darknet examples/segmenter.c predict_segmenter
    """
    classes = mask_class_count(network)
    net = network.plan.input_shape

    def load(path: str | os.PathLike[str]) -> tuple[Image | None, Segmentation, Tensor | None]:
        try:
            image = load_image(path, channels=net.c)
        except ImageError as error:
            return None, Segmentation(os.fspath(path), error=error), None
        x_CHW = prepare(image, net.w, net.h, letterbox=True, channels_last=False)
        return image, Segmentation(os.fspath(path)), x_CHW

    for batch in load_in_batches(load, paths, batch_size, network.device, prefetch=prefetch):
        inputs = [x_CHW for _, _, x_CHW in batch if x_CHW is not None]
        scores = iter(_scores(network, torch.stack(inputs), classes) if inputs else ())
        for image, empty, x_CHW in batch:
            if image is None or x_CHW is None:
                yield empty
                continue
            score_KHW = next(scores)
            require_no_nan(score_KHW, empty.path)
            masks, best_HW = _find_masks(network, image, score_KHW, thresh)
            yield Segmentation(empty.path, image, x_CHW, score_KHW, masks, best_HW)


@torch.inference_mode()
def _scores(network: Network, x_BCHW: Tensor, classes: int) -> Tensor:
    network.reset_state()
    scores_BKHW: Tensor = network(x_BCHW.to(network.device))[0][:, :classes].float().cpu()
    return scores_BKHW


def _find_masks(
    network: Network, image: Image, score_KHW: Tensor, thresh: float | None
) -> tuple[tuple[Mask, ...], NDArray[np.int32]]:
    """Scale the scores of each class to the image, and compare them with the threshold, or with each other.

    One class after the other: the scores of all of them would need much memory for a large image.
    """
    net, spec = network.plan.input_shape, network.plan.nodes[network.outputs[0]].spec
    _, map_h, map_w = score_KHW.shape
    new_w, new_h, left, top = letterbox_geometry(image.w, image.h, net.w, net.h)
    # a target's pixel is the input's at its multiple; those of instances are resized masks, with aligned corners
    is_aligned = isinstance(spec, LossSpec) and spec.max_instances > 0
    rows, columns = (
        taps_at((start + torch.arange(size) * ((new - 1) / max(1, size - 1))) * step, count)
        for start, size, new, step, count in (
            (top, image.h, new_h, (map_h - 1) / max(1, net.h - 1) if is_aligned else map_h / net.h, map_h),
            (left, image.w, new_w, (map_w - 1) / max(1, net.w - 1) if is_aligned else map_w / net.w, map_w),
        )
    )
    is_exclusive = thresh is None and spec.is_exclusive
    if thresh is None:
        thresh = 0.0 if is_exclusive else DEFAULT_THRESH
    masks: list[Mask] = []
    highest_HW = np.full((image.h, image.w), thresh, np.float32)
    best_HW = np.full((image.h, image.w), -1, np.int32)
    for class_id in (score_KHW.flatten(1).amax(1) > thresh).nonzero().flatten().tolist():
        score_HW = sample(score_KHW[class_id : class_id + 1], rows, columns)[0].numpy()
        is_inside_HW = score_HW > thresh
        if is_inside_HW.any():
            if not is_exclusive:
                masks.append(Mask(class_id, encode_runs(is_inside_HW)))
            is_best_HW = score_HW > highest_HW
            best_HW[is_best_HW] = class_id
            highest_HW[is_best_HW] = score_HW[is_best_HW]
    if is_exclusive:
        masks = [Mask(class_id, encode_runs(best_HW == class_id)) for class_id in np.unique(best_HW[best_HW >= 0])]
    return tuple(sorted(masks, key=lambda mask: -mask.pixels)), best_HW


def darknet_colors(score_KHW: Tensor) -> NDArray[np.uint8]:
    """Return darknet's image of a map of scores: the sum of the classes' colors.

    Shapes:  (H, W, 3).
    Source:  pjreddie/darknet src/image.c mask_to_rgb, save_image
    Differs: sums above white are white; in darknet their bytes overflow.
    """
    classes = len(score_KHW)
    hue_K = torch.arange(classes) * 123457 % classes / classes * (len(_DARKNET_COLORS) - 1)
    table_63 = torch.tensor(_DARKNET_COLORS).flip(1).float()
    first_K = hue_K.floor().long()
    color_K3 = torch.lerp(table_63[first_K], table_63[hue_K.ceil().long()], (hue_K - first_K)[:, None])
    color_HW3 = torch.einsum("khw,kc->hwc", score_KHW, color_K3)
    pixels_HW3: NDArray[np.uint8] = (255 * color_HW3).clamp_(0, 255).byte().numpy()
    return pixels_HW3
