"""Images that excite a layer: darknet's nightmare, also known as deep dream.

Source: pjreddie/darknet examples/nightmare.c
Differs: darknet's gradient through batch norm is the one of training, with numbers of earlier images; here it is that
    of inference. darknet's CPU code reconstructs nothing, its GPU code does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from darkpy.errors import DarkpyError
from darkpy.network import Network
from darkpy.ops import resample
from darkpy.ops.c_random import CRandom

OCTAVE_RATIO = 1.33333333
MAX_SHIFT_PX = 8
GRAY_PULL = 0.1
"""Share of the difference to gray in each change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExcitationOptions:
    """Options of darknet's nightmare.

    layer: number of the layer, or of the middle one of `layer_range`, from which each iteration draws one.
    octaves: number of sizes, each smaller than the one before by OCTAVE_RATIO, from which each iteration draws one.
    thresh: standard deviations above the mean from which an output counts as excited.
    zoom, rotate: share of the image that the next round sees, and radians that it is rotated by.
    normalize: scale each change to mean 0 and deviation 1. momentum: of `reconstruct`.
    """

    layer: int
    rounds: int = 1
    iterations: int = 10
    octaves: int = 4
    layer_range: int = 1
    rate: float = 0.04
    thresh: float = 1.0
    zoom: float = 1.0
    rotate: float = 0.0
    normalize: bool = True
    momentum: float = 0.9

    @property
    def layers(self) -> range:
        first = self.layer - self.layer_range // 2
        return range(first, first + self.layer_range)


def excite(network: Network, image_CHW: Tensor, options: ExcitationOptions) -> Iterator[Tensor]:
    """Change an image, float 0 to 1, so that it excites a layer of a network in inference mode.

    The random numbers are those of darknet on Linux. Returns: the image after each round.
    Raises: DarkpyError for a layer that does not exist, ShapeError for a size that the layers cannot have.
    """
    networks = {layer: first_layers(network, layer + 1) for layer in options.layers}
    random = _darknet_random(network)
    for _ in range(options.rounds):
        for _ in range(options.iterations):
            layer = options.layers[random.rand() % len(options.layers)]
            scale = np.float32(1 / OCTAVE_RATIO ** (random.rand() % options.octaves))
            image_CHW = _excited(networks[layer], image_CHW, scale, options, random)
        yield image_CHW
        image_CHW = _next_view(image_CHW, options)


def reconstruct(network: Network, image_CHW: Tensor, options: ExcitationOptions) -> Iterator[Tensor]:
    """Pull an image back to the output that the layers before `options.layer` have for it.

    Only zoom and rotation between rounds change the image. Returns: the letterboxed image after each round.
    Raises: as `excite`.
    """
    start = first_layers(network, options.layer)
    net = start.plan.net
    image_CHW = resample.letterbox(image_CHW, net.width, net.height)
    features = start.trace(image_CHW[None])[-1].detach()
    update_CHW = torch.zeros_like(image_CHW)
    for _ in range(options.rounds):
        for _ in range(options.iterations):
            x_BCHW = image_CHW[None].clone().requires_grad_()
            output = start.trace(x_BCHW)[-1]
            (change_BCHW,) = torch.autograd.grad(output, x_BCHW, features - output.detach())
            update_CHW = update_CHW + change_BCHW[0]
            image_CHW = (image_CHW + options.rate * update_CHW).clamp_(0, 1)
            update_CHW = update_CHW * options.momentum
        yield image_CHW
        image_CHW = _next_view(image_CHW, options)


def first_layers(network: Network, count: int) -> Network:
    """Return a network of the first layers of another one, which they share. Raises: DarkpyError."""
    layers = len(network.plan.nodes)
    if not 0 < count <= layers:
        raise DarkpyError(
            f"{network.plan.file} has the layers 0 to {layers - 1}, and layer {count - 1} is requested",
            hint=f"darkpy show {network.plan.file} lists them",
        )
    start = Network(replace(network.plan, nodes=network.plan.nodes[:count]))
    start.layers = network.layers[:count]
    return start.to(network.device)


