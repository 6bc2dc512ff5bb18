"""Messages and progress bars on stderr; stdout holds results only."""

from __future__ import annotations

import io
import math
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import TypeVar

import click

from darkpy.errors import ConfigError, DarkpyError
from darkpy.finding import printable
from darkpy.process import flush_libraries, format_clock

Item = TypeVar("Item")

STDOUT_DESCRIPTOR, STDERR_DESCRIPTOR = 1, 2
ERASE_LINE = "\r\033[K"
"""Terminal sequence that clears the cursor's line."""
PROGRESS_DELAY_SECONDS = 1.0
"""Work that ends sooner shows no progress bar."""
MAX_EXAMPLES = 5
"""Names listed in a warning about many files."""

_SILENT_KEY = "darkpy.silent"


class StandardOutputError(DarkpyError):
    """Results cannot be written to standard output: a full disk, for example."""


def echo(text: object = "", *, nl: bool = True, err: bool = False) -> None:
    """Print a result on stdout (or stderr); what is not printable in it is escaped.

    Raises: StandardOutputError; BrokenPipeError when its reader has gone.
    """
    _print(printable(text, lines=True), nl=nl, err=err)


def control(sequence: str) -> None:
    """Print a control sequence of darknet's output on stdout, terminal or not; `echo` would escape it."""
    _print(sequence, nl=False, color=True)


def reserve_stdout(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    """Callback of options for programs (`--json`): nothing but the result goes to standard output."""
    if value:
        context.with_resource(_results_only())
    return value


@contextmanager
def _results_only() -> Iterator[None]:
    """Send what libraries print on standard output themselves (oneDNN's verbose lines) to standard error.

    No effect where standard output is not the process's own, as in tests.
    """
    stream = sys.stdout
    try:
        is_own = isinstance(stream, io.TextIOWrapper) and stream.fileno() == STDOUT_DESCRIPTOR
    except (OSError, ValueError):
        is_own = False
    if not is_own:
        yield
        return
    stream.flush()
    descriptor = os.dup(STDOUT_DESCRIPTOR)
    os.dup2(STDERR_DESCRIPTOR, STDOUT_DESCRIPTOR)
    sys.stdout = results = open(  # noqa: SIM115
        descriptor, "w", encoding=stream.encoding, errors=stream.errors, closefd=False
    )
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            results.flush()
        flush_libraries()
        os.dup2(descriptor, STDOUT_DESCRIPTOR)
        os.close(descriptor)
        sys.stdout = stream


def error(error: Exception) -> None:
    """Print an error with its hint; of a ConfigError each finding with its severity."""
    if not isinstance(error, ConfigError):
        _print_line(f"error: {error}")
        return
    for finding in error.shown:
        _print_line(f"{finding.severity.value}: {finding}")
    if error.rest:
        _print_line(error.rest)


def warn(message: object) -> None:
    if not _is_silent():
        _print_line(f"warning: {message}")


def warn_many(message: str, items: Sequence[str]) -> None:
    """Print one warning with the number of items and the first of them; nothing when there are none."""
    if items:
        examples = ", ".join(items[:MAX_EXAMPLES])
        warn(f"{len(items)} {message}: {examples}{', ...' if len(items) > MAX_EXAMPLES else ''}")


def info(message: str) -> None:
    if not _is_silent():
        _print_line(f"note: {message}")


def silence() -> None:
    """Suppress warnings and notes of this command: another process of the same command prints them."""
    click.get_current_context().meta[_SILENT_KEY] = True


def track(items: Iterable[Item], total: int) -> Iterator[Item]:
    """Yield the items and show a progress bar between them, if stderr is a terminal.

    The bar is erased while an item is in use, so that its output starts on an empty line.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    start = perf_counter()
    is_shown = False
    try:
        for done, item in enumerate(items, start=1):
            if is_shown:
                write_progress(ERASE_LINE)
            yield item
            seconds = perf_counter() - start
            is_shown = seconds > PROGRESS_DELAY_SECONDS and done < total
            if is_shown:
                write_progress(bar_line(done, total, seconds, shutil.get_terminal_size().columns))
    finally:
        if is_shown:
            write_progress(ERASE_LINE)


def bar_line(done: int, total: int, seconds: float, columns: int) -> str:
    """`[####....] 120/5000  31.2/s  2:36 left`, narrower than the terminal."""
    left = round(seconds / done * (total - done))
    clock = format_clock(left)
    text = f" {done}/{total}  {done / seconds:.3g}/s  {clock} left"
    width = min(40, columns - len(text) - 3)
    filled = max(0, width) * done // total
    bar = f"[{'#' * filled}{'.' * (width - filled)}]" if width > 0 else ""
    return f"{bar}{text}"[: columns - 1]


def finite_or_none(number: float) -> float | None:
    """JSON has neither NaN nor infinity: None stands for them."""
    return number if math.isfinite(number) else None


def _is_silent() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and _SILENT_KEY in context.meta


def _print_line(text: str) -> None:
    """Print a line on stderr, erasing a progress bar first."""
    if sys.stderr.isatty():
        write_progress(ERASE_LINE)
    _print(printable(text, lines=True), err=True)


def _print(text: str, *, nl: bool = True, err: bool = False, color: bool | None = None) -> None:
    if err:
        write_progress(f"{text}\n" if nl else text)
        return
    try:
        click.echo(text, nl=nl, color=color)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StandardOutputError(f"standard output: {error.strerror or error}") from error


def write_progress(text: str) -> None:
    """Write to stderr without a line end, for lines that change; no effect if stderr is closed."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
