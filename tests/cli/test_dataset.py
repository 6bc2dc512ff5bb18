"""`darkpy dataset`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Run, write_picture

XML = """<annotation><size><width>64</width><height>32</height></size><object><name>{}</name>
<difficult>{}</difficult><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>19</xmax><ymax>11</ymax></bndbox></object>
</annotation>"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_voc(count: int = 5) -> None:
    Path("voc").mkdir()
    for number in range(count):
        Path(f"voc/{number}.xml").write_text(XML.format(("cat", "dog")[number % 2], int(number == 1)))
        write_picture(Path(f"voc/{number}.jpg"), 64, 32)


def test_voc_becomes_a_set_to_train_on(run: Run) -> None:
    write_voc()
    code, out, err = run("dataset", "from-voc", "voc", "pets", "--valid", ".4", "-seed", "2")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "pets: 5 pictures (train 3, valid 2)",
        "4 boxes: cat 3, dog 1",
        "1 difficult ones apart",
        "pets/pets.data: train=train.txt, valid=valid.txt. Train with:",
        "  darkpy train CFG pets/pets.data",
    ]
    assert Path("pets/pictures/0.txt").read_text() == "0 0.15625000 0.18750000 0.25000000 0.25000000\n"


def test_names_tell_the_classes_and_their_order(run: Run) -> None:
    write_voc()
    Path("own.names").write_text("mouse\ncat\n")
    code, out, err = run("dataset", "from-voc", "voc", "pets", "--names", "own.names")
    assert code == 0 and "3 boxes: mouse 0, cat 3" in out
    assert err == "warning: 2 objects are called 'dog', which is no class: they are left out\n"


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("<annotation/>", "voc/bad.xml: the picture's width is missing"),
        ('<!DOCTYPE a [<!ENTITY x "x">]><annotation/>', "voc/bad.xml: declares a document type"),
    ],
)
def test_bad_annotation_is_one_error_and_nothing_is_written(run: Run, bad: str, told: str) -> None:
    write_voc()
    Path("voc/bad.xml").write_text(bad)
    code, out, err = run("dataset", "from-voc", "voc", "pets")
    assert (code, out) == (2, "") and told in err and err.startswith("error: ") and err.count("error") == 1
    assert not Path("pets").exists()


def test_dataset_starts_without_torch() -> None:
    write_voc()
    code = "import sys; from darkpy.__main__ import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    words = [sys.executable, "-c", code, "dataset", "from-voc", "voc", "pets"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.endswith("0 False\n")
