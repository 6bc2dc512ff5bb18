"""Checks of a network's layers, from the cfg alone.

Checks of a training schedule: rate, batch, burn-in, steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from darkpy.build import Node, Plan
from darkpy.config.net import NetSpec
from darkpy.config.schema import keys_of
from darkpy.errors import DarkpyError
from darkpy.finding import Cause, CfgEdit, Finding, Remedy, Severity
from darkpy.layers.head import HeadSpec
from darkpy.layers.loss import LossSpec
from darkpy.training.optimizer import current_rate

UNNORMALIZED_LAYERS_BY_RATE = {False: {0.1: 2, 0.01: 9, 0.0: 22}, True: {0.005: 2, 0.0: 22}}
"""Layers with weights in a row that train without normalization above a rate, of classifiers and of detectors.

strided.cfg trains 22 layers at 0.01, alexnet.cfg 8 at 0.01, crnn.train.cfg 5 at 0.1, t1.test.cfg, a detector, 10 at
0.005; vgg-16.cfg has 16 at 0.00001.
"""
LOSS_NORMALIZERS = ("iou_normalizer", "cls_normalizer", "obj_normalizer")
"""Factors of the parts of a head's loss; AlexeyAB's cfgs have .05 to 4."""


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
    limits = UNNORMALIZED_LAYERS_BY_RATE[bool(heads_of(plan))]
    if depth[last] > next(layers for rate, layers in limits.items() if peak_rate > rate or not rate):
        read_by_loss = {source for node in plan.nodes if isinstance(node.spec, LossSpec) for source in node.sources}
        edits = [
            CfgEdit("batch_normalize", "1", node.index)
            for node in plan.nodes
            if depth[node.index] and "batch_normalize" in keys_of(type(node.spec))
            if any(array_spec.is_decayed for array_spec in node.arrays) and node.index not in read_by_loss
        ]
        yield Finding(
            name="deep-without-norm",
            location=plan.locate(last),
            message=f"is the last of {depth[last]} layers with weights in a row without normalization, at a"
            f" learning rate of up to {peak_rate:g}: activations and gradients grow or fade from layer to layer",
            remedies=(Remedy(edits=tuple(edits)), Remedy(edits=(CfgEdit("grad_clip_norm", "10"),))),
        )


def _is_normalized(node: Node) -> bool:
    """True if the layer, or a layer that it is made of, has batch norm, group norm or layer norm."""
    return any(array_spec.is_norm or array_spec.is_statistic for array_spec in node.arrays)


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
        needed = spec.input_activations
        if activation is not None and activation not in needed:
            yield Finding(
                name="head-activation",
                location=plan.locate(source.index, "activation"),
                message=f"feeds [{node.type}] in layer {node.index} through activation={activation}: the head needs"
                f" {' or '.join(needed)}, which alone gives all values that it decodes",
                hints=(f"activation={needed[0]}",),
            )
        if _is_normalized(source):
            yield Finding(
                name="head-normalized",
                location=plan.locate(source.index, "batch_normalize"),
                message=f"is normalized and feeds [{node.type}] in layer {node.index}: the mean of each output is"
                " fixed, objectness and sizes among them",
                hints=("batch_normalize=0",),
            )
        for key in LOSS_NORMALIZERS:
            if getattr(spec, key, 1.0) == 0:
                yield Finding(
                    name="normalizer-zero",
                    location=plan.locate(node.index, key),
                    message=f"{key}=0: this part of the loss has no effect",
                    hints=(f"{key}=1",),
                )
    yield from _check_filters(plan)
    counts = [f"{spec.class_count} in layer {node.index}" for node, spec in heads]
    if len({spec.class_count for _, spec in heads}) > 1:
        yield Finding(
            name="classes-differ",
            location=plan.locate(heads[-1][0].index, "classes"),
            message=f"is one of several heads with different numbers of classes: {', '.join(counts)}",
            hints=("the same classes= in all heads, and filters= before them",),
        )


def _check_filters(plan: Plan) -> Iterator[Finding]:
    """Find hidden convolutions that have the channels of a head: filters= replaced in too many sections."""
    heads = [node for node, spec in heads_of(plan) if spec.anchor_keys is not None]
    if not heads:
        return
    before_heads = {source for node in heads for source in node.sources}
    counts = {node.inputs[0].c for node in heads}
    odd = [
        node
        for node in plan.nodes
        if node.index not in before_heads and "filters" in node.section.entries and node.shape.c in counts
        # widths of layers are multiples of 8; other numbers are where a map shrinks to a fraction
        if node.shape.c % 8 or (node.index > heads[0].index and node.inputs[0].c >= MIN_SHRINKING * node.shape.c)
    ]
    if odd:
        layers = ", ".join(str(node.index) for node in odd)
        message = f"has filters={odd[0].shape.c}, as the layers before the heads, but feeds no head"
        if len(odd) > 1:
            message = f"{message}; so do {len(odd)} layers: {layers}"
        hints = (f"filters= of the original cfg here: only layers {_listed(before_heads)} feed a head",)
        yield Finding(
            name="filters-of-head", location=plan.locate(odd[0].index, "filters"), message=message, hints=hints
        )


def _listed(indices: set[int]) -> str:
    return ", ".join(map(str, sorted(indices)))


MIN_SHRINKING = 8
"""Factor by which a hidden layer of darknet's cfgs never reduces the channels."""
MAX_DETECTOR_RATE, MAX_CLASSIFIER_RATE, MAX_ADAM_RATE = 0.05, 0.75, 0.02
"""Rates above which training fails. The largest of either fork's cfgs are 0.01 (yolov1-tiny), 0.5 and, with Adam,
0.002."""
MIN_DETECTOR_RATE = 1e-6
"""The lowest rate of darknet's own detectors is 0.00001."""
MAX_COLD_RATE = 0.001
"""The largest rate at which either fork's detectors start without a burn-in, or steps that replace it."""
MIN_IMAGES = 8
"""Images of an update below which AlexeyAB warns."""


