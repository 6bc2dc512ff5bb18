"""`darkpy.train`: results, callbacks, stopping, resuming, and no output."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import darkpy
from darkpy.diagnostics.monitor.policy import BadRunError
from darkpy.diagnostics.monitor.run_log import read_log
from darkpy.diagnostics.preflight import MAX_BASE_BYTES
from darkpy.errors import DarkpyError
from darkpy.training.reports import CheckpointReport, UpdateReport, ValidationReport
from tests.squares import write_squares

# cfgs so small are warned of
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")

CFG = """[net]
batch=4
subdivisions=2
width=32
height=32
channels=3
learning_rate={rate}
constrain=0
max_batches={updates}

[convolutional]
batch_normalize=1
filters=4
size=3
stride=4
pad=1
activation=leaky

[convolutional]
filters=7
size=1
activation=linear

[yolo]
mask=0
anchors=8,8
classes=2
num=1
"""


class Recorder:
    """Keeps everything it is called with; stops after `stop_after` updates."""

    def __init__(self, stop_after: int = 0) -> None:
        self.stop_after = stop_after
        self.events: list[str] = []
        self.updates: list[UpdateReport] = []
        self.checkpoints: list[CheckpointReport] = []
        self.validations: list[ValidationReport] = []
        self.findings: list[Any] = []
        self.warnings: list[str] = []

    def on_start(self, run: darkpy.TrainingRun) -> None:
        self.run = run
        self.events.append("start")

    def on_update(self, report: UpdateReport) -> None:
        self.updates.append(report)
        self.events.append("update")
        if report.batch_num == self.stop_after:
            self.run.stop("enough")

    def on_checkpoint(self, report: CheckpointReport) -> None:
        self.checkpoints.append(report)
        self.events.append("checkpoint")

    def on_validation(self, report: ValidationReport) -> None:
        self.validations.append(report)
        self.events.append("validation")

    def on_finding(self, finding: Any) -> None:
        self.findings.append(finding)

    def on_warning(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with eight images of two classes."""
    monkeypatch.chdir(tmp_path)
    write_squares(8)
    Path("net.data").write_text("classes=2\ntrain=list.txt\nvalid=list.txt\nbackup=out\n")
    write_cfg()
    return tmp_path


def write_cfg(updates: int = 6, rate: float = 0.001) -> None:
    Path("net.cfg").write_text(CFG.format(updates=updates, rate=rate))


def train(*arguments: str, **options: Any) -> darkpy.TrainingResult:
    defaults = {"device": "cpu", "workers": 0, "chart": False, "overwrite": True}
    return darkpy.train("net.cfg", "net.data", *arguments, **{**defaults, **options})


def test_result_holds_the_last_update_and_the_files() -> None:
    recorder = Recorder()
    result = train(callbacks=[recorder])
    assert recorder.events == ["start", *["update"] * 6, "checkpoint"]
    assert (result.batch_num, result.seen, result.stop_code, result.stop_reason) == (6, 24, 0, "")
    assert (result.loss, result.average_loss) == (recorder.updates[-1].loss, recorder.updates[-1].average)
    assert result.weights == Path("out/net_final.weights") and result.checkpoints == (result.weights,)
    assert recorder.checkpoints == [CheckpointReport(batch_num=6, paths=result.checkpoints, is_last=True)]
    assert darkpy.load("net.cfg", result.weights).header.seen == 24
    assert result.log is not None and len(read_log(result.log).updates) == 6
    assert (result.map, result.best_map, result.chart) == (None, None, None)


def test_updates_are_reported_with_what_the_monitor_measured() -> None:
    watched, unwatched = Recorder(), Recorder()
    train(callbacks=[watched])
    train(callbacks=[unwatched], monitor=False)
    assert all(report.norm > 0 and report.layers["gradient"] for report in watched.updates)
    assert not any(report.norm > 0 or report.layers for report in unwatched.updates)
    assert [report.loss for report in watched.updates] == [report.loss for report in unwatched.updates]


def test_callback_stops_the_run_and_the_weights_are_saved() -> None:
    result = train(callbacks=[Recorder(stop_after=3)])
    assert (result.batch_num, result.stop_code, result.stop_reason) == (3, 1, "enough")
    assert result.weights == Path("out/net.backup") and result.weights.is_file()


def test_stopped_run_is_resumed_exactly() -> None:
    whole = train()
    assert whole.weights is not None
    expected = whole.weights.read_bytes()
    part = train(callbacks=[Recorder(stop_after=4)])
    recorder = Recorder()
    result = train(str(part.weights), callbacks=[recorder], seed=9)
    assert recorder.run.resume is not None and len(recorder.updates) == 2
    assert result.weights is not None and result.weights.read_bytes() == expected
    assert result.average_loss == whole.average_loss


