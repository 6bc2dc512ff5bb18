"""`darkpy detect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkpy.evaluation.detect import BATCH_SIZE
from tests.cli.conftest import LOGITS, Run, set_scores, write_image, write_weights

NET = ("detect", "net.cfg", "net.weights", "--device", "cpu", "--names", "pets.names")
PLACE = "\t(left_x:   16   top_y:   24   width:   32   height:   16)\n"


def test_lines_tell_image_class_confidence_and_place(task: Path, run: Run) -> None:
    assert run(*NET, "a.png") == (0, f"a.png: 2 objects\ncat: 95%{PLACE}dog: 73%{PLACE}", "")


def test_single_image_is_drawn_as_predictions(task: Path, run: Run) -> None:
    run(*NET, "a.png")
    with Image.open("predictions.jpg") as drawing, Image.open("a.png") as source:
        assert drawing.format == "JPEG" and drawing.size == source.size
        assert np.abs(np.asarray(drawing, np.int16) - np.asarray(source, np.int16)).max() > 64


@pytest.mark.parametrize(
    "line", ["detect net.cfg net.weights a.png", "detector test pets.data net.cfg net.weights a.png"]
)
def test_predictions_that_cannot_be_written_are_a_warning(task: Path, run: Run, line: str) -> None:
    expected = run(*line.split()).out
    Path("predictions.jpg").unlink()
    Path("predictions.jpg").mkdir()  # as a read-only folder or a full disk
    code, out, err = run(*line.split())
    assert code == 0 and out.count("\n") == expected.count("\n") and ": 95%" in out
    assert "warning: predictions.jpg: cannot be written: Is a directory" in err


def test_several_images_are_drawn_only_on_demand(task: Path, run: Run) -> None:
    write_image(task / "b.png", 32, 32)
    before = set(task.iterdir())
    assert run(*NET, "a.png", "b.png").code == 0
    assert set(task.iterdir()) == before
    assert run(*NET, ".", "--out", "deep/drawn").code == 0
    assert {path.name for path in (task / "deep" / "drawn").iterdir()} == {"a.png", "b.png"}


def test_home_behind_an_equals_sign_is_the_home_folder(task: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """bash replaces ~ at the start of a word only."""
    monkeypatch.setenv("HOME", str(task / "home"))
    assert run(*NET, "a.png", "--out=~/drawn").code == 0
    assert Path("home/drawn/a.png").exists() and not Path("~").exists()


def test_json_of_a_single_image_draws_nothing(task: Path, run: Run) -> None:
    run(*NET, "a.png", "--json")
    assert not (task / "predictions.jpg").exists()


def test_json_is_an_array_with_a_image_on_each_line(task: Path, run: Run) -> None:
    write_image(task / "b.png", 32, 32)
    code, out, err = run(*NET, "a.png", "b.png", "--json", "--thresh", "0.9")
    assert (code, err) == (0, "")
    assert out.count("\n") == 4
    assert json.loads(out)[0] == {
        "filename": "a.png",
        "width": 64,
        "height": 64,
        "objects": [
            {
                "class_id": 0,
                "name": "cat",
                "confidence": 0.946199,
                "box": {"x": 0.5, "y": 0.5, "w": 0.5, "h": 0.25},
                "box_px": [16, 24, 48, 40],
            }
        ],
    }
    assert [image["filename"] for image in json.loads(out)] == ["a.png", "b.png"]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_unreadable_image_is_reported_while_the_others_go_on(task: Path, run: Run, form: tuple[str, ...]) -> None:
    (task / "bad.jpg").write_bytes(b"no image")
    code, out, err = run(*NET, "bad.jpg", "a.png", *form)
    assert code == 2
    assert err.startswith("error: bad.jpg: ") and err.count("\n") == 1
    if form:
        bad, good = json.loads(out)
        assert bad["filename"] == "bad.jpg" and bad["error"] in err and len(good["objects"]) == 2
    else:
        assert out.startswith("a.png: 2 objects\n")


def test_without_images_paths_are_asked_for_on_standard_input(task: Path, run: Run) -> None:
    code, out, err = run(*NET, "--json", stdin="a.png\r\n\n  \na.png")
    assert code == 0
    assert [image["filename"] for image in json.loads(out)] == ["a.png", "a.png"]
    assert err.startswith("Enter Image Path: ")


def test_no_image_at_all_is_an_empty_array(task: Path, run: Run) -> None:
    assert json.loads(run(*NET, "--json").out) == []


@pytest.mark.parametrize("size", ["1", "2", "5"])
def test_batch_size_changes_nothing_but_speed(task: Path, run: Run, size: str) -> None:
    write_image(task / "b.png", 32, 48)
    (task / "list.txt").write_text("a.png\nb.png\na.png\n")
    assert run(*NET, "list.txt", "--batch-size", size) == run(*NET, "list.txt")


@pytest.mark.parametrize(("dialect", "count"), [("pjreddie", 0), ("alexeyab", 2)])
def test_default_threshold_is_the_forks(task: Path, run: Run, dialect: str, count: int) -> None:
    """.246 is above the threshold of AlexeyAB's detect (.24), below that of detector test (.25)."""
    set_scores(0.246, 0.46)
    assert run(*NET, "a.png", "--dialect", dialect).out.startswith(f"a.png: {count} objects")


