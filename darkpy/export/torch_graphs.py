"""Networks as programs of torch that run without darkpy: TorchScript, torch.export's `.pt2`, and Core ML made of them.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

import io
import logging
import platform
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from darkpy.errors import DarkpyError
from darkpy.export.onnx_graph import INPUT_NAME
from darkpy.files import temporary_path
from darkpy.network import Network

OUTPUT_LIST_FILE = "outputs.txt"
"""Entry of a file that lists the names of the outputs."""
EXAMPLE_BATCH = 2  # torch.export takes sides of 1 for constant
PIXEL_SCALE = 1 / 255


class _Heads(torch.nn.Module):
    """The folded network as a function from x_BCHW to a tuple of the heads' outputs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        normalize = self.network.normalize
        return tuple(self.network.reference_forward(x if normalize is None else normalize(x)))


def _folded(network: Network) -> tuple[_Heads, list[str]]:
    """Raises: DarkpyError for a recurrent layer, whose calls depend on each other."""
    for node, layer in zip(network.plan.nodes, network.built, strict=True):
        if layer.has_memory:
            raise DarkpyError(f"{network.plan.place(node.index)}: it keeps a state from call to call")
    return _Heads(network.for_inference()), [f"layer{index}" for index in network.outputs]


def _example(network: Network, batch: int = EXAMPLE_BATCH) -> torch.Tensor:
    return torch.rand((batch, *network.plan.input_shape), generator=torch.Generator().manual_seed(0))


def pack_torchscript(network: Network) -> Iterator[bytes]:
    """Yield a traced program, for torch.jit.load in Python and C++. Raises: DarkpyError."""
    heads, names = _folded(network)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that depend on the input's size, which is fixed
        program = torch.jit.trace(heads, _example(network), check_trace=False)  # type: ignore[no-untyped-call]
        stream = io.BytesIO()
        torch.jit.save(program, stream, _extra_files={OUTPUT_LIST_FILE: "\n".join(names)})
    yield stream.getvalue()


def pack_pt2(network: Network) -> Iterator[bytes]:
    """Yield an exported program, for torch.export.load and AOTInductor. Raises: DarkpyError."""
    heads, names = _folded(network)
    batch = {INPUT_NAME: {0: torch.export.Dim("batch", min=1)}}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(heads, (_example(network),), dynamic_shapes=batch)
        stream = io.BytesIO()
        torch.export.save(program, stream, extra_files={OUTPUT_LIST_FILE: "\n".join(names)})
    yield stream.getvalue()


def run_torchscript(path: Path, x_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
    """Run a TorchScript file. Returns: outputs by name."""
    extra = {OUTPUT_LIST_FILE: ""}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        outputs = torch.jit.load(str(path), _extra_files=extra)(x_BCHW)  # type: ignore[no-untyped-call]
    return dict(zip(_names(extra[OUTPUT_LIST_FILE]), outputs, strict=True))


def run_pt2(path: Path, x_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
    """Run a `.pt2` file. Returns: outputs by name."""
    extra = {OUTPUT_LIST_FILE: ""}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        outputs = torch.export.load(path, extra_files=extra).module()(x_BCHW)
    return dict(zip(_names(extra[OUTPUT_LIST_FILE]), outputs, strict=True))


def _names(text: str | bytes) -> list[str]:
    return (text.decode() if isinstance(text, bytes) else text).split()


def write_coreml(network: Network, path: Path, precision: str) -> None:
    """Write an `.mlpackage`, a folder with an ML program for one image; it takes the image's bytes itself.

    Raises: DarkpyError without the package coremltools, and when the folder exists.
    """
    ct = _coremltools()
    if path.exists():
        raise DarkpyError(f"{path}: already exists", hint="remove the folder, or name another one")
    heads, names = _folded(network)
    x = _example(network, batch=1)
    source = ct.TensorType(INPUT_NAME, x.shape)
    if x.shape[1] == 3:
        source = ct.ImageType(INPUT_NAME, x.shape, scale=PIXEL_SCALE, color_layout=ct.colorlayout.RGB)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.trace(heads, x, check_trace=False)  # type: ignore[no-untyped-call]
        model = ct.convert(
            program,
            inputs=[source],
            outputs=[ct.TensorType(name) for name in names],
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT16 if precision == "fp16" else ct.precision.FLOAT32,
            skip_model_load=True,
        )
    temporary = temporary_path(path).with_suffix(".mlpackage")  # coremltools accepts no other suffix
    try:
        model.save(str(temporary))
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def run_coreml(path: Path, x_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
    """Run an `.mlpackage`, on macOS. Raises: DarkpyError elsewhere."""
    if platform.system() != "Darwin":
        raise DarkpyError(f"{path}: is written, but Core ML runs on macOS only", hint="leave --check out")
    from PIL import Image

    model = _coremltools().models.MLModel(str(path))
    x_HWC = (x_BCHW[0] / PIXEL_SCALE).round().byte().permute(1, 2, 0).numpy()
    source = Image.fromarray(x_HWC) if x_HWC.shape[2] == 3 else x_BCHW.numpy()
    return {name: torch.from_numpy(array).float() for name, array in model.predict({INPUT_NAME: source}).items()}


def _coremltools() -> Any:
    try:
        logging.getLogger("coremltools").setLevel(logging.ERROR)  # it warns of every newer torch
        import coremltools
    except ImportError:
        hint = 'pip install "darkpy-yolo[coreml]"'
        raise DarkpyError("writing Core ML needs the package coremltools", hint=hint) from None
    return coremltools