def test_what_has_changed_since_the_resume_file_is_named() -> None:
    train(callbacks=[Recorder(stop_after=2)], seed=3)
    recorder = Recorder()
    Path("net.cfg").write_text(CFG.format(updates=8, rate=0.002).replace("batch=4", "batch=8").replace("8,8", "9,9"))
    Path("list.txt").write_text("".join(f"{number}.png\n" for number in range(6)))
    train("out/net.backup", seed=5, callbacks=[recorder])
    assert recorder.run.changes == (
        "train list: 6 images (was 8 images)",
        "batch=8 (was 4)",
        "learning_rate=0.002 (was 0.001)",
        "max_batches=8 (was 6)",
        "layer 2 [yolo]",
    )
    assert "seed 5 is ignored: the run continues with its own, 3" in recorder.warnings
    assert recorder.run.trainer.seed == 3


def test_resumed_run_without_changes_has_none() -> None:
    train(callbacks=[Recorder(stop_after=2)])
    recorder = Recorder()
    train("out/net.backup", callbacks=[recorder])
    assert recorder.run.resume is not None and recorder.run.changes == () and recorder.warnings == []


def test_final_weights_of_a_finished_run_are_overwritten_only_on_request() -> None:
    train()
    final = Path("out/net_final.weights")
    before = final.read_bytes()
    Path("net.v2.cfg").write_text(CFG.format(updates=3, rate=0.1))
    for cfg, arguments in (("net.cfg", ()), ("net.v2.cfg", ()), ("net.cfg", (str(final),))):
        with pytest.raises(DarkpyError, match=r"net_final\.weights: is from a finished run and would be overwritten"):
            darkpy.train(cfg, "net.data", *arguments, device="cpu", workers=0, clear=bool(arguments), chart=False)
    assert final.read_bytes() == before
    darkpy.train("net.v2.cfg", "net.data", device="cpu", workers=0, chart=False, overwrite=True)
    assert final.read_bytes() != before
    write_cfg(9)
    assert train(str(final), overwrite=False).batch_num == 9  # the same run, raised in length, goes on


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_cfg_has_a_name_as_long_as_its_checkpoints_allow(letter: str) -> None:
    size = len(letter.encode())
    longest = letter * (MAX_BASE_BYTES // size)
    Path(f"{longest}.cfg").write_text(CFG.format(updates=2, rate=0.001))
    result = darkpy.train(f"{longest}.cfg", "net.data", device="cpu", workers=0)
    assert result.weights == Path(f"out/{longest}_final.weights")
    Path(f"{longest}{letter}.cfg").write_text(CFG.format(updates=2, rate=0.001))
    with pytest.raises(DarkpyError, match="the names of its checkpoints would be too long"):
        darkpy.train(f"{longest}{letter}.cfg", "net.data", device="cpu", workers=0)


LITTLE_MEMORY = """
import resource, sys, torch
import darkpy
from darkpy.__main__ import main

class Limit:
    def on_update(self, report):
        if report.batch_num == 1:
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), -1))

where = sys.argv[1]
try:
    if where == "update":
        darkpy.train("wide.cfg", "net.data", device="cpu", workers=0, chart=False, callbacks=[Limit()])
    else:
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (80 << 20), -1))
        darkpy.train("wide.cfg", "net.data", device="cpu", workers=0, chart=False)
except darkpy.DarkpyError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("where", ["start", "update"])
def test_too_little_memory_is_one_error_with_its_remedy(where: str) -> None:
    """In the first update, or later, of a network whose activations take some hundred MB."""
    text = CFG.format(updates=6, rate=0.001).replace("filters=4", "filters=64").replace("stride=4", "stride=1")
    Path("wide.cfg").write_text(text.replace("width=32", "width=416").replace("height=32", "height=416"))
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    words = [sys.executable, "-W", "ignore", "-c", LITTLE_MEMORY, where]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "memory" in done.stdout and "\n  hint: set " in done.stdout, done.stdout
    assert "worker" not in done.stdout.partition("hint: ")[0]


def test_second_training_into_the_folder_is_refused_while_the_first_one_runs() -> None:
    class Second:
        def on_update(self, report: UpdateReport) -> None:
            with pytest.raises(DarkpyError, match=f"process {os.getpid()} on .* trains net into this folder"):
                train()

    train(callbacks=[Second()])
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("error", [OSError("a full disk"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_weights_of_the_last_update_are_saved_on_every_exception(error: BaseException) -> None:
    """Within an update, after its first minibatch: the continued run is still exact."""
    train()
    unbroken = Path("out/net_final.weights").read_bytes()
    shutil.rmtree("out")

    class Failing:
        def on_start(self, run: darkpy.TrainingRun) -> None:
            self.run = run
            run.trainer.monitor.end = self.end  # type: ignore[method-assign]

        def end(self, report: Any) -> None:
            if self.run.trainer.batch_num == 3 and self.run.trainer.accumulated_images:
                raise error

    with pytest.raises(type(error)):
        train(callbacks=[Failing()])
    assert darkpy.load("net.cfg", "out/net.backup").header.seen == 3 * 4
    train("out/net.backup")
    assert Path("out/net_final.weights").read_bytes() == unbroken


def test_weights_that_are_half_changed_are_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    step = torch.optim.SGD.step

    def failing(self: torch.optim.SGD, *arguments: Any) -> Any:
        step(self, *arguments)
        raise MemoryError

    monkeypatch.setattr("torch.optim.SGD.step", failing)
    recorder = Recorder()
    with pytest.raises(DarkpyError, match="out of memory while the weights were changed"):
        train(callbacks=[recorder])
    assert not list(Path("out").glob("*.weights")) and not list(Path("out").glob("*.backup"))


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", darkpy.DarkpyWarning)
        train(map_epochs=1)
    assert capfd.readouterr() == ("", "")


def test_validation_is_reported_and_the_best_weights_are_kept() -> None:
    recorder = Recorder()
    result = train(map_epochs=1, callbacks=[recorder])
    assert [report.batch_num for report in recorder.validations] == [6] and recorder.validations[0].is_best
    assert result.map == result.best_map == recorder.validations[0].mean
    assert Path("out/net_best.weights") in result.checkpoints
    assert result.log is not None and len(read_log(result.log).maps) == 1


def test_findings_before_and_in_the_run_are_delivered_and_in_the_result() -> None:
    write_cfg(200, rate=1e6)
    recorder = Recorder()
    with pytest.raises(BadRunError, match="5 updates in a row"):
        train(callbacks=[recorder], max_bad_updates=5)
    names = {finding.name for finding in recorder.findings}
    assert {"Exploding", "RuinedWeights"} <= names and any(finding.batch_num == 0 for finding in recorder.findings)
    assert recorder.checkpoints[-1].is_last
    healthy = Recorder()
    write_cfg()
    assert train(callbacks=[healthy]).findings == tuple(healthy.findings) != ()


def test_findings_before_the_run_are_python_warnings_without_a_callback() -> None:
    with pytest.warns(darkpy.DarkpyWarning, match="4 images an update"):
        train()


def test_unusable_files_are_warned_of_once() -> None:
    Path("0.png").write_bytes(b"not an image")
    recorder = Recorder()
    train(callbacks=[recorder])
    assert sum("0.png" in message for message in recorder.warnings) == 1


def test_monitor_with_other_thresholds_is_used() -> None:
    findings: list[Any] = []
    monitor = darkpy.Monitor(every=1, on_finding=findings.append)
    result = train(monitor=monitor)
    assert result.log is None and monitor.trainer.batch_num == 6 and len(monitor.listeners) == 1


def test_misspelled_event_is_refused() -> None:
    class Misspelled:
        def on_udpate(self, report: UpdateReport) -> None:
            raise AssertionError

    with pytest.raises(darkpy.DarkpyError, match="on_udpate: no event of a training\n  hint: did you mean on_update"):
        train(callbacks=[Misspelled()])


def test_errors_of_callbacks_are_not_caught() -> None:
    class Broken:
        def on_update(self, report: UpdateReport) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(callbacks=[Broken()])


def test_monitor_that_installs_itself_is_deprecated() -> None:
    trainer = darkpy.Trainer(darkpy.load("net.cfg"))
    with pytest.warns(DeprecationWarning, match="Trainer\\(network, monitor=Monitor\\(folder\\)\\)"):
        monitor = darkpy.Monitor(trainer)
    assert trainer.monitor is monitor
    with pytest.warns(DeprecationWarning, match="tell"):
        assert len(darkpy.Monitor(tell=lambda finding: None).listeners) == 1  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="darkpy.Watch is now darkpy.Monitor"):
        assert darkpy.Watch is darkpy.Monitor


def test_problems_of_files_are_reported_once_for_each_kind_and_counted_at_the_end() -> None:
    for number in range(6):
        box = f"{number % 2} .4375 .4375 .375 .375"
        Path(f"{number}.txt").write_text(f"{box} # {number}\n" if number < 4 else f"{box}\n1 .5 .{number} 0 .2\n")
    Path("7.png").unlink()
    recorder = Recorder()
    train(callbacks=[recorder])
    told = [message for message in recorder.warnings if ".txt:" in message or message.startswith("7.png")]
    assert len(told) == 5
    assert sum("more like this" in message for message in told) == 2
    assert sum(message.startswith("3 more like this, all of them in bad_label.list: ") for message in told) == 1
    assert sum("behind the box is ignored" in message for message in told) == 2
    assert sum("w = 0, h = 0.2: the box has no size" in message for message in told) == 2
