"""Conversion to other kinds of files and back gives the same bytes; files that do not fit are refused."""

from __future__ import annotations

import json
import struct
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from darkpy.build import make_plan
from darkpy.errors import WeightsError
from darkpy.export.convert import Conversion, fill, open_source, target_for
from darkpy.export.state_dict import LoadResult, WeightsMetadata
from darkpy.files import write_atomic
from darkpy.network import Network
from tests.weightfiles import NET, OLD, RECENT, TRANSPOSED, TWO, numbers, written

CFG = Path(__file__).resolve().parents[2] / "cfg"
CONNECTED = "[connected]\noutput=2\nactivation=linear\n"
KINDS = ("safetensors", "pt")
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")


def filled(layers: str, path: Path, **options: bool) -> tuple[Network, LoadResult]:
    network = Network(make_plan(NET + layers))
    return network, fill(open_source(path), network, **options)


def convert(layers: str, source: Path, target: Path, **options: bool) -> LoadResult:
    network, actual = filled(layers, source, **options)
    about = WeightsMetadata(network.header, actual.cutoff, NET + layers, network.plan.dialect)
    write_atomic(target, target_for(target).pack(Conversion(network, about)))
    return actual


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("header", [RECENT, OLD, TRANSPOSED], ids=["recent", "old", "transposed"])
def test_the_way_there_and_back_gives_the_same_bytes(tmp_path: Path, kind: str, header: bytes) -> None:
    layers = TWO + CONNECTED
    first = written(tmp_path, Network(make_plan(NET + layers)).plan.parameter_count, header)
    between, last = tmp_path / f"between.{kind}", tmp_path / "last.weights"
    convert(layers, first, between)
    convert(layers, between, last)
    assert last.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_partial_file_stays_a_partial_file(tmp_path: Path, kind: str) -> None:
    first = written(tmp_path, 66)
    between, last = tmp_path / f"between.{kind}", tmp_path / "last.weights"
    with pytest.raises(WeightsError, match="partial file: it ends before layer 2"):
        convert(TWO, first, between)
    assert convert(TWO, first, between, allow_partial=True).cutoff == 2
    assert open_source(between).metadata.cutoff == 2
    convert(TWO, between, last)
    assert last.read_bytes() == first.read_bytes()


def test_a_header_of_four_ints_stays_one(tmp_path: Path) -> None:
    first = tmp_path / "short.weights"
    first.write_bytes(struct.pack("<3iI", 0, 2, 0, 7) + numbers(150).tobytes())
    convert(TWO, first, tmp_path / "between.safetensors")
    convert(TWO, tmp_path / "between.safetensors", tmp_path / "last.weights")
    assert (tmp_path / "last.weights").read_bytes() == first.read_bytes()


def test_a_state_dict_loads_with_torch_alone(tmp_path: Path) -> None:
    convert(TWO, written(tmp_path, 150), tmp_path / "net.pt")
    state = torch.load(tmp_path / "net.pt", weights_only=True)
    network = Network(make_plan(NET + TWO))
    network.initialize()
    network.load_state_dict(state)
    assert network.state_dict()["layers.0.biases"].tolist() == [1, 2, 3]


def test_the_cfg_and_the_names_travel_along(tmp_path: Path) -> None:
    network, _ = filled(TWO, written(tmp_path, 150))
    about = WeightsMetadata(network.header, None, NET + TWO, network.plan.dialect, ("chien", "été"))
    for kind in KINDS:
        path = tmp_path / f"net.{kind}"
        write_atomic(path, target_for(path).pack(Conversion(network, about)))
        assert open_source(path).metadata == about


def test_files_without_a_header_say_that_seen_counts_anew(tmp_path: Path) -> None:
    convert(TWO, written(tmp_path, 150), tmp_path / "net.safetensors")
    save_file(load_file(tmp_path / "net.safetensors"), tmp_path / "bare.safetensors")
    network, actual = filled(TWO, tmp_path / "bare.safetensors")
    assert network.header.seen == 0 and "no darknet header" in actual.notes[0]


def test_rounding_is_named(tmp_path: Path) -> None:
    convert(TWO, written(tmp_path, 150), tmp_path / "net.safetensors")
    state = load_file(tmp_path / "net.safetensors")
    state["layers.0.biases"] = state["layers.0.biases"].double()
    save_file(state, tmp_path / "exact.safetensors")
    assert not any("rounded" in note for note in filled(TWO, tmp_path / "exact.safetensors")[1].notes)
    state["layers.0.biases"] += 1e-12
    save_file(state, tmp_path / "double.safetensors")
    assert "layers.0.biases" in filled(TWO, tmp_path / "double.safetensors")[1].notes[0]


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("harm"),)  # type: ignore[return-value]


