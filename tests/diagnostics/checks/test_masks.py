"""Checks of mask files before a training."""

from __future__ import annotations

from pathlib import Path

import pytest

import darkpy
from darkpy.data.lists.text_files import read_data
from darkpy.diagnostics import preflight
from darkpy.diagnostics.checks import masks
from darkpy.finding import Location, Severity
from darkpy.training.setup import open_setup


def findings(folder: Path, texts: list[str]) -> list[tuple[Severity, str]]:
    """Check mask files with these texts: of five the first and the fourth are read, of others the first and third."""
    (folder / "mask").mkdir()
    paths = [str(folder / "images" / f"{number}.jpg") for number in range(len(texts))]
    for number, text in enumerate(texts):
        (folder / "mask" / f"{number}.txt").write_text(text)
    found = masks.check_mask_files(paths, 1, Location("train.txt"))
    return [(finding.severity, finding.message.replace(f"{folder}/", "")) for finding in found]


@pytest.fixture(autouse=True)
def two_files_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "MAX_READ_FILES", 2)


def test_no_mask_is_said_of_all_files_only(tmp_path: Path) -> None:
    ((severity, message),) = findings(tmp_path, ["cat", "0 1,2", "cat", "cat", "cat"])
    assert severity is Severity.WARNING
    assert message.startswith(
        "2 of the 3 mask files read (of 5) have wrong lines, which are left out; the first: mask/0"
    )


def test_files_without_a_usable_mask_are_all_read(tmp_path: Path) -> None:
    ((severity, message),) = findings(tmp_path, ["", "", "", "1 2,3", ""])
    assert severity is Severity.ERROR
    start, _, problem = message.partition("; ")
    assert start == "none of 5 mask files has a mask that can be used"
    assert problem == "the first problem: mask/3.txt:1: class 1 is not from 0 to 0"


def test_part_of_the_files_is_read_where_it_has_masks(tmp_path: Path) -> None:
    ((severity, message),) = findings(tmp_path, ["0 1,2", "cat", "0 1,2\ncat", "cat"])
    assert severity is Severity.WARNING and message.startswith("1 of the 2 mask files read (of 4) have wrong lines")


def test_empty_files_are_no_finding(tmp_path: Path) -> None:
    assert findings(tmp_path, ["", "cat", ""]) == []


def test_search_for_a_mask_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "MAX_SEARCHED_FILES", 3)
    ((severity, message),) = findings(tmp_path, ["cat"] * 4 + ["0 1,2"])
    assert severity is Severity.ERROR and message.startswith("none of the 3 mask files read (of 5) has a mask that can")


def test_images_without_a_mask_file_are_counted_over_the_whole_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preflight, "MAX_FILES", 1)
    cfg = "[net]\nwidth=8\nheight=8\nchannels=3\nbatch=1\n[convolutional]\nfilters=1\n[logistic]\n"
    Path("net.cfg").write_text(cfg)
    Path("my.data").write_text("train=list.txt\n")
    Path("list.txt").write_text("".join(f"images/{number}.png\n" for number in range(4)))
    for folder in ("images", "mask"):
        Path(folder).mkdir()
    Path("images/0.png").touch()
    for number, text in enumerate(("", "0 1,2\n")):
        Path(f"mask/{number}.txt").write_text(text)
    setup = open_setup(darkpy.plan("net.cfg"), read_data("my.data"), seed=0)
    (finding,) = preflight.check_files(setup)
    assert finding.message == "2 of 4 images have no mask file, they are skipped; the first: images/2.png"
