"""Sections -> specs -> shapes -> plan, without allocating a tensor; every fault of a file is raised together."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import darkpy.layers  # noqa: F401  (fills the registry)
from darkpy.config.net import NetSpec
from darkpy.config.schema import ValueFault, convert, entries_unknown_to, keys_of, nearest
from darkpy.config.text import Config, Section, read
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError, DarkpyError, Fault, Severity
from darkpy.layers.base import SECTIONS, LayerSpec, Slot
from darkpy.shapes import Shape

NET_NAMES = ("net", "network")
MAX_OUTPUTS = 2**31 - 1  # darknet counts an image's outputs and a layer's weights in an int
Spec = TypeVar("Spec", bound="LayerSpec | NetSpec")


@dataclass(frozen=True, slots=True)
class Node:
    """One layer of the plan.

    Shapes: `inputs` one a source, `shape` the output's, per image.
    Units: parameter_count counts the numbers in the weight file (rolling statistics included); bflops 1e9
    operations for one image.
    """

    index: int
    spec: LayerSpec
    section: Section
    sources: tuple[int, ...]
    inputs: tuple[Shape, ...]
    shape: Shape
    slots: tuple[Slot, ...]
    bflops: float

    @property
    def type(self) -> str:
        return self.spec.type

    @property
    def parameter_count(self) -> int:
        return sum(slot.count for slot in self.slots)


@dataclass(frozen=True, slots=True)
class Plan:
    """A network as its cfg describes it: what every later step reads, and nothing is allocated for."""

    file: str
    dialect: Dialect
    net: NetSpec
    nodes: tuple[Node, ...]
    warnings: tuple[Fault, ...]

    @property
    def input_shape(self) -> Shape:
        return self.net.input_shape

    @property
    def parameter_count(self) -> int:
        return sum(node.parameter_count for node in self.nodes)

    @property
    def bflops(self) -> float:
        return sum(node.bflops for node in self.nodes)

    def place(self, index: int) -> str:
        """How messages name a layer: `layer 75 [convolutional] yolov3.cfg:549`."""
        node = self.nodes[index]
        return f"layer {index} [{node.section.type}] {self.file}:{node.section.line}"


def make_plan(
    cfg: str | os.PathLike[str] | Config, dialect: Dialect | str | None = None, *, strict: bool = False
) -> Plan:
    """The typed graph of a cfg (a path, cfg text, or what `config.text` parsed).

    dialect: whose reading of the file counts; None decides by what only one fork knows, else pjreddie.
    strict: warnings become errors.
    Raises: ConfigError with every fault of the file.
    """
    config = cfg if isinstance(cfg, Config) else read(cfg)
    return _Builder(config, _dialect_of(config, dialect), strict).plan()


def _dialect_of(config: Config, wanted: Dialect | str | None) -> Dialect:
    if wanted is None:
        return detect_dialect(config)
    try:
        return Dialect(wanted)
    except ValueError:
        names = ", ".join(str(dialect) for dialect in Dialect)
        raise DarkpyError(f"{wanted!r} is no dialect", hint=f"one of {names}") from None


def detect_dialect(config: Config) -> Dialect:
    """The fork that a cfg was written for, by counting what only one of them reads; pjreddie when nothing tells."""
    votes = dict.fromkeys(Dialect, 0)
    for item in config.sections:
        spec: type[Any] | None = NetSpec if item.type in NET_NAMES else SECTIONS.get(item.type)
        if spec is None:
            continue
        forks = spec.forks if issubclass(spec, LayerSpec) else frozenset(Dialect)
        if len(forks) == 1:
            votes[next(iter(forks))] += 1
        known = keys_of(spec)
        for entry in item.entries.values():
            if entry.key not in known:
                continue
            wanted = known[entry.key][1]
            if wanted.only is not None:
                votes[wanted.only] += 1
            elif wanted.words is not None and entry.value is not None:
                speakers = [fork for fork in Dialect if entry.value in wanted.words(fork)]
                if len(speakers) == 1:
                    votes[speakers[0]] += 1
    return Dialect.ALEXEYAB if votes[Dialect.ALEXEYAB] > votes[Dialect.PJREDDIE] else Dialect.PJREDDIE


@dataclass
class _Builder:
    """Walks the sections once and keeps every fault it meets."""

    config: Config
    dialect: Dialect
    strict: bool
    faults: list[Fault] = field(default_factory=list)
    shapes: dict[int, Shape | None] = field(default_factory=dict)

    def plan(self) -> Plan:
        self.faults.extend(self.config.faults)
        sections = self.config.sections
        if not sections or sections[0].type not in NET_NAMES:
            line = sections[0].line if sections else None
            found = f"the first section is [{sections[0].type}]" if sections else "there is no section in it"
            self.faults.append(Fault(Severity.ERROR, found, self.config.file, line, hint="a cfg begins with [net]"))
            raise ConfigError(self._errors())
        net = self._spec(NetSpec, sections[0], None)
        try:
            self.shapes[-1] = None if net is None else net.input_shape
        except DarkpyError as error:
            self._fault(sections[0], None, error.message, error.hint)
        nodes = [self._node(index, item) for index, item in enumerate(sections[1:])]
        if len(sections) == 1:
            self._fault(sections[0], None, "the network has no layers")
        if errors := self._errors():
            raise ConfigError(errors)
        assert net is not None
        done = tuple(node for node in nodes if node is not None)
        warnings = tuple(fault for fault in self.faults if fault.severity is Severity.WARNING)
        return Plan(self.config.file, self.dialect, net, done, warnings)

    def _errors(self) -> list[Fault]:
        return [fault for fault in self.faults if self.strict or fault.severity is Severity.ERROR]

    def _node(self, index: int, item: Section) -> Node | None:
        """Check one layer; a fault leaves its shape unknown, and later layers are checked as far as they can be."""
        self.shapes[index] = None
        cls = SECTIONS.get(item.type)
        if cls is None or self.dialect not in cls.forks:
            hint = f"use --dialect {next(iter(cls.forks))}" if cls else nearest(item.type, SECTIONS)
            what = f"is no section of {self.dialect}'s darknet" if cls else "is no section of any darknet"
            self._fault(item, index, what, hint)
            return None
        spec = self._spec(cls, item, index)
        if spec is None:
            return None
        try:
            sources = spec.sources(index)
            self._check_references(spec, index, sources)
            inputs = [self.shapes[source] for source in sources]
            known = tuple(shape for shape in inputs if shape is not None)
            if len(known) < len(inputs):
                return None
            shape = spec.shape(known)
            slots = spec.slots(known)
            bflops = spec.operations(known) / 1e9
        except DarkpyError as error:
            self._fault(item, index, error.message, error.hint)
            return None
        node = Node(index, spec, item, sources, known, shape, slots, bflops)
        if min(shape) < 1 or shape.outputs > MAX_OUTPUTS or node.parameter_count > MAX_OUTPUTS:
            size = f"its output would be {shape} with {node.parameter_count} weights"
            self._fault(item, index, size, f"it reads {', '.join(map(str, known))}")
            return None
        self.shapes[index] = shape
        return node

    def _check_references(self, spec: LayerSpec, index: int, sources: Collection[int]) -> None:
        for source in (*sources, *spec.refers(index)):
            if not -1 <= source < index or (source == -1 and index > 0):
                raise DarkpyError(
                    f"refers to layer {source}, which does not come before it",
                    hint=f"negative numbers count back from here, 0 to {index - 1} are absolute",
                )

    def _spec(self, cls: type[Spec], item: Section, index: int | None) -> Spec | None:
        """Read a section's keys into its spec; None when a value is unusable."""
        values: dict[str, Any] = {"dialect": self.dialect}
        before = len(self._fatal())
        for name, (attribute, wanted) in keys_of(cls).items():
            entry = item.entries.get(name)
            if entry is None or (wanted.only is not None and wanted.only is not self.dialect):
                if wanted.required:
                    self._fault(item, index, f"has no {name}=, which it needs")
                    continue
                values[attribute] = wanted.defaults[self.dialect]
                if entry is not None:
                    self._warn(item, index, entry.line, f"only {wanted.only}'s fork reads {name!r}; ignored")
                continue
            try:
                values[attribute] = convert(entry, wanted, self.dialect)
            except ValueFault as fault:
                values[attribute] = fault.value
                if fault.fatal:
                    self._fault(item, index, str(fault), fault.hint, entry.line)
                else:
                    self._warn(item, index, entry.line, str(fault))
        for entry in entries_unknown_to(cls, item):
            message = f"nothing reads the key {entry.key!r}; ignored"
            self._warn(item, index, entry.line, message, nearest(entry.key, keys_of(cls)))
        return None if len(self._fatal()) > before else cls(**values)

    def _fatal(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.severity is Severity.ERROR]

    def _fault(
        self, item: Section, index: int | None, message: str, hint: str | None = None, line: int | None = None
    ) -> None:
        place = (self.config.file, line or item.line, item.type, index, hint)
        self.faults.append(Fault(Severity.ERROR, message, *place))

    def _warn(self, item: Section, index: int | None, line: int, message: str, hint: str | None = None) -> None:
        self.faults.append(Fault(Severity.WARNING, message, self.config.file, line, item.type, index, hint))


def warning_lines(plan: Plan) -> Iterator[str]:
    """The plan's warnings as lines to print, repeated ones (the same key in every layer) said once with a count."""
    groups: dict[tuple[str, str | None], list[Fault]] = {}
    for fault in plan.warnings:
        groups.setdefault((fault.message, fault.section), []).append(fault)
    for faults in groups.values():
        more = f" ({len(faults) - 1} more like it)" if len(faults) > 1 else ""
        yield f"warning: {faults[0]}{more}"