def refused(layers: str, path: Path) -> str:
    network = Network(make_plan(NET + layers))
    with pytest.raises(WeightsError) as caught:
        fill(open_source(path), network)
    assert all(array.is_meta for array in network.state_dict().values()), "half filled"
    return str(caught.value)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for is_zip in (True, False):
        torch.save({"layers.0.biases": Harmful()}, "bad.pt", _use_new_zipfile_serialization=is_zip)
        assert "none of it was run" in refused(TWO, Path("bad.pt"))
    assert not Path("harm").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_broke_off_is_refused(tmp_path: Path, kind: str) -> None:
    whole = tmp_path / f"net.{kind}"
    convert(TWO, written(tmp_path, 150), whole)
    data = whole.read_bytes()
    for share in (0.1, 0.5, 0.99):
        whole.write_bytes(data[: int(len(data) * share)])
        text = refused(TWO, whole)
        assert f"{whole}: not a complete " in text and "cut off; fetch it again" in text


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_another_network_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"net.{kind}"
    convert(TWO, written(tmp_path, 150), path)
    assert "its layers.0.biases is (3,)" in refused(TWO.replace("filters=3", "filters=4"), path)
    assert "which <cfg> lacks" in refused(TWO.replace("batch_normalize=1\n", ""), path)
    assert "has no layers.2.scales" in refused(f"{TWO}batch_normalize=1\n", path)
    assert "those of no supported program" in refused(TWO, renamed(path))


def renamed(path: Path) -> Path:
    state = torch.load(path, weights_only=True) if path.suffix == ".pt" else load_file(path)
    state = {name.replace("layers", "stem"): array for name, array in state.items()}
    other = path.with_stem("other")
    torch.save(state, other) if path.suffix == ".pt" else save_file(state, other)
    return other


@pytest.mark.parametrize(
    "header",
    [
        {"major": 0, "minor": 2, "revision": 0, "seen": -1, "is_short": False},
        {"major": 0, "minor": 2, "revision": 0, "seen": 2**32, "is_short": True},
        {"major": 2**31, "minor": 2, "revision": 0, "seen": 0, "is_short": False},
        {"major": 0.5, "minor": 2, "revision": 0, "seen": 0, "is_short": False},
        {"major": 0},
        [],
    ],
)
def test_metadata_that_no_header_has_are_refused(tmp_path: Path, header: object) -> None:
    save_file({"layers.0.biases": torch.ones(1)}, tmp_path / "a.safetensors", {"darkpy.header": json.dumps(header)})
    assert "metadata" in refused(TWO, tmp_path / "a.safetensors")


@pytest.mark.parametrize("cutoff", ["-1", "0", "1", "7", "1000000000000"])
def test_an_end_that_is_none_is_refused(tmp_path: Path, cutoff: str) -> None:
    convert(TWO, written(tmp_path, 150), tmp_path / "net.safetensors")
    save_file(load_file(tmp_path / "net.safetensors"), tmp_path / "a.safetensors", {"darkpy.cutoff": cutoff})
    assert "does not fit" in refused(TWO, tmp_path / "a.safetensors")


def test_a_checkpoint_that_holds_itself_and_texts_that_are_none_are_refused(tmp_path: Path) -> None:
    own: dict[str, object] = {}
    own["model"] = own
    torch.save(own, tmp_path / "own.pt")
    assert "holds no state dict" in refused(TWO, tmp_path / "own.pt")
    state = OrderedDict({"layers.0.biases": torch.ones(3)})
    odd: tuple[object, ...] = ([], {"darkpy.": []}, {"darkpy.": {"darkpy.names": "3"}})
    for texts in odd:
        state._metadata = texts  # type: ignore[attr-defined]
        torch.save(state, tmp_path / "odd.pt")
        assert "odd.pt" in refused(TWO, tmp_path / "odd.pt")


def test_numbers_that_are_none_are_not_written(tmp_path: Path) -> None:
    bad = numbers(150).copy()
    bad[70] = float("nan")
    path = tmp_path / "nan.weights"
    path.write_bytes(RECENT + bad.tobytes())
    network = Network(make_plan(NET + TWO))
    with pytest.raises(WeightsError, match=r"layer 2 .*: weights holds NaN"):
        fill(open_source(path), network)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cfg", sorted(CFG.glob("*.cfg")), ids=lambda path: path.stem)
def test_every_network_of_the_folder_comes_back_with_the_same_bytes(tmp_path: Path, cfg: Path, kind: str) -> None:
    new = Network(make_plan(cfg))
    new.initialize(torch.Generator().manual_seed(1))
    new.header = new.header.with_seen(987_654_321_000)
    first, between, last = tmp_path / "first.weights", tmp_path / f"between.{kind}", tmp_path / "last.weights"
    new.save_weights(first)
    layers = new.plan
    for source, target in ((first, between), (between, last)):
        network = Network(layers)
        actual = fill(open_source(source), network)
        about = WeightsMetadata(network.header, actual.cutoff, cfg.read_text(), layers.dialect)
        write_atomic(target, target_for(target).pack(Conversion(network, about)))
    assert last.read_bytes() == first.read_bytes()