def test_drawing_never_replaces_a_image(task: Path, run: Run) -> None:
    before = (task / "a.png").read_bytes()
    code, out, err = run(*NET, "a.png", "--out", ".")
    assert (code, out) == (2, "")
    assert "a.png: is an input of this command" in err
    assert (task / "a.png").read_bytes() == before
    write_image(Path("predictions.jpg"), 32, 32)
    before = Path("predictions.jpg").read_bytes()
    assert run(*NET, "predictions.jpg").code == 2
    assert Path("predictions.jpg").read_bytes() == before


def test_images_of_one_name_are_refused_before_any_work(task: Path, run: Run) -> None:
    (task / "more").mkdir()
    write_image(task / "more" / "a.png", 32, 32)
    code, out, err = run(*NET, "a.png", "more/a.png", "--out", "drawn")
    assert (code, out) == (2, "")
    assert "2 images have this name" in err
    assert not (task / "drawn").exists()


def test_names_come_from_a_data_file_too(task: Path, run: Run) -> None:
    assert "cat: 95%" in run("detect", "net.cfg", "net.weights", "a.png", "--data", "pets.data", "--device", "cpu").out


def test_classes_without_names_go_by_their_numbers(task: Path, run: Run) -> None:
    code, out, err = run("detect", "net.cfg", "net.weights", "a.png", "--device", "cpu")
    assert code == 0 and "\n0: 95%" in out
    assert err.startswith("warning: no names are given for the 2 classes")


def test_hidden_class_is_not_shown(task: Path, run: Run) -> None:
    (task / "pets.names").write_text("dont_show\ndog\n")
    assert run(*NET, "a.png").out == f"a.png: 1 object\ndog: 73%{PLACE}"


def test_partial_weights_are_run_only_on_demand(task: Path, run: Run) -> None:
    cfg = (task / "net.cfg").read_text()
    (task / "net.cfg").write_text(cfg.replace("[yolo]", "[convolutional]\nfilters=7\n[yolo]"))
    code, _, err = run(*NET, "a.png")
    assert code == 2
    assert "net.weights is a partial file" in err
    assert run(*NET, "a.png", "--allow-partial").code == 0


def test_gray_network_sees_and_draws_gray_images(task: Path, run: Run) -> None:
    (task / "net.cfg").write_text((task / "net.cfg").read_text().replace("channels=3", "channels=1"))
    code, out, _ = run(*NET, "a.png", "--allow-partial")
    assert code == 2 and not out, "the weights are those of a network of three channels"
    write_weights(LOGITS, channels=1)
    assert run(*NET, "a.png").out.startswith("a.png: 2 objects")
    with Image.open("predictions.jpg") as drawing:
        assert drawing.mode == "RGB"


def test_network_without_a_detection_layer_is_refused(task: Path, run: Run) -> None:
    cfg = (task / "net.cfg").read_text()
    (task / "net.cfg").write_text(cfg[: cfg.index("[yolo]")])
    code, _, err = run(*NET, "a.png")
    assert code == 2
    assert "has no detection layer" in err


