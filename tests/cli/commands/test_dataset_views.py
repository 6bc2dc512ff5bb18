"""`darkpy dataset split`, `stats` and `draw`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from darkpy.evaluation.draw import class_color
from tests.cli.conftest import Run, write_image


@pytest.fixture(autouse=True)
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("set").mkdir()
    for number in range(10):
        write_image(Path(f"set/{number}.jpg"), 64, 32)
        Path(f"set/{number}.txt").write_text(f"{number % 2} .5 .5 .5 .25\n")
    Path("train.txt").write_text("".join(f"set/{number}.jpg\n" for number in range(8)))
    Path("valid.txt").write_text("".join(f"set/{number}.jpg\n" for number in range(7, 10)))
    Path("my.names").write_text("cat\ndog\n")
    Path("my.data").write_text("classes=2\ntrain=train.txt\nvalid=valid.txt\nnames=my.names\nbackup=b\n")


def lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines()


def test_list_is_split_into_lists(run: Run) -> None:
    code, out, err = run("dataset", "split", "set", "lists", "--parts", "train=.5,valid=.3,test=.2", "--seed", "4")
    assert (code, err) == (0, "")
    assert out == "lists/train.txt: 5 images\nlists/valid.txt: 3 images\nlists/test.txt: 2 images\n"
    dealt = [line for part in ("train", "valid", "test") for line in lines(f"lists/{part}.txt")]
    assert sorted(dealt) == [str(Path(f"set/{number}.jpg").absolute()) for number in range(10)]
    run("dataset", "split", "set", "again", "--parts", "train=.5,valid=.3,test=.2", "--seed", "4")
    assert lines("again/valid.txt") == lines("lists/valid.txt")


def test_data_file_is_copied_with_the_new_lists(run: Run) -> None:
    Path("my.data").write_text(f"{Path('my.data').read_text()}difficult=valid.txt\ndifficult_test=train.txt\n")
    assert run("dataset", "split", "my.data", "lists").code == 0
    here = Path().absolute()
    assert lines("lists/my.data") == [
        *("classes=2", f"train={here}/lists/train.txt", f"valid={here}/lists/valid.txt", f"names={here}/my.names"),
        *("backup=b", f"difficult_test={here}/train.txt"),
    ]
    assert len(lines("lists/train.txt")) + len(lines("lists/valid.txt")) == 8
    code, out, err = run("dataset", "stats", "lists/my.data")
    assert code == 0 and "images are in" not in out
    code, _, err = run("dataset", "split", "my.data", "lists")
    assert code == 2 and "lists/train.txt: already exists" in err
    assert run("dataset", "split", "my.data", "lists", "--force").code == 0


def test_statistics_are_of_each_list_and_tell_what_they_share(run: Run) -> None:
    code, out, err = run("dataset", "stats", "my.data")
    assert (code, err) == (0, "")
    assert out.startswith("train: 8 images, 8 boxes\n") and out.endswith("\n1 images are in train and in valid\n")
    record = json.loads(run("dataset", "stats", "my.data", "--json").out)
    assert record["valid"]["classes"] == {"cat": {"boxes": 1, "images": 1}, "dog": {"boxes": 2, "images": 2}}
    assert record["shared"] == [{"lists": ["train", "valid"], "images": 1}]


def test_sheet_shows_some_images_and_the_same_ones_again(run: Run) -> None:
    code, out, err = run("dataset", "draw", "my.data", "sheet.png", "--images", "5", "--columns", "3")
    assert (code, out, err) == (0, "sheet.png: 5 of 8 images\n", "")
    image = Image.open("sheet.png")
    assert image.width > 3 * 200 and image.height > 2 * 200
    colors = {color for _, color in image.convert("RGB").getcolors(1 << 24) or ()}
    assert {class_color(0), class_color(1)} <= colors
    first = Path("sheet.png").read_bytes()
    code, _, err = run("dataset", "draw", "my.data", "sheet.png")
    assert code == 2 and "sheet.png: already exists" in err and Path("sheet.png").read_bytes() == first
    run("dataset", "draw", "my.data", "sheet.png", "--images", "5", "--columns", "3", "--force")
    assert Path("sheet.png").read_bytes() == first
    run("dataset", "draw", "my.data", "other.png", "--images", "5", "--columns", "3", "--seed", "1")
    assert Path("other.png").read_bytes() != first


def test_images_that_cannot_be_read_are_reported_and_the_others_shown(run: Run) -> None:
    Path("set/3.jpg").write_bytes(b"no image")
    Path("set/4.txt").unlink()
    code, out, err = run("dataset", "draw", "train.txt", "sheet.png")
    assert (code, out) == (0, "sheet.png: 7 of 8 images\n")
    assert err.startswith("warning: 1 images cannot be read: set/3.jpg: ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("split set lists --parts train=.9,valid=.2", "train=0.9, valid=0.2 are not shares of a whole"),
        ("split set lists --parts train", "--parts: 'train' is not NAME=SHARE"),
        ("split set lists --parts a/b=.5", "--parts: 'a/b=.5' is not NAME=SHARE"),
        ("split set lists --parts a=.5,a=.5", "--parts: 'a=.5' is not NAME=SHARE"),
        ("split set lists --parts a=nan", "--parts: 'a=nan' is not NAME=SHARE"),
        ("stats my.names", "my.names: is not a .data file"),
        ("stats nowhere.txt", "nowhere.txt: cannot be read"),
        ("draw my.data my.data", "is an input of this command"),
        ("draw my.data sheet.png --list test", "my.data: has no test="),
    ],
)
def test_mistake_is_one_message_and_nothing_is_written(run: Run, words: str, told: str) -> None:
    before = sorted(Path().rglob("*"))
    code, out, err = run("dataset", *words.split())
    assert code == 2 and told in err and out == "" and err.count("error: ") == 1
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("words", ["split set lists", "stats my.data", "draw my.data a.png", "to-coco my.data out"])
def test_they_start_without_torch(words: str) -> None:
    code = "import sys; from darkpy.__main__ import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    line = [sys.executable, "-c", code, "dataset", *words.split()]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout.endswith("0 False\n")
