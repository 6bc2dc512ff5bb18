"""Runners that take turns.

Milliseconds of a shared machine mean little; what counts is the ratio within a round. Each runner lives in a process of
its own: the threads of one library, waiting busily for work, slow down another in the same process.
"""

from __future__ import annotations

import math
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from statistics import median, quantiles
from time import perf_counter, sleep
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

PAUSE = 0.05
"""Seconds before a turn, for the threads of the last runner to fall asleep."""

Outputs = Sequence[NDArray[np.float32]]
Run = Callable[[], Outputs]
Opener = Callable[[Any], tuple[str, Run]]
"""Given a job, a runner's version and what it runs."""


class Quartiles(NamedTuple):
    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        return cls(*quantiles(values, n=4, method="inclusive"))

    def text(self) -> str:
        return f"{self.middle:.2f} [{self.low:.2f}-{self.high:.2f}]"


def serve(pipe: Connection[Any, Any], open_runner: Opener, job: Any) -> None:
    """A runner's process: answers a number of runs with their seconds, and 0 with the outputs, until None comes."""
    try:
        version, run = open_runner(job)
        run()
    # a peer that is absent or cannot read a network may raise anything; the others are measured without it
    except Exception as fault:
        pipe.send((None, " ".join(str(fault).split())))
        return
    pipe.send((version, None))
    while (times := pipe.recv()) is not None:
        pipe.send([_seconds(run) for _ in range(times)] if times else [np.array(output) for output in run()])


def _seconds(run: Run) -> float:
    began = perf_counter()
    run()
    return perf_counter() - began


class Runner(Protocol):
    """Whoever takes turns. version: what it is, or None; fault: why it cannot run, or None."""

    name: str
    version: Any
    fault: Any

    def run(self, times: int) -> list[float]:
        """The seconds of each of so many runs, one after the other."""
        ...

    def close(self) -> None:
        """End what was started for it."""
        ...


class Worker:
    """A runner in its own process; `fault` says why it cannot run."""

    def __init__(self, name: str, open_runner: Opener, job: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, open_runner, job), daemon=True)
        self._process.start()
        theirs.close()
        self.version, self.fault = self._receive()

    def run(self, times: int) -> list[float]:
        """The seconds of each run, one after the other."""
        self._pipe.send(times)
        seconds: list[float] = self._receive()
        return seconds

    def outputs(self) -> Outputs:
        self._pipe.send(0)
        outputs: Outputs = self._receive()
        return outputs

    def close(self) -> None:
        if self._process.is_alive():
            self._pipe.send(None)
        self._process.join()

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            sys.exit(f"{self.name} ended with exit code {self._process.exitcode}")


def take_turns(workers: Sequence[Runner], rounds: int, seconds: float) -> dict[str, list[float]]:
    """The median seconds of a run for each worker and round; a turn lasts about `seconds`, and never do two overlap."""
    repeats = {worker.name: max(2, min(50, math.ceil(seconds / min(worker.run(3))))) for worker in workers}
    times: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for number in range(rounds):
        first = number % len(workers)
        for worker in (*workers[first:], *workers[:first]):
            sleep(PAUSE)
            _, *measured = worker.run(1 + repeats[worker.name])  # the first one finds the caches cold
            times[worker.name].append(median(measured))
    return times


def report(times: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Each runner's milliseconds, and its ratio to the first one in the same rounds, as quartiles."""
    base = next(iter(times.values()))
    return {
        name: {
            "ms": Quartiles.of([1000 * one for one in seconds]),
            "ratio": Quartiles.of([one / other for one, other in zip(seconds, base, strict=True)]),
        }
        for name, seconds in times.items()
    }
