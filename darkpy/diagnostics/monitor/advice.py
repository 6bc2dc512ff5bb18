"""Advice of the monitor: remedies of a finding, the likely cause first, with values computed from the run.

A symptom says what is wrong; `Evidence` collects the run's measurements, and `advise` adds the remedies. A
key that has the advised value already is never among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from darkpy.anchors.cfg_heads import anchor_edits, find_heads
from darkpy.anchors.recommend import default_count, recommend
from darkpy.anchors.search import SearchConfig
from darkpy.build import Node, Plan
from darkpy.diagnostics.checks.cfg import peak_rate
from darkpy.diagnostics.monitor.symptoms import ObservedUpdate
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.finding import CfgEdit, Finding, Remedy

USUAL_STEP_RATIO = 0.003
"""Ratio of rate times gradient to weights, at the start of a run with momentum .9, at which networks learn well. Runs
that learn have .0001 to .06 in their worst layer; runs that failed had .09 and more."""
USUAL_MOMENTUM, MAX_MOMENTUM = 0.9, 0.99
USUAL_DECAY, MAX_DECAY = 0.0005, 0.01
MIN_CLIPPED_FRAC = 0.002
"""Fraction of a hidden layer's deltas beyond the bound from which the delta constraint may be the cause of growth, in
AlexeyAB's dialect. Its program does not clamp convolutions; with constrain=1 yolov4-tiny has .005 to .03 in the layers
before its heads."""
MAX_RATE_RATIO = 100.0
"""Rate over the usual one from which the rate is the likelier cause."""
USUAL_RATE_RATIO = 10.0
"""Rate over the usual one up to which the rate is hardly the cause."""
MIN_DRIFT = 2.0
"""Drift from which the delta constraint may be the cause where the rate may be it too; see `stop_growth`."""
MIN_STEP_RATIO, MAX_STEP_RATIO = 1e-5, 0.1
"""Ratio of a step to the weights, in the layer where it is largest, of runs that learn."""
VANISHED_RATIO = 1e-4
FROZEN_STATISTICS = ("stats", "all")
SATURATING_ACTIVATIONS = frozenset({"logistic", "tanh", "hardtan", "lhtan"})
MIN_MINIBATCH = 4
MIN_CLIP_FRAC = 0.01
"""Fraction of the usual gradient norm below which a limit of it hinders learning."""


@dataclass
class Evidence:
    """Measurements of a run from which remedies are computed.

    rate: of the last update. pull: ratio of gradient to weights in the layer where it is largest (with Adam of its
        step at a rate of 1), the smallest of the updates before one replaced the weights. norm: of all gradients then.
    step_ratio: the last ratio of rate times gradient (with Adam of a step) to the weights, largest of all layers.
    gradient_ratio: the smallest of these ratios over the largest one. is_frozen: all gradients are 0.
    clamped: largest fraction of clamped deltas of each layer before an update replaced the weights.
    drift: how many times as large as in the first measurement the features that a head reads, or the deltas that reach
        them for the same delta of the head, have become.
    dead: fraction of dead units of each layer. box_sizes: w, h of boxes as fractions.
    """

    plan: Plan
    box_sizes: Sequence[Tensor] = ()
    rate: float = math.nan
    batch_num: int = 0
    pull: float = math.nan
    norm: float = math.nan
    step_ratio: float = math.nan
    gradient_ratio: float = math.nan
    is_frozen: bool = False
    clamped: dict[int, float] = field(default_factory=dict)
    drift: float = 1.0
    dead: Mapping[int, float] = field(default_factory=dict)
    _was_lost: bool = False
    _first_sizes: dict[int, tuple[float, float]] = field(default_factory=dict)  # of features and deltas at each head

    def add(self, update: ObservedUpdate) -> None:
        """Take over the measurements of an update."""
        self.rate, self.batch_num = update.rate, update.batch_num
        if not update.figures:
            return
        is_adam = update.plan.net.adam
        ratios = [ratio for ratio in (update.row("ratio") if is_adam else update.step_ratio).values() if ratio]
        if ratios and update.rate and not self._was_lost:
            pull = max(ratios) / (update.rate * (1.0 if is_adam else update.clipped))
            self._was_lost = max(ratios) > MAX_STEP_RATIO
            if math.isnan(self.pull) or (pull < self.pull and not self._was_lost):
                self.pull, self.norm = pull, update.norm
        self.is_frozen, self.step_ratio = not update.norm, max(ratios, default=math.nan)
        self.gradient_ratio = min(ratios) / max(ratios) if ratios else math.nan
        self.dead = update.row("dead")
        for index, share in update.row("clamped").items() if not self._was_lost else ():
            self.clamped[index] = max(share, self.clamped.get(index, 0.0))
        low, high, delta = (update.row(name) for name in ("low", "high", "delta"))
        for node in last_weighted_layers(update.plan):
            source = node.sources[0]
            if delta.get(node.index) and delta.get(source):
                sizes = max(-low[source], high[source]), delta[source] / delta[node.index]
                first_sizes = self._first_sizes.setdefault(node.index, sizes)
                growths = [size / first for size, first in zip(sizes, first_sizes, strict=True) if first]
                self.drift = max([self.drift, *growths])

    @property
    def is_weak(self) -> bool:
        """True if the last measured step is far too small to move the weights."""
        return self.step_ratio < MIN_STEP_RATIO

    @property
    def usual_rate(self) -> float:
        """Rate at which steps would have had the usual size at the start; NaN if none was measured."""
        momentum = USUAL_MOMENTUM if self.plan.net.adam else min(self.plan.net.momentum, MAX_MOMENTUM)
        return USUAL_STEP_RATIO * (1 - momentum) / (1 - USUAL_MOMENTUM) / self.pull if self.pull else math.nan


def advise(finding: Finding, evidence: Evidence) -> Finding:
    """Add the remedies for a finding of the monitor, unless images are its cause; hints without edits follow."""
    prescribe = _REMEDIES_OF_FINDING.get(finding.name)
    if prescribe is None or finding.paths:
        return finding
    return replace(finding, remedies=tuple(prescribe(finding, evidence)))


def set_net(evidence: Evidence, reason: str = "", **values: float | str) -> Iterator[Remedy]:
    """Remedy that sets keys of [net]; none if all have these values."""
    net = evidence.plan.net
    edits = tuple(
        CfgEdit(key, value if isinstance(value, str) else f"{value:g}")
        for key, value in values.items()
        if getattr(net, key) != value
    )
    if edits:
        yield Remedy(edits=edits, reason=reason)


def lower_rate(evidence: Evidence) -> Iterator[Remedy]:
    """A rate at which the first update has the usual size, and no update beyond the first one's norm."""
    net = evidence.plan.net
    peak = peak_rate(net)
    rate = min(evidence.rate, peak) if math.isfinite(evidence.rate) and evidence.rate else peak
    usual = evidence.usual_rate
    target, reason = rate / 10, "a tenth of the present rate"
    if usual <= rate / 2:
        target = usual
        times = f"{rate / usual:.0f}" if rate < 1e6 * usual else f"{rate / usual:.0e}"
        reason = f"at {rate:.4g} steps are {times} times as large, relative to the weights, as in runs that learn"
    values = {"learning_rate": round_down(net.learning_rate * target / peak)} if peak > 0 else {}
    if evidence.norm > 0 and math.isfinite(evidence.norm) and not 0 < net.grad_clip_norm <= evidence.norm:
        values["grad_clip_norm"] = -round_down(-evidence.norm)
        reason += f"; the norm of all gradients was {evidence.norm:.3g} at the start"
    yield from set_net(evidence, reason, **values)


