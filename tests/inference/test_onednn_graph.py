"""A network as one program computes what its layers compute, and is chosen only where that is faster."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError, WeightsError
from darkpy.inference import runner_selection as module
from darkpy.inference.accelerate import InferenceConfig, accelerate
from darkpy.inference.executor import Executor, conv_tasks
from darkpy.inference.lowering import Lowering
from darkpy.inference.onednn_graph import GraphRunner, extra_bytes_of_kernels
from darkpy.inference.winograd import WinogradConv
from darkpy.network import Network
from darkpy.ops.activations import ACTIVATIONS_BY_NAME
from darkpy.shapes import Shape
from tests.inference.networks import distance, filled, images, outputs
from tests.inference.test_conv_kernels import make_task
from tests.inference.test_executor import CFGS, CONV, NET, ODD

TUNED = InferenceConfig(tune="on")
LEAKY = CONV + "activation=leaky\n"
FOUR = NET + LEAKY * 4


@pytest.fixture(autouse=True)
def cache_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "darkpy" / "kernels.json"


def pretend(monkeypatch: pytest.MonkeyPatch, *, program: float = 1, layers: float = 2) -> list[type]:
    """Let the ways take these times, and return the list of what is measured."""
    measured: list[type] = []

    def seconds(ways: Mapping[str, object], _: object) -> dict[str, float]:
        measured.extend(map(type, ways.values()))
        return {name: program if isinstance(way, GraphRunner) else layers for name, way in ways.items()}

    monkeypatch.setattr(module, "_shortest_runs", seconds)
    return measured


def program_of(
    net: Network, *, winograd: bool = False, batch: int = 1, dtype: torch.dtype = torch.float32
) -> GraphRunner:
    net.for_inference()
    tasks, kernel = conv_tasks(net.plan, net.built, Lowering(batch=batch, dtype=dtype)), WinogradConv(4)
    kernels = {index: kernel if winograd and kernel.supports(task) else None for index, task in tasks.items()}
    return GraphRunner(net, tasks, kernels)


@pytest.mark.parametrize("cfg", CFGS)
def test_every_cfg_without_a_memory_agrees_with_the_reference(cfg: Path) -> None:
    net = filled(cfg)
    if not net.has_memory:
        x = images(net)
        expected = outputs(net, x)
        with torch.inference_mode():
            assert distance(program_of(net)(x), expected) <= 1e-4


@pytest.mark.parametrize("section", ODD.values(), ids=ODD.keys())
def test_layers_of_all_kinds_agree_with_the_reference(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    cfg = NET + CONV.replace("filters=8", "filters=8\nactivation=leaky") + section
    x = images(filled(cfg, "alexeyab"), 3)
    expected = outputs(filled(cfg, "alexeyab"), x)
    net = accelerate(filled(cfg, "alexeyab"), TUNED)
    assert distance(outputs(net, x), expected) <= 1e-4
    assert isinstance(net.runner, GraphRunner) != net.has_memory
    expected = outputs(accelerate(filled(cfg, "alexeyab"), InferenceConfig(tune="off", precision="bf16")), x)
    net = accelerate(filled(cfg, "alexeyab"), InferenceConfig(tune="on", precision="bf16"))
    assert distance(outputs(net, x), expected) <= 0.02


def test_every_activation_behind_a_convolution_agrees_with_the_reference() -> None:
    for name, activation in ACTIVATIONS_BY_NAME.items():
        net = filled(f"{NET}{CONV}activation={name}\n{CONV}activation={name}\n", next(iter(activation.dialects)))
        x = images(net, 2) - 0.5
        expected = outputs(net, x)
        with torch.inference_mode():
            assert distance(program_of(net)(x), expected) <= 1e-4, name


@pytest.mark.parametrize("winograd", [False, True])
def test_images_of_any_number_size_and_layout_agree_with_the_reference(
    winograd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkpy.inference.fixed_shapes.FILLED_PIECES", 2)  # then single images are compiled
    wide = LEAKY.replace("filters=8", "filters=16")
    net = filled(NET.replace("channels=3", "channels=1") + wide * 3 + "[maxpool]\nstride=2\n" + wide)
    program = program_of(net, winograd=winograd, batch=2)
    for count, (h, w) in ((2, (12, 16)), (3, (12, 16)), (1, (12, 16)), (5, (12, 16)), (4, (12, 16)), (2, (1, 1))):
        net.resize(w, h)
        x = images(net, count)
        for like in (x, x.contiguous(memory_format=torch.channels_last), x.repeat(1, 1, 2, 2)[..., ::2, ::2]):
            with torch.inference_mode():
                assert distance(program(like), net.reference_forward(like)) <= 1e-4, (count, h, w)


def test_products_of_winograds_algorithm_run_inside_programs_of_onednn() -> None:
    net = filled(NET + LEAKY.replace("filters=8", "filters=32") * 3)
    program = program_of(net, winograd=True)
    program(images(net))
    jit: Any = torch.jit
    kinds = {node.kind() for node in jit.last_executed_optimized_graph().nodes()}
    assert "aten::as_strided" in kinds  # the tiles of a convolution
    assert not kinds & {"aten::bmm", "aten::matmul", "aten::_convolution"}


def test_large_batches_are_not_compiled_as_one() -> None:
    net = filled(FOUR)
    program = program_of(net)
    x = images(net, 20)
    with torch.inference_mode():
        assert distance(program(x), net.reference_forward(x)) <= 1e-4
    assert list(*program._run._programs.values()) == [8]


def test_autocast_is_neither_compiled_in_nor_changes_what_is_compiled() -> None:
    net = filled(FOUR + "[maxpool]\nsize=2\nstride=1\n")
    program = program_of(net)
    x = images(net)
    with torch.inference_mode():
        expected = net.reference_forward(x)
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                assert distance(program(x), expected) <= 1e-4
        assert distance(program(x), expected) <= 1e-4


@pytest.mark.parametrize("error", [TypeError, AttributeError, RuntimeError])
def test_layers_run_what_cannot_be_compiled(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    net = filled(FOUR)
    program = program_of(net)
    program(images(net))
    program.take_weights()

    def fail(*_: object) -> None:
        raise error("torch's private functions have changed")

    monkeypatch.setattr(torch._C, "_create_graph_by_tracing", fail)
    x = images(net, 3)
    assert distance(program(x), net.reference_forward(x)) <= 1e-4
    assert not any(output.requires_grad for output in program(x.requires_grad_()))


def test_gradients_of_the_input_are_not_needed() -> None:
    net = filled(FOUR)
    program = program_of(net)
    for x in (images(net), images(net).requires_grad_()):
        assert not any(output.requires_grad for output in program(x))


@pytest.mark.parametrize("activation", ["leaky", "linear", "logistic", "relu", "relu6", "hardtan", "tanh", "swish"])
def test_nan_and_infinite_inputs_are_passed_on(activation: str) -> None:
    net = filled(f"{NET}{CONV}activation={activation}\n", next(iter(ACTIVATIONS_BY_NAME[activation].dialects)))
    program = program_of(net)
    for value in (float("nan"), float("inf"), -float("inf")):
        x = images(net)
        x[0, 1, 5, 7] = value
        with torch.inference_mode():
            (actual,), (expected,) = program(x), net.reference_forward(x)
            (layers,) = accelerate(copy.deepcopy(net))(x)
        assert torch.equal(actual.isnan(), expected.isnan())
        assert torch.equal(layers.isnan(), expected.isnan())
        assert not math.isnan(value) or actual.isnan().any()


def test_threads_may_run_a_program_at_once() -> None:
    net = filled(FOUR)
    program = program_of(net)
    inputs = [images(net) * scale for scale in range(1, 9)]
    with torch.inference_mode():
        expected = [net.reference_forward(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for actual, plain in zip(pool.map(program, inputs * 5), expected * 5, strict=True):
            assert distance(actual, plain) <= 1e-4


def test_setting_of_torch_is_left_as_it_was_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    net = filled(FOUR)
    x = images(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program_of(net)(x)
    assert not torch.jit.onednn_fusion_enabled()  # type: ignore[no-untyped-call]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("program", "layers", "kind"), [(1, 2, GraphRunner), (2, 1, Executor), (0.99, 1, Executor)])
def test_clearly_faster_way_is_chosen_measured_once_and_kept(
    program: float, layers: float, kind: type, monkeypatch: pytest.MonkeyPatch, cache_file: Path
) -> None:
    measured = pretend(monkeypatch, program=program, layers=layers)
    for _ in range(2):
        assert isinstance(accelerate(filled(FOUR), TUNED).runner, kind)
        assert sorted(way.__name__ for way in measured) == ["Executor", "GraphRunner"]
    (times,) = json.loads(cache_file.read_text())["machines"].values()
    key, preparation_key = sorted(key for key in times if key.startswith("network "))
    assert preparation_key == f"{key}, preparation"
    assert times[preparation_key].keys() == times[key].keys()
    assert times[preparation_key]["as one program"] > 0
    assert times[key] == {
        "layer by layer": 1000 * layers,
        "as one program": 1000 * program,
        "as one program, with more by Winograd": None,  # there is nothing more
    }
    accelerate(filled(FOUR + LEAKY), TUNED)
    accelerate(filled(FOUR), InferenceConfig(tune="on", batch=2))
    accelerate(filled(FOUR), InferenceConfig(tune="again"))
    assert len(measured) == 8


def test_program_is_prepared_only_for_images_that_make_up_for_the_time(
    monkeypatch: pytest.MonkeyPatch, cache_file: Path
) -> None:
    pretend(monkeypatch, program=0.010, layers=0.014)
    for batch in (1, 2):
        tuned = InferenceConfig(tune="on", batch=batch)
        assert isinstance(accelerate(filled(FOUR), replace(tuned, image_count=1)).runner, GraphRunner)  # is prepared
        content = json.loads(cache_file.read_text())
        (times,) = content["machines"].values()
        for key in (key for key in times if key.endswith(", preparation")):
            times[key] |= {"layer by layer": 20, "as one program": 60}
        cache_file.write_text(json.dumps(content))
        for count, kind in ((1, Executor), (10, Executor), (50, GraphRunner), (None, GraphRunner)):
            images = None if count is None else count * batch
            assert isinstance(accelerate(filled(FOUR), replace(tuned, image_count=images)).runner, kind)


def test_ways_are_measured_once_all_kernels_are(monkeypatch: pytest.MonkeyPatch, cache_file: Path) -> None:
    measured = pretend(monkeypatch)
    monkeypatch.setattr("darkpy.inference.kernel_selection.TUNE_LIMIT_SECONDS", 0)
    assert isinstance(accelerate(filled(FOUR), TUNED).runner, Executor)
    assert not measured
    assert not cache_file.exists()


def test_low_memory_limits_and_layers_with_a_memory_need_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = pretend(monkeypatch)
    assert isinstance(accelerate(filled(FOUR), InferenceConfig(tune="on", low_memory=True)).runner, Executor)
    for name, value in (("accelerate.EXTRA_WEIGHTS_RATIO", 0.5), ("onednn_graph._LARGEST_WEIGHTS_BYTES", 1000)):
        with monkeypatch.context() as patch:
            patch.setattr("darkpy.inference.accelerate.MIN_EXTRA_BYTES", 0)
            patch.setattr(f"darkpy.inference.{name}", value)
            assert isinstance(accelerate(filled(FOUR), TUNED).runner, Executor)
    assert isinstance(accelerate(filled(NET + "[crnn]\noutput_filters=4\nhidden_filters=4\n"), TUNED).runner, Executor)
    assert measured == []


def test_winograd_takes_no_memory_that_a_program_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    times = {"oneDNN": 2.0, "Winograd 4": 1.0}
    monkeypatch.setattr("darkpy.inference.kernel_selection.KernelSelector._measure", lambda *_: times)
    monkeypatch.setattr("darkpy.inference.accelerate.MIN_EXTRA_BYTES", 0)
    for ratio, tiled in ((8, 3), (2, 0)):  # Winograd keeps 7 times a layer's weights beyond them, oneDNN once
        monkeypatch.setattr("darkpy.inference.accelerate.EXTRA_WEIGHTS_RATIO", ratio)
        runner = accelerate(filled(NET + LEAKY.replace("filters=8", "filters=32") * 4), TUNED).runner
        assert isinstance(runner, GraphRunner)
        assert sum(type(conv).__name__ == "_TiledConv" for conv in runner._convs.values()) == tiled


def test_memory_that_a_program_leaves_depends_on_the_precision() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        weights_bytes = 16 * 16 * 9 * dtype.itemsize
        tasks = [make_task(Shape(16, 8, 8), 16, dtype=dtype)] * 2
        assert extra_bytes_of_kernels(tasks, 6 * weights_bytes) == 2 * weights_bytes


def test_ways_take_turns_when_they_are_measured() -> None:
    called: list[str] = []

    def way(name: str, _: torch.Tensor) -> list[torch.Tensor]:
        called.append(name)
        return []

    ways = {name: partial(way, name) for name in "abc"}
    assert module._shortest_runs(ways, torch.zeros(1)).keys() == {"a", "b", "c"}
    assert called[:9] == ["a", "b", "c"] * 3


@pytest.mark.parametrize("fault", ["wrong", "absent"])
def test_program_that_fails_or_computes_something_else_is_not_used(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)

    def broken(self: GraphRunner, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        if fault == "absent":
            raise RuntimeError("this build of torch has no oneDNN")
        return [output + 1e-3 for output in self._run(x_BCHW)]

    monkeypatch.setattr(GraphRunner, "__call__", broken)
    net = filled(FOUR)
    x = images(net)
    expected = outputs(net, x)
    assert distance(outputs(accelerate(net, TUNED), x), expected) <= 1e-4
    assert isinstance(net.runner, Executor)


def test_weights_are_freed_copies_share_the_program_and_saving_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch)
    for _ in range(2):  # measured, and known
        net = accelerate(filled(FOUR), TUNED)
        assert isinstance(net.runner, GraphRunner)
        assert all(name.endswith("biases") for name, _ in net.named_parameters())
        with pytest.raises(WeightsError, match="was folded away for inference"):
            net.save_weights(tmp_path / "gone.weights")
        x = images(net)
        with torch.inference_mode():
            assert distance(copy.deepcopy(net)(x), net.reference_forward(x)) <= 1e-4
            assert len(net.trace(x)) == 4


def test_temperature_is_set_before_it_becomes_part_of_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    cfg = FOUR + "[avgpool]\n[softmax]\n"
    net, plain = filled(cfg), filled(cfg)
    x = images(net)
    for network in (net, plain):
        network.set_temperature(5)
    accelerate(net, TUNED).set_temperature(5)
    assert isinstance(net.runner, GraphRunner)
    assert distance(outputs(net, x), outputs(plain, x)) <= 1e-4
    with pytest.raises(DarkpyError, match="temperature of an accelerated network is fixed"):
        net.set_temperature(1)
    assert distance(outputs(net, x), outputs(plain, x)) <= 1e-4


def test_memory_of_a_program_is_freed_with_the_network() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    def run() -> None:
        net = darkpy.load("[net]\nwidth=32\nheight=32\nchannels=256\n" + LEAKY.replace("filters=8", "filters=256"))
        program_of(net)(images(net))

    for _ in range(3):
        run()
    before = resident()
    for _ in range(12):
        run()
    assert (resident() - before) * 4096 < 4 * 256 * 256 * 9 * 4  # of four programs' weights
