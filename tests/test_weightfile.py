"""`.weights` files: headers of every age, arrays in file order, and files that do not fit."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import darkpy
from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, WeightsError
from darkpy.network import Network
from darkpy.weightfile import Header, LoadReport, read_header

NET = "[net]\nwidth=4\nheight=4\nchannels=2\n"
CONV = "[convolutional]\nfilters=3\nsize=3\npad=1\nactivation=linear\n"
NORMED = CONV + "batch_normalize=1\n"
CONNECTED = "[connected]\noutput=5\nactivation=linear\n"

RECENT = struct.pack("<3iQ", 0, 2, 5, 64 * 500)
OLD = struct.pack("<3iI", 0, 1, 0, 64 * 500)
TRANSPOSED = struct.pack("<3iI", 2000, 1, 0, 7)


def network(layers: str, dialect: Dialect | None = None) -> Network:
    return Network(make_plan(NET + layers, dialect))


def numbers(count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.arange(1, count + 1, dtype="<f4")


def written(folder: Path, count: int, header: bytes = RECENT) -> Path:
    """A weight file holding 1, 2, 3, ... so that every array says where it was found."""
    path = folder / "some.weights"
    path.write_bytes(header + numbers(count).tobytes())
    return path


def loaded(layers: str, path: Path, **options: int | None) -> tuple[Network, LoadReport]:
    net = network(layers)
    report = net.load_weights(path, is_partial_allowed=True, **options)  # type: ignore[arg-type]
    net.initialise()
    return net, report


def arrays(net: Network, layer: int) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in net.layers[layer].state_dict().items()}


def weights(net: Network, layer: int, name: str = "weights") -> torch.nn.Parameter:
    return net.layers[layer].get_parameter(name)


def spread(*sizes: int) -> list[list[float]]:
    """1, 2, 3, ... cut into pieces of these sizes."""
    return [part.tolist() for part in np.split(numbers(sum(sizes)), np.cumsum(sizes)[:-1])]


def refusal(layers: str, path: Path, **options: int | bool | None) -> str:
    net = network(layers)
    net.initialise(torch.Generator().manual_seed(1))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    header = net.header
    with pytest.raises(WeightsError) as caught:
        net.load_weights(path, **options)  # type: ignore[arg-type]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items()), "half loaded"
    assert net.header == header
    return str(caught.value)


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


def test_four_ints_where_the_version_asks_for_five_are_told_by_the_size(tmp_path: Path) -> None:
    path = written(tmp_path, 3 + 54, struct.pack("<3iI", 0, 2, 0, 640))
    net, report = loaded(CONV, path)
    assert (report.header.seen, report.layers) == (640, 1)
    assert arrays(net, 0)["biases"] == [1, 2, 3]
    net.save_weights(tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


def test_file_that_lost_its_last_number_is_not_taken_for_one_with_four_ints(tmp_path: Path) -> None:
    assert "is too short: it holds 56 numbers" in refusal(CONV, written(tmp_path, 56))


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
    assert [slot.name for slot in node.slots] == names


@pytest.mark.parametrize(("section", "dialect", "parts"), [
    ("rnn", Dialect.PJREDDIE, "input_layer self_layer output_layer"),
    ("gru", Dialect.PJREDDIE, "wz wr wh uz ur uh"),
    ("gru", Dialect.ALEXEYAB, "uz ur uh wz wr wh"),
    ("lstm", Dialect.PJREDDIE, "wi wf wo wg ui uf uo ug"),
    ("lstm", Dialect.ALEXEYAB, "wf wi wg wo uf ui ug uo"),
])  # fmt: skip
def test_parts_of_a_recurrent_layer_stand_in_its_forks_order(section: str, dialect: Dialect, parts: str) -> None:
    (node,) = make_plan(NET + f"[{section}]\noutput=3\n", dialect).nodes
    owners = [slot.name.partition(".")[0] for slot in node.slots]
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
    assert (report.layers, report.wanted) == (1, 1)
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
    assert (report.layers, report.wanted) == (1, 1)
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
    assert loaded(layer + "dontloadscales=1\n", path)[1].layers == 1


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


TWO = NORMED + "[maxpool]\n" + CONV  # 66 and 84 numbers


def test_cut_off_loading_fills_the_layers_below_and_ignores_what_follows(tmp_path: Path) -> None:
    net, report = loaded(TWO, written(tmp_path, 66 + 5), cutoff=2)
    assert (report.layers, report.wanted, report.missing) == (1, 1, None)
    assert arrays(net, 0)["biases"] == [1, 2, 3]
    assert arrays(net, 2)["biases"] == [0, 0, 0]


def test_cut_off_before_the_first_weights_fills_nothing(tmp_path: Path) -> None:
    assert loaded(TWO, written(tmp_path, 150), cutoff=0)[1].layers == 0


def test_start_reads_a_later_layer_from_the_files_beginning(tmp_path: Path) -> None:
    net, report = loaded(TWO, written(tmp_path, 84), start=1)
    assert (report.layers, report.missing) == (1, None)
    assert arrays(net, 2)["biases"] == [1, 2, 3]


def test_cut_off_saving_writes_a_partial_file(tmp_path: Path) -> None:
    path = written(tmp_path, 150)
    net, _ = loaded(TWO, path)
    net.save_weights(tmp_path / "two.conv.1", cutoff=1)
    assert (tmp_path / "two.conv.1").read_bytes() == path.read_bytes()[: 20 + 4 * 66]


def test_partial_file_says_how_many_layers_it_filled(tmp_path: Path) -> None:
    net, report = loaded(TWO, written(tmp_path, 66))
    assert (report.layers, report.wanted, report.missing) == (1, 2, 2)
    assert arrays(net, 0)["biases"] == [1, 2, 3]
    assert arrays(net, 2)["biases"] == [0, 0, 0]
    assert torch.tensor(arrays(net, 2)["weights"]).std() > 0.05


def test_partial_file_is_refused_unless_told_otherwise(tmp_path: Path) -> None:
    path = written(tmp_path, 66)
    assert refusal(TWO, path) == (
        f"{path} is a partial file: it fills 1 of 2 layers, up to layer 2 [convolutional] <cfg>:12\n"
        "  hint: training may start from it; --allow-partial (is_partial_allowed=True) runs it all the same"
    )
    cfg = NET + TWO
    with pytest.raises(WeightsError):
        darkpy.load(cfg, path)
    assert darkpy.load(cfg, path, is_partial_allowed=True).header.seen == 64 * 500


# files that do not fit


@pytest.mark.parametrize(("held", "where"), [
    (0, "0 numbers into layer 0 [convolutional] <cfg>:5, in its 'biases'"),
    (1, "1 numbers into layer 0 [convolutional] <cfg>:5, in its 'biases'"),
    (11, "11 numbers into layer 0 [convolutional] <cfg>:5, in its 'rolling_variance'"),
    (12, "12 numbers into layer 0 [convolutional] <cfg>:5, in its 'weights'"),
    (65, "65 numbers into layer 0 [convolutional] <cfg>:5, in its 'weights'"),
    (67, "1 numbers into layer 2 [convolutional] <cfg>:12, in its 'biases'"),
    (149, "83 numbers into layer 2 [convolutional] <cfg>:12, in its 'weights'"),
])  # fmt: skip
@pytest.mark.parametrize("is_partial_allowed", [False, True])
def test_short_file_says_what_it_holds_and_where_it_ran_out(
    held: int, where: str, is_partial_allowed: bool, tmp_path: Path
) -> None:
    path = written(tmp_path, held)
    assert refusal(TWO, path, is_partial_allowed=is_partial_allowed) == (
        f"{path} is too short: it holds {held} numbers, <cfg> wants 150; it runs out {where}\n"
        "  hint: are this cfg and these weights a pair (classes, filters, fork)?"
    )


def test_long_file_says_what_is_left_over(tmp_path: Path) -> None:
    path = written(tmp_path, 157)
    assert refusal(TWO, path) == (
        f"{path} is too long: it holds 157 numbers, <cfg> wants 150; 7 are left over\n"
        "  hint: are this cfg and these weights a pair (classes, filters, fork)?"
    )


def test_weights_for_a_network_without_any_are_too_long(tmp_path: Path) -> None:
    assert "too long: it holds 3 numbers, <cfg> wants 0" in refusal("[maxpool]\n", written(tmp_path, 3))
    assert loaded("[maxpool]\n", written(tmp_path, 0))[1].layers == 0


@pytest.mark.parametrize(("data", "words"), [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 248007048\n", "a Git-LFS pointer"),
    (b"<!DOCTYPE html><html><head><title>Quota exceeded</title>", "a web page"),
    (b"\xef\xbb\xbf\r\n <HTML>", "a web page"),
    (b"[net]\nbatch=1\nwidth=416\n", "a text file"),
    ("чужой текст".encode(), "a text file"),
    (("e" * 511 + "é").encode(), "a text file"),
    (b"PK\x03\x04\x14\0", "a zip archive (a PyTorch .pt file, perhaps)"),
    (b"\x80\x02\x8a\x0a", "a Python pickle"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x1f\x8b\x08\0", "a gzip archive"),
    (struct.pack("<Q", 64) + b'{"weights":{"dtype":"F32"', "a safetensors file"),
    (b"\xff\xd8\xff\xe0", "a JPEG picture"),
    (b"", "an empty file"),
])  # fmt: skip
def test_file_of_another_kind_is_said_to_be_that(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "yolov3.weights"
    path.write_bytes(data)
    assert f"{path} is {words}" in refusal(CONV, path)


@pytest.mark.parametrize(("data", "words"), [
    (b"\0\0\0\0\x02\0\0", "has 7 bytes, fewer than a header"),
    (RECENT[:16], "has 16 bytes, fewer than a header"),
    (RECENT + b"\0\0\x80\x3f\0\0", "the 6 bytes after its header are no whole number of float32"),
])  # fmt: skip
def test_broken_off_file_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.weights"
    path.write_bytes(data)
    assert words in refusal(CONV, path)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    assert refusal(CONV, tmp_path / "no.weights").endswith("no.weights: cannot be read: No such file or directory")
    assert refusal(CONV, tmp_path).endswith("cannot be read: Is a directory")
    assert "cannot be read" in refusal(CONV, Path("a\0b"))


def test_device_without_an_end_is_refused() -> None:
    assert "has 0 bytes" in refusal(CONV, Path("/dev/zero"))


def test_file_of_terabytes_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.weights"
    with path.open("wb") as stream:
        stream.write(RECENT)
        stream.truncate((1 << 42) + 20)
    assert "too long" in refusal(CONV, path)


# memory and state


def test_loaded_arrays_are_views_of_the_file_that_leave_it_alone(tmp_path: Path) -> None:
    path = written(tmp_path, 57)
    before = path.read_bytes()
    net, _ = loaded(CONV, path)
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


def test_folded_layer_is_neither_filled_nor_written(tmp_path: Path) -> None:
    path = written(tmp_path, 66)
    net, _ = loaded(NORMED, path)
    net.for_inference()
    folded = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(WeightsError, match=r"layer 0 \[convolutional\] <cfg>:5: scales was folded away"):
        net.save_weights(tmp_path / "out.weights")
    with pytest.raises(WeightsError, match="before for_inference"):
        net.load_weights(path)
    assert not (tmp_path / "out.weights").exists()
    assert all(torch.equal(tensor, folded[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_never_reaches_a_file(value: float, tmp_path: Path) -> None:
    net, _ = loaded(TWO, written(tmp_path, 150))
    target = tmp_path / "out.weights"
    target.write_bytes(b"earlier")
    with torch.no_grad():
        weights(net, 2)[0, 0, 0, 0] = value
    with pytest.raises(WeightsError, match=r"layer 2 .*: weights holds NaN or infinity; nothing is written"):
        net.save_weights(target)
    assert target.read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.weights", "some.weights"]


def test_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    net, _ = loaded(CONV, written(tmp_path, 57))
    with pytest.raises(DarkpyError, match=r"no/out\.weights: cannot be written"):
        net.save_weights(tmp_path / "no" / "out.weights")


def test_saving_over_the_file_that_is_mapped_is_safe(tmp_path: Path) -> None:
    path = written(tmp_path, 57)
    before = path.read_bytes()
    net, _ = loaded(CONV, path)
    net.save_weights(path)
    assert path.read_bytes() == before
    assert arrays(net, 0)["biases"] == [1, 2, 3]


def test_header_alone_can_be_read(tmp_path: Path) -> None:
    assert read_header(written(tmp_path, 3, OLD)) == (Header(0, 1, 0, 64 * 500), 3)
