"""Warnings and errors before a training begins."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkpy.build import make_plan
from darkpy.data.lists.text_files import read_data
from darkpy.diagnostics.preflight import check_training
from darkpy.errors import DarkpyError
from darkpy.training.setup import TrainingSetup, backup_folder, open_setup

DETECTOR = """[net]
batch=8
width=32
height=32
channels=3
max_batches=100
{net}

[convolutional]
filters=7
size=1
stride=32
activation=linear

[yolo]
mask=0
anchors=8,8
classes=2
num=1
"""
CLASSIFIER = """[net]
batch=8
width=16
height=16
channels=3
max_batches=100

[convolutional]
filters=2
size=1
activation=linear

[avgpool]

[softmax]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with four images, two of cats and two of dogs, and a list of them."""
    monkeypatch.chdir(tmp_path)
    names = ["cat1.png", "cat2.png", "dog1.png", "dog2.png"]
    for name in names:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(name)
        Path(name).with_suffix(".txt").write_text("0 .5 .5 .5 .5\n")
    Path("train.txt").write_text("\n".join(names))
    Path("labels.txt").write_text("cat\ndog\n")
    return tmp_path


def task(net: str = "", cfg: str = DETECTOR, data: str = "", dialect: str = "pjreddie") -> TrainingSetup:
    Path("net.cfg").write_text(cfg.format(net=net) if "{net}" in cfg else cfg)
    Path("net.data").write_text(f"train=train.txt\n{data}\n")
    return open_setup(make_plan("net.cfg", dialect), read_data("net.data"), seed=0)


def told(made: TrainingSetup, seen: int = 0, weights: Path | None = None) -> str:
    return "\n".join(map(str, check_training(made, seen=seen, folder=Path("backup"), weights=weights)))


def test_nothing_is_reported_for_a_correct_training() -> None:
    assert told(task()) == ""
    assert told(task(cfg=CLASSIFIER, data="labels=labels.txt")) == ""


def test_schedule_that_is_over_ends_it() -> None:
    with pytest.raises(DarkpyError, match=r"seen 800 images, which is update 100 of max_batches=100.*\n.*-clear"):
        told(task(), seen=800)
    with pytest.raises(DarkpyError, match="has no max_batches"):
        told(task(cfg=DETECTOR.replace("max_batches=100\n", "")))


def test_continued_schedule_is_reported() -> None:
    assert "training continues after update 50 of 100" in told(task(), seen=400)
    assert check_training(task(), seen=400, folder=Path("backup"), weights=None, is_resumed=True) == []


def test_classifier_needs_no_end() -> None:
    cfg = CLASSIFIER.replace("max_batches=100\n", "")
    assert "after update 50, where" in told(task(cfg=cfg, data="labels=labels.txt"), seen=400)


@pytest.mark.parametrize(
    ("net", "text"),
    [
        ("batch=1", "batch=1 subdivisions=1 are 1 image an update: lines for testing?"),
        ("batch=4", "batch=4 subdivisions=1 are 4 images an update, which is few"),
        (
            "batch=20\nsubdivisions=3",
            "batch=20 subdivisions=3 are 18 images an update, because",
        ),
        ("batch=64\nsubdivisions=16", ""),
    ],
)
def test_small_and_odd_batches_are_reported(net: str, text: str) -> None:
    made = task(cfg=DETECTOR.replace("batch=8", net))
    assert (text in told(made)) if text else told(made) == ""


def test_ignored_keys_are_noted() -> None:
    assert "[net] weights_reject_freq is ignored" in told(task("weights_reject_freq=9", dialect="alexeyab"))


def test_what_no_darknet_could_run_is_reported() -> None:
    found = told(task("mean=.5\nstd=.2"))
    assert found == "net.cfg: no darknet can run what this trains: [net] net.cfg: mean=0.5 and 1 more"


def test_other_count_of_classes_in_the_data_file_is_reported() -> None:
    assert "classes=80, but layer 1 [yolo] net.cfg:18 has 2" in told(task(data="classes=80"))


def test_head_that_does_not_fit_its_classes_is_refused_with_the_right_number() -> None:
    with pytest.raises(
        DarkpyError, match=r"1 anchors x \(5 \+ classes=3\) are 8; 7 are for classes=2\n.*set filters=8"
    ):
        task(cfg=DETECTOR.replace("classes=2", "classes=3"))


def test_images_that_are_not_there_are_counted() -> None:
    Path("cat2.png").unlink()
    assert "1 of 4 images not found, they are skipped; the first: cat2.png" in told(task())
    Path("train.txt").write_text("a/b.png\nc.png\n")
    with pytest.raises(DarkpyError, match=r"a/b\.png: file not found, nor is any other image"):
        told(task())


@pytest.mark.parametrize(
    ("dialect", "then"), [("pjreddie", "they are skipped"), ("alexeyab", "they count as images without objects")]
)
def test_missing_labels_are_counted(dialect: str, then: str) -> None:
    Path("dog1.txt").unlink()
    assert f"1 of 4 images have no label file, {then}; the first: dog1.png" in told(task(dialect=dialect))


def test_labels_that_lie_where_the_other_fork_looks_are_pointed_at() -> None:
    Path("images").mkdir()
    for path in list(Path().glob("*.png")):
        path.rename(f"images/{path.name}")
        path.with_suffix(".txt").rename(f"images/{path.stem}.txt")
    Path("train.txt").write_text("images/cat1.png\nimages/dog1.png\n")
    assert told(task(dialect="pjreddie")) == (
        "net.data: 2 label files are read where only the other darknet looks; the first: images/cat1.txt\n"
        "  hint: move them for pjreddie's program, this one to labels/cat1.txt"
    )
    assert told(task(dialect="alexeyab")) == ""
    Path("labels").mkdir()
    for path in list(Path("images").glob("*.txt")):
        path.rename(f"labels/{path.name}")
    assert told(task(dialect="pjreddie")) == ""
    assert "this one to images/cat1.txt" in told(task(dialect="alexeyab"))


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("txt/cat1.txt", "there is txt/cat1.txt: move the label files to images"),
        ("images/cat1.TXT", "there is images/cat1.TXT: name it cat1.txt"),
        ("images/cat1.png.txt", "there is images/cat1.png.txt: name it cat1.txt"),
        ("Annotations/cat1.xml", "there is Annotations/cat1.xml: convert the annotations with darkpy dataset from-voc"),
        ("Annotations/dog7.xml", "put them there, one .txt file for each image"),
    ],
)
def test_labels_in_an_unknown_place_are_pointed_at(place: str, hint: str) -> None:
    Path("images").mkdir()
    Path("cat1.png").rename("images/cat1.png")
    Path("train.txt").write_text("images/cat1.png\n")
    Path(place).parent.mkdir(exist_ok=True)
    Path("cat1.txt").rename(place)
    with pytest.raises(DarkpyError, match=r"images/cat1\.png: has no labels at images/cat1\.txt") as caught:
        told(task(dialect="alexeyab"))
    assert caught.value.hint == hint


SQUARE = np.array([[x, y, 0.1, 0.1] for x in (0.1, 0.3, 0.5, 0.7, 0.9) for y in (0.1, 0.3, 0.5, 0.7, 0.9)])


def write_labels(class_id: int, boxes_N4: np.ndarray) -> None:
    lines = [f"{class_id} {x:g} {y:g} {w:g} {h:g}\n" for x, y, w, h in boxes_N4]
    for path in ("cat1.txt", "cat2.txt", "dog1.txt", "dog2.txt"):
        Path(path).write_text("".join(lines))


@pytest.mark.parametrize(
    ("class_id", "boxes", "message", "hint"),
    [
        (2, SQUARE, "100 of 100 boxes have classes beyond the network's last, 1", "count the classes from 0"),
        (0, SQUARE[:0], "all 4 label files are empty", "label the objects"),
        (
            0,
            SQUARE * 400,
            "boxes in pixels instead of fractions of the image: 100 of 100",
            "darkpy dataset repair net.data --mistake pixels --out net-repaired; or divide x and w by",
        ),
        (0, SQUARE * [1, 1, 0, 1], "none of the 100 boxes is inside its image with a size", "label the objects"),
        (0, SQUARE * np.nan, "no line of the label files is `class x y w h`", "write `class x y w h`"),
    ],
)
def test_training_without_a_usable_object_does_not_start(
    class_id: int, boxes: np.ndarray, message: str, hint: str
) -> None:
    write_labels(class_id, boxes)
    with pytest.raises(DarkpyError, match=f"no image of the list has a usable object: {re.escape(message)}") as caught:
        told(task())
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint) and "--allow-empty" in caught.value.hint
    findings = check_training(task(), seen=0, folder=Path("backup"), weights=None, allow_empty=True)
    assert [finding.name for finding in findings] == ["labels-unusable"]
    assert not any("--allow-empty" in hint for hint in findings[0].hints)


def test_classes_counted_from_one_are_an_error_of_their_own() -> None:
    write_labels(1, SQUARE)
    one_class = DETECTOR.replace("classes=2", "classes=1").replace("filters=7", "filters=6")
    with pytest.raises(
        DarkpyError, match=r"usable object: classes are counted from 1: labels have class 1, .*\n.*subtract 1"
    ):
        told(task(cfg=one_class))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (SQUARE, ""),
        (np.column_stack([SQUARE[:, :2] - 0.05, SQUARE[:, :2] + 0.05]), "corners x1 y1 x2 y2 instead of centers"),
        (SQUARE - [0.07, 0.07, 0, 0], "x and y look like top left corners instead of centers"),
    ],
)
def test_corners_are_distinguished_from_centers(boxes: np.ndarray, message: str) -> None:
    write_labels(0, boxes)
    text = told(task())
    assert (text.count("cat1.txt: ") == 1 and message in text) if message else text == ""


@pytest.mark.parametrize("end", [" .9", " .5 .5 .3 .3"])
def test_wrong_lines_in_most_label_files_are_one_finding(end: str) -> None:
    write_labels(0, SQUARE)
    for number in (1, 2):
        file = Path(f"cat{number}.txt")
        file.write_text(file.read_text() + f"0 .5 .5 .2 .2{end}\n" * 6)
    text = told(task())
    assert text.count("problems in 4 label files; the first: cat1.txt:") == 1


def test_few_images_without_objects_are_no_mistake() -> None:
    Path("cat1.txt").write_text("")
    assert told(task()) == ""


def test_labels_that_are_nowhere_end_it() -> None:
    for path in Path().glob("*[12].txt"):
        path.unlink()
    with pytest.raises(DarkpyError, match=r"cat1\.png: has no labels at cat1\.txt, nor has any other"):
        told(task())


def test_classifiers_paths_must_tell_the_class() -> None:
    made = task(cfg=CLASSIFIER, data="labels=labels.txt")
    Path("train.txt").write_text("cat1.png\ncat2.png\n")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("catdog.png")
    Path("train.txt").write_text("cat1.png\ncatdog.png\n")
    made = task(cfg=CLASSIFIER, data="labels=labels.txt")
    assert "1 of 2 images do not have exactly one label in their path; the first: catdog.png" in told(made)
    Path("labels.txt").write_text("bird\nfish\n")
    with pytest.raises(DarkpyError, match="does not contain exactly one of the labels in its path, nor does any other"):
        told(task(cfg=CLASSIFIER, data="labels=labels.txt"))


def test_earlier_run_is_not_written_over_without_a_word() -> None:
    Path("backup").mkdir()
    Path("backup/net.backup").write_text("")
    assert "backup/net.backup: is from an earlier run and will be overwritten" in told(task())
    assert told(task(), weights=Path("backup/net.backup")) == ""


def test_backup_folder_is_made() -> None:
    Path("some.data").write_text("backup=a/b\n")
    assert backup_folder(read_data("some.data")) == Path("a/b")
    assert Path("a/b").is_dir()


def test_backup_folder_that_cannot_be_written_ends_it() -> None:
    Path("file").write_text("")
    Path("some.data").write_text("backup=file\n")
    with pytest.raises(DarkpyError, match="backup=file: nothing can be written there: File exists"):
        backup_folder(read_data("some.data"))


# what a task is


def test_list_and_labels_must_be_there() -> None:
    with pytest.raises(DarkpyError, match=r"net\.data: has no labels="):
        task(cfg=CLASSIFIER)
    with pytest.raises(DarkpyError, match=r"labels\.txt: holds 2 labels, the network has 3 classes\n.*filters=2"):
        task(cfg=CLASSIFIER.replace("filters=2", "filters=3"), data="labels=labels.txt")
    Path("train.txt").unlink()
    with pytest.raises(DarkpyError, match=r"train\.txt: cannot be read"):
        task()


def test_data_file_says_when_alexeyab_saves() -> None:
    intervals = task(data="saveweights=7\nsavelast=5", dialect="alexeyab").intervals
    assert (intervals.last, intervals.last_every) == ("_last.weights", 5)
    with pytest.raises(DarkpyError, match="saveweights=often is not a number of updates"):
        task(data="saveweights=often")


def test_largest_size_is_known() -> None:
    random = DETECTOR.replace("num=1", "num=1\nrandom=1")
    assert task(cfg=random).largest == (608, 608)
    assert task(cfg=random, dialect="alexeyab").largest == (64, 64)
    assert task().largest == (32, 32)
    every_size = CLASSIFIER.replace("batch=8", "batch=8\nrandom=1")
    assert task(cfg=every_size, data="labels=labels.txt").largest == (448, 448)


def test_network_with_a_second_loss_of_another_target_is_refused() -> None:
    iseg = CLASSIFIER.replace("[avgpool]\n\n[softmax]", "[logistic]\n\n[iseg]\nclasses=1\nids=1")
    with pytest.raises(DarkpyError, match=r"layer 1 \[logistic\].*: its target has 512 numbers, but .* 90 x 257"):
        task(cfg=iseg)


def test_network_that_reads_vectors_is_refused() -> None:
    with pytest.raises(DarkpyError, match="reads vectors, not images"):
        task(cfg="[net]\ninputs=4\n[connected]\noutput=2\n[softmax]\n")
