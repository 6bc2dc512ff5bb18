"""Batch norm folded, removed and added: the network's outputs stay the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from darkpy.build import Plan, make_plan
from darkpy.errors import WeightsError
from darkpy.export.batch_norm import denormalize, normalize, reset, rewrite_cfg
from darkpy.export.weight_tools import LoadedWeights, load_weights_file
from darkpy.files import write_atomic
from darkpy.layers.base import ArraySpec
from darkpy.network import Network

NET = "[net]\nwidth=6\nheight=6\nchannels=4\n"
LAYERS = {
    "convolutional": "[convolutional]\nfilters=6\nsize=3\npad=1\nactivation=leaky\n",
    "grouped": "[convolutional]\nfilters=6\nsize=3\npad=1\ngroups=2\nactivation=leaky\n",
    "deconvolutional": "[deconvolutional]\nfilters=3\nsize=3\nactivation=leaky\n",
    "connected": "[connected]\noutput=5\nactivation=leaky\n",
    "gru": "[gru]\noutput=5\n",
    "lstm": "[lstm]\noutput=5\n",
    "rnn": "[rnn]\noutput=5\n",
    "crnn": "[crnn]\nhidden_filters=3\noutput_filters=4\n",
    "conv_lstm": "[conv_lstm]\noutput=3\nsize=3\npad=1\n",
}
ON = "batch_normalize=1\n"


def dialect(layer: str) -> str:
    return "alexeyab" if layer == "conv_lstm" else "pjreddie"


def opened(folder: Path, plan: Plan) -> LoadedWeights:
    generator = torch.Generator().manual_seed(1)
    network = Network(plan)
    for node in plan.nodes:
        for array_spec in node.arrays:
            network.layers[node.index].put_array(array_spec, _numbers(array_spec, generator))  # type: ignore[operator]
    network.save_weights(folder / "in.weights")
    return load_weights_file(plan, folder / "in.weights")


def _numbers(array_spec: ArraySpec, generator: torch.Generator) -> torch.Tensor:
    array = torch.randn(array_spec.shape, generator=generator)
    return array.square() + 1e-3 if array_spec.name.endswith("variance") else array


@torch.no_grad()
def seen(network: Network) -> torch.Tensor:
    network.reset_state()
    return network.trace(torch.rand(2, *network.plan.input_shape, generator=torch.Generator().manual_seed(2)))[-1]


def read_back(plan: Plan, made: LoadedWeights, folder: Path) -> Network:
    write_atomic(folder / "out.weights", made.pack())
    network = Network(plan)
    network.load_weights(folder / "out.weights")
    return network


@pytest.mark.parametrize("layer", LAYERS)
def test_a_folded_file_is_one_for_the_cfg_without_batch_norm_and_sees_the_same(layer: str, tmp_path: Path) -> None:
    before = opened(tmp_path, make_plan(NET + LAYERS[layer] + ON, dialect(layer)))
    expected = seen(before.network)
    made = denormalize(before)
    network = read_back(make_plan(NET + LAYERS[layer], dialect(layer)), made, tmp_path)
    torch.testing.assert_close(seen(network), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_reset_file_keeps_batch_norm_that_does_nothing(layer: str, tmp_path: Path) -> None:
    plan = make_plan(NET + LAYERS[layer] + ON, dialect(layer))
    before = opened(tmp_path, plan)
    expected = seen(before.network)
    reset(before)
    network = read_back(plan, before, tmp_path)
    torch.testing.assert_close(seen(network), expected, rtol=1e-4, atol=1e-4)
    for name, array in network.state_dict().items():
        wants = {"scales": 1, "rolling_mean": 0, "rolling_variance": 1}.get(name.rpartition(".")[2])
        assert wants is None or bool((array == wants).all()), name


@pytest.mark.parametrize("layer", LAYERS)
def test_a_new_batch_norm_changes_nothing(layer: str, tmp_path: Path) -> None:
    before = opened(tmp_path, make_plan(NET + LAYERS[layer], dialect(layer)))
    expected = seen(before.network)
    network = read_back(make_plan(NET + LAYERS[layer] + ON, dialect(layer)), normalize(before), tmp_path)
    torch.testing.assert_close(seen(network), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tool", [denormalize, normalize])
def test_a_partial_file_stays_one(tool: Callable[[LoadedWeights], LoadedWeights], tmp_path: Path) -> None:
    plan = make_plan(NET + LAYERS["convolutional"] + ON + LAYERS["convolutional"] + LAYERS["connected"])
    whole = opened(tmp_path, plan).network
    whole.save_weights(tmp_path / "part", cutoff=2)
    made = tool(load_weights_file(plan, tmp_path / "part"))
    write_atomic(tmp_path / "out", made.pack())
    again = load_weights_file(made.plan, tmp_path / "out")
    assert again.cutoff == 2
    x_BCHW = torch.rand(2, *plan.input_shape, generator=torch.Generator().manual_seed(3))
    again.network.initialize()
    with torch.no_grad():
        expected, actual = (network.trace(x_BCHW)[1] for network in (whole, again.network))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_layers_that_share_weights_are_folded_once(tmp_path: Path) -> None:
    layer = LAYERS["convolutional"].replace("filters=6", "filters=4")
    cfg = NET + layer + ON + layer + ON + "share_index=0\n"
    before = opened(tmp_path, make_plan(cfg))
    expected = seen(before.network)
    network = read_back(make_plan(cfg.replace(ON, "")), denormalize(before), tmp_path)
    torch.testing.assert_close(seen(network), expected, rtol=1e-4, atol=1e-4)


def test_a_negative_variance_has_no_root_and_is_refused(tmp_path: Path) -> None:
    before = opened(tmp_path, make_plan(NET + LAYERS["convolutional"] + ON))
    before.network.layers[0].rolling_variance[2] = -1  # type: ignore[operator]
    with pytest.raises(WeightsError, match=r"layer 0 \[convolutional\].*variance is -1"):
        denormalize(before)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_cfg_changes_in_those_lines_alone(tmp_path: Path, end: str) -> None:
    on = "# mine\n" + NET + LAYERS["convolutional"] + " batch_normalize = 1 \n\n" + LAYERS["connected"] + "; end"
    off = on.replace(" batch_normalize = 1 ", "batch_normalize=0")
    everywhere = on.replace("[connected]\n", "[connected]\nbatch_normalize=1\n")
    path = tmp_path / "net.cfg"
    path.write_bytes(on.replace("\n", end).encode())
    before = opened(tmp_path, make_plan(path))
    actual = rewrite_cfg(path, before.plan, normalize(before).plan)
    assert actual.decode() == everywhere.replace("\n", end)
    actual = rewrite_cfg(path, before.plan, denormalize(before).plan)
    assert actual.decode() == off.replace("\n", end)
