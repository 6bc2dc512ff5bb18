"""Registry of cfg sections, and the base classes of a section's spec and of its torch module.

One file (or folder) in layers/ has everything about a section: keys, shape rule, sources, arrays, module and ONNX
form. Code elsewhere uses a layer's capabilities, never its type.

The arrays of a layer: their names, shapes and starting values.

Lint findings that several section types share: settings that are allowed and bad for training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import nn

from darkpy.config.schema import MAX_INT, extension_entries, key, keys_of
from darkpy.dialect import Dialect
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup
from darkpy.errors import DarkpyError
from darkpy.finding import Finding
from darkpy.ops.activations import ACTIVATION_ALIASES, PRELU_NAME, activation_names
from darkpy.ops.initializers import INITIALIZERS_BY_NAME
from darkpy.ops.norms import BN_FREEZE_MODES
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape

if TYPE_CHECKING:
    from darkpy.config.net import NetSpec


@dataclass(frozen=True, slots=True)
class Init:
    """Initial values of an array: `mean` plus noise, normal (std `scale`) or uniform (+-`scale`).

    filled: number of leading elements that get noise, where darknet does not fill the whole array.
    """

    mean: float = 0.0
    scale: float = 0.0
    is_normal: bool = False
    filled: int | None = None

    def fill_(self, tensor: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        tensor.fill_(self.mean)
        if self.scale:
            flat = tensor.view(-1)[: self.filled]
            if self.is_normal:
                flat.normal_(self.mean, self.scale, generator=generator)
            else:
                flat.uniform_(self.mean - self.scale, self.mean + self.scale, generator=generator)
        return tensor


INIT_ZERO = Init()
INIT_ONE = Init(mean=1.0)
INIT_SLOPE = Init(mean=0.25)  # of a PReLU left of 0 (He et al. 2015)


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a layer, in the weight file and in the module; `LayerSpec.arrays` lists them in file order.

    name: of the module's parameter or buffer, dotted if a layer is made of layers.
    is_statistic: a buffer (rolling mean or variance), not learned by gradient.
    is_norm: batch norm's scales and statistics, which `dontloadscales` skips.
    is_decayed: weight decay applies to it.
    is_flipped: the file holds it as [rest][first axis] (`flipped=1`).
    is_connected: a connected weight, stored transposed by darknet's oldest versions.
    is_extension: no darknet has this array, so none can read a file that holds it.
    """

    name: str
    shape: tuple[int, ...]
    init: Init = INIT_ZERO
    is_statistic: bool = False
    is_norm: bool = False
    is_decayed: bool = False
    is_flipped: bool = False
    is_connected: bool = False
    is_extension: bool = False

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def within(self, part: str) -> ArraySpec:
        """The same array, named from the layer that contains its owner as `part`; no `dontloadscales` inside."""
        return replace(self, name=f"{part}.{self.name}", is_norm=False)


