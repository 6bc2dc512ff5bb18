"""`darkpy detector calc_anchors`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run

LINE = ("detector", "calc_anchors", "my.data", "-num_of_clusters", "2", "-width", "100", "-height", "200")


@pytest.fixture(autouse=True)
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.data").write_text("classes=3\ntrain=train.txt\n")
    Path("train.txt").write_text("a.jpg\nb.jpg\n")
    Path("a.txt").write_text("0 .5 .5 .1 .1\n1 .5 .5 .6 .3\n")
    Path("b.txt").write_text("1 .5 .5 .5 .3\n0 .5 .5 .12 .1\n")


def test_prints_and_writes_what_alexeyabs_program_does(run: Run) -> None:
    code, out, err = run(*LINE)
    assert (code, err) == (0, "")
    assert out == (
        "\n num_of_clusters = 2, width = 100, height = 200 \n"
        " read labels from 2 images \n"
        "\r loaded \t image: 2 \t box: 4\n"
        " all loaded. \n"
        "\n calculating k-means++ ...\n"
        "\n iterations = 2 \n\n\n"
        "counters_per_class = 2, 2, 0\n"
        "\n avg IoU = 91.29 % \n"
        "\nSaving anchors to the file: anchors.txt \n"
        "anchors =  11, 20,  55, 60\n"
    )
    assert Path("anchors.txt").read_text() == " 11, 20,  55, 60"
    assert Path("counters_per_class.txt").read_text() == "counters_per_class = 2, 2, 0"
    assert not Path("cloud.png").exists()


@pytest.mark.parametrize(
    ("boxes", "count", "sizes", "anchors"),
    [
        (("0 .5 .5 .25 .5",) * 3, 4, "3 boxes have only 1 size", {" 25,100,  25,100,  25,100,  25,100"}),
        (("0 .5 .5 .25 .5",) * 9, 3, "9 boxes have only 1 size", {" 25,100,  25,100,  25,100"}),
        (("0 .5 .5 .1 .1", "0 .5 .5 .6 .3"), 2, None, {" 10, 20,  60, 60"}),
        (
            ("0 .5 .5 .1 .1", "0 .5 .5 .6 .3") * 2,
            3,
            "4 boxes have only 2 different sizes",
            {" 10, 20,  10, 20,  60, 60", " 10, 20,  60, 60,  60, 60"},
        ),
    ],
)
@pytest.mark.parametrize("restarts", ["1", "3"])
def test_too_few_sizes_are_repeated_with_one_warning(
    run: Run, boxes: tuple[str, ...], count: int, sizes: str | None, anchors: set[str], restarts: str
) -> None:
    """AlexeyAB's program printed the size of 39 equal boxes six times; it exits with 0."""
    Path("a.txt").write_text("\n".join(boxes))
    Path("b.txt").write_text("")
    code, out, err = run(*LINE[:4], str(count), *LINE[5:], "--restarts", restarts)
    assert code == 0 and " avg IoU = 100.00 % " in out
    warning = f"warning: {count} anchors are requested, but {sizes}: anchors repeat\n" if sizes else ""
    assert err == warning
    assert Path("anchors.txt").read_text() in anchors


def test_show_draws_and_the_seed_decides(run: Run) -> None:
    assert run(*LINE, "-show", "--seed", "5", "--restarts", "3").code == 0
    assert Path("cloud.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_labels_are_reported_and_listed(run: Run) -> None:
    Path("train.txt").write_text("a.jpg\nb.jpg\nc.jpg\n")
    Path("b.txt").write_text("1 .5 .5 1.5 .3\nword\n")
    code, out, err = run(*LINE)
    wrong = "Wrong label: b.txt - j = 0, x = 0.500000, y = 0.500000, width = 1.500000, height = 0.300000"
    assert code == 0
    assert f"\n\n{wrong} \n" in out
    assert "Can't open label file. (This can be normal only if you use MSCOCO): c.txt \n" in out
    assert Path("bad_label.list").read_text() == f"{wrong}\n" and Path("bad.list").read_text() == "c.txt\n"
    assert err == "warning: problems in label files: 1; the first: b.txt:2: 'word' is not `class x y w h`\n"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("my.data -num_of_clusters 2", "the size of the network's input is not given"),
        ("my.data -width 0 -height 5", "0 is not in the range"),
        ("nowhere.data -width 32 -height 32", "nowhere.data: cannot be read"),
        ("empty.data -width 32 -height 32", "data/train.list: cannot be read"),
        ("odd.data -width 32 -height 32", "classes=many is not a number of classes"),
        ("huge.data -width 32 -height 32", "classes=99999"),
        ("absent.data -width 32 -height 32", "gone/0.jpg: file not found, nor is any other image of the list"),
        (
            "unlabeled.data -width 32 -height 32",
            "no image of the list has labels; those of the first are expected in d.txt",
        ),
        ("boxless.data -width 32 -height 32", "no label file has a box"),
    ],
)
def test_mistake_is_one_message_and_nothing_is_written(run: Run, line: str, told: str) -> None:
    Path("empty.data").write_text("classes=3\n")
    Path("odd.data").write_text("classes=many\ntrain=train.txt\n")
    Path("huge.data").write_text(f"classes={'9' * 5000}\ntrain=train.txt\n")
    for name, images in {"absent": "gone/0.jpg\ngone/1.jpg", "unlabeled": "d.jpg", "boxless": "c.jpg"}.items():
        Path(f"{name}.data").write_text(f"classes=3\ntrain={name}.txt\n")
        Path(f"{name}.txt").write_text(images)
    for name in ("c.txt", "d.jpg"):
        Path(name).touch()
    before = sorted(Path().iterdir())
    code, out, err = run("detector", "calc_anchors", *line.split())
    assert code == 2 and told in err and err.count("error: ") == 1 and "Can't open" not in out
    assert sorted(Path().iterdir()) == before


def test_it_starts_without_torch() -> None:
    code = "import sys; from darkpy.__main__ import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    words = [sys.executable, "-c", code, *LINE]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.endswith("0 False\n")
