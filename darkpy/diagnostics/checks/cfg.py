"""What can be seen of a training in its cfg alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from darkpy.build import Node, Plan
from darkpy.config.text import Config
from darkpy.finding import Finding, Location, Severity
from darkpy.layers.head import HeadSpec
from darkpy.layers.loss import LossSpec

DEEP = 22
"""Layers with weights in a row without normalization: the deepest stack of either fork's cfgs (strided.cfg)."""
DEEP_AND_FAST = 10
"""The same at a rate above FAST; vgg-16.cfg trains 16 layers at 0.00001, alexnet.cfg 8 at 0.01."""
FAST = 0.01


@dataclass(frozen=True, slots=True)
class Cfg:
    """A network with the lines that it was read from."""

    plan: Plan
    config: Config

    def locate_net(self, key: str | None = None) -> Location:
        """Location of [net], or of the line of a key in it."""
        section = self.config.sections[0]
        entry = section.entries.get(key) if key else None
        return Location(self.plan.file, entry.line if entry else section.line, "net")

    @property
    def trains(self) -> bool:
        """Whether any layer has a loss."""
        return any(isinstance(node.spec, LossSpec) and node.spec.has_loss for node in self.plan.nodes)

    @property
    def heads(self) -> list[tuple[Node, HeadSpec]]:
        return [(node, node.spec) for node in self.plan.nodes if isinstance(node.spec, HeadSpec)]


def check_cfg(cfg: Cfg, *, peak_rate: float) -> Iterator[Finding]:
    """What the layers say, one by one and together. peak_rate: the largest of the schedule."""
    yield from map(rate_severity, cfg.plan.warnings)
    yield from _check_sections(cfg)
    if cfg.trains:
        yield from _check_depth(cfg, peak_rate)
        yield from _check_single(cfg)
    yield from _check_heads(cfg)


def rate_severity(finding: Finding) -> Finding:
    """Lower a warning about an unknown key to a note, unless the key is nearly one that exists."""
    is_note = finding.severity is Severity.WARNING and not finding.hints
    return replace(finding, severity=Severity.NOTE) if is_note else finding


def _check_sections(cfg: Cfg) -> Iterator[Finding]:
    for node in cfg.plan.nodes:
        for finding in node.spec.lint(node.inputs):
            yield replace(finding, location=cfg.plan.locate(node.index, finding.key))


def _check_depth(cfg: Cfg, peak_rate: float) -> Iterator[Finding]:
    depth = {-1: 0}
    for node in cfg.plan.nodes:
        deepest = max((depth[source] for source in node.sources), default=0)
        is_weighted = any(array_spec.is_decayed for array_spec in node.arrays)
        depth[node.index] = 0 if _is_normalized(node) else deepest + is_weighted
    last = max(depth, key=lambda index: depth[index])
    deepest = depth[last]
    if deepest <= DEEP and (deepest < DEEP_AND_FAST or peak_rate <= FAST):
        return
    yield Finding(
        name="deep-without-norm",
        location=cfg.plan.locate(last),
        message=f"{deepest} layers with weights in a row, this one the last, have no normalization at a learning"
        f" rate of up to {peak_rate:g}: activations and gradients grow or fade from layer to layer",
        hints=("batch_normalize=1 in all of them but the last", "a smaller learning_rate", "burn_in=1000"),
    )


def _is_normalized(node: Node) -> bool:
    """By batch norm, group norm or layer norm."""
    return any(array_spec.is_norm for array_spec in node.arrays)


def _check_single(cfg: Cfg) -> Iterator[Finding]:
    """That batch norm takes its statistics from one image, where more would be an update.

    Cells of a map are as good as images: only vectors and single cells suffer.
    """
    net = cfg.plan.net
    if net.minibatch > 1 or net.batch == 1:
        return
    for node in cfg.plan.nodes:
        if any(array_spec.is_statistic for array_spec in node.arrays) and node.shape.h * node.shape.w == 1:
            yield Finding(
                name="norm-of-one",
                location=cfg.plan.locate(node.index, "batch_normalize"),
                message=f"batch={net.batch} subdivisions={net.subdivisions} makes minibatches of one image, of"
                " which batch norm sees one number: its output is 0, whatever the image",
                hints=(f"subdivisions={max(1, net.batch // 4)}", "batch_normalize=0"),
            )
            return


def _check_heads(cfg: Cfg) -> Iterator[Finding]:
    heads = cfg.heads
    for node, spec in heads:
        source = cfg.plan.nodes[node.sources[0]] if node.sources[0] >= 0 else None
        if source is None:
            continue
        activation = getattr(source.spec, "activation", None)
        if activation not in (None, spec.input_activation):
            yield Finding(
                name="head-activation",
                location=cfg.plan.locate(source.index, "activation"),
                message=f"activation={activation} feeds [{node.type}] in layer {node.index}, which wants"
                f" {spec.input_activation}: numbers that it needs cannot be made",
                hints=(f"activation={spec.input_activation}",),
            )
        if _is_normalized(source):
            yield Finding(
                name="head-normalized",
                location=cfg.plan.locate(source.index, "batch_normalize"),
                message=f"is normalized and feeds [{node.type}] in layer {node.index}: the mean of each number is"
                " fixed, objectness and sizes among them",
                hints=("batch_normalize=0",),
            )
    counts = {spec.class_count for _, spec in heads}
    if len(counts) > 1:
        said = ", ".join(f"{spec.class_count} in layer {node.index}" for node, spec in heads)
        yield Finding(
            name="classes-differ",
            location=cfg.plan.locate(heads[-1][0].index, "classes"),
            message=f"the heads have different numbers of classes: {said}",
            hints=("the same classes= in all heads, and filters= before them",),
        )
