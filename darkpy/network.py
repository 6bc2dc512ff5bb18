"""The graph: one loop over nodes, outputs freed after their last reader."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import cast

import torch
from torch import nn

from darkpy import weightfile
from darkpy.build import Plan, resize_plan
from darkpy.errors import DarkpyError, ShapeError
from darkpy.files import write_atomic
from darkpy.layers.base import Layer
from darkpy.layers.head import HeadSpec
from darkpy.layers.loss import Loss, LossSpec, TrainingState
from darkpy.ops.initializers import INITIALIZERS
from darkpy.ops.onnx_builder import Graph

Runner = Callable[[torch.Tensor], list[torch.Tensor]]
"""Computes a network's outputs from x_BCHW in inference."""
MAX_WEIGHTS = 1 << 30  # 4 GiB of weights; the largest network of either fork (yolov1) has 0.27e9 numbers


class Network(nn.Module):
    """A darknet network as a torch module; `darkpy.load` makes one with its weights in.

    Shapes: takes x_BCHW (or x_BN where [net] has `inputs`); returns the detection heads' outputs in cfg order, or, in
    a network without one, the output of the last layer that is not [cost].
    `training` chooses between training and inference arithmetic, as everywhere in torch.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        if plan.parameter_count > MAX_WEIGHTS:
            raise DarkpyError(
                f"{plan.file} has {plan.parameter_count} weights, {plan.parameter_count * 4 / 2**30:.1f} GiB",
                hint=f"the limit is {MAX_WEIGHTS}; look for a size with a digit too many",
            )
        self.plan = plan
        self.header = weightfile.Header.new(plan.dialect)
        built = [node.spec.build(node.inputs, plan.net) for node in plan.nodes]
        for node in plan.nodes:
            node.spec.tie_weights(node.index, built)
        self.layers = nn.ModuleList(built)
        self.normalize = Normalize(plan.net.mean, plan.net.std) if plan.net.mean or plan.net.std else None
        self.outputs = _outputs(plan)
        self._last_reads = _last_reads(plan, self.outputs)
        self.prefers_channels_last = True  # inference is fastest on channels_last images
        self._runner: Runner | None = None
        self._device = torch.device("cpu")
        self.eval()

    @property
    def heads(self) -> list[HeadSpec]:
        """The specs of the detection heads, in the order of the outputs."""
        return [node.spec for node in self.plan.nodes if isinstance(node.spec, HeadSpec)]

    @property
    def device(self) -> torch.device:
        """Where its arrays are, or were before something faster took them."""
        array = next(chain(self.parameters(), self.buffers()), None)
        return self._device if array is None else array.device

    @property
    def has_memory(self) -> bool:
        """Whether a call of its may depend on those before it (recurrent layers, in inference)."""
        return any(layer.has_memory for layer in self.built)

    @property
    def loss_specs(self) -> list[LossSpec]:
        """The specs of the layers that take part in training with a loss, in cfg order."""
        specs = (node.spec for node in self.plan.nodes)
        return [spec for spec in specs if isinstance(spec, LossSpec) and spec.has_loss]

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        x_BCHW = self._checked(x_BCHW)
        if self._runner is not None and not self.training:
            return self._runner(x_BCHW)
        return self.reference_forward(x_BCHW)

    def reference_forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Run the layers themselves, even if a backend runs inference."""
        return self._run(x_BCHW, self.outputs, self._last_reads)

    def trace(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Every layer's output in cfg order, for people who debug."""
        return self._run(self._checked(x_BCHW), range(len(self.plan.nodes)), {})

    def train(self, mode: bool = True) -> Network:
        """Choose training or inference arithmetic. In training, what AlexeyAB's stopbackward=1 freezes infers on."""
        super().train(mode)
        frozen = [node.index for node in self.plan.nodes if node.spec.freezes_inputs] if mode else []
        for layer in self.built[: max(frozen, default=0)]:
            layer.eval()
        return self

    def losses(
        self, x_BCHW: torch.Tensor, truth: torch.Tensor, state: TrainingState
    ) -> tuple[list[torch.Tensor], list[Loss]]:
        """The forward pass of a training: what each layer with a loss read, and what it says of it.

        The backward pass starts at these inputs, with minus their `input_delta` as the gradient.
        Shapes: truth as the heads want it, (B, *truth_shape); a layer with `truth=1` replaces it for those behind it.
            It need not be where the network is: lists of boxes are looked through where they are.
        """
        outputs = {-1: self._checked(x_BCHW)}
        inputs: list[torch.Tensor] = []
        losses: list[Loss] = []
        still = max((node.index for node in self.plan.nodes if node.spec.is_frozen(state.batch_num)), default=-1)
        for node, layer in zip(self.plan.nodes, self.layers, strict=True):
            learns = torch.is_grad_enabled() and node.index > still and not node.spec.blocks_gradient
            compared = node.spec if isinstance(node.spec, LossSpec) and node.spec.has_loss else None
            sources = [outputs[source] for source in node.sources]
            if compared:
                compared.check_truth(truth, len(x_BCHW), node.shape)
                sources = [source.float() for source in sources]  # autocast made bfloat16 of them
            with torch.set_grad_enabled(learns):
                output = outputs[node.index] = layer(*sources)
            if compared:
                told = truth if compared.truth_on_any_device else truth.to(output.device, non_blocking=True)
                with torch.no_grad():
                    losses.append(compared.loss(sources[0].detach(), output.detach(), told, state))
                inputs.append(sources[0])
            if node.spec.truth:
                truth = output.detach().flatten(1)
            for index in self._last_reads.get(node.index, ()):
                del outputs[index]
        return inputs, losses

    def for_inference(self) -> Network:
        """Fold batch norm into the weights, layer by layer, and lay them out for speed; there is no way back.

        The arrays stay at hand; `darkpy.accelerate` goes further.

        Source: AlexeyAB/darknet src/network.c fuse_conv_batchnorm.
        """
        self._device = self.device
        for layer in self.built:
            for part in layer.modules():
                if isinstance(part, Layer):
                    part.fold()
        self.requires_grad_(False)
        return self.eval()

    def set_backend(self, runner: Runner, *, prefers_channels_last: bool = True) -> None:
        """Let `runner` compute inference in place of the layers.

        prefers_channels_last: it is fastest on channels_last images.
        """
        self._runner, self.prefers_channels_last = runner, prefers_channels_last

    def resize(self, width: int, height: int) -> None:
        """Take images of another size from now on, as training with `random=1` does.

        Raises: ShapeError when a layer cannot, and then nothing has changed.
        Source: pjreddie/darknet src/network.c resize_network.
        """
        if (width, height) != (self.plan.net.width, self.plan.net.height):
            self.plan = resize_plan(self.plan, width, height)

    def reset_state(self) -> None:
        """Let recurrent layers forget the past: the next call begins a new sequence.

        Outside training they keep their state from call to call, so that a text or a film can be fed step by step.
        Source: pjreddie/darknet src/network.c reset_network_state.
        """
        for layer in self.built:
            layer.reset_state()

    def load_weights(
        self,
        path: str | os.PathLike[str],
        *,
        start: int = 0,
        cutoff: int | None = None,
        allow_partial: bool = False,
        mapped: bool = False,
    ) -> weightfile.LoadReport:
        """Fill the layers from a `.weights` file and take over its header.

        mapped: maps of the file in place of what is read from it, until `for_inference` or a device has copied it.
        Raises: WeightsError, and then nothing has changed.
        """
        report = weightfile.load_weights(
            path,
            self.plan,
            self.built,
            start=start,
            cutoff=cutoff,
            allow_partial=allow_partial,
            mapped=mapped,
        )
        self.header = report.header
        return report

    def save_weights(self, path: str | os.PathLike[str], *, cutoff: int | None = None) -> None:
        """Write a `.weights` file: the layers below `cutoff`, all by default; it appears whole or not at all.

        Raises: WeightsError when a layer's arrays are gone (folded for inference) or hold NaN or infinity.
        """
        write_atomic(path, self.pack_weights(cutoff=cutoff))

    def pack_weights(self, *, cutoff: int | None = None) -> Iterator[bytes]:
        """The bytes of that file, piece by piece."""
        return weightfile.pack_weights(self.plan, self.built, self.header, cutoff=cutoff)

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Fill every array that no file filled: as darknet starts a new network, or weights as `init` says."""
        for node, layer in zip(self.plan.nodes, self.built, strict=True):
            chosen = INITIALIZERS.get(node.spec.init or self.plan.net.init or "")
            for array_spec in node.arrays:
                array = layer.array(array_spec)
                if array is None or not array.is_meta:
                    continue
                new = torch.empty(array_spec.shape)
                if chosen is not None and array_spec.is_decayed:
                    chosen(new, generator=generator)
                else:
                    array_spec.init.fill_(new, generator)
                layer.put_array(array_spec, new)

    @property
    def built(self) -> list[Layer]:
        """The layers, as what they are."""
        return [cast("Layer", layer) for layer in self.layers]

    def _run(
        self, x: torch.Tensor, wanted: Sequence[int], last_reads: Mapping[int, Sequence[int]]
    ) -> list[torch.Tensor]:
        outputs = {-1: x}
        for node, layer in zip(self.plan.nodes, self.layers, strict=True):
            outputs[node.index] = layer(*(outputs[source] for source in node.sources))
            for index in last_reads.get(node.index, ()):
                del outputs[index]
        return [outputs[index] for index in wanted]

    def _checked(self, x: torch.Tensor) -> torch.Tensor:
        shape = self.plan.input_shape
        if x.dim() < 2 or x[:1].numel() != shape.outputs or (x.dim() == 4 and tuple(x.shape[1:]) != shape):
            raise ShapeError(
                f"the input is {tuple(x.shape)}, {self.plan.file} wants (batch, {shape.c}, {shape.h}, {shape.w})"
            )
        x_BCHW = x.reshape(x.shape[0], *shape)
        return x_BCHW if self.normalize is None else self.normalize(x_BCHW)


class Normalize(nn.Module):
    """[net] mean= and std=: what the first layers read is (x - mean) / std, channel by channel.

    The cfg has the numbers, and a weight file does not.
    """

    mean_C11: torch.Tensor
    std_C11: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, numbers in (("mean_C11", mean or (0.0,)), ("std_C11", std or (1.0,))):
            self.register_buffer(name, torch.tensor(numbers)[:, None, None], persistent=False)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return (x_BCHW - self.mean_C11) / self.std_C11

    def to_onnx(self, graph: Graph, x: str) -> str:
        return graph.add("Div", graph.add("Sub", x, self.mean_C11), self.std_C11)


def _outputs(plan: Plan) -> tuple[int, ...]:
    heads = tuple(node.index for node in plan.nodes if isinstance(node.spec, HeadSpec))
    if heads:
        return heads
    candidates = [node.index for node in plan.nodes if node.spec.is_output]
    return (candidates[-1] if candidates else len(plan.nodes) - 1,)


def _last_reads(plan: Plan, kept: Collection[int]) -> dict[int, list[int]]:
    """For each layer, the outputs that nobody needs once it has run."""
    last: dict[int, int] = {}
    for node in plan.nodes:
        for index in (node.index, *node.sources):
            last[index] = node.index
    released: dict[int, list[int]] = {}
    for index, reader in last.items():
        if index not in kept:
            released.setdefault(reader, []).append(index)
    return released
