"""Forward pass: darkpy, ONNX Runtime, OpenVINO, ncnn, MNN, and OpenCV 4, the last that reads darknet's files."""

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
from .engines import open_mnn, open_ncnn, open_openvino
from .machine import describe_machine
from .runners import Outputs, Quartiles, Run, Worker, describe, other_processes, take_turns

OUTPUT_TOLERANCE = 1e-4
"""Largest difference of outputs of the same network, as a fraction of the largest magnitude."""


class ForwardJob(NamedTuple):
    """Input of every runner of a forward pass. config: a key of DARKPY_CONFIGS."""

    cfg: Path
    weights: Path
    onnx: Path
    ncnn: Path  # without suffix: .param, .bin, and the outputs' names in .txt
    x: Path
    threads: int
    config: str = "fp32"
    alexeyab: Path | None = None


def open_darkpy(job: ForwardJob) -> tuple[str, Run]:
    from darkpy.process import keep_freed_memory, limit_thread_spinning, use_huge_pages

    limit_thread_spinning()  # as the command line does, and before torch is imported
    import torch

    import darkpy
    from darkpy.inference.accelerate import InferenceConfig

    warnings.simplefilter("ignore")
    keep_freed_memory()
    torch.set_num_threads(job.threads)
    x_BCHW = torch.from_numpy(np.load(job.x))
    config = InferenceConfig(**{"tune": "on", "batch": len(x_BCHW), **DARKPY_CONFIGS[job.config]})
    network = darkpy.load(job.cfg, job.weights, mapped=True)
    darkpy.accelerate(network, config, images=[x_CHW[None] for x_CHW in x_BCHW])
    if network.prefers_channels_last:  # as the commands lay images out
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)

    def run() -> Outputs:
        with torch.inference_mode():
            return [output.numpy() for output in network(x_BCHW)]

    run()
    use_huge_pages()  # as commands do after a while
    return f"{darkpy.__version__} on torch {torch.__version__}", run


DARKPY_CONFIGS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "fp32": {},
        "untuned": {"tune": "off"},
        "low-memory": {"low_memory": True},
        "bf16": {"precision": "bf16"},
        "int8": {"precision": "int8"},
        "compiled": {"compiled": True},
        "compiled-bf16": {"compiled": True, "precision": "bf16"},
        "onnxruntime": {"engine": "onnxruntime"},
        "openvino": {"engine": "openvino"},
        "openvino-bf16": {"engine": "openvino", "precision": "bf16"},
    }
)
"""Keyword arguments of InferenceConfig by name."""


def open_onnx_runtime(job: ForwardJob) -> tuple[str, Run]:
    import onnxruntime

    if not job.onnx.exists():
        raise FileNotFoundError("there is no ONNX file of the network")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(job.onnx, options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: np.load(job.x)}
    return onnxruntime.__version__, lambda: session.run(None, inputs)


def import_opencv(threads: int) -> Any:
    """Import OpenCV 4. Raises: ModuleNotFoundError for other versions."""
    import cv2

    if not hasattr(cv2.dnn, "readNetFromDarknet"):
        raise ModuleNotFoundError(f"OpenCV {cv2.__version__} does not read darknet's files; version 4 does")
    cv2.setNumThreads(threads)
    return cv2


def open_opencv(job: ForwardJob) -> tuple[str, Run]:
    cv2 = import_opencv(job.threads)
    network = cv2.dnn.readNetFromDarknet(str(job.cfg), str(job.weights))
    names, x_BCHW = network.getUnconnectedOutLayersNames(), np.load(job.x)

    def run() -> Outputs:
        network.setInput(x_BCHW)
        return cast("Outputs", network.forward(names))

    return cv2.__version__, run


FORWARD_RUNNERS = {
    "ONNX Runtime": open_onnx_runtime,
    "darkpy": open_darkpy,
    "OpenVINO": open_openvino,
    "OpenCV": open_opencv,
    "ncnn": open_ncnn,
    "MNN": open_mnn,
}
"""The first one that is installed is the base of the ratios."""


