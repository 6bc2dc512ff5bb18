"""A `.data` file with paths relative to its own folder, as CVAT writes it, for every command that takes one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, write_image

COMMANDS = {
    "stats": "dataset stats sets/pets.data",
    "split": "dataset split sets/pets.data out",
    "draw": "dataset draw sets/pets.data out.png",
    "to-coco": "dataset to-coco sets/pets.data out",
    "to-voc": "dataset to-voc sets/pets.data out",
    "to-yolo": "dataset to-yolo sets/pets.data out",
    "from-yolo": "dataset from-yolo sets/pets.data out",
    "remap": "dataset remap sets/pets.data out --map cat=dog",
    "merge": "dataset merge sets/pets.data sets/train.txt out",
    "clean": "dataset clean sets/pets.data --dry-run",
    "repair": "dataset repair sets/pets.data --mistake top-left --out out",
    "anchors": "anchors sets/pets.data --cfg net.cfg",
    "calc_anchors": "detector calc_anchors sets/pets.data -num_of_clusters 1 -width 32 -height 32",
    "new": "new yolov4-tiny --data sets/pets.data --out new.cfg",
    "doctor": "doctor net.cfg sets/pets.data",
    "test": "detector test sets/pets.data net.cfg net.weights a.png",
    "map": "detector map sets/pets.data net.cfg net.weights",
    "valid": "detector valid sets/pets.data net.cfg net.weights",
    "recall": "detector recall sets/pets.data net.cfg net.weights",
    "evaluate": "evaluate net.cfg sets/pets.data net.weights",
}


@pytest.fixture(autouse=True)
def cvat(task: Path) -> None:
    for name in ("a", "b"):
        Path("sets/obj_train_data").mkdir(parents=True, exist_ok=True)
        write_image(Path(f"sets/obj_train_data/{name}.png"), 64, 64)
        Path(f"sets/obj_train_data/{name}.txt").write_text("0 .5 .5 .5 .25\n1 .25 .25 .25 .25\n")
    Path("sets/train.txt").write_text("obj_train_data/a.png\nobj_train_data/b.png\n")
    Path("sets/obj.names").write_text("cat\ndog\n")
    Path("sets/pets.data").write_text(
        "classes = 2\ntrain = train.txt\nvalid = train.txt\nnames = obj.names\nbackup = backup/\n"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_lists_and_names_beside_the_file_are_read_and_said(run: Run, name: str) -> None:
    code, out, err = run(*COMMANDS[name].split())
    assert code in (0, 1) and "error: " not in err, err
    assert code == 0 or name == "doctor"
    place = "sets/pets.data: names=obj.names, train=train.txt, valid=train.txt: read from its folder, sets;"
    assert err.count(place) == 1, err
    assert "cat" in f"{out}{err}" or name not in ("stats", "map", "test")


def test_file_that_both_folders_have_is_the_one_of_the_working_directory_and_said(run: Run) -> None:
    Path("train.txt").write_text("sets/obj_train_data/a.png\n")
    code, out, err = run("dataset", "stats", "sets/pets.data")
    assert code == 0 and "train: 1 images" in out
    assert "train=train.txt is read from the working directory, and not sets/train.txt, which exists, too" in err
    assert "sets/pets.data: names=obj.names: read from its folder" in err
