"""[conv_lstm]: LSTM whose gates are convolutions.

Legend: S sequences, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.errors import ShapeError
from darkpy.layers.base import Layer, activation_key, section
from darkpy.layers.recurrent import Part, Recurrent, RecurrentSpec, State, require_same_size
from darkpy.ops.activations import ACTIVATIONS_BY_NAME
from darkpy.shapes import Shape

_CELL_BOUND = 32  # times time_steps: darknet's default of state_constrain


@section("conv_lstm", dialect=Dialect.ALEXEYAB)
@dataclass(frozen=True, kw_only=True, slots=True)
class ConvLstmSpec(RecurrentSpec):
    """Gates: f forgets the old cell, i admits the new one, o outputs it.

    peephole: the gates read the cell, too. bottleneck: one convolution (wf) merges state and input into the input of
    the gates, which then do not read the state themselves.
    """

    output: int = key(1, minimum=1)
    size: int = key(3, minimum=1)
    stride: int = key(1, minimum=1)
    dilation: int = key(1, minimum=1)
    pad: bool = key(False)
    padding: int = key(0, minimum=0)
    groups: int = key(1, minimum=1)
    activation: str = activation_key("linear")  # of each convolution, before a gate sums them
    lstm_activation: str = activation_key("tanh")
    xnor: bool = key(False)
    peephole: bool = key(False)
    bottleneck: bool = key(False)
    shortcut: bool = key(False)  # adds the bottleneck's first half to the output's
    state_constrain: int | None = key(None, minimum=0)  # falls back to 32 * time_steps; 0 for none
    time_normalizer: float = key(
        1.0, usual=(0, 100)
    )  # scale of the gradient that flows back from one step to the one before

    def parts(self, inputs: Sequence[Shape]) -> Mapping[str, Part]:
        (x,) = inputs
        state = Shape(self.output, x.h, x.w)
        both = Shape(self.output + x.c, x.h, x.w)
        convolution = self.convolutional(self.output)
        of_cell = dict.fromkeys(("vf", "vi", "vo"), state) if self.peephole else {}
        of_state = {"wf": both} if self.bottleneck else dict.fromkeys(("wf", "wi", "wg", "wo"), state)
        of_input = dict.fromkeys(("uf", "ui", "ug", "uo"), state if self.bottleneck else x)
        return {name: Part(convolution, shape) for name, shape in (of_cell | of_state | of_input).items()}

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if self.bottleneck and x.c != self.output:
            raise ShapeError(
                f"bottleneck=1 needs as many input channels as output={self.output}, but reads {x.c}",
                hint=f"set output={x.c}",
            )
        parts = self.parts(inputs)
        for part in parts.values():
            require_same_size(part)
        return parts["uo"].shape

    def operations(self, inputs: Sequence[Shape]) -> int:
        for_gates = (12 if self.peephole else 9) * self.shape(inputs).outputs
        return RecurrentSpec.operations(self, inputs) + for_gates

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _ConvLstm(self, net.time_steps, self.build_parts(inputs, net))


class _ConvLstm(Recurrent):
    """Source: AlexeyAB/darknet src/conv_lstm_layer.c forward_conv_lstm_layer and forward_conv_lstm_layer_gpu.

    Differs: NaN and inf are not replaced. bottleneck and shortcut work image by image; darknet splits the memory of the
        whole minibatch. Gradients are exact: darknet carries none back in time through h without a bottleneck, and
        passes them through a clamped cell.
    """

    def __init__(self, spec: ConvLstmSpec, time_steps: int, parts: Mapping[str, Layer]) -> None:
        super().__init__(time_steps, parts)
        self.spec = spec
        self.bound = _CELL_BOUND * time_steps if spec.state_constrain is None else spec.state_constrain
        self.squash = ACTIVATIONS_BY_NAME[spec.lstm_activation]

    def initial_state(self, x_SCHW: torch.Tensor) -> State:
        sequences, _, h, w = x_SCHW.shape
        zeros = x_SCHW.new_zeros(sequences, self.spec.output, h, w)
        return zeros, zeros

    def step(self, x_SCHW: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        x, (h, c) = x_SCHW, state
        if self.spec.time_normalizer != 1:
            h = torch.lerp(h.detach(), h, self.spec.time_normalizer)  # the value of h, its gradient scaled
        if self.spec.bottleneck:
            x = self.squash(self.get_submodule("wf")(torch.cat((h, x), 1)))
        f = torch.sigmoid(self._gate("f", x, h, c))
        i = torch.sigmoid(self._gate("i", x, h, c))
        g = self.squash(self._gate("g", x, h))
        c = f * c + i * g
        o = torch.sigmoid(self._gate("o", x, h, c))
        h = y = o * self.squash(c)
        if self.spec.bottleneck and self.spec.shortcut:
            half = self.spec.output // 2
            y = torch.cat((h[:, :half] + x[:, :half], h[:, half:]), 1)
        if self.bound:
            c = c.clamp(-self.bound, self.bound)
        return y, (h, c)

    def _gate(self, gate: str, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Sum of a gate's convolutions: of the input, the state (unless merged by the bottleneck) and the cell."""
        total: torch.Tensor = self.get_submodule(f"u{gate}")(x)
        if not self.spec.bottleneck:
            total = total + self.get_submodule(f"w{gate}")(h)
        if self.spec.peephole and c is not None:
            total = total + self.get_submodule(f"v{gate}")(c)
        return total
