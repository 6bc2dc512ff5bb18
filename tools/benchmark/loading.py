"""From a network's files to something that can run: what loading takes."""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from .forward import Forward, prepare_forward
from .machine import describe_machine
from .turns import Run, Worker, report, take_turns


def open_numpy(job: Forward) -> tuple[str, Run]:
    def run() -> list[Any]:
        return [np.fromfile(job.weights, np.float32)[:1]]

    return f"{np.__version__}, the file read", run


def open_darkpy(job: Forward) -> tuple[str, Run]:
    import darkpy

    warnings.simplefilter("ignore", darkpy.DarkpyWarning)

    def run() -> list[Any]:
        darkpy.load(job.cfg, job.weights)
        return []

    return "ready for training", run


def open_mapped(job: Forward) -> tuple[str, Run]:
    import darkpy

    warnings.simplefilter("ignore", darkpy.DarkpyWarning)

    def run() -> list[Any]:
        darkpy.load(job.cfg, job.weights, mapped=True)
        return []

    return "mapped=True", run


def open_accelerated(job: Forward) -> tuple[str, Run]:
    import torch

    import darkpy

    warnings.simplefilter("ignore", darkpy.DarkpyWarning)
    torch.set_num_threads(job.threads)

    def run() -> list[Any]:
        darkpy.accelerate(darkpy.load(job.cfg, job.weights, mapped=True))
        return []

    return "folded and packed for inference", run


def open_onnx_runtime(job: Forward) -> tuple[str, Run]:
    import onnxruntime

    if not job.onnx.exists():
        raise FileNotFoundError("there is no ONNX file of the network")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads

    def run() -> list[Any]:
        onnxruntime.InferenceSession(job.onnx, options, providers=["CPUExecutionProvider"])
        return []

    return onnxruntime.__version__, run


def open_opencv(job: Forward) -> tuple[str, Run]:
    import cv2

    if not hasattr(cv2.dnn, "readNetFromDarknet"):
        raise ModuleNotFoundError(f"OpenCV {cv2.__version__} does not read darknet's files; version 4 does")
    cv2.setNumThreads(job.threads)

    def run() -> list[Any]:
        cv2.dnn.readNetFromDarknet(str(job.cfg), str(job.weights))
        return []

    return f"{cv2.__version__}, most of it left to the first run", run


LOADING = {
    "numpy": open_numpy,
    "darkpy": open_darkpy,
    "darkpy mapped": open_mapped,
    "darkpy accelerated": open_accelerated,
    "ONNX Runtime": open_onnx_runtime,
    "OpenCV": open_opencv,
}


def bench_loading(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time loading with the files in the system's memory already."""
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    machine = describe_machine()
    with ExitStack() as stack:
        job = prepare_forward(arguments, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        size = job.weights.stat().st_size / 1e6
        workers = [Worker(name, open_runner, job) for name, open_runner in LOADING.items()]
        for worker in workers:
            stack.callback(worker.close)
        able = [worker for worker in workers if worker.fault is None]
        measured = report(take_turns(able, arguments.rounds, arguments.seconds))
    return {
        "what": f"loading {arguments.cfg}, {size:.0f} MB of weights",
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "machine": machine,
        "runners": {
            worker.name: {"version": worker.version, **measured[worker.name]}
            if worker.name in measured
            else {"absent": worker.fault}
            for worker in workers
        },
    }