class Layer(nn.Module):
    """Base class of the modules; its arrays are meta tensors until a weight file or an initializer fills them.

    process_group: the processes that share each minibatch in training.
    bound: the delta at its output is clamped to [-bound, bound]; 0 for no clamping.
    description: channels and keys, for its text.
    """

    process_group: ProcessGroup = SINGLE_PROCESS
    has_memory: bool = False  # in inference a call continues from the state that the last one left
    carries_state: bool = False  # in training, too
    is_identity: bool = False  # in inference its output is its sources, concatenated along the channels
    preserves_dtype: bool = False  # bfloat16 input gives bfloat16 output, the same but for rounding
    bound: float = 0.0
    description: str = ""

    def __init__(self, arrays: Sequence[ArraySpec] = ()) -> None:
        super().__init__()
        for array_spec in arrays:
            empty = torch.empty(array_spec.shape, device="meta")
            if array_spec.is_statistic:
                self.register_buffer(array_spec.name, empty)
            else:
                self.register_parameter(array_spec.name, nn.Parameter(empty))

    def extra_repr(self) -> str:
        return self.description

    def freeze_affine(self, freeze: str) -> None:
        """Freeze scales and biases if `bn_freeze` includes them."""
        for name in ("scales", "biases") if freeze in ("affine", "all") else ():
            if name in self._parameters:
                self.get_parameter(name).requires_grad_(False)

    def array(self, array_spec: ArraySpec) -> torch.Tensor | None:
        """Return an array; None once `fold` or an inference backend has taken it."""
        owner, name = self._owner_of(array_spec)
        array: torch.Tensor | None = getattr(owner, name, None)
        return array

    def put_array(self, array_spec: ArraySpec, array: torch.Tensor) -> None:
        """Replace an array, on the device and in the dtype of the present one."""
        owner, name = self._owner_of(array_spec)
        old: torch.Tensor = getattr(owner, name)
        if not old.is_meta:
            array = array.to(old.device, old.dtype)
        setattr(owner, name, nn.Parameter(array, old.requires_grad) if isinstance(old, nn.Parameter) else array)

    def _owner_of(self, array_spec: ArraySpec) -> tuple[nn.Module, str]:
        path, _, name = array_spec.name.rpartition(".")
        return self.get_submodule(path), name

    def fold(self) -> None:
        """Copy the arrays for inference, with batch norm folded into the weights.

        After that, no array maps a weight file any more.
        """
        for array in (*self.parameters(recurse=False), *self.buffers(recurse=False)):
            array.data = array.data.clone()

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        """Write `forward` of the folded layer as ONNX operators. Returns: the name of the output.

        Raises: DarkpyError if ONNX has no operators for it.
        """
        if type(self).reset_state is not Layer.reset_state:
            raise DarkpyError("it keeps a state from call to call, which an exported file cannot")
        raise DarkpyError("there are no ONNX operators for it")

    def reset_state(self, sequence: int | None = None) -> None:
        """Reset the state that earlier calls left, of one sequence or of all; nothing to do by default."""

    def set_temperature(self, temperature: float) -> None:
        """Divide the logits of a softmax by this; nothing to do by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSpec:
    """A section with typed keys. Subclasses implement `shape` and `build`, and override other methods as needed."""

    type: ClassVar[str]
    dialects: ClassVar[frozenset[Dialect]]
    any_dialect: ClassVar[bool] = False  # a section of one dialect is accepted in the other, too
    reading: ClassVar[str] = ""  # warning about a section of another program, with its interpretation
    needs_image: ClassVar[bool] = True  # cannot read a `FlatShape`
    is_output: ClassVar[bool] = True  # may be the network's output, unlike [cost]
    restarts_random: ClassVar[bool] = False  # pjreddie's program calls srand(0) when it has made the layer

    dialect: Dialect = Dialect.PJREDDIE

    learning_rate: float = key(1.0, usual=(0, 1000))
    stopbackward: int = key(0, usual=(0, MAX_INT))
    onlyforward: bool = key(False)
    dontload: bool = key(False)
    dontloadscales: bool = key(False)
    dontsave: bool = key(False, dialect=Dialect.PJREDDIE)
    numload: int = key(0, dialect=Dialect.PJREDDIE, minimum=0)
    truth: bool = key(False, dialect=Dialect.PJREDDIE)
    smooth: float = key(0.0, dialect=Dialect.PJREDDIE, usual=(0, 100))
    clip: float = key(0.0, dialect=Dialect.ALEXEYAB, usual=(0, MAX_INT))
    dont_update: int = key(0, dialect=Dialect.ALEXEYAB, usual=(0, MAX_INT))
    burnin_update: float = key(0.0, dialect=Dialect.ALEXEYAB, usual=(0, 1000))
    train_only_bn: bool = key(False, dialect=Dialect.ALEXEYAB)
    constrain: float | None = key(None, minimum=0)  # darkpy's own; falls back to [net] constrain
    init: str | None = key(None, choices=INITIALIZERS_BY_NAME)  # darkpy's own; falls back to [net] init
    bn_freeze: str | None = key(None, choices=BN_FREEZE_MODES)  # darkpy's own; falls back to [net] bn_freeze

    @property
    def blocks_gradient(self) -> bool:
        """True if the layer's backward pass is skipped; pjreddie's `onlyforward` only disables the loss of heads."""
        return self.onlyforward and self.dialect is Dialect.ALEXEYAB

    @property
    def freezes_inputs(self) -> bool:
        """True if all layers before it are frozen for good: their batch norm uses the rolling statistics."""
        return self.stopbackward == 1 and self.dialect is Dialect.ALEXEYAB

    def is_frozen(self, batch_num: int) -> bool:
        """Return True if this layer and all before it do not learn at an update: the backward pass stops behind it.

        Source: AlexeyAB/darknet src/network_kernels.cu backward_network_gpu.
        Differs: frozen weights do not decay either.
        """
        if self.dialect is Dialect.ALEXEYAB and self.stopbackward > 1:
            return self.stopbackward > batch_num
        return bool(self.stopbackward)

    def sources(self, index: int) -> tuple[int, ...]:
        """Return the indices of the layers read, -1 for the network's input; `index` is this layer's own."""
        return (index - 1,)

    def shared_with(self, index: int) -> tuple[int, ...]:
        """Return the indices of the layers whose weights or keys it uses, besides reading outputs."""
        return ()

    def check_shared(self, inputs: Sequence[Shape], shared: Sequence[tuple[LayerSpec, Sequence[Shape]]]) -> None:
        """Check the layers that it is `shared_with`, and their inputs. Raises: DarkpyError if they do not fit."""

    def resolve_shared(self, shared: Sequence[LayerSpec]) -> LayerSpec:
        """Return this spec completed with values of the layers that it is `shared_with`, which are checked."""
        return self

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Return the output's shape. Raises: ShapeError if the inputs do not fit."""
        raise NotImplementedError

    def arrays(self, inputs: Sequence[Shape]) -> tuple[ArraySpec, ...]:
        """Return the layer's arrays in the order of the weight file."""
        return ()

    def class_channels(self, output: Shape) -> int:
        """Return the number of the output's first channels that are scores of classes, if it is a map of them."""
        return output.c

    @property
    def is_exclusive(self) -> bool:
        """True if a pixel of an output that is a map of classes belongs to one of them."""
        return False

    def lint(self, inputs: Sequence[Shape]) -> Iterator[Finding]:
        """Yield values of the section that are valid but hurt training; none by default."""
        yield from ()

    def operations(self, inputs: Sequence[Shape]) -> int:
        """Return multiplications plus additions for one image, counted as in darknet's layer table."""
        return 0

    def extensions(self) -> list[str]:
        """List what of the section no darknet of its dialect supports."""
        section = [] if self.dialect in self.dialects else [f"[{self.type}]"]
        return [*section, *extension_entries(self)]

    def weight_bound(self, net: NetSpec) -> float:
        """Return the magnitude that weights are clipped to after each update; 0 for no clipping."""
        return self.clip

    def delta_bound(self, inputs: Sequence[Shape], net: NetSpec) -> float | None:
        """Return the bound of the delta constraint at the output, 0 if it is off; None for layers that have none."""
        return None

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        """Build the module; its `forward` takes one tensor a source and returns one tensor."""
        raise NotImplementedError

    def tie_weights(self, index: int, layers: Sequence[Layer]) -> None:
        """Tie the built layer to the layers that it is `shared_with`."""


