"""How the program ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
START = "import atexit, sys\nfrom darkpy.__main__ import leave\natexit.register(print, 'taken to pieces')\n"


def ended(code: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, check=False, cwd=ROOT)
    return done.returncode, done.stdout


def test_process_with_torch_ends_at_once_with_its_output_written() -> None:
    assert ended("import torch\nprint('found')\nleave(2)") == (2, "found\n")


@pytest.mark.parametrize(
    "reason",
    [
        "pass",  # no torch: there is nothing to gain
        "import torch, pytest",
        "import torch; sys.settrace(lambda *event: None)",
        "import torch, threading, time; threading.Thread(target=time.sleep, args=(1,)).start()",
        "import torch, time, multiprocessing; multiprocessing.Process(target=time.sleep, args=(1,)).start()",
    ],
    ids=["no torch", "pytest", "debugger", "thread", "process"],
)
def test_process_that_somebody_waits_for_ends_as_python_does(reason: str) -> None:
    assert ended(f"{reason}\nleave(130)") == (130, "taken to pieces\n")


def test_daemons_such_as_a_loaders_processes_end_with_the_program() -> None:
    program = (
        "import torch, time, multiprocessing\n"
        "child = multiprocessing.Process(target=time.sleep, args=(600,), daemon=True)\n"
        "child.start()\nprint(child.pid)\nleave(2)"
    )
    code, out = ended(program)
    assert code == 2 and "taken to pieces" not in out
    with pytest.raises(ProcessLookupError):
        os.kill(int(out), 0)
