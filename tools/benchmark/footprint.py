"""How much memory a process that runs a network takes at most."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .forward import FORWARD, Forward, prepare_forward
from .machine import describe_machine
from .turns import Outputs, Quartiles, Run, Worker

STATUS = Path("/proc/self/status")
RUNS = 3


def peak_mb() -> float:
    """The most memory that this process has had, in 1e6 bytes. Linux alone tells."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def open_watched(job: tuple[str, Forward]) -> tuple[str, Run]:
    """A runner whose output is what its process took to load and to run three times."""
    name, forward = job
    version, run = PROCESSES[name](forward)

    def watched() -> Outputs:
        for _ in range(RUNS):
            run()
        return [np.array([peak_mb()], np.float32)]

    return version, watched


def open_import(job: Forward) -> tuple[str, Run]:
    import torch

    return torch.__version__, list


PROCESSES = {**FORWARD, "import torch": open_import}


def bench_memory(arguments: argparse.Namespace) -> dict[str, Any]:
    """The peak of processes that load a network and run it, one process a round."""
    if not STATUS.exists():
        sys.exit("only Linux tells a process its peak")
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    machine = describe_machine()
    rounds = min(arguments.rounds, RUNS)
    with tempfile.TemporaryDirectory() as folder:
        job = prepare_forward(arguments, Path(folder))
        runners = {name: _measure(name, job, rounds) for name in PROCESSES}
    base = next(iter(runner["peaks"] for runner in runners.values() if "peaks" in runner))
    bound = _bound(runners)
    return {
        "what": f"the most memory: {arguments.cfg}, batch {arguments.batch}, load and {RUNS} forward passes",
        "unit": "MB",
        "threads": arguments.threads,
        "rounds": rounds,
        "machine": machine,
        "ratios": {"darkpy over ONNX Runtime and torch's import": bound} if bound else {},
        "runners": {name: _quartiles(runner, base) for name, runner in runners.items()},
    }


def _measure(name: str, job: Forward, rounds: int) -> dict[str, Any]:
    peaks = []
    for _ in range(rounds):
        worker = Worker(name, open_watched, (name, job))
        if worker.fault is not None:
            return {"absent": worker.fault}
        peaks.append(float(worker.outputs()[0][0]))
        worker.close()
    return {"version": worker.version, "peaks": peaks}


def _bound(runners: Mapping[str, Mapping[str, Any]]) -> Quartiles | None:
    """darkpy's peak over ONNX Runtime's and that of importing torch."""
    own, peer, bare = (runners[name].get("peaks") for name in ("darkpy", "ONNX Runtime", "import torch"))
    if not (own and peer and bare):
        return None
    return Quartiles.of([one / (median(peer) + median(bare)) for one in own])


def _quartiles(runner: Mapping[str, Any], base: list[float]) -> dict[str, Any]:
    if "peaks" not in runner:
        return dict(runner)
    peaks = runner["peaks"]
    ratios = [one / other for one, other in zip(peaks, base, strict=True)]
    return {"version": runner["version"], "MB": Quartiles.of(peaks), "ratio": Quartiles.of(ratios)}
