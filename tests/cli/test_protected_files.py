"""Nothing that a command reads is ever written over, whatever its output is called; nor what others made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from darkpy.files import is_input, note_input, protect_inputs, write_atomic
from tests.cli.conftest import Run, write_image

NET = "net.cfg net.weights"


@pytest.fixture
def pets(task: Path) -> Path:
    Path("a.txt").write_text("0 .5 .5 .5 .25\n")
    Path("list.txt").write_text("a.png\n")
    Path("pets.data").write_text("classes=2\nnames=pets.names\ntrain=list.txt\nvalid=list.txt\n")
    write_image(Path("a.jpg"), 20, 20)
    Path("linked.npz").symlink_to("net.weights")
    Path("linked.png").symlink_to("net.cfg")
    os.link("net.weights", "second.weights")
    Path("folder").mkdir()
    return task


@pytest.mark.parametrize(
    "line",
    [
        f"compare {NET} --dump linked.npz",
        f"detect {NET} a.jpg -out a",
        f"detect {NET} a.png --out . --overwrite",
        f"detector test pets.data {NET} a.png -out pets.names --dialect alexeyab",
        f"detector test pets.data {NET} a.png -out folder/../net.cfg --dialect alexeyab",
        f"partial {NET} second.weights 1 --force",
        f"rgbgr {NET} net.cfg --force",
        f"denormalize {NET} out.weights --write-cfg net.cfg --force",
        f"visualize {NET} --out linked.png --force",
        "anchors pets.data --cfg net.cfg --plot linked.png --force",
        "dataset draw list.txt list.txt --force",
        "dataset to-coco list.txt list.txt --force",
        "detector train pets.data net.cfg -chart net.cfg",
        "detector train pets.data net.cfg -chart a.png",
        "convert net.weights second.weights --cfg net.cfg --force",
    ],
)
def test_no_output_replaces_an_input(pets: Path, run: Run, line: str) -> None:
    names = ("net.cfg", "net.weights", "pets.data", "pets.names", "a.jpg", "a.png", "list.txt", "a.txt")
    before = {name: Path(name).read_bytes() for name in names}
    code, _, err = run(*line.split())
    assert {name: Path(name).read_bytes() for name in names} == before
    assert code == 2 and ("is an input of this command" in err or "darkpy did not make it" in err)


def test_predictions_are_no_input_either(pets: Path, run: Run) -> None:
    shutil.copy("a.jpg", "predictions.jpg")
    before = Path("predictions.jpg").read_bytes()
    code, _, err = run("detect", "net.cfg", "net.weights", "predictions.jpg")
    assert code == 2 and "predictions.jpg: is an input of this command" in err
    assert Path("predictions.jpg").read_bytes() == before
    assert run("detect", "net.cfg", "net.weights", "a.jpg").code == 0


def test_drawings_replace_drawings_and_nothing_else(pets: Path, run: Run) -> None:
    Path("drawn").mkdir()
    shutil.copy("a.jpg", "drawn/a.jpg")
    line = ("detect", "net.cfg", "net.weights", "a.jpg", "a.png", "--out", "drawn")
    code, _, err = run(*line)
    assert code == 2 and "already exists\n  hint: darkpy did not make it; --overwrite overwrites it" in err
    assert not Path("drawn/a.png").exists()
    assert run(*line, "--overwrite").code == 0
    assert run(*line).code == 0  # both are darkpy's now


def test_file_is_an_input_by_any_name_until_the_command_ends(tmp_path: Path) -> None:
    file, link = tmp_path / "a", tmp_path / "b"
    file.write_text("x")
    os.link(file, link)
    assert not is_input(file)
    with protect_inputs():
        note_input(file)
        assert is_input(link) and not is_input(tmp_path / "c")
        write_atomic(tmp_path / "c", [b"new"])
        write_atomic(file, [b"mine"], replace_input=True)
        assert not is_input(file) and is_input(link)
    assert not is_input(link)
