"""`darkpy classifier ...` and `darkpy classify`."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.conftest import Run, write_image

CFG = """[net]
width=8
height=8
channels=3

[avgpool]

[connected]
output=3
activation=linear

[softmax]
groups=1
"""
PROB = (0.25, 0.7, 0.05)
PREDICT = ("classifier", "predict", "pets.data", "net.cfg", "net.weights", "--device", "cpu")
VALID = ("classifier", "valid", "pets.data", "net.cfg", "net.weights", "--device", "cpu")
CLASSIFY = ("classify", "net.cfg", "net.weights", "--device", "cpu")


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a network whose output is PROB for every image, its data, and four images."""
    monkeypatch.chdir(tmp_path)
    Path("net.cfg").write_text(CFG)
    write_weights(PROB)
    Path("pets.labels").write_text("cat\ndog\nhen\n")
    Path("pets.names").write_text("a cat\na dog\na hen\n")
    Path("pets.data").write_text("classes=3\nlabels=pets.labels\nnames=pets.names\nvalid=pets.list\ntop=2\n")
    names = ("dog1.png", "cat1.png", "hen1.png", "dog2.png")
    Path("pets.list").write_text("".join(f"{name}\n" for name in names))
    for name in names:
        write_image(Path(name), 12, 8)
    return tmp_path


def write_weights(prob: Sequence[float]) -> None:
    """net.weights of a network with this output for every image."""
    numbers = (*map(math.log, prob), *(0.0,) * 3 * len(prob))
    Path("net.weights").write_bytes(struct.pack(f"<3iQ{len(numbers)}f", 0, 2, 0, 0, *numbers))


def test_pjreddies_lines(pets: Path, run: Run) -> None:
    code, out, err = run(*PREDICT, "dog1.png", "--dialect", "pjreddie")
    assert (code, out) == (0, "70.00%: a dog\n25.00%: a cat\n")
    assert re.fullmatch(r"dog1\.png: Predicted in \d+\.\d{6} seconds\.\n", err)


def test_alexeyabs_lines(pets: Path, run: Run) -> None:
    code, out, err = run(*PREDICT, "dog1.png", "--dialect", "alexeyab", "-t", "3")
    first, *lines = out.splitlines()
    assert (code, err, lines) == (0, "", ["a dog: 0.700000", "a cat: 0.250000", "a hen: 0.050000"])
    assert re.fullmatch(r"dog1\.png: Predicted in \d+\.\d{6} milli-seconds\.", first)


def test_alexeyab_tells_the_parents_of_a_tree(pets: Path, run: Run) -> None:
    Path("pets.tree").write_text("a -1\nb 0\nc 0\n")
    Path("net.cfg").write_text(f"{CFG}tree=pets.tree\n")
    _, out, _ = run(*PREDICT, "dog1.png", "--dialect", "alexeyab")
    assert out.splitlines()[1:] == ["0, a cat: 1.000000, parent: Root ", "1, a dog: 0.933333, parent: a cat "]
    assert run(*PREDICT, "dog1.png", "--dialect", "pjreddie").out == "93.33%: a dog\n 6.67%: a hen\n"


def test_standard_input_names_images(pets: Path, run: Run) -> None:
    code, out, err = run(*PREDICT, "-t", "1", "--dialect", "pjreddie", stdin="dog1.png\nno.png\ncat1.png\n")
    assert (code, out) == (
        2,
        "Enter Image Path: 70.00%: a dog\nEnter Image Path: Enter Image Path: 70.00%: a dog\nEnter Image Path: \n",
    )
    assert "Enter Image Path: " not in err and "error: no.png" in err


def test_labels_are_the_names_where_there_are_no_others(pets: Path, run: Run) -> None:
    Path("pets.data").write_text("labels=pets.labels\n")
    code, out, _ = run(*PREDICT, "dog1.png")
    assert (code, out) == (0, "70.00%: dog\n")


