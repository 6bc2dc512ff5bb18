"""Standard streams that are closed, full or a pipe without a reader, and memory that does not suffice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import darkpy
from tests.cli.conftest import CFG, Run


def shell(line: str) -> tuple[int, str]:
    command = ["bash", "-o", "pipefail", "-c", line.replace("darkpy ", f"{sys.executable} -m darkpy ", 1)]
    environment = {**os.environ, "PYTHONPATH": str(Path(darkpy.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("darkpy show net.cfg >&-", 0),
        ("darkpy show net.cfg 2>&-", 0),
        ("darkpy show net.cfg >&- 2>&-", 0),
        ("darkpy show net.cfg 2>/dev/full", 0),
        ("darkpy show net.cfg >/dev/full", 2),
        ("darkpy doctor net.cfg | true", 141),
        ("darkpy show net.cfg 2>&1 | true", 141),
        ("darkpy --help | true", 141),
    ],
)
def test_stream_that_takes_nothing_is_no_bug(task: Path, line: str, code: int) -> None:
    Path("net.cfg").write_text(CFG.replace("filters=7", "filters=7\nfitlers=7"))
    returned, text = shell(line)
    assert returned == code and "Traceback" not in text


@pytest.mark.slow
@pytest.mark.parametrize("rest", ["--darknet-log | true", ">&- 2>&-", "--darknet-log >/dev/full"])
def test_training_goes_on_without_its_streams(task: Path, rest: str) -> None:
    Path("net.cfg").write_text(CFG.replace("[net]", "[net]\nmax_batches=3\nlearning_rate=.001\nbogus=1"))
    Path("a.txt").write_text("0 .5 .5 .5 .25\n")
    Path("list.txt").write_text("a.png\n")
    Path("pets.data").write_text("classes=2\nnames=pets.names\ntrain=list.txt\n")
    returned, text = shell(f"darkpy train net.cfg pets.data --workers 0 {rest}")
    assert returned == 0 and "Traceback" not in text
    assert Path("backup/net_final.weights").is_file()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("could not create a primitive"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_too_little_memory_is_one_error(
    task: Path, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(darkpy, "plan", fail)
    code, _, err = run("show", "net.cfg")
    assert code == 2 and err.startswith("error: out of memory: ") and len(err.splitlines()) == 2


def test_system_error_without_a_file_is_not_said_to_be_of_standard_output(
    task: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(darkpy, "plan", fail)
    assert run("show", "net.cfg")[::2] == (2, "error: Too many open files\n")


def interrupted(module: str, start: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run the program, which gets Ctrl-C while it imports a module that drops it, as torch's C code does."""
    Path("shim").mkdir()
    Path(f"shim/{module}.py").write_text(
        "import os, signal, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(9)\n"
        "except KeyboardInterrupt:\n    pass\n"
    )
    Path("darkpy").write_text("from darkpy.__main__ import run\nrun()\n")
    words = ["-m", "darkpy"] if start == "module" else [str(Path("darkpy").absolute())]
    path = os.pathsep.join((str(Path("shim").absolute()), str(Path(darkpy.__file__).parents[1])))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *words, *command],
        capture_output=True,
        text=True,
        cwd="shim",
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # jobs in the background ignore it
    )


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
@pytest.mark.parametrize(
    ("start", "module"),
    [
        ("module", "dataclasses"),
        ("script", "dataclasses"),
        ("script", "click"),
        ("module", "torch"),
        ("module", "numpy"),
    ],
)
def test_interrupt_while_modules_are_imported_is_no_traceback(task: Path, start: str, module: str) -> None:
    """The first is imported by the package itself, the second by the program, the third by a command."""
    done = interrupted(module, start, "detect", "net.cfg", "net.weights", "a.png")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\n")


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_interrupt_after_the_work_is_no_traceback(task: Path) -> None:
    """The module is imported where the program leaves."""
    done = interrupted("multiprocessing", "script", "ops", "../net.cfg")
    assert (done.returncode, done.stderr) == (130, "\n") and "Operations: 42\n" in done.stdout


NOISE = """import ctypes, os, sys
from darkpy.__main__ import main
from darkpy.cli import console
echo = console.echo
def noisy_echo(text):
    os.write(1, b"a library\\n")
    ctypes.CDLL(None).printf(b"its C code\\n")
    echo(text)
console.echo = noisy_echo
code = main(["show", "net.cfg", "--json"])
print("after")
sys.exit(code)
"""


@pytest.mark.skipif(os.name == "nt", reason="calls the C library")
def test_lines_of_other_libraries_stay_out_of_json(task: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(darkpy.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", NOISE], capture_output=True, text=True, env=environment, check=True)
    record, _, after = done.stdout.rpartition("}")
    assert json.loads(record + "}")["layers"] and after == "\nafter\n"
    assert "a library\n" in done.stderr and "its C code\n" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("form", ["--json", "--json-lines", "--csv"])
def test_verbose_lines_of_onednn_stay_out_of_results(task: Path, form: str) -> None:
    command = [sys.executable, "-m", "darkpy", "detect", "net.cfg", "net.weights", "a.png", form]
    environment = {**os.environ, "PYTHONPATH": str(Path(darkpy.__file__).parents[1])}
    quiet = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    told = subprocess.run(
        command, capture_output=True, text=True, env=environment | {"ONEDNN_VERBOSE": "1"}, check=True
    )
    assert told.stdout == quiet.stdout and "onednn_verbose" not in quiet.stderr
    assert "onednn_verbose" in told.stderr
