"""The monitor: healthy runs are unchanged, bad minibatches leave nothing but their evidence."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import darkpy
from darkpy.diagnostics.monitor.advice import Evidence, advise, lower_rate
from darkpy.diagnostics.monitor.finding_history import History
from darkpy.diagnostics.monitor.loss_symptoms import Diverging, LossHistory, LossSpike
from darkpy.diagnostics.monitor.policy import MAX_EXAMINED_REFUSALS, BadRunError
from darkpy.diagnostics.monitor.run_log import find_log, read_log
from darkpy.diagnostics.monitor.symptoms import StuckRate
from darkpy.errors import DarkpyError
from darkpy.finding import Finding
from darkpy.training.step_guard import StepGuard
from darkpy.training.trainer import Trainer
from tests.diagnostics.runs import Minibatch, Run, classifier, detector
from tests.diagnostics.runs import images as network_images

HEALTHY = {
    "leaky": classifier(),
    "relu": classifier(activation="relu"),
    "without a norm": classifier(norm=0, activation="relu", rate=0.005),
    "deep": classifier(10),
    "tanh": classifier(4, norm=0, activation="tanh"),
    "logistic": classifier(activation="logistic"),
    "adam": classifier(rate=0.001, more="adam=1"),
    "subdivisions": classifier(batch=16, subdivisions=4),
    "boxes": detector(more="burn_in=30"),
    "boxes, mish": detector(activation="mish"),
    "clipped": classifier(rate=0.05, more="grad_clip_norm=1"),
    "steps": classifier(more="policy=steps\nsteps=30,45\nscales=.1,.1"),
}


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """All that was learned, and the optimizer's."""
    state = {name: array.clone() for name, array in trainer.network.state_dict().items()}
    for name, param in trainer.network.named_parameters():
        kept = trainer.optimizer.torch.state.get(param, {})
        state |= {f"{name}/{key}": value.clone() for key, value in kept.items()}
    return state


def assert_same(one: Trainer, other: Trainer) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert [name for name, array in first.items() if not torch.equal(array, second[name])] == []
    assert (one.seen, one.network.header) == (other.seen, other.network.header)


@pytest.mark.parametrize(
    ("seed", "updates"), [(1, 50), *(pytest.param(n, 300, marks=pytest.mark.slow) for n in (2, 3))]
)
@pytest.mark.parametrize("text", HEALTHY.values(), ids=HEALTHY.keys())
def test_nothing_is_found_in_a_healthy_run(text: str, seed: int, updates: int) -> None:
    run = Run(text, seed=seed, options={"every": 10})(updates)
    assert [finding.message for finding in run.findings] == [] and run.error is None and not run.trainer.skipped_images


@pytest.mark.parametrize("name", ["relu", "boxes", "adam", "subdivisions", "clipped"])
def test_watched_run_computes_what_an_unwatched_one_does(name: str) -> None:
    watched = Run(HEALTHY[name], options={"every": 3})(20)
    alone = Run(HEALTHY[name])
    alone.trainer.monitor = StepGuard()
    alone(20)
    assert_same(watched.trainer, alone.trainer)


def spoilt(minibatch: Minibatch, chance: random.Random) -> Minibatch:
    x_BCHW = minibatch[0].clone()
    x_BCHW.view(-1)[chance.randrange(x_BCHW.numel())] = chance.choice((math.nan, math.inf))
    return x_BCHW, minibatch[1]


@pytest.mark.parametrize("name", ["relu", "boxes, mish", "subdivisions", "adam"])
def test_fifty_minibatches_in_a_row_that_are_no_numbers_leave_no_trace(name: str, tmp_path: Path) -> None:
    text, chance = HEALTHY[name], random.Random(4)
    good = [network_images(text, n) for n in range(24)]
    clean, dirty = Run(text), Run(text, tmp_path)
    for minibatch in good:
        clean.trainer.train_minibatch(*minibatch)
    places = chance.sample(range(24), 2)
    for number, minibatch in enumerate(good):
        for _ in range(50 if number in places else 0):
            dirty.trainer.train_minibatch(*spoilt(chance.choice(good), chance))
        dirty.trainer.train_minibatch(*minibatch)
    assert_same(dirty.trainer, clean.trainer)
    assert dirty.trainer.skipped_images == 100 * dirty.trainer.net.minibatch
    assert len(list((tmp_path / "evidence").iterdir())) == len(dirty.findings) <= 5
    assert len(read_log(find_log(tmp_path)).refused) == 100


