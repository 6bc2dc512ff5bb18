"""Base classes of recurrent layers: time steps, inner layers, and a state that is kept between calls.

Legend: T time steps, S sequences, B = T * S rows, step after step (row = step * S + sequence); C channels, H W rows
and columns, F channels of a state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.errors import ShapeError
from darkpy.layers.base import ArraySpec, Layer, LayerSpec
from darkpy.layers.connected import ConnectedSpec
from darkpy.layers.convolutional import ConvolutionalSpec
from darkpy.shapes import Shape

State = tuple[torch.Tensor, ...]
_CONVOLUTION_KEYS = (
    *("dialect", "constrain", "bn_freeze", "batch_normalize", "activation", "xnor"),
    *("size", "stride", "dilation", "pad", "padding", "groups"),
)


class Part(NamedTuple):
    """An inner layer and the shape of its input."""

    spec: LayerSpec
    x: Shape

    @property
    def shape(self) -> Shape:
        return self.spec.shape((self.x,))


@dataclass(frozen=True, kw_only=True, slots=True)
class RecurrentSpec(LayerSpec):
    """Spec of a layer made of inner layers; subclasses define `parts`, `shape` and `build`."""

    batch_normalize: int = key(0, usual=(0, 2))  # in every inner layer, with the statistics of one time step

    def parts(self, inputs: Sequence[Shape]) -> Mapping[str, Part]:
        """Inner layers by name, in file order."""
        raise NotImplementedError

    def connected(self, output: int, activation: str = "linear") -> ConnectedSpec:
        """Spec of an inner connected layer."""
        return ConnectedSpec(
            dialect=self.dialect,
            constrain=self.constrain,
            bn_freeze=self.bn_freeze,
            output=output,
            activation=activation,
            batch_normalize=bool(self.batch_normalize),
        )

    def convolutional(self, filters: int) -> ConvolutionalSpec:
        """Spec of an inner convolutional layer, with the convolution's keys of this section."""
        own = {name: getattr(self, name) for name in _CONVOLUTION_KEYS}
        return ConvolutionalSpec(filters=filters, **own)

    def arrays(self, inputs: Sequence[Shape]) -> tuple[ArraySpec, ...]:
        return tuple(
            array_spec.within(name)
            for name, part in self.parts(inputs).items()
            for array_spec in part.spec.arrays((part.x,))
        )

    def operations(self, inputs: Sequence[Shape]) -> int:
        return sum(part.spec.operations((part.x,)) for part in self.parts(inputs).values())

    def delta_bound(self, inputs: Sequence[Shape], net: NetSpec) -> float | None:
        first, *_ = self.parts(inputs).values()
        return first.spec.delta_bound((first.x,), net)

    def build_parts(self, inputs: Sequence[Shape], net: NetSpec) -> dict[str, Layer]:
        return {name: part.spec.build((part.x,), net) for name, part in self.parts(inputs).items()}


class Recurrent(Layer):
    """A loop over time steps; subclasses define `initial_state` and `step`.

    In training every call starts from the initial state, unless `carries_state` is set, and gradients flow back through
    its `time_steps`. In inference a call continues from the state of the last one, so that frames or characters can be
    fed one by one; it is reset by `reset_state` or when the number of sequences has changed.
    Differs: darknet's batch norm goes back through every step with the statistics of the last one; here each step has
        its own. pjreddie's GPU code always carries the state from one training batch into the next.
    """

    has_memory = True

    def __init__(self, time_steps: int, parts: Mapping[str, Layer]) -> None:
        super().__init__()
        self.time_steps = time_steps
        self._state: State | None = None
        for name, part in parts.items():
            self.add_module(name, part)

    def initial_state(self, x_SCHW: torch.Tensor) -> State:
        """The state before the first step."""
        raise NotImplementedError

    def step(self, x_SCHW: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Advance all sequences by one step. Returns: the output, and the state after it."""
        raise NotImplementedError

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        rows = x_BCHW.shape[0]
        if rows % self.time_steps:
            raise ShapeError(
                f"{rows} rows cannot be split into sequences of time_steps={self.time_steps}",
                hint="with [net] time_steps=1 every row is a step; the state is kept from call to call",
            )
        x_TSCHW = x_BCHW.reshape(self.time_steps, rows // self.time_steps, *x_BCHW.shape[1:])
        state = self.initial_state(x_TSCHW[0])
        keeps_state = self.carries_state or not self.training
        previous = self._state if keeps_state else None
        if previous is not None and [array.shape for array in previous] == [array.shape for array in state]:
            # copied, because tensors made under torch.inference_mode cannot be used outside it
            state = tuple(array.to(x_TSCHW, copy=True) for array in previous)
        outputs: list[torch.Tensor] = []
        for x_SCHW in x_TSCHW:
            y_SCHW, state = self.step(x_SCHW, state)
            outputs.append(y_SCHW)
        self._state = tuple(array.detach() for array in state) if keeps_state else None
        return torch.cat(outputs)

    def reset_state(self, sequence: int | None = None) -> None:
        if sequence is None:
            self._state = None
        elif self._state is not None:
            self._state = tuple(array.clone() for array in self._state)
            for array in self._state:
                array[sequence] = 0


class SimpleRecurrent(Recurrent):
    """Base of [rnn] and [crnn]: s <- input(x) + self(s) (+ s with `shortcut`); y = output(s).

    Source: pjreddie/darknet and AlexeyAB/darknet src/rnn_layer.c forward_rnn_layer, src/crnn_layer.c
        forward_crnn_layer.
    Differs: pjreddie's GPU code ignores `shortcut`; the CPU code of both passes the input layer a delta that the self
        layer has already changed.
    """

    input_layer: Layer
    self_layer: Layer
    output_layer: Layer

    def __init__(self, time_steps: int, parts: Mapping[str, Layer], *, shortcut: bool) -> None:
        super().__init__(time_steps, parts)
        self.shortcut = shortcut

    def step(self, x_SCHW: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        (before_SFHW,) = state
        s_SFHW = self.input_layer(x_SCHW) + self.self_layer(before_SFHW)
        if self.shortcut:
            s_SFHW = s_SFHW + before_SFHW
        return self.output_layer(s_SFHW), (s_SFHW,)


def require_same_size(part: Part) -> None:
    """Raises: ShapeError when an inner convolution changes the number of rows or columns, which the state keeps."""
    out = part.shape
    if (out.h, out.w) != (part.x.h, part.x.w):
        raise ShapeError(
            f"its convolutions make {out.w} x {out.h} out of {part.x.w} x {part.x.h}, and a state must keep its size",
            hint="set pad=1, an odd size and stride=1",
        )