def prepare_forward(arguments: argparse.Namespace, folder: Path) -> ForwardJob:
    """Write the input, the weight file and the ONNX file that all runners use."""
    import torch

    import darkpy
    from darkpy.export.ncnn_files import pack_ncnn
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
        raise DarkpyError(f"{arguments.cfg} has no lines width= and height= to set to {arguments.size}")
    job = ForwardJob(
        cfg,
        arguments.weights or folder / "random.weights",
        folder / "network.onnx",
        folder / "network",
        folder / "x.npy",
        arguments.threads,
    )
    if arguments.weights is None:
        fill_weights(network)
        network.save_weights(job.weights)
    x_BCHW = torch.rand((arguments.batch, *network.plan.input_shape), generator=torch.Generator().manual_seed(0))
    np.save(job.x, x_BCHW.numpy())
    try:
        write_atomic(job.onnx, pack_onnx(network, WeightsMetadata(), OnnxOptions()))
    # without the package onnx, or with a layer that ONNX does not know, the other runners are still measured
    except DarkpyError as error:
        print(f"no ONNX file: {error}", file=sys.stderr)
    try:
        files = pack_ncnn(network, OnnxOptions())
    except DarkpyError as error:
        print(f"no ncnn files: {error}", file=sys.stderr)
    else:
        write_atomic(job.ncnn.with_suffix(".param"), [files.param.encode()])
        write_atomic(job.ncnn.with_suffix(".bin"), files.arrays)
        job.ncnn.with_suffix(".txt").write_text(" ".join(files.outputs))
    return job


def fill_weights(network: Any) -> None:
    """Fill with random weights that keep the signal's magnitude through any number of layers."""
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
    """Time a forward pass with batch norm folded; ONNX Runtime's outputs are first checked against darkpy's.

    OpenCV's outputs are not compared: its heads return boxes, not the raw outputs.
    """
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    machine = describe_machine()
    with ExitStack() as stack:
        job = prepare_forward(arguments, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        workers: list[Any] = [Worker(name, open_runner, job) for name, open_runner in FORWARD_RUNNERS.items()]
        workers += [
            Worker(f"darkpy {config}", open_darkpy, job._replace(config=config)) for config in arguments.configs
        ]
        if arguments.alexeyab:
            workers.append(TestProgram("AlexeyAB", arguments.alexeyab, job.cfg, job.weights, arguments.threads))
        for worker in workers:
            stack.callback(worker.close)
        able = {worker.name: worker for worker in workers if worker.fault is None}
        if "darkpy" not in able:
            sys.exit(next(worker.fault for worker in workers if worker.name == "darkpy"))
        if "ONNX Runtime" in able:
            _check_agreement(able["darkpy"].outputs(), able["ONNX Runtime"].outputs())
        stack.enter_context(other_processes(arguments.busy))
        times = take_turns(list(able.values()), arguments.rounds, arguments.seconds)
    ratios = {
        f"{name} over darkpy": Quartiles.of_ratios(seconds, times["darkpy"])
        for name, seconds in times.items()
        if name != "darkpy"
    }
    weights = arguments.weights or "random"
    size = "" if arguments.size is None else f" at {arguments.size} x {arguments.size}"
    busy = f", beside {arguments.busy} busy processes" if arguments.busy else ""
    return {
        "what": f"a forward pass: {arguments.cfg}{size}, weights {weights}, batch {arguments.batch}{busy}",
        "cfg": str(arguments.cfg),
        "size": arguments.size,
        "weights": str(weights),
        "batch": arguments.batch,
        "busy": arguments.busy,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "machine": machine,
        "ratios": ratios,
        "runners": describe(workers, times),
    }


def _check_agreement(darkpy_outputs: Outputs, onnx_outputs: Outputs) -> None:
    for index, (expected, output) in enumerate(zip(darkpy_outputs, onnx_outputs, strict=True)):
        largest, difference = float(np.abs(expected).max()), float(np.abs(expected - output).max())
        if not difference <= OUTPUT_TOLERANCE * largest:
            sys.exit(f"ONNX Runtime's output {index} differs by {difference:g}, largest value {largest:g}")
