"""Peak memory of a process that loads and runs a network."""

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

from .forward import FORWARD_RUNNERS, ForwardJob, prepare_forward
from .machine import describe_machine
from .runners import Outputs, Quartiles, Run, Worker

PROCESS_STATUS_FILE = Path("/proc/self/status")
FORWARD_PASSES = 3


def peak_mb() -> float:
    """Return the peak memory of this process, in 1e6 bytes; on Linux only."""
    line = next(line for line in PROCESS_STATUS_FILE.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def open_measured(job: tuple[str, ForwardJob]) -> tuple[str, Run]:
    """Open a runner whose output is the peak memory of loading and of FORWARD_PASSES forward passes."""
    name, forward = job
    version, run = MEMORY_RUNNERS[name](forward)

    def measure() -> Outputs:
        for _ in range(FORWARD_PASSES):
            run()
        return [np.array([peak_mb()], np.float32)]

    return version, measure


def open_import(job: ForwardJob) -> tuple[str, Run]:
    import torch

    return torch.__version__, list


MEMORY_RUNNERS = {**FORWARD_RUNNERS, "import torch": open_import}


def bench_memory(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the peak memory of processes that load a network and run it, one process a round."""
    if not PROCESS_STATUS_FILE.exists():
        sys.exit("error: the peak memory of a process can be measured on Linux only")
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    machine = describe_machine()
    rounds = min(arguments.rounds, FORWARD_PASSES)
    with tempfile.TemporaryDirectory() as folder:
        job = prepare_forward(arguments, Path(folder))
        runners = {name: _measure(name, job, rounds) for name in MEMORY_RUNNERS}
    base = next(iter(runner["peaks"] for runner in runners.values() if "peaks" in runner))
    # darkpy cannot take less than importing torch does
    own, peer, torch_only = (runners[name].get("peaks") for name in ("darkpy", "ONNX Runtime", "import torch"))
    ratios = {}
    if own and peer and torch_only:
        peer_and_torch = median(peer) + median(torch_only)
        ratios["darkpy over ONNX Runtime and torch's import"] = Quartiles.of([peak / peer_and_torch for peak in own])
    return {
        "what": f"peak memory: {arguments.cfg}, batch {arguments.batch}, load and {FORWARD_PASSES} forward passes",
        "unit": "MB",
        "threads": arguments.threads,
        "rounds": rounds,
        "machine": machine,
        "ratios": ratios,
        "runners": {name: _quartiles(runner, base) for name, runner in runners.items()},
    }


def _measure(name: str, job: ForwardJob, rounds: int) -> dict[str, Any]:
    peaks = []
    for _ in range(rounds):
        worker = Worker(name, open_measured, (name, job))
        if worker.fault is not None:
            return {"absent": worker.fault}
        peaks.append(float(worker.outputs()[0][0]))
        worker.close()
    return {"version": worker.version, "peaks": peaks}


def _quartiles(runner: Mapping[str, Any], base: list[float]) -> dict[str, Any]:
    if "peaks" not in runner:
        return dict(runner)
    peaks = runner["peaks"]
    return {"version": runner["version"], "MB": Quartiles.of(peaks), "ratio": Quartiles.of_ratios(peaks, base)}
