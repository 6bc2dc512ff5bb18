"""Real trained networks on real images detect what the C programs of both forks detect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import darkpy
from darkpy.inference.accelerate import InferenceConfig
from darkpy.ops.boxes import iou
from tests.inference.test_kernel_selection import force

CFG = Path(__file__).resolve().parents[1] / "cfg"
THRESH = 0.25
CONFIDENCE, IOU = 0.02, 0.97  # JPEG decoders differ by a level or two
NETWORKS = (
    "mobilenetv2-yolo-fastest-voc",
    "mobilenetv2-yolov3-nano-coco",
    "yolo-fastest",
    "yolo-lite-coco-trial6_653550",
    "yolo-lite-voc-trial3-noBatch",
    "yoloface-50k",
    "yolov3-tiny",
)


class Seen(NamedTuple):
    class_id: int
    confidence: float
    box_frac: tuple[float, ...]


def expected(file: Path) -> dict[str, list[Seen]]:
    found = json.loads(file.read_text())
    if isinstance(found, dict):
        return {
            image: [Seen(one["class_id"], one["confidence"], tuple(one["box_xywh_frac"])) for one in objects]
            for image, objects in found.items()
        }
    sides = ("center_x", "center_y", "width", "height")
    return {
        image["filename"]: [
            Seen(one["class_id"], one["confidence"], tuple(one["relative_coordinates"][side] for side in sides))
            for one in image["objects"]
        ]
        for image in found
    }


def is_same(one: Seen, other: Seen) -> bool:
    overlap = float(iou(torch.tensor(one.box_frac), torch.tensor(other.box_frac)))
    return one.class_id == other.class_id and overlap >= IOU and abs(one.confidence - other.confidence) <= CONFIDENCE


def without_twins(seen: list[Seen], twins: list[Seen]) -> list[Seen]:
    """What has no twin, of all that is not within a hair of the threshold."""
    return [
        one for one in seen if one.confidence > THRESH + CONFIDENCE and not any(is_same(one, twin) for twin in twins)
    ]


@pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
@pytest.mark.parametrize("fork", ["alexeyab", "pjreddie"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "kernel", ["plain layers", *(pytest.param(kernel, marks=pytest.mark.slow) for kernel in ("fastest", "Winograd 4"))]
)
def test_a_real_network_sees_what_darknet_sees(
    shared: Path, name: str, fork: str, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared / "data" / "weights" / name
    reference = folder / f"expected.{fork}.json"
    if not reference.exists():
        pytest.skip(f"{fork}'s program cannot run this network")
    (cfg,), (weights,) = folder.glob("*.cfg"), folder.glob("*.weights")
    network = darkpy.load(cfg, weights, dialect=fork).for_inference()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if kernel == "Winograd 4":
        force(kernel, network)
    if kernel != "plain layers":
        darkpy.accelerate(network, InferenceConfig(tune="on"))
    wanted = expected(reference)
    names = [str(number) for number in range(network.heads[0].class_count)]
    images = [shared / "data" / image for image in wanted]
    results = darkpy.detect(network, images, names, thresh=THRESH, batch_size=2)
    for result, objects in zip(results, wanted.values(), strict=True):
        found = [Seen(one.class_id, one.confidence, one.box_frac) for one in result.objects]
        assert without_twins(objects, found) == [], f"{result.path}: not found"
        assert without_twins(found, objects) == [], f"{result.path}: found too much"


def test_yolov3_tiny_finds_the_dog_the_bicycle_and_the_car(shared: Path) -> None:
    folder = shared / "data" / "weights" / "yolov3-tiny"
    network = darkpy.load(CFG / "yolov3-tiny.cfg", folder / "yolov3-tiny.weights").for_inference()
    names = (folder / "names.txt").read_text().splitlines()
    (result,) = darkpy.detect(network, [shared / "data" / "images" / "dog.jpg"], names)
    assert {"dog", "bicycle", "car"} <= {one.name for one in result.objects}


def test_a_partial_file_fills_the_layers_it_holds(shared: Path) -> None:
    folder = shared / "data" / "weights" / "yolo-fastest-rockcarry"
    partial = folder / "yolo-fastest.conv.109"
    with pytest.raises(darkpy.WeightsError, match="partial"):
        darkpy.load(folder / "yolo-fastest.cfg", partial)
    network = darkpy.load(folder / "yolo-fastest.cfg", partial, allow_partial=True)
    whole = darkpy.load(folder / "yolo-fastest.cfg", folder / "yolo-fastest.weights")
    filled, complete = network.state_dict(), whole.state_dict()
    same = [name for name in complete if torch.equal(filled[name], complete[name])]
    assert {int(name.split(".")[1]) for name in same} >= set(range(109)) & {int(n.split(".")[1]) for n in complete}
    assert len(same) < len(complete)
