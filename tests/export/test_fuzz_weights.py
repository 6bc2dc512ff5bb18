"""Damaged weights and state dicts, and cfgs of random keys: complete files that fit, or a DarkpyError."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.export.batch_norm import denormalize, normalize, reset
from darkpy.export.convert import ARRAY_LAYOUTS
from darkpy.export.dialects import plan_for_dialect, transfer
from darkpy.export.state_dict import OpenArchive, WeightsMetadata, check_arrays
from darkpy.export.torch_files import _NUMPY_PLACEHOLDERS, read_torch
from darkpy.export.weight_stats import array_stats
from darkpy.export.weight_tools import (
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
from tests.test_fuzz import damaged_weights, is_small, mutated_cfgs, planned

relaxed = settings(
    deadline=None,
    derandomize=True,
    max_examples=120,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")


def changed(tool: Callable[[LoadedWeights], None]) -> Callable[[LoadedWeights], LoadedWeights]:
    def run(loaded_file: LoadedWeights) -> LoadedWeights:
        tool(loaded_file)
        return loaded_file

    return run


TOOLS: dict[str, Callable[[LoadedWeights], LoadedWeights]] = {
    "partial": lambda loaded_file: keep_first(loaded_file, 1),
    "rgbgr": changed(swap_red_and_blue),
    "rescale": changed(take_unit_inputs),
    "reset": changed(reset),
    "denormalize": denormalize,
    "normalize": normalize,
}


@relaxed
@given(damaged_weights(), st.sampled_from((*TOOLS, "average", "oneoff")))
def test_a_tool_writes_a_file_that_fits_or_nothing(tmp_path: Path, pair: tuple[str, bytes], tool: str) -> None:
    cfg, data = pair
    source, target = tmp_path / "in.weights", tmp_path / "out.weights"
    source.write_bytes(data)
    target.unlink(missing_ok=True)
    plan = make_plan(cfg)
    try:
        if tool == "average":
            made = average(plan, [source, source])
        elif tool == "oneoff":
            made = copy_classes(plan, source)
        else:
            made = TOOLS[tool](load_weights_file(plan, source))
        write_atomic(target, made.pack())
    except DarkpyError as error:
        assert str(error)
        assert not target.exists()
        return
    again = load_weights_file(made.plan, target)
    assert again.network.header == made.network.header
    assert [array_stats(again, node) for node in made.nodes] == [array_stats(made, node) for node in made.nodes]
    assert all(one.not_finite == 0 for node in made.nodes for one in array_stats(made, node))


CFG = (
    "[net]\nwidth=4\nheight=4\nchannels=3\n[convolutional]\nfilters=2\nbatch_normalize=1\n[maxpool]\n"
    "[convolutional]\nfilters=7\n[yolo]\nmask=0\nanchors=1,2\nclasses=2\nnum=1\n"
)
SHAPES = {
    "module_list.0.Conv2d.weight": (2, 3, 1, 1),
    **{f"module_list.0.BatchNorm2d.{name}": (2,) for name in ("weight", "bias", "running_mean", "running_var")},
    "module_list.2.Conv2d.weight": (7, 2, 1, 1),
    "module_list.2.Conv2d.bias": (7,),
}
STYLES = (
    lambda name: name,
    lambda name: f"module.{name}",
    lambda name: name.replace("0.Conv2d", "0.conv_0").replace("0.BatchNorm2d", "0.batch_norm_0"),
    lambda name: name.replace("module_list", "models").replace("Conv2d", "conv1").replace("BatchNorm2d", "bn1"),
)
TYPES = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64)


@st.composite
def states(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    """A program's state dict after a few accidents."""
    style = draw(st.sampled_from(STYLES))
    state = {style(name): torch.full(shape, 0.5) for name, shape in SHAPES.items()}
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(state)))
        match draw(st.sampled_from(("drop", "rename", "shape", "type", "value", "add"))):
            case "drop" if len(state) > 1:
                del state[name]
            case "rename" if name:
                at = draw(st.integers(0, len(name) - 1))
                state[name[:at] + draw(st.sampled_from("0123456789.x_é\n")) + name[at + 1 :]] = state.pop(name)
            case "shape":
                state[name] = torch.zeros(draw(st.lists(st.integers(0, 4), max_size=5)))
            case "type" if state[name].dtype == torch.float32:
                state[name] = state[name].to(draw(st.sampled_from(TYPES)))
            case "value" if state[name].dtype == torch.float32:
                state[name] = torch.full_like(state[name], draw(st.sampled_from((math.nan, math.inf, 1e38, -1.0))))
            case _:
                state[draw(st.text(max_size=40))] = torch.zeros(1)
    return state


