"""Choice between running a network layer by layer and as one program, by measuring both on this machine.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from types import MappingProxyType
from typing import NamedTuple

import torch

from darkpy.inference.conv_kernels import BUILD_ERRORS
from darkpy.inference.engine_selection import ENGINE_TOLERANCE, largest_error
from darkpy.inference.executor import Executor, conv_tasks, lower_layers
from darkpy.inference.kernel_cache import KernelTimes
from darkpy.inference.kernel_selection import MIN_GAIN_EXPANDED, KernelSelector
from darkpy.inference.lowering import Lowering
from darkpy.inference.onednn_graph import GraphRunner, extra_bytes_of_kernels
from darkpy.network import Network, Runner

LAYER_BY_LAYER = "layer by layer"
PROGRAM_GAINS: Mapping[str, float] = MappingProxyType(
    {"as one program": MIN_GAIN_EXPANDED, "as one program, with more by Winograd": 1.15}
)
"""Programs of a network: the largest time of a Winograd kernel, as a fraction of oneDNN's.

Those are times of single calls; in a program, Winograd's many operations have less overhead.
"""
_RUNNER_NAMES = (LAYER_BY_LAYER, *PROGRAM_GAINS)
_PREPARATION_SUFFIX = ", preparation"  # after a network's key: the times before the first call
# largest difference from the layers, as a fraction of the largest value
_LARGEST_ERRORS: Mapping[torch.dtype, float] = MappingProxyType({torch.float32: ENGINE_TOLERANCE, torch.bfloat16: 0.1})
_FEWEST_TURNS, _MOST_TURNS, _MEASURE_SECONDS = 3, 50, 0.5
_MIN_GAIN = 0.97  # of the best time so far: smaller differences are noise


class _Program(NamedTuple):
    """A program, and the time to compile and check it."""

    runner: GraphRunner
    seconds: float


def fastest_runner(
    network: Network, selector: KernelSelector, lowering: Lowering, *, image_count: int | None = None
) -> Runner:
    """Return the fastest runner; it takes over arrays of the layers: irreversible.

    The runners' times are measured once for each network, and stored with those of the kernels.
    image_count: total number of images, which share the time to prepare the runner; None for many.
    """
    key, times = _key(network, lowering), known_times(network, selector, lowering)
    x_BCHW = torch.rand((lowering.batch, *network.plan.input_shape), generator=torch.Generator().manual_seed(0))
    names: Iterable[str] = PROGRAM_GAINS
    if times is not None:
        calls = math.inf if image_count is None else max(1, image_count / lowering.batch)
        names = {_fastest(times, selector.known(key + _PREPARATION_SUFFIX, _RUNNER_NAMES), calls)} - {LAYER_BY_LAYER}
    programs = _checked_programs(network, selector, lowering, x_BCHW, names)
    if times is not None and programs:
        (program,) = programs.values()
        runner: Runner = program.runner
    else:
        started = perf_counter()
        functions = lower_layers(network.plan, network.built, replace(lowering, selector=selector))
        runner = Executor(network.plan, network.outputs, functions)
        seconds = {LAYER_BY_LAYER: perf_counter() - started, **{name: programs[name].seconds for name in programs}}
        if programs and not selector.time_is_up:  # layers may be faster with all kernels
            selector.record(key + _PREPARATION_SUFFIX, {name: seconds.get(name) for name in _RUNNER_NAMES})
            runners: dict[str, Runner] = {LAYER_BY_LAYER: runner, **{name: programs[name].runner for name in programs}}
            shortest = _shortest_runs(runners, x_BCHW)
            runner = runners[_fastest(selector.record(key, {name: shortest.get(name) for name in _RUNNER_NAMES}))]
    if isinstance(runner, GraphRunner):
        runner.take_weights()
    return runner


def known_times(network: Network, selector: KernelSelector, lowering: Lowering) -> KernelTimes | None:
    """Return the milliseconds of a batch by runner, None if they were not measured."""
    return selector.known(_key(network, lowering), _RUNNER_NAMES)


def _shortest_runs(runners: Mapping[str, Runner], x_BCHW: torch.Tensor) -> dict[str, float]:
    """Return the shortest time of each runner in seconds; runs are interleaved, as a machine's speed varies."""
    shortest, started = dict.fromkeys(runners, math.inf), perf_counter()
    with torch.inference_mode():
        for turn in range(_MOST_TURNS):
            for name, runner in runners.items():
                before = perf_counter()
                runner(x_BCHW)
                shortest[name] = min(shortest[name], perf_counter() - before)
            if turn + 1 >= _FEWEST_TURNS and perf_counter() - started > _MEASURE_SECONDS:
                break
    return shortest


def _fastest(times: KernelTimes, preparation: KernelTimes | None = None, calls: float = math.inf) -> str:
    """Return the name of the fastest runner; a later one must be clearly faster than those before it.

    times, preparation: milliseconds of a call, and those before the first one, which all calls share.
    """
    means = {
        name: math.inf if time is None else time + ((preparation or {}).get(name) or 0) / calls
        for name, time in times.items()
    }
    best = LAYER_BY_LAYER
    for name in PROGRAM_GAINS:
        if means[name] < _MIN_GAIN * means[best]:
            best = name
    return best


def _checked_programs(
    network: Network, selector: KernelSelector, lowering: Lowering, x_BCHW: torch.Tensor, names: Iterable[str]
) -> dict[str, _Program]:
    """Return programs by name, without those that are too large or whose outputs differ from the layers'."""
    programs: dict[str, _Program] = {}
    tasks = {} if network.has_memory else conv_tasks(network.plan, network.built, lowering)
    expected: Sequence[torch.Tensor] = ()
    former = None
    extra_bytes = extra_bytes_of_kernels(tasks.values(), selector.limit_bytes)
    for name in names if extra_bytes >= 0 else ():
        fresh, gain = selector.renewed(extra_bytes), PROGRAM_GAINS[name]
        kernels = {
            index: fresh.choose(task, network.built[index].forward, expanded_gain=gain) for index, task in tasks.items()
        }
        if not kernels or kernels == former:
            continue
        former, started = kernels, perf_counter()
        with torch.inference_mode():
            expected = expected or network.reference_forward(x_BCHW)
            try:
                program = GraphRunner(network, tasks, kernels)
                error = largest_error(program(x_BCHW), expected)
            except BUILD_ERRORS:
                continue
        if error <= _LARGEST_ERRORS[lowering.dtype]:
            programs[name] = _Program(program, perf_counter() - started)
    return programs


def _key(network: Network, lowering: Lowering) -> str:
    """Return the cache key of a network: equal for the same layers, dependent on all keys of the cfg."""
    layers = [(repr(node.spec), node.sources, node.inputs) for node in network.plan.nodes]
    digest = hashlib.sha256(repr(layers).encode()).hexdigest()
    return f"network {digest[:16]}, {lowering.batch} x {network.plan.input_shape}, {lowering.dtype}"
