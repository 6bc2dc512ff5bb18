"""A small correct data set, to plant faults in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from darkpy.data.lists.text_files import read_data
from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset
from darkpy.diagnostics.doctor import Examination, examine
from darkpy.finding import Finding


@pytest.fixture(scope="session")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `darkpy sample` draws: 24 images for training, 8 for validation."""
    folder = tmp_path_factory.mktemp("made") / "shapes"
    for _ in write_synthetic_dataset(SyntheticConfig(images=24, valid=8, size=160, seed=0), folder):
        pass
    return folder


class Case(NamedTuple):
    """A cfg and its data, in a folder of their own."""

    folder: Path

    @property
    def cfg(self) -> Path:
        return self.folder / "sample.cfg"

    @property
    def data(self) -> Path:
        return self.folder / "sample.data"

    def image(self, number: int, split: str = "train") -> Path:
        return self.folder / split / f"{number:05}.jpg"

    def label(self, number: int, split: str = "train") -> Path:
        return self.image(number, split).with_suffix(".txt")

    def edit(self, name: str, old: str, new: str, count: int = 1) -> None:
        """Put `new` in the place of `old`, which must be there."""
        text = (self.folder / name).read_text()
        assert old in text
        (self.folder / name).write_text(text.replace(old, new, count))

    def line(self, text: str, start: str) -> str:
        """`sample.cfg:N` of the first line that begins with `text`, from the one on that holds `start`."""
        lines = self.cfg.read_text().splitlines()
        first = next(number for number, line in enumerate(lines) if start in line)
        return f"{self.cfg}:{next(n for n, line in enumerate(lines[first:], first + 1) if line.startswith(text))}"

    def examine(self, **more: Any) -> Examination:
        exam = examine(self.cfg, read_data(self.data), **more)
        for _ in exam.survey():
            pass
        return exam

    def findings(self, **more: Any) -> list[Finding]:
        return [one for one in self.examine(**more).findings if not one.is_note]


@pytest.fixture
def case(healthy: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """In a folder without the words of a test's name, among which pjreddie's rule for labels would find its own."""
    folder = tmp_path_factory.mktemp("case") / "shapes"
    shutil.copytree(healthy, folder)
    for name in ("train.txt", "valid.txt", "sample.data"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(str(healthy), str(folder)))
    return Case(folder)
