"""[softmax] beyond the goldens: pixels, and trees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.build import make_plan
from darkpy.errors import ConfigError, DarkpyError
from darkpy.layers.loss import MASKED_TRUTH, TrainingState
from darkpy.network import Network

NET = "[net]\nwidth=3\nheight=2\nchannels=8\n"
VECTOR = "[net]\ninputs=8\n"
ANIMALS = "animal -1\nthing -1\ncat 0\ndog 0\nchair 1\nterrier 3\npoodle 3\ncorgi 3\n"
SIZES = [2, 2, 1, 3]


def softmax(cfg: str, keys: str) -> Network:
    return Network(make_plan(f"{cfg}[softmax]\n{keys}"))


def test_groups_are_equal_parts_of_the_flat_input() -> None:
    x_BCHW = torch.randn(2, 8, 2, 3) * 50
    (actual,) = softmax(NET, "groups=6\ntemperature=2.5\n")(x_BCHW)
    assert actual.shape == x_BCHW.shape
    expected = torch.softmax(x_BCHW.reshape(2, 6, 8) / 2.5, 2)
    torch.testing.assert_close(actual.reshape(2, 6, 8), expected)


def test_spatial_is_over_the_channels_of_each_pixel_of_each_image() -> None:
    x_BCHW = torch.randn(2, 8, 2, 3)
    (actual,) = softmax(NET, "spatial=1\ntemperature=3\n")(x_BCHW)
    torch.testing.assert_close(actual, torch.softmax(x_BCHW, 1))


def test_inputs_that_do_not_split_are_refused() -> None:
    with pytest.raises(ConfigError, match="8 inputs cannot be split into groups=3"):
        softmax(VECTOR, "groups=3\n")


def test_temperature_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="temperature=0 is below"):
        softmax(VECTOR, "temperature=0\n")


def test_a_tree_gives_each_group_of_siblings_its_softmax(tmp_path: Path) -> None:
    (tmp_path / "some.tree").write_text(ANIMALS)
    x_BN = torch.randn(4, 8)
    (actual,) = softmax(VECTOR, f"tree={tmp_path}/some.tree\ntemperature=2\n")(x_BN)
    expected = torch.cat([torch.softmax(part / 2, 1) for part in x_BN.split_with_sizes(SIZES, 1)], 1)
    torch.testing.assert_close(actual.flatten(1), expected)


@pytest.mark.parametrize("place", ["work", "cfg"])
def test_a_tree_lies_in_the_working_directory_or_beside_the_cfg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    for folder in ("work/data", "cfg/data"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    cfg = tmp_path / "cfg" / "some.cfg"
    cfg.write_text(f"{VECTOR}[softmax]\ntree=data/some.tree\n")
    (tmp_path / place / "data" / "some.tree").write_text(ANIMALS)
    assert darkpy.load(cfg)(torch.zeros(1, 8))[0].flatten().tolist()[:2] == [0.5, 0.5]


def test_the_working_directorys_tree_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    cfg = tmp_path / "some.cfg"
    cfg.write_text(f"{VECTOR}[softmax]\ntree=some.tree\n")
    (tmp_path / "some.tree").write_text("no tree\n")
    (tmp_path / "work" / "some.tree").write_text(ANIMALS)
    darkpy.load(cfg)


def test_a_plan_needs_no_tree_and_a_network_says_which_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_plan(f"{VECTOR}[softmax]\ntree=data/9k.tree\n")
    assert plan.nodes[0].shape == (8, 1, 1)
    with pytest.raises(DarkpyError, match=r"data/9k\.tree: cannot be read: No such file"):
        Network(plan)


def test_a_path_that_no_system_takes_is_a_fault_like_any_other() -> None:
    with pytest.raises(DarkpyError, match="cannot be read"):
        softmax(VECTOR, f"tree={'x' * 5000}\n")


def test_a_tree_of_other_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.tree").write_text("one -1\ntwo -1\n")
    with pytest.raises(DarkpyError, match=r"has 2 classes, \[softmax\] reads 8 values"):
        softmax(VECTOR, f"tree={tmp_path}/some.tree\n")


def test_groups_without_a_true_class_learn_nothing(tmp_path: Path) -> None:
    (tmp_path / "some.tree").write_text(ANIMALS)
    network = softmax(VECTOR, f"tree={tmp_path}/some.tree\n")
    x_BN = torch.randn(1, 8)
    (output_BCHW,) = network(x_BN)
    # classes animal and dog are true, the breed is unknown
    truth_BN = torch.tensor([[1.0, 0, 0, 1, MASKED_TRUTH, MASKED_TRUTH, MASKED_TRUTH, MASKED_TRUTH]])
    (spec,) = network.loss_specs
    loss = spec.loss(x_BN[..., None, None], output_BCHW, truth_BN, TrainingState(network.plan.net, 1))
    prob_N = output_BCHW.flatten()
    torch.testing.assert_close(loss.delta.flatten(), torch.cat((truth_BN[0, :4] - prob_N[:4], torch.zeros(4))))
    torch.testing.assert_close(loss.cost, -prob_N[[0, 3]].log().sum())


def test_a_truth_in_part_costs_as_much_as_a_whole_one_and_temperature_leaves_the_delta_alone() -> None:
    network = softmax(VECTOR, "temperature=2\n")
    x_BN, truth_BN = torch.randn(2, 8), torch.tensor([[0.25, 0.75, 0, 0, 0, 0, 0, 0]]).repeat(2, 1)
    (output_BCHW,) = network(x_BN)
    loss = network.loss_specs[0].loss(x_BN[..., None, None], output_BCHW, truth_BN, TrainingState(network.plan.net, 2))
    assert torch.equal(loss.input_delta.flatten(1), truth_BN - output_BCHW.flatten(1))
    torch.testing.assert_close(loss.cost, -output_BCHW.flatten(1)[:, :2].log().sum())


@pytest.mark.parametrize("keys", ["noloss=1\n", "onlyforward=1\n"])
def test_noloss_and_onlyforward_take_it_out_of_training(keys: str) -> None:
    assert softmax(VECTOR, keys).loss_specs == []
