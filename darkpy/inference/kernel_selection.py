"""Selection of the fastest kernel of each convolution on this machine.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

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
from darkpy.inference.kernel_cache import KernelCache, Measurement
from darkpy.inference.winograd import WinogradConv

MEASURED_KERNELS: tuple[ConvKernel, ...] = (
    WinogradConv(4),
    WinogradConv(6),
    WinogradConv(2),
    OneDnnLinear(),
    MatmulConv(),
    NnpackConv(),
)
"""Kernels that may be faster than the default one, for float32."""
TUNE_LIMIT_SECONDS = 5.0
"""Time for the measurements of one network; tasks that come later get the default kernel until the next load."""
_TIMED_RUNS = 4
_SHORT_RUN_SECONDS = 2e-3  # shorter functions run for this time instead
_MIN_GAIN = 0.97  # of the best time so far: smaller differences are noise
_MIN_GAIN_EXPANDED = 0.92  # for a kernel that takes more memory
_HOPELESS_RATIO = 1.3  # of the best time: such a kernel is not run again
_LARGE_WEIGHTS = 1 << 18  # in a network their bytes come from memory; repeated runs would find them in the cache
_CACHE_NUMBERS = 12 << 20  # 48 MiB of float32


class KernelSelector:
    """Chooses the fastest kernel of each convolution of a network, measured once for each kind and kept in a file.

    again: measure anew what the file has. low_memory: only kernels that keep no more than the weights.
    """

    def __init__(self, *, again: bool = False, low_memory: bool = False) -> None:
        self._again, self._low_memory = again, low_memory
        self._cache = KernelCache()
        self._measured: set[str] = set()  # keys of this network's measurements
        self._seconds_left = TUNE_LIMIT_SECONDS

    def select(self, task: ConvTask, reference: ConvFunction) -> ConvFunction | None:
        """Return the function of the chosen kernel, checked against the layer; None if there is none that agrees.

        reference: the layer itself.
        """
        candidates = self._candidates(task)
        measurement = self._known(task, candidates)
        if candidates and measurement is None and self._seconds_left > 0:
            started = perf_counter()
            fastest = self._measure(task, reference, candidates)
            self._seconds_left -= perf_counter() - started
            return fastest
        name = measurement.kernel if measurement is not None else ""
        chosen = next((kernel for kernel in candidates if kernel.name == name), None)
        function = build_checked(chosen, task, reference) if chosen is not None else None
        return build_default(task, reference) if function is None else function

    def measurement(self, task: ConvTask) -> Measurement | None:
        """Return what is known of a task: None if nothing was measured."""
        return self._cache.get(self._key(task))

    def save(self) -> None:
        """Keep the measurements for the next load."""
        self._cache.save()

    def _key(self, task: ConvTask) -> str:
        return f"{task.key}{', low memory' if self._low_memory else ''}"

    def _known(self, task: ConvTask, candidates: list[ConvKernel]) -> Measurement | None:
        """Return the measurement that decides, None if it must be made: one of other kernels does not count."""
        measurement = self.measurement(task)
        is_stale = self._again and self._key(task) not in self._measured
        if measurement is None or is_stale:
            return None
        names = {kernel.name for kernel in (*DEFAULT_KERNELS, *candidates)}
        return measurement if measurement.kernel in names else None

    def _candidates(self, task: ConvTask) -> list[ConvKernel]:
        """Return the kernels besides the default one that can compute the task."""
        if task.weights_FCKK.device.type != "cpu":
            return []
        return [
            kernel
            for kernel in MEASURED_KERNELS
            if task.dtype in kernel.tolerances
            and kernel.supports(task)
            and not (self._low_memory and kernel.expands_weights)
        ]

    def _measure(self, task: ConvTask, reference: ConvFunction, candidates: list[ConvKernel]) -> ConvFunction | None:
        """Return the fastest function, and note the times; there is nothing to choose without the default one."""
        fastest = build_default(task, reference)
        if fastest is None:
            return None
        x_BCHW = random_input(task.x, task.batch)
        name = DEFAULT_KERNELS[0].name
        evicting = torch.empty(_CACHE_NUMBERS if task.weights_FCKK.numel() >= _LARGE_WEIGHTS else 0)
        seconds = {name: _time(fastest, x_BCHW, evicting)}
        for kernel in candidates:
            function = build_checked(kernel, task, reference)
            if function is None:
                continue
            seconds[kernel.name] = _time(function, x_BCHW, evicting, seconds[name])
            gain = _MIN_GAIN_EXPANDED if kernel.expands_weights else _MIN_GAIN
            if seconds[kernel.name] < seconds[name] * gain:
                name, fastest = kernel.name, function
        times = {kernel: round(1e3 * duration, 4) for kernel, duration in seconds.items()}
        self._cache.put(self._key(task), Measurement(name, times))
        self._measured.add(self._key(task))
        return fastest


def _time(function: ConvFunction, x_BCHW: torch.Tensor, evicting: torch.Tensor, best: float = float("inf")) -> float:
    """Return the shortest time of some runs, in seconds; of one run if it is far from the best.

    evicting: written before each run, so that it replaces the weights in the processor's cache.
    """
    with torch.inference_mode():
        function(x_BCHW)  # allocates, and makes oneDNN prepare itself
        shortest, total, runs = float("inf"), 0.0, 0
        while runs < _TIMED_RUNS or total < _SHORT_RUN_SECONDS:
            evicting.fill_(0)
            started = perf_counter()
            function(x_BCHW)
            duration = perf_counter() - started
            shortest, total, runs = min(shortest, duration), total + duration, runs + 1
            if shortest > _HOPELESS_RATIO * best:
                break
    return shortest