@relaxed
@given(states())
def test_a_state_dict_fits_or_is_refused(state: dict[str, torch.Tensor]) -> None:
    network = Network(make_plan(CFG))
    loaded = OpenArchive(Path("x.pt"), state, WeightsMetadata())
    layout = next((layout for layout in ARRAY_LAYOUTS if layout.recognizes(state.keys())), None)
    if layout is None:
        return
    try:
        filled = layout.fill(loaded, network)
    except DarkpyError as error:
        assert "x.pt" in str(error)
        assert all(tensor.is_meta for tensor in network.state_dict().values()), "half loaded"
        return
    try:
        check_arrays(network, filled.cutoff)
    except DarkpyError as error:
        assert "NaN or infinity" in str(error)


def saved(*, is_old: bool) -> bytes:
    stream = io.BytesIO()
    state = {name: torch.full(shape, 0.5) for name, shape in SHAPES.items()}
    torch.save({"model": state, "best_fitness": np.array([0.5])}, stream, _use_new_zipfile_serialization=not is_old)
    return stream.getvalue()


FILES = {is_old: saved(is_old=is_old) for is_old in (True, False)}


@relaxed
@given(
    st.booleans(),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    st.floats(0, 1),
)
def test_any_bytes_in_a_state_dict_are_read_or_refused(
    tmp_path: Path, is_old: bool, accidents: list[tuple[float, int]], end: float
) -> None:
    data = bytearray(FILES[is_old])
    for place, byte in accidents:
        data[int(place * len(data))] = byte
    path = tmp_path / "x.pt"
    path.write_bytes(data[: int(end * len(data))] if end < 0.9 and not accidents else data)
    try:
        loaded = read_torch(path)
    except DarkpyError as error:
        assert str(path) in str(error)
        return
    assert all(isinstance(array, torch.Tensor) for array in loaded.arrays.values())


def test_numpys_own_values_are_passed_over_and_never_made(tmp_path: Path) -> None:
    """A forged dtype would make numpy read bytes as addresses."""
    kept = {
        "model": {"a": torch.ones(1)},
        "epoch": np.int64(3),
        "score": np.array([[1.0, 2.0]]),
        "kind": np.dtype("f4"),
    }
    torch.save(kept, tmp_path / "x.pt")
    assert list(read_torch(tmp_path / "x.pt").arrays) == ["a"]
    with torch.serialization.safe_globals(_NUMPY_PLACEHOLDERS):
        actual = torch.load(tmp_path / "x.pt", weights_only=True)
    assert {type(actual[name]).__name__ for name in ("epoch", "score", "kind")} == {"_Ignored"}


def test_a_pickle_inside_the_archive_that_calls_anything_else_is_refused(tmp_path: Path) -> None:
    called = b"\x80\x02cnumpy.core.multiarray\nfromstring\n(X\x04\x00\x00\x00abcdtR."
    plain = tmp_path / "plain.pt"
    torch.save({}, plain)
    hostile = tmp_path / "hostile.pt"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(hostile, "w") as target:
        for entry in source.infolist():
            target.writestr(entry, called if entry.filename.endswith("data.pkl") else source.read(entry))
    with pytest.raises(DarkpyError, match="none of it was run"):
        read_torch(hostile)


@relaxed
@given(mutated_cfgs(), st.sampled_from(list(Dialect)))
def test_weights_of_any_network_go_to_the_other_darknet_or_are_refused(cfg: str, dialect: Dialect) -> None:
    plan = planned(cfg, str(dialect))
    if plan is None or not is_small(plan) or plan.net.time_steps > 8:
        return
    network = Network(plan)
    network.initialize(torch.Generator().manual_seed(0))
    other = Dialect.ALEXEYAB if dialect is Dialect.PJREDDIE else Dialect.PJREDDIE
    try:
        made, _ = transfer(network, None, plan_for_dialect(cfg, plan, other))
    except DarkpyError as error:
        assert str(error)
        return
    mine, theirs = network.state_dict(), made.state_dict()
    assert all(torch.equal(array, theirs[name]) for name, array in mine.items() if name in theirs)
    assert not any(array.any() for name, array in theirs.items() if name not in mine)
