"""Weights of one darknet for the other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from darkpy.build import Plan, make_plan
from darkpy.dialect import Dialect
from darkpy.errors import WeightsError
from darkpy.export.dialects import plan_for_dialect, transfer
from darkpy.network import Network
from darkpy.weightfile import Header

PJ, AX = Dialect.PJREDDIE, Dialect.ALEXEYAB
NET = "[net]\nwidth=4\nheight=4\nchannels=3\ntime_steps=2\nbatch=2\n"
CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\nbatch_normalize=1\n"


def made(cfg: str, dialect: Dialect, has_zeros: bool = False) -> Network:
    network = Network(make_plan(cfg, dialect))
    generator = torch.Generator().manual_seed(1)
    for node in network.plan.nodes:
        for array_spec in node.arrays:
            array = torch.rand(array_spec.shape, generator=generator) + 0.1
            is_zero = has_zeros and array_spec.name == "biases"
            network.layers[node.index].put_array(array_spec, torch.zeros(array_spec.shape) if is_zero else array)  # type: ignore[operator]
    network.header = Header(2000, 1, 0, 77)
    return network


def other(network: Network, cfg: str) -> Plan:
    return plan_for_dialect(cfg, network.plan, AX if network.plan.dialect is PJ else PJ)


def carried(network: Network, cfg: str) -> tuple[Network, list[str]]:
    return transfer(network, None, other(network, cfg))


@pytest.mark.parametrize("dialect", [PJ, AX])
@pytest.mark.parametrize("layer", ["[gru]\noutput=3\n", "[lstm]\noutput=3\n"])
def test_recurrent_arrays_change_places_in_the_file_and_compute_the_same(
    layer: str, dialect: Dialect, tmp_path: Path
) -> None:
    cfg = NET + layer
    network = made(cfg, dialect)
    actual, notes = carried(network, cfg)
    assert notes == []
    assert actual.header == Header(0, 2, 0 if dialect is AX else 5, 77)
    network.header = actual.header
    network.save_weights(tmp_path / "mine")
    actual.save_weights(tmp_path / "theirs")
    mine, theirs = (tmp_path / "mine").read_bytes(), (tmp_path / "theirs").read_bytes()
    assert len(mine) == len(theirs) and mine != theirs
    back, _ = transfer(actual, None, network.plan)
    back.save_weights(tmp_path / "back")
    assert (tmp_path / "back").read_bytes()[20:] == mine[20:]


@pytest.mark.parametrize("dialect", [PJ, AX])
def test_layers_that_both_have_keep_their_bytes(dialect: Dialect, tmp_path: Path) -> None:
    cfg = (
        NET
        + CONV
        + "[maxpool]\nsize=2\nstride=2\n"
        + "[connected]\noutput=3\nbatch_normalize=1\n"
        + "[local]\nsize=1\n"
    )
    network = made(cfg, dialect)
    actual, notes = carried(network, cfg)
    assert notes == []
    network.header = actual.header
    network.save_weights(tmp_path / "mine")
    actual.save_weights(tmp_path / "theirs")
    assert (tmp_path / "mine").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_biases_that_one_dialect_lacks_are_dropped_only_where_they_are_0() -> None:
    cfg = NET + "[batchnorm]\n"
    actual, notes = carried(made(cfg, PJ), cfg)
    assert notes == [] and not actual.layers[0].get_parameter("biases").any()
    assert carried(made(cfg, AX, has_zeros=True), cfg)[1] == []
    with pytest.raises(WeightsError, match=r"layer 0 \[batchnorm\].*no array for its biases"):
        carried(made(cfg, AX), cfg)


@pytest.mark.parametrize(
    ("cfg", "dialect", "message"),
    [
        (NET + "[deconvolutional]\n", PJ, r"\[deconvolutional\] is not a section of dialect alexeyab"),
        (NET + "[sam]\nfrom=-1\n", AX, ""),
        (
            NET + CONV + CONV + "[shortcut]\nfrom=-2\nweights_type=per_feature\n",
            AX,
            "layer 2 .*no array for its weights",
        ),
        (
            NET + CONV.replace("filters=4", "filters=3") + CONV.replace("filters=4", "filters=3") + "share_index=0\n",
            AX,
            "layer 1 .*needs",
        ),
        (NET + "[rnn]\noutput=3\nhidden=2\n", AX, "layer 0"),
        (NET + CONV.replace("batch_normalize", "layer_normalize"), PJ, "no darknet has layer_normalize"),
    ],
    ids=["section", "sam", "weighted shortcut", "shared", "state", "remedy"],
)
def test_what_has_no_place_there_is_refused_by_name(cfg: str, dialect: Dialect, message: str) -> None:
    if "[sam]" in cfg:
        cfg = NET + CONV.replace("filters=4", "filters=3") * 2 + "[sam]\nfrom=-2\n"
        message = r"\[sam\] is not a section of dialect pjreddie"
    with pytest.raises(WeightsError, match=message):
        carried(made(cfg, dialect), cfg)


def test_keys_that_only_one_dialect_reads_are_reported_and_so_is_their_effect() -> None:
    cfg = NET + CONV + "dilation=1\nantialiasing=0\nclip=3\n" + CONV.replace("pad=1", "pad=1\ndilation=2")
    _, notes = carried(made(cfg, AX), cfg)
    assert "[convolutional] clip is 3.0 for alexeyab's darknet and 0.0 for pjreddie's: layers 0" in notes
    assert "[convolutional] dilation is 2 for alexeyab's darknet and 1 for pjreddie's: layers 1" in notes
    assert any("compute different outputs" in note for note in notes)


def test_a_partial_network_stays_one() -> None:
    cfg = NET + CONV + CONV
    network = Network(make_plan(cfg, PJ))
    for array_spec in network.plan.nodes[0].arrays:
        network.layers[0].put_array(array_spec, torch.ones(array_spec.shape))  # type: ignore[operator]
    actual, _ = transfer(network, 1, other(network, cfg))
    assert not actual.layers[0].get_parameter("weights").is_meta and actual.layers[1].get_parameter("weights").is_meta
