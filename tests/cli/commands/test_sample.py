"""`darkpy sample`."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Run

WEIGHTS = Path(__file__).resolve().parents[3] / "weights"
FEW = ("--images", "2", "--valid", "1", "--size", "64")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_commands_to_try_next_name_what_is_there(run: Run) -> None:
    code, out, err = run("sample", "my shapes", *FEW)
    assert (code, err) == (0, "")
    heading, *commands = out.splitlines()
    assert heading == "my shapes: 2 images to train on, 1 for validation. Next:"
    words = [word for command in commands for word in shlex.split(command) if word.startswith("my shapes")]
    assert {word for word in words if not Path(word).exists()} == {
        "my shapes/backup/sample_final.weights",  # comes with the first command
        "my shapes/drawn",
    }
    assert [shlex.split(command)[:2] for command in commands] == [
        ["darkpy", "train"],
        ["darkpy", "detector"],
        ["darkpy", "detect"],
    ]


def test_options_say_how_many_and_with_what(run: Run) -> None:
    run("sample", "shapes", *FEW, "--voc-xml", "--seed", "3")
    assert sorted(path.name for path in Path("shapes/train").iterdir()) == [
        *("00000.jpg", "00000.txt", "00000.xml"),
        *("00001.jpg", "00001.txt", "00001.xml"),
    ]
    image = Path("shapes/train/00000.jpg").read_bytes()
    assert run("sample", "shapes", *FEW, "--force").code == 0
    assert Path("shapes/train/00000.jpg").read_bytes() != image


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("sample", "missing argument 'DIR'"),
        ("sample .", "is not empty"),
        ("sample shapes --images 0", "0 is not in the range"),
        ("sample shapes --size 8", "8 is not in the range"),
        ("sample shapes --seed -1", "-1 is not in the range"),
        ("sample images", "one of the darknets would not find labels"),
    ],
)
def test_mistake_is_one_message_and_nothing_is_written(run: Run, line: str, told: str) -> None:
    Path("mine.txt").write_text("mine")
    code, out, err = run(*line.split())
    assert (code, out) == (2, "")
    assert told in err and err.count("error: ") == 1
    assert [path.name for path in Path().iterdir()] == ["mine.txt"]


def mean_precision(out: str) -> float:
    """The number of `mean average precision (mAP@0.50) = 0.972854, or 97.29 %`."""
    line = next(line for line in out.splitlines() if "mean average precision" in line)
    return float(line.partition("= ")[2].partition(",")[0])


def test_kept_weights_know_the_shapes(run: Run) -> None:
    run("sample", "shapes", "--images", "1")
    assert (WEIGHTS / "sample.cfg").read_bytes() == Path("shapes/sample.cfg").read_bytes()
    assert (WEIGHTS / "sample.names").read_bytes() == Path("shapes/sample.names").read_bytes()
    words = ("detector", "map", "shapes/sample.data", WEIGHTS / "sample.cfg", WEIGHTS / "sample.weights")
    assert mean_precision(run(*map(str, words)).out) == pytest.approx(0.9729, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
def test_network_learns_the_images(run: Run, dialect: str) -> None:
    run("sample", "shapes")
    assert run("train", "shapes/sample.cfg", "shapes/sample.data", "--dialect", dialect, "--device", "cpu").code == 0
    weights = "shapes/backup/sample_final.weights"
    words = ("detector", "map", "shapes/sample.data", "shapes/sample.cfg", weights, "--dialect", dialect)
    assert mean_precision(run(*words).out) >= 0.9
