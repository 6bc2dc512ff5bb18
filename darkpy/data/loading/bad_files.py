"""`bad.list` and `bad_label.list`: what of the training data could not be used."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from darkpy.errors import DarkpyWarning


class Problem(NamedTuple):
    """A file that is no good, in whole or in part: its line in one of the lists, and what is wrong with it."""

    is_label: bool
    entry: str
    message: str


class BadLists:
    """Counts problems, and appends each to its list when it is first met.

    files: how often each file of `bad.list` was met, images and label files that could not be read.
    labels: how often each line of `bad_label.list` was met.
    Differs: AlexeyAB appends a line each time, and has the shell do it.
    """

    def __init__(self, folder: Path | None) -> None:
        """folder: where the lists are; None counts only."""
        self.files: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self._folder = folder

    def note(self, problems: Iterable[Problem]) -> list[Problem]:
        """Count problems; those that were not met before are returned."""
        fresh = []
        for problem in problems:
            met = self.labels if problem.is_label else self.files
            met[problem.entry] += 1
            if met[problem.entry] == 1:
                fresh.append(problem)
        self._append("bad.list", [problem.entry for problem in fresh if not problem.is_label])
        self._append("bad_label.list", [problem.entry for problem in fresh if problem.is_label])
        return fresh

    def _append(self, name: str, lines: list[str]) -> None:
        if self._folder is None or not lines:
            return
        try:
            with (self._folder / name).open("a", encoding="utf-8", errors="surrogateescape") as stream:
                stream.writelines(f"{line}\n" for line in lines)
        except OSError as error:
            text = f"{self._folder / name}: cannot be written, problems are counted only: {error.strerror or error}"
            warnings.warn(text, DarkpyWarning, stacklevel=3)
            self._folder = None
