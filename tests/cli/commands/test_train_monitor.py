"""`darkpy train` reports problems, and keeps the evidence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.diagnostics.monitor.run_log import read_log
from tests.cli.conftest import Run
from tests.squares import write_squares

CFG = """[net]
batch=4
width=32
height=32
channels=3
constrain=0
max_batches={updates}
learning_rate={rate}

[convolutional]
filters=8
size=3
stride=2
pad=1
activation=leaky

[convolutional]
filters=21
size=1
activation=linear

[yolo]
mask=0,1,2
anchors=8,8, 12,12, 16,16
classes=2
num=3
max=10
jitter=0
"""
LOG = Path("out/net.health.jsonl")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_squares(8)
    Path("net.data").write_text("classes=2\ntrain=list.txt\nbackup=out\nsavelast=1\n")
    write_cfg()
    return tmp_path


def write_cfg(updates: int = 6, rate: float = 0.001) -> None:
    Path("net.cfg").write_text(CFG.format(updates=updates, rate=rate))


def train(run: Run, *words: str) -> tuple[int, str]:
    outcome = run("train", "net.cfg", "net.data", *words, "--device", "cpu", "--workers", "0", "--force")
    return outcome.code, outcome.err


def test_healthy_run_says_nothing_and_has_a_log(run: Run) -> None:
    code, said = train(run)
    assert code == 0 and said.count("warning") == 1 and "4 images an update, which is few" in said
    log = read_log(LOG)
    assert [update.batch_num for update in log.updates] == [1, 2, 3, 4, 5, 6] and not log.findings
    assert log.run.layers[0].place == "layer 0 [convolutional] net.cfg:10"


def test_weights_are_the_same_without_the_monitor(run: Run) -> None:
    train(run)
    watched = Path("out/net_final.weights").read_bytes()
    for file in (LOG, Path("out/net_final.weights")):
        file.unlink()
    assert train(run, "--no-monitor")[0] == 0
    assert Path("out/net_final.weights").read_bytes() == watched and not LOG.exists()


def test_run_that_goes_on_adds_to_its_log(run: Run) -> None:
    write_cfg(3)
    train(run)
    write_cfg(5)
    assert train(run, "out/net_final.weights")[0] == 0
    log = read_log(LOG)
    assert [start.batch_num for start in log.starts] == [0, 3]
    assert [update.batch_num for update in log.updates] == [1, 2, 3, 4, 5]


def test_run_that_explodes_ends_with_its_cause_and_finite_weights(run: Run) -> None:
    write_cfg(200, rate=1e6)
    code, said = train(run, "--max-bad-updates", "5")
    assert code == 2
    assert "warning: net.cfg:10: [convolutional] layer 0, update 1: rate x gradient is" in said
    assert "  try learning_rate=" in said and "the weights are ruined" in said
    assert "5 updates in a row were refused, the run ends" in said
    assert not Path("out/evidence").exists()
    (last,) = Path("out").glob("net*.backup")
    assert all(torch.isfinite(array).all() for array in darkpy.load("net.cfg", last).state_dict().values())
    assert {"Exploding", "RuinedWeights"} <= {finding.name for finding in read_log(LOG).findings}


def test_without_the_monitor_it_ends_as_soon_as_the_weights_are_lost(run: Run) -> None:
    write_cfg(200, rate=1e6)
    code, said = train(run, "--no-watch")
    assert code == 2 and "the gradients are non-finite" in said and not Path("out/evidence").exists()


def test_anchors_that_do_not_fit_are_reported(run: Run) -> None:
    write_cfg(80)
    Path("net.cfg").write_text(Path("net.cfg").read_text().replace("8,8, 12,12, 16,16", "30,30, 31,31, 32,32"))
    code, said = train(run)
    assert code == 0 and "warning: net.cfg:22: [yolo] layer 2, update " in said and "AnchorMismatch" in said
    assert "  try anchors=" in said and "boxes of this run: mean IoU" in said


def test_run_with_findings_closes_with_the_command_that_shows_them(run: Run) -> None:
    write_cfg(200, rate=1e6)
    _, said = train(run, "--max-bad-updates", "2")
    count = len([finding for finding in read_log(LOG).findings if finding.batch_num])
    (line,) = [line for line in said.splitlines() if "darkpy report" in line and line.startswith("note: ")]
    assert line == f"note: {count} finding{'s' * (count > 1)}: darkpy report {LOG}"
    words = line.rpartition(": ")[2].split()[1:]
    assert run(*words).code == 0 and Path("out/net.report.html").is_file()
    assert Path("out/net_healthy.weights").is_file()


def test_single_finding_is_one(run: Run) -> None:
    write_cfg(80)
    Path("net.cfg").write_text(Path("net.cfg").read_text().replace("8,8, 12,12, 16,16", "30,30, 31,31, 32,32"))
    assert f"note: 1 finding: darkpy report {LOG}\n" in train(run)[1]


def test_changes_since_the_resume_file_and_a_seed_that_is_ignored_are_reported(run: Run) -> None:
    write_cfg(3)
    train(run, "--seed", "4")
    code, said = train(run, "out/net_final.weights")
    assert code == 2 and "nothing is left to do" in said
    write_cfg(5, rate=0.002)
    code, said = train(run, "out/net_final.weights", "--seed", "5")
    assert (
        code == 0
        and "but not as the same training; changed: learning_rate=0.002 (was 0.001), max_batches=5 (was 3)" in said
    )
    assert "warning: seed 5 is ignored: the run continues with its own, 4" in said
    Path("net.cfg").write_text(Path("net.cfg").read_text().replace("max_batches=5", "max_batches=7"))
    assert "changed: max_batches=7 (was 5)\n" in train(run, "out/net_final.weights")[1]


def test_new_run_does_not_overwrite_the_final_weights_of_a_finished_one(run: Run) -> None:
    words = ("train", "net.cfg", "net.data", "--device", "cpu", "--workers", "0")
    assert run(*words).code == 0
    outcome = run(*words)
    assert outcome.code == 2 and "--force (overwrite=True) overwrites it" in outcome.err
    assert run(*words, "--force").code == 0