def peak_rate(net: NetSpec) -> float:
    """Largest rate of the schedule; 0 where its keys give none.

    Every policy is monotonic between these updates, except `random` and `sgdr`, whose largest rate is learning_rate.
    """
    ends = {1, net.burn_in - 1, net.burn_in, *net.steps, *(step - 1 for step in net.steps), net.max_batches}
    try:
        return max(current_rate(net, end, lambda: 1.0) for end in sorted(ends) if end > 0)
    except DarkpyError:
        return 0.0


def usual_max_batches(plan: Plan) -> int:
    """Updates that AlexeyAB advises: 2,000 for each class of a detector, and at least 6,000."""
    return max(6000, *(2000 * spec.class_count for _, spec in heads_of(plan)), 0)


def burn_in_hint(net: NetSpec) -> str:
    """Setting of a burn-in for the length of the run: darkpy's and both forks' detectors have 1000 or less."""
    return f"burn_in={max(10, min(1000, net.max_batches // 20)) if net.max_batches > 0 else 1000}"


def check_rates(plan: Plan) -> Iterator[Finding]:
    """Check the keys of [net] for speed and length of the training; nothing for a network without a loss."""
    net = plan.net
    if not has_loss(plan):
        return
    try:
        current_rate(net, max(1, net.burn_in), lambda: 1.0)
    except DarkpyError as error:
        yield error.as_finding("schedule", Cause.RATES, plan.locate_net("policy"))
        return
    if net.max_batches < 0:
        text = f"max_batches={net.max_batches}: darknet ends before the first update"
        finding = _warning(plan, "max_batches", "schedule", text, f"max_batches={usual_max_batches(plan)}")
        yield replace(finding, severity=Severity.ERROR)
        return
    yield from _check_rate(plan)
    too_long = list(_check_burn_in(plan))
    yield from too_long
    yield from (finding for finding in _check_steps(plan) if not (too_long and finding.name == "steps-in-burn-in"))


def check_batch(plan: Plan) -> Iterator[Finding]:
    """Check the images of an update: darknet's own cfgs begin with the lines for testing, batch=1."""
    net = plan.net
    if not has_loss(plan):
        return
    try:
        net.check_batch()
    except DarkpyError as error:
        yield error.as_finding("batch", Cause.RATES, plan.locate_net("batch"))
        return
    images = net.minibatch * net.subdivisions
    text = f"batch={net.batch} subdivisions={net.subdivisions} are {images} image{'s' if images > 1 else ''} an update"
    hint = "batch=64 subdivisions=16"
    if images == 1:
        yield _warning(plan, "batch", "batch", f"{text}: lines for testing? darknet's cfgs train with {hint}", hint)
    elif images < MIN_IMAGES:
        yield _warning(plan, "batch", "batch", f"{text}, which is few; darknet's cfgs train with 64", hint)
    elif net.batch % net.subdivisions:
        yield _warning(plan, "batch", "batch", f"{text}, because subdivisions does not divide batch", hint)


