"""One case of a fuzzer: a reader gets a damaged file and has to answer with a result or a DarkpyError."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from types import FrameType

import torch

from darkpy.__main__ import main
from darkpy.errors import DarkpyError
from darkpy.finding import printable
from darkpy.training.darknet_log import BELL, CLEAR_SCREEN
from tests.fuzz.mutations import mutate

MAX_CPU_SECONDS, HANG_CPU_SECONDS = 2.0, 20.0
MAX_GROWTH_MB = 700
MAX_MESSAGE_LENGTH = 100_000
OUT = "out"
"""Folder that a command may write into."""
WRITTEN_BESIDE = {"bad.list", "bad_label.list", "predictions.jpg", "anchors.txt", "counters_per_class.txt", "backup"}
"""What darknet's programs write into the working directory; the last is the folder where `backup=` names none."""


class Hang(BaseException):
    """A case that takes too long; no `except Exception` of a reader takes it for a damaged file."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader with sound files for it.

    files: those to damage, by name, several versions of each. kinds: how, see `mutate`. fixed: others that it needs.
    read: gets the folder with all of them; None for `commands`, one of which is run.
    repair: undoes accidents that would be no accident: a folder for results elsewhere.
    quick, thorough: number of cases of the default suite and of the slow one.
    """

    name: str
    files: Mapping[str, Sequence[bytes]]
    kinds: str
    read: Callable[[Path], object] | None = None
    commands: Sequence[Sequence[str]] = ()
    repair: Callable[[bytes], bytes] = bytes
    fixed: Mapping[str, bytes] = field(default_factory=dict)
    quick: int = 300
    thorough: int = 20_000


def fuzz(target: Target, folder: Path, cases: range) -> dict[str, str]:
    """Run cases. Returns: a report of each distinct fault, by its place in the code."""
    for name, data in {**{name: samples[0] for name, samples in target.files.items()}, **target.fixed}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / OUT).mkdir(exist_ok=True)
    previous = signal.signal(signal.SIGPROF, _hang)
    before, start_mb = Path.cwd(), _peak_mb()
    os.chdir(folder)
    faults: dict[str, str] = {}
    try:
        for case in cases:
            rng = random.Random(f"{target.name} {case}")
            name = rng.choice(list(target.files))
            samples = target.files[name]
            data = target.repair(mutate(rng, rng.choice(samples), samples, target.kinds))
            (folder / name).write_bytes(data)
            fault = _run(target, rng, folder)
            peak_mb = _peak_mb()
            if peak_mb - start_mb > MAX_GROWTH_MB:
                fault, start_mb = ("memory", f"the process grew to {peak_mb} MB"), peak_mb
            if fault is not None and fault[0] not in faults:
                faults[fault[0]] = f"case {case} ({name}, {len(data)} bytes {data[:80]!r}): {fault[1]}"
            (folder / name).write_bytes(samples[0])
            for written in (folder / OUT, folder / "backup") if target.commands else ():
                shutil.rmtree(written, ignore_errors=True)
            (folder / OUT).mkdir(exist_ok=True)
    finally:
        os.chdir(before)
        signal.signal(signal.SIGPROF, previous)
    return faults


def _run(target: Target, rng: random.Random, folder: Path) -> tuple[str, str] | None:
    """Run one case. Returns: the place and a report of its fault, None for none."""
    known = {*target.files, *target.fixed, *WRITTEN_BESIDE, OUT}
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace") for _ in range(2))
    command = [*rng.choice(target.commands)] if target.commands else []
    begin = time.process_time()
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            warnings.simplefilter("always")
            signal.setitimer(signal.ITIMER_PROF, HANG_CPU_SECONDS)
            if target.read is not None:
                target.read(folder)
            else:
                code = main(command)
                if code not in (0, 1, 2):
                    return f"exit code {code}", f"{command}"
    except DarkpyError as error:
        if len(str(error)) > MAX_MESSAGE_LENGTH:
            return "message", f"its message has {len(str(error))} letters"
        print(error, file=stderr)
    except (Exception, Hang) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/darkpy/" in frame.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return f"{type(error).__name__} {place}", f"{command} {''.join(traceback.format_exception(error)[-6:])}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdin = sys.__stdin__
        torch.set_default_dtype(torch.float32)
    seconds = time.process_time() - begin
    if seconds > MAX_CPU_SECONDS:
        return "slow", f"{command} {seconds:.1f} s"
    texts = [str(message.message) for message in caught]
    for stream in (stdout, stderr):
        stream.seek(0)
        texts.append(stream.read())
    # the title that AlexeyAB's program writes on the terminal, for parsers of its log; others' files cannot
    own_sequences = ("\r", *((CLEAR_SCREEN, BELL) if "--darknet-log" in command else ()))
    for text in texts:
        plain = reduce(lambda rest, sequence: rest.replace(sequence, ""), own_sequences, text)
        if plain != printable(plain, lines=True):
            match = re.search(r"[^ -~\n\t]", plain)
            return "terminal", f"{command} {plain[max(match.start() - 60, 0) :][:160]!r}" if match else plain
    stray = {path.name for path in folder.iterdir() if path.name not in known}
    return ("stray file", f"{command} {stray}") if stray else None


def _hang(number: int, frame: FrameType | None) -> None:
    raise Hang


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
