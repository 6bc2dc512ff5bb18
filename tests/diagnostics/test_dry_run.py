"""The dry run: what the first updates would show is known before they are made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from darkpy.build import make_plan
from darkpy.data.lists.text_files import read_data
from darkpy.diagnostics.dry_run import DryRun, as_record
from darkpy.finding import Location
from darkpy.network import Network
from darkpy.training.setup import open_setup
from tests.diagnostics.conftest import Case


def try_out(case: Case, updates: int, weights: Path | None = None) -> DryRun:
    torch.manual_seed(0)
    plan = make_plan(case.cfg)
    network = Network(plan)
    if weights is not None:
        network.load_weights(weights)
    network.initialize()
    made = DryRun(network, open_setup(plan, read_data(case.data), seed=0), updates, Location("my.cfg", 10, "net"))
    for _ in made.run():
        pass
    return made


def test_healthy_training_is_tried_and_nothing_is_found(case: Case) -> None:
    case.edit("sample.cfg", "burn_in=100", "burn_in=10")
    made = try_out(case, 6)
    assert made.findings == []
    assert len(made.reports) == 6
    assert made.verdict().startswith("dry run: updates 1 to 6, loss ")
    assert f"rate up to {0.02 * 0.6**4:.3g} of 0.02" in made.verdict()
    assert as_record(made)["updates"] == 6


def test_rate_that_is_far_too_high_is_found_before_the_training(case: Case) -> None:
    case.edit("sample.cfg", "learning_rate=0.02", "learning_rate=20")
    case.edit("sample.cfg", "burn_in=100", "burn_in=0")
    made = try_out(case, 4)
    assert {one.name for one in made.findings} & {"Exploding", "NonFinite", "LossSpike", "ActivationRange"}
    assert all(not one.is_note and one.message and one.hints for one in made.findings)
    assert any(one.place.startswith("layer ") and "sample.cfg:" in one.place for one in made.findings)


def test_loss_that_grows_is_found_at_the_rate(case: Case) -> None:
    """Gradients that stay finite: the constraint keeps them from overflowing."""
    case.edit("sample.cfg", "learning_rate=0.02", "learning_rate=0.5")
    case.edit("sample.cfg", "burn_in=100", "burn_in=4")
    (found,) = [one for one in try_out(case, 16).findings if one.name == "loss-grows"]
    assert found.place == "[net] my.cfg:10"
    assert found.hints[0] == "learning_rate=0.05"


def test_layer_that_is_dead_is_named_with_its_line(case: Case) -> None:
    plan_line = case.line("[convolutional]", "filters=32")
    case.edit(
        "sample.cfg",
        "filters=48\nsize=3\nstride=1\npad=1\nactivation=leaky",
        "filters=48\nsize=3\nstride=1\npad=1\nactivation=relu",
    )
    case.edit("sample.cfg", "burn_in=100", "burn_in=0")
    torch.manual_seed(0)
    plan = make_plan(case.cfg)
    network = Network(plan)
    network.initialize()
    biases = network.layers[6].biases
    assert isinstance(biases, torch.nn.Parameter)
    biases.data.fill_(-10)
    made = DryRun(network, open_setup(plan, read_data(case.data), seed=0), 8, Location("my.cfg", 10, "net"))
    for _ in made.run():
        pass
    assert f"layer 6 [convolutional] {plan_line}" in [one.place for one in made.findings if one.name == "DeadUnits"]


def test_finished_weights_are_tried_as_if_the_schedule_began(case: Case) -> None:
    made = try_out(case, 2, Path(__file__).resolve().parents[2] / "weights/sample.weights")
    assert [one.batch_num for one in made.reports] == [1, 2]
    assert made.reports[0].loss < 20


@pytest.mark.parametrize("updates", [1, 3])
def test_so_many_updates_are_made_and_no_more(case: Case, updates: int) -> None:
    assert len(try_out(case, updates).reports) == updates
