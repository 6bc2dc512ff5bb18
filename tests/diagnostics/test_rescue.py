"""Healthy weights of a run that is ruined, the end of such a run, and its rescue."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import darkpy
from darkpy.diagnostics.monitor.healthy_weights import EXPLODED_UPDATES, RISEN_UPDATES, HealthyWeights
from darkpy.diagnostics.monitor.monitor import Monitor
from darkpy.diagnostics.monitor.policy import BadRunError
from darkpy.diagnostics.monitor.run_log import LogWriter
from darkpy.errors import DarkpyError
from darkpy.finding import CfgEdit, Finding, Remedy
from darkpy.training.reports import UpdateReport
from darkpy.training.trainer import Trainer
from tests.squares import write_squares
from tests.test_training_run import CFG, Recorder
from tests.training.stream import cfg as stream_cfg

pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
RUINED_CFG = CFG.format(updates=200, rate=0.001).replace(
    "constrain=0", "policy=steps\nsteps=130\nscales=1e5\nconstrain=0"
)
HEALTHY = Path("out/net_healthy.weights")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_squares(4)
    Path("net.data").write_text("classes=2\ntrain=list.txt\nbackup=out\n")
    Path("net.cfg").write_text(RUINED_CFG)
    return tmp_path


def train(*arguments: str, **options: Any) -> darkpy.TrainingResult:
    return darkpy.train("net.cfg", "net.data", *arguments, **{"device": "cpu", "workers": 0, "chart": False, **options})


class Run:
    """HealthyWeights of a small network, fed with losses in place of a training."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(1)
        self.monitor = Monitor()
        (folder / "net.cfg").write_text(stream_cfg(100_000))
        self.trainer = Trainer(darkpy.load(folder / "net.cfg"), monitor=self.monitor)
        self.healthy = HealthyWeights(self.trainer, self.monitor, folder / "net_healthy.weights")
        self.update = 0
        self.weight = self.trainer.network.get_parameter("layers.0.weights")

    def __call__(self, *losses: float) -> None:
        """Follow updates of these losses; the first weight becomes the number of the update."""
        for loss in losses:
            self.update += 1
            with torch.no_grad():
                self.weight.view(-1)[0] = self.update
            self.trainer.network.header = self.trainer.network.header.with_seen(self.update * 8)
            self.trainer.average_loss = loss
            self.monitor.first_update = self.monitor.first_update or (1, loss)
            if self.update > 10:
                first, lowest = self.monitor.averages
                self.monitor.averages = (loss if math.isnan(first) else first, min(loss, lowest))
            self.healthy.follow(
                UpdateReport(batch_num=self.update, loss=loss, average=loss, rate=0.1, seen=self.update * 8, images=8)
            )

    def saved_update(self) -> int | None:
        """The update whose weights the file holds; None without a file."""
        if not self.healthy.path.is_file():
            return None
        network = darkpy.load(self.healthy.path.parent / "net.cfg", self.healthy.path)
        return network.header.seen // 8


