"""What every room shares: the registry of sections, the spec a room fills in, and its weight slots.

A room is one file: keys, shape rule, sources, weight slots and the module. Nothing outside it asks what type a
layer is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import nn

from darkpy.config.schema import foreign_entries, key, keys_of
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.layers.doubts import Doubt
from darkpy.layers.slots import ONE as ONE  # rooms find these here
from darkpy.layers.slots import SLOPE as SLOPE
from darkpy.layers.slots import ZERO as ZERO
from darkpy.layers.slots import Init as Init
from darkpy.layers.slots import Slot as Slot
from darkpy.ops.activations import MISREAD, PRELU, words
from darkpy.ops.graph import Graph, Value
from darkpy.ops.initialisers import INITIALISERS
from darkpy.ops.normalisation import FREEZES
from darkpy.ops.ranks import ALONE, Ranks
from darkpy.shapes import Shape

if TYPE_CHECKING:
    from darkpy.config.net import NetSpec
    from darkpy.ops.codes import Scale


class Layer(nn.Module):
    """A module whose arrays are its spec's slots, without memory until a weight file or an initialiser fills them.

    ranks: that share each minibatch in training.
    bound: what the delta at its output is clamped to, 0 for nothing.
    """

    ranks: Ranks = ALONE
    has_memory: bool = False  # whether in inference a call goes on where the last one ended
    keeps_type: bool = False  # whether on bfloat16 it does what it does on float32, but for rounding
    is_transparent: bool = False  # whether in inference it hands its sources on as they are, channels behind channels
    takes_parts: bool = False  # whether what `quicken` gives takes several inputs for one, so laid behind each other
    takes_codes: bool = False  # whether `on_codes` is its own
    bound: float = 0.0

    def __init__(self, slots: Sequence[Slot] = ()) -> None:
        super().__init__()
        for slot in slots:
            empty = torch.empty(slot.shape, device="meta")
            if slot.is_statistic:
                self.register_buffer(slot.name, empty)
            else:
                self.register_parameter(slot.name, nn.Parameter(empty))

    def freeze_affine(self, freeze: str) -> None:
        """Keep scales and biases from learning where `bn_freeze` says so."""
        for name in ("scales", "biases") if freeze in ("affine", "all") else ():
            if name in self._parameters:
                self.get_parameter(name).requires_grad_(False)

    def array(self, slot: Slot) -> torch.Tensor | None:
        """The numbers of a slot; None once they are folded away."""
        owner, name = self._holder_of(slot)
        array: torch.Tensor | None = getattr(owner, name, None)
        return array

    def put_array(self, slot: Slot, array: torch.Tensor) -> None:
        """Give a slot other numbers, on the device and in the type of those it has."""
        owner, name = self._holder_of(slot)
        old: torch.Tensor = getattr(owner, name)
        if not old.is_meta:
            array = array.to(old.device, old.dtype)
        setattr(owner, name, nn.Parameter(array, old.requires_grad) if isinstance(old, nn.Parameter) else array)

    def _holder_of(self, slot: Slot) -> tuple[nn.Module, str]:
        path, _, name = slot.name.rpartition(".")
        return self.get_submodule(path), name

    def fold(self) -> None:
        """Rewrite the arrays for inference where that saves work (batch norm), and in any case in memory of their own.

        What was mapped from a file no longer needs it.
        """
        for array in (*self.parameters(recurse=False), *self.buffers(recurse=False)):
            array.data = array.data.clone()

    def quicken(
        self, inputs: Sequence[Shape], dtype: torch.dtype, *, may_overwrite: bool = False
    ) -> Callable[..., torch.Tensor]:
        """What computes this layer in inference from now on, once folded: `forward`, or something faster.

        Arrays may be given up for it, so there is no way back.
        dtype: of the products, float32 or bfloat16. A layer that does not keep types is called with float32.
        may_overwrite: whether nobody else reads the first input.
        """
        return self.forward

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        """Write down what `forward` computes of its sources, once folded. Returns: the name of the output.

        Raises: DarkpyError when ONNX cannot say it.
        """
        if type(self).reset_state is not Layer.reset_state:
            raise DarkpyError("it remembers from call to call, and an ONNX file does not")
        raise DarkpyError("no ONNX operators say what it computes")

    def before_activation(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """What the activation of a product reads. For layers that make codes of their own."""
        raise NotImplementedError

    def activated(self, raw_BCHW: torch.Tensor) -> torch.Tensor:
        """What the activation of a product makes of that, which it may overwrite."""
        raise NotImplementedError

    def on_codes(
        self, sources: Sequence[Scale], raw: Scale, output: Scale
    ) -> tuple[Callable[..., torch.Tensor], Scale]:
        """What computes this layer, once folded, on 8-bit codes, and the scale of the codes that come out.

        sources, raw, output: the scales of its inputs, of `before_activation`, and of its output.
        Raises: DarkpyError where torch cannot.
        """
        raise NotImplementedError

    def reset_state(self) -> None:
        """Forget what earlier calls left behind (recurrent layers); nothing to do by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSpec:
    """A section with typed keys. Rooms fill in `shape` and `build`, and the rest where the default is not theirs."""

    type: ClassVar[str]
    forks: ClassVar[frozenset[Dialect]]
    is_lent: ClassVar[bool] = False  # whether a section of one fork may stand in the other's cfgs all the same
    is_output: ClassVar[bool] = True  # whether the network's output may be this layer's: [cost] is passed over

    dialect: Dialect = Dialect.PJREDDIE

    learning_rate: float = key(1.0)
    stopbackward: int = key(0)
    onlyforward: bool = key(False)
    dontload: bool = key(False)
    dontloadscales: bool = key(False)
    dontsave: bool = key(False, only=Dialect.PJREDDIE)
    numload: int = key(0, only=Dialect.PJREDDIE, minimum=0)
    truth: bool = key(False, only=Dialect.PJREDDIE)
    smooth: float = key(0.0, only=Dialect.PJREDDIE)
    clip: float = key(0.0, only=Dialect.ALEXEYAB)
    dont_update: int = key(0, only=Dialect.ALEXEYAB)
    burnin_update: float = key(0.0, only=Dialect.ALEXEYAB)
    train_only_bn: bool = key(False, only=Dialect.ALEXEYAB)
    constrain: float | None = key(None, minimum=0)  # darkpy's own; falls back to [net] constrain
    init: str | None = key(None, words=INITIALISERS)  # darkpy's own; falls back to [net] init
    bn_freeze: str | None = key(None, words=FREEZES)  # darkpy's own; falls back to [net] bn_freeze

    @property
    def passes_nothing_back(self) -> bool:
        """Whether the layer's own backward pass is left out; pjreddie's `onlyforward` only keeps heads from a loss."""
        return self.onlyforward and self.dialect is Dialect.ALEXEYAB

    @property
    def freezes_before(self) -> bool:
        """Whether the layers before it are frozen for good: their batch norm goes by the rolling statistics."""
        return self.stopbackward == 1 and self.dialect is Dialect.ALEXEYAB

    def is_still(self, batch_num: int) -> bool:
        """Whether the backward pass ends behind this layer at an update: it and all before it do not learn.

        Source: AlexeyAB/darknet src/network_kernels.cu backward_network_gpu.
        Differs: weights that do not learn do not decay either.
        """
        if self.dialect is Dialect.ALEXEYAB and self.stopbackward > 1:
            return self.stopbackward > batch_num
        return bool(self.stopbackward)

    def sources(self, index: int) -> tuple[int, ...]:
        """Absolute numbers of the layers read, -1 for the network's input; `index` is this layer's own number."""
        return (index - 1,)

    def refers(self, index: int) -> tuple[int, ...]:
        """Absolute numbers of layers used otherwise than by reading their output (shared weights)."""
        return ()

    def check_referred(self, inputs: Sequence[Shape], referred: Sequence[tuple[LayerSpec, Sequence[Shape]]]) -> None:
        """Look at the layers it `refers` to, and their inputs. Raises: DarkpyError when they do not suit it."""

    def tied(self, referred: Sequence[LayerSpec]) -> LayerSpec:
        """This spec, knowing the layers that it `refers` to, after `check_referred` has passed them."""
        return self

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """The output's shape. Raises: ShapeError when the inputs do not fit."""
        raise NotImplementedError

    def slots(self, inputs: Sequence[Shape]) -> tuple[Slot, ...]:
        """The arrays of the weight file, in file order."""
        return ()

    def doubts(self, inputs: Sequence[Shape]) -> Iterator[Doubt]:
        """What the section says that is allowed and hurts training; nothing by default."""
        yield from ()

    def operations(self, inputs: Sequence[Shape]) -> int:
        """Multiplications and additions for one image, counted as darknet's table counts them."""
        return 0

    def foreign(self) -> list[str]:
        """What of the section no darknet of its dialect computes."""
        section = [] if self.dialect in self.forks else [f"[{self.type}]"]
        return [*section, *foreign_entries(self)]

    def weight_bound(self, net: NetSpec) -> float:
        """What `clip` keeps the weights within after each update; 0 for no bound."""
        return self.clip

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        """The module; its forward takes one tensor a source and returns one tensor."""
        raise NotImplementedError

    def connect(self, index: int, layers: Sequence[Layer]) -> None:
        """Tie the built layer to those it `refers` to."""


