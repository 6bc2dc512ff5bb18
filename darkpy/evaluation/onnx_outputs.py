"""Outputs of an ONNX file, and their assignment to the layers of a network.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from darkpy.build import Plan
from darkpy.errors import DarkpyError
from darkpy.evaluation.dump import is_output_shape, layer_number

Matching = dict[int, str]
"""Layer index -> name of the output that holds its values."""


def run_onnx(path: Path, x_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
    """Run an ONNX file with ONNX Runtime on the CPU. Returns: outputs by name, as float32.

    Raises: DarkpyError when onnxruntime is not installed or refuses the file or the input.
    """
    try:
        import onnxruntime
    except ImportError:
        raise DarkpyError("an ONNX file needs onnxruntime to run", hint="pip install onnxruntime") from None
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        input_info, *others = session.get_inputs()
        if others:
            raise ValueError(f"it has {1 + len(others)} inputs, a network has one")
        x = x_BCHW.half() if input_info.type == "tensor(float16)" else x_BCHW
        x = x.flatten(1) if len(input_info.shape) == 2 else x
        arrays = session.run(None, {input_info.name: x.cpu().numpy()})
        names = [output.name for output in session.get_outputs()]
        return {name: torch.from_numpy(array).float() for name, array in zip(names, arrays, strict=True)}
    # its exceptions share no class but Exception
    except Exception as error:
        raise DarkpyError(f"{path}: ONNX Runtime cannot run it: {' '.join(str(error).split())}") from error


def matchings(
    plan: Plan, heads: Sequence[int], outputs: Mapping[str, torch.Tensor], batch: int
) -> tuple[Matching, ...]:
    """List the possible assignments: by names like `layer7`, by shape to the heads, by shape to the heads' inputs.

    Other programs export either the heads' outputs or, without any decoding, the convolutions before them.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    by_name: Matching = {}
    for name, shape in shapes.items():
        index = layer_number(name)
        if index is not None and index < len(plan.nodes) and is_output_shape(shape, batch, plan.nodes[index].shape):
            by_name[index] = name
    head_inputs = [source for head in heads for source in plan.nodes[head].sources[:1] if source >= 0]
    return by_name, _match_shapes(plan, heads, shapes, batch), _match_shapes(plan, head_inputs, shapes, batch)


def _match_shapes(plan: Plan, layers: Sequence[int], shapes: Mapping[str, tuple[int, ...]], batch: int) -> Matching:
    """Assign to each layer the first output of its shape that no layer before it took."""
    matching: Matching = {}
    for index in layers:
        for name, shape in shapes.items():
            if name not in matching.values() and is_output_shape(shape, batch, plan.nodes[index].shape):
                matching[index] = name
                break
    return matching
