"""Whole networks: ONNX Runtime and OpenCV give darkpy's outputs, and real ones find what darkpy finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import darkpy
from darkpy.errors import DarkpyError
from darkpy.evaluation.onnx_outputs import run_onnx
from darkpy.export.onnx_files import pack_onnx
from darkpy.export.onnx_graph import OnnxOptions
from darkpy.export.state_dict import WeightsMetadata
from darkpy.files import write_atomic
from darkpy.network import Network
from tests.export.runtimes import CFG, NETWORKS, RELATIVE, WITH_MEMORY
from tests.inference.networks import distance, filled, images, outputs

QUICK = ("cifar", "resnet18", "yolov2-tiny", "yolov3-tiny", "yolov4-tiny", "yolov7-tiny")
REAL = {"yolo-fastest": 320, "yolov3-tiny": 416, "yolo-lite-coco-trial6_653550": 224}
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")


def written(net: Network, path: Path, form: str = "heads") -> Path:
    write_atomic(path, pack_onnx(net, WeightsMetadata(), OnnxOptions(form)))
    return path


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NETWORKS]
)
def test_onnx_runtime_gives_the_same_for_any_number_of_images(name: str, tmp_path: Path) -> None:
    net = filled(CFG / f"{name}.cfg")
    x_BCHW = images(net, 2)
    expected = outputs(net, x_BCHW)
    actual = run_onnx(written(net, tmp_path / "net.onnx"), x_BCHW)
    assert list(actual) == [f"layer{index}" for index in net.outputs]
    assert distance(list(actual.values()), expected) <= RELATIVE


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_networks_with_a_memory_are_refused(name: str) -> None:
    with pytest.raises(DarkpyError, match=r"layer 0 \[(gru|rnn)\]"):
        b"".join(pack_onnx(filled(CFG / f"{name}.cfg"), WeightsMetadata(), OnnxOptions()))


@pytest.mark.parametrize("name", REAL)
def test_rows_of_a_real_network_find_the_dog_in_opencv(shared: Path, name: str, tmp_path: Path) -> None:
    """The code is that of ten years of pages about cv2.dnn.readNetFromDarknet."""
    cv2 = pytest.importorskip("cv2")
    folder, side = shared / "data" / "weights" / name, REAL[name]
    (cfg,), (weights,) = folder.glob("*.cfg"), folder.glob("*.weights")
    path = written(darkpy.load(cfg, weights), tmp_path / "net.onnx", "rows")
    image = cv2.imread(str(shared / "data" / "images" / "dog.jpg"))
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(cv2.dnn.blobFromImage(image, 1 / 255, (side, side), swapRB=True))
    seen: dict[int, tuple[float, ...]] = {}
    for rows in net.forward(net.getUnconnectedOutLayersNames()):
        for row in rows:
            class_id = int(np.argmax(row[5:]))
            if row[5 + class_id] > max(0.5, seen.get(class_id, (0.0,))[0]):
                seen[class_id] = (float(row[5 + class_id]), *(float(side) for side in row[:4]))
    x, y, w, h = seen[16][1:]
    assert abs(x - 0.3) < 0.06 and abs(y - 0.64) < 0.06 and w > 0.25 and h > 0.4
