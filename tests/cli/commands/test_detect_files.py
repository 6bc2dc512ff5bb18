"""Files that `darkpy detect` and `detector test` write: none is lost, whatever the images and classes are called."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from darkpy.cli.commands import detect as detect_module
from darkpy.data.loading import decoding, images
from darkpy.errors import DarkpyError, ImageError
from tests.cli.conftest import Run, write_image

DETECT = ("detect", "net.cfg", "net.weights", "--names", "pets.names", "-nogpu")
TEST = ("detector", "test", "pets.data", "net.cfg", "net.weights", "-nogpu")


@pytest.fixture
def namesakes(task: Path) -> str:
    """Two images of the same name in two folders, as standard input."""
    for folder, width in (("x", 64), ("y", 128)):
        Path(folder).mkdir()
        write_image(Path(folder, "a.png"), width, 64)
    return "x/a.png\ny/a.png\nx/a.png\n"


@pytest.mark.parametrize(
    ("option", "files"),
    [("--out", ["a.png"]), ("--crop", ["a_000_cat.png", "a_001_dog.png"]), ("--save-labels", ["a.txt"])],
)
def test_namesakes_on_standard_input_do_not_replace_each_other(
    namesakes: str, run: Run, option: str, files: list[str]
) -> None:
    code, out, err = run(*DETECT, option, "o", "--overwrite", stdin=namesakes)
    assert code == 2 and out.count("2 objects") == 3
    assert sorted(path.name for path in Path("o").iterdir()) == files
    for file in files:
        assert f"error: o/{file}: belongs to x/a.png, that of y/a.png is not written\n  hint: give images" in err
    assert err.count("error") == len(files)
    if option == "--out":
        assert Image.open("o/a.png").width == 64
    code, _, err = run(*DETECT, option, "o", stdin="y/a.png\n")
    assert code == 0 and ("left as they are: 1" in err) == (option == "--save-labels")


def test_drawings_that_darkpy_did_not_make_are_kept_for_paths_on_standard_input(namesakes: str, run: Run) -> None:
    Path("o").mkdir()
    for name in ("a.png", "a_000_cat.png"):
        write_image(Path("o", name), 5, 5)
    before = {path.name: path.read_bytes() for path in Path("o").iterdir()}
    code, out, err = run(*DETECT, "--out", "o", "--crop", "o", "--json-lines", stdin="x/a.png\na.png\n")
    assert code == 2 and len(out.splitlines()) == 2
    assert err.count("already exists\n  hint: darkpy did not make it; --overwrite overwrites it") == 4
    assert {name: Path("o", name).read_bytes() for name in before} == before
    assert Path("o/a_001_dog.png").is_file()


def test_crops_of_two_images_may_have_the_same_name(task: Path, run: Run) -> None:
    write_image(Path("a_000.png"), 64, 64)
    Path("pets.names").write_text("001_dog\ndog\n")
    code, _, err = run(*DETECT, "a.png", "a_000.png", "--crop", "c")
    assert code == 2 and "c/a_000_001_dog.png: belongs to a.png, that of a_000.png is not written" in err
    assert len(list(Path("c").iterdir())) == 3


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "é" * 125 + ".png", "猫" * 83 + ".bmp", "x" * 251 + ".gif"])
def test_names_of_255_bytes_have_outputs(task: Path, run: Run, name: str) -> None:
    Image.new("RGB", (64, 64)).save(name)
    Path("pets.names").write_text("猫" * 99 + "\n" + "d" * 300 + "\n")
    code, _, err = run(*DETECT, name, "--out", "o", "--crop", "c", "--save-labels", "l")
    assert (code, err) == (0, "")
    assert [len(list(Path(folder).iterdir())) for folder in "ocl"] == [1, 2, 1]
    assert all(path.name.startswith(name[:20]) for folder in "ocl" for path in Path(folder).iterdir())


def test_names_reach_csv_json_and_text_whole(task: Path, run: Run) -> None:
    Path("pets.names").write_text('cat, "the" first\n🐶 \u202edog\n')
    name = 'a,b "c"\n1: 9 objects.png'
    write_image(Path(name), 64, 64)
    header, *rows = csv.reader(io.StringIO(run(*DETECT, name, "--csv").out))
    assert [row[:3] for row in rows] == [
        ['a,b "c"\\n1: 9 objects.png', "0", 'cat, "the" first'],
        ['a,b "c"\\n1: 9 objects.png', "1", "🐶 \\u202edog"],
    ] and len(header) == len(rows[0])
    record = json.loads(run(*DETECT, name, "--json-lines").out)
    assert record["filename"] == name and record["objects"][1]["name"] == "🐶 \u202edog"
    assert run(*DETECT, name).out.startswith('a,b "c"\\n1: 9 objects.png: 2 objects\ncat, "the" first: 95%\t')
    assert run(*TEST, name).out.startswith('a,b "c"\\n1: 9 objects.png: Predicted in ')


def test_a_class_with_a_comma_is_chosen_in_quotes(task: Path, run: Run) -> None:
    Path("pets.names").write_text("a,b\ndog\n")
    for words, names in (('"a,b"', ["a,b"]), ('dog, "a,b"', ["a,b", "dog"]), ("0", ["a,b"])):
        record = json.loads(run(*DETECT, "a.png", "--classes", words, "--json-lines").out)
        assert [found["name"] for found in record["objects"]] == names
    assert "no class is called 'a'" in run(*DETECT, "a.png", "--classes", "a,b").err
    code, _, err = run(*DETECT, "a.png", "--classes", "dog\ncat")
    assert (code, err.splitlines()[-2]) == (2, "error: --classes dog\\ncat: is not a list of names")


def test_json_is_whole_when_a_file_cannot_be_written(task: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def write(*arguments: object) -> None:
        if written:
            raise DarkpyError("b.png: cannot be written: No space left on device")
        written.append(Path())

    monkeypatch.setattr(detect_module, "write_drawing", write)
    write_image(Path("b.png"), 64, 64)
    code, out, err = run(*DETECT, "a.png", "b.png", "--out", "o", "--json")
    assert code == 2 and "No space left" in err and "Traceback" not in err
    assert [record["filename"] for record in json.loads(out)] == ["a.png"]


@pytest.mark.parametrize("option", ["--out", "--crop", "--save-labels"])
def test_a_file_in_place_of_a_folder_is_reported(task: Path, run: Run, option: str) -> None:
    for place, reason in (("pets.names", "is a file, not a folder"), ("pets.names/o", "Not a directory")):
        code, _, err = run(*DETECT, "a.png", option, place)
        assert code == 2 and err == f"error: {option} {place}: {reason}\n"


def test_detector_test_writes_json_to_a_name_that_says_so(task: Path, run: Run) -> None:
    code, _, err = run(*TEST, "-out", "found.json", stdin="a.png\nnone.png\na.png\n")
    assert code == 2 and err == "error: none.png: no such file or directory\n"
    assert [record["filename"] for record in json.loads(Path("found.json").read_text())] == ["a.png", "a.png"]
    assert Path("predictions.jpg").is_file() and not Path("found.json.jpg").exists()
    assert run(*TEST, "a.png", "-out", "found").code == 0 and Path("found.jpg").is_file()


def test_detector_test_keeps_what_was_found_before_ctrl_c(
    task: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paths() -> object:
        yield "a.png"
        raise KeyboardInterrupt

    monkeypatch.setattr("darkpy.cli.commands.detector.ask_paths", paths)
    assert run(*TEST, "-out", "found.json").code == 130
    assert len(json.loads(Path("found.json").read_text())) == 1


def test_an_image_without_permission_does_not_keep_the_others_from_being_detected(
    task: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(Path("b.png"), 64, 64)
    monkeypatch.setattr(os, "access", lambda path, *_, **__: os.fspath(path) != "b.png")  # root may read all files
    unguarded = decoding.read_image

    def read(path: Path, read: Any) -> Any:
        if path.name == "b.png":
            raise ImageError("b.png: permission denied")
        return unguarded(path, read)

    monkeypatch.setattr(images, "read_image", read)
    code, out, err = run(*DETECT, "b.png", "a.png", "--json-lines")
    assert code == 2 and err == "error: b.png: permission denied\n"
    assert [("error" in json.loads(line)) for line in out.splitlines()] == [True, False]