def test_nothing_is_written_while_a_run_is_healthy(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run(*np.geomspace(100, 1, 500).tolist())
    assert run.saved_update() is None and run.healthy.diverging_since is None


def test_weights_of_before_the_first_symptom_are_kept_and_never_those_of_later(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run(*[10.0] * 450, *np.geomspace(10, 45, 40).tolist())
    assert run.saved_update() is None
    run(*[60.0] * 150)  # the copy of update 400 was taken before, but has not proved to be healthy
    assert run.healthy.diverging_since == 491 and run.saved_update() == 300
    assert "diverges since update 491, its average is 60; the healthy weights of update 300" in run.healthy.text


def test_run_that_returns_is_healthy_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run(*[10.0] * 450, *[60.0] * 150, *[11.0] * 400)
    assert run.healthy.diverging_since is None
    run(*[60.0] * 10)
    assert run.saved_update() == 900


@pytest.mark.parametrize(("loss", "updates"), [(1e6, EXPLODED_UPDATES), (1500.0, RISEN_UPDATES), (45.0, RISEN_UPDATES)])
def test_loss_that_does_not_come_back_ends_the_run(loss: float, updates: int, tmp_path: Path) -> None:
    """Sooner the larger it is; also where it rises before there is an average."""
    for healthy_updates in (400, 2) if loss > 100 else (400,):
        run = Run(tmp_path)
        run(*[10.0] * healthy_updates)
        if loss == 45.0:
            run(*[5.0] * 200)
        run(*[loss] * (updates - 1))
        with pytest.raises(BadRunError, match="does not recover: the weights are ruined and not saved") as caught:
            run(loss)
        assert not caught.value.is_savable


@pytest.mark.parametrize("losses", [[0.0] * 300, [1e-6, *[5.0] * 600], [0.0, 80.0] * 200], ids=["0", "rise", "both"])
def test_runs_with_almost_no_loss_at_first_go_on(losses: list[float], tmp_path: Path) -> None:
    Run(tmp_path)(*losses)


def test_huge_weights_are_not_healthy(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run(*[10.0] * 150)
    with torch.no_grad():
        run.weight.view(-1)[1] = 1e12
    run(*[10.0] * 300, *[60.0] * 2)
    assert run.saved_update() == 100


def test_state_goes_into_the_resume_file_and_ruined_weights_do_not_become_healthy(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run(*[10.0] * 450, *[60.0] * 50)
    assert run.saved_update() == 300
    state = {name: list(numbers) for name, numbers in run.monitor.state().items()}
    assert state["averages"] == [10.0, 10.0] and state["first_update"] == [1, 10.0]
    other = Run(tmp_path)
    other.monitor.load_state(state)
    other.trainer.average_loss, other.update = 60.0, 500
    other.healthy = HealthyWeights(other.trainer, other.monitor, tmp_path / "net_healthy.weights")
    other(*[60.0] * 100)
    assert other.saved_update() == 300


def test_ruined_run_is_no_success_and_its_healthy_weights_are_kept(folder: Path) -> None:
    recorder = Recorder()
    with pytest.raises(BadRunError) as caught:
        train(callbacks=[recorder], max_bad_updates=5)
    assert not Path("out/net_final.weights").exists()
    assert darkpy.load("net.cfg", HEALTHY).header.seen // 4 < 130
    assert all(torch.isfinite(array).all() for array in darkpy.load("net.cfg", HEALTHY).state_dict().values())
    before = HEALTHY.read_bytes()
    add_remedy(Remedy(edits=(CfgEdit("scales", ".1"),), reason="not a factor of 1e5"))
    result = train(rescue=True, callbacks=[recorder])
    assert result.weights == Path("out/net_rescue1_final.weights") and result.batch_num == 200
    assert "scales=.1" in Path("out/net_rescue1.cfg").read_text() and Path("net.cfg").read_text() == RUINED_CFG
    (note,) = [finding.message for finding in recorder.findings if finding.name == "rescue"]
    assert note == (
        "the run continues from the healthy weights out/net_healthy.weights with scales=.1: not a factor of 1e5,"
        " in out/net_rescue1.cfg"
    )
    assert recorder.run.trainer.net.scales == (0.1,) and HEALTHY.read_bytes() == before
    assert caught.value.hint


def add_remedy(*remedies: Remedy) -> None:
    """As a finding of the ruined run, in its log."""
    finding = Finding(name="NonFinite", message="the loss is NaN", batch_num=140, remedies=remedies)
    LogWriter(Path("out/net.health.jsonl")).finding(finding)


@pytest.fixture
def ruined(folder: Path) -> Path:
    """A run that was ruined at its start: its files, made by a run of two updates."""
    Path("net.cfg").write_text(CFG.format(updates=2, rate=0.001))
    train()
    Path("out/net_final.weights").rename(HEALTHY)
    return folder


def test_remedy_that_changes_the_layers_begins_anew(ruined: Path) -> None:
    Path("net.cfg").write_text(Path("net.cfg").read_text().replace("batch_normalize=1\n", ""))
    add_remedy(Remedy(edits=(CfgEdit("batch_normalize", "1", 0),)))
    recorder = Recorder()
    train(rescue=True, callbacks=[recorder])
    assert recorder.updates[0].batch_num == 1
    assert any(
        "from new weights, since the layers change, with batch_norm" in item.message for item in recorder.findings
    )


def test_remedy_that_the_cfg_has_already_is_passed_over(ruined: Path) -> None:
    add_remedy(Remedy(edits=(CfgEdit("constrain", "0"),)), Remedy(edits=(CfgEdit("max_batches", "5"),)))
    assert train(rescue=True).batch_num == 5


def test_rescued_run_is_rescued_in_its_turn(ruined: Path) -> None:
    add_remedy(Remedy(edits=(CfgEdit("max_batches", "4"),)))
    train(rescue=True)
    Path("out/net_rescue1_final.weights").rename("out/net_rescue1_healthy.weights")
    finding = Finding(
        name="Diverging", message="up", batch_num=4, remedies=(Remedy(edits=(CfgEdit("max_batches", "7"),)),)
    )
    LogWriter(Path("out/net_rescue1.health.jsonl")).finding(finding)
    assert train(rescue=True).weights == Path("out/net_rescue2_final.weights")
    assert "max_batches=7" in Path("out/net_rescue2.cfg").read_text()


def test_nothing_to_rescue_is_an_error_whose_hint_works(folder: Path) -> None:
    Path("net.cfg").write_text(CFG.format(updates=2, rate=0.001))
    with pytest.raises(DarkpyError, match=r"there is no ruined run of net\.cfg to rescue") as caught:
        train(rescue=True)
    assert caught.value.hint is not None
    words = shlex.split(caught.value.hint.removeprefix("train it with "))
    assert words == ["darkpy", "train", "net.cfg", "net.data"]
    for arguments, options in ((("x.weights",), {}), ((), {"clear": True})):
        with pytest.raises(DarkpyError, match="--rescue starts from the healthy weights"):
            train(*arguments, rescue=True, **options)


def test_remedy_that_is_a_command_is_left_to_the_user(ruined: Path) -> None:
    add_remedy(Remedy(command=("darkpy", "anchors", "net.data", "--cfg", "net.cfg", "--write")))
    with pytest.raises(DarkpyError, match="no key of the cfg fixes this") as caught:
        train(rescue=True)
    assert caught.value.hint == "darkpy anchors net.data --cfg net.cfg --write, then train again"


def test_findings_without_remedies_are_an_error(ruined: Path) -> None:
    add_remedy()
    with pytest.raises(DarkpyError, match="no finding of the ruined run has a remedy"):
        train(rescue=True)
