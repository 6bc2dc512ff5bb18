"""`.weights` files: headers of every age, arrays in file order, and files that do not fit."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from darkpy import weightfile
from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import WeightsError
from darkpy.weightfile import Header, read_header
from tests.weightfiles import (
    CONNECTED,
    CONV,
    NET,
    NORMED,
    OLD,
    RECENT,
    TRANSPOSED,
    TWO,
    arrays,
    loaded,
    network,
    numbers,
    refusal,
    spread,
    weights,
    written,
)

# headers


@pytest.mark.parametrize(("data", "header", "size"), [
    (struct.pack("<3iQ", 0, 2, 0, 32_013_312), Header(0, 2, 0, 32_013_312), 20),
    (struct.pack("<3iQ", 0, 2, 5, 2**40), Header(0, 2, 5, 2**40), 20),
    (struct.pack("<3iQ", 1, 0, 0, 9), Header(1, 0, 0, 9), 20),
    (struct.pack("<3iI", 0, 1, 0, 2**32 - 1), Header(0, 1, 0, 2**32 - 1), 16),
    (struct.pack("<3iI", 0, 0, 7, 3), Header(0, 0, 7, 3), 16),
    (struct.pack("<3iI", 2000, 2, 0, 3), Header(2000, 2, 0, 3), 16),
    (struct.pack("<3iI", 0, 1001, 0, 3), Header(0, 1001, 0, 3), 16),
    (struct.pack("<3iI", 0, 1000, 0, 3), Header(0, 1000, 0, 3), 16),
    (struct.pack("<3iI", -1, 2, 0, 3), Header(-1, 2, 0, 3), 16),
])  # fmt: skip
def test_header_of_every_age_is_read_and_packed_alike(data: bytes, header: Header, size: int) -> None:
    assert Header.unpack(data + b"\1" * 8) == header
    assert header.size == size == len(data)
    assert header.pack() == data


def test_only_versions_above_a_thousand_are_transposed() -> None:
    assert Header(1001, 0, 0, 0).is_transposed and Header(0, 1001, 0, 0).is_transposed
    assert not Header(1000, 1000, 0, 0).is_transposed and not Header(0, 2, 0, 0).is_transposed


def test_new_header_is_the_forks_own() -> None:
    assert Header.new(Dialect.PJREDDIE) == Header(0, 2, 0, 0)
    assert Header.new(Dialect.ALEXEYAB) == Header(0, 2, 5, 0)


def test_seen_beyond_an_old_headers_bits_makes_it_a_new_one() -> None:
    assert Header(0, 1, 0, 5).with_seen(6) == Header(0, 1, 0, 6)
    assert Header(0, 2, 5, 5).with_seen(2**40) == Header(0, 2, 5, 2**40)
    assert Header(2000, 1, 0, 5).with_seen(2**32).pack() == struct.pack("<3iQ", 0, 2, 0, 2**32)


def test_short_header_is_detected_by_the_size(tmp_path: Path) -> None:
    path = written(tmp_path, 3 + 54, struct.pack("<3iI", 0, 2, 0, 640))
    net, report = loaded(CONV, path)
    assert (report.header.seen, report.loaded) == (640, 1)
    assert arrays(net, 0)["biases"] == [1, 2, 3]
    net.save_weights(tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


def test_file_that_lost_its_last_number_is_not_taken_for_one_with_four_ints(tmp_path: Path) -> None:
    assert "is too short: it holds 56 values" in refusal(CONV, written(tmp_path, 56))


# arrays


def test_convolutional_has_biases_then_weights(tmp_path: Path) -> None:
    net, _ = loaded(CONV, written(tmp_path, 57))
    first, rest = spread(3, 54)
    assert arrays(net, 0) == {"biases": first, "weights": rest}
    assert weights(net, 0).shape == (3, 2, 3, 3)


def test_batch_norm_stands_before_the_weights_of_a_convolution(tmp_path: Path) -> None:
    net, _ = loaded(NORMED, written(tmp_path, 66))
    biases, scales, mean, variance, weights = spread(3, 3, 3, 3, 54)
    assert arrays(net, 0) == {
        "biases": biases,
        "scales": scales,
        "rolling_mean": mean,
        "rolling_variance": variance,
        "weights": weights,
    }


def test_batch_norm_stands_behind_the_weights_of_a_connected_layer(tmp_path: Path) -> None:
    net, _ = loaded(CONNECTED + "batch_normalize=1\n", written(tmp_path, 180))
    biases, weights, scales, mean, variance = spread(5, 160, 5, 5, 5)
    assert arrays(net, 0) == {
        "biases": biases,
        "weights": weights,
        "scales": scales,
        "rolling_mean": mean,
        "rolling_variance": variance,
    }


@pytest.mark.parametrize(("dialect", "names"), [
    (Dialect.PJREDDIE, ["scales", "rolling_mean", "rolling_variance"]),
    (Dialect.ALEXEYAB, ["biases", "scales", "rolling_mean", "rolling_variance"]),
])  # fmt: skip
def test_batchnorm_has_biases_in_alexeyabs_files_only(dialect: Dialect, names: list[str]) -> None:
    (node,) = make_plan(NET + "[batchnorm]\n", dialect).nodes
    assert [array_spec.name for array_spec in node.arrays] == names


@pytest.mark.parametrize(("section", "dialect", "parts"), [
    ("rnn", Dialect.PJREDDIE, "input_layer self_layer output_layer"),
    ("gru", Dialect.PJREDDIE, "wz wr wh uz ur uh"),
    ("gru", Dialect.ALEXEYAB, "uz ur uh wz wr wh"),
    ("lstm", Dialect.PJREDDIE, "wi wf wo wg ui uf uo ug"),
    ("lstm", Dialect.ALEXEYAB, "wf wi wg wo uf ui ug uo"),
])  # fmt: skip
def test_parts_of_a_recurrent_layer_stand_in_its_forks_order(section: str, dialect: Dialect, parts: str) -> None:
    (node,) = make_plan(NET + f"[{section}]\noutput=3\n", dialect).nodes
    owners = [array_spec.name.partition(".")[0] for array_spec in node.arrays]
    assert list(dict.fromkeys(owners)) == parts.split()


def test_connected_weights_of_transposed_files_are_turned_and_turned_back(tmp_path: Path) -> None:
    path = written(tmp_path, 165, TRANSPOSED)
    net, report = loaded(CONNECTED, path)
    stored = numbers(165)[5:].reshape(32, 5)
    assert np.array_equal(weights(net, 0).detach().numpy(), stored.T)
    assert report.header.is_transposed
    net.save_weights(tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


def test_parts_of_recurrent_layers_are_turned_too(tmp_path: Path) -> None:
    path = written(tmp_path, 32 * 3 + 3 + 2 * (3 * 3 + 3), TRANSPOSED)
    net, _ = loaded("[rnn]\noutput=3\n", path)
    stored = numbers(99)[3:].reshape(32, 3)
    assert np.array_equal(weights(net, 0, "input_layer.weights").detach().numpy(), stored.T)


def test_convolutions_of_transposed_files_are_not_turned(tmp_path: Path) -> None:
    net, _ = loaded(CONV, written(tmp_path, 57, TRANSPOSED))
    assert arrays(net, 0)["weights"] == numbers(57)[3:].tolist()


def test_flipped_weights_are_turned_and_turned_back(tmp_path: Path) -> None:
    path = written(tmp_path, 57)
    net, _ = loaded(CONV + "flipped=1\n", path)
    stored = numbers(57)[3:].reshape(18, 3)
    assert np.array_equal(weights(net, 0).detach().numpy().reshape(3, 18), stored.T)
    net.save_weights(tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


def test_layer_that_shares_anothers_arrays_has_none_in_the_file(tmp_path: Path) -> None:
    square = "[convolutional]\nfilters=2\nactivation=linear\n"
    net, report = loaded(square + square + "share_index=0\n", written(tmp_path, 6))
    assert (report.loaded, report.expected) == (1, 1)
    assert arrays(net, 1) == {}


@pytest.mark.parametrize("header", [RECENT, OLD, TRANSPOSED], ids=["recent", "old", "transposed"])
def test_reading_and_writing_gives_the_same_bytes(header: bytes, tmp_path: Path) -> None:
    layers = NORMED + CONV + "flipped=1\n[maxpool]\n" + CONNECTED + "batch_normalize=1\n[gru]\noutput=2\n"
    path = written(tmp_path, network(layers).plan.parameter_count, header)
    net, _ = loaded(layers, path)
    net.save_weights(tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


# keys that skip


def test_dontload_skips_a_layer_and_no_bytes(tmp_path: Path) -> None:
    net, report = loaded(CONV + "dontload=1\n" + CONV.replace("filters=3", "filters=1"), written(tmp_path, 28))
    assert (report.loaded, report.expected) == (1, 1)
    assert arrays(net, 0)["biases"] == [0, 0, 0]
    assert arrays(net, 1)["biases"] == [1]


def test_dontloadscales_skips_batch_norm_but_not_its_biases(tmp_path: Path) -> None:
    net, _ = loaded(NORMED + "dontloadscales=1\n", written(tmp_path, 57))
    assert arrays(net, 0) == {
        "biases": [1, 2, 3],
        "scales": [1, 1, 1],
        "rolling_mean": [0, 0, 0],
        "rolling_variance": [0, 0, 0],
        "weights": numbers(57)[3:].tolist(),
    }


@pytest.mark.parametrize("layer", ["[rnn]\noutput=2\nbatch_normalize=1\n", "[batchnorm]\n"])
def test_dontloadscales_does_not_reach_into_recurrent_layers_nor_batchnorm(layer: str, tmp_path: Path) -> None:
    path = written(tmp_path, network(layer).plan.parameter_count)
    assert loaded(layer + "dontloadscales=1\n", path)[1].loaded == 1


def test_numload_reads_the_first_filters_and_starts_the_others(tmp_path: Path) -> None:
    net, _ = loaded(NORMED + "numload=2\n", written(tmp_path, 2 * 4 + 36))
    assert arrays(net, 0)["biases"] == [1, 2, 0]
    assert arrays(net, 0)["scales"] == [3, 4, 1]
    assert arrays(net, 0)["weights"][:36] == numbers(44)[8:].tolist()
    rest = torch.tensor(arrays(net, 0)["weights"][36:])
    assert rest.std() > 0.05 and rest.abs().max() < 2


def test_dontsave_leaves_a_layer_out(tmp_path: Path) -> None:
    net, _ = loaded(CONV + "dontsave=1\n" + CONV.replace("filters=3", "filters=1"), written(tmp_path, 57 + 28))
    net.save_weights(tmp_path / "out.weights")
    assert (tmp_path / "out.weights").read_bytes() == RECENT + numbers(85)[57:].tobytes()


# ranges


def test_cut_off_loading_fills_the_layers_below_and_ignores_what_follows(tmp_path: Path) -> None:
    net, report = loaded(TWO, written(tmp_path, 66 + 5), cutoff=2)
    assert (report.loaded, report.expected, report.first_missing) == (1, 1, None)
    assert arrays(net, 0)["biases"] == [1, 2, 3]
    assert arrays(net, 2)["biases"] == [0, 0, 0]


def test_cut_off_before_the_first_weights_fills_nothing(tmp_path: Path) -> None:
    assert loaded(TWO, written(tmp_path, 150), cutoff=0)[1].loaded == 0


def test_start_reads_a_later_layer_from_the_files_beginning(tmp_path: Path) -> None:
    net, report = loaded(TWO, written(tmp_path, 84), start=1)
    assert (report.loaded, report.first_missing) == (1, None)
    assert arrays(net, 2)["biases"] == [1, 2, 3]


def test_cut_off_saving_writes_a_partial_file(tmp_path: Path) -> None:
    path = written(tmp_path, 150)
    net, _ = loaded(TWO, path)
    net.save_weights(tmp_path / "two.conv.1", cutoff=1)
    assert (tmp_path / "two.conv.1").read_bytes() == path.read_bytes()[: 20 + 4 * 66]


def test_partial_file_says_how_many_layers_it_filled(tmp_path: Path) -> None:
    net, report = loaded(TWO, written(tmp_path, 66))
    assert (report.loaded, report.expected, report.first_missing) == (1, 2, 2)
    assert arrays(net, 0)["biases"] == [1, 2, 3]
    assert arrays(net, 2)["biases"] == [0, 0, 0]
    assert torch.tensor(arrays(net, 2)["weights"]).std() > 0.05


# memory and state


def test_mapped_arrays_are_views_of_the_file_that_leave_it_alone(tmp_path: Path) -> None:
    path = written(tmp_path, 57)
    before = path.read_bytes()
    net, _ = loaded(CONV, path, mapped=True)
    maps = Path("/proc/self/maps").read_text()
    assert str(path) in maps
    with torch.no_grad():
        weights(net, 0).zero_()
    assert path.read_bytes() == before


def test_learned_arrays_are_parameters_and_statistics_are_not(tmp_path: Path) -> None:
    net, _ = loaded(NORMED, written(tmp_path, 66))
    assert {name for name, _ in net.named_parameters()} == {"layers.0.biases", "layers.0.scales", "layers.0.weights"}
    assert {name for name, _ in net.named_buffers()} == {"layers.0.rolling_mean", "layers.0.rolling_variance"}


def test_loading_again_keeps_what_was_frozen_frozen(tmp_path: Path) -> None:
    path = written(tmp_path, 57)
    net, _ = loaded(CONV, path)
    net.requires_grad_(False)
    net.double()
    net.load_weights(path)
    assert not weights(net, 0).requires_grad
    assert weights(net, 0).dtype == torch.float64


def test_weights_are_the_same_read_and_mapped(tmp_path: Path) -> None:
    path = written(tmp_path, 150)
    read, mapped = loaded(TWO, path)[0], loaded(TWO, path, mapped=True)[0]
    assert all(torch.equal(one, other) for one, other in zip(read.parameters(), mapped.parameters(), strict=True))
    with torch.no_grad():
        weights(mapped, 0).zero_()  # a copy is written to, not the file
    assert loaded(TWO, path)[0].layers[0].state_dict()["weights"].any()


def test_file_may_be_cut_short_once_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, 150)
    net, _ = loaded(TWO, path)
    os.truncate(path, 0)
    assert net.trace(torch.ones(1, 2, 4, 4))[-1].isfinite().all()


def test_mapped_file_may_be_cut_short_once_the_network_is_made_for_inference(tmp_path: Path) -> None:
    sections = TWO + "[connected]\noutput=2\n[batchnorm]\n"
    path = written(tmp_path, 150 + 98 + 6)
    net, report = loaded(sections, path, mapped=True)
    assert report.loaded == 4
    net.for_inference()
    os.truncate(path, 0)
    assert net.trace(torch.ones(1, 2, 4, 4))[-1].isfinite().all()


@pytest.mark.parametrize("mapped", [False, True], ids=["read", "mapped"])
def test_file_that_becomes_shorter_while_it_is_read_is_refused_and_changes_nothing(
    mapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weightfile, "read_header", lambda path: (Header.unpack(RECENT), 150))
    net = network(TWO)
    with pytest.raises(WeightsError, match="became shorter while it was read"):
        net.load_weights(written(tmp_path, 120), mapped=mapped)
    assert all(tensor.is_meta for tensor in net.state_dict().values())


def test_saving_over_the_file_that_is_mapped_is_safe(tmp_path: Path) -> None:
    path = written(tmp_path, 57)
    before = path.read_bytes()
    net, _ = loaded(CONV, path, mapped=True)
    net.save_weights(path)
    assert path.read_bytes() == before
    assert arrays(net, 0)["biases"] == [1, 2, 3]


def test_header_alone_can_be_read(tmp_path: Path) -> None:
    assert read_header(written(tmp_path, 3, OLD)) == (Header(0, 1, 0, 64 * 500), 3)