def activation_key(default: str, *, has_slopes: bool = False) -> Any:
    """Declare the `activation` key. has_slopes: the layer has learned slopes, so that prelu is allowed, too."""
    if not has_slopes:
        return key(default, choices=activation_names, aliases=ACTIVATION_ALIASES)
    return key(
        default,
        choices=lambda dialect: activation_names(dialect) | {PRELU_NAME},
        aliases=ACTIVATION_ALIASES,
        extension={PRELU_NAME},
    )


def slope_arrays(activation: str, channels: int) -> tuple[ArraySpec, ...]:
    """Return the array of a PReLU's slopes, one a channel, which is the last of its layer; none for others."""
    return (ArraySpec("slopes", (channels,), INIT_SLOPE, is_extension=True),) if activation == PRELU_NAME else ()


SECTION_SPECS: dict[str, type[LayerSpec]] = {}
SpecT = TypeVar("SpecT", bound=LayerSpec)


def section(
    *names: str, dialect: Dialect | None = None, any_dialect: bool = False
) -> Callable[[type[SpecT]], type[SpecT]]:
    """Register a spec under its section names, the first being its `type`.

    dialect: the only one that has the section. any_dialect: darkpy accepts it in the other, too.
    """

    def register(spec: type[SpecT]) -> type[SpecT]:
        spec.type = names[0]
        spec.dialects = frozenset(Dialect) if dialect is None else frozenset({dialect})
        spec.any_dialect = any_dialect
        for name in names:
            if name in SECTION_SPECS:
                raise ValueError(f"[{name}] is registered twice")
            SECTION_SPECS[name] = spec
        return spec

    return register