def test_darknets_flags_without_a_meaning_are_accepted(task: Path, run: Run) -> None:
    assert run(*NET, "a.png", "-dont_show", "-ext_output") == run(*NET, "a.png")
    assert run(*NET, "a.png", "-fullscreen").err == "note: -fullscreen has no effect in darkpy detect\n"


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
def test_real_network_sees_what_darknet_saw(shared: Path, tmp_path: Path, run: Run, dialect: str) -> None:
    """darknet's own JPEG decoder moves confidences by up to .007 and boxes by up to .0007."""
    folder = shared / "data" / "weights" / "yolov3-tiny"
    dog = str(shared / "data" / "images" / "dog.jpg")
    net = ("detect", str(folder / "yolov3-tiny.cfg"), str(folder / "yolov3-tiny.weights"))
    code, out, _ = run(*net, dog, "--json", "--thresh", "0.3", "--dialect", dialect, "--device", "cpu")
    assert code == 0
    (image,) = json.loads(out)
    expected = expected_objects(json.loads((folder / f"expected.{dialect}.json").read_text()))
    found = sorted((one["class_id"], *one["box"].values(), one["confidence"]) for one in image["objects"])
    assert [one[0] for one in found] == [one[0] for one in expected]
    assert np.abs(np.array(found) - np.array(expected))[:, :5].max() < 0.0007
    assert np.abs(np.array(found) - np.array(expected))[:, 5].max() < 0.007


def expected_objects(document: Any) -> list[tuple[float, ...]]:
    """Class, center, size and confidence of darknet's detections on dog.jpg with scores above .3."""
    if isinstance(document, dict):
        rows = [(one["class_id"], *one["box_xywh_frac"], one["confidence"]) for one in document["images/dog.jpg"]]
    else:
        objects = next(frame for frame in document if frame["filename"] == "images/dog.jpg")["objects"]
        rows = [(one["class_id"], *one["relative_coordinates"].values(), one["confidence"]) for one in objects]
    return sorted(row for row in rows if row[-1] > 0.3)


@pytest.mark.parametrize("command", [("detect",), ("detector", "map"), ("detector", "recall")], ids=" ".join)
def test_help_names_the_batch_size_that_is_taken(command: tuple[str, ...], run: Run) -> None:
    assert f"[default: {BATCH_SIZE}" in " ".join(run(*command, "--help").out.split())


def test_classes_and_max_choose_the_detections(task: Path, run: Run) -> None:
    assert run(*NET, "a.png", "--classes", "dog").out == f"a.png: 1 object\ndog: 73%{PLACE}"
    assert run(*NET, "a.png", "--classes", "1, cat").out.startswith("a.png: 2 objects")
    assert run(*NET, "a.png", "--max", "1").out == f"a.png: 1 object\ncat: 95%{PLACE}"
    code, out, err = run(*NET, "a.png", "--classes", "dogg")
    assert (code, out) == (2, "") and "no class is called 'dogg'" in err and "did you mean dog?" in err


def test_json_lines_are_the_records_of_the_array(task: Path, run: Run) -> None:
    (task / "bad.jpg").write_bytes(b"no image")
    words = (*NET, "a.png", "bad.jpg")
    code, out, _ = run(*words, "--json-lines")
    assert code == 2
    assert [json.loads(line) for line in out.splitlines()] == json.loads(run(*words, "--json").out)
    assert not (task / "predictions.jpg").exists()


def test_csv_has_a_line_for_each_detection(task: Path, run: Run) -> None:
    (task / "pets.names").write_text('a "cat", black\ndog\n')
    lines = run(*NET, "a.png", "--csv").out.splitlines()
    assert lines[0] == "filename,class_id,name,confidence,left,top,right,bottom"
    assert lines[1:] == [
        'a.png,0,"a ""cat"", black",0.946199,16.0,24.0,48.0,40.0',
        "a.png,1,dog,0.726166,16.0,24.0,48.0,40.0",
    ]
    assert run(*NET, "a.png", "--csv", "--json").code == 2


def test_crops_are_named_after_image_and_class(task: Path, run: Run) -> None:
    (task / "pets.names").write_text("../cat/x\ndog\n")
    assert run(*NET, "a.png", "--crop", "deep/crops").code == 0
    assert sorted(path.name for path in (task / "deep/crops").iterdir()) == ["a_000__cat_x.png", "a_001_dog.png"]
    with Image.open("deep/crops/a_001_dog.png") as crop:
        assert crop.size == (32, 16)


