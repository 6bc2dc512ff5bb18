"""What the live watch costs: training steps with and without it."""

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
from .training import Training, open_trainer, prepare
from .turns import Opener, Outputs, Quartiles, Run, Worker, report, take_turns

NEVER = 1 << 60


def open_watched(job: Training, every: int = 0) -> tuple[str, Run]:
    """every: updates from one look at the layers to the next; 0 for nobody who watches."""
    from darkpy.diagnostics.monitor.monitor import Monitor

    trainer, version, x_BCHW, truth = open_trainer(job)
    if every:
        folder = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        # as `darkpy train` has it, whose loader looks through the labels
        Monitor(trainer, folder, every=every, first=1).checks_labels = False

    def run() -> Outputs:
        return [np.array([trainer.train_minibatch(x_BCHW, truth).cost], np.float32)]

    return version, run


RUNNERS: dict[str, Opener] = {
    "unwatched": open_watched,
    "watched": partial(open_watched, every=NEVER),
    "layers looked at": partial(open_watched, every=1),
}


def bench_watch(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time a step that nobody watches, a watched one, and one whose layers are looked at, which few are."""
    from darkpy.diagnostics.monitor.monitor import EVERY

    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    machine = describe_machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        job = prepare(arguments, folder)
        workers = [Worker(name, opener, job) for name, opener in RUNNERS.items()]
        for worker in workers:
            stack.callback(worker.close)
            if worker.fault is not None:
                sys.exit(worker.fault)
        times = take_turns(workers, arguments.rounds, arguments.seconds)
    measured = report(times)
    rounds = zip(*times.values(), strict=True)
    shares = [((EVERY - 1) * watched + looked) / EVERY / alone for alone, watched, looked in rounds]
    return {
        "what": f"a training step, ms: {arguments.cfg}, batch {job.batch}",
        "cfg": str(arguments.cfg),
        "batch": job.batch,
        "threads": job.threads,
        "rounds": arguments.rounds,
        "machine": machine,
        "ratios": {f"the watch, with over without, with a look every {EVERY} updates": Quartiles.of(shares)},
        "runners": {worker.name: {"version": worker.version, **measured[worker.name]} for worker in workers},
    }
