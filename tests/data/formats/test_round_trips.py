"""Data sets go through every pair of formats and come back with everything that both can hold."""

from __future__ import annotations

import csv
import json
import os
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import PIL.Image
import pytest

from darkpy.__main__ import main
from darkpy.data.formats.annotations import AnnotatedDataset
from darkpy.data.formats.darknet_reader import read_darknet
from darkpy.data.lists.paths import IMAGE_SUFFIXES

CLASSES = ("cat", "black dog", 'it\'s <&> "ü"', "日本, b")
STEMS = ("a", "A b", "ü-ñ", "日本", "x (2)", "c#1%20", "1", "007", "it's & <b>")
FOLDERS = ("", "sub dir", "sub dir/ü", "other")
SLOW_SEEDS = 12


def write_set(folder: Path, seed: int) -> Path:
    """A data set of images of odd sizes in nested folders, some of the same name, some without objects.

    The edges of boxes are multiples of a millionth of the image; the last images are in valid.
    """
    rng = random.Random(seed)
    places = rng.sample([(stem, place) for stem in STEMS for place in FOLDERS], 6)
    lists: dict[str, list[str]] = {"train": [], "valid": [], "difficult": [], "difficult_train": []}
    for number, (stem, place) in enumerate(places):
        path = folder / place / f"{stem}{rng.choice(['.png', '.JPG', '.bmp'])}"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (rng.choice([1, 7, 33, 64]), rng.randint(1, 60))).save(path)
        texts = ["", ""]
        for _ in range(rng.choice([0, 1, 3]) or number in (0, 5)):  # each list has objects
            (left, right), (top, bottom) = (sorted(rng.sample(range(10**6 + 1), 2)) for _ in range(2))
            center_and_size = (left + right, top + bottom, 2 * (right - left), 2 * (bottom - top))
            numbers = (f"{value / 2e6:.7f}" for value in center_and_size)
            texts[rng.random() < 0.3] += f"{rng.randrange(len(CLASSES))} {' '.join(numbers)}\n"
        path.with_suffix(".txt").write_text(texts[0])
        hard = folder / "hard" / place / path.name
        hard.parent.mkdir(parents=True, exist_ok=True)
        hard.with_suffix(".txt").write_text(texts[1])
        is_valid = number >= 4
        lists["valid" if is_valid else "train"].append(str(path))
        lists["difficult" if is_valid else "difficult_train"].append(str(hard))
    entries = [f"classes={len(CLASSES)}", f"names={folder}/set.names"]
    for key, lines in lists.items():
        (folder / f"{key}.list").write_text("".join(f"{line}\n" for line in lines))
        entries.append(f"{key}={folder}/{key}.list")
    (folder / "set.names").write_text("".join(f"{name}\n" for name in CLASSES))
    (folder / "set.data").write_text("\n".join(entries))
    return folder / "set.data"


def run(*words: object) -> None:
    assert main(["dataset", *map(str, words)]) == 0


def names_of(data: Path) -> tuple[str, Path]:
    return "--names", next(data.parent.glob("*.names"))


def through_voc(data: Path, folder: Path) -> None:
    run("to-voc", data, folder / "voc")
    run("from-voc", folder / "voc", folder / "set", *names_of(data))


def through_yolo(data: Path, folder: Path) -> None:
    run("to-yolo", data, folder / "yolo")
    run("from-yolo", folder / "yolo", folder / "set")


def through_coco(data: Path, folder: Path) -> None:
    run("to-coco", data, folder / "json")
    files = [folder / "json" / f"{key}.json" for key in ("train", "valid")]
    paths = [str(Path(str(image.file)).parent) for image in read_darknet(data).images.values()]
    run("from-coco", *files, folder / "set", "--images", os.path.commonpath(paths))


def link_images(dataset: AnnotatedDataset, folder: Path) -> dict[str, Path]:
    """Link the images of a data set in one folder, by their unique names."""
    folder.mkdir(parents=True, exist_ok=True)
    links = {}
    for key, image in dataset.images.items():
        assert isinstance(image.file, Path)
        links[key] = folder / f"{key}{image.file.suffix}"
        links[key].symlink_to(image.file)
    return links


def through_labelme(data: Path, folder: Path) -> None:
    dataset = read_darknet(data)
    for key, path in link_images(dataset, folder / "shots" / "inner").items():
        image = dataset.images[key]
        shapes = [
            {"label": item.name, "points": [item.box[2:], item.box[:2]], "difficult": item.is_difficult}
            for item in image.objects
        ]
        content = {
            "shapes": [{**shape, "shape_type": "rectangle"} for shape in shapes],
            "imagePath": f"..\\shots\\inner\\{path.name}",
            "imageData": None,
            "imageWidth": image.w,
            "imageHeight": image.h,
        }
        file = folder / "json" / f"{key}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    run("from-labelme", folder / "json", folder / "set", *names_of(data))


def through_labelstudio(data: Path, folder: Path) -> None:
    dataset = read_darknet(data)
    tasks = []
    for key, path in link_images(dataset, folder / "upload").items():
        image = dataset.images[key]
        regions = []
        for item in image.objects:
            left, top, right, bottom = item.box
            fractions = (left / image.w, top / image.h, (right - left) / image.w, (bottom - top) / image.h)
            percent = {side: 100 * value for side, value in zip(("x", "y", "width", "height"), fractions, strict=True)}
            size = {"original_width": image.w, "original_height": image.h}
            regions.append({"value": {**percent, "rotation": 0, "rectanglelabels": [item.name]}, **size})
        tasks.append({"data": {"image": f"/data/upload/3/0123abcd-{path.name}"}, "annotations": [{"result": regions}]})
    (folder / "export.json").write_text(json.dumps(tasks))
    run("from-labelstudio", folder / "export.json", folder / "set", "--images", folder / "upload", *names_of(data))


