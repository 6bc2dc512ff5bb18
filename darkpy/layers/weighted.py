"""Base class of [convolutional], [deconvolutional] and [connected]: weights times input, norm or bias, activation.

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
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ShapeError
from darkpy.layers.base import INIT_ONE, INIT_ZERO, ArraySpec, Layer, LayerSpec, activation_key, slope_arrays
from darkpy.ops.activations import ACTIVATIONS_BY_NAME, PRELU_NAME
from darkpy.ops.activations_onnx import write_activation
from darkpy.ops.gradients import activate, constrain, smooth
from darkpy.ops.norms import batch_normalize, fold_factors, group_normalize, group_normalize_to_onnx
from darkpy.ops.onnx_builder import Attribute, Graph
from darkpy.shapes import Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightedLayerSpec(LayerSpec):
    """Keys that all layers with weights have."""

    activation: str = activation_key("logistic", has_slopes=True)
    group_normalize: int = key(0, minimum=0, extension=True)  # darkpy's own: number of groups, 0 for none
    layer_normalize: bool = key(False, extension=True)  # darkpy's own: one group of all filters

    @property
    def is_normalized(self) -> bool:
        """True if the layer has batch norm."""
        raise NotImplementedError

    @property
    def norm_groups(self) -> int:
        return self.group_normalize or int(self.layer_normalize)

    def check_norm(self, out: Shape) -> Shape:
        """Return the output's shape. Raises: DarkpyError when the keys ask for two norms, or an impossible one."""
        norms = {
            "batch_normalize": self.is_normalized,
            "group_normalize": bool(self.group_normalize),
            "layer_normalize": self.layer_normalize,
        }
        if len(names := [name for name, enabled in norms.items() if enabled]) > 1:
            raise DarkpyError(f"{' and '.join(names)} both normalize", hint="choose one of them")
        if not (groups := self.norm_groups):
            return out
        if out.c % groups:
            raise ShapeError(
                f"{out.c} filters cannot be split into group_normalize={groups}",
                hint="filters must be a multiple of group_normalize",
            )
        if out.outputs == groups:
            raise ShapeError(
                f"group_normalize={groups} leaves one value in each group of {out}, which is normalized to 0",
                hint="use fewer groups",
            )
        return out

    def default_delta_bound(self, net: NetSpec) -> float:
        """Return the bound of the delta constraint without a `constrain` key, as in the dialect's program.

        Source: pjreddie/darknet src/convolutional_kernels.cu, src/deconvolutional_kernels.cu, where constrain_ongpu is
            commented out since November 2017; AlexeyAB/darknet src/convolutional_kernels.cu
            backward_convolutional_layer_gpu, only with try_fix_nan=1.
        """
        return 1.0 if self.dialect is Dialect.PJREDDIE or net.try_fix_nan else 0.0

    def delta_bound(self, inputs: Sequence[Shape], net: NetSpec) -> float:
        if self.constrain is not None:
            return self.constrain
        return self.default_delta_bound(net) if net.constrain is None else net.constrain

    def norm_arrays(self, filters: int) -> tuple[ArraySpec, ...]:
        """Arrays of the norm, in file order; its biases are the layer's own."""
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
    """Module of a layer with weights.

    Arrays: `weights`, `biases`; with batch norm `scales`, `rolling_mean`, `rolling_variance`; with group or layer norm
    `scales`; with prelu `slopes` (`activation` is then None).

    The backward pass has darknet's order: the delta at the output is smoothed, constrained to +-`bound`, multiplied by
    the activation's gradient, then goes through the norm and the weights. `smooth` and `constrain` (ops/gradients) are
    the identity in the forward pass and change the gradient in the backward pass. They sit on the output tensor, where
    autograd hands over the summed gradient of all consumers: what darknet's `l.delta` holds when
    backward_convolutional_layer_gpu calls constrain_gpu. `finish` applies them in reverse, because the backward
    pass runs the last operation first.
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
        self.activation = None if spec.activation == PRELU_NAME else ACTIVATIONS_BY_NAME[spec.activation]
        self.is_normalized = spec.is_normalized
        self.norm_groups = spec.norm_groups
        self.freeze = spec.bn_freeze or net.bn_freeze
        self.bound = spec.delta_bound((), net)
        self.smoothing = spec.smooth
        if self.is_normalized:
            self.freeze_affine(self.freeze)

    @property
    def array_owner(self) -> WeightedLayer:
        """Layer whose arrays are used: another one with `share_index`."""
        return self

    @property
    def added_biases(self) -> torch.Tensor | None:
        """Biases added right after the weights; None with a norm, which adds them itself."""
        arrays = self.array_owner
        return None if arrays.is_normalized or arrays.norm_groups else arrays.biases

    def finish(self, y_BFHW: torch.Tensor) -> torch.Tensor:
        """Apply norm, activation, `constrain` and `smooth` to the product of weights and input."""
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
        return smooth(y_BFHW, self.smoothing)

    def product_to_onnx(self, graph: Graph, type: str, x: str, weights: torch.Tensor, **geometry: Attribute) -> str:
        """Write the layer as ONNX operators of type `type`, norm and activation included; batch norm must be folded."""
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
        # computed in float64 and rounded once, without a float64 array in between
        self.weights = torch.nn.Parameter(torch.mul(weights, factor_F.view(across), out=folded))
        self.biases = torch.nn.Parameter(bias_F.to(biases.dtype))
        self.is_normalized = False
        del self.scales, self.rolling_mean, self.rolling_variance
