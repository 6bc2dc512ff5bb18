"""Correct cfgs and data have no findings: the originals of both darknets, and data that train."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from darkpy.build import make_plan
from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.lists.paths import read_image_list
from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset
from darkpy.diagnostics.checks.anchors import check_anchors
from darkpy.diagnostics.checks.images import Inspector
from darkpy.diagnostics.doctor import examine
from darkpy.dialect import Dialect
from tests.diagnostics.conftest import Case

ROOT = Path(__file__).resolve().parents[2]
ORIGINALS = sorted((ROOT / "cfg").glob("*.cfg"))
DETECTORS = (
    *("yolov2", "yolov2-tiny", "yolov2-voc", "yolov3", "yolov3-spp", "yolov3-tiny", "yolov3-voc"),
    *("yolov4", "yolov4-csp", "yolov4-tiny", "yolov4x-mish", "yolov7-tiny"),
)

SLOW = ("yolov3", "yolov4", "yolov4-tiny")


def as_darknet_says(original: Path, classes: int) -> str:
    """A cfg made ready for other data, as the instructions of both forks have it: batch, classes, filters."""
    text = re.sub(r"(?m)^batch *=.*", "batch=64", original.read_text(), count=1)
    text = re.sub(r"(?m)^subdivisions *=.*", "subdivisions=16", text, count=1)
    # AlexeyAB's program refuses it together with mosaic=1, which yolov4-csp.cfg and yolov4x-mish.cfg have as well
    text = re.sub(r"(?m)^letter_box *=.*", "letter_box=0", text)
    old = int(re.findall(r"(?m)^classes *= *(\d+)", text)[0])
    text = re.sub(r"(?m)^classes *=.*", f"classes={classes}", text)
    for anchors in (3, 5):
        text = re.sub(rf"(?m)^filters *= *{anchors * (5 + old)}\b", f"filters={anchors * (5 + classes)}", text)
    return text


@pytest.mark.parametrize("original", ORIGINALS, ids=lambda path: path.stem)
def test_nothing_is_found_in_an_original(original: Path) -> None:
    assert [str(one) for one in examine(original, None).findings if not one.is_note] == []


@pytest.mark.parametrize("name", DETECTORS)
def test_nothing_is_found_in_an_original_made_ready_for_sampled_data(case: Case, name: str) -> None:
    case.cfg.write_text(as_darknet_says(ROOT / "cfg" / f"{name}.cfg", 4))
    assert [str(one) for one in case.findings()] == []


@pytest.mark.parametrize("seed", range(1, 5))
def test_nothing_is_found_in_sampled_data(tmp_path: Path, seed: int) -> None:
    case = Case(tmp_path / "shapes")
    for _ in write_synthetic_dataset(
        SyntheticConfig(images=20 * seed, valid=10, size=64 + 32 * seed, seed=seed), case.folder
    ):
        pass
    assert [str(one) for one in case.findings()] == []


def test_original_with_the_lines_for_testing_is_reported_when_it_is_to_be_trained(case: Case) -> None:
    text = as_darknet_says(ROOT / "cfg/yolov3-tiny.cfg", 4)
    case.cfg.write_text(text.replace("batch=64", "batch=1").replace("subdivisions=16", "subdivisions=1"))
    assert [one.name for one in examine(case.cfg, None).findings] == ["batch"]
    assert examine(case.cfg, None).findings[0].is_note
    assert [one.name for one in case.findings()] == ["batch"]


@pytest.fixture(scope="module")
def blood(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of the images of blood cells; the two boxes without a size are left out as it is made."""
    from darkpy.__main__ import main

    folder = tmp_path_factory.mktemp("blood") / "bccd"
    assert main(["dataset", "from-voc", str(shared / "data/bccd"), str(folder)]) == 0
    return folder


@pytest.mark.parametrize("name", ["yolov3-tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_nothing_is_found_in_blood_cells(blood: Path, tmp_path: Path, name: str) -> None:
    from darkpy.data.lists.text_files import read_data

    cfg = tmp_path / "my.cfg"
    cfg.write_text(as_darknet_says(ROOT / "cfg" / f"{name}.cfg", 3))
    exam = examine(cfg, read_data(blood / "bccd.data"))
    assert len(list(exam.survey())) == 292
    assert [str(one) for one in exam.findings if not one.is_note] == []


@pytest.mark.parametrize("factor", [1, 3, 1 / 3])
def test_anchors_three_times_too_large_for_blood_cells_are_found(blood: Path, tmp_path: Path, factor: float) -> None:
    """Anchors as `darkpy anchors` finds them for 416 x 416, and three times as large or small."""
    text = as_darknet_says(ROOT / "cfg/yolov3-tiny.cfg", 3)
    own = (28, 28, 56, 58, 68, 70, 78, 60, 92, 94, 138, 130)
    sizes = ",".join(f"{factor * size:.0f}" for size in own)
    (tmp_path / "my.cfg").write_text(re.sub(r"(?m)^anchors *=.*", f"anchors={sizes}", text))
    paths = list(map(str, read_image_list(blood / "train.txt")))[::5]
    augment_config = DetectionAugmentConfig(dialect=Dialect.PJREDDIE, head="yolo", classes=3, max=90, jitter=0)
    images = list(Inspector(3, 416, 416, augment_config).survey(paths))
    found = [one.message for one in check_anchors(make_plan(tmp_path / "my.cfg"), images, letterbox=True)]
    if factor == 1:
        assert found == []
    else:
        (message,) = found
        assert re.match(rf"anchors are [23]\.\d times too {'large' if factor > 1 else 'small'}", message)


def test_nothing_is_found_in_a_classifier_and_its_images(shared: Path, tmp_path: Path) -> None:
    from darkpy.data.lists.text_files import read_data

    pictures = sorted((shared / "data/cifar/train").glob("*.png"))
    for name, some in (("train", pictures[:400]), ("test", pictures[400:500])):
        (tmp_path / f"{name}.list").write_text("".join(f"{path}\n" for path in some))
    data = tmp_path / "cifar.data"
    labels = shared / "data/cifar/labels.txt"
    data.write_text(f"classes=10\ntrain={tmp_path}/train.list\nvalid={tmp_path}/test.list\nlabels={labels}\n")
    exam = examine(ROOT / "cfg/cifar.cfg", read_data(data))
    assert len(list(exam.survey())) == 500
    assert [str(one) for one in exam.findings if not one.is_note] == []
