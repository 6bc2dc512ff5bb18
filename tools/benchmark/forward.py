"""One forward pass: darkpy, ONNX Runtime, and OpenCV 4, which still reads darknet's files."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np

from darkpy.errors import DarkpyError
from darkpy.files import write_atomic

from .darknet import TestProgram
from .machine import describe_machine
from .turns import Outputs, Quartiles, Run, Worker, report, take_turns

AGREEMENT = 1e-4
"""Of the largest number: networks whose outputs are further apart are not the same network."""


class Forward(NamedTuple):
    """What every runner of a forward pass gets. way: how darkpy runs it, a word of WAYS."""

    cfg: Path
    weights: Path
    onnx: Path
    x: Path
    threads: int
    way: str = "fp32"
    alexeyab: Path | None = None


def open_darkpy(job: Forward) -> tuple[str, Run]:
    import torch

    import darkpy
    from darkpy.inference.accelerate import InferenceConfig
    from darkpy.process import keep_freed_memory

    warnings.simplefilter("ignore")
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(job.threads)
    x_BCHW = torch.from_numpy(np.load(job.x))
    config = InferenceConfig(**WAYS[job.way])
    network = darkpy.load(job.cfg, job.weights, mapped=True)
    darkpy.accelerate(network, config, images=[x_CHW[None] for x_CHW in x_BCHW])
    if network.prefers_channels_last:  # as the commands lay images out
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)

    def run() -> Outputs:
        with torch.inference_mode():
            return [output.numpy() for output in network(x_BCHW)]

    return f"{darkpy.__version__} on torch {torch.__version__}", run


WAYS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "fp32": {},
        "bf16": {"precision": "bf16"},
        "int8": {"precision": "int8"},
        "compiled": {"compiled": True},
        "compiled-bf16": {"compiled": True, "precision": "bf16"},
        "onnxruntime": {"engine": "onnxruntime"},
        "openvino": {"engine": "openvino"},
        "openvino-bf16": {"engine": "openvino", "precision": "bf16"},
    }
)
"""Of darkpy, beside the plain one."""


def open_onnx_runtime(job: Forward) -> tuple[str, Run]:
    import onnxruntime

    if not job.onnx.exists():
        raise FileNotFoundError("there is no ONNX file of the network")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(job.onnx, options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: np.load(job.x)}
    return onnxruntime.__version__, lambda: session.run(None, inputs)


def open_opencv(job: Forward) -> tuple[str, Run]:
    import cv2

    if not hasattr(cv2.dnn, "readNetFromDarknet"):
        raise ModuleNotFoundError(f"OpenCV {cv2.__version__} does not read darknet's files; version 4 does")
    cv2.setNumThreads(job.threads)
    network = cv2.dnn.readNetFromDarknet(str(job.cfg), str(job.weights))
    names, x_BCHW = network.getUnconnectedOutLayersNames(), np.load(job.x)

    def run() -> Outputs:
        network.setInput(x_BCHW)
        return cast("Outputs", network.forward(names))

    return cv2.__version__, run


FORWARD = {"ONNX Runtime": open_onnx_runtime, "darkpy": open_darkpy, "OpenCV": open_opencv}
"""The first that is installed is what the others are measured by."""


def prepare_forward(arguments: argparse.Namespace, folder: Path) -> Forward:
    """One input, one weight file and one ONNX file for everybody."""
    import torch

    import darkpy
    from darkpy.export.onnx_files import pack_onnx
    from darkpy.export.onnx_graph import OnnxOptions
    from darkpy.export.state_dict import WeightsMetadata

    warnings.simplefilter("ignore")
    cfg = arguments.cfg
    if arguments.size is not None:
        sides = re.compile(r"(?m)^(width|height) *=.*")
        cfg = folder / arguments.cfg.name
        cfg.write_text(sides.sub(rf"\1={arguments.size}", arguments.cfg.read_text()))
    network = darkpy.load(cfg, arguments.weights)
    if arguments.size not in (None, network.plan.net.width):
        raise DarkpyError(f"{arguments.cfg} has no lines width= and height= that could say {arguments.size}")
    job = Forward(
        cfg,
        arguments.weights or folder / "random.weights",
        folder / "network.onnx",
        folder / "x.npy",
        arguments.threads,
    )
    if arguments.weights is None:
        _fill(network)
        network.save_weights(job.weights)
    x_BCHW = torch.rand((arguments.batch, *network.plan.input_shape), generator=torch.Generator().manual_seed(0))
    np.save(job.x, x_BCHW.numpy())
    try:
        write_atomic(job.onnx, pack_onnx(network, WeightsMetadata(), OnnxOptions()))
    # without the package onnx, or with a layer that ONNX does not know, the others are measured all the same
    except DarkpyError as fault:
        print(f"no ONNX file: {fault}", file=sys.stderr)
    return job


def _fill(network: Any) -> None:
    """Random weights that carry a signal through any number of layers: no overflow, and nothing fades to zero."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for array in network.parameters():
            if array.dim() > 1:
                array.normal_(0, math.sqrt(2 / array[0].numel()), generator=generator)
        for name, array in network.named_buffers():
            if name.endswith("variance"):
                array.fill_(1)


def bench_forward(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time a forward pass, batch norm folded; ONNX Runtime's outputs are checked against darkpy's first.

    OpenCV's heads write boxes where darknet's write raw outputs, so its outputs are not compared.
    """
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    machine = describe_machine()
    with ExitStack() as stack:
        job = prepare_forward(arguments, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        workers: list[Any] = [Worker(name, open_runner, job) for name, open_runner in FORWARD.items()]
        workers += [Worker(f"darkpy {way}", open_darkpy, job._replace(way=way)) for way in arguments.ways]
        if arguments.alexeyab:
            workers.append(TestProgram("AlexeyAB", arguments.alexeyab, job.cfg, job.weights, arguments.threads))
        for worker in workers:
            stack.callback(worker.close)
        able = {worker.name: worker for worker in workers if worker.fault is None}
        if "darkpy" not in able:
            sys.exit(next(worker.fault for worker in workers if worker.name == "darkpy"))
        if "ONNX Runtime" in able:
            _check_agreement(able["darkpy"].outputs(), able["ONNX Runtime"].outputs())
        times = take_turns(list(able.values()), arguments.rounds, arguments.seconds)
        measured = report(times)
        own = times["darkpy"]
    ratios = {
        f"{name} over darkpy": Quartiles.of([one / other for one, other in zip(seconds, own, strict=True)])
        for name, seconds in times.items()
        if name != "darkpy"
    }
    weights = arguments.weights or "random"
    size = "" if arguments.size is None else f" at {arguments.size} x {arguments.size}"
    return {
        "what": f"a forward pass: {arguments.cfg}{size}, weights {weights}, batch {arguments.batch}",
        "cfg": str(arguments.cfg),
        "size": arguments.size,
        "weights": str(weights),
        "batch": arguments.batch,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "machine": machine,
        "ratios": ratios,
        "runners": {
            worker.name: {"version": worker.version, **measured[worker.name]}
            if worker.name in measured
            else {"absent": worker.fault}
            for worker in workers
        },
    }


def _check_agreement(ours: Outputs, theirs: Outputs) -> None:
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        largest, apart = float(np.abs(one).max()), float(np.abs(one - other).max())
        if not apart <= AGREEMENT * largest:
            sys.exit(f"ONNX Runtime computes something else: output {number} is off by {apart:g} of {largest:g}")
