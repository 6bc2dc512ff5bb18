"""`darkpy regressor` and `darkpy tag`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import darkpy
from tests.cli.conftest import Run

CFG = """[net]
batch=8
width=8
height=8
channels=3
learning_rate=.1
max_batches={updates}
flip=0
max_crop=8

[avgpool]

[connected]
output=2
activation=linear

{loss}
"""
TRAIN = ("regressor", "train", "net.data", "net.cfg", "-nogpu", "--workers", "0", "--no-monitor")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with eight plain images, whose red channel and its square are to be predicted."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    Path("labels").mkdir()
    for index in range(8):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[..., 0] = 32 * index
        Image.fromarray(pixels).save(f"images/{index}.png")
        red = 32 * index / 255
        Path(f"labels/{index}.txt").write_text(f"{red} {red * 2}\n")
    Path("list.txt").write_text("".join(f"images/{index}.png\n" for index in range(8)))
    Path("net.data").write_text("classes=2\ntrain=list.txt\nbackup=out\n")
    Path("net.cfg").write_text(CFG.format(updates=60, loss="[cost]\ntype=sse"))
    return tmp_path


def test_a_regressor_learns_numbers_and_tells_them_of_a_folder(folder: Path, run: Run) -> None:
    code, _, err = run(*TRAIN)
    assert code == 0, err
    assert {path.name for path in Path("out").iterdir()} >= {"net.weights", "net_60.weights"}
    code, out, _ = run("regressor", "test", "net.cfg", "out/net.weights", "images", "--json", "-nogpu")
    records = json.loads(out)
    assert [record["filename"] for record in records] == [f"images/{index}.png" for index in range(8)]
    expected = [[32 * index / 255, 64 * index / 255] for index in range(8)]
    np.testing.assert_allclose([record["numbers"] for record in records], expected, atol=0.15)
    code, out, _ = run("regressor", "test", "net.cfg", "out/net.weights", "-nogpu", stdin="images/4.png\nno.png\n")
    assert code == 2 and out.count("Predicted: 0.5") == 1 and "images/4.png: Predicted in " in out


@pytest.mark.slow
def test_a_run_resumes_and_ends_where_the_loss_no_longer_falls(folder: Path, run: Run) -> None:
    assert run(*TRAIN).code == 0
    Path("net.cfg").write_text(CFG.format(updates=400, loss="[cost]\ntype=sse").replace("rate=.1", "rate=0"))
    code, _, err = run(*TRAIN, "out/net.weights", "--patience", "1", "--force")
    assert code == 0 and "belongs to these weights: the run continues" in err
    assert "early stop at update" in err and "net.weights written after update 400" not in err


@pytest.mark.parametrize(
    ("label", "told"),
    [("0.5", "has 1 numbers, and the network gives 2"), ("0.5 nan", "'nan' is not a number"), ("x", "'x' is not a")],
)
def test_label_files_without_the_numbers_are_reported_and_skipped(
    folder: Path, run: Run, label: str, told: str
) -> None:
    for index in range(8):
        Path(f"labels/{index}.txt").write_text(label)
    code, _, err = run(*TRAIN)
    assert code == 2 and told in err and "100 images in a row could not be used" in err


def test_counts_that_differ_are_refused(folder: Path, run: Run) -> None:
    Path("net.data").write_text("classes=3\ntrain=list.txt\nbackup=out\n")
    code, _, err = run(*TRAIN)
    assert code == 2 and "net.data: classes=3, but net.cfg gives 2 numbers for an image" in err
    assert run(*TRAIN, "--best-by", "accuracy").code == 2


def test_a_tagger_learns_tags_and_names_them(folder: Path, run: Run) -> None:
    for index in range(8):
        Path(f"labels/{index}.txt").write_text("0\n1\n" if index > 3 else "1\n")
    Path("net.cfg").write_text(CFG.format(updates=80, loss="[logistic]").replace("rate=.1", "rate=2"))
    code, _, err = run(
        "tag", "train", "net.cfg", "--data", "net.data", "-nogpu", "--workers", "0", "-clear", "--no-monitor"
    )
    assert code == 0, err
    Path("names.txt").write_text("red\nplain\n")
    words = ("tag", "test", "net.cfg", "out/net.weights", "-nogpu")
    code, out, _ = run(*words, "images/7.png", "--names", "names.txt")
    first, *tags = out.splitlines()
    assert code == 0 and first.startswith("images/7.png: Predicted in ")
    assert [line.split("%: ")[1] for line in tags] == ["plain", "red"] and float(tags[1].split("%")[0]) > 80
    code, out, _ = run(*words, "images/0.png", "--json")
    (record,) = json.loads(out)
    assert [tag["class_id"] for tag in record["tags"]] == [1, 0] and record["tags"][1]["confidence"] < 0.2


def test_infinite_numbers_are_null_in_json(folder: Path, run: Run) -> None:
    network = darkpy.load("net.cfg")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter[0] = 3e38
    network.save_weights("huge.weights")
    code, out, _ = run("regressor", "test", "net.cfg", "huge.weights", "images/7.png", "--json", "-nogpu")
    (record,) = json.loads(out, parse_constant=pytest.fail)
    assert code == 0 and record["numbers"][0] is None and record["numbers"][1] is not None


def test_numbers_are_trained_from_python(folder: Path) -> None:
    Path("net.cfg").write_text(CFG.format(updates=2, loss="[cost]\ntype=sse"))
    result = darkpy.train("net.cfg", "net.data", kind="regressor", device="cpu", workers=0, chart=False)
    assert (result.batch_num, result.weights) == (2, Path("out/net.weights"))
