"""The first layer that differs is the one where the difference was made, for all kinds of files."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import darkpy
from darkpy.errors import DarkpyError, ShapeError
from darkpy.evaluation import compare as engine
from darkpy.evaluation.compare import compare, random_input, trace
from darkpy.evaluation.detect import read_input
from darkpy.evaluation.dump import write_dump
from darkpy.export.onnx_files import pack_onnx
from darkpy.export.onnx_graph import OnnxOptions
from darkpy.export.state_dict import WeightsMetadata
from darkpy.network import Network

GOLDEN = Path(__file__).parents[1] / "golden" / "networks"

CFG = """[net]
width=32
height=32
channels=3
[convolutional]
batch_normalize=1
filters=8
size=3
pad=1
activation=leaky
[maxpool]
size=2
stride=1
[convolutional]
filters=18
activation=linear
[yolo]
mask=0,1,2
anchors=3,4, 5,6, 7,8
classes=1
num=3
[route]
layers=1
[convolutional]
filters=18
size=2
stride=2
activation=linear
[yolo]
mask=0,1,2
anchors=3,4, 5,6, 7,8
classes=1
num=3
"""
LAYERS = 7


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.cfg"
    path.write_text(CFG)
    return path


@pytest.fixture
def network(cfg: Path) -> Network:
    torch.manual_seed(0)
    return darkpy.load(cfg)


@pytest.fixture
def dump(tmp_path: Path, network: Network) -> Path:
    x_BCHW = random_input(network, 0)
    write_dump(tmp_path / "tiny.npz", x_BCHW, trace(network, x_BCHW))
    return tmp_path / "tiny.npz"


def edit(dump: Path, **changes: Any) -> Path:
    """The dump with other arrays; None leaves one out."""
    with np.load(dump) as arrays:
        kept = dict(arrays) | changes
    np.savez(dump, **{name: array for name, array in kept.items() if array is not None})
    return dump


def plant(dump: Path, index: int, amount: float, at: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Path:
    with np.load(dump) as arrays:
        array = arrays[f"layer{index}"]
    array[at] += amount
    return edit(dump, **{f"layer{index}": array})


@pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
@pytest.mark.parametrize("case", ["alexeyab/residual-chain", "alexeyab/maxpool-2-1-13x13", "pjreddie/conv-bn"])
def test_what_darknet_computed_agrees(case: str, tmp_path: Path) -> None:
    with np.load(GOLDEN / f"{case}.npz") as golden:
        (tmp_path / "net.cfg").write_bytes(golden["cfg"].tobytes())
        (tmp_path / "net.weights").write_bytes(golden["weights"].tobytes())
        layers = {name.replace("test", "layer"): golden[name] for name in golden.files if name.startswith("test")}
        np.savez(tmp_path / "net.npz", x=golden["x"].reshape(len(golden["x"]), -1), **layers)
    network = darkpy.load(tmp_path / "net.cfg", tmp_path / "net.weights", dialect=case.split("/")[0])
    comparison = compare(network, tmp_path / "net.npz")
    assert comparison.first is None and len(comparison.rows) == len(layers) >= 3


def test_a_network_agrees_with_its_own_dump(network: Network, dump: Path) -> None:
    comparison = compare(network, dump)
    assert [row.index for row in comparison.rows] == list(range(LAYERS))
    assert comparison.first is None and comparison.place is None and comparison.cause is None and not comparison.notes
    assert max(row.difference for row in comparison.rows) == 0


@pytest.mark.parametrize("index", range(LAYERS))
def test_a_difference_in_one_layer_of_a_dump_is_found_there(network: Network, dump: Path, index: int) -> None:
    comparison = compare(network, plant(dump, index, 0.5, at=(0, 3, 2, 1)))
    assert [row.index for row in comparison.rows if row.departs] == [index]
    assert comparison.first is not None and comparison.first.difference == pytest.approx(0.5)
    assert comparison.first.at == (0, 3, 2, 1)
    assert comparison.place == network.plan.place(index)


def test_of_several_layers_the_first_is_named(network: Network, dump: Path) -> None:
    comparison = compare(network, plant(plant(dump, 5, 1), 2, 0.1))
    assert comparison.first is not None and comparison.first.index == 2


def test_a_difference_counts_by_the_size_of_the_layers_numbers(network: Network, dump: Path) -> None:
    largest = compare(network, dump).rows[2].largest
    assert compare(network, plant(dump, 2, 0.8e-5 * largest)).first is None
    assert compare(network, dump, tolerance=1e-7).first is not None
    assert compare(network, plant(dump, 2, 0.8e-5 * largest)).first is not None


def test_what_is_not_a_number_on_one_side_only_departs(network: Network, dump: Path) -> None:
    comparison = compare(network, plant(dump, 4, math.nan))
    assert comparison.first is not None and comparison.first.index == 4 and comparison.first.difference == math.inf


def test_the_same_infinity_on_both_sides_agrees() -> None:
    ours = torch.tensor([math.inf, -math.inf, math.nan, 1.0]).reshape(1, 4, 1, 1)
    row = engine._difference(0, "linear", ours, ours.clone(), 1e-5)
    assert not row.departs and row.difference == 0 and row.largest == 1
    assert engine._difference(0, "linear", ours, -ours, 1e-5).difference == math.inf


@pytest.mark.parametrize(("index", "words"), [(0, "epsilon"), (1, "minus infinity"), (3, "scale_x_y"), (2, None)])
def test_the_usual_cause_belongs_to_the_kind_of_layer(
    network: Network, dump: Path, index: int, words: str | None
) -> None:
    cause = compare(network, plant(dump, index, 1)).cause
    assert cause is None if words is None else words in (cause or "")


def test_another_image_departs_at_the_input(network: Network, dump: Path) -> None:
    comparison = compare(network, dump, random_input(network, 1))
    assert comparison.first is not None and comparison.first.index == -1
    assert comparison.place == "the network's input" and "letterboxing" in (comparison.cause or "")


def test_the_image_of_the_dump_agrees_at_the_input(tmp_path: Path, network: Network) -> None:
    Image.new("RGB", (40, 20), (250, 120, 10)).save(tmp_path / "a.png")
    _, x_BCHW = read_input(network, tmp_path / "a.png", letterbox=True)
    write_dump(tmp_path / "a.npz", x_BCHW, trace(network, x_BCHW))
    assert compare(network, tmp_path / "a.npz", x_BCHW).first is None
    _, stretched_BCHW = read_input(network, tmp_path / "a.png", letterbox=False)
    assert compare(network, tmp_path / "a.npz", stretched_BCHW).place == "the network's input"


def test_a_dump_without_input_needs_the_image(network: Network, dump: Path) -> None:
    edit(dump, x=None)
    with pytest.raises(DarkpyError, match="does not hold the network's input x") as caught:
        compare(network, dump)
    assert "image" in (caught.value.hint or "")
    assert compare(network, dump, random_input(network, 0)).first is None


def test_missing_and_strange_arrays_are_named(network: Network, dump: Path) -> None:
    comparison = compare(network, edit(dump, layer1=None, layer4=None, layer99=np.zeros(3), boxes=np.zeros(3)))
    assert [row.index for row in comparison.rows] == [0, 2, 3, 5, 6]
    assert "does not hold layer1, layer4" in comparison.notes[0]
    assert "has no layer99, boxes" in comparison.notes[1]


def test_a_dump_of_nothing_known_is_refused(network: Network, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros(3), other=np.zeros(3))
    with pytest.raises(DarkpyError, match="holds no layer of"):
        compare(network, tmp_path / "d.npz")


def test_a_batch_is_compared_image_by_image(tmp_path: Path, network: Network) -> None:
    x_BCHW = torch.cat([random_input(network, seed) for seed in range(3)])
    write_dump(tmp_path / "d.npz", x_BCHW, trace(network, x_BCHW))
    comparison = compare(network, plant(tmp_path / "d.npz", 2, 1, at=(2, 5, 4, 3)))
    assert comparison.first is not None and comparison.first.at == (2, 5, 4, 3)


def test_recurrent_layers_start_anew_each_time(tmp_path: Path) -> None:
    network = darkpy.load("[net]\ninputs=6\ntime_steps=2\n[gru]\noutput=5\n", dialect="pjreddie")
    x_BCHW = torch.rand(2, 6, 1, 1)
    write_dump(tmp_path / "d.npz", x_BCHW, trace(network, x_BCHW))
    assert compare(network, tmp_path / "d.npz").first is None


def test_outputs_beyond_the_limit_are_refused_before_the_network_runs(
    network: Network, dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MAX_TRACE_VALUES", 1000)
    with pytest.raises(ShapeError, match=r"take 0\.0 GiB"):
        compare(network, dump)


def test_the_same_weights_agree(network: Network, tmp_path: Path) -> None:
    network.save_weights(tmp_path / "a.weights")
    comparison = compare(network, tmp_path / "a.weights")
    assert comparison.first is None and len(comparison.rows) == LAYERS


@pytest.mark.parametrize(("index", "array"), [(0, "scales"), (2, "biases"), (5, "weights")])
def test_other_weights_depart_where_they_differ(network: Network, tmp_path: Path, index: int, array: str) -> None:
    network.save_weights(tmp_path / "a.weights")
    with torch.no_grad():
        getattr(network.layers[index], array).add_(0.1)
    comparison = compare(network, tmp_path / "a.weights")
    assert comparison.place == network.plan.place(index)
    assert comparison.cause == f"its {array}: not the same in the two weight files"


def test_another_cfg_departs_at_the_layer_that_is_changed(network: Network, tmp_path: Path) -> None:
    network.save_weights(tmp_path / "a.weights")
    other = darkpy.plan(CFG.replace("leaky", "relu"))
    comparison = compare(network, tmp_path / "a.weights", other=other)
    assert comparison.first is not None and comparison.first.index == 0
    assert comparison.cause == "its activation=: not the same in the two cfgs"


def test_a_cfg_with_other_shapes_is_refused_at_the_layer(network: Network, tmp_path: Path) -> None:
    network.save_weights(tmp_path / "a.weights")
    other = darkpy.plan(CFG.replace("size=2\nstride=1", "size=2\nstride=1\npadding=0"))
    with pytest.raises(ShapeError, match=r"layer 1 \[maxpool\] .* is 32 x 32 x 8, but layer 1 .* is 31 x 31 x 8"):
        compare(network, tmp_path / "a.weights", other=other)


def test_a_second_cfg_belongs_to_weights_only(network: Network, dump: Path) -> None:
    with pytest.raises(DarkpyError, match=r"cannot be used: .*tiny\.npz is not a weight file"):
        compare(network, dump, other=darkpy.plan(CFG))


def test_weights_of_another_network_are_refused(network: Network, tmp_path: Path) -> None:
    darkpy.load(CFG.replace("filters=8", "filters=4")).save_weights(tmp_path / "a.weights")
    with pytest.raises(DarkpyError, match="too short"):
        compare(network, tmp_path / "a.weights")


def export(network: Network, path: Path, layers: tuple[int, ...], names: tuple[str, ...]) -> Path:
    """An ONNX file whose outputs are the given layers'."""
    chosen = copy.deepcopy(network)
    chosen.outputs = layers
    model = onnx.load_from_string(b"".join(pack_onnx(chosen, WeightsMetadata(), OnnxOptions())))
    called = {f"layer{layer}": name for layer, name in zip(layers, names, strict=True)}
    for node in model.graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [called.get(tensor, tensor) for tensor in tensors]
    for output in model.graph.output:
        output.name = called[output.name]
    onnx.save(model, path)
    return path


