"""Third-party inference engines, which run the network's ONNX form, or ncnn's of the same operators.

torch computes nothing beside them: its threads busy-wait for more work and would take their cores.
"""

from __future__ import annotations

import numpy as np
import torch

from darkpy.errors import DarkpyError
from darkpy.export.ncnn_files import NcnnRunner, pack_ncnn
from darkpy.export.onnx_files import pack_onnx
from darkpy.export.onnx_graph import INPUT_NAME, OnnxOptions
from darkpy.export.state_dict import WeightsMetadata
from darkpy.network import Network, Runner


def onnx_runtime(network: Network) -> Runner:
    """Return a runner by ONNX Runtime with as many threads as torch. Raises: DarkpyError without the packages."""
    try:
        import onnxruntime
    except ImportError:
        raise DarkpyError(
            "--engine onnxruntime needs the package onnxruntime", hint="pip install darkpy-yolo[onnx]"
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
            "--engine openvino needs the package openvino", hint="pip install darkpy-yolo[openvino]"
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


def _onnx_model(network: Network) -> bytes:
    return b"".join(pack_onnx(network, WeightsMetadata(), OnnxOptions()))
