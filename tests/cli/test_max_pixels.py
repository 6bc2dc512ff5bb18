"""--max-pixels: the limit on the size of images, in every command that reads them."""

from __future__ import annotations

import os
from pathlib import Path

import PIL.Image
import pytest

from darkpy.data.loading.decoding import DEFAULT_MAX_PIXELS, MAX_PIXELS_VARIABLE
from tests.cli.conftest import Run

VOC = """<annotation><filename>a.png</filename><object><name>cat</name>
<bndbox><xmin>9</xmin><ymin>9</ymin><xmax>30</xmax><ymax>30</ymax></bndbox></object></annotation>"""


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what commands set in this process."""
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "4000")


@pytest.mark.parametrize(
    "command",
    [
        "detect net.cfg net.weights a.png --names pets.names",
        "detector test pets.data net.cfg net.weights a.png",
        "detector map pets.data net.cfg net.weights",
        "detector valid pets.data net.cfg net.weights",
        "detector recall pets.data net.cfg net.weights",
        "evaluate net.cfg pets.data net.weights",
        "compare net.cfg net.weights a.png --dump net.dump",
        "convert net.weights net.onnx --cfg net.cfg --check a.png --force",
        "doctor net.cfg pets.data",
        "train net.cfg pets.data --workers 0",
        "dataset draw pets.data sheet.png --force",
        "dataset to-coco pets.data coco --force",
        "dataset from-voc voc made --force",
        "anchors voc -num_of_clusters 1",
    ],
)
def test_following_the_message_reads_the_image(command: str, task: Path, run: Run) -> None:
    Path("a.txt").write_text("0 .5 .5 .5 .25\n")
    Path("list.txt").write_text(f"{task}/a.png\n")
    Path("pets.data").write_text("classes=2\ntrain=list.txt\nvalid=list.txt\nnames=pets.names\nbackup=backup\n")
    cfg = Path("net.cfg").read_text()
    Path("net.cfg").write_text(cfg.replace("[net]", "[net]\nbatch=2\nmax_batches=1\nlearning_rate=.0001"))
    Path("voc").mkdir()
    Path("voc/a.xml").write_text(VOC)
    Path("voc/a.png").write_bytes(Path("a.png").read_bytes())
    refused = run(*command.split())
    assert "64 x 64 pixels, more than the limit of 4000; --max-pixels 4096, or" in refused.out + refused.err
    Path("net.dump").unlink(missing_ok=True)
    accepted = run(*command.split(), "--max-pixels", "4096")
    assert "more than the limit" not in accepted.out + accepted.err
    assert os.environ[MAX_PIXELS_VARIABLE] == "4096", "for the processes that load images"


def test_a_limit_of_the_user_accepts_files_that_may_be_bombs(
    task: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(MAX_PIXELS_VARIABLE)
    PIL.Image.new("1", (4200, 4200)).save("a.png")
    detect = ["detect", "net.cfg", "net.weights", "a.png", "--names", "pets.names"]
    assert "perhaps a decompression bomb; --max-pixels 17640000, or" in run(*detect).err
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "17640000")
    assert run(*detect).code == 0
    assert "more pixels than the limit of 9" in run(*detect, "--max-pixels", "9").err


def test_help_states_the_default(run: Run) -> None:
    assert f"default: {DEFAULT_MAX_PIXELS}" in " ".join(run("detect", "--help").out.split())
