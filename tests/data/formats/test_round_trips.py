"""Data sets go through each format and come back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.__main__ import main
from darkpy.data.formats.annotations import AnnotatedDataset
from darkpy.data.formats.darknet_reader import read_darknet

CLASSES = ("cat", "black dog", 'it\'s <&> "ü"')
SIDES = st.integers(1, 60)
BOXES = st.tuples(*[st.integers(0, 999_999)] * 4)
PICTURES = st.lists(
    st.tuples(SIDES, SIDES, st.lists(st.tuples(st.integers(0, 2), BOXES, st.booleans()), max_size=3)),
    min_size=2,
    max_size=4,
)
Pictures = list[tuple[int, int, list[tuple[int, tuple[int, int, int, int], bool]]]]


def write_set(folder: Path, pictures: Pictures) -> None:
    """A data set of images with boxes whose edges have six decimals, the last image in valid."""
    folder.mkdir()
    lists: dict[str, list[str]] = {"train": [], "valid": [], "difficult": [], "difficult_train": []}
    for number, (w, h, items) in enumerate(pictures):
        is_last = number == len(pictures) - 1
        name = f"p{number}.png"
        (folder / "d").mkdir(exist_ok=True)
        PIL.Image.new("RGB", (w, h)).save(folder / name)
        texts: dict[bool, list[str]] = {False: [], True: []}
        for class_id, (a, b, c, d), is_difficult in items:
            (left, right), (top, bottom) = sorted((a, c)), sorted((b, d))
            center_and_size = (left + right + 1, top + bottom + 1, 2 * (right + 1 - left), 2 * (bottom + 1 - top))
            texts[is_difficult].append(" ".join([str(class_id), *(f"{v / 2e6:.7f}" for v in center_and_size)]) + "\n")
        (folder / f"p{number}.txt").write_text("".join(texts[False]))
        (folder / f"d/p{number}.txt").write_text("".join(texts[True]))
        lists["valid" if is_last else "train"].append(str(folder / name))
        lists["difficult" if is_last else "difficult_train"].append(str(folder / "d" / name))
    entries = [f"classes={len(CLASSES)}", f"names={folder}/set.names"]
    for key, lines in lists.items():
        (folder / f"{key}.list").write_text("".join(f"{line}\n" for line in lines))
        entries.append(f"{key}={folder}/{key}.list")
    (folder / "set.names").write_text("".join(f"{name}\n" for name in CLASSES))
    (folder / "set.data").write_text("\n".join(entries))


def run(*words: object) -> None:
    assert main(["dataset", *map(str, words)]) == 0


def through_voc(source: Path, folder: Path) -> Path:
    run("to-voc", source, folder / "voc")
    run("from-voc", folder / "voc", folder / "from_voc", "--names", source.parent / f"{source.stem}.names")
    return folder / "from_voc/from_voc.data"


def through_yolo(source: Path, folder: Path) -> Path:
    run("to-yolo", source, folder / "yolo")
    run("from-yolo", folder / "yolo", folder / "from_yolo")
    return folder / "from_yolo/from_yolo.data"


def through_coco(source: Path, folder: Path) -> Path:
    run("to-coco", source, folder / "json")
    files = [folder / "json" / f"{key}.json" for key in ("train", "valid")]
    images = read_darknet(source).images.values()
    run("from-coco", *files, folder / "from_coco", "--images", Path(str(next(iter(images)).file)).parent)
    return folder / "from_coco/from_coco.data"


def content(dataset: AnnotatedDataset, *, has_difficult: bool) -> object:
    """Everything that each format holds, boxes rounded to what six decimals of a fraction or pixel can tell."""
    objects = {
        key: sorted(
            (item.name, item.is_difficult and has_difficult, *(round(edge, 3) + 0.0 for edge in item.box))
            for item in image.objects
        )
        for key, image in dataset.images.items()
    }
    sizes_px = {key: (image.w, image.h) for key, image in dataset.images.items()}
    splits = {{"val": "valid"}.get(split, split): sorted(keys) for split, keys in dataset.splits.items()}
    return dataset.names, objects, sizes_px, splits


THROUGH: dict[str, Callable[[Path, Path], Path]] = {"voc": through_voc, "yolo": through_yolo, "coco": through_coco}


def check_round_trip(first: str, second: str, pictures: Pictures) -> None:
    # every set needs an object in each list: a list without any label is an error elsewhere
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write_set(folder / "source", pictures)
        source = folder / "source/set.data"
        (folder / "one").mkdir()
        (folder / "two").mkdir()
        back = THROUGH[second](THROUGH[first](source, folder / "one"), folder / "two")
        has_difficult = "yolo" not in (first, second)
        expected = content(read_darknet(source), has_difficult=has_difficult)
        assert content(read_darknet(back), has_difficult=has_difficult) == expected


@pytest.mark.parametrize("second", THROUGH)
@pytest.mark.parametrize("first", THROUGH)
def test_two_formats_in_a_row_lose_nothing_that_both_hold(first: str, second: str) -> None:
    pictures: Pictures = [
        (40, 30, [(0, (100_000, 200_000, 299_999, 499_999), False), (2, (1, 2, 3, 999_999), True)]),
        (7, 9, []),
        (33, 1, [(1, (0, 0, 999_999, 999_999), False), (0, (123_456, 0, 654_321, 999_999), True)]),
    ]
    check_round_trip(first, second, pictures)


@pytest.mark.slow
@pytest.mark.parametrize("second", THROUGH)
@pytest.mark.parametrize("first", THROUGH)
@settings(max_examples=40, deadline=None)
@given(pictures=PICTURES)
def test_generated_sets_lose_nothing_that_both_formats_hold(first: str, second: str, pictures: Pictures) -> None:
    check_round_trip(first, second, pictures)
