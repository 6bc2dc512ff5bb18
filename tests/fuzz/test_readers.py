"""Damaged files in every reader: a result or a DarkpyError, in bounded time and memory, with printable messages."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.fuzz.harness import fuzz
from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
SHARED_MEMORY = Path("/dev/shm")  # a case writes two files, for which a disk takes longer than the reader


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which sound files are made, once for all readers."""
    return tmp_path_factory.mktemp("made")


def _check(name: str, made: Path, *, thorough: bool) -> None:
    target = TARGETS[name](made / "trained")
    cases = range(target.quick, target.quick + target.thorough) if thorough else range(target.quick)
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as folder:
        faults = fuzz(target, Path(folder), cases)
    assert not faults, "\n\n".join(faults.values())


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_gives_a_result_or_a_plain_error(name: str, made: Path) -> None:
    _check(name, made, thorough=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_thousands_of_damaged_files_give_results_or_plain_errors(name: str, made: Path) -> None:
    """20,000 cases for each reader, fewer for whole command lines."""
    _check(name, made, thorough=True)
