"""Builder of plans: sections -> specs -> shapes, without tensors; all errors of a file are raised at once."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import darkpy.layers  # noqa: F401  (fills the registry)
from darkpy.config.net import NetSpec
from darkpy.config.schema import OTHER_DIALECT_FINDING, extension_entries, keys_of, nearest, read_spec
from darkpy.config.text import Config, FindingCollector, Section, read
from darkpy.config.v5 import absent_sections, without_unread_keys
from darkpy.dialect import ALEXEYAB_REVISION, DIALECT_NAMES, EXTENSION_REVISION, V5_NAME, Dialect, use_dialect
from darkpy.errors import ChannelsError, ConfigError, DarkpyError, ShapeError, SizeMismatchError
from darkpy.finding import Cause, CfgEdit, Finding, Location, Remedy, Severity
from darkpy.layers.base import SECTION_SPECS, ArraySpec, LayerSpec
from darkpy.shapes import FlatShape, Shape

Layers = Mapping[int, tuple[LayerSpec, tuple[int, ...]]]  # specs and sources by index
NET_NAMES = ("net", "network")
RELATIVE_SECTIONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("se", "cbam"),
        "an attention block of PyTorch ports; darknet's squeeze-and-excitation is [avgpool], two [convolutional] with"
        " size=1, and [scale_channels]",
    ),
    **dict.fromkeys(
        ("select", "extract", "conv-select", "conv-extract"),
        "a section of darkflow, which takes a part of a trained layer; use the cfg of the whole network",
    ),
    **dict.fromkeys(
        (
            *("route2", "route3", "jde", "deformableconvolutional", "dwt", "shift_channels", "control_channels"),
            *("alternate_channels", "select_channels", "implicit_add", "implicit_mul", "implicit_cat"),
        ),
        "a section of WongKinYiu's PyTorch programs, which no darknet has",
    ),
    "split": "[route] with groups= and group_id= takes a part of the channels",
}
"""Sections of programs related to darknet, and the hints for them."""
SECTIONS_OF_OTHERS = frozenset({"yolo4", "route_lhalf"})
"""Sections of other programs that are read, and never suggested."""
PROBE_SIZE = 40_320  # 2^7 * 3^2 * 5 * 7: an input side that strides up to 128, of 3, 5 and 7 too, divide
MAX_INT = 2**31 - 1  # darknet counts an image's outputs and a layer's weights in an int


@dataclass(frozen=True, slots=True)
class Node:
    """One layer of the plan.

    Shapes: `inputs` one a source, `shape` of the output; both per image.
    Units: parameter_count counts the values in the weight file (with rolling statistics); bflops are 1e9
    operations an image.
    """

    index: int
    spec: LayerSpec
    section: Section
    sources: tuple[int, ...]
    inputs: tuple[Shape, ...]
    shape: Shape
    arrays: tuple[ArraySpec, ...]
    bflops: float

    @property
    def type(self) -> str:
        return self.spec.type

    @property
    def parameter_count(self) -> int:
        return sum(array_spec.count for array_spec in self.arrays)


@dataclass(frozen=True, slots=True)
class Plan:
    """Typed description of a network, read from its cfg; every later step starts from it. Holds no tensors."""

    file: str
    dialect: Dialect
    net: NetSpec
    nodes: tuple[Node, ...]
    warnings: tuple[Finding, ...]
    net_section: Section

    @property
    def input_shape(self) -> Shape:
        return self.net.input_shape

    @property
    def parameter_count(self) -> int:
        return sum(node.parameter_count for node in self.nodes)

    @property
    def bflops(self) -> float:
        return sum(node.bflops for node in self.nodes)

    @property
    def extensions(self) -> tuple[str, ...]:
        """Entries of the cfg that no darknet of its dialect computes: none can run the network as trained."""
        net = [f"[net] {self.file}: {entry}" for entry in extension_entries(self.net)]
        return (
            *net,
            *(f"{self.place(node.index)}: {entry}" for node in self.nodes for entry in node.spec.extensions()),
        )

    def place(self, index: int) -> str:
        """Name of a layer in messages: `layer 75 [convolutional] yolov3.cfg:549`."""
        return str(self.locate(index))

    def locate(self, index: int, key: str | None = None) -> Location:
        """Location of a layer's section, or of the line of a key in it."""
        return self._locate(self.nodes[index].section, key, index)

    def locate_net(self, key: str | None = None) -> Location:
        """Location of [net], or of the line of a key in it."""
        return self._locate(self.net_section, key)

    def _locate(self, section: Section, key: str | None, index: int | None = None) -> Location:
        entry = section.entries.get(key) if key else None
        return Location(self.file, entry.line if entry else section.line, section.type, index)


