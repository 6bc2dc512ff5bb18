from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import darkpy
from darkpy.errors import DarkpyError
from darkpy.evaluation.detect import DetectOptions
from darkpy.evaluation.runner import Metric, run_metrics
from darkpy.network import Network
from darkpy.ops.boxes import Detections

CFG = """[net]
width=32
height=32
channels=3

[convolutional]
filters=16
size=8
stride=8
activation=linear

[yolo]
mask=0,1
anchors=10,10, 14,12
classes=3
num=2
"""
OPTIONS = DetectOptions(thresh=0.05, nms=0.45, letterbox=False, darknet_order=True)


@pytest.fixture(scope="module")
def network() -> Network:
    made = darkpy.load(CFG)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.3)
    return made


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(5)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 70, 3), np.uint8)).save(path)
    return paths


def collect(network: Network, paths: list[Path], settings: DetectOptions, batch_size: int = 1) -> Detections:
    parts: list[Detections] = []
    statuses = list(run_metrics(network, paths, [Metric(settings, parts.append)], batch_size=batch_size))
    assert [view.index for view in statuses] == list(range(len(paths)))
    return Detections.cat(parts)


def table_of(actual: Detections) -> Tensor:
    return torch.cat((actual.image_M[:, None], actual.boxes_M4, actual.objectness_M[:, None], actual.prob_MK), dim=1)


@pytest.mark.parametrize("by_objectness", [False, True])
def test_batches_see_what_single_images_see(network: Network, images: list[Path], by_objectness: bool) -> None:
    settings = replace(OPTIONS, by_objectness=by_objectness)
    alone, together = (collect(network, images, settings, batch_size) for batch_size in (1, 3))
    assert set(alone.image_M.tolist()) == {0, 1, 2, 3, 4}
    order = together.image_M.argsort(stable=True)  # suppression by objectness leaves a batch in the order of the heads
    torch.testing.assert_close(table_of(alone), table_of(together.select(order)))


def test_boxes_are_in_the_order_of_sorting_by_each_class_in_turn(network: Network, images: list[Path]) -> None:
    """As darknet's suppression leaves them."""
    actual = collect(network, images[:1], replace(OPTIONS, nms=1.0))
    rows = actual.prob_MK.tolist()
    expected = rows.copy()
    for k in range(3):
        expected.sort(key=lambda row: -row[k])
    assert len(rows) > 10 and rows == expected


def test_letterboxed_and_stretched_metrics_share_their_passes(
    network: Network, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    forward = network.forward

    def counted(x_BCHW: Tensor) -> list[Tensor]:
        seen.append(len(x_BCHW))
        return forward(x_BCHW)

    monkeypatch.setattr(network, "forward", counted)
    parts: list[list[Detections]] = [[], [], []]
    settings = (OPTIONS, replace(OPTIONS, nms=0.9), replace(OPTIONS, letterbox=True))
    metrics = [Metric(one, part.append) for one, part in zip(settings, parts, strict=True)]
    list(run_metrics(network, images, metrics, batch_size=2))
    assert sorted(seen) == [1, 1, 2, 2, 2, 2]
    alone = collect(network, images, settings[2])
    torch.testing.assert_close(table_of(Detections.cat(parts[2])), table_of(alone))


def test_image_that_cannot_be_read_has_no_detections(network: Network, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [images[0], tmp_path / "bad.png", tmp_path / "absent.png", images[1]]
    parts: list[Detections] = []
    statuses = list(run_metrics(network, paths, [Metric(OPTIONS, parts.append)], batch_size=2))
    assert [view.error is None for view in statuses] == [True, False, False, True]
    assert statuses[0].size == (70, 40)
    assert set(Detections.cat(parts).image_M.tolist()) == {0, 3}


def test_network_without_boxes_is_refused(images: list[Path]) -> None:
    network = darkpy.load("[net]\nwidth=8\nheight=8\nchannels=3\n[softmax]\n")
    with pytest.raises(DarkpyError, match="no detection layer"):
        next(run_metrics(network, images, []))