def raise_rate(evidence: Evidence) -> Iterator[Remedy]:
    """A rate at which the first update has the usual size, where the present one is far below it."""
    net, usual = evidence.plan.net, evidence.usual_rate
    peak = peak_rate(net)
    if math.isfinite(usual) and usual > 10 * peak and not net.grad_clip_value:
        reason = (
            f"the largest step of any layer is {evidence.step_ratio:.1g} of its weights, {USUAL_STEP_RATIO:g} is usual"
        )
        yield from set_net(evidence, reason, learning_rate=round_down(usual))


def unclamp(evidence: Evidence, nodes: Sequence[Node], min_share: float) -> Iterator[Remedy]:
    """No delta constraint, where it clamps more than a share of the deltas of one of these layers."""
    plan = evidence.plan
    worst = max((evidence.clamped.get(node.index, 0.0) for node in nodes), default=0.0)
    if worst <= min_share:
        return
    edits = [CfgEdit("constrain", "0")] if plan.net.constrain != 0 else []
    edits += [CfgEdit("constrain", "0", node.index) for node in plan.nodes if node.spec.constrain]
    if edits:
        reason = f"it clamps up to {worst:.0%} of the deltas of a layer"
        yield Remedy(edits=tuple(edits), reason=reason)


def normalize(evidence: Evidence) -> Iterator[Remedy]:
    """Batch norm in hidden layers without a norm."""
    plan = evidence.plan
    layers = [
        node.index
        for node in hidden_layers(plan)
        if not any(array_spec.is_norm for array_spec in node.arrays) and hasattr(node.spec, "batch_normalize")
    ]
    if layers and plan.net.minibatch > 1:
        edits = tuple(CfgEdit("batch_normalize", "1", index) for index in layers)
        yield Remedy(edits=edits, reason="these layers have no norm")


