"""Loading time: from a network's files to a network that can run."""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .forward import ForwardJob, import_opencv, prepare_forward
from .machine import describe_machine
from .runners import Opener, Run, Worker, describe, take_turns


def open_numpy(job: ForwardJob) -> tuple[str, Run]:
    def run() -> list[Any]:
        return [np.fromfile(job.weights, np.float32)[:1]]

    return f"{np.__version__}, the file read", run


def open_darkpy(job: ForwardJob, *, mapped: bool = False) -> tuple[str, Run]:
    import darkpy

    warnings.simplefilter("ignore", darkpy.DarkpyWarning)

    def run() -> list[Any]:
        darkpy.load(job.cfg, job.weights, mapped=mapped)
        return []

    return "mapped=True" if mapped else "ready for training", run


def open_accelerated(job: ForwardJob, *, image_count: int | None = None) -> tuple[str, Run]:
    import torch

    import darkpy
    from darkpy.inference.accelerate import InferenceConfig

    warnings.simplefilter("ignore", darkpy.DarkpyWarning)
    torch.set_num_threads(job.threads)

    def run() -> list[Any]:
        darkpy.accelerate(darkpy.load(job.cfg, job.weights, mapped=True), InferenceConfig(image_count=image_count))
        return []

    return f"accelerated for {image_count or 'many'} images", run


def open_onnx_runtime(job: ForwardJob) -> tuple[str, Run]:
    import onnxruntime

    if not job.onnx.exists():
        raise FileNotFoundError("there is no ONNX file of the network")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads

    def run() -> list[Any]:
        onnxruntime.InferenceSession(job.onnx, options, providers=["CPUExecutionProvider"])
        return []

    return onnxruntime.__version__, run


def open_opencv(job: ForwardJob) -> tuple[str, Run]:
    cv2 = import_opencv(job.threads)

    def run() -> list[Any]:
        cv2.dnn.readNetFromDarknet(str(job.cfg), str(job.weights))
        return []

    return f"{cv2.__version__}, lazy: most of it happens in the first run", run


LOADING_RUNNERS: Mapping[str, Opener] = {
    "numpy": open_numpy,
    "darkpy": open_darkpy,
    "darkpy mapped": partial(open_darkpy, mapped=True),
    "darkpy accelerated": open_accelerated,
    "darkpy for 16 images": partial(open_accelerated, image_count=16),
    "ONNX Runtime": open_onnx_runtime,
    "OpenCV": open_opencv,
}


def bench_loading(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time loading with the files in the page cache."""
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    machine = describe_machine()
    with ExitStack() as stack:
        job = prepare_forward(arguments, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        size = job.weights.stat().st_size / 1e6
        workers = [Worker(name, open_runner, job) for name, open_runner in LOADING_RUNNERS.items()]
        for worker in workers:
            stack.callback(worker.close)
        able = [worker for worker in workers if worker.fault is None]
        times = take_turns(able, arguments.rounds, arguments.seconds)
    return {
        "what": f"loading {arguments.cfg}, {size:.0f} MB of weights",
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "machine": machine,
        "runners": describe(workers, times),
    }
