"""A weight file in, another one for the same cfg out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.build import Plan, make_plan
from darkpy.errors import DarkpyError
from darkpy.export.weight_tools import (
    BOX_ENTRIES,
    ONEOFF_ANCHORS,
    LoadedWeights,
    average,
    copy_classes,
    keep_first,
    load_weights_file,
    swap_red_and_blue,
    take_unit_inputs,
)
from darkpy.files import write_atomic
from darkpy.network import Network
from darkpy.weightfile import Header, read_header

NET = "[net]\nwidth=6\nheight=6\nchannels=3\n"
CONV = "[convolutional]\nfilters=4\nsize=3\nactivation=leaky\n"
NORMED = CONV + "batch_normalize=1\n"
CFG = NET + NORMED + "[maxpool]\nstride=2\n" + "[convolutional]\nfilters=2\nactivation=linear\n"


def made(cfg: str, seed: int = 0) -> Network:
    """A network with random values in all arrays, statistics included."""
    network = Network(make_plan(cfg))
    generator = torch.Generator().manual_seed(seed)
    for node in network.plan.nodes:
        for array_spec in node.arrays:
            network.layers[node.index].put_array(array_spec, torch.rand(array_spec.shape, generator=generator) + 0.1)  # type: ignore[operator]
    return network


def saved(folder: Path, cfg: str, seed: int = 0, header: Header | None = None, cutoff: int | None = None) -> Path:
    network = made(cfg, seed)
    network.header = header or Header(0, 2, 0, 640)
    path = folder / f"{seed}.weights"
    network.save_weights(path, cutoff=cutoff)
    return path


def opened(folder: Path, cfg: str, cutoff: int | None = None) -> LoadedWeights:
    return load_weights_file(make_plan(cfg), saved(folder, cfg, cutoff=cutoff))


def written(made: LoadedWeights, folder: Path) -> Path:
    path = folder / "out.weights"
    write_atomic(path, made.pack())
    return path


def state(cfg: str | Plan, path: Path) -> dict[str, torch.Tensor]:
    network = Network(cfg if isinstance(cfg, Plan) else make_plan(cfg))
    network.load_weights(path, allow_partial=True)
    return network.state_dict()


@pytest.mark.parametrize("header", [Header(0, 1, 0, 640), Header(0, 2, 0, 640), Header(0, 2, 5, 640)])
def test_a_written_file_has_todays_header_and_the_old_count(tmp_path: Path, header: Header) -> None:
    path = saved(tmp_path, CFG, header=header)
    assert read_header(written(load_weights_file(make_plan(CFG), path), tmp_path))[0] == Header(0, 2, 0, 640)
    alexeyab = load_weights_file(make_plan(CFG, "alexeyab"), path)
    assert read_header(written(alexeyab, tmp_path))[0] == Header(0, 2, 5, 640)


def test_the_first_layers_are_a_prefix_of_the_numbers_that_has_seen_nothing(tmp_path: Path) -> None:
    whole = saved(tmp_path, CFG)
    part = written(keep_first(load_weights_file(make_plan(CFG), whole), 2), tmp_path)
    assert part.read_bytes()[20:] == whole.read_bytes()[20:][: 4 * (4 * 4 + 4 * 27)]
    assert read_header(part)[0].seen == 0


def test_a_layer_without_weights_counts(tmp_path: Path) -> None:
    one = written(keep_first(opened(tmp_path, CFG), 1), tmp_path).read_bytes()
    assert written(keep_first(opened(tmp_path, CFG), 2), tmp_path).read_bytes() == one


@pytest.mark.parametrize("count", [-1, 0, 4, 2**40])
def test_a_count_beyond_the_layers_is_refused_with_theirs(tmp_path: Path, count: int) -> None:
    with pytest.raises(DarkpyError, match="has 3"):
        keep_first(opened(tmp_path, CFG), count)


def test_more_than_a_partial_file_holds_is_refused(tmp_path: Path) -> None:
    part = opened(tmp_path, CFG, cutoff=2)
    assert keep_first(part, 2).cutoff == 2
    with pytest.raises(DarkpyError, match="ends before layer 2"):
        keep_first(part, 3)


def test_a_file_without_numbers_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match="none of the first 1 layers"):
        keep_first(opened(tmp_path, NET + "[maxpool]\nstride=2\n" + CONV), 1)


def test_a_partial_file_stays_one(tmp_path: Path) -> None:
    part = opened(tmp_path, CFG, cutoff=2)
    before = (tmp_path / "0.weights").read_bytes()
    swap_red_and_blue(part)
    swap_red_and_blue(part)
    assert written(part, tmp_path).read_bytes() == before


@pytest.mark.parametrize("key", ["dontload=1", "numload=1", "dontloadscales=1"])
def test_a_cfg_that_reads_in_part_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(DarkpyError, match=f"{key[:-2]}= skips a part"):
        load_weights_file(make_plan(CFG + key + "\n"), saved(tmp_path, CFG))


def test_the_mean_is_over_all_arrays(tmp_path: Path) -> None:
    cfg = CFG + "[connected]\noutput=3\nbatch_normalize=1\n[gru]\noutput=2\n[local]\n"
    files = [saved(tmp_path, cfg, seed) for seed in range(3)]
    mean = state(cfg, written(average(make_plan(cfg), files), tmp_path))
    states = [state(cfg, path) for path in files]
    for name, array in mean.items():
        torch.testing.assert_close(array, sum(one[name] for one in states) / 3)


def test_files_of_other_lengths_have_no_mean(tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match="does not hold the same layers"):
        average(make_plan(CFG), [saved(tmp_path, CFG, 0), saved(tmp_path, CFG, 1, cutoff=2)])


def test_exchanged_red_and_blue_see_an_exchanged_image_as_before(tmp_path: Path) -> None:
    before = opened(tmp_path, CFG)
    x_BCHW = torch.rand(1, 3, 6, 6)
    with torch.no_grad():
        (expected,) = before.network(x_BCHW)
        swap_red_and_blue(before)
        (actual,) = before.network(x_BCHW.flip(1))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("layer", [CONV, NORMED])
def test_unit_inputs_mean_what_signed_ones_did(tmp_path: Path, layer: str) -> None:
    before = opened(tmp_path, NET + layer)
    x_BCHW = torch.rand(1, 3, 6, 6)
    with torch.no_grad():
        (expected,) = before.network(2 * x_BCHW - 1)
        take_unit_inputs(before)
        (actual,) = before.network(x_BCHW)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_network_that_reads_no_three_channels_has_no_red_and_blue(tmp_path: Path) -> None:
    gray = "[net]\nwidth=6\nheight=6\nchannels=1\n" + CONV
    with pytest.raises(DarkpyError, match="read 1 channels"):
        swap_red_and_blue(opened(tmp_path, gray))
    with pytest.raises(DarkpyError, match="no convolution"):
        take_unit_inputs(opened(tmp_path, NET + "[connected]\noutput=2\n"))


HEAD = "[net]\nwidth=8\nheight=8\nchannels=3\n" + NORMED + "[convolutional]\nfilters={}\nactivation=linear\n"
REGION = "[region]\nnum=3\nclasses=2\nanchors=1,1,2,2,3,3\n"


def test_each_anchor_gets_the_classes_and_a_new_box_that_is_the_same_for_all(tmp_path: Path) -> None:
    source = saved(tmp_path, HEAD.format(2) + "[softmax]\n")
    plan = make_plan(HEAD.format(21) + REGION)
    made = copy_classes(plan, source, seed=1)
    actual, given = state(plan, written(made, tmp_path)), state(HEAD.format(2) + "[softmax]\n", source)
    assert all(torch.equal(actual[name], array) for name, array in given.items() if name.startswith("layers.0."))
    for name in ("layers.1.weights", "layers.1.biases"):
        rows = actual[name].reshape(ONEOFF_ANCHORS, 7, -1)
        assert torch.equal(rows[:, BOX_ENTRIES:], given[name].reshape(1, 2, -1).expand(ONEOFF_ANCHORS, -1, -1))
        assert torch.equal(rows[0], rows[1]) and torch.equal(rows[0], rows[2])
    assert not actual["layers.1.biases"].reshape(ONEOFF_ANCHORS, 7)[:, :BOX_ENTRIES].any()
    assert 0 < float(actual["layers.1.weights"].reshape(ONEOFF_ANCHORS, 7, -1)[:, :BOX_ENTRIES].std()) < 0.2
    assert read_header(tmp_path / "out.weights")[0].seen == 0


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (HEAD.format(15) + "[softmax]\n", "does not end in"),
        (HEAD.format(21) + "batch_normalize=1\n" + REGION, "does not end in"),
        (NET + "[softmax]\n", "does not end in"),
        (HEAD.format(14) + "[region]\nnum=2\nclasses=2\nanchors=1,1,2,2\n", "14 filters are not 3"),
    ],
)
def test_a_cfg_that_is_no_detectors_gets_no_classes(tmp_path: Path, cfg: str, message: str) -> None:
    source = saved(tmp_path, HEAD.format(2) + "[softmax]\n")
    with pytest.raises(DarkpyError, match=message):
        copy_classes(darkpy.plan(cfg), source)
