"""The delta constraint on hidden layers as the cause of growth: rare large errors beside many small ones.

The true deltas balance. Clamped, the rare ones count as much as any other, hidden features drift the wrong way and grow
against the head, whose weights follow: with these settings every run with the clamp explodes, and none without it.
Where a clamped run is only too fast, nothing drifts, and the rate is named.
"""

from __future__ import annotations

from itertools import count

import pytest
import torch

import darkpy
from darkpy.config.edit import apply_remedy
from darkpy.diagnostics.monitor.advice import Evidence, advise
from darkpy.finding import Finding
from tests.diagnostics.runs import Change, Minibatch, Run, convolution, net

RARE_FRAC, RARE_TARGET, USUAL_TARGET = 0.01, 30.0, -1.0
FIRST_LOSS, LEARNED_LOSS = 2900.0, 1500.0
HEAD = "[convolutional]\nfilters=1\nsize=1\nactivation=linear\nconstrain=0\n[cost]\ntype=sse\n"


def cfg(constrain: str, rate: float = 0.001) -> str:
    """Three layers with batch norm and a head without a clamp, in AlexeyAB's dialect as mosaic= is its key."""
    return net(rate=rate, more=f"burn_in=20\nmosaic=0\n{constrain}") + convolution() * 3 + HEAD


def until_a_finding(text: str, seed: int, **options: int) -> Run:
    run, images = Run(text, seed=seed, options=options), minibatches()
    while not run.findings:
        assert run.trainer.batch_num < 250
        run(1, images)
    return run


def minibatches() -> Change:
    """Endless noise with a few bright cells, which the target tells from the others."""
    numbers = count()

    def change(_: int, minibatch: Minibatch) -> Minibatch:
        generator = torch.Generator().manual_seed(next(numbers))
        x_BCHW = torch.rand(8, 3, 16, 16, generator=generator) / 2
        is_rare_BHW = torch.rand(8, 16, 16, generator=generator) < RARE_FRAC
        x_BCHW[:, 0][is_rare_BHW] += 0.5
        return x_BCHW, torch.where(is_rare_BHW, RARE_TARGET, USUAL_TARGET).reshape(8, -1)

    return change


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3, 4, 5, 6))])
def test_run_that_the_clamp_ruins_learns_when_the_first_advice_is_followed(seed: int) -> None:
    clamped = until_a_finding(cfg("constrain=1"), seed)
    first = clamped.findings[0]
    assert first.name in ("Exploding", "LossSpike")
    assert first.hints[0].startswith("constrain=0: it clamps up to ")
    cured_text = apply_remedy(clamped.text, first.remedies[0])
    assert cured_text == cfg("constrain=0")
    cured = Run(cured_text, seed=seed, options={"every": 10})
    cured(200, minibatches())
    assert cured.findings == [] and cured.monitor.average < LEARNED_LOSS < FIRST_LOSS


@pytest.mark.parametrize("rate", [0.02, *(pytest.param(rate, marks=pytest.mark.slow) for rate in (0.005, 0.1, 1.0))])
def test_clamped_run_that_is_too_fast_learns_when_the_first_advice_is_followed(rate: float) -> None:
    text = cfg("constrain=1", rate)
    fast = until_a_finding(text, seed=1)
    first = fast.findings[0]
    assert first.name == "Exploding" and first.hints[0].startswith("learning_rate=")
    assert any(hint.startswith("constrain=0") for hint in first.hints)
    cured = Run(apply_remedy(text, first.remedies[0]))
    cured(200, minibatches())
    assert cured.findings == [] and cured.monitor.average < FIRST_LOSS
    freed = until_a_finding(cfg("constrain=0", rate), seed=1)
    assert freed.names[0] == "Exploding"


def test_momentum_is_named_before_the_clamp() -> None:
    evidence = Evidence(darkpy.plan(cfg("constrain=1").replace("momentum=0.9", "momentum=0.995")))
    evidence.rate, evidence.pull, evidence.drift, evidence.clamped = 0.001, 1.0, 9.0, {2: 0.3}
    first, second, *_ = advise(Finding(name="Diverging", message=""), evidence).remedies
    assert (str(first)[:12], str(second)[:11]) == ("momentum=0.9", "constrain=0")