def test_evidence_shows_the_guilty_image(tmp_path: Path) -> None:
    text = detector()
    run = Run(text, tmp_path)

    def change(n: int, minibatch: Minibatch) -> Minibatch:
        if n == 4:
            minibatch[0][6, :, 3:6, 3:6] = math.nan
        return minibatch

    run(6, change)
    (finding,) = run.findings
    folder = tmp_path / finding.evidence
    assert finding.evidence == "evidence/update_5" and finding.paths == ("4_6.png",)
    with (folder / "samples.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["image"] == "4_6.png" and "27" in rows[0]["what"]
    assert sorted(row["image"] for row in rows) == [f"4_{image}.png" for image in range(8)]
    shown = np.array(Image.open(folder / "images/000_4_6.png"))
    assert shown.shape == (16, 16, 3) and (shown[3:6, 3:6] == (255, 0, 255)).all()
    truth = network_images(text, 1004)[1][6, 0].tolist()
    line = (folder / "labels/000_4_6.txt").read_text().split()
    assert [float(one) for one in line] == pytest.approx([truth[4], *truth[:4]], abs=1e-6)
    assert Image.open(folder / "sheet.png").size == (8 * 160 + 10, 150 + 2 * 16 + 2 * 10)
    with np.load(folder / "exact.npz") as exact:
        assert np.isnan(exact["x_000"][:, 3:6, 3:6]).all() and exact["truth_000"].shape == (10, 5)
    assert (folder / "finding.txt").read_text().startswith(finding.text)
    assert not list((tmp_path / "evidence").glob(".*"))


def test_log_tells_of_every_update_and_of_layers_now_and_then(tmp_path: Path) -> None:
    run = Run(classifier(batch=16, subdivisions=2), tmp_path, options={"first": 2, "every": 5})(12)
    log = read_log(find_log(tmp_path))
    assert [update.batch_num for update in log.updates] == list(range(1, 13))
    assert [update.batch_num for update in log.updates if update.layers] == [1, 2, 5, 10]
    assert [layer.place for layer in log.run.layers][-1] == "layer 5 [softmax] <cfg>:44"
    last = log.updates[9]
    assert (last.seen, last.images, last.rate) == (160, 16, 0.01) and 0 < last.largest < last.norm
    assert math.isnan(log.updates[8].largest) and log.updates[8].norm > 0
    for name in ("gradient", "ratio", "variance", "dead", "clamped"):
        figures = last.layers[name]
        assert all((figures[index] is None) == (index > 2) for index in (0, 1, 2, 4, 5)), name
    assert last.layers["ratio"][0] == pytest.approx(0.01, rel=5)
    ranges = zip(last.layers["low"], last.layers["high"], strict=True)
    assert all(low is not None and high is not None and low < high for low, high in ranges)
    assert run.monitor.average == pytest.approx(log.updates[-1].average, rel=1e-5)


@pytest.mark.parametrize("more", ["", "adam=1"])
def test_ratio_is_that_of_the_step_that_was_made(more: str, tmp_path: Path) -> None:
    run = Run(classifier(rate=0.01, more=more), tmp_path)(4)
    before = run.array("layers.1.weights").clone()
    run(1)
    step = run.array("layers.1.weights") - before
    ratio = read_log(find_log(tmp_path)).updates[-1].layers["ratio"][1]
    assert ratio == pytest.approx(float(step.norm() / before.norm()), rel=1e-3)


def test_run_ends_when_nothing_passes_any_more_with_weights_as_they_were(tmp_path: Path) -> None:
    run = Run(classifier(), tmp_path, options={"max_bad_updates": 7})(3)
    before = weights(run.trainer)
    run(20, lambda n, minibatch: (minibatch[0] * math.nan, minibatch[1]))
    assert isinstance(run.error, BadRunError) and run.error.is_savable
    assert "update 4: 7 updates in a row were refused" in str(run.error)
    assert run.trainer.batch_num == 3 and run.trainer.skipped_images == 7 * 8
    assert all(torch.equal(array, before[name]) for name, array in weights(run.trainer).items())


def test_what_an_explosion_leads_to_is_reported_with_it() -> None:
    run = Run(classifier(norm=0, rate=1e4), options={"max_bad_updates": 3})(20)
    first, last = run.found("Exploding"), run.found("NonFinite")
    assert f"Before that: {first.text}" in last.message and first.batch_num < last.batch_num
    assert isinstance(run.error, BadRunError)


def test_jump_of_the_loss_that_stays_is_not_the_images() -> None:
    history = LossHistory(LossSpike(in_a_row=2))
    losses = [1.0] * 30 + [50.0, 1.0, 50.0, 50.0, 50.0, 50.0]
    assert [history.is_spike(loss) for loss in losses][30:] == [True, False, True, True, False, False]
    assert history.gave_up


def test_loss_is_watched_from_the_fourth_minibatch_on() -> None:
    history = LossHistory(LossSpike())
    losses = [20.0, 15.0, 12.0, 90.0, 3e35, 11.0]
    assert [history.is_spike(loss) for loss in losses] == [False, False, False, False, True, False]
    silent = LossHistory(LossSpike())
    assert not any(silent.is_spike(loss) for loss in (0.0, 0.0, 0.0, 5.0))


def test_ruined_weights_are_said_and_no_image_is_blamed(tmp_path: Path) -> None:
    run = Run(detector(8, norm=0, rate=0.02, filters=32), tmp_path)(15)
    finding = run.found("RuinedWeights")
    assert finding.message.startswith("the weights are ruined: ") and "not ranked" in finding.message
    assert finding.paths == () and not finding.evidence
    assert str(finding.remedies[0]).startswith("learning_rate=")
    assert all(not one.paths for one in run.findings) and not (tmp_path / "evidence").exists()


def test_divergence_is_reported_again_at_doubling_distances() -> None:
    history = History(darkpy.plan(classifier()), ())
    told = [n for n in range(1, 400) if history.may_report(Diverging(), None, n)]
    assert told == [1, 26, 76, 176, 376]
    assert [n for n in range(1, 400) if history.may_report(StuckRate(), None, n)] == [1]


def test_clamp_of_hidden_layers_is_the_first_remedy_only_in_alexeyabs_dialect() -> None:
    """pjreddie's program clamps, and at a rate far too high the rate comes first."""
    boxes = detector(more="constrain=1")
    for text, rate, first in (
        (boxes + "scale_x_y=1.05\n", 0.01, "constrain=0"),
        (boxes + "scale_x_y=1.05\n", 5.0, "learning_rate="),
        (boxes, 0.01, "learning_rate="),
    ):
        evidence = Evidence(darkpy.plan(text), rate=rate, pull=1.0, norm=5.0, clamped={1: 0.01, 3: 0.3})
        finding = advise(Finding(name="NonFinite", message="", batch_num=90), evidence)
        assert str(finding.remedies[0]).startswith(first)
        assert not any("constrain=1" in str(remedy) for remedy in finding.remedies)


def test_loss_that_was_learned_well_may_be_large_again() -> None:
    history = LossHistory(LossSpike())
    losses = [2.0] * 20 + [0.001] * 200 + [1.5, 300.0]
    assert [n for n, loss in enumerate(losses) if history.is_spike(loss)] == [221]


def test_same_thing_is_not_said_again_and_again() -> None:
    run = Run(classifier(more="constrain=1e-6"))(30)
    assert run.names == ["ClampSaturated"]


def test_thresholds_are_fields(tmp_path: Path) -> None:
    from darkpy.diagnostics.monitor.symptoms import Exploding

    strict: dict[str, Any] = {"symptoms": (Exploding(ratio=1e-9),)}
    assert "Exploding" in Run(classifier(), options=strict)(2).names


def test_folder_that_cannot_be_written_is_said_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DarkpyError, match="cannot be created"):
        Run(classifier(), tmp_path / "file" / "run")


def test_weights_that_become_nan_after_the_last_examined_refusal_end_the_run() -> None:
    run = Run(classifier())
    x_BCHW, target = network_images(run.text, 0)
    for _ in range(MAX_EXAMINED_REFUSALS):
        run.trainer.train_minibatch(x_BCHW * torch.nan, target)
    with torch.no_grad():
        next(iter(run.trainer.network.parameters())).fill_(torch.nan)
    with pytest.raises(BadRunError, match="arrays of the network are NaN or infinite"):
        run.trainer.train_minibatch(x_BCHW, target)


def test_rate_in_an_advice_is_written_as_in_a_cfg() -> None:
    plan = darkpy.plan("[net]\ninputs=4\nlearning_rate=50\n[connected]\n[softmax]\n")
    (remedy,) = lower_rate(Evidence(plan, rate=50.0, pull=1.0))
    assert remedy.reason.startswith("at 50 steps are ")