def activation_key(default: str, *, has_slopes: bool = False) -> Any:
    """The `activation` key: every layer that has one knows the same words, and some prelu, whose slopes are learned."""
    if not has_slopes:
        return key(default, words=words, misread=MISREAD)
    return key(default, words=lambda dialect: words(dialect) | {PRELU}, misread=MISREAD, foreign={PRELU})


def slope_slots(activation: str, channels: int) -> tuple[Slot, ...]:
    """The slopes of a PReLU, one a channel, the last array of their layer."""
    return (Slot("slopes", (channels,), SLOPE, is_foreign=True),) if activation == PRELU else ()


SECTIONS: dict[str, type[LayerSpec]] = {}
S = TypeVar("S", bound=LayerSpec)


def section(*names: str, only: Dialect | None = None, is_lent: bool = False) -> Callable[[type[S]], type[S]]:
    """Register a spec under its section names, the first being its `type`.

    only: the one fork that has it. is_lent: the other's cfgs may have it too, here alone.
    """

    def register(spec: type[S]) -> type[S]:
        spec.type = names[0]
        spec.forks = frozenset(Dialect) if only is None else frozenset({only})
        spec.is_lent = is_lent
        for name in names:
            if name in SECTIONS:
                raise ValueError(f"two rooms claim [{name}]")
            SECTIONS[name] = spec
        return spec

    return register


def absolute(reference: int, index: int) -> int:
    """The layer that a `from` or `layers` entry means: negative counts back from `index`."""
    return index + reference if reference < 0 else reference


def field_values(spec: LayerSpec) -> Iterator[tuple[str, object]]:
    """The typed keys of a spec, for tables and JSON."""
    for wanted in keys_of(type(spec)).values():
        yield wanted.name, getattr(spec, wanted.field)
