"""Choice between running a network layer by layer and as one program, by measuring both on this machine.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import torch

from darkpy.inference.conv_kernels import BUILD_ERRORS
from darkpy.inference.engine_selection import ENGINE_TOLERANCE, largest_error
from darkpy.inference.executor import Executor, conv_tasks, lower_layers
from darkpy.inference.kernel_cache import KernelTimes
from darkpy.inference.kernel_selection import KernelSelector, shortest_run
from darkpy.inference.lowering import Lowering
from darkpy.inference.onednn_graph import GraphRunner, extra_bytes
from darkpy.network import Network, Runner

LAYERS, PROGRAM = "layer by layer", "as one program"
# largest difference from the layers, as a fraction of the largest value
_LARGEST_ERRORS: Mapping[torch.dtype, float] = MappingProxyType({torch.float32: ENGINE_TOLERANCE, torch.bfloat16: 0.1})
_MIN_GAIN = 0.97  # of the layers' time: smaller differences are noise


def fastest_runner(network: Network, selector: KernelSelector, lowering: Lowering) -> Runner:
    """Return the fastest runner; it takes arrays from the layers, so there is no way back.

    The times of both ways are measured once for each network, and kept with those of the kernels.
    """
    key, times = _key(network, lowering), known_times(network, selector, lowering)
    x_BCHW = torch.rand((lowering.batch, *network.plan.input_shape), generator=torch.Generator().manual_seed(0))
    program = (
        _checked_program(network, selector.renewed(), lowering, x_BCHW) if times is None or _is_faster(times) else None
    )
    if program is None or times is None:
        functions = lower_layers(network.plan, network.built, replace(lowering, selector=selector))
        layers = Executor(network.plan, network.outputs, functions)
        if program is None:
            return layers
        ways: dict[str, Runner] = {LAYERS: layers, PROGRAM: program}
        times = selector.record(key, {name: shortest_run(way, x_BCHW, torch.empty(0)) for name, way in ways.items()})
        if not _is_faster(times):
            return layers
    program.take_weights()
    return program


def known_times(network: Network, selector: KernelSelector, lowering: Lowering) -> KernelTimes | None:
    """Return the milliseconds of both ways for a batch, None if they were not measured."""
    return selector.known(_key(network, lowering), (LAYERS, PROGRAM))


def _is_faster(times: KernelTimes) -> bool:
    """True if the program is clearly faster than the layers one by one."""
    return (times[PROGRAM] or math.inf) < _MIN_GAIN * (times[LAYERS] or 0)


def _checked_program(
    network: Network, selector: KernelSelector, lowering: Lowering, x_BCHW: torch.Tensor
) -> GraphRunner | None:
    """Return the network as one program, None if that is impossible, too large, or computes something else."""
    if network.has_memory:
        return None
    tasks = conv_tasks(network.plan, network.built, lowering)
    kernels = {index: selector.choose(task, network.built[index].forward) for index, task in tasks.items()}
    if extra_bytes(tasks, kernels) > selector.limit_bytes:
        return None
    program = GraphRunner(network, tasks, kernels)
    with torch.inference_mode():
        try:
            error = largest_error(program(x_BCHW), network.reference_forward(x_BCHW))
        except BUILD_ERRORS:
            return None
    return program if error <= _LARGEST_ERRORS[lowering.dtype] else None


def _key(network: Network, lowering: Lowering) -> str:
    """Return text that is equal for networks of the same layers, dependent on all keys of the cfg."""
    layers = [(repr(node.spec), node.sources, node.inputs) for node in network.plan.nodes]
    digest = hashlib.sha256(repr(layers).encode()).hexdigest()
    return f"network {digest[:16]}, {lowering.batch} x {network.plan.input_shape}, {lowering.dtype}"
