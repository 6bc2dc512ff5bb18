"""The [net] section: sizes, batch, rate, augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from darkpy.config.schema import MAX_INT, key
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ShapeError
from darkpy.ops.initializers import INITIALIZERS_BY_NAME
from darkpy.ops.norms import BN_FREEZE_MODES
from darkpy.shapes import Shape

_AX = Dialect.ALEXEYAB
_PJ = Dialect.PJREDDIE
LOSS_REDUCTIONS = ("darknet", "mean", "sum")
"""Place of the division by the batch: in the update; in the deltas, before the backward pass; nowhere."""
MAX_BETA = 0.99999
"""Largest B1 and B2 of Adam, whose estimates are divided by 1 - beta."""
_LR_POLICIES = ("constant", "step", "steps", "exp", "poly", "random", "sigmoid")


@dataclass(frozen=True, kw_only=True, slots=True)
class NetSpec:
    """Keys of [net] or [network], with the defaults of each dialect.

    Units: height, width in pixels; batch counts the images of an update, minibatch those of a forward pass.
    Source: pjreddie/darknet and AlexeyAB/darknet src/parser.c parse_net_options.
    """

    dialects: ClassVar[frozenset[Dialect]] = frozenset(Dialect)

    dialect: Dialect = _PJ

    batch: int = key(1, minimum=1, usual=(1, 65536))
    subdivisions: int = key(1, minimum=1, usual=(1, 65536))
    time_steps: int = key(1, minimum=1, usual=(1, 65536))
    height: int = key(0, minimum=0)
    width: int = key(0, minimum=0)
    channels: int = key(0, minimum=0)
    inputs: int = key(0, minimum=0)  # falls back to height * width * channels
    sequential_subdivisions: int | None = key(None, dialect=_AX, usual=(0, 65536))  # falls back to subdivisions
    dynamic_minibatch: bool = key(False, dialect=_AX)

    learning_rate: float = key(0.001, minimum=0, usual=(0, 100))
    momentum: float = key(0.9, minimum=0, usual=(0, 0.9999))
    decay: float = key(0.0001, minimum=0, usual=(0, 0.1))
    policy: str = key(
        "constant",
        choices=lambda dialect: (*_LR_POLICIES, "sgdr") if dialect is _AX else _LR_POLICIES,
        aliases={"sgd": "constant"},  # a word of many cfgs
        fallback="constant",
    )
    burn_in: int = key(0, wraps=True, usual=(0, MAX_INT))
    power: float = key(4.0, usual=(0, 100))
    step: int = key(1, wraps=True, usual=(0, MAX_INT))
    scale: float = key(1.0, usual=(0, 1000))
    steps: tuple[int, ...] = key((), wraps=True, usual=(-1, MAX_INT))
    scales: tuple[float, ...] = key((), usual=(0, 1000))
    seq_scales: tuple[float, ...] = key((), dialect=_AX, usual=(0, 1000))
    gamma: float = key(1.0, usual=(0, 100))
    max_batches: int = key(0, wraps=True)
    learning_rate_min: float = key(1e-5, dialect=_AX, minimum=0, usual=(0, 100))
    sgdr_cycle: int | None = key(None, dialect=_AX, wraps=True, usual=(0, MAX_INT))  # falls back to max_batches
    sgdr_mult: int = key(2, dialect=_AX, usual=(1, 100))
    adam: bool = key(False)
    B1: float = key(0.9, minimum=0, maximum=MAX_BETA)
    B2: float = key(0.999, minimum=0, maximum=MAX_BETA)
    eps: float = key(1e-7, alexeyab=1e-6, minimum=0, usual=(1e-12, 1))
    clip: float = key(0.0, dialect=_PJ, usual=(0, MAX_INT))
    ema_alpha: float = key(0.0, dialect=_AX, usual=(0, 0.999999))
    loss_scale: float = key(1.0, dialect=_AX, usual=(1e-6, 1e6))
    try_fix_nan: bool = key(False, dialect=_AX)
    weights_reject_freq: int = key(0, dialect=_AX, usual=(0, MAX_INT))
    equidistant_point: int = key(0, dialect=_AX, usual=(0, MAX_INT))
    badlabels_rejection_percentage: float = key(0.0, dialect=_AX, usual=(0, 100))
    num_sigmas_reject_badlabels: float = key(0.0, dialect=_AX, usual=(0, 100))
    adversarial_lr: float = key(0.0, dialect=_AX, usual=(0, 100))
    attention: bool = key(False, dialect=_AX)
    label_smooth_eps: float = key(0.0, dialect=_AX, usual=(0, 0.9))

    angle: float = key(0.0, usual=(0, 360))
    aspect: float = key(1.0, usual=(0.1, 10))
    saturation: float = key(1.0, usual=(0.1, 10))
    exposure: float = key(1.0, usual=(0.1, 10))
    hue: float = key(0.0, usual=(0, 1))
    max_crop: int | None = key(None, usual=(1, 65536))  # falls back to 2 * width
    min_crop: int | None = key(None, usual=(1, 65536))  # falls back to width
    max_ratio: float | None = key(None, dialect=_PJ, usual=(0.01, 100))  # falls back to max_crop / width
    min_ratio: float | None = key(None, dialect=_PJ, usual=(0.01, 100))  # falls back to min_crop / width
    center: bool = key(False, dialect=_PJ)
    random: bool = key(False, dialect=_PJ)
    notruth: bool = key(False, dialect=_PJ)
    flip: bool = key(True, dialect=_AX)
    blur: int = key(0, dialect=_AX, usual=(0, 100))
    gaussian_noise: int = key(0, dialect=_AX, usual=(0, 255))
    mixup: int = key(0, dialect=_AX, usual=(0, 4))
    cutmix: bool = key(False, dialect=_AX)
    mosaic: bool = key(False, dialect=_AX)
    mosaic_bound: bool = key(False, dialect=_AX)
    letter_box: bool = key(False, dialect=_AX)
    resize_step: float = key(32.0, dialect=_AX, minimum=1, usual=(1, 4096))
    contrastive: bool = key(False, dialect=_AX)
    contrastive_jit_flip: bool = key(False, dialect=_AX)
    contrastive_color: bool = key(False, dialect=_AX)
    unsupervised: bool = key(False, dialect=_AX)
    track: bool = key(False, dialect=_AX)
    augment_speed: int = key(2, dialect=_AX, usual=(1, 1000))

    # darkpy's own keys
    constrain: float | None = key(None, minimum=0)  # bound of the delta constraint; falls back to the dialect's
    grad_clip_norm: float = key(0.0, minimum=0)  # limit of the norm of all gradients of an update together, 0 for none
    grad_clip_type: float = key(2.0, minimum=0)  # the p of that norm; 0 stands for the infinity norm
    grad_clip_value: float = key(0.0, minimum=0)  # limit of each gradient value, 0 for none
    init: str | None = key(None, choices=INITIALIZERS_BY_NAME)  # of all weights, in place of darknet's
    bn_freeze: str = key("none", choices=BN_FREEZE_MODES)  # part of batch norm that is frozen in training
    mean: tuple[float, ...] = key(
        (), extension=True
    )  # taken from the input's numbers, one for all channels or for each
    std: tuple[float, ...] = key((), extension=True)  # by which they are then divided
    loss_reduction: str = key("darknet", choices=LOSS_REDUCTIONS)

    # read by AlexeyAB's darknet, without effect here: the chart's axis, a printout, CUDA scheduling
    max_chart_loss: float = key(20.0, dialect=_AX)
    show_receptive_field: bool = key(False, dialect=_AX)
    use_cuda_graph: bool = key(False, dialect=_AX)
    optimized_memory: int = key(0, dialect=_AX)
    workspace_size_limit_MB: float = key(1024.0, dialect=_AX)

    @property
    def minibatch(self) -> int:
        """Images of one forward pass, time steps included: darknet's `net.batch`."""
        return self.batch // self.subdivisions * self.time_steps

    def check_batch(self) -> None:
        """Check that a forward pass has an image. Raises: DarkpyError."""
        if self.minibatch < 1:
            raise DarkpyError(
                f"batch={self.batch} / subdivisions={self.subdivisions} leaves no images for a forward pass",
                hint="batch=64 subdivisions=16" if self.batch < 4 else f"subdivisions={self.batch // 4}",
            )

    def check_schedule(self) -> None:
        """Check that each of `steps` has its scale; darknet reads beyond the shorter list. Raises: DarkpyError."""
        if self.policy == "steps" and not 0 < len(self.steps) <= len(self.scales):
            raise DarkpyError(
                f"policy=steps has {len(self.steps)} steps and {len(self.scales)} scales",
                hint="give one factor in scales= for each of steps=",
            )

    def check_normalization(self) -> None:
        """Check `mean` and `std` against the input, whose images have values of 0 to 1. Raises: DarkpyError."""
        channels = self.input_shape.c
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, 1, channels):
                raise DarkpyError(
                    f"{name}= has {len(values)} values for {channels} channels", hint=f"give {channels}, or 1 for all"
                )
            if self.width and any(abs(value) > 1 for value in values):
                shown = ",".join(f"{value:g}" for value in values)
                raise DarkpyError(
                    f"{name}={shown} is out of range: images have values of 0 to 1",
                    hint="divide values for pixels of 0 to 255 by 255",
                )
        if any(value <= 0 for value in self.std):
            raise DarkpyError("std= is a divisor and must be above 0", hint="1 leaves a channel unchanged")

    @property
    def input_shape(self) -> Shape:
        """Shape of the first layer's input.

        Raises: ShapeError when the cfg gives the size of neither an image nor a vector.
        """
        image = Shape(self.channels, self.height, self.width)
        if image.outputs:
            return image
        if not self.inputs:
            raise ShapeError(
                f"the input has no size: width={self.width} height={self.height} channels={self.channels}",
                hint="set width, height and channels (an image) or inputs (a vector)",
            )
        return Shape.vector(self.inputs)
