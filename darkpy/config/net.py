"""The [net] section: sizes, batch, rate, augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ShapeError
from darkpy.ops.initializers import INITIALIZERS
from darkpy.ops.norms import FREEZES
from darkpy.shapes import Shape

_AX = Dialect.ALEXEYAB
_PJ = Dialect.PJREDDIE
REDUCTIONS = ("darknet", "mean", "sum")  # in the update; before the deltas go back; nowhere
_POLICIES = ("constant", "step", "steps", "exp", "poly", "random", "sigmoid")


def _policies(dialect: Dialect) -> tuple[str, ...]:
    return (*_POLICIES, "sgdr") if dialect is _AX else _POLICIES


@dataclass(frozen=True, kw_only=True, slots=True)
class NetSpec:
    """[net] or [network], with each fork's defaults.

    Units: height, width in pixels; batch counts images for one update, minibatch those of one forward pass.
    Source: pjreddie/darknet and AlexeyAB/darknet src/parser.c parse_net_options.
    """

    dialects: ClassVar[frozenset[Dialect]] = frozenset(Dialect)

    dialect: Dialect = _PJ

    batch: int = key(1, minimum=1)
    subdivisions: int = key(1, minimum=1)
    time_steps: int = key(1, minimum=1)
    height: int = key(0, minimum=0)
    width: int = key(0, minimum=0)
    channels: int = key(0, minimum=0)
    inputs: int = key(0, minimum=0)  # falls back to height * width * channels
    sequential_subdivisions: int | None = key(None, dialect=_AX)  # falls back to subdivisions
    dynamic_minibatch: bool = key(False, dialect=_AX)

    learning_rate: float = key(0.001)
    momentum: float = key(0.9)
    decay: float = key(0.0001)
    policy: str = key("constant", choices=_policies)
    burn_in: int = key(0)
    power: float = key(4.0)
    step: int = key(1)
    scale: float = key(1.0)
    steps: tuple[int, ...] = key(())
    scales: tuple[float, ...] = key(())
    seq_scales: tuple[float, ...] = key((), dialect=_AX)
    gamma: float = key(1.0)
    max_batches: int = key(0)
    learning_rate_min: float = key(1e-5, dialect=_AX)
    sgdr_cycle: int | None = key(None, dialect=_AX)  # falls back to max_batches
    sgdr_mult: int = key(2, dialect=_AX)
    adam: bool = key(False)
    B1: float = key(0.9)
    B2: float = key(0.999)
    eps: float = key(1e-7, alexeyab=1e-6)
    clip: float = key(0.0, dialect=_PJ)
    ema_alpha: float = key(0.0, dialect=_AX)
    loss_scale: float = key(1.0, dialect=_AX)
    try_fix_nan: bool = key(False, dialect=_AX)
    weights_reject_freq: int = key(0, dialect=_AX)
    equidistant_point: int = key(0, dialect=_AX)
    badlabels_rejection_percentage: float = key(0.0, dialect=_AX)
    num_sigmas_reject_badlabels: float = key(0.0, dialect=_AX)
    adversarial_lr: float = key(0.0, dialect=_AX)
    attention: bool = key(False, dialect=_AX)
    label_smooth_eps: float = key(0.0, dialect=_AX)

    angle: float = key(0.0)
    aspect: float = key(1.0)
    saturation: float = key(1.0)
    exposure: float = key(1.0)
    hue: float = key(0.0)
    max_crop: int | None = key(None)  # falls back to 2 * width
    min_crop: int | None = key(None)  # falls back to width
    max_ratio: float | None = key(None, dialect=_PJ)  # falls back to max_crop / width
    min_ratio: float | None = key(None, dialect=_PJ)  # falls back to min_crop / width
    center: bool = key(False, dialect=_PJ)
    random: bool = key(False, dialect=_PJ)
    notruth: bool = key(False, dialect=_PJ)
    flip: bool = key(True, dialect=_AX)
    blur: int = key(0, dialect=_AX)
    gaussian_noise: int = key(0, dialect=_AX)
    mixup: int = key(0, dialect=_AX)
    cutmix: bool = key(False, dialect=_AX)
    mosaic: bool = key(False, dialect=_AX)
    mosaic_bound: bool = key(False, dialect=_AX)
    letter_box: bool = key(False, dialect=_AX)
    resize_step: float = key(32.0, dialect=_AX)
    contrastive: bool = key(False, dialect=_AX)
    contrastive_jit_flip: bool = key(False, dialect=_AX)
    contrastive_color: bool = key(False, dialect=_AX)
    unsupervised: bool = key(False, dialect=_AX)
    track: bool = key(False, dialect=_AX)
    augment_speed: int = key(2, dialect=_AX)

    # darkpy's own
    constrain: float = key(1.0, minimum=0)  # the bound of the delta constraint, 0 switches it off
    grad_clip_norm: float = key(0.0, minimum=0)  # largest norm of all gradients of an update together, 0 for any
    grad_clip_type: float = key(2.0, minimum=0)  # which norm: 1, 2, any p; 0 stands for the largest number (inf)
    grad_clip_value: float = key(0.0, minimum=0)  # largest number of any gradient, 0 for any
    init: str | None = key(None, choices=INITIALIZERS)  # of all weights, in place of the fork's own
    bn_freeze: str = key("none", choices=FREEZES)  # what of batch norm stands still in training
    mean: tuple[float, ...] = key(
        (), extension=True
    )  # taken from the input's numbers, one for all channels or for each
    std: tuple[float, ...] = key((), extension=True)  # by which they are then divided
    loss_reduction: str = key("darknet", choices=REDUCTIONS)  # where the division by the batch is made

    # read by AlexeyAB's fork, without a meaning here: the chart's axis, a print, CUDA scheduling
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
        """Raises: DarkpyError when a forward pass would have no image."""
        if self.minibatch < 1:
            raise DarkpyError(
                f"batch={self.batch} / subdivisions={self.subdivisions} leaves no image for a forward pass",
                hint="subdivisions is at most batch",
            )

    def check_schedule(self) -> None:
        """Raises: DarkpyError when `steps` and `scales` do not pair up, where darknet runs off the shorter one."""
        if self.policy == "steps" and not 0 < len(self.steps) <= len(self.scales):
            raise DarkpyError(
                f"policy=steps has {len(self.steps)} steps and {len(self.scales)} scales",
                hint="give each of steps= its factor in scales=",
            )

    def check_normalization(self) -> None:
        """Raises: DarkpyError when `mean` and `std` do not suit the input, whose images are numbers from 0 to 1."""
        channels = self.input_shape.c
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (0, 1, channels):
                raise DarkpyError(
                    f"{name}= has {len(numbers)} numbers for {channels} channels", hint=f"give {channels}, or 1 for all"
                )
            if self.width and any(abs(number) > 1 for number in numbers):
                shown = ",".join(f"{number:g}" for number in numbers)
                raise DarkpyError(
                    f"{name}={shown} is beyond the images, which are numbers from 0 to 1",
                    hint="divide what was counted in pixels of 0 to 255 by 255",
                )
        if any(number <= 0 for number in self.std):
            raise DarkpyError("std= divides, and must be above 0", hint="1 leaves a channel as it is")

    @property
    def input_shape(self) -> Shape:
        """What the first layer reads.

        Raises: ShapeError when neither an image nor a vector is given.
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
