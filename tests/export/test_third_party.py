"""State dicts of other programs: their array names, and the notes on them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from darkpy.build import make_plan
from darkpy.errors import WeightsError
from darkpy.export.convert import fill, open_source
from darkpy.export.state_dict import LoadResult
from darkpy.export.third_party import adjust_bn_epsilon
from darkpy.network import Network

NET = "[net]\nwidth=8\nheight=8\nchannels=3\n"
CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n"
HEAD = "[convolutional]\nfilters=14\nactivation=linear\n[yolo]\nmask=1,2\nanchors=1,2, 3,4, 5,6\nclasses=2\nnum=3\n"
CFG = NET + CONV + "batch_normalize=1\n[maxpool]\nstride=2\n" + HEAD

Namer = Callable[[int, str, str], str]
NAMES: dict[str, tuple[str, str, str]] = {  # before the layer's number, its convolution, its norm
    "ultralytics": ("module_list", "Conv2d", "BatchNorm2d"),
    "several GPUs": ("module.module_list", "Conv2d", "BatchNorm2d"),
    "PyTorch-YOLOv3": ("module_list", "conv_{}", "batch_norm_{}"),
    "pytorch-yolo2": ("models", "conv{}", "bn{}"),
}
ARRAYS = {
    "weights": "weight",
    "scales": "weight",
    "rolling_mean": "running_mean",
    "rolling_variance": "running_var",
}


def network(cfg: str = CFG) -> Network:
    made = Network(make_plan(cfg))
    generator = torch.Generator().manual_seed(3)
    for node in made.plan.nodes:
        for array_spec in node.arrays:
            made.layers[node.index].put_array(array_spec, torch.rand(array_spec.shape, generator=generator) + 0.1)  # type: ignore[operator]
    return made


def state(program: str, cfg: str = CFG) -> dict[str, torch.Tensor]:
    """State dict that the program would save of this network."""
    base, conv, norm = NAMES[program]
    actual: dict[str, torch.Tensor] = {}
    for node in network(cfg).plan.nodes:
        has_norm = any(array_spec.is_norm for array_spec in node.arrays)
        for array_spec in node.arrays:
            part = norm if array_spec.is_norm or (array_spec.name == "biases" and has_norm) else conv
            name = f"{base}.{node.index}.{part.format(node.index)}.{ARRAYS.get(array_spec.name, 'bias')}"
            actual[name] = network(cfg).layers[node.index].array(array_spec).detach()  # type: ignore[operator]
        if has_norm:
            actual[f"{base}.{node.index}.{norm.format(node.index)}.num_batches_tracked"] = torch.tensor(7)
    return actual


def filled(folder: Path, saved: object, cfg: str = CFG) -> tuple[Network, LoadResult]:
    path = folder / "x.pt"
    torch.save(saved, path)
    made = Network(make_plan(cfg))
    return made, fill(open_source(path), made)


def assert_same(made: Network, cfg: str = CFG) -> None:
    for name, tensor in network(cfg).state_dict().items():
        assert torch.equal(made.state_dict()[name], tensor), name


@pytest.mark.parametrize("program", NAMES)
def test_every_array_finds_its_place(program: str, tmp_path: Path) -> None:
    made, actual = filled(tmp_path, state(program))
    assert_same(made)
    assert actual.cutoff is None and any("`seen` counts from 0" in note for note in actual.notes)


@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_a_checkpoint_with_numpys_numbers_is_read_without_running_anything(wrapper: str, tmp_path: Path) -> None:
    saved = {"epoch": 3, "best_fitness": np.array([0.5]), "loss": np.float64(2), wrapper: state("ultralytics")}
    assert_same(filled(tmp_path, saved)[0])


def test_the_older_form_of_a_file_is_read_too(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"model": state("ultralytics")}, stream, _use_new_zipfile_serialization=False)
    (tmp_path / "old.pt").write_bytes(stream.getvalue())
    made = Network(make_plan(CFG))
    fill(open_source(tmp_path / "old.pt"), made)
    assert_same(made)


@pytest.mark.parametrize(("program", "is_noted"), [("ultralytics", True), ("PyTorch-YOLOv3", False)])
def test_another_epsilon_is_reported_and_can_be_corrected(program: str, is_noted: bool, tmp_path: Path) -> None:
    made, actual = filled(tmp_path, state(program))
    assert any("--bn-eps 1e-4" in note for note in actual.notes) is is_noted
    layer = made.layers[0]
    x_BCHW = torch.rand(1, 3, 8, 8)
    statistics = (layer.rolling_mean, layer.rolling_variance, layer.scales, layer.biases)
    with torch.no_grad():
        y_BCHW = torch.nn.functional.conv2d(x_BCHW, layer.weights, padding=1)  # type: ignore[arg-type]
        y_BCHW = torch.nn.functional.batch_norm(y_BCHW, *(array.clone() for array in statistics), eps=1e-2)  # type: ignore[arg-type,operator,misc]
        adjust_bn_epsilon(made, 1e-2)
        torch.testing.assert_close(layer(x_BCHW), torch.nn.functional.leaky_relu(y_BCHW, 0.1), rtol=1e-5, atol=1e-5)


def test_anchors_of_the_file_are_compared_with_the_cfgs(tmp_path: Path) -> None:
    saved = state("PyTorch-YOLOv3")
    saved["module_list.3.yolo_3.anchors"] = torch.tensor([[3.0, 4], [5, 6]])
    saved["module_list.3.yolo_3.anchor_grid"] = torch.tensor([[3.0, 4], [5, 6]]).view(1, -1, 1, 1, 2)
    assert not any("the anchors" in note for note in filled(tmp_path, saved)[1].notes)
    saved["module_list.3.yolo_3.anchors"][0, 0] = 9
    (told,) = (note for note in filled(tmp_path, saved)[1].notes if "the anchors" in note)
    assert "layer 3 [yolo]" in told and "[9.0, 4.0, 5.0, 6.0], the cfg [3.0, 4.0, 5.0, 6.0]" in told


@pytest.mark.parametrize(
    ("program", "is_noted"), [("ultralytics", True), ("PyTorch-YOLOv3", True), ("pytorch-yolo2", False)]
)
def test_pools_padded_with_zeros_are_reported(program: str, is_noted: bool, tmp_path: Path) -> None:
    cfg = CFG.replace("[maxpool]\nstride=2\n", "[maxpool]\nsize=2\nstride=1\n")
    _, actual = filled(tmp_path, state(program, cfg), cfg)
    assert any("layer 1 [maxpool]" in note for note in actual.notes) is is_noted


def test_folded_batch_norm_is_for_a_cfg_without(tmp_path: Path) -> None:
    plain = CFG.replace("batch_normalize=1\n", "")
    saved = {re.sub(r"0\.Conv2d", "0.0", name): array for name, array in state("ultralytics", plain).items()}
    made, actual = filled(tmp_path, saved, plain)
    assert_same(made, plain)
    assert not any("--bn-eps" in note for note in actual.notes)
    with pytest.raises(WeightsError, match=r"layer 0 \[convolutional\]") as caught:
        filled(tmp_path, saved)
    assert "batch norm seems to be folded" in str(caught.value)


def test_a_partial_state_dict_is_a_partial_file(tmp_path: Path) -> None:
    saved = {name: array for name, array in state("ultralytics").items() if ".0." in name}
    with pytest.raises(WeightsError, match="partial file: it ends before layer 2"):
        filled(tmp_path, saved)


def damaged(what: str) -> dict[str, torch.Tensor]:
    saved = state("ultralytics")
    match what:
        case "another layer":
            saved["module_list.5.Conv2d.weight"] = torch.zeros(1)
        case "fusion":
            saved["module_list.1.w"] = torch.zeros(2)
        case "missing":
            del saved["module_list.0.BatchNorm2d.running_var"]
        case "shape":
            saved["module_list.0.Conv2d.weight"] = torch.zeros(4, 3, 1, 1)
        case "type":
            saved["module_list.0.Conv2d.weight"] = torch.zeros(4, 3, 3, 3, dtype=torch.int64)
        case "nan":
            saved["module_list.0.Conv2d.weight"][0, 0, 0, 0] = torch.nan
        case "twice":
            saved["module_list.0.Conv2d.bias"] = torch.zeros(4)
        case "another array":
            saved["module_list.0.Conv2d.bias_mask"] = torch.zeros(4)
        case "same number":
            saved["module_list.00.Conv2d.weight"] = torch.zeros(4, 3, 3, 3)
    return saved


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("another layer", r"holds layers\.5\.weights"),
        ("fusion", r"module_list\.1\.w is not an array of a darknet network"),
        ("missing", r"no layers\.0\.rolling_variance"),
        ("shape", r"is \(4, 3, 1, 1\), layer 0"),
        ("type", "is int64"),
        ("nan", "holds NaN"),
        ("twice", r"BatchNorm2d\.bias and .*Conv2d\.bias are the same array|Conv2d\.bias and .*BatchNorm2d\.bias"),
        ("another array", r"module_list\.0\.Conv2d\.bias_mask is not an array"),
        ("same number", "are the same array"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(what: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message):
        filled(tmp_path, damaged(what))
