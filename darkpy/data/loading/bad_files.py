"""`bad.list` and `bad_label.list`: training images and label lines that could not be used."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from darkpy.errors import DarkpyWarning


class Problem(NamedTuple):
    """Unusable file or label line: its entry in one of the lists, and what is wrong with it."""

    is_label: bool
    entry: str
    message: str


class BadLists:
    """Counts problems, and appends each to its list the first time it occurs.

    files: occurrences of each entry of `bad.list`, an image or label file that could not be read.
    labels: occurrences of each entry of `bad_label.list`.
    Differs: AlexeyAB appends a line each time, through a shell command.
    """

    def __init__(self, folder: Path | None) -> None:
        """folder: place of the lists; None only counts."""
        self.files: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self._folder = folder

    def add(self, problems: Iterable[Problem]) -> list[Problem]:
        """Count problems. Returns: those that occurred for the first time."""
        new = []
        for problem in problems:
            counts = self.labels if problem.is_label else self.files
            counts[problem.entry] += 1
            if counts[problem.entry] == 1:
                new.append(problem)
        self._append("bad.list", [problem.entry for problem in new if not problem.is_label])
        self._append("bad_label.list", [problem.entry for problem in new if problem.is_label])
        return new

    def _append(self, name: str, lines: list[str]) -> None:
        if self._folder is None or not lines:
            return
        try:
            with (self._folder / name).open("a", encoding="utf-8", errors="surrogateescape") as stream:
                stream.writelines(f"{line}\n" for line in lines)
        except OSError as error:
            text = f"{self._folder / name}: cannot be written, problems are only counted: {error.strerror or error}"
            warnings.warn(text, DarkpyWarning, stacklevel=3)
            self._folder = None
