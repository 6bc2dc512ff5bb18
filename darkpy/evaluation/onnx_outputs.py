"""What an ONNX file computes, and which layers its outputs are.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from darkpy.build import Plan
from darkpy.errors import DarkpyError
from darkpy.evaluation.dump import fits, layer_number

Matching = dict[int, str]
"""Layer number -> the name of the output that shows it."""


def run_onnx(path: Path, x_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
    """What ONNX Runtime computes, by the outputs' names.

    Raises: DarkpyError when onnxruntime is not installed or refuses the file or the input.
    """
    try:
        import onnxruntime
    except ImportError:
        raise DarkpyError("an ONNX file needs onnxruntime to run", hint="pip install onnxruntime") from None
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        wanted, *others = session.get_inputs()
        if others:
            raise ValueError(f"it has {1 + len(others)} inputs, a network has one")
        x = x_BCHW.half() if wanted.type == "tensor(float16)" else x_BCHW
        x = x.flatten(1) if len(wanted.shape) == 2 else x
        arrays = session.run(None, {wanted.name: x.cpu().numpy()})
        names = [output.name for output in session.get_outputs()]
        return {name: torch.from_numpy(array).float() for name, array in zip(names, arrays, strict=True)}
    # its exceptions share no class but Exception
    except Exception as fault:
        raise DarkpyError(f"{path}: ONNX Runtime cannot run it: {' '.join(str(fault).split())}") from fault


def matchings(plan: Plan, ends: Sequence[int], outputs: Mapping[str, torch.Tensor], batch: int) -> tuple[Matching, ...]:
    """The ways to understand the outputs: by names like `layer7`, as the layers `ends`, or as what those read."""
    shapes = {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    named: Matching = {}
    for name, shape in shapes.items():
        index = layer_number(name)
        if index is not None and index < len(plan.nodes) and fits(shape, batch, plan.nodes[index].shape):
            named[index] = name
    before = [source for end in ends for source in plan.nodes[end].sources[:1] if source >= 0]
    return named, _match(plan, ends, shapes, batch), _match(plan, before, shapes, batch)


def _match(plan: Plan, wanted: Sequence[int], shapes: Mapping[str, tuple[int, ...]], batch: int) -> Matching:
    """Each layer with the first output of its shape that no layer before it took."""
    matching: Matching = {}
    for index in wanted:
        for name, shape in shapes.items():
            if name not in matching.values() and fits(shape, batch, plan.nodes[index].shape):
                matching[index] = name
                break
    return matching
