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
# largest difference from the layers, as a fraction of the largest value
_LARGEST_ERRORS: Mapping[torch.dtype, float] = MappingProxyType({torch.float32: ENGINE_TOLERANCE, torch.bfloat16: 0.1})
_FEWEST_TURNS, _MOST_TURNS, _MEASURE_SECONDS = 3, 50, 0.5
_MIN_GAIN = 0.97  # of the best time so far: smaller differences are noise


def fastest_runner(network: Network, selector: KernelSelector, lowering: Lowering) -> Runner:
    """Return the fastest runner; it takes over arrays of the layers: irreversible.

    The runners' times are measured once for each network, and stored with those of the kernels.
    """
    x_BCHW = torch.rand((lowering.batch, *network.plan.input_shape), generator=torch.Generator().manual_seed(0))
    times = known_times(network, selector, lowering)
    wanted = PROGRAM_GAINS if times is None else [name for name in PROGRAM_GAINS if name == _fastest(times)]
    programs = _checked_programs(network, selector, lowering, x_BCHW, wanted)
    if times is None or not programs:
        functions = lower_layers(network.plan, network.built, replace(lowering, selector=selector))
        layers = Executor(network.plan, network.outputs, functions)
        if not programs or (times is None and selector.time_is_up):  # programs may be faster with all kernels
            return layers
        runners: dict[str, Runner] = {LAYER_BY_LAYER: layers, **programs}
        seconds = _shortest_runs(runners, x_BCHW)
        seconds_or_none = {name: seconds.get(name) for name in (LAYER_BY_LAYER, *PROGRAM_GAINS)}
        times = selector.record(_key(network, lowering), seconds_or_none)
        if _fastest(times) == LAYER_BY_LAYER:
            return layers
    program = programs[_fastest(times)]
    program.take_weights()
    return program


def known_times(network: Network, selector: KernelSelector, lowering: Lowering) -> KernelTimes | None:
    """Return the milliseconds of a batch by runner, None if they were not measured."""
    return selector.known(_key(network, lowering), (LAYER_BY_LAYER, *PROGRAM_GAINS))


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


def _fastest(times: KernelTimes) -> str:
    """Return the name of the fastest runner; a later one must be clearly faster than those before it."""
    best = LAYER_BY_LAYER
    for name in PROGRAM_GAINS:
        if (times[name] or math.inf) < _MIN_GAIN * (times[best] or 0):
            best = name
    return best


def _checked_programs(
    network: Network, selector: KernelSelector, lowering: Lowering, x_BCHW: torch.Tensor, names: Iterable[str]
) -> dict[str, GraphRunner]:
    """Return programs by name, without those that are too large or whose outputs differ from the layers'."""
    programs: dict[str, GraphRunner] = {}
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
        former = kernels
        with torch.inference_mode():
            expected = expected or network.reference_forward(x_BCHW)
            try:
                program = GraphRunner(network, tasks, kernels)
                error = largest_error(program(x_BCHW), expected)
            except BUILD_ERRORS:
                continue
        if error <= _LARGEST_ERRORS[lowering.dtype]:
            programs[name] = program
    return programs


def _key(network: Network, lowering: Lowering) -> str:
    """Return the cache key of a network: equal for the same layers, dependent on all keys of the cfg."""
    layers = [(repr(node.spec), node.sources, node.inputs) for node in network.plan.nodes]
    digest = hashlib.sha256(repr(layers).encode()).hexdigest()
    return f"network {digest[:16]}, {lowering.batch} x {network.plan.input_shape}, {lowering.dtype}"