def make_plan(
    cfg: str | os.PathLike[str] | Config,
    dialect: Dialect | str | None = None,
    *,
    strict: bool = False,
    weights: str | os.PathLike[str] | None = None,
) -> Plan:
    """Build the plan of a cfg (a path, cfg text, or a parsed `Config`).

    dialect: None detects it by sections and keys that only one dialect knows, then by the header of `weights`, else
        pjreddie. "v5" is AlexeyAB's, without the keys that the library of darknet V5 does not read.
    strict: warnings become errors.
    weights: the weight file that the cfg is opened with; if it decides the dialect, a note in `Plan.warnings` says so.
    Raises: ConfigError with all findings of the file.
    """
    config = cfg if isinstance(cfg, Config) else read(cfg)
    if dialect is None:
        identified = _identified_dialect(config)
        from_header = weights_dialect(weights) if weights is not None and identified is None else None
        resolved = identified or from_header or Dialect.PJREDDIE
    else:
        from_header = None
        try:
            resolved = Dialect(dialect)
        except ValueError:
            raise DarkpyError(f"unknown dialect {dialect!r}", hint=f"one of {', '.join(DIALECT_NAMES)}") from None
    if dialect == V5_NAME:
        plan = _Builder(without_unread_keys(config), resolved).plan(strict)
        return replace(plan, warnings=(*plan.warnings, *absent_sections(config)))
    plan = _Builder(config, resolved).plan(strict)
    if from_header is None:
        return plan
    note = Finding(
        name="dialect",
        message=f"dialect {from_header}, by the header of {weights!s} (version 0.2.5); the cfg fits both",
        severity=Severity.NOTE,
        cause=Cause.DETAILS,
        location=Location(config.file),
        hints=(f"--dialect {Dialect.PJREDDIE} overrides it",),
    )
    return replace(plan, warnings=(*plan.warnings, note))


def resize_plan(plan: Plan, width: int, height: int) -> Plan:
    """Return the plan for another input size, as `random=1` needs it.

    Raises: ShapeError naming the first layer that does not fit, or whose weights would change.
    """
    net = replace(plan.net, width=width, height=height)
    shapes = {-1: net.input_shape}
    nodes: list[Node] = []
    for node in plan.nodes:
        inputs = tuple(shapes[source] for source in node.sources)
        try:
            _check_image(node.spec, node.sources, inputs, {other.index: other for other in nodes})
            shape = node.spec.shape(inputs)
            _check_shape(shape)
            if node.spec.arrays(inputs) != node.arrays:
                raise ShapeError("its weights fit one input size only", hint="set random=0")
        except ShapeError as error:
            hint = error.hint
            if isinstance(error, SizeMismatchError):
                layers = {other.index: (other.spec, other.sources) for other in plan.nodes}
                hint = describe_fitting_sizes(net, layers, node.index) or hint
            raise ShapeError(f"{plan.place(node.index)}: at {width} x {height}, {error.message}", hint=hint) from None
        shapes[node.index] = shape
        nodes.append(replace(node, inputs=inputs, shape=shape, bflops=node.spec.operations(inputs) / 1e9))
    return replace(plan, net=net, nodes=tuple(nodes))