def test_classify_takes_names_and_tells_five(pets: Path, run: Run) -> None:
    assert run(*CLASSIFY, "dog1.png", "--names", "pets.names").out.splitlines() == [
        "70.00%: a dog",
        "25.00%: a cat",
        " 5.00%: a hen",
    ]
    code, out, err = run(*CLASSIFY, "dog1.png", "-t", "1")
    assert (code, out) == (0, "70.00%: 1\n")
    assert "their numbers are shown" in err


def test_valid_counts_image_by_image(pets: Path, run: Run) -> None:
    code, out, err = run(*VALID)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "0: top 1: 1.000000, top 2: 1.000000",
        "1: top 1: 0.500000, top 2: 1.000000",
        "2: top 1: 0.333333, top 2: 0.666667",
        "3: top 1: 0.500000, top 2: 0.750000",
    ]


def test_valid_prints_json(pets: Path, run: Run) -> None:
    code, out, err = run(*VALID, "--json", "-t", "99", "--batch-size", "3")
    assert (code, err) == (0, "")
    expected = {"images": 4, "unreadable": 0, "unlabelled": 0, "top_1": 0.5, "k": 3, "top_k": 1.0}
    assert json.loads(out) == expected


def test_valid_tells_of_images_that_cannot_be_read_and_of_labels_that_are_not_there(pets: Path, run: Run) -> None:
    write_image(Path("bird.png"), 8, 8)
    write_image(Path("catdog.png"), 8, 8)
    Path("pets.list").write_text("dog1.png\ndog_gone.png\nbird.png\ncatdog.png\n")
    code, out, err = run(*VALID)
    assert (code, out.splitlines()[-1]) == (2, "3: top 1: 0.250000, top 2: 0.500000")
    assert "error: dog_gone.png" in err
    assert "no label occurs in the path of 1 of 4 images; first: bird.png" in err
    assert "several labels occur, and the first one counts, in the path of 1 of 4 images; first: catdog.png" in err


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("labels=pets.labels\n", "pets.data: has no valid="),
        ("valid=pets.list\n", "pets.data: has no labels="),
        ("valid=pets.list\nlabels=pets.labels\ntop=few\n", "pets.data: top=few is not a number of classes"),
        ("valid=pets.list\nlabels=pets.labels\ntop=0\n", "pets.data: top=0 is not a number of classes"),
    ],
)
def test_what_is_missing_in_the_data_file_is_one_line(pets: Path, run: Run, data: str, complaint: str) -> None:
    Path("pets.data").write_text(data)
    code, out, err = run(*VALID)
    assert (code, out) == (2, "") and f"error: {complaint}" in err


def test_a_detector_is_an_error_with_the_right_command(task: Path, run: Run) -> None:
    code, out, err = run("classify", "net.cfg", "net.weights", "a.png")
    assert (code, out) == (2, "") and "use darkpy detect" in err


def test_label_prints_the_best_class_of_each_image_of_the_test_list(pets: Path, run: Run) -> None:
    words = ("classifier", "label", "pets.data", "net.cfg", "net.weights", "--device", "cpu")
    code, _, err = run(*words)
    assert code == 2 and "pets.data: has no test=" in err and "test=list.txt" in err
    Path("pets.data").write_text(Path("pets.data").read_text() + "test=pets.list\n")
    assert run(*words) == (0, "a dog\n" * 4, "")
    Path("cat1.png").write_text("no image")
    code, out, err = run(*words)
    assert (code, out) == (2, "a dog\n\na dog\na dog\n") and "cat1.png" in err


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
def test_demo_prints_the_best_classes_of_each_frame(pets: Path, run: Run, dialect: str) -> None:
    pytest.importorskip("av")
    from tests.cli.videos import write_video

    write_video(Path("film.mp4"), 3)
    words = ("classifier", "demo", "pets.data", "net.cfg", "net.weights", "--device", "cpu", "--dialect", dialect)
    code, out, err = run(*words, "film.mp4")
    assert code == 0, err
    lines = [line for line in out.splitlines() if line]
    assert [line for line in lines if not line.startswith("FPS:")] == ["70.0%: a dog", "25.0%: a cat"] * 3
    assert sum(line.startswith("FPS:") for line in lines) == 3
    code, _, err = run(*words, "no.mp4")
    assert code == 2 and "no.mp4: cannot be opened" in err
