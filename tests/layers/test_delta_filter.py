"""Rejected [yolo] deltas: 24 minibatches of AlexeyAB's program, from update 70 of 100 on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from darkpy.config.net import NetSpec
from darkpy.dialect import Dialect
from darkpy.layers.loss import DeltaFilter, TrainingState

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "delta-filter.npz")
START, ENTRIES = 70, 8
NETS = {
    "sigmas": {"num_sigmas_reject_badlabels": 1.0},
    "share": {"badlabels_rejection_percentage": 2.0},
    "even": {"equidistant_point": 70},
    "all": {
        "num_sigmas_reject_badlabels": 2.0,
        "badlabels_rejection_percentage": 5.0,
        "equidistant_point": 71,
    },
}


def net(name: str) -> NetSpec:
    return NetSpec(dialect=Dialect.ALEXEYAB, max_batches=100, **NETS[name])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NETS)
def test_deltas_that_darknet_rejects_are_rejected_and_no_others(name: str) -> None:
    delta_filter = DeltaFilter()
    rejected = 0
    for step, golden in enumerate(GOLDEN["deltas"]):
        delta = torch.from_numpy(golden.copy())
        delta_filter.apply(delta, ENTRIES, net(name), START + step)
        is_kept = np.unpackbits(GOLDEN[name][step], count=golden.size).astype(bool)
        assert np.array_equal(delta.numpy(), np.where(is_kept, golden, 0))
        rejected += int(((golden != 0) & ~is_kept).sum())
    assert rejected > 40


@pytest.mark.parametrize(("name", "last"), [("sigmas", 75), ("share", 75), ("even", 70)])
def test_nothing_is_looked_at_before_its_time(name: str, last: int) -> None:
    delta_filter, delta = DeltaFilter(), torch.tensor([0.5, -2.0, 0.0])
    delta_filter.apply(delta, ENTRIES, net(name), last)
    assert delta_filter == DeltaFilter() and delta.tolist() == [0.5, -2.0, 0.0]
    delta_filter.apply(delta, ENTRIES, net(name), last + 1)
    assert delta_filter.largest == 2.0


@pytest.mark.parametrize("name", NETS)
def test_a_minibatch_without_deltas_leaves_no_trace(name: str) -> None:
    delta_filter = DeltaFilter(largest=1.0, average=0.1)
    delta_filter.apply(torch.zeros(6), ENTRIES, net(name), 90)
    assert delta_filter == DeltaFilter(largest=1.0, average=0.1)


def test_without_max_batches_nothing_is_divided_by_0() -> None:
    delta = torch.tensor([0.5, -2.0, 0.0])
    everything = NetSpec(dialect=Dialect.ALEXEYAB, **NETS["all"])  # type: ignore[arg-type]
    DeltaFilter().apply(delta, ENTRIES, everything, 90)
    assert bool(delta.isfinite().all())


def test_updates_are_counted_as_done_when_all_their_subdivisions_are() -> None:
    of_four = NetSpec(batch=8, subdivisions=4)
    assert [TrainingState(of_four, seen).updates for seen in (2, 8, 10, 16, 18)] == [0, 0, 1, 1, 2]
