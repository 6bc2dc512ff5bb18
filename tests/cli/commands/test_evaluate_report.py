"""`darkpy evaluate --report`, also of classifiers, and `darkpy compare-runs`."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest

import darkpy
from darkpy.evaluation.detector_report import DetectorReport
from tests.cli.conftest import Run, set_scores, write_image

EVALUATE = ("evaluate", "net.cfg", "pets.data", "net.weights", "--device", "cpu")
PLACE = "0.5 0.5 0.5 0.25"
FILES = {"evaluation.html", "evaluation.json", "classes.csv", "confusion.csv", "curves.csv", "images.csv"}
CLASSIFIER_CFG = """[net]
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


@pytest.fixture
def judged(task: Path) -> Path:
    """A list of two images: a cat where net.cfg detects a cat and a dog, and a dog there."""
    write_image(task / "b.png", 64, 32)
    (task / "a.txt").write_text(f"0 {PLACE}\n")
    (task / "b.txt").write_text(f"1 {PLACE}\n")
    (task / "list.txt").write_text("a.png\nb.png\n")
    (task / "pets.data").write_text("names = pets.names\nvalid = list.txt\n")
    return task


def record(folder: str) -> dict[str, object]:
    read: dict[str, object] = json.loads(Path(folder, "evaluation.json").read_text())
    return read


def test_report_holds_the_numbers_of_detector_map(judged: Path, run: Run) -> None:
    code, out, err = run(*EVALUATE, "--report", "made/judged")
    assert code == 0 and "darknet's mAP@0.50" in out and "wrote made/judged/evaluation.html" in err
    assert {path.name for path in Path("made/judged").iterdir()} == FILES
    expected = json.loads(run("detector", "map", "pets.data", "net.cfg", "net.weights", "-nogpu", "--json").out)
    written = record("made/judged")
    classes = expected.pop("classes")
    assert written["darknet"] == expected
    rows = written["classes"]
    assert isinstance(rows, list)
    assert [(row["tp"], row["fp"], row["average_precision"]) for row in rows] == [
        (row["tp"], row["fp"], row["average_precision"]) for row in classes
    ]
    assert {(cell["true"], cell["detected"], cell["count"]) for cell in written["confusion"]} == {  # type: ignore[attr-defined]
        ("cat", "cat", 1),
        ("dog", "cat", 1),
        ("background", "dog", 2),
    }


@pytest.mark.parametrize("kind", ["detector", "classifier"])
def test_python_function_writes_the_same_report(request: pytest.FixtureRequest, run: Run, kind: str) -> None:
    request.getfixturevalue("judged" if kind == "detector" else "classified")
    assert run(*EVALUATE, "--report", "r").code == 0
    network = darkpy.load("net.cfg", "net.weights")
    report = darkpy.write_evaluation_report(network, "pets.data", "by_python")
    assert report.images if isinstance(report, DetectorReport) else report.top_1 == 0.5
    names = {path.name for path in Path("r").iterdir()}
    assert names == {path.name for path in Path("by_python").iterdir()}
    for name in names:
        assert Path("r", name).read_bytes() == Path("by_python", name).read_bytes(), name
    with pytest.raises(darkpy.DarkpyError, match="by_python: already exists"):
        darkpy.write_evaluation_report(network, "pets.data", "by_python")
    with pytest.raises(darkpy.DarkpyError, match="training mode"):
        darkpy.write_evaluation_report(network.train(), "pets.data", "other")


def test_report_changes_nothing_on_the_console(judged: Path, run: Run) -> None:
    assert run(*EVALUATE, "--report", "r", "--json").out == run(*EVALUATE, "--json").out


