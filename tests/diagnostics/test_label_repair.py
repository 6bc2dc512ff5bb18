"""Following the advice on labels that all have the same mistake: the command of the first remedy fixes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import darkpy
from darkpy.__main__ import main
from darkpy.data.formats.label_repair import LabelMistake, correct_labels
from darkpy.data.lists.image_list import open_list
from darkpy.data.lists.text_files import read_data
from darkpy.diagnostics.doctor import examine
from darkpy.training.reports import UpdateReport
from tests.diagnostics.conftest import Case

SIDE_PX = 160
SPLITS = ("train", "valid")
Plant = Callable[[np.ndarray], np.ndarray]
"""Makes class, x, y, w, h of each box what the mistake makes of them."""


def to_corners(rows: np.ndarray) -> np.ndarray:
    return np.column_stack([rows[:, 0], rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2])


PLANTS: dict[str, Plant] = {
    "classes-from-1": lambda rows: rows + np.eye(5)[0],
    "pixels": lambda rows: rows * [1, *(SIDE_PX,) * 4],
    "percent": lambda rows: rows * [1, *(100,) * 4],
    "corner-pixels": lambda rows: to_corners(rows) * [1, *(SIDE_PX,) * 4],
    "corners": to_corners,
    "top-left": lambda rows: np.column_stack([rows[:, 0], rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 3:]]),
}


def plant(case: Case, mistake: str, splits: tuple[str, ...] = SPLITS) -> None:
    for split in splits:
        for file in (case.folder / split).glob("*.txt"):
            rows = PLANTS[mistake](np.loadtxt(file, ndmin=2))
            file.write_text(
                "".join(f"{int(row[0])} " + " ".join(f"{value:.9g}" for value in row[1:]) + "\n" for row in rows)
            )


class Labels(NamedTuple):
    class_N: np.ndarray
    box_N4: np.ndarray


def labels(data: Path, split: str) -> Labels:
    table = open_list(data, split).read_labels()
    return Labels(table.class_N, table.box_N4)


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def follow_advice(case: Case) -> Case:
    """The repaired data set, with the cfg, after the command of doctor's first finding."""
    finding = case.findings()[0]
    assert finding.name == "labels-unusable"
    command = finding.remedies[0].command
    assert finding.hints[0] == str(finding.remedies[0]) and command[0] == "darkpy"
    before = files_of(case.folder)
    assert main(command[1:]) == 0
    folder = Path(command[-1])
    assert {path: text for path, text in files_of(case.folder).items() if folder not in path.parents} == before
    (folder / "sample.cfg").write_bytes(case.cfg.read_bytes())
    (folder / f"{folder.name}.data").rename(folder / "sample.data")
    return Case(folder)


@pytest.mark.parametrize("mistake", PLANTS)
def test_labels_are_the_originals_when_the_first_advice_is_followed(case: Case, mistake: str) -> None:
    originals = [labels(case.data, split) for split in SPLITS]
    plant(case, mistake)
    cured = follow_advice(case)
    for split, original in zip(SPLITS, originals, strict=True):
        repaired = labels(cured.data, split)
        assert repaired.class_N.tolist() == original.class_N.tolist()
        np.testing.assert_allclose(repaired.box_N4, original.box_N4, rtol=0, atol=1e-6)
    assert cured.findings() == []


@pytest.mark.parametrize(
    "mistake", [pytest.param(name, marks=() if name == "corners" else pytest.mark.slow) for name in PLANTS]
)
def test_network_learns_when_the_first_advice_is_followed(case: Case, mistake: str) -> None:
    plant(case, mistake)
    cured = follow_advice(case)
    edits = (
        *(("width=128", "width=64"), ("height=128", "height=64"), ("burn_in=100", "burn_in=10")),
        *(("steps=1100,1400", "steps=18,19"), ("max_batches=1500", "max_batches=20")),
    )
    for old, new in edits:
        cured.edit("sample.cfg", old, new)
    losses: list[float] = []

    class Losses:
        def on_update(self, report: UpdateReport) -> None:
            losses.append(report.loss)

    darkpy.train(cured.cfg, cured.data, device="cpu", workers=0, chart=False, callbacks=[Losses()])
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5]), losses


def test_sides_of_images_that_are_not_square_divide_their_own_axes() -> None:
    class_N, size_px_N2 = np.array([3, 0]), np.array([[200.0, 100.0], [50.0, 400.0]])
    box_px_N4 = np.array([[20.0, 10.0, 60.0, 40.0], [10.0, 40.0, 30.0, 120.0]])
    found = correct_labels(LabelMistake.CORNER_PIXELS, class_N, box_px_N4, size_px_N2)
    assert found[0].tolist() == [3, 0]
    np.testing.assert_allclose(found[1], [[0.2, 0.25, 0.2, 0.3], [0.4, 0.2, 0.4, 0.2]])


@pytest.mark.parametrize("mistake", ["classes-from-1", "pixels", "corners"])
def test_list_without_the_mistake_keeps_its_labels(
    case: Case, mistake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    original = labels(case.data, "valid")
    plant(case, mistake, ("train",))
    cured = follow_advice(case)
    assert f"valid: the labels do not have the mistake {mistake}" in capsys.readouterr().err
    np.testing.assert_allclose(labels(cured.data, "valid").box_N4, original.box_N4, rtol=0, atol=1e-9)
    assert labels(cured.data, "valid").class_N.tolist() == original.class_N.tolist()


def test_correct_labels_are_not_repaired(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    for mistake in ("classes-from-1", "pixels", "percent", "corner-pixels", "corners"):
        out = case.folder / "new"
        assert main(("dataset", "repair", str(case.data), "--mistake", mistake, "--out", str(out))) == 2
        assert f"do not have the mistake {mistake}" in capsys.readouterr().err and not out.exists()


def test_advice_names_a_folder_in_which_labels_are_found(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(case, "pixels")
    monkeypatch.chdir(case.folder)
    Path("raw").mkdir()
    data = case.data.rename("raw/set.data")
    finding = examine(case.cfg, read_data(data)).findings[0]
    assert finding.remedies[0].command[-1] == "set-repaired"
    assert main(finding.remedies[0].command[1:]) == 0


def test_advice_can_be_followed_again(case: Case) -> None:
    plant(case, "pixels")
    assert [follow_advice(case).folder.name for _ in range(3)] == ["sample-repaired", "sample-repaired-2", "repaired"]


def test_difficult_objects_are_repaired_too(case: Case) -> None:
    plant(case, "pixels")
    folder = case.folder / "difficult"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number:05}.txt").write_text("2 80 40 16 32\n")
    (case.folder / "difficult.txt").write_text("".join(f"{folder}/{number:05}.jpg\n" for number in range(8)))
    case.data.write_text(f"{case.data.read_text()}difficult={case.folder}/difficult.txt\n")
    repaired = labels(follow_advice(case).data, "difficult")
    assert repaired.class_N.tolist() == [2] * 8
    np.testing.assert_allclose(repaired.box_N4, [[0.5, 0.25, 0.1, 0.2]] * 8, rtol=0, atol=1e-9)


def test_image_without_labels_does_not_become_one_without_objects(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(case, "pixels")
    case.label(3).unlink()
    case.image(4).write_text("no image")
    out = case.folder.with_name("new set")
    assert main(("dataset", "repair", str(case.data), "--mistake", "pixels", "--out", str(out))) == 0
    err = capsys.readouterr().err
    assert "images have no labels and are left out" in err and "images cannot be read and are left out" in err
    assert len(open_list(out / "new set.data").images) == 22