def _check_rate(plan: Plan) -> Iterator[Finding]:
    net, peak, is_detector = plan.net, peak_rate(plan.net), bool(heads_of(plan))
    most = MAX_ADAM_RATE if net.adam else MAX_DETECTOR_RATE if is_detector else MAX_CLASSIFIER_RATE
    if peak <= 0 < net.learning_rate:
        text = f"policy={net.policy} makes no rate above 0 of learning_rate={net.learning_rate:g}: nothing is learned"
        yield _warning(plan, "policy", "rate-zero", text, "policy=constant")
    elif peak <= 0:
        text = f"learning_rate={net.learning_rate:g}: nothing is learned"
        yield _warning(plan, "learning_rate", "rate-zero", text, f"learning_rate={0.001 if is_detector else 0.01:g}")
    elif is_detector and peak < MIN_DETECTOR_RATE:
        text = f"learning_rate={net.learning_rate:g} is below {MIN_DETECTOR_RATE:g} for a detector: it hardly learns"
        yield _warning(plan, "learning_rate", "rate-too-low", text, "learning_rate=0.001")
    elif peak > most:
        kind = "with adam=1" if net.adam else "for a detector" if is_detector else "for a classifier"
        reached = "" if peak == net.learning_rate else f" reaches {peak:g}, which"
        text = (
            f"learning_rate={net.learning_rate:g}{reached} is above {most:g} {kind}: the loss will grow and become"
            " NaN. The rate multiplies the mean gradient of the batch, so a larger batch does not reduce it"
        )
        hint = f"learning_rate={0.001 if is_detector or net.adam else 0.1:g}"
        yield _warning(plan, "learning_rate", "rate-too-high", text, hint, burn_in_hint(net), "grad_clip_norm=10")


def _check_burn_in(plan: Plan) -> Iterator[Finding]:
    net, peak = plan.net, peak_rate(plan.net)
    if 0 < net.max_batches <= net.burn_in:
        text = f"burn_in={net.burn_in} does not end before max_batches={net.max_batches}: the rate only grows"
        yield _warning(plan, "burn_in", "burn-in-too-long", text, f"burn_in={max(1, min(1000, net.max_batches // 10))}")
    is_cold = current_rate(net, 1, lambda: 1.0) >= 0.9 * peak
    if heads_of(plan) and is_cold and peak > MAX_COLD_RATE and not net.adam:
        text = f"burn_in={net.burn_in}: a detector starts at the full rate of {peak:g}, when its errors are largest"
        yield _warning(plan, "learning_rate", "cold-start", text, burn_in_hint(net), f"learning_rate={MAX_COLD_RATE:g}")


def _check_steps(plan: Plan) -> Iterator[Finding]:
    net = plan.net
    if net.policy != "steps":
        return
    steps = f"steps={','.join(map(str, net.steps))}"
    late = [step for step in net.steps if step >= net.max_batches > 0]
    if late:
        text = f"{steps}: {len(late)} of {len(net.steps)} come after the end, max_batches={net.max_batches}"
        earlier = f"steps={net.max_batches * 8 // 10},{net.max_batches * 9 // 10} with scales=.1,.1"
        yield _warning(plan, "steps", "steps-beyond-end", text, earlier, f"max_batches={max(net.steps) * 10 // 9}")
    if list(net.steps) != sorted(net.steps):
        text = f"{steps} are not in order: those behind a larger one come with it"
        yield _warning(plan, "steps", "steps-unordered", text, f"steps={','.join(map(str, sorted(net.steps)))}")
    early = [step for step in net.steps if 0 < step < net.burn_in]
    if early:
        text = f"{steps}: {len(early)} come before the end of burn_in={net.burn_in}"
        yield _warning(plan, "steps", "steps-in-burn-in", text, f"burn_in={min(early)}")


def _warning(plan: Plan, key: str, name: str, message: str, *hints: str) -> Finding:
    """Finding about [net]; hints that are lines of it (`batch=64 subdivisions=16`) are remedies."""
    remedies: list[Remedy] = []
    for hint in hints:
        entries = [word.partition("=") for word in hint.replace(" with ", " ").split()]
        if not all(name in keys_of(NetSpec) for name, _, _ in entries):
            break
        remedies.append(Remedy(edits=tuple(CfgEdit(name, value) for name, _, value in entries)))
    return Finding(
        name=name,
        message=message,
        cause=Cause.RATES,
        location=plan.locate_net(key),
        remedies=tuple(remedies),
        hints=hints[len(remedies) :],
    )
