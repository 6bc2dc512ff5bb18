"""What [convolutional], [deconvolutional] and [connected] share: weights times input, then a norm or a bias, then the
activation.

Legend: B images, F filters, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.errors import DarkpyError, ShapeError
from darkpy.layers.base import INIT_ONE, INIT_ZERO, ArraySpec, Layer, LayerSpec, activation_key, slope_arrays
from darkpy.ops.activations import ACTIVATIONS, PRELU
from darkpy.ops.activations_onnx import write_activation
from darkpy.ops.gradients import activate, constrain, smooth
from darkpy.ops.norms import batch_normalize, fold_factors, group_normalize, group_normalize_to_onnx
from darkpy.ops.onnx_builder import Attribute, Graph
from darkpy.shapes import Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightedLayerSpec(LayerSpec):
    """The keys that all three have."""

    activation: str = activation_key("logistic", has_slopes=True)
    group_normalize: int = key(0, minimum=0, extension=True)  # darkpy's own: groups of filters, 0 for no such norm
    layer_normalize: bool = key(False, extension=True)  # darkpy's own: one group of all filters

    @property
    def is_normalized(self) -> bool:
        """Whether it has batch norm."""
        raise NotImplementedError

    @property
    def norm_groups(self) -> int:
        return self.group_normalize or int(self.layer_normalize)

    def check_norm(self, out: Shape) -> Shape:
        """The output's shape. Raises: DarkpyError when the keys ask for two norms, or for one that cannot be."""
        asked = {
            "batch_normalize": self.is_normalized,
            "group_normalize": bool(self.group_normalize),
            "layer_normalize": self.layer_normalize,
        }
        if len(names := [name for name, is_asked in asked.items() if is_asked]) > 1:
            raise DarkpyError(f"{' and '.join(names)} both normalize", hint="choose one of them")
        if not (groups := self.norm_groups):
            return out
        if out.c % groups:
            raise ShapeError(
                f"{out.c} filters cannot be split into group_normalize={groups}",
                hint="the filters must be a multiple of it",
            )
        if out.outputs == groups:
            raise ShapeError(
                f"group_normalize={groups} leaves one number in each group of {out}, which becomes its bias",
                hint="use fewer groups",
            )
        return out

    def norm_arrays(self, filters: int) -> tuple[ArraySpec, ...]:
        """What a norm keeps, in file order; its biases are the layer's own."""
        if self.norm_groups:
            return (ArraySpec("scales", (filters,), INIT_ONE, is_norm=True, is_extension=True),)
        if not self.is_normalized:
            return ()
        return (
            ArraySpec("scales", (filters,), INIT_ONE, is_norm=True),
            ArraySpec("rolling_mean", (filters,), INIT_ZERO, is_statistic=True, is_norm=True),
            ArraySpec("rolling_variance", (filters,), INIT_ZERO, is_statistic=True, is_norm=True),
        )

    def slope_arrays(self, filters: int) -> tuple[ArraySpec, ...]:
        return slope_arrays(self.activation, filters)


class WeightedLayer(Layer):
    """The arrays are `weights`, `biases`, with batch norm `scales`, `rolling_mean`, `rolling_variance`, with the norms
    that are darkpy's own `scales`, and with prelu `slopes`.

    activation is None for prelu.
    On the way back a delta is smoothed, then constrained, then meets the activation, the norm and the weights:
    darknet's order.
    """

    weights: torch.Tensor
    biases: torch.Tensor
    scales: torch.Tensor
    rolling_mean: torch.Tensor
    rolling_variance: torch.Tensor
    slopes: torch.Tensor

    filter_axis: ClassVar[int] = 0  # of the weights
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format  # of the weights, once folded

    def __init__(self, spec: WeightedLayerSpec, arrays: Sequence[ArraySpec], net: NetSpec) -> None:
        super().__init__(arrays)
        self.activation = None if spec.activation == PRELU else ACTIVATIONS[spec.activation]
        self.is_normalized = spec.is_normalized
        self.norm_groups = spec.norm_groups
        self.freeze = spec.bn_freeze or net.bn_freeze
        self.bound = net.constrain if spec.constrain is None else spec.constrain
        self.smoothing = spec.smooth
        if self.is_normalized:
            self.freeze_affine(self.freeze)

    @property
    def array_owner(self) -> WeightedLayer:
        """The layer whose arrays are used."""
        return self

    @property
    def added_biases(self) -> torch.Tensor | None:
        """What the product itself adds: with a norm nothing, it comes after."""
        arrays = self.array_owner
        return None if arrays.is_normalized or arrays.norm_groups else arrays.biases

    def finish(self, y_BFHW: torch.Tensor) -> torch.Tensor:
        """From the product to the output."""
        arrays = self.array_owner
        if arrays.is_normalized:
            y_BFHW = batch_normalize(
                y_BFHW,
                arrays.scales,
                arrays.biases,
                arrays.rolling_mean,
                arrays.rolling_variance,
                training=self.training,
                process_group=self.process_group,
                freeze=self.freeze,
            )
        elif arrays.norm_groups:
            y_BFHW = group_normalize(y_BFHW, arrays.norm_groups, arrays.scales, arrays.biases)
        if self.activation is not None:
            y_BFHW = activate(y_BFHW, self.activation, self.bound)
        else:
            y_BFHW = constrain(functional.prelu(y_BFHW, arrays.slopes), self.bound)
        return smooth(y_BFHW, self.smoothing) if self.smoothing and y_BFHW.requires_grad else y_BFHW

    def product_to_onnx(self, graph: Graph, type: str, x: str, weights: torch.Tensor, **geometry: Attribute) -> str:
        """From the input to the output, in operators; to be asked of a folded layer."""
        arrays = self.array_owner
        biases = () if self.added_biases is None else (self.added_biases,)
        y = graph.add(type, x, weights, *biases, **geometry)
        if arrays.norm_groups:
            y = group_normalize_to_onnx(graph, y, arrays.norm_groups, arrays.scales, arrays.biases)
        if self.activation is None:
            return graph.add("PRelu", y, arrays.slopes[:, None, None])
        return write_activation(graph, self.activation.name, y)

    def fold(self) -> None:
        if "weights" not in self._parameters:  # another layer's, or replaced by a faster inference function
            return
        weights, biases = self.weights.detach(), self.biases.detach()
        folded = torch.empty_like(weights, memory_format=self.memory_format)
        if not self.is_normalized:
            self.weights = torch.nn.Parameter(folded.copy_(weights))
            self.biases = torch.nn.Parameter(biases.clone())
            return
        factor_F, bias_F = fold_factors(self.scales.detach(), biases, self.rolling_mean, self.rolling_variance)
        across = [1] * weights.dim()
        across[self.filter_axis] = -1
        # computed in double and rounded once, without an array of doubles in between
        self.weights = torch.nn.Parameter(torch.mul(weights, factor_F.view(across), out=folded))
        self.biases = torch.nn.Parameter(bias_F.to(biases.dtype))
        self.is_normalized = False
        del self.scales, self.rolling_mean, self.rolling_variance
