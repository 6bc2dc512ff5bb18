"""A `.data` file with paths relative to its own folder, as CVAT writes it, for every command that takes one."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.cli.conftest import Run, write_image
from tests.cli.videos import write_video

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
    "preview": "dataset preview net.cfg sets/pets.data --out out",
    "train": "train train.cfg sets/pets.data --device cpu --workers 0 -map -dont_show",
    "detector train": "detector train sets/pets.data train.cfg --device cpu --workers 0 -dont_show",
    "demo": "detector demo sets/pets.data net.cfg net.weights film.mp4 --device cpu -dont_show",
    "detect": "detect net.cfg net.weights a.png --data sets/pets.data",
    "convert": "convert net.weights net.onnx --cfg net.cfg --data sets/pets.data",
}
CLASSIFIER_COMMANDS = {
    "predict": "classifier predict sets/kinds.data kinds.cfg kinds.weights a.png",
    "valid": "classifier valid sets/kinds.data kinds.cfg kinds.weights",
    "label": "classifier label sets/kinds.data kinds.cfg kinds.weights",
    "train": "classifier train sets/kinds.data kinds.cfg --device cpu --workers 0",
    "evaluate": "evaluate kinds.cfg sets/kinds.data kinds.weights",
    "preview": "dataset preview kinds.cfg sets/kinds.data --out out",
    "doctor": "doctor kinds.cfg sets/kinds.data",
}
"""With other keys: those of a classifier."""
TRAINED = "batch=2\nsubdivisions=1\nmax_batches=2\nlearning_rate=.001\n"
KINDS_CFG = f"""[net]
{TRAINED}width=16
height=16
channels=3

[convolutional]
filters=2
size=1
activation=linear

[avgpool]

[softmax]
"""


@pytest.fixture(autouse=True)
def cvat(task: Path) -> None:
    for name in ("a", "b"):
        Path("sets/obj_train_data").mkdir(parents=True, exist_ok=True)
        write_image(Path(f"sets/obj_train_data/{name}.png"), 64, 64)
        Path(f"sets/obj_train_data/{name}.txt").write_text("0 .5 .5 .5 .25\n1 .25 .25 .25 .25\n")
    Path("train.cfg").write_text(Path("net.cfg").read_text().replace("[net]\n", f"[net]\n{TRAINED}"))
    Path("sets/train.txt").write_text("obj_train_data/a.png\nobj_train_data/b.png\n")
    Path("sets/obj.names").write_text("cat\ndog\n")
    Path("sets/pets.data").write_text(
        "classes = 2\ntrain = train.txt\nvalid = train.txt\nnames = obj.names\nbackup = backup/\n"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_lists_and_names_beside_the_file_are_read_and_said(run: Run, name: str) -> None:
    if name == "demo":
        write_video(Path("film.mp4"), 2)
    code, out, err = run(*COMMANDS[name].split())
    assert code in (0, 1) and "error: " not in err, err
    assert code == 0 or name == "doctor"
    place = "sets/pets.data: names=obj.names, train=train.txt, valid=train.txt: read from its folder, sets;"
    assert err.count(place) == 1, err
    assert "cat" in f"{out}{err}" or name not in ("stats", "map", "test")


@pytest.mark.parametrize("name", CLASSIFIER_COMMANDS)
def test_lists_and_labels_of_a_classifier_beside_the_file_are_read_and_said(run: Run, name: str) -> None:
    Path("sets/kinds.labels").write_text("a.png\nb.png\n")
    Path("sets/kinds.data").write_text(
        "classes=2\nlabels=kinds.labels\ntrain=train.txt\nvalid=train.txt\ntest=train.txt\nbackup=backup\n"
    )
    Path("kinds.cfg").write_text(KINDS_CFG)
    Path("kinds.weights").write_bytes(struct.pack("<3iQ8f", 0, 2, 0, 0, *range(8)))
    code, _, err = run(*CLASSIFIER_COMMANDS[name].split())
    assert code in (0, 1) and "error: " not in err, err
    assert code == 0 or name == "doctor"
    place = "sets/kinds.data: labels=kinds.labels, train=train.txt, valid=train.txt, test=train.txt: read from"
    assert err.count(place) == 1, err


def test_file_that_both_folders_have_is_the_one_of_the_working_directory_and_said(run: Run) -> None:
    Path("train.txt").write_text("sets/obj_train_data/a.png\n")
    code, out, err = run("dataset", "stats", "sets/pets.data")
    assert code == 0 and "train: 1 images" in out
    assert "train=train.txt is read from the working directory, and not sets/train.txt, which exists, too" in err
    assert "sets/pets.data: names=obj.names: read from its folder" in err
