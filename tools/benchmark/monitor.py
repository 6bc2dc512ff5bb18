"""Cost of the live monitor: training steps with and without it."""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .machine import describe_machine
from .runners import Opener, Outputs, Quartiles, Run, Worker, report, take_turns
from .training import TrainingJob, open_trainer, prepare_training

NEVER_UPDATES = 1 << 60


def open_monitored(job: TrainingJob, every: int = 0) -> tuple[str, Run]:
    """Open a runner of training steps. every: updates between two probes of the layers; 0 for no monitor."""
    from darkpy.diagnostics.monitor.monitor import Monitor

    trainer, version, x_BCHW, truth = open_trainer(job)
    if every:
        folder = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        # as in `darkpy train`, whose loader checks the labels
        trainer.monitor = Monitor(folder, every=every, first=1, check_labels=False)
        trainer.monitor.attach(trainer)

    def run() -> Outputs:
        return [np.array([trainer.train_minibatch(x_BCHW, truth).cost], np.float32)]

    return version, run


MONITOR_RUNNERS: dict[str, Opener] = {
    "without monitor": open_monitored,
    "with monitor": partial(open_monitored, every=NEVER_UPDATES),
    "with probes of the layers": partial(open_monitored, every=1),
}


def bench_monitor(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time a step without the monitor, one with it, and one with probes of the layers, which only few steps have."""
    from darkpy.diagnostics.monitor.monitor import LAYERS_EVERY_UPDATES as EVERY

    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    machine = describe_machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        job = prepare_training(arguments, folder)
        workers = [Worker(name, opener, job) for name, opener in MONITOR_RUNNERS.items()]
        for worker in workers:
            stack.callback(worker.close)
            if worker.fault is not None:
                sys.exit(worker.fault)
        times = take_turns(workers, arguments.rounds, arguments.seconds)
    measured = report(times)
    rounds = zip(*times.values(), strict=True)
    costs = [((EVERY - 1) * monitored + probed) / EVERY / plain for plain, monitored, probed in rounds]
    return {
        "what": f"a training step, ms: {arguments.cfg}, batch {job.batch}",
        "cfg": str(arguments.cfg),
        "batch": job.batch,
        "threads": job.threads,
        "rounds": arguments.rounds,
        "machine": machine,
        "ratios": {f"with the monitor over without, layers probed every {EVERY} updates": Quartiles.of(costs)},
        "runners": {worker.name: {"version": worker.version, **measured[worker.name]} for worker in workers},
    }
