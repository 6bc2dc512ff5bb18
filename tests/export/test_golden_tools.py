"""darknet's weight tools write, and print, what the C programs do, byte for byte where those are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkpy.__main__ import main

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "weight-tools.npz"))
CASES = [name.removesuffix(".words") for name in GOLDEN if name.endswith(".words")]
WRITING = [case for case in CASES if f"{case}.out" in GOLDEN]
HEADER = 20


def run(case: str, folder: Path) -> None:
    """The golden's command line, in a folder with its files."""
    fork = case.partition(".")[0]
    (folder / "net.cfg").write_bytes(GOLDEN[f"{case}.cfg"].tobytes())
    for name in GOLDEN:
        if name.startswith(case) and name.endswith(".weights"):
            (folder / name.removeprefix(f"{case}.")).write_bytes(GOLDEN[name].tobytes())
    assert main([*GOLDEN[f"{case}.words"].tolist(), "--dialect", fork]) == 0


def numbers(data: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.frombuffer(data, "<f4", offset=HEADER)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", WRITING)
def test_file_is_the_c_programs(case: str, tmp_path: Path) -> None:
    run(case, tmp_path)
    actual, expected = (tmp_path / "out.weights").read_bytes(), GOLDEN[f"{case}.out"].tobytes()
    assert len(actual) == len(expected)
    if case.endswith("rescale"):  # darknet's sum of a filter depends on how it was compiled
        np.testing.assert_allclose(numbers(actual), numbers(expected), rtol=3e-6, atol=1e-7)
    elif case.endswith("normalize") and "de" not in case:
        departed = numbers(actual)[numbers(actual) != numbers(expected)]
        assert set(departed) == {1} and set(numbers(expected)[numbers(actual) != numbers(expected)]) == {0}
        assert actual[:HEADER] == expected[:HEADER]
    else:
        assert actual == expected


@pytest.mark.parametrize("case", [case for case in CASES if f"{case}.text" in GOLDEN])
def test_text_is_the_c_programs(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(case, tmp_path)
    actual, expected = capsys.readouterr().out, GOLDEN[f"{case}.text"].tobytes().decode()
    if case.startswith("alexeyab"):  # what it says of itself and of what it reads
        expected = expected[expected.index("\nFloating" if case.endswith("ops") else "\nConnected") + 1 :]
    if case.endswith("statistics"):  # of more layers, and of all weights
        assert {line for line in expected.splitlines() if not line.startswith("Weights")} <= {*actual.splitlines()}
    else:
        assert actual == expected
