"""Runners of inference engines that support darknet's networks: OpenVINO, ncnn and MNN, in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .runners import Outputs, Run


def open_openvino(files: Any) -> tuple[str, Run]:
    import openvino

    _require(files.onnx, "there is no ONNX file of the network")
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": files.threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = core.compile_model(core.read_model(files.onnx), "CPU", settings)
    x_BCHW = np.load(files.x)
    return str(openvino.__version__), lambda: list(model(x_BCHW).values())


def open_ncnn(files: Any) -> tuple[str, Run]:
    """Open ncnn, which has no batches and takes image by image."""
    import ncnn

    _require(files.ncnn.with_suffix(".param"), "a layer of the network has no ncnn form here")
    network = ncnn.Net()
    network.opt.num_threads = files.threads
    network.load_param(str(files.ncnn.with_suffix(".param")))
    network.load_model(str(files.ncnn.with_suffix(".bin")))
    x_BCHW, names = np.load(files.x), files.ncnn.with_suffix(".txt").read_text().split()

    def run() -> Outputs:
        outputs = []
        for x_CHW in x_BCHW:
            extractor = network.create_extractor()
            extractor.input("x", ncnn.Mat(x_CHW).clone())
            outputs += [np.array(extractor.extract(name)[1]) for name in names]
        return outputs

    return str(ncnn.__version__), run


def open_mnn(files: Any) -> tuple[str, Run]:
    """Open MNN. Its Python converter installs packages by itself; the compiled one that it wraps does not."""
    import MNN
    from _tools import mnnconvert

    _require(files.onnx, "there is no ONNX file of the network")
    model = files.onnx.with_suffix(".mnn")
    mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", str(files.onnx), "--MNNModel", str(model), "--bizCode", "x"])
    interpreter, x_BCHW = MNN.Interpreter(str(model)), np.load(files.x)
    session = interpreter.createSession({"backend": "CPU", "numThread": files.threads, "precision": "high"})
    source = interpreter.getSessionInput(session)
    interpreter.resizeTensor(source, x_BCHW.shape)
    interpreter.resizeSession(session)
    kind, layout = MNN.Halide_Type_Float, MNN.Tensor_DimensionType_Caffe
    x = MNN.Tensor(x_BCHW.shape, kind, x_BCHW, layout)

    def run() -> Outputs:
        source.copyFrom(x)
        interpreter.runSession(session)
        outputs = []
        for tensor in interpreter.getSessionOutputAll(session).values():
            output = MNN.Tensor(tensor.getShape(), kind, np.zeros(tensor.getShape(), np.float32), layout)
            tensor.copyToHostTensor(output)
            outputs.append(np.array(output.getNumpyData()))
        return outputs

    return str(MNN.version()), run


def _require(path: Path, reason: str) -> None:
    if not path.exists():
        raise FileNotFoundError(reason)
