"""A network's output for images: for one view of each, or the sum for several.

B images, C H W channels, rows, columns, K numbers of an output.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import groupby, islice
from typing import NamedTuple

import torch
from torch import Tensor

from darkpy.errors import DarkpyError, ImageError
from darkpy.evaluation.detect import load_in_batches
from darkpy.evaluation.image_views import MakeViews, View
from darkpy.network import Network
from darkpy.ops.hierarchy import Hierarchy
from darkpy.sources.frames import Frame


class ImageOutput(NamedTuple):
    """Output of a network for an image; or the reason why it could not be read."""

    path: str
    output_K: Tensor | None
    error: ImageError | None = None

    @property
    def numbers(self) -> list[float]:
        """The output as a list, empty for an unreadable image."""
        return [] if self.output_K is None else self.output_K.tolist()


def image_outputs(
    network: Network,
    images: Iterable[str | os.PathLike[str] | Frame],
    views: MakeViews,
    *,
    batch_size: int = 1,
    prefetch: bool = True,
    hierarchy: Hierarchy | None = None,
    leaf: Sequence[bool] = (),
) -> Iterator[ImageOutput]:
    """Yield the output for each image, in order; recurrent layers start each batch from their initial state.

    images: paths, or frames, whose decoded pixels they keep. prefetch: as in `load_in_batches`.
    views: makes the inputs whose outputs are added. A network that runs accelerated takes those of its own size alone.
    hierarchy: of the classes; outputs are then absolute probabilities. leaf: flag of each class whose output counts,
        the others' is 0; empty for all.
    Raises:  DarkpyError when an output is NaN.
    """
    net = network.plan.input_shape

    def load(source: str | os.PathLike[str] | Frame) -> tuple[str, Sequence[View], ImageError | None]:
        frame = source if isinstance(source, Frame) else Frame.of_file(source)
        try:
            image = frame.load(net.c)
        except ImageError as error:
            return frame.path, (), error
        try:
            return frame.path, views(image.view(), net.w, net.h), None
        except ImageError as error:
            return frame.path, (), ImageError(f"{frame.path}: {error.message}", hint=error.hint)

    try:
        for batch in load_in_batches(load, images, batch_size, network.device, prefetch=prefetch):
            rows = _forward([view for _, made, _ in batch for view in made], network, hierarchy, leaf)
            for path, made, error in batch:
                if error is not None:
                    yield ImageOutput(path, None, error)
                    continue
                output_K = reduce(torch.add, islice(rows, len(made)))
                require_no_nan(output_K, path)
                yield ImageOutput(path, output_K)
    finally:
        network.resize(net.w, net.h)


def require_no_nan(output: Tensor, path: str) -> None:
    """Raises: DarkpyError for an output that is NaN somewhere. path: of its image."""
    if output.isnan().any():
        hint = "the weights are damaged, or belong to another cfg"
        raise DarkpyError(f"{path}: the network's output is NaN", hint=hint)


@torch.inference_mode()
def _forward(
    views: Sequence[View], network: Network, hierarchy: Hierarchy | None, leaf: Sequence[bool]
) -> Iterator[Tensor]:
    """Return the output of each view, on the CPU; those of one size run together.

    Source: pjreddie/darknet src/tree.c hierarchy_predictions
    """
    outputs: list[Tensor] = []
    network.reset_state()
    for (shape, is_absolute), group in groupby(
        views, key=lambda view: (view.x_CHW.shape, hierarchy is None or view.is_absolute)
    ):
        network.resize(shape[2], shape[1])
        x_BCHW = torch.stack([view.x_CHW for view in group]).to(network.device)
        output_BK: Tensor = network(x_BCHW)[0].flatten(1).float()
        if hierarchy is not None and is_absolute:
            output_BK = hierarchy.absolute(output_BK, 1)
            output_BK = output_BK * torch.tensor(leaf, device=output_BK.device) if leaf else output_BK
        outputs += output_BK.cpu()
    return iter(outputs)