def hidden_layers(plan: Plan) -> list[Node]:
    """Layers with weights whose outputs reach others with weights: all but those directly before a loss."""
    reached: set[int] = set()
    hidden: list[Node] = []
    for node in reversed(plan.nodes):
        has_weights = any(array_spec.is_decayed for array_spec in node.arrays)
        if has_weights and node.index in reached:
            hidden.append(node)
        if has_weights or node.index in reached:
            reached.update(node.sources)
    return hidden[::-1]


def last_weighted_layers(plan: Plan) -> list[Node]:
    """Layers with weights right before a loss that read another layer."""
    hidden = {node.index for node in hidden_layers(plan)}
    return [
        node
        for node in plan.nodes
        if any(array_spec.is_decayed for array_spec in node.arrays)
        and node.index not in hidden
        and node.sources
        and node.sources[0] >= 0
    ]


def stop_growth(finding: Finding, evidence: Evidence) -> Iterator[Remedy]:
    """Remedies for a loss, outputs or weights that grow: the momentum, the clamp, the rate, a missing norm.

    Clamped, rare large deltas count as much as small ones: hidden layers drift the wrong way, slowly, and what a head
    reads (yolov4-tiny on blood cells: features from .9 to 4.3) or passes back (the networks of
    tests/diagnostics/monitor/test_clamp_as_cause.py) grows while its own deltas stand. A rate that is too high ends a
    run before anything drifts. Of 27 such networks that exploded with the clamp, at several rates and depths, the 15
    that constrain=0 fixed had a drift of 2.4 to 12; of 12 that were too fast without the clamp too, 7 had 1.0 to 1.7,
    and 4 a rate beyond MAX_RATE_RATIO. Drift alone is not a fault: features of healthy runs grow eightfold.
    """
    plan, net = evidence.plan, evidence.plan.net
    if not net.adam and net.momentum > MAX_MOMENTUM:
        reason = f"momentum={net.momentum:g} adds up {1 / max(1 - net.momentum, 1e-9):.0f} updates, usual are 10"
        yield from set_net(evidence, reason, momentum=USUAL_MOMENTUM)
    rate, usual = evidence.rate, evidence.usual_rate
    has_drifted = evidence.drift >= MIN_DRIFT and not rate > MAX_RATE_RATIO * usual
    unclamped = list(unclamp(evidence, hidden_layers(plan), MIN_CLIPPED_FRAC))
    # in pjreddie's dialect the constraint is part of the program that networks were made for
    is_clamp_likely = plan.dialect is Dialect.ALEXEYAB and (has_drifted or rate <= USUAL_RATE_RATIO * usual)
    if is_clamp_likely:
        yield from unclamped
    yield from lower_rate(evidence)
    if not is_clamp_likely:
        yield from unclamped
    yield from normalize(evidence)


