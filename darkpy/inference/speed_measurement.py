"""Speed of a network on this machine, by inference configuration, and the kernels chosen for its convolutions.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter, sleep
from types import MappingProxyType

import torch
from torch.nn import functional

from darkpy.errors import DarkpyError
from darkpy.inference.accelerate import InferenceConfig, accelerate
from darkpy.inference.backends import ENGINES_BY_NAME
from darkpy.inference.conv_kernels import DEFAULT_KERNELS
from darkpy.inference.executor import conv_tasks
from darkpy.inference.kernel_cache import KernelTimes
from darkpy.inference.lowering import Lowering
from darkpy.inference.runner_selection import fastest_runner, known_times
from darkpy.network import Network
from darkpy.process import use_huge_pages

PEAK_SHAPES = ((1, 256, 512, 52), (8, 256, 256, 26), (1, 64, 64, 112))
"""Batch, channels, filters and side of 3 x 3 convolutions that come near the processor's peak."""
PEAK_RUNS = 5
FEWEST_RUNS = 5
MOST_RUNS = 1000
REST_SECONDS = 0.2
"""Pause between two configurations, in which the threads of the last one stop spinning."""
CALIBRATION_IMAGES = 4
PEAK_DTYPES: Mapping[str, torch.dtype] = MappingProxyType({"fp32": torch.float32, "bf16": torch.bfloat16})


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedRow:
    """Time of one configuration, or the reason why it cannot run here (`absent`); quartiles of milliseconds an image.

    percent_of_peak: operations of direct convolutions a second, of those that the processor can do in that precision;
        Winograd's algorithm needs fewer, and may go beyond 100. None for int8, whose peak is not measured.
    """

    way: str
    ms: tuple[float, float, float] | None = None
    percent_of_peak: float | None = None
    absent: str | None = None

    @property
    def images_per_second(self) -> float | None:
        return None if self.ms is None else 1000 / self.ms[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerKernel:
    """Kernel of a layer, and the milliseconds of those that can compute it; None if there was nothing to choose."""

    index: int
    task: str
    kernel: str
    times: KernelTimes | None


def speed_ways(*, compiled: bool) -> dict[str, InferenceConfig]:
    """Return the available configurations. compiled: include those that compile for seconds."""
    ways = {
        "fp32": InferenceConfig(),
        "fp32, default kernels": InferenceConfig(tune="off"),
        "bf16": InferenceConfig(precision="bf16"),
        "int8": InferenceConfig(precision="int8"),
    }
    if compiled:
        ways["fp32, compiled"] = InferenceConfig(compiled=True)
        ways["bf16, compiled"] = InferenceConfig(compiled=True, precision="bf16")
    for name, engine in ENGINES_BY_NAME.items():
        if engine.is_installed:
            ways[f"fp32, {name}"] = InferenceConfig(engine=name)
    return ways


def measure_speed(
    open_network: Callable[[], Network],
    ways: Mapping[str, InferenceConfig],
    *,
    batch: int,
    seconds: float,
    fewest_runs: int = FEWEST_RUNS,
) -> Iterator[SpeedRow]:
    """Yield the speed of each configuration on random images. seconds: of its runs, without loading."""
    peaks: dict[str, float] = {}
    for way, config in ways.items():
        sleep(REST_SECONDS)
        try:
            network = open_network()
            images_1CHW = [torch.rand((1, *network.plan.input_shape)) for _ in range(CALIBRATION_IMAGES)]
            accelerate(network, config, images=images_1CHW)
            ms = _time_images(network, batch, seconds, fewest_runs)
        except DarkpyError as error:
            yield SpeedRow(way=way, absent=error.message)
            continue
        percent = None
        if network.device.type == "cpu" and (dtype := PEAK_DTYPES.get(config.precision)) is not None:
            peak = peaks.setdefault(config.precision, 0.0) or measure_peak(dtype)
            peaks[config.precision] = peak
            percent = 100 * sum(node.bflops for node in network.plan.nodes) / (ms[1] / 1000) / peak
        yield SpeedRow(way=way, ms=ms, percent_of_peak=percent)


def level_weights(network: Network) -> None:
    """Divide random weights by the standard deviation of their layer's output, so that values stay finite at any depth.

    The deviation is that for one random image. A layer without one, as of a single output, keeps its weights.
    """
    x_BCHW = torch.rand((1, *network.plan.input_shape), generator=torch.Generator().manual_seed(0))
    values = {-1: x_BCHW.to(network.device)}
    with torch.no_grad():
        for node, layer in zip(network.plan.nodes, network.built, strict=True):
            sources = [values[source] for source in node.sources]
            array = getattr(layer, "scales", getattr(layer, "weights", None))
            if isinstance(array, torch.nn.Parameter) and (deviation := layer(*sources).std(correction=0)) > 0:
                array.div_(deviation)
            values[node.index] = layer(*sources)
    network.reset_state()


def measure_peak(dtype: torch.dtype) -> float:
    """Return the GFLOP/s of the fastest of some direct convolutions."""
    peak = 0.0
    layout = torch.channels_last
    with torch.inference_mode():
        for batch, channels, filters, side in PEAK_SHAPES:
            x_BCHW = torch.rand(batch, channels, side, side).to(dtype, memory_format=layout)
            weights_FCKK = torch.rand(filters, channels, 3, 3).to(dtype, memory_format=layout)
            operations = 2 * batch * side * side * weights_FCKK.numel()
            for _ in range(PEAK_RUNS):
                started = perf_counter()
                functional.conv2d(x_BCHW, weights_FCKK, padding=1)
                peak = max(peak, operations / (perf_counter() - started) / 1e9)
    return peak


def choose_kernels(network: Network, config: InferenceConfig) -> tuple[list[LayerKernel], KernelTimes | None]:
    """Measure what is not measured yet; the network is folded, and gives its weights up.

    Returns: the kernels of the convolutions, and the milliseconds of a batch by way to run the network, None if there
        is only one.
    """
    network.for_inference()
    selector, lowering, chosen = config.selector(network), Lowering(batch=config.batch), []
    for index, task in conv_tasks(network.plan, network.built, lowering).items():
        kernel = selector.choose(task, network.built[index].forward)
        name = DEFAULT_KERNELS[0].name if kernel is None else kernel.name
        chosen.append(LayerKernel(index=index, task=task.key, kernel=name, times=selector.times(task)))
    if network.device.type == "cpu":
        fastest_runner(network, selector.renewed(), lowering)
    selector.save()
    return sorted(chosen, key=lambda layer: layer.index), known_times(network, selector, lowering)


def _time_images(network: Network, batch: int, seconds: float, fewest_runs: int) -> tuple[float, float, float]:
    """Return the quartiles of the milliseconds an image, in batches on random images."""
    x_BCHW = torch.rand((batch, *network.plan.input_shape), device=network.device)
    if network.prefers_channels_last:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
    times: list[float] = []
    with torch.inference_mode():
        network(x_BCHW)  # warm-up: allocates and compiles
        if network.device.type == "cpu":
            use_huge_pages()  # as commands do after a while
        while len(times) < fewest_runs or (sum(times) < seconds and len(times) < MOST_RUNS):
            started = perf_counter()
            outputs = network(x_BCHW)
            if x_BCHW.device.type == "cuda":
                outputs[0].sum().item()  # waits for the GPU
            times.append(perf_counter() - started)
    low, _, high = quantiles(times, n=4, method="inclusive")
    first, middle, last = (1000 / batch * duration for duration in (low, median(times), high))
    return first, middle, last