def through_kitti(data: Path, folder: Path) -> None:
    dataset = read_darknet(data)
    links = link_images(dataset, folder / "all")
    for split, keys in dataset.splits.items():
        for name in ("label_2", "image_2"):
            (folder / "kitti" / split / name).mkdir(parents=True)
        rest = "-1 -1 -1 -1000 -1000 -1000 -10"
        for key in keys:
            (folder / "kitti" / split / "image_2" / links[key].name).symlink_to(links[key].resolve())
            lines = [
                f"{item.name} 0.00 0 -10 {' '.join(f'{edge:.9f}' for edge in item.box)} {rest}\n"
                for item in dataset.images[key].objects
            ]
            (folder / "kitti" / split / "label_2" / f"{key}.txt").write_text("".join(lines))
    run("from-kitti", folder / "kitti", folder / "set", *names_of(data))


def through_openimages(data: Path, folder: Path) -> None:
    dataset = read_darknet(data)
    link_images(dataset, folder / "photos")
    ids = {name: f"/m/{number}" for number, name in enumerate(CLASSES)}
    with (folder / "class-descriptions.csv").open("w") as stream:
        csv.writer(stream).writerows((class_id, name) for name, class_id in ids.items())
    for split, keys in dataset.splits.items():
        with (folder / f"{split}-annotations-bbox.csv").open("w") as stream:
            writer = csv.writer(stream)
            writer.writerow(["ImageID", "LabelName", "XMin", "YMin", "XMax", "YMax", "IsGroupOf"])
            for key in keys:
                image = dataset.images[key]
                for item in image.objects:
                    edges = [edge / side for edge, side in zip(item.box, (image.w, image.h) * 2, strict=True)]
                    writer.writerow([key, ids[item.name], *edges, int(item.is_difficult)])
    files = [folder / f"{split}-annotations-bbox.csv" for split in dataset.splits]
    run("from-openimages", *files, folder / "set", "--images", folder / "photos", *names_of(data))


BOTH_WAYS: dict[str, Callable[[Path, Path], None]] = {"voc": through_voc, "yolo": through_yolo, "coco": through_coco}
FORMATS: dict[str, Callable[[Path, Path], None]] = {
    **BOTH_WAYS,
    "labelme": through_labelme,
    "labelstudio": through_labelstudio,
    "kitti": through_kitti,
    "openimages": through_openimages,
}
WITHOUT_DIFFICULT, WITHOUT_SPLITS = {"yolo", "labelstudio", "kitti"}, {"labelme", "labelstudio"}
ONLY_WITH_OBJECTS = {"openimages"}


def content(dataset: AnnotatedDataset, formats: set[str]) -> Mapping[str, object]:
    """Everything that each of the formats holds, boxes rounded to what six decimals of a fraction can tell."""
    has_difficult, has_splits = not formats & WITHOUT_DIFFICULT, not formats & WITHOUT_SPLITS
    has_empty = not formats & ONLY_WITH_OBJECTS
    images = {key: image for key, image in dataset.images.items() if image.objects or has_empty}
    objects = {
        key: sorted(
            (item.name, item.is_difficult and has_difficult, *(round(edge, 3) + 0.0 for edge in item.box))
            for item in image.objects
        )
        for key, image in images.items()
    }
    members = {split: sorted(images.keys() & set(keys)) for split, keys in dataset.splits.items()}
    splits = {{"val": "valid"}.get(split, split): keys for split, keys in members.items()}
    return {
        "names": dataset.names,
        "objects": objects,
        "sizes": {key: (image.w, image.h) for key, image in images.items()},
        "splits": splits if has_splits else None,
    }


def check_round_trip(first: str, second: str, seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        data = write_set(root / "source", seed)
        for number, step in enumerate((first, second)):
            folder = root / f"trip{number}"
            folder.mkdir()
            FORMATS[step](root / "source/set.data" if not number else root / "trip0/set/set.data", folder)
        back = read_darknet(root / "trip1/set/set.data")
        assert content(back, {first, second}) == content(read_darknet(data), {first, second})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("voc", "yolo"),
        ("yolo", "coco"),
        ("coco", "voc"),
        ("labelme", "voc"),
        ("labelstudio", "coco"),
        ("kitti", "yolo"),
        ("openimages", "coco"),
    ],
)
def test_two_formats_in_a_row_lose_nothing_that_both_hold(first: str, second: str) -> None:
    check_round_trip(first, second, 1)


@pytest.mark.slow
@pytest.mark.parametrize("second", BOTH_WAYS)
@pytest.mark.parametrize("first", FORMATS)
def test_generated_sets_lose_nothing_that_both_formats_hold(first: str, second: str) -> None:
    for seed in range(SLOW_SEEDS):
        check_round_trip(first, second, seed)


def test_generated_sets_have_what_the_tests_are_about() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "source"
        dataset = read_darknet(write_set(folder, 1))
        suffixes = {path.suffix.lower() for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
        objects = [item for image in dataset.images.values() for item in image.objects]
        assert len(suffixes) > 1 and any(item.is_difficult for item in objects)
        assert any(not image.objects for image in dataset.images.values())
