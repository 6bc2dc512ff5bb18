"""A side output that cannot be written, or a part that dies, never throws a training away."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError
from darkpy.files import write_atomic
from darkpy.training.reports import UpdateReport
from tests.squares import write_squares
from tests.test_training_run import CFG, Recorder
from tests.training.test_killed_runs import make_task

pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
ROOT = Path(__file__).resolve().parents[1]
FULL_DISK = Path("/dev/full")
needs_full_disk = pytest.mark.skipif(not FULL_DISK.exists(), reason="no /dev/full")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    write_squares(8, "data")
    Path("net.data").write_text("classes=2\ntrain=list.txt\nvalid=list.txt\nbackup=out\n")
    Path("net.cfg").write_text(CFG.format(updates=12, rate=0.001))
    return tmp_path


def train(*callbacks: object, **options: Any) -> darkpy.TrainingResult:
    defaults = {"device": "cpu", "workers": 0}
    return darkpy.train("net.cfg", "net.data", callbacks=callbacks, **{**defaults, **options})


class SpoiledImage:
    """Makes the input of one minibatch NaN, for which the monitor keeps evidence."""

    is_done = False

    def on_start(self, run: darkpy.TrainingRun) -> None:
        begin = run.trainer.monitor.begin

        def spoiled(x_BCHW: torch.Tensor, *others: Any) -> None:
            if run.trainer.seen == 16 and not self.is_done:
                self.is_done = True
                x_BCHW[:] = float("nan")
            begin(x_BCHW, *others)

        run.trainer.monitor.begin = spoiled  # type: ignore[method-assign, assignment]


@needs_full_disk
def test_log_chart_and_evidence_that_cannot_be_written_are_warned_of_once() -> None:
    Path("out").mkdir()
    Path("out/net.health.jsonl").symlink_to(FULL_DISK)
    Path("out/chart_net.png").symlink_to(FULL_DISK)
    Path("out/evidence").write_text("a file")
    recorder = Recorder()
    with pytest.warns(darkpy.DarkpyWarning) as caught:
        result = train(recorder, SpoiledImage(), map_epochs=1)
    assert result.batch_num == 12 and result.weights == Path("out/net_final.weights")
    told = [*recorder.warnings, *(str(warning.message) for warning in caught)]
    for start in ("out/net.health.jsonl: cannot be written", "out/evidence: cannot be written", "out/chart_net.png: "):
        assert len([text for text in told if text.startswith(start)]) == 1, (start, told)
    assert Path("out/evidence").read_text() == "a file"


def test_chart_that_cannot_be_written_is_an_error_before_the_work() -> None:
    recorder = Recorder()
    with pytest.raises(DarkpyError, match=r"nodir/c\.png: the chart cannot be written") as caught:
        train(recorder, chart="nodir/c.png")
    assert recorder.events == [] and caught.value.hint == "mkdir nodir"
    subprocess.run(caught.value.hint.split(), check=True)
    assert train(chart="nodir/c.png").chart == Path("nodir/c.png")


@needs_full_disk
def test_checkpoint_that_cannot_be_written_is_tried_again() -> None:
    """The disk is full at update 5 only; the weights are there in the end."""
    Path("net.data").write_text("classes=2\ntrain=list.txt\nvalid=list.txt\nbackup=out\nsavelast=1\n")
    Path("out").mkdir()

    class FullDisk:
        def on_update(self, report: UpdateReport) -> None:
            if report.batch_num == 5:
                Path("out/net_last.weights").unlink()
                Path("out/net_last.weights").symlink_to(FULL_DISK)
            if report.batch_num == 6:
                Path("out/net_last.weights").unlink()

    recorder = Recorder()
    assert train(FullDisk(), recorder, dialect="alexeyab").weights == Path("out/net_final.weights")
    assert any(
        "out/net_last.weights: cannot be written: No space" in text and "tries again" in text
        for text in recorder.warnings
    )


def test_backup_folder_that_is_away_for_a_while_ends_no_training() -> None:
    """As one on a network; nothing can be removed there, either."""
    Path("net.data").write_text("classes=2\ntrain=list.txt\nvalid=list.txt\nbackup=out\nsavelast=1\n")

    class Disconnected:
        def on_update(self, report: UpdateReport) -> None:
            if report.batch_num == 5:
                Path("out").rename("away")
                Path("out").touch()
            if report.batch_num == 6:
                Path("out").unlink()
                Path("away").rename("out")

    recorder = Recorder()
    assert train(Disconnected(), recorder, dialect="alexeyab").weights == Path("out/net_final.weights")
    assert any("out/net_last.weights: cannot be" in text and "tries again" in text for text in recorder.warnings)


def test_backup_folder_that_is_away_at_the_end_is_one_error() -> None:
    class Disconnected:
        def on_start(self, run: darkpy.TrainingRun) -> None:
            shutil.rmtree("out")
            Path("out").touch()

    with pytest.raises(DarkpyError, match=r"^out/net_final\.weights: cannot be written: Not a directory"):
        train(Disconnected())


@needs_full_disk
def test_weights_are_written_where_the_disk_takes_no_resume_file() -> None:
    """The resume file is the larger one."""

    class FullDisk:
        def on_start(self, run: darkpy.TrainingRun) -> None:
            Path("out/net_12.resume").symlink_to(FULL_DISK)

    with pytest.warns(darkpy.DarkpyWarning, match=r"net_12\.resume: cannot be written: No space .*: the weights are"):
        assert train(FullDisk()).weights == Path("out/net_final.weights")
    assert darkpy.load("net.cfg", "out/net_final.weights").header.seen == 12 * 4


@needs_full_disk
def test_resume_file_is_given_up_where_the_weights_do_not_fit_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def write(path: Path, *arguments: Any, **options: Any) -> None:
        if path.name == "net_final.weights" and Path("out/net_12.resume").exists():
            raise DarkpyError(f"{path}: cannot be written: No space left on device") from OSError()
        written.append(path.name)
        write_atomic(path, *arguments, **options)

    monkeypatch.setattr("darkpy.training.checkpoints.write_atomic", write)
    assert train().weights == Path("out/net_final.weights")
    assert written[-2:] == ["net_12.resume", "net_final.weights"] and not list(Path("out").glob("*.resume"))


def test_weights_are_saved_when_the_images_are_deleted() -> None:
    class Deleting:
        def on_update(self, report: UpdateReport) -> None:
            if report.batch_num == 4:
                shutil.rmtree("data")

    with pytest.raises(DarkpyError):
        train(Deleting())
    assert darkpy.load("net.cfg", "out/net.backup").header.seen == 4 * 4


def test_weights_are_saved_when_the_loader_is_killed() -> None:
    class Killing:
        def on_update(self, report: UpdateReport) -> None:
            if report.batch_num == 4:
                for child in multiprocessing.active_children():
                    child.kill()

    with pytest.raises(DarkpyError, match="worker process that loads images has died"):
        train(Killing(), workers=1)
    assert darkpy.load("net.cfg", "out/net.backup").header.seen % 4 == 0


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "darkpy", *words]


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def long_task(tmp_path: Path) -> Iterator[Path]:
    yield make_task(tmp_path / "long", updates=1_000_000)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("code", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_run_with_its_weights_saved(code: int, long_task: Path, environment: dict[str, str]) -> None:
    """A terminal that is closed sends its signal twice, and takes stderr along."""
    read, write = os.pipe()
    process = subprocess.Popen(
        command("train", "net.cfg", "net.data"), cwd=long_task, env=environment, stderr=write, start_new_session=True
    )
    os.close(write)
    wait_for(long_task / "backup/net_last.weights", process)
    os.close(read)
    process.send_signal(code)
    if code == signal.SIGHUP:
        process.send_signal(code)
    assert process.wait(60) == 128 + code
    last = long_task / "backup/net_last.weights"
    assert darkpy.load(long_task / "net.cfg", last).header.seen > 0
    assert len(list((long_task / "backup").glob("*.resume"))) == 1


@pytest.mark.slow
def test_darknets_lines_behind_a_closed_pipe_do_not_end_the_training(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    task = make_task(tmp_path / "short", updates=30)
    line = (
        f"{sys.executable} -m darkpy train net.cfg net.data --darknet-log 2> err.txt | head -1; exit ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", line], cwd=task, env=environment, timeout=400)
    told = (task / "err.txt").read_text()
    assert done.returncode == 0, told
    assert told.count("standard output: Broken pipe: the training continues without it") == 1
    assert (task / "backup/net_final.weights").exists()


@pytest.mark.slow
@needs_full_disk
@pytest.mark.parametrize("redirection", ["2> /dev/full", "2>&-", "> /dev/full --darknet-log", ">&- --darknet-log"])
def test_streams_that_cannot_be_written_do_not_end_the_training(
    redirection: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    task = make_task(tmp_path / "short", updates=30)
    line = f"exec {sys.executable} -m darkpy train net.cfg net.data {redirection}"
    subprocess.run(["bash", "-c", line], cwd=task, env=environment, timeout=400)
    assert (task / "backup/net_final.weights").exists()


@pytest.mark.slow
@pytest.mark.parametrize("frozen", ["worker", "trainer's peer"])
def test_second_interrupt_ends_a_training_that_waits_for_a_suspended_process(
    frozen: str, long_task: Path, environment: dict[str, str]
) -> None:
    script = "import sys; from darkpy.cli.processes import launch; sys.exit(launch(['train', *sys.argv[1:]], 2))"
    words = ["net.cfg", "net.data", "--device", "cpu"]
    start = command("train", *words) if frozen == "worker" else [sys.executable, "-c", script, *words, "--workers", "0"]
    with Path("err.txt").open("wb") as stderr:
        process = subprocess.Popen(start, cwd=long_task, env=environment, stderr=stderr, start_new_session=True)
    wait_for(long_task / "backup/net_last.weights", process)
    listing = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    children = [int(word) for word in listing.stdout.split()]
    os.kill(children[-1], signal.SIGSTOP)
    try:
        time.sleep(2)  # until the training waits for it
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) in (-signal.SIGINT, 128 + signal.SIGINT)
        deadline = time.monotonic() + 10  # a worker without work looks every 5 s whether its training has gone
        for child in children:
            with pytest.raises(ProcessLookupError):
                while time.monotonic() < deadline:
                    os.kill(child, 0)
                    time.sleep(0.1)
        told = Path("err.txt").read_text()
        assert "Traceback" not in told and told.count("stopping after this update") <= 1
    finally:
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
