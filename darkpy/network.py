"""Network: the torch module of a plan. One loop over its nodes runs it; outputs are freed after their last reader."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, SupportsIndex, cast

import torch
from torch import nn

from darkpy import weightfile
from darkpy.build import Plan, resize_plan
from darkpy.deprecation import renamed_arguments, warn_renamed
from darkpy.errors import DarkpyError, ShapeError
from darkpy.files import write_atomic
from darkpy.layers.base import Layer, describe
from darkpy.layers.head import HeadSpec
from darkpy.layers.loss import Loss, LossSpec, TrainingState
from darkpy.ops.gradients import unchanged_gradients
from darkpy.ops.initializers import INITIALIZERS_BY_NAME
from darkpy.ops.onnx_builder import Graph

Runner = Callable[[torch.Tensor], list[torch.Tensor]]
"""Backend: computes a network's outputs from x_BCHW in inference."""
MAX_WEIGHTS = 1 << 30  # 4 GiB; the largest network that comes with darknet (yolov1) has 0.27e9 weights


class Network(nn.Module):
    """A darknet network as a torch module; `darkpy.load` creates one with its weights.

    Shapes: takes x_BCHW (or x_BN if [net] has `inputs`); returns the detection heads' outputs in cfg order, or, without
    detection heads, the output of the last layer that is not [cost].
    `training` selects training or inference arithmetic, as everywhere in torch.
    Calling it is an ordinary forward pass: autograd's gradients are not changed. darknet's rules for deltas
    (`constrain`, `smooth`, `stopbackward`) belong to its training step, `losses`, which `darkpy.Trainer` takes.
    The state of recurrent layers follows one sequence: threads that share such a network mix theirs. Load a network for
    each sequence that runs at the same time.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        if plan.parameter_count > MAX_WEIGHTS:
            raise DarkpyError(
                f"{plan.file} has {plan.parameter_count} weights, {plan.parameter_count * 4 / 2**30:.1f} GiB",
                hint=f"the limit is {MAX_WEIGHTS}; check for a size with an extra digit",
            )
        self.plan = plan
        self.header = weightfile.Header.new(plan.dialect)
        self.weights_file = ""
        """From which `load_weights` has filled the layers last."""
        self.frozen_layers = 0
        """Number of the first layers that `freeze` has frozen, besides those that the cfg freezes."""
        built = [node.spec.build(node.inputs, plan.net) for node in plan.nodes]
        for node, layer in zip(plan.nodes, built, strict=True):
            node.spec.tie_weights(node.index, built)
            layer.description = describe(node.spec, node.inputs, node.shape)
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
        """Specs of the detection heads, in the order of the outputs."""
        return [node.spec for node in self.plan.nodes if isinstance(node.spec, HeadSpec)]

    @property
    def device(self) -> torch.device:
        """Device of its arrays, or the last one if a faster backend has taken them over."""
        array = next(chain(self.parameters(), self.buffers()), None)
        return self._device if array is None else array.device

    @property
    def has_memory(self) -> bool:
        """True if a call may depend on earlier calls (recurrent layers, in inference)."""
        return any(layer.has_memory for layer in self.built)

    @property
    def loss_specs(self) -> list[LossSpec]:
        """Specs of the layers with a loss, in cfg order."""
        specs = (node.spec for node in self.plan.nodes)
        return [spec for spec in specs if isinstance(spec, LossSpec) and spec.has_loss]

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        x_BCHW = self._check_input(x_BCHW)
        if self._runner is not None and not self.training:
            return self._runner(x_BCHW)
        return self.reference_forward(x_BCHW)

    def reference_forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Run the layers themselves, even if a backend runs inference."""
        return self._run(x_BCHW, self.outputs, self._last_reads)

    def trace(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Return every layer's output in cfg order, for debugging.

        After `darkpy.accelerate` convolutions run by its kernels; in bfloat16, their outputs are returned as float32.
        Raises: DarkpyError in int8, whose layers do not run on their own.
        """
        return self._run(self._check_input(x_BCHW), range(len(self.plan.nodes)), {})

    def train(self, mode: bool = True) -> Network:
        """Select training or inference arithmetic; layers frozen with their batch norm statistics stay in inference."""
        super().train(mode)
        for layer in self.built[: self._first_learning if mode else 0]:
            layer.eval()
        return self

    def freeze(self, layers: int) -> None:
        """Freeze the first layers: training changes neither their weights nor their batch norm statistics.

        Call it before a `Trainer` takes the network.
        layers: number of them; 0 leaves it to the cfg's keys (`stopbackward`) alone.
        Raises: DarkpyError when no layer with weights is left to learn.
        Source: AlexeyAB/darknet src/parser.c parse_network_cfg, stopbackward=1
        Differs: the layer at which the backward pass stops learns, too.
        """
        learning = [node.index for node in self.plan.nodes if any(not array.is_statistic for array in node.arrays)]
        if layers and not (learning and 0 < layers <= learning[-1]):
            raise DarkpyError(
                f"--freeze {layers}: no layer of {self.plan.file} would learn",
                hint=f"--freeze {learning[-1]} leaves the last layer with weights"
                if learning and learning[-1]
                else None,
            )
        self.frozen_layers = layers

    @property
    def _first_learning(self) -> int:
        """Index of the layer before which all are frozen for good, with their batch norm statistics."""
        by_key = (node.index for node in self.plan.nodes if node.spec.freezes_inputs)
        return max(self.frozen_layers, *by_key, 0)

    def losses(
        self, x_BCHW: torch.Tensor, truth: torch.Tensor, state: TrainingState
    ) -> tuple[list[torch.Tensor], list[Loss]]:
        """Run the forward pass of a training step. Returns: input and loss of each layer with a loss.

        The backward pass starts at these inputs, with minus their `input_delta` as the gradient.
        Shapes: truth (B, *truth_shape), as the heads need it; a layer with `truth=1` replaces it for later layers.
            It may be on another device: lists of boxes are read where they are.
        """
        outputs = {-1: self._check_input(x_BCHW)}
        inputs: list[torch.Tensor] = []
        losses: list[Loss] = []
        # a frozen layer ends the backward pass, so that all layers before it are frozen, too
        frozen = (node.index for node in self.plan.nodes if node.spec.is_frozen(state.batch_num))
        last_frozen = max(self.frozen_layers - 1, *frozen, -1)
        if last_frozen >= 0:
            self.reset_state()  # frozen recurrent layers are in inference, where they would go on from the last batch
        for node, layer in zip(self.plan.nodes, self.layers, strict=True):
            learns = torch.is_grad_enabled() and node.index > last_frozen and not node.spec.blocks_gradient
            loss_spec = node.spec if isinstance(node.spec, LossSpec) and node.spec.has_loss else None
            sources = [outputs[source] for source in node.sources]
            if loss_spec:
                loss_spec.check_truth(truth, len(x_BCHW), node.shape)
                sources = [source.float() for source in sources]  # under autocast they are bfloat16
            with torch.set_grad_enabled(learns):
                output = outputs[node.index] = layer(*sources)
            if loss_spec:
                target = truth if loss_spec.truth_on_any_device else truth.to(output.device, non_blocking=True)
                with torch.no_grad():
                    losses.append(loss_spec.loss(sources[0].detach(), output.detach(), target, state))
                inputs.append(sources[0])
            if node.spec.truth:
                truth = output.detach().flatten(1)
            for index in self._last_reads.get(node.index, ()):
                del outputs[index]
        return inputs, losses

    def for_inference(self) -> Network:
        """Fold batch norm into the weights, layer by layer, and lay them out for speed; cannot be undone.

        The layers keep their weights as modules; `darkpy.accelerate` goes further.

        Source: AlexeyAB/darknet src/network.c fuse_conv_batchnorm.
        """
        self._device = self.device
        for layer in self.built:
            for part in layer.modules():
                if isinstance(part, Layer):
                    part.fold()
        self.requires_grad_(False)
        return self.eval()

    @property
    def runner(self) -> Runner:
        """Function that computes inference: the backend, or the layers themselves."""
        return self._runner or self.reference_forward

    def set_backend(self, runner: Runner, *, prefers_channels_last: bool = True) -> None:
        """Let `runner` compute inference in place of the layers.

        prefers_channels_last: the runner is fastest on channels_last images.
        """
        self._runner, self.prefers_channels_last = runner, prefers_channels_last

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Pickle the network. Raises: DarkpyError once a backend has taken over its weights, in forms of its own."""
        if self._runner is not None:
            hint = "pickle it before darkpy.accelerate, and accelerate the copy; copy.deepcopy works at any time"
            raise DarkpyError(f"{self.plan.file}: an accelerated network cannot be pickled", hint=hint)
        return super().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        """Copy the network. Packed weights of a backend are shared with the copy: nothing writes to them."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__ = copy.deepcopy(self.__dict__, memo)
        return copied

    def resize(self, width: int, height: int) -> None:
        """Change the input size, as training with `random=1` does.

        Raises: ShapeError when a layer does not support it; nothing has changed then.
        Source: pjreddie/darknet src/network.c resize_network.
        """
        if (width, height) != (self.plan.net.width, self.plan.net.height):
            self.plan = resize_plan(self.plan, width, height)

    def reset_state(self, sequence: int | None = None) -> None:
        """Reset the state of recurrent layers: the next call starts a new sequence.

        In inference they keep their state between calls, so that a sequence can be fed step by step.
        sequence: number of the one to reset; all by default.
        Source: pjreddie/darknet src/network.c reset_network_state.
        """
        for layer in self.built:
            layer.reset_state(sequence)

    def carry_state(self) -> None:
        """Let recurrent layers continue from the state of the last call in training, too: for long sequences in parts.

        Gradients stay within a call. Source: pjreddie/darknet src/rnn_layer.c forward_rnn_layer_gpu.
        """
        for layer in self.built:
            layer.carries_state = True

    def set_temperature(self, temperature: float) -> None:
        """Divide the logits of each softmax by this.

        Raises: DarkpyError if a backend runs the network, of whose program the temperature has become a part.
        Source: pjreddie/darknet src/network.c set_temp_network.
        """
        is_changed = any(getattr(layer, "temperature", temperature) != temperature for layer in self.built)
        if is_changed and self._runner is not None and not self.has_memory:
            hint = "set it before darkpy.accelerate"
            raise DarkpyError(f"{self.plan.file}: the temperature of an accelerated network is fixed", hint=hint)
        for layer in self.built:
            layer.set_temperature(temperature)

    @renamed_arguments(is_partial_allowed="allow_partial", is_mapped="mapped")
    def load_weights(
        self,
        path: str | os.PathLike[str],
        *,
        start: int = 0,
        cutoff: int | None = None,
        allow_partial: bool = False,
        mapped: bool = False,
    ) -> weightfile.LoadReport:
        """Fill the layers from a `.weights` file and adopt its header.

        mapped: memory-map the file instead of reading it, until `for_inference` or a device copies the arrays.
        Raises: WeightsError; nothing has changed then.
        """
        report = weightfile.load_weights(
            path, self.plan, self.built, start=start, cutoff=cutoff, allow_partial=allow_partial, mapped=mapped
        )
        self.header = report.header
        self.weights_file = os.fspath(path)
        return report

    def save_weights(self, path: str | os.PathLike[str], *, cutoff: int | None = None) -> None:
        """Write a `.weights` file with the layers below `cutoff`, all by default, atomically.

        Raises: WeightsError when a layer's arrays are gone (folded for inference) or hold non-finite values.
        """
        write_atomic(path, self.pack_weights(cutoff=cutoff), replace_input=True)

    def pack_weights(self, *, cutoff: int | None = None) -> Iterator[bytes]:
        """Generate the bytes of a `.weights` file, array by array."""
        return weightfile.pack_weights(self.plan, self.built, self.header, cutoff=cutoff)

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Initialize every array that no file has filled: as darknet does, or by the key `init`."""
        for node, layer in zip(self.plan.nodes, self.built, strict=True):
            initializer = INITIALIZERS_BY_NAME.get(node.spec.init or self.plan.net.init or "")
            for array_spec in node.arrays:
                array = layer.array(array_spec)
                if array is None or not array.is_meta:
                    continue
                new = torch.empty(array_spec.shape)
                if initializer is not None and array_spec.is_decayed:
                    initializer(new, generator=generator)
                else:
                    array_spec.init.fill_(new, generator)
                layer.put_array(array_spec, new)

    @property
    def initial_draws(self) -> int:
        """Number of calls of `rand()` with which pjreddie's program fills the weights before it reads their file.

        Only those after the last layer at which it calls srand(0).
        Source: pjreddie/darknet src/utils.c rand_uniform, rand_normal (which draws two numbers at once)
        """
        uniform = normal = normal_before = 0
        for node in self.plan.nodes:
            for init, count in ((array.init, array.count) for array in node.arrays if array.init.scale):
                if init.is_normal:
                    normal += init.filled or count
                else:
                    uniform += init.filled or count
            if node.spec.restarts_random:
                uniform, normal_before = 0, normal
        return uniform + normal + normal % 2 - normal_before - normal_before % 2

    def initialise(self, generator: torch.Generator | None = None) -> None:
        warn_renamed("Network.initialise", "Network.initialize")
        self.initialize(generator)

    @property
    def built(self) -> list[Layer]:
        """The layers with their own type, which nn.ModuleList hides."""
        return [cast("Layer", layer) for layer in self.layers]

    def _run(
        self, x: torch.Tensor, results: Sequence[int], last_reads: Mapping[int, Sequence[int]]
    ) -> list[torch.Tensor]:
        outputs = {-1: x}
        with unchanged_gradients():
            for node, layer in zip(self.plan.nodes, self.layers, strict=True):
                outputs[node.index] = layer(*(outputs[source] for source in node.sources))
                for index in last_reads.get(node.index, ()):
                    del outputs[index]
        return [outputs[index] for index in results]

    def _check_input(self, x: torch.Tensor) -> torch.Tensor:
        shape = self.plan.input_shape
        if not isinstance(x, torch.Tensor):
            raise ShapeError(
                f"the network takes a tensor (batch, {shape.c}, {shape.h}, {shape.w}), not {type(x).__name__}",
                hint="darkpy.detect_image(network, image) takes files, arrays and other images",
            )
        if x.dim() < 2 or x[:1].numel() != shape.outputs or (x.dim() == 4 and tuple(x.shape[1:]) != shape):
            raise ShapeError(
                f"the input is {tuple(x.shape)}, {self.plan.file} needs (batch, {shape.c}, {shape.h}, {shape.w})"
            )
        if not x.is_floating_point():
            raise ShapeError(f"the input is a tensor of {x.dtype}, not of float", hint="(x / 255) is from 0 to 1")
        # `reshape` changes the strides of a single image, which torch then does not take for channels_last
        x_BCHW = x if x.dim() == 4 else x.reshape(x.shape[0], *shape)
        return x_BCHW if self.normalize is None else self.normalize(x_BCHW)


class Normalize(nn.Module):
    """Input normalization by [net] mean= and std=: (x - mean) / std for each channel.

    The values come from the cfg and are not part of a weight file.
    """

    mean_C11: torch.Tensor
    std_C11: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("mean_C11", mean or (0.0,)), ("std_C11", std or (1.0,))):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

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


def _last_reads(plan: Plan, results: Collection[int]) -> dict[int, list[int]]:
    """Map each layer to the outputs that are not needed after it has run; `results` are never freed."""
    last: dict[int, int] = {}
    for node in plan.nodes:
        for index in (node.index, *node.sources):
            last[index] = node.index
    released: dict[int, list[int]] = {}
    for index, reader in last.items():
        if index not in results:
            released.setdefault(reader, []).append(index)
    return released


def require_network(network: object, function: str) -> None:
    """Raises: DarkpyError unless it is a Network; a file name, perhaps. function: that takes one, for the message."""
    if not isinstance(network, Network):
        hint = 'darkpy.load("yolov3-tiny")'
        raise DarkpyError(f"{function} takes a network, not {type(network).__name__}", hint=hint)
