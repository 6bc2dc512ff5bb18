"""The fastest kernel is chosen, remembered in a file, and a file of any content costs nothing but time."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.inference import kernel_selection as module
from darkpy.inference.accelerate import InferenceConfig, accelerate
from darkpy.inference.conv_kernels import ConvFunction, ConvTask, OneDnnConv
from darkpy.inference.kernel_cache import MAX_CACHE_BYTES, MAX_TASKS, KernelCache, Measurement, describe_setup
from darkpy.inference.kernel_selection import MEASURED_KERNELS, KernelSelector
from darkpy.inference.lowering import Lowering, conv_task
from darkpy.network import Network
from darkpy.shapes import Shape
from tests.inference.networks import distance, filled, images, outputs
from tests.inference.test_conv_kernels import layer_of, make_task

TASK = make_task(Shape(16, 12, 12), 16)
NET = "[net]\nwidth=32\nheight=24\nchannels=3\n"
CONV = "[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\npad=1\nactivation=leaky\n"


class TimedKernel(OneDnnConv):
    """A kernel with a pretended time, which counts how often it is built."""

    def __init__(self, name: str, seconds: float, factor: float = 1, *, expands_weights: bool = False) -> None:
        self.name, self.seconds, self.expands_weights = name, seconds, expands_weights
        self._factor = factor
        self.times_built = 0

    def build(self, task: ConvTask) -> ConvFunction:
        conv = super().build(task)
        self.times_built += 1
        return TimedFunction(lambda x: conv(x) * self._factor, self)


@dataclass
class TimedFunction:
    function: ConvFunction
    kernel: TimedKernel

    def __call__(self, x_BCHW: torch.Tensor, /) -> torch.Tensor:
        return self.function(x_BCHW)


@pytest.fixture(autouse=True)
def cache_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "darkpy" / "kernels.json"


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> dict[str, TimedKernel]:
    made = [
        TimedKernel("default", 0.004),
        TimedKernel("slow", 0.008),
        TimedKernel("wrong", 0.0001, factor=1.01),
        TimedKernel("fast", 0.001, expands_weights=True),
    ]
    monkeypatch.setattr(module, "DEFAULT_KERNELS", tuple(made[:1]))
    monkeypatch.setattr("darkpy.inference.conv_kernels.DEFAULT_KERNELS", tuple(made[:1]))
    monkeypatch.setattr(module, "MEASURED_KERNELS", tuple(made[1:]))
    monkeypatch.setattr(module, "_time", lambda function, *_: function.kernel.seconds)
    return {kernel.name: kernel for kernel in made}


def select(*, again: bool = False, low_memory: bool = False, task: ConvTask = TASK) -> KernelSelector:
    selector = KernelSelector(again=again, low_memory=low_memory)
    function = selector.select(task, layer_of(task))
    assert function is not None
    selector.save()
    return selector


def chosen(selector: KernelSelector, task: ConvTask = TASK) -> str | None:
    measurement = selector.measurement(task)
    return measurement.kernel if measurement else None


def test_fastest_kernel_that_agrees_with_the_layer_is_chosen(kernels: dict[str, TimedKernel]) -> None:
    selector = select()
    measurement = selector.measurement(TASK)
    assert measurement is not None and measurement.kernel == "fast"
    assert measurement.ms == {"default": 4, "slow": 8, "fast": 1}


def test_measurements_are_made_once_for_each_kind_of_task_and_kept(kernels: dict[str, TimedKernel]) -> None:
    select()
    times = kernels["slow"].times_built
    other = make_task(Shape(16, 12, 12), 16)
    selector = select(task=other)
    assert chosen(selector) == "fast"
    assert kernels["slow"].times_built == times
    select(task=make_task(Shape(16, 12, 12), 16, batch=2))
    assert kernels["slow"].times_built > times


def test_tune_off_measures_nothing_and_reads_no_file(kernels: dict[str, TimedKernel], cache_file: Path) -> None:
    cache_file.parent.mkdir()
    cache_file.write_text("{")
    accelerate(filled(NET + CONV), InferenceConfig(tune="off"))
    accelerate(filled(NET + CONV))  # DARKPY_TUNE is "off" in tests
    assert cache_file.read_text() == "{"
    assert kernels["slow"].times_built == 0


def test_tune_again_measures_anew(kernels: dict[str, TimedKernel]) -> None:
    select()
    kernels["fast"].seconds, kernels["slow"].seconds = 0.02, 0
    assert chosen(select()) == "fast"
    assert chosen(select(again=True)) == "slow"
    assert chosen(select()) == "slow"


def test_low_memory_leaves_kernels_with_larger_weights_out(kernels: dict[str, TimedKernel]) -> None:
    assert chosen(select()) == "fast"
    assert chosen(select(low_memory=True)) == "default"


def test_measuring_ends_when_the_time_for_it_is_spent(
    kernels: dict[str, TimedKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 1.0, 6.0, 6.0, 6.0])
    monkeypatch.setattr(module, "perf_counter", lambda: next(clock))
    selector = KernelSelector()
    tasks = [make_task(Shape(16, 12, side), 16) for side in (12, 13, 14)]
    for task in tasks:
        assert selector.select(task, layer_of(task)) is not None
    assert [chosen(selector, task) for task in tasks] == ["fast", "fast", None]


@pytest.mark.parametrize("change", ["threads", "cpu", "isa"])
def test_other_setups_are_measured_on_their_own(
    change: str, kernels: dict[str, TimedKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    select()
    threads = torch.get_num_threads()
    if change == "threads":
        torch.set_num_threads(threads + 1)
    elif change == "cpu":
        monkeypatch.setattr("darkpy.inference.kernel_cache.cpu_name", lambda: "Some CPU")
    else:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    try:
        assert chosen(KernelSelector()) is None
        select()
    finally:
        torch.set_num_threads(threads)
    monkeypatch.undo()


def entry(kernel: object = "fast", ms: object = None) -> dict[str, object]:
    return {"kernel": kernel, "ms": {"fast": 1.0} if ms is None else ms}


def content(record: object, version: object = 1, machine: str | None = None) -> str:
    tasks = {TASK.key: record}
    return json.dumps({"version": version, "machines": {machine or describe_setup(): tasks}})


FOREIGN = {
    "empty": "",
    "no JSON": "{",
    "binary": b"\x00\xff\xfe{",
    "a list": "[1, 2]",
    "deep": "[" * 100_000,
    "long number": '{"version": ' + "1" * 10_000 + "}",
    "other version": content(entry(), version=2),
    "no machines": '{"version": 1}',
    "machines a list": '{"version": 1, "machines": [1]}',
    "tasks a list": '{"version": 1, "machines": {"x": [1]}}',
    "record a text": content("fast"),
    "kernel a number": content(entry(3)),
    "unknown kernel": content(entry("rm -rf")),
    "times a list": content(entry("gone", [1])),
    "times NaN": content(entry(ms={"fast": float("nan")})),
    "times infinite": content(entry(ms={"fast": float("inf")})),
    "times true": content(entry(ms={"fast": True})),
    "times negative": content(entry(ms={"fast": -1})),
    "too large": content(entry()) + " " * MAX_CACHE_BYTES,
    "other machine": content(entry("slow"), machine="another"),
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_or_damaged_file_costs_only_time(
    text: str | bytes, kernels: dict[str, TimedKernel], cache_file: Path
) -> None:
    cache_file.parent.mkdir()
    cache_file.write_bytes(text if isinstance(text, bytes) else text.encode())
    select()
    assert chosen(KernelSelector()) == "fast"
    assert json.loads(cache_file.read_bytes())["version"] == 1


def test_kernel_that_no_longer_agrees_gives_way_to_the_default(
    kernels: dict[str, TimedKernel], cache_file: Path
) -> None:
    cache_file.parent.mkdir()
    cache_file.write_text(content(entry("wrong")))
    selector = KernelSelector()
    function = selector.select(TASK, layer_of(TASK))
    assert isinstance(function, TimedFunction) and function.kernel.name == "default"


@pytest.mark.parametrize("kind", ["folder", "file in the way"])
def test_path_that_cannot_be_written_is_one_warning(
    kind: str, cache_file: Path, kernels: dict[str, TimedKernel]
) -> None:
    if kind == "file in the way":
        cache_file.parent.write_text("")
    else:
        cache_file.parent.mkdir()
        cache_file.mkdir()
    with pytest.warns(DarkpyWarning, match="measured again at each load") as caught:
        select()
    assert len(caught) == 1


def test_user_without_a_home_measures_at_each_load(
    kernels: dict[str, TimedKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert chosen(select()) == "fast"
    assert chosen(KernelSelector()) is None


def test_measurements_of_other_processes_are_kept(kernels: dict[str, TimedKernel]) -> None:
    first, second = KernelCache(), KernelCache()
    first.put("a", Measurement("fast", {"fast": 1.0}))
    second.put("b", Measurement("slow", {"slow": 2.0}))
    first.save()
    second.save()
    both = KernelCache()
    assert both.get("a") == Measurement("fast", {"fast": 1.0})
    assert both.get("b") == Measurement("slow", {"slow": 2.0})


def _write_many(name: str) -> None:
    for index in range(20):
        cache = KernelCache()
        cache.put(f"{name} {index}", Measurement("fast", {"fast": 1.0}))
        cache.save()


@pytest.mark.slow
def test_processes_that_write_at_once_leave_a_whole_file(cache_file: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(name,)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert json.loads(cache_file.read_text())["version"] == 1
    assert [path.name for path in cache_file.parent.iterdir()] == ["kernels.json"]


def test_file_stays_bounded(cache_file: Path) -> None:
    cache = KernelCache()
    for index in range(MAX_TASKS + 10):
        cache.put(f"task {index}", Measurement("fast", {}))
    cache.save()
    again = KernelCache()
    assert again.get("task 9") is None
    assert again.get(f"task {MAX_TASKS + 9}") is not None
    assert cache_file.stat().st_size < MAX_CACHE_BYTES


def test_unknown_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net = filled(NET + CONV)
    with pytest.raises(DarkpyError, match="tune='maybe' is unknown"):
        accelerate(net, InferenceConfig(tune="maybe"))
    monkeypatch.setenv("DARKPY_TUNE", "sometimes")
    with pytest.raises(DarkpyError, match="DARKPY_TUNE='sometimes' is unknown"):
        accelerate(net)


def force(name: str, net: Network, batch: int = 1) -> None:
    """Write a cache file that names one kernel for all convolutions of a folded network."""
    cache = KernelCache()
    for node, layer in zip(net.plan.nodes, net.built, strict=True):
        if (task := conv_task(layer, node.inputs, Lowering(batch=batch))) is not None:
            cache.put(task.key, Measurement(name, {}))
    cache.save()


KERNEL_NAMES = [
    pytest.param(kernel.name, marks=() if kernel.name == "Winograd 4" else pytest.mark.slow)
    for kernel in MEASURED_KERNELS
]


@pytest.mark.parametrize("name", KERNEL_NAMES)
@pytest.mark.parametrize("cfg", ["yolov3-tiny", pytest.param("yolov3", marks=pytest.mark.slow)])
def test_network_with_one_kernel_wherever_it_fits_agrees_with_the_reference(name: str, cfg: str) -> None:
    net = filled(Path(__file__).resolve().parents[2] / f"cfg/{cfg}.cfg").for_inference()
    x = images(net)
    expected = outputs(net, x)
    force(name, net)
    assert distance(outputs(accelerate(net, InferenceConfig(tune="on")), x), expected) <= 1e-4


def test_tuned_network_agrees_and_names_its_kernels(cache_file: Path) -> None:
    net = filled(NET + CONV + CONV + "[convolutional]\nfilters=8\nactivation=mish\n")
    x = images(net)
    expected = outputs(net, x)
    assert distance(outputs(accelerate(net, InferenceConfig(tune="on")), x), expected) <= 1e-4
    (tasks,) = json.loads(cache_file.read_text())["machines"].values()
    assert len(tasks) == 3
    assert "Winograd 4" in tasks["1 x 32 x 24 x 16 -> 16, 3x3/1 pad 1, leaky"]["ms"]


def test_tuned_network_is_saved_by_no_file_and_keeps_no_weights() -> None:
    net = accelerate(darkpy.load(NET + CONV + CONV), InferenceConfig(tune="on"))
    assert all(name.endswith("biases") for name, _ in net.named_parameters())
