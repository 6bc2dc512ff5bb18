"""The progress bar."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from darkpy.cli import console
from darkpy.cli.console import bar_line, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Seconds, which the test lets pass."""
    now = [0.0]
    monkeypatch.setattr(console, "perf_counter", lambda: now[0])
    yield now


def take(clock: list[float], seconds: float, count: int = 4) -> Iterator[int]:
    for number in range(count):
        clock[0] += seconds
        yield number


def test_line_tells_how_far_how_fast_and_how_long() -> None:
    assert bar_line(5, 20, 10, 80) == f"[{'#' * 10}{'.' * 30}] 5/20  0.5/s  0:30 left"
    assert bar_line(1, 9000, 1, 60).endswith(" 1/9000  1/s  2:29:59 left")


@pytest.mark.parametrize("columns", [1, 10, 30, 40, 80, 200])
def test_line_is_narrower_than_the_terminal(columns: int) -> None:
    assert len(bar_line(99, 100, 5000, columns)) < columns


def test_bar_stands_between_items_and_is_gone_in_the_end(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for item in track(take(clock, 2), 4):
        terminal.write(f"item {item}\n")
    first, *others = terminal.getvalue().split("\n")
    assert first == "item 0"
    for done, line in enumerate(others[:3], start=1):
        bar, gone, printed = line.partition("\r\033[K")
        assert f" {done}/4  0.5/s" in bar and gone and printed == f"item {done}"
    assert others[3] == ""


def test_quick_work_shows_no_bar(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(track(take(clock, 0.1), 4)) == [0, 1, 2, 3]
    assert terminal.getvalue() == ""


def test_no_terminal_no_bar(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    assert list(track(take(clock, 100), 4)) == [0, 1, 2, 3]
    assert log.getvalue() == ""


def test_bar_is_gone_when_work_breaks_off(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def broken() -> Iterator[int]:
        yield from take(clock, 2, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(track(broken(), 4))
    assert terminal.getvalue().endswith("\r\033[K")
