"""Mask files: runs that are read, rendered and written, and invalid lines."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from darkpy.data.lists.mask_files import (
    MAX_MASKS_PER_FILE,
    MAX_PROBLEMS_PER_FILE,
    Mask,
    encode_runs,
    format_masks,
    read_masks,
)
from darkpy.data.lists.paths import mask_path
from darkpy.errors import DarkpyError


def write(folder: Path, text: str) -> Path:
    path = folder / "a.txt"
    path.write_text(text)
    return path


def test_runs_begin_outside_go_row_by_row_and_end_on_the_other_side(tmp_path: Path) -> None:
    path = write(tmp_path, "1 3,2\n0 0,4,2\n")
    first, second = read_masks(path, 2).masks
    assert (first.class_id, second.class_id, second.line) == (1, 0, 2)
    assert (first.render(4, 2) / 255).tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    assert (second.render(4, 2) / 255).tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]


def test_several_masks_on_a_line_are_read_as_in_darknet(tmp_path: Path) -> None:
    assert [mask.class_id for mask in read_masks(write(tmp_path, "1 3,2 0 4\r\n"), 2).masks] == [1, 0]


def test_empty_file_is_an_image_without_objects(tmp_path: Path) -> None:
    file = read_masks(write(tmp_path, ""), 2)
    assert (file.masks, file.problems) == ((), ())


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0 .5 .5 .2 .2", "'0 .5 .5 .2 .2' is a box, `class x y w h`, and not a mask, `class run,run,...`"),
        ("cat 3,2", "'cat 3,2' is not `class run,run,...`"),
        ("-1 3,2", "'-1 3,2' is not `class run,run,...`"),
        ("0 3,-2", "'0 3,-2' is not `class run,run,...`"),
        ("0 3,2,", "'0 3,2,' is not `class run,run,...`"),
        ("0 99999999999", "'0 99999999999' is not `class run,run,...`"),
        ("0", "'0' is not `class run,run,...`"),
        ("2 3,2", "class 2 is not from 0 to 1"),
    ],
)
def test_line_that_is_no_mask_is_left_out_and_reported(tmp_path: Path, line: str, problem: str) -> None:
    path = write(tmp_path, f"1 3,2\n{line}\n0 1,1\n")
    file = read_masks(path, 2)
    assert [mask.class_id for mask in file.masks] == [1, 0]
    assert file.problems == (f"{path}:2: {problem}",)


def test_mask_of_more_pixels_than_the_image_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "1 3,2\n0 7,2\n0 8\n")
    file = read_masks(path, 2)
    fitting = file.fitting(4, 2)
    assert [mask.line for mask in fitting.masks] == [1, 3]
    assert fitting.problems == (f"{path}:2: its runs have 9 pixels, the image of 4 x 2 has 8",)
    assert file.fitting(3, 3) is file


def test_many_wrong_lines_are_counted(tmp_path: Path) -> None:
    file = read_masks(write(tmp_path, "wrong\n" * 50), 2)
    assert len(file.problems) == MAX_PROBLEMS_PER_FILE + 1
    assert file.problems[-1].endswith(": 30 more lines are wrong")


def test_wrong_lines_take_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkpy.data.lists.mask_files.MAX_FILE_BYTES", 1 << 17)  # a buffer of this size is read
    path = write(tmp_path, "x\n" * 50_000)
    tracemalloc.start()
    try:
        assert read_masks(path, 2).problems[-1].endswith(f"{50_000 - MAX_PROBLEMS_PER_FILE} more lines are wrong")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_number_of_masks_is_limited(tmp_path: Path) -> None:
    path = write(tmp_path, "1 3,2\n" * (MAX_MASKS_PER_FILE + 2))
    file = read_masks(path, 2)
    assert len(file.masks) == MAX_MASKS_PER_FILE
    assert file.problems[0] == f"{path}:5001: more than 5000 masks, the limit of a file"


@pytest.mark.parametrize("name", ["none.txt", "folder"])
def test_file_that_cannot_be_read_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DarkpyError, match=r"hint: a mask file has `class run,run,...`"):
        read_masks(tmp_path / name, 2)


def test_masks_come_back_from_their_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    shapes = [rng.random((7, 9)) < share for share in (0.0, 0.2, 0.5, 1.0)]
    masks = [Mask(class_id, encode_runs(is_inside_HW)) for class_id, is_inside_HW in enumerate(shapes)]
    assert [mask.pixels for mask in masks] == [int(is_inside_HW.sum()) for is_inside_HW in shapes]
    for mask, is_inside_HW in zip(read_masks(write(tmp_path, format_masks(masks)), 4).masks, shapes, strict=True):
        np.testing.assert_array_equal(mask.render(9, 7), 255 * is_inside_HW)


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("coco/images/train2014/a.jpg", "coco/mask/train2014/a.txt"),
        ("VOC/JPEGImages/a.JPEG", "VOC/mask/a.txt"),
        ("images/images/a.png", "mask/images/a.txt"),
        ("a.JPG", "a.txt"),
    ],
)
def test_mask_file_of_an_image(image: str, file: str) -> None:
    assert mask_path(image) == Path(file)


def test_name_that_is_no_images_has_no_mask_file() -> None:
    with pytest.raises(DarkpyError, match="no label file belongs to it"):
        mask_path("images/a.txt.gz")
