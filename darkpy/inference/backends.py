"""Third-party inference engines, which run the network's ONNX form, or ncnn's of the same operators.

torch computes nothing beside them: its threads busy-wait for more work and would take their cores.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from darkpy.errors import DarkpyError
from darkpy.export.ncnn_files import NcnnRunner, pack_ncnn
from darkpy.export.onnx_files import pack_onnx
from darkpy.export.onnx_graph import INPUT_NAME, OnnxOptions
from darkpy.export.state_dict import WeightsMetadata
from darkpy.network import Network, Runner

MNN_CONVERTER = "import sys; from _tools import mnnconvert; mnnconvert(sys.argv)"
"""Program of MNN's compiled converter; the module MNN.tools around it installs packages by itself.

It runs in a process of its own: it prints on standard output, and ends the process when it fails.
"""


MNN_WINOGRAD_HINT = 3
"""Hint of MNN on the size of Winograd tiles; its default of large ones is off by 4e-4 of the largest value.

Source: github.com/alibaba/MNN include/MNN/Interpreter.hpp, HintMode WINOGRAD_MEMORY_LEVEL.
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """A third-party engine.

    packages: required modules. precisions: supported ones.
    open: returns a runner of a network in a precision. Raises: DarkpyError when it cannot run the network here.
    """

    packages: tuple[str, ...]
    precisions: tuple[str, ...]
    open: Callable[[Network, str], Runner]

    @property
    def is_installed(self) -> bool:
        return all(find_spec(package) is not None for package in self.packages)


def onnx_runtime(network: Network) -> Runner:
    """Return a runner by ONNX Runtime with as many threads as torch. Raises: DarkpyError without the packages."""
    try:
        import onnxruntime
    except ImportError:
        raise DarkpyError(
            "--engine onnxruntime needs the package onnxruntime", hint='pip install "darkpy-yolo[onnx]"'
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(_onnx_model(network), options, providers=["CPUExecutionProvider"])

    def runner(x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        return [
            torch.from_numpy(output) for output in session.run(None, {INPUT_NAME: np.ascontiguousarray(x_BCHW.numpy())})
        ]

    return runner


def openvino(network: Network, precision: str) -> Runner:
    """Return a runner by OpenVINO. Raises: DarkpyError without the package, or without onnx."""
    try:
        from openvino import Core
    except ImportError:
        raise DarkpyError(
            "--engine openvino needs the package openvino", hint='pip install "darkpy-yolo[openvino]"'
        ) from None
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = Core()
    model = core.compile_model(core.read_model(_onnx_model(network)), "CPU", settings)

    def runner(x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        outputs = model({INPUT_NAME: np.ascontiguousarray(x_BCHW.numpy())})
        return [torch.from_numpy(outputs[output].copy()) for output in model.outputs]

    return runner


def ncnn(network: Network) -> Runner:
    """Return a runner by ncnn. Raises: DarkpyError without the package, or naming a layer that ncnn lacks."""
    files = pack_ncnn(network, OnnxOptions())
    return NcnnRunner(files.param, b"".join(files.arrays), files.outputs)


def mnn(network: Network) -> Runner:
    """Return a runner by MNN, whose converter reads the ONNX form. Raises: DarkpyError without the packages."""
    if find_spec("MNN") is None:
        raise DarkpyError("--engine mnn needs the package MNN", hint='pip install "darkpy-yolo[mnn]"')
    model = _onnx_model(network)
    names = [f"layer{index}" for index in network.outputs]
    with _no_native_output(), TemporaryDirectory(prefix="darkpy-") as folder:
        source, target = Path(folder, "network.onnx"), Path(folder, "network.mnn")
        source.write_bytes(model)
        words = ("-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target), "--bizCode", "darkpy")
        program = [sys.executable, "-c", MNN_CONVERTER, *words]
        done = subprocess.run(program, capture_output=True, cwd=folder, check=False)  # writes a file into cwd
        if done.returncode != 0 or not target.exists():
            message = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
            raise DarkpyError(f"MNN's converter cannot read the network: {message[-1] if message else done.returncode}")
        return _mnn_runner(target, names)


def _mnn_runner(model: Path, names: Sequence[str]) -> Runner:
    import MNN

    interpreter = MNN.Interpreter(str(model))
    interpreter.setSessionHint(MNN_WINOGRAD_HINT, 1)
    settings = {"backend": "CPU", "numThread": torch.get_num_threads(), "precision": "high"}
    session = interpreter.createSession(settings)
    source = interpreter.getSessionInput(session)
    kind, layout = MNN.Halide_Type_Float, MNN.Tensor_DimensionType_Caffe

    def runner(x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        sides = tuple(x_BCHW.shape)
        if tuple(source.getShape()) != sides:
            interpreter.resizeTensor(source, sides)
            interpreter.resizeSession(session)
        source.copyFrom(MNN.Tensor(sides, kind, np.ascontiguousarray(x_BCHW.numpy()), layout))
        interpreter.runSession(session)
        tensors = interpreter.getSessionOutputAll(session)
        outputs = []
        for name in names:
            shape = tensors[name].getShape()
            output = MNN.Tensor(shape, kind, np.empty(shape, np.float32), layout)
            tensors[name].copyToHostTensor(output)
            outputs.append(torch.from_numpy(output.getNumpyData().reshape(shape).copy()))
        return outputs

    runner(torch.zeros((1, *source.getShape()[1:])))  # MNN prints at its first run
    return runner


@contextmanager
def _no_native_output() -> Iterator[None]:
    """Discard the output of a library on standard output, which is for the results of commands."""
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        with suppress(AttributeError, OSError, TypeError):  # C's buffer, where the C library is accessible
            ctypes.CDLL(None).fflush(None)
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)


def _onnx_model(network: Network) -> bytes:
    return b"".join(pack_onnx(network, WeightsMetadata(), OnnxOptions()))


ENGINES_BY_NAME: dict[str, Engine] = {
    "onnxruntime": Engine(("onnx", "onnxruntime"), ("fp32",), lambda network, precision: onnx_runtime(network)),
    "openvino": Engine(("onnx", "openvino"), ("fp32", "bf16"), openvino),
    "ncnn": Engine(("ncnn",), ("fp32",), lambda network, precision: ncnn(network)),
    "mnn": Engine(("onnx", "MNN"), ("fp32",), lambda network, precision: mnn(network)),
}
"""Engines by name."""