def test_report_replaces_only_a_report_and_only_when_forced(judged: Path, run: Run) -> None:
    assert run(*EVALUATE, "--report", "r").code == 0
    before = Path("r/evaluation.json").read_bytes()
    set_scores(0.6, 0.4)
    code, _, err = run(*EVALUATE, "--report", "r")
    assert code == 2 and "r: already exists" in err and "--force" in err
    assert Path("r/evaluation.json").read_bytes() == before
    assert run(*EVALUATE, "--report", "r", "--force").code == 0
    assert Path("r/evaluation.json").read_bytes() != before
    Path("r/mine.txt").write_text("mine")
    code, _, err = run(*EVALUATE, "--report", "r", "--force")
    assert code == 2 and "r: holds mine.txt, which darkpy did not write" in err
    assert not [path for path in judged.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("folder", [".", "a.png"])
def test_report_is_refused_before_the_evaluation(judged: Path, run: Run, folder: str) -> None:
    code, out, err = run(*EVALUATE, "--report", folder, "--force")
    assert (code, out) == (2, "") and err.startswith("error: ") and "hint: name a new folder" in err


def test_unreadable_image_is_a_finding(judged: Path, run: Run) -> None:
    (judged / "b.png").write_bytes(b"")
    code, _, err = run(*EVALUATE, "--report", "r")
    assert code == 2 and err.startswith("error: b.png: ")
    written = record("r")
    assert written["unreadable"] == ["b.png"] and written["missed"]["unreadable"] == 1  # type: ignore[index]
    assert any("cannot be read" in text for text in written["findings"])  # type: ignore[attr-defined]


def test_nothing_detected_and_nothing_labeled_make_a_report(judged: Path, run: Run) -> None:
    set_scores(0.001, 0.001)
    assert run(*EVALUATE, "--report", "r").code == 0
    assert record("r")["best"] is None
    (judged / "a.txt").write_text("")
    (judged / "b.txt").write_text("")
    assert run(*EVALUATE, "--report", "r", "--force").code == 0
    assert record("r")["findings"] == ["No image has a labeled object: nothing can be measured"]


def test_classes_of_a_tree_are_judged_one_by_one(judged: Path, run: Run) -> None:
    cfg = Path("net.cfg").read_text().replace("[yolo]\nmask=0\n", "[region]\nsoftmax=1\n").replace("16,8", ".5,.25")
    Path("pets.tree").write_text("cat -1\ndog 0\n")
    Path("net.cfg").write_text(f"{cfg}tree=pets.tree\n")
    code, _, err = run(*EVALUATE, "--report", "r")
    assert code == 0, err
    assert [row["name"] for row in record("r")["classes"]] == ["cat", "dog"]  # type: ignore[attr-defined]


@pytest.fixture
def classified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network that gives dog (.7), cat (.25) or hen for every image, and four images with their classes."""
    monkeypatch.chdir(tmp_path)
    Path("net.cfg").write_text(CLASSIFIER_CFG)
    numbers = (*map(math.log, (0.25, 0.7, 0.05)), *(0.0,) * 9)
    Path("net.weights").write_bytes(struct.pack(f"<3iQ{len(numbers)}f", 0, 2, 0, 0, *numbers))
    Path("pets.labels").write_text("cat\ndog\nhen\n")
    Path("pets.data").write_text("classes=3\nlabels=pets.labels\nvalid=pets.list\ntop=2\n")
    names = ("dog1.png", "cat1.png", "hen1.png", "dog2.png")
    Path("pets.list").write_text("".join(f"{name}\n" for name in names))
    for name in names:
        write_image(Path(name), 12, 8)
    return tmp_path


def test_classifier_is_evaluated_with_the_numbers_of_classifier_valid(classified: Path, run: Run) -> None:
    code, out, err = run(*EVALUATE, "--report", "r")
    assert code == 0, err
    assert out.splitlines()[-1] == "top-1 50.00 %, top-2 75.00 % of 4 images"
    assert {path.name for path in Path("r").iterdir()} == FILES - {"curves.csv"}
    expected = json.loads(run("classifier", "valid", "pets.data", "net.cfg", "net.weights", "--json", "-nogpu").out)
    written = record("r")
    assert {key: written[key] for key in ("images", "top_1", "k", "top_k")} == {
        key: expected[key] for key in ("images", "top_1", "k", "top_k")
    }
    columns = written["per_image"]
    assert isinstance(columns, dict) and columns["rank"] == [1, 2, 0, 1]
    assert json.loads(run(*EVALUATE, "--json").out)["classes"] == written["classes"]


def test_classifiers_unreadable_and_unlabeled_images_are_reported(classified: Path, run: Run) -> None:
    Path("dog1.png").write_bytes(b"")
    write_image(Path("cow.png"), 12, 8)
    with Path("pets.list").open("a") as stream:
        stream.write("cow.png\n")
    code, out, err = run(*EVALUATE, "--report", "r")
    assert code == 2 and "no label occurs in the path of 1 of 5 images" in err
    assert out.splitlines()[-1] == "top-1 20.00 %, top-2 40.00 % of 5 images"
    assert record("r")["unlabelled"] == ["cow.png"]


def test_two_runs_are_compared(judged: Path, run: Run) -> None:
    assert run(*EVALUATE, "--report", "one").code == 0
    set_scores(0.2, 0.9)
    assert run(*EVALUATE, "--report", "two").code == 0
    code, out, err = run("compare-runs", "one", "two/evaluation.json", "--html", "c.html")
    assert (code, err) == (0, "note: wrote c.html\n")
    assert "darknet's mAP" in out and Path("c.html").read_text().startswith("<!doctype html>")
    compared = json.loads(run("compare-runs", "one", "two", "--json").out)
    changes = {row["name"]: row["change"] for row in compared["metrics"]}
    one, two = (record(name)["darknet"] for name in ("one", "two"))
    assert changes["darknet's mAP"] == two["mean_average_precision"] - one["mean_average_precision"]  # type: ignore[index]
    assert compared["compared_images"] == 2
    assert [image["image"] for image in compared["better"]] == ["b.png"]
    assert run("compare-runs", "one", "two", "--html", "net.cfg").code == 2


def test_runs_that_cannot_be_compared_are_one_message(classified: Path, run: Run) -> None:
    assert run(*EVALUATE, "--report", "r").code == 0
    written = record("r")
    for name, text, message in (
        ("none.json", None, "cannot be read"),
        ("text.json", "hello", "is not JSON"),
        ("deep.json", "[" * 100_000, "is not JSON"),
        ("other.json", "{}", "is not a report of darkpy evaluate"),
        ("later.json", json.dumps({**written, "format_version": 99}), "another version"),
        ("detector.json", json.dumps({**written, "kind": "detector"}), "is of a classifier"),
    ):
        if text is not None:
            Path(name).write_text(text)
        code, out, err = run("compare-runs", "r", name)
        assert (code, out) == (2, "") and message in err and "hint: " in err
    Path("odd.json").write_text(json.dumps({**written, "classes": 3, "per_image": {"path": 1}, "top_1": "x"}))
    assert run("compare-runs", "r", "odd.json").code == 0
