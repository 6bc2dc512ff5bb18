"""Checks of a network's layers, from the cfg alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from darkpy.build import Node, Plan
from darkpy.finding import Finding, Severity
from darkpy.layers.head import HeadSpec
from darkpy.layers.loss import LossSpec

MAX_UNNORMALIZED_LAYERS = 22
"""Layers with weights in a row without normalization: the deepest stack of either fork's cfgs (strided.cfg)."""
MAX_UNNORMALIZED_LAYERS_FAST = 9
"""The same at a rate above FAST_RATE; vgg-16.cfg trains 16 layers at 0.00001, alexnet.cfg 8 at 0.01."""
FAST_RATE = 0.01


def has_loss(plan: Plan) -> bool:
    return any(isinstance(node.spec, LossSpec) and node.spec.has_loss for node in plan.nodes)


def heads_of(plan: Plan) -> list[tuple[Node, HeadSpec]]:
    return [(node, node.spec) for node in plan.nodes if isinstance(node.spec, HeadSpec)]


def check_layers(plan: Plan, *, peak_rate: float) -> Iterator[Finding]:
    """Lint each section, then check the layers together. peak_rate: the largest rate of the schedule."""
    for node in plan.nodes:
        for finding in node.spec.lint(node.inputs):
            yield replace(finding, location=plan.locate(node.index, finding.key))
    if has_loss(plan):
        yield from _check_depth(plan, peak_rate)
        yield from _check_norm_of_one(plan)
    yield from _check_heads(plan)


def lower_unknown_keys(finding: Finding) -> Finding:
    """Lower the warning about an unknown key to a note, unless the key is nearly one that exists."""
    is_note = finding.severity is Severity.WARNING and not finding.hints
    return replace(finding, severity=Severity.NOTE) if is_note else finding


def _check_depth(plan: Plan, peak_rate: float) -> Iterator[Finding]:
    depth = {-1: 0}
    for node in plan.nodes:
        deepest = max((depth[source] for source in node.sources), default=0)
        is_weighted = any(array_spec.is_decayed for array_spec in node.arrays)
        depth[node.index] = 0 if _is_normalized(node) else deepest + is_weighted
    last = max(depth, key=lambda index: depth[index])
    most = MAX_UNNORMALIZED_LAYERS_FAST if peak_rate > FAST_RATE else MAX_UNNORMALIZED_LAYERS
    if depth[last] > most:
        yield Finding(
            name="deep-without-norm",
            location=plan.locate(last),
            message=f"is the last of {depth[last]} layers with weights in a row without normalization, at a"
            f" learning rate of up to {peak_rate:g}: activations and gradients grow or fade from layer to layer",
            hints=("batch_normalize=1 in all of them but the last", "a smaller learning_rate", "burn_in=1000"),
        )


def _is_normalized(node: Node) -> bool:
    """True if the layer has batch norm, group norm or layer norm."""
    return any(array_spec.is_norm for array_spec in node.arrays)


def _check_norm_of_one(plan: Plan) -> Iterator[Finding]:
    """Check that batch norm does not take its statistics from one number.

    The cells of a map are as good as images: only vectors and maps of one cell suffer from minibatches of one image.
    """
    net = plan.net
    if net.minibatch > 1 or net.batch == 1:
        return
    for node in plan.nodes:
        if any(array_spec.is_statistic for array_spec in node.arrays) and node.shape.h * node.shape.w == 1:
            yield Finding(
                name="norm-of-one",
                location=plan.locate(node.index, "batch_normalize"),
                message=f"normalizes minibatches of one image (batch={net.batch} subdivisions={net.subdivisions}):"
                " batch norm of one number is 0, whatever the image",
                hints=(f"subdivisions={max(1, net.batch // 4)}", "batch_normalize=0"),
            )
            return


def _check_heads(plan: Plan) -> Iterator[Finding]:
    heads = heads_of(plan)
    for node, spec in heads:
        if node.sources[0] < 0:
            continue
        source = plan.nodes[node.sources[0]]
        activation = getattr(source.spec, "activation", None)
        if activation not in (None, spec.input_activation):
            yield Finding(
                name="head-activation",
                location=plan.locate(source.index, "activation"),
                message=f"feeds [{node.type}] in layer {node.index} through activation={activation}: the head needs"
                f" {spec.input_activation}, which alone gives all values that it decodes",
                hints=(f"activation={spec.input_activation}",),
            )
        if _is_normalized(source):
            yield Finding(
                name="head-normalized",
                location=plan.locate(source.index, "batch_normalize"),
                message=f"is normalized and feeds [{node.type}] in layer {node.index}: the mean of each output is"
                " fixed, objectness and sizes among them",
                hints=("batch_normalize=0",),
            )
    counts = [f"{spec.class_count} in layer {node.index}" for node, spec in heads]
    if len({spec.class_count for _, spec in heads}) > 1:
        yield Finding(
            name="classes-differ",
            location=plan.locate(heads[-1][0].index, "classes"),
            message=f"is one of several heads with different numbers of classes: {', '.join(counts)}",
            hints=("the same classes= in all heads, and filters= before them",),
        )
