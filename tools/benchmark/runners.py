"""Runners that are timed in turns.

Milliseconds on a shared machine mean little; the ratio within a round counts. Each runner has its own process, because
the threads of one library busy-wait for work and slow down another in the same process.
"""

from __future__ import annotations

import math
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from statistics import median, quantiles
from time import perf_counter, sleep
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

PAUSE_SECONDS = 0.05
"""Pause before a turn, in which the threads of the last runner stop spinning."""

Outputs = Sequence[NDArray[np.float32]]
Run = Callable[[], Outputs]
Opener = Callable[[Any], tuple[str, Run]]
"""Maps a job to a runner's version and the function that it runs."""


class Quartiles(NamedTuple):
    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        return cls(*quantiles(values, n=4, method="inclusive"))

    @classmethod
    def of_ratios(cls, values: Sequence[float], base: Sequence[float]) -> Quartiles:
        """Quartiles of the ratios round by round."""
        return cls.of([value / other for value, other in zip(values, base, strict=True)])

    def text(self) -> str:
        return f"{self.middle:.2f} [{self.low:.2f}-{self.high:.2f}]"


def serve(pipe: Connection[Any, Any], open_runner: Opener, job: Any) -> None:
    """Serve a runner's process: answer a number of runs with their seconds, and 0 with the outputs, until None."""
    try:
        version, run = open_runner(job)
        run()
    # a peer that is not installed or cannot read the network may raise anything; the others are measured without it
    except Exception as error:
        pipe.send((None, " ".join(str(error).split())))
        return
    pipe.send((version, None))
    while (times := pipe.recv()) is not None:
        pipe.send([_seconds(run) for _ in range(times)] if times else [np.array(output) for output in run()])


def _seconds(run: Run) -> float:
    began = perf_counter()
    run()
    return perf_counter() - began


class Runner(Protocol):
    """Interface of a runner. version: its description, or None; fault: the reason why it cannot run, or None."""

    name: str
    version: Any
    fault: Any

    def run(self, times: int) -> list[float]:
        """Return the seconds of each run."""
        ...

    def close(self) -> None:
        """Stop its process."""
        ...


class Worker:
    """A runner in its own process."""

    def __init__(self, name: str, open_runner: Opener, job: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._pipe, child_pipe = context.Pipe()
        self._process = context.Process(target=serve, args=(child_pipe, open_runner, job), daemon=True)
        self._process.start()
        child_pipe.close()
        self.version, self.fault = self._receive()

    def run(self, times: int) -> list[float]:
        self._pipe.send(times)
        seconds: list[float] = self._receive()
        return seconds

    def outputs(self) -> Outputs:
        self._pipe.send(0)
        outputs: Outputs = self._receive()
        return outputs

    def close(self) -> None:
        with suppress(BrokenPipeError):  # it has ended by itself
            self._pipe.send(None)
        self._process.join()

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            sys.exit(f"{self.name}: exit code {self._process.exitcode}")


@contextmanager
def other_processes(count: int) -> Iterator[None]:
    """Keep this many other processes computing, one thread each."""
    busy_loop = (sys.executable, "-c", "while True: sum(range(100_000))")
    processes = [subprocess.Popen(busy_loop) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def take_turns(workers: Sequence[Runner], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return the median seconds of a run by worker and round; a turn takes about `seconds`, and turns never overlap."""
    repeats = {worker.name: max(2, min(50, math.ceil(seconds / min(worker.run(3))))) for worker in workers}
    times: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for round_index in range(rounds):
        first = round_index % len(workers)
        for worker in (*workers[first:], *workers[:first]):
            sleep(PAUSE_SECONDS)
            _, *measured = worker.run(1 + repeats[worker.name])  # the first run has cold caches
            times[worker.name].append(median(measured))
    return times


def report(times: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Return quartiles of each runner's milliseconds, and of its ratio to the first one in the same round."""
    base = next(iter(times.values()))
    return {
        name: {
            "ms": Quartiles.of([1000 * duration for duration in seconds]),
            "ratio": Quartiles.of_ratios(seconds, base),
        }
        for name, seconds in times.items()
    }


def describe(workers: Sequence[Runner], times: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Return the version and times of each runner, or the reason why it could not run."""
    measured = report(times)
    return {
        worker.name: {"version": worker.version, **measured[worker.name]}
        if worker.name in measured
        else {"absent": worker.fault}
        for worker in workers
    }
