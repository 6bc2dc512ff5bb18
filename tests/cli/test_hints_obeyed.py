"""Hints that name a command or an option are followed, and the command succeeds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import CFG, Run


@pytest.fixture
def pets(task: Path) -> Path:
    Path("a.txt").write_text("".join(f"0 .5 .5 .{size} .25\n" for size in range(1, 10)))
    Path("list.txt").write_text("a.png\n")
    Path("frames").mkdir()
    shutil.copy("a.png", "frames/a.png")
    Path("pets.data").write_text("classes=2\nnames=pets.names\ntrain=list.txt\nvalid=list.txt\n")
    Path("frames.data").write_text("classes=2\nnames=pets.names\ntrain=frames\n")
    Path("net3.cfg").write_text(CFG.replace("filters=7", "filters=8").replace("classes=2", "classes=3"))
    Path("taken.weights").touch()
    return task


@pytest.mark.parametrize(
    ("line", "hint", "obeyed"),
    [
        ("detector calc_anchors pets.data", "-width 416 -height 416",
         "detector calc_anchors pets.data -width 416 -height 416"),
        ("detector test pets.data net.cfg net.weights frames", "darkpy detect CFG WEIGHTS frames",
         "detect net.cfg net.weights frames"),
        ("detector test pets.data net.cfg net.weights a.png -save_labels", "--overwrite",
         "detector test pets.data net.cfg net.weights a.png -save_labels --overwrite"),
        ("partial net.cfg net.weights taken.weights 2", "--force",
         "partial net.cfg net.weights taken.weights 2 --force"),
        ("visualize net.cfg --out a.jpg", "--out a.png", "visualize net.cfg --out b.png"),
        ("compare net.cfg net.weights", "--dump FILE", "compare net.cfg net.weights --dump x.npz"),
        ("anchors pets.data --write", "--cfg", "anchors pets.data --write --cfg net.cfg"),
        ("detect net.cfg net.weights a.png --device cuda:7", "cpu always works",
         "detect net.cfg net.weights a.png --device cpu"),
        ("convert net.weights net.tflite --cfg net.cfg", "write net.onnx",
         "convert net.weights net.onnx --cfg net.cfg"),
        ("detect net3.cfg net.weights a.png", "darkpy partial CFG net.weights START.weights 1",
         "partial net.cfg net.weights START.weights 2"),
        ("detector calc_anchors frames.data -num_of_clusters 1 -width 32 -height 32",
         "darkpy dataset split frames lists", "dataset split frames lists"),
        ("rnn validtactic net.cfg net.weights", "darkpy rnn valid CFG WEIGHTS < TEXT", "rnn valid --help"),
        ("version", "darkpy --version", "--version"),
        ("yolo test net.cfg net.weights a.png", "darkpy detect CFG WEIGHTS IMAGE -thresh .2 --nms .4 --stretch",
         "detect net.cfg net.weights a.png -thresh .2 --nms .4 --stretch"),
    ],
)  # fmt: skip
def test_hint_is_given_and_following_it_succeeds(pets: Path, run: Run, line: str, hint: str, obeyed: str) -> None:
    code, _, err = run(*line.split())
    assert code == 2 and hint in err.partition("hint: ")[2]
    code, _, err = run(*obeyed.split())
    assert code == 0, err