def move_again(finding: Finding, evidence: Evidence) -> Iterator[Remedy]:
    """Remedies for a loss that stands, or steps that change nothing."""
    yield from unfreeze(evidence)
    net, peak = evidence.plan.net, peak_rate(evidence.plan.net)
    if net.decay > MAX_DECAY:
        yield from set_net(evidence, "it draws all weights to 0", decay=USUAL_DECAY)
    if 0 < net.grad_clip_norm < MIN_CLIP_FRAC * evidence.norm:
        reason = f"the norm of all gradients was {evidence.norm:.3g} at the start"
        yield from set_net(evidence, reason, grad_clip_norm=-round_down(-evidence.norm))
    if net.grad_clip_value and evidence.is_weak:
        yield from set_net(evidence, "it leaves almost nothing of the gradients", grad_clip_value=0)
    if peak > 0 and evidence.rate < peak / 50 and net.burn_in > evidence.batch_num:
        reason = f"at update {evidence.batch_num} the rate is {evidence.rate:.1g} of {peak:g}"
        yield from set_net(evidence, reason, burn_in=max(1, min(1000, net.burn_in // 10)))
    elif peak > 0 and evidence.rate < peak / 50:
        if net.policy == "steps" and net.steps and net.max_batches > 10:
            steps = f"{net.max_batches * 8 // 10},{net.max_batches * 9 // 10}"
            edits = (CfgEdit("steps", steps), CfgEdit("scales", ".1,.1"))
            yield Remedy(edits=edits, reason=f"at update {evidence.batch_num} the rate is {evidence.rate:.1g} already")
        else:
            reason = f"at update {evidence.batch_num} policy={net.policy} leaves {evidence.rate:.1g} of {peak:g}"
            yield from set_net(evidence, reason, policy="constant")
    yield from raise_rate(evidence)
    yield from unclamp(evidence, evidence.plan.nodes, 0.5)
    yield from revive(finding, evidence)
    if evidence.step_ratio > MAX_STEP_RATIO:
        yield from lower_rate(evidence)
    if evidence.gradient_ratio < VANISHED_RATIO:
        yield from let_through(finding, evidence)


def unfreeze(evidence: Evidence) -> Iterator[Remedy]:
    """Layers that learn, where the norm of all gradients is 0 because none does."""
    if not evidence.is_frozen:
        return
    usual: Mapping[str, object] = {"stopbackward": 0, "dont_update": 0, "train_only_bn": 0, "onlyforward": 0}
    edits = tuple(
        CfgEdit(key, f"{value}", node.index)
        for node in evidence.plan.nodes
        for key, value in (*usual.items(), *([("learning_rate", 1)] if not node.spec.learning_rate else []))
        if getattr(node.spec, key) != value
    )
    if edits:
        yield Remedy(edits=edits, reason="no layer learns")


def revive(finding: Finding, evidence: Evidence) -> Iterator[Remedy]:
    """A leaky activation in layers whose units are mostly dead."""
    nodes = evidence.plan.nodes
    layers = [index for index, share in evidence.dead.items() if share > 0.5]
    layers = [index for index in layers if getattr(nodes[index].spec, "activation", "leaky") != "leaky"]
    if layers:
        edits = tuple(CfgEdit("activation", "leaky", index) for index in layers)
        yield Remedy(edits=edits, reason="its units then pass a gradient for any input")


def let_through(finding: Finding, evidence: Evidence) -> Iterator[Remedy]:
    """Norms and an activation that does not saturate, for gradients that vanish on their way."""
    saturating = [
        CfgEdit("activation", "leaky", node.index)
        for node in hidden_layers(evidence.plan)
        if getattr(node.spec, "activation", "") in SATURATING_ACTIVATIONS
    ]
    norms = [edit for remedy in normalize(evidence) for edit in remedy.edits]
    if saturating or norms:
        yield Remedy(edits=(*norms, *saturating), reason="gradients of about the same size in every layer")


def release(finding: Finding, evidence: Evidence) -> Iterator[Remedy]:
    """No delta constraint in layers where it clamps most deltas."""
    yield from unclamp(evidence, evidence.plan.nodes, 0.5)


def fit_anchors(finding: Finding, evidence: Evidence) -> Iterator[Remedy]:
    """Anchors of the boxes that the run has seen."""
    boxes_N2 = torch.cat([torch.zeros(0, 2), *evidence.box_sizes]).double()
    try:
        count = default_count(find_heads(evidence.plan))
        sizes_N2 = boxes_N2
        if len(set(map(tuple, boxes_N2.tolist()))) < count:  # boxes of one size: anchors around it
            sizes_N2 = torch.cat([boxes_N2 * factor for factor in 2 ** torch.linspace(-0.5, 0.5, count)])
        best = recommend(evidence.plan, sizes_N2.numpy(), SearchConfig(count=count))
    except DarkpyError:
        return
    edits = []
    for edit in anchor_edits(best.anchors_K2, best.head_anchors):
        entry = None if edit.layer is None else evidence.plan.nodes[edit.layer].section.entries.get(edit.key)
        if entry is None or entry.value != edit.value.replace(" ", ""):
            edits.append(edit)
    text = f"k-means of {len(boxes_N2)} boxes of this run: mean IoU {best.new.average_iou:.0%} in place of"
    yield Remedy(edits=tuple(edits), reason=f"{text} {best.now.average_iou:.0%}")


def use_statistics(finding: Finding, evidence: Evidence) -> Iterator[Remedy]:
    """Batch norm that learns, where its frozen statistics were never loaded."""
    plan = evidence.plan
    edits = [CfgEdit("bn_freeze", "none")] if plan.net.bn_freeze in FROZEN_STATISTICS else []
    edits += [
        CfgEdit("bn_freeze", "none", node.index) for node in plan.nodes if node.spec.bn_freeze in FROZEN_STATISTICS
    ]
    edits += [CfgEdit("stopbackward", "0", node.index) for node in plan.nodes if node.spec.freezes_inputs]
    if edits:
        yield Remedy(edits=tuple(edits), reason="statistics of 0 are those of a new network")


def limit_norm(finding: Finding, evidence: Evidence) -> Iterator[Remedy]:
    """A limit of the gradients' norm of a few times the usual one."""
    if evidence.norm > 0 and math.isfinite(evidence.norm):
        reason = f"the norm of all gradients was {evidence.norm:.3g} at the start"
        yield from set_net(evidence, reason, grad_clip_norm=-round_down(-evidence.norm))


def enlarge_minibatch(finding: Finding, evidence: Evidence) -> Iterator[Remedy]:
    """Minibatches of more images, where batch norm sees one or two."""
    net = evidence.plan.net
    if net.minibatch < MIN_MINIBATCH and net.batch >= MIN_MINIBATCH:
        reason = f"batch norm sees {net.minibatch} image{'s' if net.minibatch > 1 else ''} at a time"
        yield from set_net(evidence, reason, subdivisions=max(1, net.batch // MIN_MINIBATCH))


_REMEDIES_OF_FINDING: Mapping[str, Callable[[Finding, Evidence], Iterable[Remedy]]] = {
    **dict.fromkeys(
        ("Exploding", "NonFinite", "RuinedWeights", "Diverging", "ActivationRange", "LossSpike"), stop_growth
    ),
    **dict.fromkeys(("StandingLoss", "StuckRate"), move_again),
    "Vanishing": let_through,
    "DeadUnits": revive,
    "ClampSaturated": release,
    "AnchorMismatch": fit_anchors,
    "FrozenNorm": use_statistics,
    "OverfitHead": limit_norm,
    "VarianceCollapse": enlarge_minibatch,
}


def round_down(value: float) -> float:
    """Round to one significant digit, downward."""
    if not value or not math.isfinite(value):
        return value
    unit = 10.0 ** math.floor(math.log10(abs(value)))
    return float(f"{math.floor(value / unit * (1 + 1e-9)) * unit:.1g}")
