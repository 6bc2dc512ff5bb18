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

from darkpy.config.schema import extension_entries, key, keys_of
from darkpy.dialect import Dialect
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup
from darkpy.errors import DarkpyError
from darkpy.finding import Finding
from darkpy.layers.arrays import INIT_ONE as INIT_ONE  # rooms find these here
from darkpy.layers.arrays import INIT_SLOPE as INIT_SLOPE
from darkpy.layers.arrays import INIT_ZERO as INIT_ZERO
from darkpy.layers.arrays import ArraySpec as ArraySpec
from darkpy.layers.arrays import Init as Init
from darkpy.ops.activations import ALIASES, PRELU, activation_names
from darkpy.ops.initializers import INITIALIZERS
from darkpy.ops.norms import FREEZES
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape

if TYPE_CHECKING:
    from darkpy.config.net import NetSpec


class Layer(nn.Module):
    """A module whose arrays are its spec's slots, without memory until a weight file or an initializer fills them.

    ranks: that share each minibatch in training.
    bound: what the delta at its output is clamped to, 0 for nothing.
    """

    process_group: ProcessGroup = SINGLE_PROCESS
    has_memory: bool = False  # in inference a call continues from the state that the last one left
    is_identity: bool = False  # in inference its output is its sources, concatenated along the channels
    preserves_dtype: bool = False  # bfloat16 input gives bfloat16 output, the same but for rounding
    bound: float = 0.0

    def __init__(self, arrays: Sequence[ArraySpec] = ()) -> None:
        super().__init__()
        for array_spec in arrays:
            empty = torch.empty(array_spec.shape, device="meta")
            if array_spec.is_statistic:
                self.register_buffer(array_spec.name, empty)
            else:
                self.register_parameter(array_spec.name, nn.Parameter(empty))

    def freeze_affine(self, freeze: str) -> None:
        """Keep scales and biases from learning where `bn_freeze` says so."""
        for name in ("scales", "biases") if freeze in ("affine", "all") else ():
            if name in self._parameters:
                self.get_parameter(name).requires_grad_(False)

    def array(self, array_spec: ArraySpec) -> torch.Tensor | None:
        """The numbers of a slot; None once they are folded away."""
        owner, name = self._holder_of(array_spec)
        array: torch.Tensor | None = getattr(owner, name, None)
        return array

    def put_array(self, array_spec: ArraySpec, array: torch.Tensor) -> None:
        """Give a slot other numbers, on the device and in the type of those it has."""
        owner, name = self._holder_of(array_spec)
        old: torch.Tensor = getattr(owner, name)
        if not old.is_meta:
            array = array.to(old.device, old.dtype)
        setattr(owner, name, nn.Parameter(array, old.requires_grad) if isinstance(old, nn.Parameter) else array)

    def _holder_of(self, array_spec: ArraySpec) -> tuple[nn.Module, str]:
        path, _, name = array_spec.name.rpartition(".")
        return self.get_submodule(path), name

    def fold(self) -> None:
        """Rewrite the arrays for inference where that saves work (batch norm), and in any case in memory of their own.

        What was mapped from a file no longer needs it.
        """
        for array in (*self.parameters(recurse=False), *self.buffers(recurse=False)):
            array.data = array.data.clone()

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        """Write down what `forward` computes of its sources, once folded. Returns: the name of the output.

        Raises: DarkpyError when ONNX cannot say it.
        """
        if type(self).reset_state is not Layer.reset_state:
            raise DarkpyError("it remembers from call to call, and an ONNX file does not")
        raise DarkpyError("no ONNX operators say what it computes")

    def reset_state(self) -> None:
        """Forget what earlier calls left behind (recurrent layers); nothing to do by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSpec:
    """A section with typed keys. Rooms fill in `shape` and `build`, and the rest where the default is not theirs."""

    type: ClassVar[str]
    dialects: ClassVar[frozenset[Dialect]]
    any_dialect: ClassVar[bool] = False  # whether a section of one fork may stand in the other's cfgs all the same
    is_output: ClassVar[bool] = True  # whether the network's output may be this layer's: [cost] is passed over

    dialect: Dialect = Dialect.PJREDDIE

    learning_rate: float = key(1.0)
    stopbackward: int = key(0)
    onlyforward: bool = key(False)
    dontload: bool = key(False)
    dontloadscales: bool = key(False)
    dontsave: bool = key(False, dialect=Dialect.PJREDDIE)
    numload: int = key(0, dialect=Dialect.PJREDDIE, minimum=0)
    truth: bool = key(False, dialect=Dialect.PJREDDIE)
    smooth: float = key(0.0, dialect=Dialect.PJREDDIE)
    clip: float = key(0.0, dialect=Dialect.ALEXEYAB)
    dont_update: int = key(0, dialect=Dialect.ALEXEYAB)
    burnin_update: float = key(0.0, dialect=Dialect.ALEXEYAB)
    train_only_bn: bool = key(False, dialect=Dialect.ALEXEYAB)
    constrain: float | None = key(None, minimum=0)  # darkpy's own; falls back to [net] constrain
    init: str | None = key(None, choices=INITIALIZERS)  # darkpy's own; falls back to [net] init
    bn_freeze: str | None = key(None, choices=FREEZES)  # darkpy's own; falls back to [net] bn_freeze

    @property
    def blocks_gradient(self) -> bool:
        """Whether the layer's own backward pass is left out; pjreddie's `onlyforward` only keeps heads from a loss."""
        return self.onlyforward and self.dialect is Dialect.ALEXEYAB

    @property
    def freezes_inputs(self) -> bool:
        """Whether the layers before it are frozen for good: their batch norm goes by the rolling statistics."""
        return self.stopbackward == 1 and self.dialect is Dialect.ALEXEYAB

    def is_frozen(self, batch_num: int) -> bool:
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

    def shared_with(self, index: int) -> tuple[int, ...]:
        """Absolute numbers of layers used otherwise than by reading their output (shared weights)."""
        return ()

    def check_shared(self, inputs: Sequence[Shape], referred: Sequence[tuple[LayerSpec, Sequence[Shape]]]) -> None:
        """Look at the layers it `shared_with` to, and their inputs. Raises: DarkpyError when they do not suit it."""

    def resolve_shared(self, referred: Sequence[LayerSpec]) -> LayerSpec:
        """This spec, knowing the layers that it `shared_with` to, after `check_shared` has passed them."""
        return self

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """The output's shape. Raises: ShapeError when the inputs do not fit."""
        raise NotImplementedError

    def arrays(self, inputs: Sequence[Shape]) -> tuple[ArraySpec, ...]:
        """The arrays of the weight file, in file order."""
        return ()

    def lint(self, inputs: Sequence[Shape]) -> Iterator[Finding]:
        """Findings of the section: allowed, and bad for training. None by default."""
        yield from ()

    def operations(self, inputs: Sequence[Shape]) -> int:
        """Multiplications and additions for one image, counted as darknet's table counts them."""
        return 0

    def extensions(self) -> list[str]:
        """What of the section no darknet of its dialect computes."""
        section = [] if self.dialect in self.dialects else [f"[{self.type}]"]
        return [*section, *extension_entries(self)]

    def weight_bound(self, net: NetSpec) -> float:
        """What `clip` keeps the weights within after each update; 0 for no bound."""
        return self.clip

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        """The module; its forward takes one tensor a source and returns one tensor."""
        raise NotImplementedError

    def tie_weights(self, index: int, layers: Sequence[Layer]) -> None:
        """Tie the built layer to those it `shared_with` to."""


def activation_key(default: str, *, has_slopes: bool = False) -> Any:
    """The `activation` key: every layer that has one knows the same words, and some prelu, whose slopes are learned."""
    if not has_slopes:
        return key(default, choices=activation_names, aliases=ALIASES)
    return key(default, choices=lambda dialect: activation_names(dialect) | {PRELU}, aliases=ALIASES, extension={PRELU})


def slope_arrays(activation: str, channels: int) -> tuple[ArraySpec, ...]:
    """The slopes of a PReLU, one a channel, the last array of their layer."""
    return (ArraySpec("slopes", (channels,), INIT_SLOPE, is_extension=True),) if activation == PRELU else ()


SECTIONS: dict[str, type[LayerSpec]] = {}
S = TypeVar("S", bound=LayerSpec)


def section(*names: str, dialect: Dialect | None = None, any_dialect: bool = False) -> Callable[[type[S]], type[S]]:
    """Register a spec under its section names, the first being its `type`.

    only: the one fork that has it. is_lent: the other's cfgs may have it too, here alone.
    """

    def register(spec: type[S]) -> type[S]:
        spec.type = names[0]
        spec.dialects = frozenset(Dialect) if dialect is None else frozenset({dialect})
        spec.any_dialect = any_dialect
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