def rotate(image_CHW: Tensor, radians: float) -> Tensor:
    """Rotate an image around its center, bilinearly, with black outside.

    Source: pjreddie/darknet src/image.c rotate_image
    """
    _, h, w = image_CHW.shape
    y_H1, x_W = torch.arange(h, dtype=torch.float64)[:, None] - h / 2, torch.arange(w, dtype=torch.float64) - w / 2
    cosine, sine = math.cos(radians), math.sin(radians)
    x_HW = (cosine * x_W - sine * y_H1 + w / 2).float()
    y_HW = (sine * x_W + cosine * y_H1 + h / 2).float()
    padded_CHW = torch.nn.functional.pad(image_CHW, (1, 1, 1, 1))
    left_HW, top_HW = x_HW.floor(), y_HW.floor()
    share_x_HW, share_y_HW = x_HW - left_HW, y_HW - top_HW

    def pixels(rows_HW: Tensor, columns_HW: Tensor) -> Tensor:
        return padded_CHW[:, (rows_HW.long() + 1).clamp(0, h + 1), (columns_HW.long() + 1).clamp(0, w + 1)]

    upper = (1 - share_x_HW) * pixels(top_HW, left_HW) + share_x_HW * pixels(top_HW, left_HW + 1)
    lower = (1 - share_x_HW) * pixels(top_HW + 1, left_HW) + share_x_HW * pixels(top_HW + 1, left_HW + 1)
    return (1 - share_y_HW) * upper + share_y_HW * lower


def _excited(
    network: Network, image_CHW: Tensor, scale: np.float32, options: ExcitationOptions, random: CRandom
) -> Tensor:
    _, h, w = image_CHW.shape
    new_w, new_h = (max(1, int(np.float32(side) * scale)) for side in (w, h))
    dx, dy = (random.rand() % (2 * MAX_SHIFT_PX) - MAX_SHIFT_PX for _ in range(2))
    is_flipped = random.rand() % 2
    x_CHW = resample.resize(resample.crop(image_CHW, dx, dy, w, h), new_w, new_h)
    x_CHW = x_CHW.flip(2) if is_flipped else x_CHW
    network.resize(new_w, new_h)
    x_BCHW = x_CHW[None].clone().requires_grad_()
    output = network.trace(x_BCHW)[-1]
    bound = output.mean() + options.thresh * output.std(correction=0)
    (change_BCHW,) = torch.autograd.grad(output, x_BCHW, torch.where(output > bound, output, 0.0).detach())
    change_CHW = change_BCHW[0].flip(2) if is_flipped else change_BCHW[0]
    change_CHW = resample.crop(resample.resize(change_CHW, w, h), -dx, -dy, w, h)
    change_CHW = change_CHW + GRAY_PULL * (resample.LETTERBOX_FILL - image_CHW)
    if options.normalize and (deviation := change_CHW.std(correction=0)) > 0:
        change_CHW = (change_CHW - change_CHW.mean()) / deviation
    return (image_CHW + options.rate * change_CHW).clamp_(0, 1)


def _next_view(image_CHW: Tensor, options: ExcitationOptions) -> Tensor:
    """Rotate an image, and enlarge its middle to its own size."""
    _, h, w = image_CHW.shape
    if options.rotate:
        image_CHW = rotate(image_CHW, options.rotate)
    zoom = np.float32(options.zoom)  # as in darknet, whose products are single precision, too
    left, top = (int(side * (1 - float(zoom)) / 2) for side in (w, h))
    new_w, new_h = (max(1, int(np.float32(side) * zoom)) for side in (w, h))
    middle_CHW = resample.crop(image_CHW, left, top, new_w, new_h)
    return resample.resize(middle_CHW, w, h)


def _darknet_random(network: Network) -> CRandom:
    """Random numbers of the C program after it has filled the initial weights."""
    random = CRandom(0)
    random.skip(network.initial_draws)
    return random