def test_labels_are_written_but_not_over_existing_ones(task: Path, run: Run) -> None:
    words = (*NET, "a.png", "--save-labels", "marks")
    assert run(*words).code == 0
    assert (task / "marks/a.txt").read_text() == "0 0.5000 0.5000 0.5000 0.2500\n"
    (task / "marks/a.txt").write_text("mine")
    code, _, err = run(*words)
    assert code == 0 and "left as they are: 1 (see --overwrite)" in err
    assert (task / "marks/a.txt").read_text() == "mine"
    assert run(*words, "--overwrite", "--classes", "dog").code == 0
    assert (task / "marks/a.txt").read_text() == "1 0.5000 0.5000 0.5000 0.2500\n"
    write_image(task / "a.jpg", 32, 32)
    code, _, err = run(*NET, "a.png", "a.jpg", "--save-labels", "marks")
    assert code == 2 and "2 images have this name" in err


def test_style_of_a_drawing_is_chosen(task: Path, run: Run) -> None:
    drawings = []
    for style in ((), ("--hide-labels",), ("--hide-scores",), ("--line-width", "9")):
        run(*NET, "a.png", *style)
        drawings.append((task / "predictions.jpg").read_bytes())
    assert len(set(drawings)) == 4


def test_tracked_objects_are_numbered_in_csv_json_and_text(task: Path, run: Run) -> None:
    (task / "pets.names").write_text("cat\ndog\n")
    lines = run(*NET, "a.png", "--csv", "--track").out.splitlines()
    assert lines[0].endswith(",bottom,track_id")
    assert [line.rsplit(",", 1)[1] for line in lines[1:]] == ["1", "2"]
    [record] = json.loads(run(*NET, "a.png", "--json", "--track").out)
    assert [entry["track_id"] for entry in record["objects"]] == [1, 2]
    assert "cat #1: 95%" in run(*NET, "a.png", "--track").out


def test_tiles_of_the_command_line_are_those_of_detect(task: Path, run: Run) -> None:
    [record] = json.loads(run(*NET, "a.png", "--json", "--tiles", "2x1").out)
    assert len(record["objects"]) > 1
    code, _, err = run(*NET, "a.png", "--tiles", "2y1")
    assert code == 2 and "are not a grid" in err


def test_lines_and_zones_are_counted_in_every_form(task: Path, run: Run) -> None:
    """The boxes are in the middle of each image: between the first and the second they go down, then up again."""
    (task / "frames").mkdir()
    for index, height in enumerate((40, 120, 40, 120)):
        write_image(task / "frames" / f"{index}.png", 64, height)
    network = ("detect", "net.cfg", "net.weights", "frames", "--device", "cpu", "--names", "pets.names")
    words = (*network, "--count", "line:0,40,64,40", "--count", "zone:0,0,64,0,64,50,0,50")
    code, out, err = run(*words, "--json")
    *_, last = json.loads(out)
    crossed = {"to_left": {"cat": 1, "dog": 1}, "to_right": {"cat": 2, "dog": 2}}
    assert code == 0 and last["counts"] == [
        {"line": [0, 40, 64, 40], **crossed},
        {"zone": [0, 0, 64, 0, 64, 50, 0, 50], "inside": {}},
    ]
    assert last["objects"][0]["track_id"] == 1
    assert "line:0,40,64,40 to the left: 1 cat, 1 dog; to the right: 2 cat, 2 dog" in err
    _, out, _ = run(*words, "--classes", "dog", "--max", "1", "--out", "drawn")
    assert "zone:0,0,64,0,64,50,0,50 inside: 1 dog\n" in out and "to the right: 2 dog\n" in out and "cat" not in out
    drawn = np.asarray(Image.open(task / "drawn" / "0.png"))
    assert not np.array_equal(drawn[39, :8], np.full((8, 3), 128))
    code, _, err = run(*network, "--count", "line:0,40,64")
    assert code == 2 and "is neither a line nor a zone" in err and "line:X1,Y1,X2,Y2" in err


def test_dialect_v5_always_stretches(task: Path, run: Run) -> None:
    cfg = Path("net.cfg")
    cfg.write_text(cfg.read_text().replace("[net]\n", "[net]\nletter_box=1\n", 1))
    write_image(Path("wide.png"), 64, 32)

    def height(dialect: str) -> float:
        code, out, err = run("detect", "net.cfg", "net.weights", "wide.png", "--dialect", dialect, "--json")
        assert code == 0, err
        return float(json.loads(out)[0]["objects"][0]["box"]["h"])

    assert height("alexeyab") == pytest.approx(2 * height("v5"), rel=1e-3)