def absolute_index(reference: int, index: int) -> int:
    """Return the index of the layer that a `from` or `layers` entry names: negative counts back from `index`."""
    return index + reference if reference < 0 else reference


def field_values(spec: LayerSpec) -> Iterator[tuple[str, object]]:
    """Yield names and values of a spec's keys, for tables and JSON."""
    for declared in keys_of(type(spec)).values():
        yield declared.name, getattr(spec, declared.field)


def describe(spec: LayerSpec, inputs: Sequence[Shape], shape: Shape) -> str:
    """Describe a layer in a few words: `3 -> 16, 3x3, stride 1, leaky`."""
    keys = dict(field_values(spec))
    words = [f"{' + '.join(str(source.c) for source in inputs)} -> {shape.c}"]
    if size := keys.get("size"):
        words.append(f"{size}x{size}")
    for name in ("stride", "groups", "dilation"):
        if (value := keys.get(name)) and (name == "stride" or value != 1):
            words.append(f"{name} {value}")
    if (activation := keys.get("activation", "linear")) != "linear":
        words.append(str(activation))
    return ", ".join(words)


def skipped_cells(size: int, strides: Sequence[int]) -> Iterator[Finding]:
    """Find windows of `size` x `size` cells that leave gaps between each other.

    strides: down and across.
    """
    longest = max(strides)
    if longest <= size:
        return
    read = min(size / strides[0], 1) * min(size / strides[1], 1)
    message = (
        f"stride={longest} is larger than size={size}: {1 - read:.0%} of the cells are in no window, and the layers"
        " before learn nothing from them"
    )
    hints = (f"stride={size}", f"size={longest}")
    yield Finding(name="stride-beyond-size", message=message, key="stride", hints=hints)


def missing_anchors(anchors: Sequence[float], indices: Sequence[int], unit: str) -> Iterator[Finding]:
    """Find anchors of a head that its list lacks. unit: in which the cfg gives them."""
    if len(anchors) % 2:
        message = f"anchors= has {len(anchors)} numbers: a width without a height"
        yield Finding(name="odd-anchors", message=message, key="anchors", hints=("pairs of a width and a height",))
    listed, wanted = len(anchors) // 2, max(indices) + 1
    if wanted > listed:
        message = f"uses anchors up to number {wanted - 1}, and anchors= lists {listed}: the others are .5 x .5 {unit}"
        hints = (f"anchors= with {wanted} pairs: darkpy anchors DATA --cfg CFG --write writes them",)
        yield Finding(name="missing-anchors", message=message, key="anchors", hints=hints)
