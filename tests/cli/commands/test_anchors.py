"""`darkpy anchors`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run

CFG = """[net]
width=100
height=200
channels=3

[convolutional]
filters=12
size=1
stride=50
activation=linear

[yolo]
anchors = 10,10, 20,20
mask=0,1
num=2
classes=1
"""


@pytest.fixture(autouse=True)
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.data").write_text("train=train.txt\nnames=my.names\n")
    Path("my.names").write_text("cat\n")
    Path("train.txt").write_text("a.jpg\n")
    chance = np.random.default_rng(0)
    sizes = np.concatenate([chance.uniform(0.1, 0.2, (40, 2)), chance.uniform(0.5, 0.7, (40, 2))])
    Path("a.txt").write_text("".join(f"0 .5 .5 {w:.4f} {h:.4f}\n" for w, h in sizes))
    Path("net.cfg").write_text(CFG)


def test_anchors_are_reported_with_their_fit(run: Run) -> None:
    code, out, err = run("anchors", "my.data", "-n", "2", "-width", "100", "-height", "200", "--restarts", "3")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "80 boxes on 1 images: cat 80",
        "100 x 200: average IoU 78.41 %, recall 98.75 %; 3 starts led to 78.41 % to 78.41 %",
        "anchors =  15, 30,  61,122",
    ]


def test_cfg_is_advised_and_written_only_when_asked(run: Run) -> None:
    code, out, err = run("anchors", "my.data", "--cfg", "net.cfg")
    assert (code, err) == (0, "warning: 40 boxes (50.00 %) are smaller than a cell of the finest grid\n")
    assert out.splitlines()[2:] == [
        "net.cfg as it is: average IoU 31.13 %, recall 31.25 %",
        "with these, rounded: average IoU 78.35 %, recall 98.75 %",
        "layer 1 [yolo], line 12, cells of 50 x 50 pixels:",
        "  anchors=15,30, 61,122",
        "  mask=0,1",
        "  num=2",
        "  filters=12 (line 7)",
    ]
    assert Path("net.cfg").read_text() == CFG
    Path("net.cfg").chmod(0o640)
    code, _, err = run("anchors", "my.data", "--cfg", "net.cfg", "--write")
    assert code == 0 and err.endswith("note: wrote net.cfg\n")
    assert Path("net.cfg").read_text() == CFG.replace("10,10, 20,20", "15,30, 61,122")
    assert Path("net.cfg").stat().st_mode & 0o777 == 0o640
    _, _, err = run("anchors", "my.data", "--cfg", "net.cfg", "--write")
    assert "the cfg's own anchors fit these boxes as well" in err and "net.cfg: already has these anchors" in err


def test_json_is_for_programs(run: Run) -> None:
    code, out, _ = run("anchors", "my.data", "--cfg", "net.cfg", "-n", "3", "--json", "--sort", "width", "--median")
    record = json.loads(out)
    assert code == 0 and len(record["anchors"]) == 3 and record["boxes"] == 80
    assert record["now"]["average_iou"] < record["new"]["average_iou"]
    (head,) = record["heads"]
    assert (head["filters"], head["filters_line"], head["num"], head["mask"]) == (18, 7, "3", "0,1,2")


def test_image_is_drawn_and_replaces_nothing(run: Run) -> None:
    line = ("anchors", "my.data", "-n", "2", "--start", "plus-plus", "--plot", "cloud.png")
    assert run(*line).code == 0
    assert Path("cloud.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = run(*line)
    assert code == 2 and "cloud.png: already exists" in err
    assert run(*line, "--force").code == 0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("my.data --write", "--write needs a cfg to write into"),
        ("my.data --cfg net.cfg -width 50", "the cfg has the input size"),
        ("my.data -n 81", "81 anchors are requested, but 80 boxes have only 80 different sizes"),
        ("my.data --list valid", "my.data: has no valid="),
        ("my.data --plot my.data", "is an input of this command"),
        ("my.data --cfg a.txt", "a.txt"),
        ("nowhere", "nowhere: cannot be read"),
    ],
)
def test_mistake_is_one_message_and_nothing_is_written(run: Run, line: str, told: str) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir()}
    code, out, err = run("anchors", *line.split())
    assert code == 2 and told in err and out == ""
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_other_classes_than_the_cfgs_are_warned_of(run: Run) -> None:
    Path("my.names").write_text("cat\ndog\n")
    assert "classes=1, but the data has 2" in run("anchors", "my.data", "--cfg", "net.cfg").err


def test_it_starts_without_torch() -> None:
    code = "import sys; from darkpy.__main__ import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    words = [sys.executable, "-c", code, "anchors", "my.data"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.endswith("0 False\n")