def describe_fitting_sizes(net: NetSpec, layers: Layers, index: int) -> str | None:
    """Describe the input sizes at which a layer fits the layers before it: multiples of the largest stride.

    layers: all layers of the network with their sources, by index.
    Returns: `width and height: multiples of 32 (the largest stride); nearest: 608 x 352`; None if no size fits.
    """
    if not min(net.width, net.height, net.channels):
        return None
    at_probe, at_double = (_shapes_at(net, layers, size, size) for size in (PROBE_SIZE, 2 * PROBE_SIZE))
    if index not in at_probe:
        return None
    strides_y, strides_x = (
        [
            PROBE_SIZE // growth
            for layer, shape in at_probe.items()
            if (growth := at_double.get(layer, shape)[axis] - shape[axis]) > 0 and PROBE_SIZE % growth == 0
        ]
        for axis in (1, 2)
    )
    stride_x, stride_y = max(strides_x), max(strides_y)
    sizes = sorted(
        ((w, h) for w in _multiples_near(net.width, stride_x) for h in _multiples_near(net.height, stride_y)),
        key=lambda size: (abs(size[0] - net.width) + abs(size[1] - net.height), size),
    )
    nearest_size = next((size for size in sizes if at_probe.keys() <= _shapes_at(net, layers, *size).keys()), None)
    if nearest_size is None:
        return None
    rule = f"width and height: multiples of {stride_x} (the largest stride)"
    if stride_x != stride_y:
        rule = f"width: multiples of {stride_x}, height: multiples of {stride_y} (the largest strides)"
    return f"{rule}; nearest: {nearest_size[0]} x {nearest_size[1]}"


def _shapes_at(net: NetSpec, layers: Layers, width: int, height: int) -> dict[int, Shape]:
    """Return the output shapes at an input size, of the layers that can be built."""
    shapes = {-1: Shape(net.channels, height, width)}
    for index, (spec, sources) in layers.items():
        if not shapes.keys() >= set(sources):
            continue
        inputs = tuple(shapes[source] for source in sources)
        with suppress(DarkpyError):
            shape = spec.shape(inputs)
            if min(shape) > 0 and not (spec.needs_image and _has_flat(inputs)):
                shapes[index] = shape
    return shapes


