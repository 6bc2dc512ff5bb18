"""Synthetic data set: what is drawn, where its boxes are, and the files written.

Letters: 3 colors, H W rows and columns, N points.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

import darkpy
from darkpy.data.augment.sampler import DarknetRandom
from darkpy.data.lists.labels import read_labels
from darkpy.data.lists.paths import label_path, read_image_list
from darkpy.data.lists.text_files import read_data, read_names
from darkpy.data.synthetic import (
    CLASS_NAMES,
    MAX_COVERED,
    SHAPE_OUTLINES,
    SHAPES_PER_IMAGE,
    Scene,
    SyntheticConfig,
    draw_scene,
    write_synthetic_dataset,
)
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError

SCENES = [draw_scene(DarknetRandom(f"test/{number}"), 96) for number in range(24)]
SAMPLE = SyntheticConfig(images=3, valid=2, size=96, seed=5)
Write = Callable[..., Path]


@pytest.mark.parametrize("scene", SCENES)
def test_box_is_tight_around_the_pixels_that_its_shape_paints(scene: Scene) -> None:
    black_3HW = torch.zeros_like(scene.ground_3HW)
    for shape in scene.shapes:
        white = shape._replace(color_3=torch.full((3,), 255.0))
        is_white_HW = Scene(black_3HW, black_3HW, (white,)).paint()[0] > 127
        left, top, right, bottom = shape.box_px
        inside_HW = is_white_HW[top:bottom, left:right]
        assert inside_HW.sum() == is_white_HW.sum() > 0
        assert inside_HW[0].any() and inside_HW[-1].any() and inside_HW[:, 0].any() and inside_HW[:, -1].any()


@pytest.mark.parametrize("scene", SCENES)
def test_image_differs_from_the_bare_one_in_its_shapes_alone(scene: Scene) -> None:
    differs_HW = (scene.paint() != scene._replace(shapes=()).paint()).any(0)
    covered_HW = torch.stack([shape.cover_HW for shape in scene.shapes]).amax(0)
    assert not differs_HW[covered_HW == 0].any()
    assert differs_HW[covered_HW == 1].float().mean() > 0.95


@pytest.mark.parametrize("scene", SCENES)
def test_shapes_are_whole_and_hardly_cover_each_other(scene: Scene) -> None:
    assert 1 <= len(scene.shapes) <= SHAPES_PER_IMAGE[1]
    for shape in scene.shapes:
        assert not any(line.any() for edge in (0, -1) for line in (shape.cover_HW[edge], shape.cover_HW[:, edge]))
    for shape, other in combinations(scene.shapes, 2):
        shared = torch.minimum(shape.cover_HW, other.cover_HW).sum()
        assert shared <= MAX_COVERED * min(shape.cover_HW.sum(), other.cover_HW.sum())


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("circle", [(0, 0), (0.99, 0), (0.7, -0.7)], [(1.01, 0), (0.8, 0.8)]),
        ("square", [(0, 0), (0.83, 0), (0.83, -0.83)], [(0.85, 0), (0, -0.85)]),
        ("triangle", [(0, 0), (0, -1.19), (1, 0.59)], [(0, 0.61), (0.6, -0.6), (0, -1.21)]),
        ("cross", [(0, 0), (1, 0.29), (-0.29, -1)], [(0.31, 0.31), (1.06, 0)]),
    ],
)
def test_class_has_the_outline_of_its_name(
    name: str, inside: list[tuple[float, float]], outside: list[tuple[float, float]]
) -> None:
    points_N2 = torch.tensor([*inside, *outside])
    is_inside_N = SHAPE_OUTLINES[name](*points_N2.unbind(1)) < 0
    assert is_inside_N.tolist() == [True] * len(inside) + [False] * len(outside)


def test_every_class_occurs() -> None:
    assert {shape.class_id for scene in SCENES for shape in scene.shapes} == set(range(len(CLASS_NAMES)))


def test_images_follow_from_the_seed() -> None:
    first, again, other = (draw_scene(DarknetRandom(text), 64).paint() for text in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a sample into a folder of the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(
        folder: str = "shapes", sample: SyntheticConfig = SAMPLE, *, voc_xml: bool = False, overwrite: bool = False
    ) -> Path:
        for _ in write_synthetic_dataset(sample, Path(folder), voc_xml=voc_xml, overwrite=overwrite):
            pass
        return Path(folder)

    return write


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_scenes_are_written_one_by_one(tmp_path: Path) -> None:
    writing = write_synthetic_dataset(SAMPLE, tmp_path / "shapes")
    for (place, scene), path in zip(SAMPLE.scenes(), writing, strict=True):
        assert path == tmp_path / "shapes" / place
        pixels_HW3 = np.asarray(Image.open(path), np.float32)
        assert pixels_HW3.shape == (96, 96, 3)
        differences_HW3 = np.abs(pixels_HW3 - scene.paint().permute(1, 2, 0).numpy())
        assert differences_HW3.mean() < 8  # what JPEG costs; 70 for another scene


def test_labels_are_the_boxes_of_the_shapes(write: Write) -> None:
    folder = write()
    for place, scene in SAMPLE.scenes():
        labels = read_labels((folder / place).with_suffix(".txt"), len(CLASS_NAMES))
        assert labels.problems == ()
        assert labels.boxes_N5[:, 4].tolist() == [shape.class_id for shape in scene.shapes]
        center_N2, size_N2 = labels.boxes_N5[:, :2] * 96, labels.boxes_N5[:, 2:4] * 96
        edges_N4 = np.hstack([center_N2 - size_N2 / 2, center_N2 + size_N2 / 2])
        assert edges_N4 == pytest.approx(np.array([shape.box_px for shape in scene.shapes]), abs=1e-3)


def test_xml_has_the_same_boxes_as_the_labels(write: Write) -> None:
    folder = write(voc_xml=True)
    for place, scene in SAMPLE.scenes():
        root = ElementTree.parse((folder / place).with_suffix(".xml")).getroot()
        assert root.findtext("filename") == place.name
        assert [root.findtext(f"size/{key}") for key in ("width", "height", "depth")] == ["96", "96", "3"]
        objects = root.findall("object")
        assert [one.findtext("name") for one in objects] == [CLASS_NAMES[shape.class_id] for shape in scene.shapes]
        for one, shape in zip(objects, scene.shapes, strict=True):
            corners = [int(one.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax")]
            left, top, right, bottom = shape.box_px
            assert corners == [left + 1, top + 1, right, bottom]


def test_data_file_leads_to_everything_from_anywhere(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write().resolve() / "sample.data"
    monkeypatch.chdir("/")
    data = read_data(file)
    assert data.entries["classes"] == str(len(CLASS_NAMES))
    assert read_names(data.find_names() or "") == CLASS_NAMES
    assert Path(data.entries["backup"]).is_dir()
    for key, count in (("train", 3), ("valid", 2)):
        images = read_image_list(data.find(key) or "")
        assert len(images) == count and all(map(Path.is_file, map(Path, images)))


@pytest.mark.parametrize("dialect", Dialect)
def test_each_dialects_rule_finds_the_labels(write: Write, dialect: Dialect) -> None:
    folder = write()
    images = [image for name in ("train", "valid") for image in (folder / f"{name}.txt").read_text().splitlines()]
    assert len(images) == 5
    assert all(label_path(image, dialect).is_file() for image in images)


@pytest.mark.parametrize("dialect", Dialect)
def test_cfg_is_good_in_both_dialects(write: Write, dialect: Dialect) -> None:
    plan = darkpy.plan(write() / "sample.cfg", dialect, strict=True)
    plan.net.check_schedule()
    assert plan.nodes[-1].spec.classes == len(CLASS_NAMES)  # type: ignore[attr-defined]
    assert sum(node.parameter_count for node in plan.nodes) * 4 < 300_000


def test_same_seed_writes_the_same_files_and_another_seed_others(write: Write) -> None:
    one, again = contents(write()), contents(write(overwrite=True))
    assert one == again
    other = contents(write("others", SyntheticConfig(images=3, valid=2, size=96, seed=6)))
    assert one.keys() == other.keys()
    assert {name for name in one if name.endswith(".jpg") and one[name] == other[name]} == set()


def test_larger_sample_begins_with_the_images_of_a_smaller_one(write: Write) -> None:
    small, large = contents(write()), contents(write("more", SyntheticConfig(images=4, valid=2, size=96, seed=5)))
    pictures = {name: data for name, data in small.items() if name.endswith(".jpg")}
    assert pictures.items() <= large.items()
    assert len(pictures) == 5


def test_folder_that_is_not_empty_is_left_alone(write: Write) -> None:
    Path("shapes").mkdir()
    Path("shapes/mine.txt").write_text("mine")
    with pytest.raises(DarkpyError, match="shapes: is not empty"):
        write()
    assert contents(Path("shapes")) == {"mine.txt": b"mine"}
    write(overwrite=True)
    assert contents(Path("shapes"))["mine.txt"] == b"mine"


def test_file_in_the_place_of_the_folder_is_refused(write: Write) -> None:
    Path("shapes").write_text("mine")
    with pytest.raises(DarkpyError, match="shapes: cannot be created"):
        write()


@pytest.mark.parametrize("folder", ["images/shapes", "raw", "a.jpg", "a\nb", "\udc80"])
def test_folder_where_a_darknet_would_not_find_the_labels_is_an_error(write: Write, folder: str) -> None:
    with pytest.raises(DarkpyError, match="one of the darknets would not find labels"):
        write(folder)
    assert list(Path().iterdir()) == []


def test_lists_are_relative_where_only_the_way_to_the_working_directory_misleads(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("images").mkdir()
    monkeypatch.chdir("images")
    write()
    assert Path("shapes/valid.txt").read_text() == "shapes/valid/00000.jpg\nshapes/valid/00001.jpg\n"
    assert read_data("shapes/sample.data").entries["backup"] == "shapes/backup"
