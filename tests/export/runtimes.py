"""Programs that run darkpy's networks from a file: their outputs for the networks in cfg/, compared with darkpy's."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from darkpy.export.convert import TARGET_FORMATS, Conversion, write_target
from darkpy.export.state_dict import WeightsMetadata
from darkpy.inference.backends import ENGINES_BY_NAME
from darkpy.network import Network
from tests.inference.networks import distance, filled, images, outputs

CFG = Path(__file__).resolve().parents[2] / "cfg"
WITH_MEMORY = ("gru", "rnn")
NETWORKS = tuple(sorted(path.stem for path in CFG.glob("*.cfg") if path.stem not in WITH_MEMORY))
RELATIVE = 1e-4
"""Largest difference of an output, as a fraction of its largest value."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A program. module: its Python module. run: outputs of a network by name, by way of files in a folder."""

    module: str
    run: Callable[[Network, Path, torch.Tensor], Mapping[str, torch.Tensor]]
    major_version: str = ""

    @property
    def version(self) -> str | None:
        """None where it is not installed."""
        if find_spec(self.module) is None:
            return None
        module: Any = importlib.import_module(self.module)
        version: str = module.version() if callable(getattr(module, "version", None)) else module.__version__
        version = version.partition("-")[0].partition("+")[0]
        return version if version.startswith(self.major_version) else None


def _by_file(format: str) -> Callable[[Network, Path, torch.Tensor], Mapping[str, torch.Tensor]]:
    target = TARGET_FORMATS[format]

    def run(network: Network, folder: Path, x_BCHW: torch.Tensor) -> Mapping[str, torch.Tensor]:
        path = folder / f"network{target.suffixes[0]}"
        write_target(Conversion(network, WeightsMetadata()), target, path)
        assert target.run is not None
        return target.run(path, x_BCHW)

    return run


def _mnn(network: Network, folder: Path, x_BCHW: torch.Tensor) -> Mapping[str, torch.Tensor]:
    names = [f"layer{index}" for index in network.outputs]
    return dict(zip(names, ENGINES_BY_NAME["mnn"].open(network, "fp32")(x_BCHW), strict=True))


def _opencv(network: Network, folder: Path, x_BCHW: torch.Tensor) -> Mapping[str, torch.Tensor]:
    cv2: Any = importlib.import_module("cv2")
    path, target = folder / "network.onnx", TARGET_FORMATS["onnx"]
    write_target(Conversion(network, WeightsMetadata()), target, path)
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(x_BCHW.numpy())
    names = net.getUnconnectedOutLayersNames()
    return dict(zip(names, map(torch.from_numpy, net.forward(names)), strict=True))


RUNTIMES = {
    "ONNX Runtime": Runtime("onnxruntime", _by_file("onnx")),
    "OpenCV 5": Runtime("cv2", _opencv, "5"),
    "OpenCV 4": Runtime("cv2", _opencv, "4"),
    "ncnn": Runtime("ncnn", _by_file("ncnn")),
    "MNN": Runtime("MNN", _mnn),
    "TorchScript": Runtime("torch", _by_file("torchscript")),
    "torch.export": Runtime("torch", _by_file("pt2")),
}


class Comparison:
    """A network on random weights, and its heads' outputs for one image."""

    def __init__(self, cfg: Path | str) -> None:
        self._network = filled(cfg)
        self._x_BCHW = images(self._network)
        self._expected = outputs(self._network, self._x_BCHW)

    def difference(self, runtime: Runtime, folder: Path) -> float:
        """Return the largest difference of an output, as a fraction of its largest value. Raises: DarkpyError."""
        actual = runtime.run(copy.deepcopy(self._network), folder, self._x_BCHW)
        pairs = zip(self._network.outputs, self._expected, strict=True)
        return distance([actual[f"layer{index}"].reshape(ours.shape) for index, ours in pairs], self._expected)
