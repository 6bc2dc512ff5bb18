"""The fastest kernel is chosen, remembered in a file, and a file of any content costs nothing but time."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.files import protect_inputs
from darkpy.inference import kernel_selection as module
from darkpy.inference.accelerate import InferenceConfig, accelerate
from darkpy.inference.conv_kernels import ConvFunction, ConvTask, OneDnnConv
from darkpy.inference.executor import in_lowering_order
from darkpy.inference.kernel_cache import FORMAT_VERSION, MAX_CACHE_BYTES, MAX_TASKS, KernelCache, describe_setup
from darkpy.inference.kernel_selection import MEASURED_KERNELS, KernelSelector
from darkpy.inference.lowering import Lowering, conv_task
from darkpy.network import Network
from darkpy.shapes import Shape
from tests.inference.networks import distance, filled, images, outputs
from tests.inference.test_conv_kernels import layer_of, make_task

TASK = make_task(Shape(16, 12, 12), 16)
EXTRA_BYTES = 1 << 30
NET = "[net]\nwidth=32\nheight=24\nchannels=3\n"
CONV = "[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\npad=1\nactivation=leaky\n"


class TimedKernel(OneDnnConv):
    """A kernel with a pretended time, which counts how often it is built."""

    def __init__(self, name: str, seconds: float, factor: float = 1, *, weight_ratio: float = 1) -> None:
        self.name, self.seconds, self.weight_ratio = name, seconds, weight_ratio
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
        TimedKernel("fast", 0.001, weight_ratio=4),
    ]
    monkeypatch.setattr(module, "DEFAULT_KERNELS", tuple(made[:1]))
    monkeypatch.setattr("darkpy.inference.conv_kernels.DEFAULT_KERNELS", tuple(made[:1]))
    monkeypatch.setattr(module, "MEASURED_KERNELS", tuple(made[1:]))
    monkeypatch.setattr(module, "shortest_run", lambda function, *_: function.kernel.seconds)
    return {kernel.name: kernel for kernel in made}


def make_selector(*, again: bool = False, extra_bytes: int = EXTRA_BYTES) -> KernelSelector:
    return KernelSelector(again=again, extra_bytes=extra_bytes)


def chosen(selector: KernelSelector | None = None, task: ConvTask = TASK) -> str:
    """Return the name of the kernel that is used, and keep what was measured."""
    selector = selector or make_selector()
    function = selector.select(task, layer_of(task))
    assert isinstance(function, TimedFunction)
    selector.save()
    return function.kernel.name


def test_fastest_kernel_that_agrees_with_the_layer_is_chosen(kernels: dict[str, TimedKernel]) -> None:
    selector = make_selector()
    assert chosen(selector) == "fast"
    assert selector.times(TASK) == {"default": 4, "slow": 8, "wrong": None, "fast": 1}


def test_small_gains_are_no_reason_to_change(kernels: dict[str, TimedKernel]) -> None:
    kernels["slow"].seconds, kernels["fast"].seconds = 0.00395, 0.0038
    assert chosen() == "default"


def test_times_are_measured_once_for_each_kind_of_task_and_kept(kernels: dict[str, TimedKernel]) -> None:
    assert chosen() == "fast"
    times = kernels["slow"].times_built
    assert chosen(task=make_task(Shape(16, 12, 12), 16)) == "fast"
    assert kernels["slow"].times_built == times
    chosen(task=make_task(Shape(16, 12, 12), 16, batch=2))
    assert kernels["slow"].times_built == times + 1
    for dtype in (torch.bfloat16, torch.float32, torch.bfloat16):
        chosen(task=make_task(Shape(16, 12, 12), 16, dtype=dtype))
    assert kernels["slow"].times_built == times + 2


def test_tune_off_measures_nothing_and_reads_no_file(kernels: dict[str, TimedKernel], cache_file: Path) -> None:
    cache_file.parent.mkdir()
    cache_file.write_text("{")
    accelerate(filled(NET + CONV), InferenceConfig(tune="off"))
    accelerate(filled(NET + CONV))  # DARKPY_TUNE is "off" in tests
    assert cache_file.read_text() == "{"
    assert kernels["slow"].times_built == 0


def test_tune_again_measures_anew(kernels: dict[str, TimedKernel]) -> None:
    assert chosen() == "fast"
    kernels["fast"].seconds, kernels["slow"].seconds = 0.02, 0.001
    assert chosen() == "fast"
    again = make_selector(again=True)
    assert chosen(again) == "slow"
    times = kernels["wrong"].times_built
    assert chosen(again) == "slow"
    assert kernels["wrong"].times_built == times  # once for a network
    assert chosen() == "slow"


def test_new_kernel_is_measured(kernels: dict[str, TimedKernel], monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen() == "fast"
    more = (*module.MEASURED_KERNELS, TimedKernel("new", 0.0005))
    monkeypatch.setattr(module, "MEASURED_KERNELS", more)
    assert chosen() == "new"


def test_low_memory_neither_uses_nor_measures_kernels_with_larger_weights(kernels: dict[str, TimedKernel]) -> None:
    assert chosen(make_selector(extra_bytes=0)) == "default"
    assert kernels["fast"].times_built == 0
    assert chosen() == "fast"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_kernels_with_larger_weights_share_a_limit_of_memory(
    kernels: dict[str, TimedKernel], dtype: torch.dtype
) -> None:
    kernels["wrong"].seconds = 1  # it is within bfloat16's tolerance
    task = make_task(Shape(16, 12, 12), 16, dtype=dtype)
    weights_bytes = dtype.itemsize * task.weights_FCKK.numel()
    selector = make_selector(extra_bytes=7 * weights_bytes)  # each takes 3 more than the weights
    assert [chosen(selector, task) for _ in range(3)] == ["fast", "fast", "default"]


def test_layers_with_few_weights_choose_first() -> None:
    net = filled(NET + CONV.replace("16", "64") + CONV + CONV)
    assert [node.index for node in in_lowering_order(net.plan)] == [0, 2, 1]


def test_measuring_ends_when_the_time_for_it_is_spent(
    kernels: dict[str, TimedKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 1.0, 6.0, 6.0, 6.0])
    monkeypatch.setattr(module, "perf_counter", lambda: next(clock))
    selector = make_selector()
    tasks = [make_task(Shape(16, 12, side), 16) for side in (12, 13, 14)]
    assert [chosen(selector.renewed(), task) for task in tasks[:2]] == ["fast", "fast"]
    assert [chosen(limited, tasks[2]) for limited in (selector, selector.renewed())] == ["default", "default"]
    monkeypatch.undo()


@pytest.mark.parametrize("change", ["threads", "cpu", "isa"])
def test_other_setups_are_measured_on_their_own(
    change: str, kernels: dict[str, TimedKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen()
    threads, times = torch.get_num_threads(), kernels["slow"].times_built
    if change == "threads":
        torch.set_num_threads(threads + 1)
    elif change == "cpu":
        monkeypatch.setattr("darkpy.inference.kernel_cache.cpu_name", lambda: "Some CPU")
    else:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    try:
        assert chosen() == "fast"
    finally:
        torch.set_num_threads(threads)
    assert kernels["slow"].times_built == times + 1


TIMES = {"default": 4.0, "slow": 8.0, "wrong": None, "fast": 1.0}


def content(times: object, version: object = FORMAT_VERSION, machine: str | None = None) -> str:
    return json.dumps({"version": version, "machines": {machine or describe_setup(): {TASK.key: times}}})


FOREIGN = {
    "empty": "",
    "no JSON": "{",
    "binary": b"\x00\xff\xfe{",
    "a list": "[1, 2]",
    "deep": "[" * 100_000,
    "long number": '{"version": ' + "1" * 10_000 + "}",
    "other version": content(TIMES, version=1),
    "no machines": f'{{"version": {FORMAT_VERSION}}}',
    "machines a list": f'{{"version": {FORMAT_VERSION}, "machines": [1]}}',
    "tasks a list": f'{{"version": {FORMAT_VERSION}, "machines": {{"x": [1]}}}}',
    "times a text": content("fast"),
    "times a list": content([1]),
    "a kernel is missing": content({"default": 1.0, "fast": 2.0}),
    "time a text": content({**TIMES, "slow": "1"}),
    "time NaN": content({**TIMES, "slow": float("nan")}),
    "time infinite": content({**TIMES, "slow": float("inf")}),
    "time true": content({**TIMES, "slow": True}),
    "time negative": content({**TIMES, "slow": -1}),
    "time beyond floats": content({**TIMES, "default": 10**400}),
    "too large": content(TIMES) + " " * MAX_CACHE_BYTES,
    "other machine": content({**TIMES, "slow": 0.1}, machine="another"),
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_or_damaged_file_costs_only_time(
    text: str | bytes, kernels: dict[str, TimedKernel], cache_file: Path
) -> None:
    cache_file.parent.mkdir()
    cache_file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert chosen() == "fast"
    assert kernels["slow"].times_built == 1
    assert json.loads(cache_file.read_bytes())["machines"][describe_setup()] == {TASK.key: TIMES}


def test_names_of_unknown_kernels_are_ignored(kernels: dict[str, TimedKernel], cache_file: Path) -> None:
    cache_file.parent.mkdir()
    cache_file.write_text(content({**TIMES, "rm -rf": 0.001}))
    assert chosen() == "fast"
    assert kernels["slow"].times_built == 0


def test_kernel_that_does_not_agree_gives_way_to_the_default(kernels: dict[str, TimedKernel], cache_file: Path) -> None:
    cache_file.parent.mkdir()
    cache_file.write_text(content({**TIMES, "wrong": 0.5, "fast": 2.0}))
    assert chosen() == "default"


@pytest.mark.parametrize("kind", ["folder", "file in the way", "pipe"])
def test_path_that_cannot_be_written_is_one_warning(
    kind: str, cache_file: Path, kernels: dict[str, TimedKernel]
) -> None:
    if kind == "file in the way":
        cache_file.parent.write_text("")
    else:
        cache_file.parent.mkdir()
        (os.mkfifo if kind == "pipe" else os.mkdir)(cache_file)
    with pytest.warns(DarkpyWarning, match="measured again at each load") as caught:
        chosen()
    assert len(caught) == 1


def test_user_without_a_home_measures_at_each_load(
    kernels: dict[str, TimedKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert chosen() == chosen() == "fast"
    assert kernels["slow"].times_built == 2


def test_folder_that_is_not_absolute_is_ignored(
    kernels: dict[str, TimedKernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    chosen()
    assert (tmp_path / ".cache" / "darkpy" / "kernels.json").is_file()


def test_measurements_of_other_processes_are_kept(kernels: dict[str, TimedKernel]) -> None:
    first, second = KernelCache(), KernelCache()
    first.put("a", {"fast": 1.0})
    second.put("b", {"slow": None})
    first.save()
    second.save()
    both = KernelCache()
    assert both.get("a") == {"fast": 1.0}
    assert both.get("b") == {"slow": None}


def test_times_are_saved_over_those_that_the_command_has_read(cache_file: Path) -> None:
    for name in "ab":
        with protect_inputs():
            cache = KernelCache()
            cache.put(name, {"fast": 1.0})
            cache.save()
    assert KernelCache().get("b") == {"fast": 1.0}


def _write_many(name: str) -> None:
    for index in range(20):
        cache = KernelCache()
        cache.put(f"{name} {index}", {"fast": 1.0})
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
    assert json.loads(cache_file.read_text())["version"] == FORMAT_VERSION
    assert [path.name for path in cache_file.parent.iterdir()] == ["kernels.json"]


def test_file_stays_bounded(cache_file: Path) -> None:
    cache = KernelCache()
    for index in range(MAX_TASKS + 10):
        cache.put(f"task {index}", {"fast": 1.0})
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


def force(name: str, net: Network) -> None:
    """Write a cache file in which one kernel is the fastest for all convolutions of a folded network."""
    cache = KernelCache()
    times = {"oneDNN": 1.0, **{kernel.name: 2.0 for kernel in MEASURED_KERNELS}, name: 0.1}
    for node, layer in zip(net.plan.nodes, net.built, strict=True):
        if (task := conv_task(layer, node.inputs, Lowering())) is not None:
            cache.put(task.key, times)
    cache.save()


KERNEL_NAMES = [
    pytest.param(kernel.name, marks=() if kernel.name == "Winograd 4" else pytest.mark.slow)
    for kernel in MEASURED_KERNELS
]


@pytest.mark.parametrize("name", KERNEL_NAMES)
@pytest.mark.parametrize("cfg", ["yolov3-tiny", pytest.param("yolov3", marks=pytest.mark.slow)])
def test_network_with_one_kernel_wherever_it_fits_agrees_with_the_reference(
    name: str, cfg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = filled(Path(__file__).resolve().parents[2] / f"cfg/{cfg}.cfg").for_inference()
    x = images(net)
    expected = outputs(net, x)
    force(name, net)
    monkeypatch.setattr("darkpy.inference.accelerate.EXTRA_WEIGHTS_RATIO", 100)
    assert distance(outputs(accelerate(net, InferenceConfig(tune="on")), x), expected) <= 1e-4


def test_tuned_network_agrees_and_names_its_kernels(cache_file: Path) -> None:
    net = filled(NET + CONV + CONV + "[convolutional]\nfilters=8\nactivation=mish\n")
    x = images(net)
    expected = outputs(net, x)
    assert distance(outputs(accelerate(net, InferenceConfig(tune="on")), x), expected) <= 1e-4
    (tasks,) = json.loads(cache_file.read_text())["machines"].values()
    assert len(tasks) == 5  # with the network itself, and its preparation
    assert "Winograd 4" in tasks["1 x 32 x 24 x 16 -> 16, 3x3/1 pad 1, leaky"]


def test_tuned_network_is_saved_by_no_file_and_keeps_no_weights() -> None:
    net = accelerate(darkpy.load(NET + CONV + CONV), InferenceConfig(tune="on"))
    assert all(name.endswith("biases") for name, _ in net.named_parameters())
