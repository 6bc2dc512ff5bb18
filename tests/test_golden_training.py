"""Training steps of the golden networks, against what the C programs did: costs, deltas, updates, weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import darkpy
from darkpy.layers.loss import Loss, TrainingState
from darkpy.layers.region import RegionSpec
from darkpy.layers.weighted import WeightedLayer
from darkpy.network import Network
from darkpy.training.reports import StepReport
from darkpy.training.trainer import Trainer

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted((GOLDEN / "training").glob("*/*.npz"))
Arrays = dict[str, np.ndarray[Any, Any]]


class Run:
    """A golden case: the network before its first step, and what went in and came out of the C program."""

    def __init__(self, case: Path, tmp_path: Path) -> None:
        self.golden: Arrays = dict(np.load(case))
        start = dict(np.load(GOLDEN / "networks" / case.parent.name / case.name))
        weights = tmp_path / "init.weights"
        weights.write_bytes(start["weights"].tobytes())
        cfg = start["cfg"].tobytes().decode()
        cfg = cfg.replace("[net]", f"[net]\nconstrain={float(self.golden['constrain'])}", 1)
        self.network = darkpy.load(cfg, weights, dialect=case.parent.name)
        self.x = np.concatenate([start["x"][None], self.golden["x"]])
        self.final = tmp_path / "final.weights"

    def minibatch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What is fed at a step: its own entry where there is one, else entry 0."""
        x = torch.from_numpy(self.x[step if step < len(self.x) else 0])
        truth = self.golden["truth"]
        return x.reshape(x.shape[0], *self.network.plan.input_shape), torch.from_numpy(
            truth[step if step < len(truth) else 0]
        )

    def train(self) -> list[StepReport]:
        trainer = Trainer(self.network)
        return [trainer.train_minibatch(*self.minibatch(step)) for step in range(int(self.golden["steps"]))]


@pytest.fixture(params=CASES, ids=[f"{case.parent.name}-{case.stem}" for case in CASES])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("warnings.warn", lambda *_, **__: None)
    if request.param.parent.name == "alexeyab" and request.param.stem.startswith("region"):
        monkeypatch.setattr(RegionSpec, "loss", put_in_order_twice(RegionSpec.loss))
    return Run(request.param, tmp_path)


def put_in_order_twice(loss: Callable[..., Loss]) -> Callable[..., Loss]:
    """The fault of a golden: on the CPU, AlexeyAB's [region] brings its delta from (cell, anchor, entry) back to the
    input's order at the end of its forward pass; the program that wrote the goldens did it again on the way back.
    """

    def faulty(*arguments: object) -> Loss:
        found = loss(*arguments)
        batch, channels, *_ = found.delta.shape
        by_cell = found.input_delta.reshape(batch, -1, channels)
        return replace(found, input_delta=by_cell.transpose(1, 2).reshape(found.delta.shape))

    return faulty


def assert_close(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], relative: float, what: str) -> None:
    assert found.size == wanted.size, what
    error = np.abs(found.reshape(-1) - wanted.reshape(-1)).max()
    assert error <= relative * np.abs(wanted).max() + 1e-6, f"{what} departs by {error} of {np.abs(wanted).max()}"


def updates(network: Network, name: str) -> dict[int, np.ndarray[Any, Any]]:
    """What a layer's arrays of that name have gathered: minus their gradients."""
    found = {}
    for index, layer in enumerate(network.layers):
        parameter = dict(layer.named_parameters()).get(name)
        if parameter is not None and parameter.grad is not None:
            found[index] = -parameter.grad.numpy()
    return found


def test_costs_rates_and_final_weights_are_darknets(run: Run) -> None:
    reports = run.train()
    assert_close(np.array([report.cost for report in reports]), run.golden["cost"], 1e-4, "the cost")
    assert_close(np.array([report.rate for report in reports]), run.golden["rate"], 1e-6, "the rate")
    run.network.save_weights(run.final)
    size = run.network.header.size
    found = np.frombuffer(run.final.read_bytes()[size:], "<f4")
    wanted = np.frombuffer(run.golden["final"].tobytes()[-found.nbytes :], "<f4")
    assert_close(found, wanted, 1e-5, "a weight")


def test_the_first_steps_deltas_and_updates_are_darknets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    products: dict[int, torch.Tensor] = {}
    places = {id(layer): index for index, layer in enumerate(run.network.layers)}
    finish = WeightedLayer.finish

    def watched(self: WeightedLayer, y_BFHW: torch.Tensor) -> torch.Tensor:
        y_BFHW.retain_grad()
        products[places[id(self)]] = y_BFHW
        return finish(self, y_BFHW)

    monkeypatch.setattr(WeightedLayer, "finish", watched)
    net = run.network.plan.net
    x, truth = run.minibatch(0)
    seen = run.network.header.seen + net.minibatch
    inputs, losses = run.network.train().losses(x, truth, TrainingState(net, seen))
    torch.autograd.backward(inputs, [-loss.input_delta for loss in losses])
    heads = [name for name in run.golden if name.startswith("head")]
    for name, loss in zip(heads, losses, strict=True):
        assert_close(loss.delta.numpy(), run.golden[name], 1e-4, f"the head's delta {name}")
    for name, gathered in (("wupd", "weights"), ("bupd", "biases"), ("supd", "scales")):
        for index, found in updates(run.network, gathered).items():
            if (key := f"{name}{index}") in run.golden:
                wanted = run.golden[key]  # of the biases of [local], which are as many as its outputs, only the first
                assert_close(found.reshape(-1)[: wanted.size], wanted, 1e-4, f"update {key}")
    for index, y_BFHW in products.items():
        if (key := f"delta{index}") in run.golden and y_BFHW.grad is not None:
            assert_close(-y_BFHW.grad.numpy(), run.golden[key], 1e-4, key)
