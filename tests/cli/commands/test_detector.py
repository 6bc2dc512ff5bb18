"""`darkpy detector ...`."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Run, set_scores, write_image, write_weights

NET = ("detector", "test", "pets.data", "net.cfg", "net.weights", "--device", "cpu")
PLACE = "\t(left_x:   16   top_y:   24   width:   32   height:   16)"


def lines_of(out: str) -> list[str]:
    """The lines, each time with its figures left out."""
    return re.sub(r"Predicted in \d+\.\d{6} ", "Predicted in _ ", out).splitlines()


def test_pjreddies_lines(task: Path, run: Run) -> None:
    code, out, err = run(*NET, "a.png", "--dialect", "pjreddie")
    assert (code, err) == (0, "")
    assert lines_of(out) == ["a.png: Predicted in _ seconds.", "cat: 95%", "dog: 73%"]


def test_alexeyabs_lines_have_the_best_class_of_a_box_first(task: Path, run: Run) -> None:
    set_scores(0.6, 0.8)
    code, out, _ = run(*NET, "a.png", "--dialect", "alexeyab")
    assert code == 0
    assert lines_of(out) == ["a.png: Predicted in _ milli-seconds.", "dog: 80%", "cat: 60%"]


def test_ext_output_tells_the_place(task: Path, run: Run) -> None:
    _, out, _ = run("detector", "test", "-ext_output", *NET[2:], "a.png", "--dialect", "alexeyab")
    assert lines_of(out)[1:] == [f"cat: 95%{PLACE}", f"dog: 73%{PLACE}"]


def test_default_resize_is_the_forks(task: Path, run: Run) -> None:
    """The box is half the input wide: 32 of 64 stretched pixels, or 64 of 128 that the letterbox holds."""
    write_image(task / "tall.png", 64, 128)
    places = {
        (dialect, form): run(*NET, "tall.png", "-ext_output", "--dialect", dialect, *form).out.splitlines()[1]
        for dialect in ("pjreddie", "alexeyab")
        for form in ((), ("-letter_box",), ("--stretch",))
    }
    boxed, stretched = places["pjreddie", ()], places["alexeyab", ()]
    assert "width:   64   height:   32" in boxed and "width:   32   height:   32" in stretched
    assert places["alexeyab", ("-letter_box",)] == boxed == places["pjreddie", ("-letter_box",)]
    assert places["pjreddie", ("--stretch",)] == stretched


NON_FINITE = (math.nan, 0.0, 1000.0, 0.0, 5.0, 3.0, 1.0)


def test_non_finite_boxes_are_neither_printed_nor_saved(task: Path, run: Run) -> None:
    write_weights(NON_FINITE)
    before = Path("a.png").read_bytes()
    code, out, err = run(*NET, "a.png", "-ext_output", "-save_labels", "-out", "found.json", "--dialect", "alexeyab")
    assert code == 0 and len(out.splitlines()) == 1
    assert err.count("warning: 1 box is left out: NaN or infinite") == 1
    assert Path("a.txt").read_text() == "" and json.loads(Path("found.json").read_text())[0]["objects"] == []
    assert Path("a.png").read_bytes() == before


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_detect_counts_the_non_finite_boxes_of_all_images_once(task: Path, run: Run, form: tuple[str, ...]) -> None:
    write_weights(NON_FINITE)
    Path("list.txt").write_text("a.png\n" * 11)
    code, out, err = run("detect", "net.cfg", "net.weights", "list.txt", "--names", "pets.names", *form)
    assert code == 0 and "nan" not in out.lower() and "inf" not in out
    assert err.count("warning: ") == 1 and "11 boxes are left out" in err


@pytest.mark.parametrize(("dialect", "shown"), [("pjreddie", 0), ("alexeyab", 1)])
def test_default_threshold_is_the_forks(task: Path, run: Run, dialect: str, shown: int) -> None:
    set_scores(0.246, 0.46)
    assert len(lines_of(run(*NET, "a.png", "--dialect", dialect).out)) == 1 + shown
    assert len(lines_of(run(*NET, "a.png", "--dialect", dialect, "-thresh", ".24").out)) == 3


def test_drawing_is_predictions_jpg(task: Path, run: Run) -> None:
    run(*NET, "a.png", "-dont_show")
    with Image.open("predictions.jpg") as drawing:
        assert drawing.format == "JPEG" and drawing.size == (64, 64)


def test_out_is_the_drawing_for_pjreddie(task: Path, run: Run) -> None:
    run(*NET, "a.png", "-out", "seen", "--dialect", "pjreddie")
    assert (task / "seen.jpg").exists() and not (task / "predictions.jpg").exists()


def test_out_that_ends_in_json_is_alexeyabs_json_in_either_dialect(task: Path, run: Run) -> None:
    for dialect in ("pjreddie", "alexeyab"):
        run(*NET, "a.png", "-out", f"{dialect}.json", "--dialect", dialect)
    first, second = ((task / f"{dialect}.json").read_text() for dialect in ("pjreddie", "alexeyab"))
    assert json.loads(first)[0]["filename"] == json.loads(second)[0]["filename"] == "a.png"
    assert not (task / "pjreddie.json.jpg").exists()


def test_out_is_json_for_alexeyab(task: Path, run: Run) -> None:
    run(*NET, "-out", "seen.json", "--dialect", "alexeyab", stdin="a.png\nno.png\na.png\n")
    frames = json.loads((task / "seen.json").read_text())
    assert [(frame["frame_id"], frame["filename"]) for frame in frames] == [(1, "a.png"), (2, "a.png")]
    assert frames[0]["objects"][0] == {
        "class_id": 0,
        "name": "cat",
        "relative_coordinates": {"center_x": 0.5, "center_y": 0.5, "width": 0.5, "height": 0.25},
        "confidence": 0.946199,
    }
    assert (task / "predictions.jpg").exists()


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
@pytest.mark.parametrize("given", ["a.jpg", "net.weights"])
def test_out_never_replaces_what_was_given(task: Path, run: Run, dialect: str, given: str) -> None:
    write_image(task / "a.jpg", 32, 32)
    before = (task / given).read_bytes()
    assert run(*NET, "a.jpg", "-out", given, "--dialect", dialect).code == 2
    assert (task / given).read_bytes() == before


def test_drawing_is_never_the_image_itself(task: Path, run: Run) -> None:
    write_image(task / "a.jpg", 32, 32)
    code, _, err = run(*NET, "a.jpg", "-out", "a", "--dialect", "pjreddie")
    assert code == 2 and "a.jpg: is an input of this command" in err


def test_paths_come_from_standard_input_until_it_ends(task: Path, run: Run) -> None:
    code, out, err = run(*NET, stdin="a.png\r\n\nno.png\n a.png \n")
    assert code == 2
    assert out.count("a.png: Predicted in") == 2
    assert "error: no.png" in err and "Enter" not in err


def test_labels_are_saved_beside_the_image(task: Path, run: Run) -> None:
    assert run(*NET, "a.png", "-save_labels").code == 0
    assert (task / "a.txt").read_text() == "0 0.5000 0.5000 0.5000 0.2500\n"


def test_existing_labels_are_kept_by_default(task: Path, run: Run) -> None:
    (task / "a.txt").write_text("ground truth")
    code, out, err = run(*NET, "a.png", "-save_labels")
    assert code == 2 and "cat: 95%" in out
    assert "a.txt: already exists" in err and "--overwrite" in err
    assert (task / "a.txt").read_text() == "ground truth"
    assert run(*NET, "a.png", "-save_labels", "--overwrite").code == 0
    assert (task / "a.txt").read_text().startswith("0 0.5")


def test_hidden_class_is_in_the_labels_only(task: Path, run: Run) -> None:
    (task / "pets.names").write_text("dont_show cat\ndog\n")
    _, out, _ = run(*NET, "a.png", "-save_labels", "-out", "seen.json", "--dialect", "alexeyab")
    assert lines_of(out)[1:] == ["dog: 73%"]
    assert [one["name"] for one in json.loads((task / "seen.json").read_text())[0]["objects"]] == ["dog"]
    assert (task / "a.txt").read_text().startswith("0 ")


def test_too_few_names_are_an_error_that_tells_both_numbers(task: Path, run: Run) -> None:
    (task / "pets.names").write_text("cat\n")
    code, out, err = run(*NET, "a.png")
    assert (code, out) == (2, "")
    assert "pets.names: holds 1 names, the network has 2 classes" in err
