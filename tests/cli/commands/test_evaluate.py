"""`darkpy detector map`, `recall`, `valid`, and `darkpy evaluate`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import darkpy
from tests.cli.conftest import Run, write_image, write_weights

NET = ("pets.data", "net.cfg", "net.weights", "--device", "cpu")
MAP = ("detector", "map", *NET)
EVALUATE = ("evaluate", "net.cfg", "pets.data", "net.weights", "--device", "cpu")
PLACE = "0.5 0.5 0.5 0.25"
"""Where net.cfg sees a cat and a dog, whatever the image."""


@pytest.fixture
def judged(task: Path) -> Path:
    """A list of two images: a cat where it is detected, a cat elsewhere; no dogs."""
    write_image(task / "b.png", 64, 32)
    (task / "a.txt").write_text(f"0 {PLACE}\n")
    (task / "b.txt").write_text("0 0.1 0.1 0.1 0.1\n")
    (task / "list.txt").write_text("a.png\nb.png\n")
    (task / "pets.data").write_text("names = pets.names\nvalid = list.txt\nresults = made\n")
    return task


def test_map_prints_alexeyabs_lines(judged: Path, run: Run) -> None:
    code, out, err = run(*MAP)
    assert (code, err) == (0, "")
    assert out.split("\n") == [
        " detections_count = 4, unique_truth_count = 2  ",
        "class_id = 0, name = cat, ap = 50.00%   \t (TP = 1, FP = 1) ",
        "class_id = 1, name = dog, ap = 0.00%   \t (TP = 0, FP = 2) ",
        "",
        " for conf_thresh = 0.25, precision = 0.25, recall = 0.50, F1-score = 0.33 ",
        " for conf_thresh = 0.25, TP = 1, FP = 3, FN = 1, average IoU = 25.00 % ",
        "",
        " IoU threshold = 50 %, used Area-Under-Curve for each unique Recall ",
        " mean average precision (mAP@0.50) = 0.250000, or 25.00 % ",
        "",
    ]


def test_map_takes_darknets_options(judged: Path, run: Run) -> None:
    code, out, _ = run("detector", "map", "-points", "11", *NET, "-iou_thresh", ".4", "-thresh", ".9", "-dont_show")
    assert code == 0
    assert "used 11 Recall-points" in out and "mAP@0.40" in out and "conf_thresh = 0.90, TP = 1, FP = 1" in out


def test_map_is_json_for_programs(judged: Path, run: Run) -> None:
    found = json.loads(run(*MAP, "--json").out)
    assert (found["mean_average_precision"], found["tp"], found["truths"]) == (0.25, 1, 2)
    assert [one["name"] for one in found["classes"]] == ["cat", "dog"]


def test_batches_change_nothing(judged: Path, run: Run) -> None:
    assert run(*MAP, "--batch-size", "2").out == run(*MAP).out


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
def test_map_stretches_in_both_dialects(judged: Path, run: Run, dialect: str) -> None:
    """On the wide image a letterboxed box would be twice as high: half the image."""
    (judged / "b.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    dogs = ["(TP = 0, FP = 2)", "(TP = 1, FP = 1)"]
    for words, told in (((), dogs[0]), (("-letter_box",), dogs[1]), (("--stretch",), dogs[0])):
        assert told in run(*MAP, "--dialect", dialect, *words, "-iou_thresh", ".6").out.split("\n")[2]


def test_difficult_list_is_read(judged: Path, run: Run) -> None:
    (judged / "hard").mkdir()
    (judged / "hard" / "a.txt").write_text("")
    (judged / "hard" / "b.txt").write_text(f"0 {PLACE}\n1 {PLACE}\n")
    (judged / "hard.txt").write_text("hard/a.png\nhard/b.png\n")
    with (judged / "pets.data").open("a") as stream:
        stream.write("difficult = hard.txt\n")
    code, out, _ = run(*MAP)
    assert code == 0 and "detections_count = 2," in out and "FP = 3, FN = 1" in out
    (judged / "hard.txt").write_text("hard/a.png\n")
    code, _, err = run(*MAP)
    assert code == 2 and "lists 1 images, the list of valid= has 2" in err


def test_missing_labels_are_counted_and_told(judged: Path, run: Run) -> None:
    (judged / "b.txt").unlink()
    code, out, err = run(*MAP)
    assert code == 0 and "unique_truth_count = 1 " in out
    assert err.startswith("warning: images without labels: 1 of 2; first: b.txt: ")
    (judged / "a.txt").unlink()
    code, out, err = run(*MAP)
    assert (code, out) == (2, "")
    assert err.startswith("error: no image of the list has labels; the first one's: a.txt: ")


def test_wrong_labels_are_reported(judged: Path, run: Run) -> None:
    (judged / "b.txt").write_text("9 .5 .5 .5 .5\n")
    code, _, err = run(*MAP)
    assert code == 0 and err.startswith("warning: invalid lines in label files: 1; first: b.txt:1:")


def test_image_that_cannot_be_read_is_reported_and_the_others_count(judged: Path, run: Run) -> None:
    (judged / "b.png").write_bytes(b"")
    code, out, err = run(*MAP)
    assert code == 2 and err.startswith("error: b.png: ")
    assert "detections_count = 2, unique_truth_count = 2" in out


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("names = pets.names\n", "error: pets.data: has no valid="),
        ("names = pets.names\nvalid = none.txt\n", "error: none.txt: cannot be read"),
        ("names = list.txt\nvalid = list.txt\nclasses = 1\n", ""),
        ("names = one.names\nvalid = list.txt\n", "error: one.names: holds 1 names, the network has 2 classes"),
    ],
)
def test_fault_in_the_data_file_is_one_message(judged: Path, run: Run, data: str, told: str) -> None:
    (judged / "one.names").write_text("cat\n")
    (judged / "pets.data").write_text(data)
    code, _, err = run(*MAP)
    assert code == (2 if told else 0) and err.startswith(told)


@pytest.mark.parametrize("words", [("-points", "1"), ("-points", "-2"), ("-iou_thresh", "2"), ("-thresh", "x")])
def test_impossible_number_is_refused(judged: Path, run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run(*MAP, *words)
    assert (code, out) == (2, "") and err.startswith("error: ")


def test_recall_prints_a_line_for_each_image(judged: Path, run: Run) -> None:
    code, out, err = run("detector", "recall", *NET)
    assert (code, err) == (0, "")
    assert out.split("\n") == [
        "    0     1     1\tRPs/Img: 1.00\tIOU: 100.00%\tRecall:100.00%",
        "    1     1     2\tRPs/Img: 1.00\tIOU: 50.00%\tRecall:50.00%",
        "",
    ]
    assert json.loads(run("detector", "recall", *NET, "--json").out)["recall"] == 0.5


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("", {"comp4_det_test_cat.txt", "comp4_det_test_dog.txt"}),
        ("eval = coco\n", {"coco_results.json"}),
        ("eval = imagenet\n", {"imagenet-detection.txt"}),
    ],
)
def test_valid_writes_the_files_that_data_asks_for(judged: Path, run: Run, kind: str, files: set[str]) -> None:
    with (judged / "pets.data").open("a") as stream:
        stream.write(kind)
    code, out, _ = run("detector", "valid", *NET)
    assert (code, out) == (0, "")
    assert {path.name for path in (judged / "made").iterdir()} == files


def test_valid_letterboxes_as_the_fork_does(judged: Path, run: Run) -> None:
    """The box on the wide image, in its 32 rows: a quarter of them, or of 64."""
    heights = {}
    for dialect in ("pjreddie", "alexeyab"):
        run("detector", "valid", *NET, "--dialect", dialect)
        line = (judged / "made" / "comp4_det_test_cat.txt").read_text().split("\n")[1].split()
        heights[dialect] = float(line[5]) - float(line[3])
    assert heights == {"pjreddie": 16, "alexeyab": 8}


def test_valid_takes_another_name_and_warns_of_an_unknown_kind(judged: Path, run: Run) -> None:
    with (judged / "pets.data").open("a") as stream:
        stream.write("eval = pascal\n")
    code, _, err = run("detector", "valid", *NET, "-out", "mine_")
    assert code == 0 and "warning: pets.data: eval=pascal is not one of voc, coco" in err
    assert (judged / "made" / "mine_cat.txt").exists()


TREE_CFG = """[net]
width=32
height=32
channels=3
[maxpool]
size=32
stride=32
[convolutional]
filters=9
size=1
stride=1
activation=linear
[region]
anchors=.5,.25
classes=4
num=1
softmax=1
tree=four.tree
"""


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
def test_valid_writes_the_classes_of_a_tree_that_map_names(judged: Path, run: Run, dialect: str) -> None:
    """Animals and things; the animals are cats or dogs, classes 2 and 3, of which the map takes the dogs first."""
    (judged / "four.tree").write_text("animal -1\nthing -1\ncat 0\ndog 0\n")
    (judged / "four.map").write_text("3\n2\n")
    (judged / "pets.names").write_text("dog\ncat\n")
    (judged / "net.cfg").write_text(TREE_CFG)
    write_weights((0, 0, 0, 0, 5, 3, 0, 2, 0))
    with (judged / "pets.data").open("a") as stream:
        stream.write("map = four.map\n")
    assert run("detector", "valid", *NET, "--dialect", dialect).code == 0
    scores = [float((judged / "made" / f"comp4_det_test_{name}.txt").read_text().split()[1]) for name in ("cat", "dog")]
    animal, cat = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-2))
    objectness = 1 / (1 + math.exp(-5))
    assert scores == pytest.approx([objectness * animal * cat, objectness * animal * (1 - cat)], abs=1e-6)


def test_evaluate_puts_cocos_number_beside(judged: Path, run: Run) -> None:
    code, out, err = run(*EVALUATE)
    assert (code, err) == (0, "")
    lines = out.split("\n")
    assert lines[0].split() == ["class", "objects", "TP", "FP", "darknet", "AP50", "COCO", "AP50", "COCO", "AP"]
    assert lines[1].split() == ["cat", "2", "1", "1", "50.00", "%", "50.50", "%", "50.50", "%"]
    assert lines[3] == "darknet's mAP@0.50    25.00 %   all 2 classes, area under the curve"
    assert lines[4].startswith("COCO's AP             50.50 %   IoU .50 to .95, classes with objects (1 of 2)")
    found = json.loads(run(*EVALUATE, "--json").out)
    assert found["darknet"]["mean_average_precision"] == 0.25
    assert found["coco"]["AP"] == pytest.approx(51 / 101)


def test_real_network_on_real_images_has_alexeyabs_map(shared: Path, tmp_path: Path, run: Run) -> None:
    folder, net = shared / "data" / "coco8" / "images", shared / "data" / "weights" / "yolov3-tiny"
    paths = sorted(folder.glob("*/*.jpg"), key=lambda path: path.name)
    assert len(paths) == 8
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    (tmp_path / "coco.data").write_text(f"valid = {tmp_path / 'list.txt'}\nnames = {net / 'names.txt'}\n")
    files = (str(tmp_path / "coco.data"), str(net / "yolov3-tiny.cfg"), str(net / "yolov3-tiny.weights"))
    code, out, _ = run("detector", "map", *files, "--device", "cpu")
    assert code == 0
    assert out.endswith(" mean average precision (mAP@0.50) = 0.090901, or 9.09 % \n")
    assert " detections_count = 427, unique_truth_count = 30  \n" in out
    assert " TP = 4, FP = 5, FN = 26, average IoU = 32.77 % \n" in out


@pytest.mark.parametrize("kind", ["voc", "coco", "imagenet", "bdd", "kitti"])
def test_result_files_hold_no_non_finite_boxes(judged: Path, run: Run, kind: str) -> None:
    write_weights((math.nan, 0.0, 1000.0, 0.0, 5.0, 3.0, 1.0))
    write_image(judged / "1.png", 64, 64)
    (judged / "list.txt").write_text("1.png\n")
    with (judged / "pets.data").open("a") as stream:
        stream.write(f"eval = {kind}\n")
    code, _, err = run("detector", "valid", *NET)
    assert code == 0 and err.count("left out: NaN or infinite") == 1
    texts = [path.read_text() for path in (judged / "made").rglob("*") if path.is_file()]
    assert texts and "".join(texts) in ("", "[\n]\n")


@pytest.mark.parametrize("command", [MAP, EVALUATE, ("detector", "recall", *NET)])
def test_metrics_count_the_non_finite_boxes(judged: Path, run: Run, command: tuple[str, ...]) -> None:
    write_weights((math.nan, 0.0, 1000.0, 0.0, 5.0, 3.0, 1.0))
    code, _, err = run(*command)
    assert code == 0 and err.count("2 boxes are left out") == 1


@pytest.mark.parametrize("command", [MAP, EVALUATE], ids=["map", "evaluate"])
def test_tiles_find_the_objects_that_only_parts_of_an_image_show(
    judged: Path, run: Run, command: tuple[str, ...]
) -> None:
    """Two tiles of 36 pixels of the 64, with the network's box in the middle of each."""
    (judged / "b.txt").write_text(f"0 {18 / 64} .5 {18 / 64} .25\n0 {46 / 64} .5 {18 / 64} .25\n")

    def counts(*words: str) -> tuple[int, int]:
        found = json.loads(run(*command, *words, "--json").out)
        found = found.get("darknet", found)
        return found["tp"], found["truths"]

    assert counts() == (1, 3)
    assert counts("--tiles", "2x1") == counts("--tiles", "2x1", "--batch-size", "1") == (3, 3)
    assert counts("--tiles", "auto", "--batch-size", "2") == (3, 3)
    network = darkpy.load("net.cfg", "net.weights", dialect="pjreddie")
    assert darkpy.evaluate(network, "list.txt", tiles=(2, 1)).tp == 3


def test_result_files_and_recall_take_tiles_too(judged: Path, run: Run) -> None:
    assert run("detector", "valid", *NET, "--tiles", "2x1").code == 0
    (file,) = judged.glob("made/*_cat.txt")
    assert [line.split()[0] for line in file.read_text().splitlines()].count("b") == 3
    assert json.loads(run("detector", "recall", *NET, "--tiles", "2x1", "--json").out)["images"] == 2


def test_tiles_that_are_no_grid_are_refused_before_the_network_is_loaded(judged: Path, run: Run) -> None:
    (judged / "net.weights").unlink()
    code, _, err = run(*MAP, "--tiles", "2by1")
    assert code == 2 and "tiles '2by1' are not a grid" in err and "4x3" in err
