"""Selection of the fastest kernel of each convolution on this machine.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter

import torch

from darkpy.inference.conv_kernels import (
    DEFAULT_KERNELS,
    ConvFunction,
    ConvKernel,
    ConvTask,
    MatmulConv,
    NnpackConv,
    OneDnnLinear,
    build_checked,
    build_default,
    random_input,
)
from darkpy.inference.kernel_cache import KernelCache, KernelTimes
from darkpy.inference.winograd import WinogradConv

MEASURED_KERNELS: tuple[ConvKernel, ...] = (
    WinogradConv(4),
    WinogradConv(6),
    WinogradConv(2),
    OneDnnLinear(),
    MatmulConv(),
    NnpackConv(),
)
"""Kernels that may be faster than the default one."""
MIN_GAIN_EXPANDED = 0.92
"""Largest time of a kernel that needs more memory than the weights, as a fraction of the best time so far."""
TUNE_LIMIT_SECONDS = 5.0
"""Time for the measurements of one network; tasks that come later get the default kernel until the next load."""
_TIMED_RUNS = 4
_SHORT_RUN_SECONDS = 2e-3  # shorter functions run for this time instead
_MIN_GAIN = 0.97  # of the best time so far: smaller differences are noise
_HOPELESS_RATIO = 1.3  # of the best time: such a kernel is not run again
_LARGE_WEIGHTS = 1 << 18  # a network reads them from memory; repeated runs would read them from the cache
_CACHE_NUMBERS = 12 << 20  # 48 MiB of float32


class KernelSelector:
    """Chooses the fastest kernel of each convolution of a network, measured once for each kind and kept in a file.

    again: measure anew, although the file has times.
    extra_bytes: memory that all kernels together may use beyond the weights; with 0, such kernels are not measured.
    compiled: exclude kernels that torch's compiler does not support.
    """

    def __init__(self, *, again: bool = False, extra_bytes: int, compiled: bool = False) -> None:
        self._compiled = compiled
        self._again, self.limit_bytes, self._extra_bytes = again, extra_bytes, extra_bytes
        self._suffix = "" if extra_bytes else ", low memory"
        self._cache = KernelCache()
        self._measured: set[str] = set()  # keys of this network's measurements
        self._spent_seconds: list[float] = []  # of each measurement, also of renewed selectors

    @property
    def time_is_up(self) -> bool:
        """True if the time limit is reached; other kernels are measured at the next load."""
        return sum(self._spent_seconds) >= TUNE_LIMIT_SECONDS

    def select(self, task: ConvTask, reference: ConvFunction) -> ConvFunction | None:
        """Return the function of the chosen kernel, checked against the layer; None if no kernel agrees.

        reference: the layer itself.
        """
        kernel = self.choose(task, reference)
        function = build_checked(kernel, task, reference) if kernel is not None else None
        return build_default(task, reference) if function is None else function

    def choose(
        self, task: ConvTask, reference: ConvFunction, *, expanded_gain: float = MIN_GAIN_EXPANDED
    ) -> ConvKernel | None:
        """Return the fastest kernel, measured unless its times are known; None for the default one.

        Memory beyond the weights is subtracted from the limit for the next layers.
        expanded_gain: as MIN_GAIN_EXPANDED.
        """
        times, best = self.known(task.key, self._names(task)) or self._measure(task, reference), None
        shortest = times.get(DEFAULT_KERNELS[0].name)
        for kernel in self._candidates(task):
            duration, extra = times.get(kernel.name), _extra_bytes(kernel, task)
            if shortest is None or duration is None or extra > self._extra_bytes:
                continue
            if duration < shortest * (expanded_gain if extra else _MIN_GAIN):
                shortest, best = duration, kernel
        self._extra_bytes -= _extra_bytes(best, task) if best is not None else 0
        return best

    def times(self, task: ConvTask) -> KernelTimes | None:
        """Return the milliseconds of a task's kernels; None if nothing was measured."""
        return self._cache.get(task.key + self._suffix)

    def known(self, key: str, names: Iterable[str]) -> KernelTimes | None:
        """Return the milliseconds stored under this key, None if they must be measured, as for a new name."""
        times = self._cache.get(key + self._suffix)
        is_stale = self._again and key not in self._measured
        return None if times is None or is_stale or any(name not in times for name in names) else times

    def record(self, key: str, seconds: Mapping[str, float | None]) -> KernelTimes:
        """Store times under this key, and return them in milliseconds."""
        times = {name: None if duration is None else round(1e3 * duration, 4) for name, duration in seconds.items()}
        self._cache.put(key + self._suffix, times)
        self._measured.add(key)
        return times

    def renewed(self, extra_bytes: int | None = None) -> KernelSelector:
        """Return a selector with the same times and time limit, by default with the same memory limit."""
        renewed = copy.copy(self)
        renewed._extra_bytes = self.limit_bytes if extra_bytes is None else extra_bytes
        return renewed

    def save(self) -> None:
        """Keep the times for the next load."""
        self._cache.save()

    def _names(self, task: ConvTask) -> list[str]:
        return [kernel.name for kernel in (DEFAULT_KERNELS[0], *self._candidates(task))]

    def _candidates(self, task: ConvTask) -> list[ConvKernel]:
        """Return the kernels besides the default one that can compute the task."""
        return [
            kernel
            for kernel in MEASURED_KERNELS
            if task.dtype in kernel.tolerances
            and kernel.supports(task)
            and not (self._suffix and _extra_bytes(kernel, task))
            and not (self._compiled and isinstance(kernel, NnpackConv))
        ]

    def _measure(self, task: ConvTask, reference: ConvFunction) -> KernelTimes:
        """Return the times of a task's kernels; an empty dict if there is no choice, or no time to measure."""
        started, candidates = perf_counter(), self._candidates(task)
        if not candidates or self.time_is_up or (function := build_default(task, reference)) is None:
            return {}
        x_BCHW = random_input(task.x, task.batch)
        evicting = torch.empty(_CACHE_NUMBERS if task.weights_FCKK.numel() >= _LARGE_WEIGHTS else 0)
        shortest = shortest_run(function, x_BCHW, evicting)
        seconds: dict[str, float | None] = {DEFAULT_KERNELS[0].name: shortest}
        for kernel in candidates:
            function = build_checked(kernel, task, reference)
            seconds[kernel.name] = None if function is None else shortest_run(function, x_BCHW, evicting, shortest)
            shortest = min(shortest, seconds[kernel.name] or shortest)
        self._spent_seconds.append(perf_counter() - started)
        return self.record(task.key, seconds)


def _extra_bytes(kernel: ConvKernel, task: ConvTask) -> int:
    """Return the bytes that a kernel keeps beyond those of the weights."""
    return round((kernel.weight_ratio - 1) * task.weights_bytes)


def shortest_run(
    function: Callable[[torch.Tensor], object],
    x_BCHW: torch.Tensor,
    evicting: torch.Tensor,
    best: float = math.inf,
) -> float:
    """Return the shortest time of several runs, in seconds; of one run if it is far from the best.

    evicting: written before each run, so that it replaces the weights in the processor's cache.
    """
    with torch.inference_mode():
        function(x_BCHW)  # warm-up: allocates, and oneDNN creates its primitives
        shortest, total, runs = math.inf, 0.0, 0
        while runs < _TIMED_RUNS or total < _SHORT_RUN_SECONDS:
            evicting.fill_(0)
            started = perf_counter()
            function(x_BCHW)
            duration = perf_counter() - started
            shortest, total, runs = min(shortest, duration), total + duration, runs + 1
            if shortest > _HOPELESS_RATIO * best:
                break
    return shortest
