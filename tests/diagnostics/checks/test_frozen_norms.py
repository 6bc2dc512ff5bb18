"""Batch norm that is frozen at the statistics of a new layer divides by nearly 0."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from darkpy.build import make_plan
from darkpy.diagnostics.checks.weights import check_frozen_norms
from darkpy.errors import DarkpyError
from darkpy.network import Network
from darkpy.training_run import train
from tests.diagnostics.conftest import Case

NET = "[net]\nwidth=8\nheight=8\nchannels=3\n{net}\n"
LAYER = "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=1\nactivation=leaky\n{keys}\n"


@pytest.mark.parametrize("mode", ["stats", "all"])
@pytest.mark.parametrize("place", ["net", "keys"])
def test_frozen_statistics_of_a_new_layer_are_found_and_filled_ones_are_not(mode: str, place: str) -> None:
    texts = {"net": "", "keys": "", place: f"bn_freeze={mode}"}
    plan = make_plan(NET.format(**texts) + LAYER.format(**texts) * 2)
    network = Network(plan)
    network.initialize()
    for examined in (None, network):
        (finding,) = check_frozen_norms(plan, examined)
        assert (finding.name, finding.severity.value, finding.location.index) == ("frozen-norm-empty", "error", 0)
        assert "so have 2 layers" in finding.message
    for _, buffer in network.named_buffers():
        buffer.fill_(1.0)
    assert list(check_frozen_norms(plan, network)) == []


@pytest.mark.parametrize("mode", ["none", "affine"])
def test_other_freezing_needs_no_weights(mode: str) -> None:
    assert list(check_frozen_norms(make_plan(NET.format(net=f"bn_freeze={mode}") + LAYER.format(keys="")), None)) == []


def test_stopbackward_freezes_all_layers_before_it_in_the_alexeyab_dialect() -> None:
    text = NET.format(net="") + LAYER.format(keys="") * 2 + LAYER.format(keys="stopbackward=1")
    (finding,) = check_frozen_norms(make_plan(text, "alexeyab"), None)
    assert finding.location.index == 0 and "stopbackward=" in finding.message
    assert list(check_frozen_norms(make_plan(text, "pjreddie"), None)) == []


def test_training_does_not_start(case: Case, tmp_path: Path) -> None:
    case.edit("sample.cfg", "momentum=", "bn_freeze=all\nmomentum=")
    assert [finding.name for finding in case.findings()] == ["frozen-norm-empty"]
    torch.manual_seed(0)
    with pytest.raises(DarkpyError, match="freezes at the statistics of a new layer"):
        train(case.cfg, case.data)
