"""The lock of a run: who holds it, how it ends, and that no forked process keeps it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from darkpy.errors import DarkpyError
from darkpy.training.run_lock import locked

HOLDER = """
import os, sys, time
from pathlib import Path
from darkpy.training.run_lock import locked
with locked(Path(sys.argv[1]), "net"):
    if not os.fork():  # as a loader's process, which may outlive a killed training
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def test_second_run_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    with locked(tmp_path, "net"):
        with pytest.raises(DarkpyError) as caught, locked(tmp_path, "net"):
            pass
        assert f"{tmp_path}: process {os.getpid()} on " in caught.value.message
        assert "trains net into this folder" in caught.value.message
        assert caught.value.hint is not None and f"kill {os.getpid()}, or name another folder" in caught.value.hint
        with locked(tmp_path, "other"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_lock_does_not_survive_its_holder_and_a_forked_worker_does_not_keep_it(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    worker = int(holder.stdout.readline())
    try:
        with pytest.raises(DarkpyError, match=f"process {holder.pid} on"), locked(tmp_path, "net"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with locked(tmp_path, "net"):
            pass
    finally:
        holder.kill()
        os.kill(worker, signal.SIGKILL)
        holder.stdout.close()


def test_folder_without_locks_is_warned_of_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.warns(UserWarning, match="cannot be locked .Operation not supported"), locked(tmp_path, "net"):
        pass


def test_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / ".net.darkpy_lock").symlink_to(tmp_path / "mine.txt")
    with pytest.warns(UserWarning, match="cannot be locked"), locked(tmp_path, "net"):
        pass
    assert (tmp_path / "mine.txt").read_text() == "mine"