def _multiples_near(size: int, stride: int) -> list[int]:
    first = max(1, size // stride - 2)
    return [stride * count for count in range(first, first + 6)]


def weights_dialect(path: str | os.PathLike[str]) -> Dialect | None:
    """Detect the dialect by the header of a `.weights` file: alexeyab for version 0.2.5, else None.

    Version 0.2.0 is ambiguous: AlexeyAB's program wrote it, too, before 2018-10. None also for an unreadable file;
    loading it raises the error.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as stream:
            major, minor, revision = struct.unpack("<3i", stream.read(12))
    except (OSError, ValueError, struct.error):
        return None
    is_alexeyab = (major, minor, revision & ~EXTENSION_REVISION) == (0, 2, ALEXEYAB_REVISION)
    return Dialect.ALEXEYAB if is_alexeyab else None


def detect_dialect(config: Config) -> Dialect:
    """Detect the dialect by counting the sections and keys that only one dialect reads; pjreddie on a tie."""
    return _identified_dialect(config) or Dialect.PJREDDIE


def _identified_dialect(config: Config) -> Dialect | None:
    """Return the dialect that reads more of the sections and keys which only one dialect reads; None on a tie."""
    votes = dict.fromkeys(Dialect, 0)
    for section in config.sections:
        spec: type[NetSpec | LayerSpec] | None = (
            NetSpec if section.type in NET_NAMES else SECTION_SPECS.get(section.type)
        )
        if spec is None:
            continue
        known = keys_of(spec)
        identifying = [
            entry for entry in section.entries.values() if entry.key in known and known[entry.key].identifies_dialect
        ]
        for dialects in (spec.dialects, *(known[entry.key].readers(entry.value) for entry in identifying)):
            if len(dialects) == 1:
                votes[next(iter(dialects))] += 1
    if votes[Dialect.ALEXEYAB] == votes[Dialect.PJREDDIE]:
        return None
    return max(votes, key=lambda dialect: votes[dialect])


class _Builder:
    """One walk over the sections that collects all findings.

    A layer with an error has no shape; of layers that read it, only the keys are checked.
    """

    def __init__(self, config: Config, dialect: Dialect, *, checks_hints: bool = True) -> None:
        self.config = config
        self.dialect = dialect
        self.checks_hints = checks_hints
        self.findings = FindingCollector(config.file, config.findings)
        self.nodes: dict[int, Node] = {}
        self.shapes: dict[int, Shape] = {}
        self.net: NetSpec | None = None
        self._layers: dict[int, tuple[LayerSpec, tuple[int, ...]]] | None = None  # read for _fitting_sizes only

    def plan(self, strict: bool) -> Plan:
        if not self.config.sections:
            self.findings.error("has no sections", hint="a cfg starts with [net]")
            self.findings.raise_errors()
        first, *others = self.config.sections
        self.net = net = self._net(first)
        if not others:
            self.findings.error("no layers follow", first)
        for section in others:
            spec = self._layer_spec(section)
            if spec is None:
                continue
            with self._reporting(section):
                if (node := self._node(spec, section)) is not None:
                    self.nodes[node.index] = node
                    self.shapes[node.index] = node.shape
        if self.checks_hints:
            self._check_dialect_hint()
        self.findings.raise_errors(strict=strict)
        assert net is not None
        return Plan(self.config.file, self.dialect, net, tuple(self.nodes.values()), self.findings.findings, first)

    def _check_dialect_hint(self) -> None:
        """Withdraw the hint to use the other dialect if that one refuses the cfg, too, or reads another network."""
        (other,) = set(Dialect) - {self.dialect}
        hint = use_dialect(other)
        if not any(hint in finding.hints for finding in self.findings.findings):
            return
        try:
            warnings = _Builder(self.config, other, checks_hints=False).plan(strict=False).warnings
        except ConfigError as error:
            is_circle = any(use_dialect(self.dialect) in finding.hints for finding in error.findings)
            own = {finding.text for finding in self.findings.findings}
            errors = (finding for finding in error.findings if finding.severity is Severity.ERROR)
            new = [finding for finding in errors if finding.text not in own]
            if not is_circle and not new:
                return
            better = "no dialect reads all of this cfg"
            if not is_circle:
                better = f"dialect {other} has it, but refuses this cfg, too: {new[0].text}"
        else:
            ignored = [finding for finding in warnings if finding.name == OTHER_DIALECT_FINDING]
            if not ignored:
                return
            better = f"dialect {other} has it, but ignores other keys of this cfg: {ignored[0].text}"
        self.findings.replace_hint(hint, better)

    @contextmanager
    def _reporting(self, section: Section) -> Iterator[None]:
        try:
            yield
        except DarkpyError as error:
            remedy = self._set_filters(section, error.channels) if isinstance(error, ChannelsError) else None
            self.findings.error(error.message, section, hint=error.hint, remedy=remedy)

    def _set_filters(self, section: Section, channels: int) -> Remedy | None:
        """Remedy that gives a layer the channels that it needs; None if the one before it is not a convolution."""
        source = self.nodes.get(section.index - 1)
        if source is None or "filters" not in source.section.entries:
            return None
        edit = CfgEdit("filters", str(channels), source.index)
        return Remedy(edits=(edit,), text=f"set {edit} in the convolutional before it")

    def _net(self, section: Section) -> NetSpec | None:
        if section.type not in NET_NAMES:
            self.findings.error("is the first section", section, hint="a cfg starts with [net]")
            return None
        net = read_spec(NetSpec, section, self.dialect, self.findings)
        if net is not None:
            with self._reporting(section):
                net.check_schedule()
            with self._reporting(section):
                _check_shape(net.input_shape)
                net.check_normalization()
                self.shapes[-1] = net.input_shape
        return net

    def _node(self, spec: LayerSpec, section: Section) -> Node | None:
        """Build the node of a layer; None if a layer that it reads has an error. Raises: DarkpyError."""
        index = section.index
        sources, owners = spec.sources(index), spec.shared_with(index)
        _check_references(sources, range(index) if index else range(-1, 0), index)
        _check_references(owners, range(index), index)
        if not (self.shapes.keys() >= set(sources) and self.nodes.keys() >= set(owners)):
            return None
        inputs = tuple(self.shapes[source] for source in sources)
        try:
            _check_image(spec, sources, inputs, self.nodes)
            shape = spec.shape(inputs)
        except SizeMismatchError as error:
            error.hint = self._fitting_sizes(index) or error.hint
            raise
        _check_shape(shape)
        arrays = spec.arrays(inputs)
        if (count := sum(array_spec.count for array_spec in arrays)) > MAX_INT:
            raise ShapeError(f"has {count} weights, too many", hint=f"the limit is {MAX_INT}")
        spec.check_shared(inputs, [(self.nodes[owner].spec, self.nodes[owner].inputs) for owner in owners])
        spec = spec.resolve_shared([self.nodes[owner].spec for owner in owners])
        return Node(index, spec, section, sources, inputs, shape, arrays, spec.operations(inputs) / 1e9)

    def _fitting_sizes(self, index: int) -> str | None:
        """Describe the input sizes with which a layer could be built; None if no size fits."""
        if self._layers is None:
            self._layers = {}
            unreported = FindingCollector(self.config.file)
            with suppress(ConfigError):  # too many findings
                for section in self.config.sections[1:]:
                    cls = SECTION_SPECS.get(section.type)
                    spec = None if cls is None else read_spec(cls, section, self.dialect, unreported)
                    if spec is not None:
                        self._layers[section.index] = spec, spec.sources(section.index)
        return describe_fitting_sizes(self.net, self._layers, index) if self.net else None

    def _layer_spec(self, section: Section) -> LayerSpec | None:
        cls = SECTION_SPECS.get(section.type)
        if cls is not None and cls.reading:
            self.findings.warn(cls.reading, section)
        if cls is not None and (cls.any_dialect or self.dialect in cls.dialects):
            return read_spec(cls, section, self.dialect, self.findings)
        if cls is not None:
            hint = use_dialect(next(iter(cls.dialects)))
            self.findings.error(f"is not a section of dialect {self.dialect}", section, hint=hint)
        elif section.type in NET_NAMES:
            self.findings.error("is a duplicate", section, hint="a cfg describes one network")
        else:
            known = SECTION_SPECS.keys() - SECTIONS_OF_OTHERS
            answer = RELATIVE_SECTIONS.get(section.type) or nearest(section.type, known)
            self.findings.error("is not a darknet section", section, hint=answer)
        return None


def _check_references(references: Sequence[int], allowed: range, index: int) -> None:
    for reference in references:
        if reference not in allowed:
            hint = f"negative numbers are relative to this layer, 0 to {index - 1} are absolute" if index else None
            raise DarkpyError(f"refers to layer {reference}, which is not before it", hint=hint)


def _has_flat(inputs: Iterable[Shape]) -> bool:
    return any(isinstance(x, FlatShape) for x in inputs)


def _check_image(spec: LayerSpec, sources: Sequence[int], inputs: Sequence[Shape], nodes: Mapping[int, Node]) -> None:
    """Check that a layer that needs images reads images only. Raises: SizeMismatchError naming the layer without one.

    Source: pjreddie/darknet src/parser.c parse_convolutional: "Layer before convolutional layer must output image."
    """
    if not (spec.needs_image and _has_flat(inputs)):
        return
    index = next(source for source, x in zip(sources, inputs, strict=True) if isinstance(x, FlatShape))
    flat = nodes[index]
    while _has_flat(flat.inputs):  # a layer that passes its input on
        flat = nodes[next(source for source in flat.sources if isinstance(nodes[source].shape, FlatShape))]
    reason = f"layer {flat.index} [{flat.type}] outputs no image"
    if len(flat.inputs) > 1:
        reason = f"layer {flat.index} [{flat.type}] joins layers of different sizes: {', '.join(map(str, flat.inputs))}"
    raise SizeMismatchError(
        f"needs an image, but {reason}",
        hint="only layers such as connected, dropout, softmax and cost can read values without an image",
    )


def _check_shape(shape: Shape) -> None:
    if min(shape) < 1:
        raise ShapeError(f"the output is empty: {shape}", hint="enlarge [net] width and height")
    if shape.outputs > MAX_INT:
        raise ShapeError(f"{shape} has {shape.outputs} values, too many", hint=f"the limit is {MAX_INT}")