class TestOnnx:
    """Outputs of an exported file in ONNX Runtime."""

    def test_the_heads_outputs_are_known_by_their_shape(self, network: Network, tmp_path: Path) -> None:
        comparison = compare(network, export(network, tmp_path / "a.onnx", (6, 3), ("small", "large")))
        assert comparison.first is None
        assert [row.index for row in comparison.rows] == [3, 6]
        assert comparison.notes[0] == f"output 'large' was taken for {network.plan.place(3)}"

    def test_inputs_of_heads_are_told_from_their_outputs(self, network: Network, tmp_path: Path) -> None:
        comparison = compare(network, export(network, tmp_path / "a.onnx", (2, 5), ("a", "b")))
        assert comparison.first is None
        assert [row.index for row in comparison.rows] == [2, 5]

    def test_outputs_named_after_layers_are_these_layers(self, network: Network, tmp_path: Path) -> None:
        names = tuple(f"layer{index}" for index in range(LAYERS))
        path = export(network, tmp_path / "a.onnx", tuple(range(LAYERS)), names)
        with torch.no_grad():
            network.get_parameter("layers.2.biases").add_(0.1)
        comparison = compare(network, path)
        assert len(comparison.rows) == LAYERS
        assert comparison.first is not None and comparison.first.index == 2

    def test_outputs_of_unknown_shape_are_named(self, network: Network, tmp_path: Path) -> None:
        comparison = compare(network, export(network, tmp_path / "a.onnx", (3, 1), ("head", "inner")))
        assert comparison.first is None and "inner" in comparison.notes[-1]
        with pytest.raises(ShapeError, match=r"no output has the shape of a head's output: inner \(1, 8, 32, 32\)"):
            compare(network, export(network, tmp_path / "b.onnx", (1,), ("inner",)))

    def test_a_broken_file_is_one_clear_error(self, network: Network, tmp_path: Path) -> None:
        (tmp_path / "a.onnx").write_bytes(b"nothing of the kind")
        with pytest.raises(DarkpyError, match=r"a\.onnx: ONNX Runtime cannot run it") as caught:
            compare(network, tmp_path / "a.onnx")
        assert "\n" not in caught.value.message

    def test_a_file_for_another_size_is_one_clear_error(self, network: Network, tmp_path: Path) -> None:
        path = export(network, tmp_path / "a.onnx", (3,), ("head",))
        other = darkpy.load(CFG.replace("width=32", "width=64"))
        with pytest.raises(DarkpyError, match=r"ONNX Runtime cannot run it.*64.*32"):
            compare(other, path)


def test_without_onnx_runtime_the_message_says_what_to_install(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DarkpyError, match="needs onnxruntime") as caught:
        compare(network, tmp_path / "a.onnx")
    assert caught.value.hint == "pip install onnxruntime"
