"""A run that goes on from a checkpoint, against the same run uninterrupted: bit for bit."""

from __future__ import annotations

import io
import json
import math
import shutil
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

import darkpy
from darkpy.data.loading.datasets import Dataset, TrainingSample
from darkpy.diagnostics.monitor.loss_symptoms import LossSpike
from darkpy.diagnostics.monitor.monitor import Monitor
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.files import write_atomic
from darkpy.layers.loss import DeltaFilter
from darkpy.training.checkpoints import Checkpoints, find_resume, open_resume, write_resume
from darkpy.training.loop import BatchSource, run_updates
from darkpy.training.reports import UpdateReport
from darkpy.training.setup import Intervals
from darkpy.training.trainer import Trainer
from tests.training.stream import Colors, cfg, changing_size, fixed_size

INTERVALS = Intervals(last="_last.weights", last_every=10, number=lambda report: None)
CASES = {
    "sgd": cfg(),
    "adam": cfg(net="adam=1"),
    "random-policy": cfg(net="power=2").replace("policy=steps", "policy=random"),
    "averages": cfg(max_batches=4000, net="ema_alpha=.9"),
    "put-off": cfg(first="dont_update=25"),
    "without-momentum": cfg().replace("momentum=0.9", "momentum=0"),
}


def begin(text: str, folder: Path, monitor: Monitor | None = None) -> Trainer:
    """A new run of the cfg at folder/net.cfg."""
    path = folder / "net.cfg"
    path.write_text(text)
    torch.manual_seed(5)
    return Trainer(darkpy.load(path, dialect="alexeyab"), seed=5, monitor=monitor)


def go_on(folder: Path, monitor: Monitor | None = None) -> Trainer:
    """The run in a folder from its last checkpoint, in a process that has drawn random numbers since."""
    torch.manual_seed(99)
    weights = folder / "net_last.weights"
    trainer = Trainer(darkpy.load(folder / "net.cfg", weights, dialect="alexeyab"), seed=98, monitor=monitor)
    resume = find_resume(weights, "net")
    assert resume is not None and resume.seed == 5
    resume.restore(trainer)
    return trainer


def follow(
    trainer: Trainer,
    folder: Path,
    until: int,
    size: Callable[[int], tuple[int, int]] = fixed_size,
    dataset: Dataset | None = None,
) -> list[UpdateReport]:
    checkpoints = Checkpoints(trainer, folder, INTERVALS)
    reports = []
    for report in run_updates(trainer, BatchSource(dataset=dataset or Colors(), size=size)):
        checkpoints.save_due(report)
        reports.append(report)
        if report.batch_num == until:
            break
    return reports


def everything(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Every number that the next update depends on."""
    numbers = {f"network/{name}": array for name, array in trainer.network.state_dict().items()}
    for name, param in trainer.network.named_parameters():
        state = trainer.optimizer.torch.state.get(param, {})
        numbers |= {f"{key}/{name}": value for key, value in state.items() if value is not None}
        if param.grad is not None:
            numbers[f"gradient/{name}"] = param.grad
    return numbers | {f"average/{name}": array for name, array in (trainer.ema.arrays if trainer.ema else {}).items()}


def assert_same(one: Trainer, other: Trainer) -> None:
    first, second = everything(one), everything(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert one.seen == other.seen


@pytest.mark.parametrize("name", CASES)
def test_run_that_goes_on_equals_the_one_that_was_not_interrupted(name: str, tmp_path: Path) -> None:
    whole = begin(CASES[name], tmp_path)
    if name == "averages":
        whole.network.header = whole.network.header.with_seen(8 * 1990)
    stop = whole.batch_num + 33
    unbroken = follow(whole, tmp_path, stop)
    for path in tmp_path.glob("net_*"):
        path.unlink()

    part = begin(CASES[name], tmp_path)
    part.network.header = part.network.header.with_seen(whole.seen - 33 * 8)
    follow(part, tmp_path, stop - 7)
    other = go_on(tmp_path)
    assert other.batch_num == stop - 13
    continued = follow(other, tmp_path, stop)
    assert_same(whole, other)
    wanted = [(report.loss, report.average, report.rate) for report in unbroken[-13:]]
    assert [(report.loss, report.average, report.rate) for report in continued] == wanted


def test_figures_of_the_delta_filter_go_on_too(tmp_path: Path) -> None:
    trainer = begin(cfg(), tmp_path)
    trainer.delta_filter = DeltaFilter(largest=1.5, average=0.25, deviation=0.125, bound=1.1)
    follow(trainer, tmp_path, 10)
    other = go_on(tmp_path)
    assert other.delta_filter == trainer.delta_filter


class Dirty(Colors):
    """A stream with some NaN images, and one minibatch with wrong truths."""

    bad, wrong = (13, 90, 203), range(188, 192)

    def make(self, slot: int, w: int, h: int) -> TrainingSample:
        item = super().make(slot, w, h)
        truth = item.truth.roll(1) if slot in self.wrong else item.truth
        return item._replace(x_CHW=item.x_CHW * (math.nan if slot in self.bad else 1), truth=truth)


def test_what_is_refused_before_and_after_the_interruption_is_what_the_whole_run_refuses(tmp_path: Path) -> None:
    """A loss spike is detected by the losses before it, those before the interruption too."""
    spike = LossSpike(times=1.3, window=20)
    whole = begin(cfg(), tmp_path, Monitor(spike=spike))
    follow(whole, tmp_path, 30, dataset=Dirty())
    assert whole.skipped_images == 4 * (3 + 1)

    part = begin(cfg(), tmp_path, Monitor(spike=spike))
    follow(part, tmp_path, 23, dataset=Dirty())
    assert part.skipped_images == 4 * 3
    other = go_on(tmp_path, Monitor(spike=spike))
    assert other.batch_num == 20 and other.skipped_images == 4 * 2
    follow(other, tmp_path, 30, dataset=Dirty())
    assert_same(whole, other)
    assert other.skipped_images == whole.skipped_images


def test_sizes_go_on_too(tmp_path: Path) -> None:
    whole = begin(cfg(), tmp_path)
    follow(whole, tmp_path, 40, changing_size)
    part = begin(cfg(), tmp_path)
    follow(part, tmp_path, 33, changing_size)
    other = go_on(tmp_path)
    follow(other, tmp_path, 40, changing_size)
    assert_same(whole, other)


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A folder with a run that stopped after its second checkpoint."""
    follow(begin(cfg(), tmp_path), tmp_path, 23)
    return tmp_path


def test_one_resume_file_is_kept_that_of_the_newest_weights(stopped: Path) -> None:
    assert sorted(path.name for path in stopped.iterdir()) == ["net.cfg", "net_20.resume", "net_last.weights"]


def test_process_that_dies_between_the_two_files_leaves_the_older_weights_with_theirs(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = (stopped / "net_last.weights").read_bytes()
    trainer = go_on(stopped)

    def die_at_weights(path: Path, chunks: Iterable[bytes], **options: bool) -> None:
        if path.suffix == ".weights":
            raise KeyboardInterrupt
        write_atomic(path, chunks, **options)

    monkeypatch.setattr("darkpy.training.checkpoints.write_atomic", die_at_weights)
    with pytest.raises(KeyboardInterrupt):
        follow(trainer, stopped, 33)
    assert (stopped / "net_last.weights").read_bytes() == older
    assert sorted(path.name for path in stopped.glob("*.resume")) == ["net_20.resume", "net_30.resume"]
    resume = find_resume(stopped / "net_last.weights", "net")
    assert resume is not None and resume.seen == 20 * 8


def test_process_that_dies_before_the_older_file_is_removed_leaves_no_doubt(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = go_on(stopped)
    checkpoints = Checkpoints(trainer, stopped, INTERVALS)
    monkeypatch.setattr(checkpoints, "_obsolete", [])
    for report in run_updates(trainer, BatchSource(dataset=Colors(), size=fixed_size)):
        checkpoints.save_due(report)
        if report.batch_num == 30:
            break
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resume = find_resume(stopped / "net_last.weights", "net")
    assert resume is not None and resume.seen == 30 * 8


def test_resume_file_of_other_weights_is_not_used_and_a_warning_says_so(stopped: Path) -> None:
    begin(cfg(), stopped).network.save_weights(stopped / "net_other.weights")
    with pytest.warns(DarkpyWarning, match=r"net_20\.resume: not used, it belongs to other weights than .*net_other"):
        assert find_resume(stopped / "net_other.weights", "net") is None


def test_broken_resume_file_is_not_used_and_a_warning_says_so(stopped: Path) -> None:
    path = stopped / "net_20.resume"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.warns(DarkpyWarning, match=r"net_20\.resume: is not a resume file, or a broken one"):
        assert find_resume(stopped / "net_last.weights", "net") is None


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 and no more", b"\x93NUMPY\x01\x00"])
def test_file_that_is_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.resume"
    path.write_bytes(content)
    with pytest.raises(DarkpyError, match="is not a resume file"):
        open_resume(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("seed", value) for value in ("Infinity", "9" * 400, "-1", "1.5", "9223372036854775808")),
        *(("seen", value) for value in ("NaN", "[" * 9999 + "]" * 9999)),
        *(("average", "1" * 400), ("best", "NaN"), ("skipped", "true"), ("filter", '{"a": Infinity}')),
    ],
)
def test_number_out_of_range_makes_it_no_resume_file(field: str, value: str, tmp_path: Path) -> None:
    about = {"format": 1, "weights": "x", "seen": 2, "average": 1.0, "seed": 3, "best": -1.0, "filter": {}}
    text = json.dumps(about | {field: "VALUE"}).replace('"VALUE"', value)
    with (tmp_path / "net_1.resume").open("wb") as stream:
        np.savez(stream, about=np.array(text))
    (tmp_path / "net.weights").write_bytes(b"weights")
    with pytest.raises(DarkpyError, match="is not a resume file"):
        open_resume(tmp_path / "net_1.resume")
    with pytest.warns(DarkpyWarning, match="is not a resume file"):
        assert find_resume(tmp_path / "net.weights", "net") is None


def test_pickles_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.resume"
    stream = io.BytesIO()
    np.savez(stream, about=np.array([{"format": 1}], dtype=object))
    path.write_bytes(stream.getvalue())
    with pytest.raises(DarkpyError, match="is not a resume file"):
        open_resume(path)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ("filters=6", "filters=5"),
        ("adam=0", "adam=1"),
    ],
)
def test_file_of_another_network_or_optimizer_is_refused(changed: str, text: str, tmp_path: Path) -> None:
    original = cfg(net="adam=0")
    trainer = begin(original, tmp_path)
    follow(trainer, tmp_path, 10)
    other = begin(original.replace(changed, text), tmp_path)
    other.network.header = trainer.network.header
    before = everything(other)
    with pytest.raises(DarkpyError, match=r"net_10\.resume: does not fit this network and its optimizer"):
        open_resume(tmp_path / "net_10.resume").restore(other)
    assert all(torch.equal(before[name], array) for name, array in everything(other).items())


def test_file_of_another_moment_is_refused(stopped: Path) -> None:
    trainer = Trainer(darkpy.load(stopped / "net.cfg", stopped / "net_last.weights"))
    trainer.network.header = trainer.network.header.with_seen(0)
    with pytest.raises(DarkpyError, match="was written after 160 images, the network has seen 0"):
        open_resume(stopped / "net_20.resume").restore(trainer)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_momentum_that_is_not_finite_is_refused(value: float, stopped: Path) -> None:
    path = stopped / "net_20.resume"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["optimizer/layers.2.weights/momentum_buffer"].flat[0] = value
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    trainer = Trainer(darkpy.load(stopped / "net.cfg", stopped / "net_last.weights"))
    before = everything(trainer)
    with pytest.raises(DarkpyError, match=r"optimizer/layers\.2\.weights/momentum_buffer holds NaN or infinity"):
        open_resume(path).restore(trainer)
    assert all(torch.equal(before[name], array) for name, array in everything(trainer).items())


def test_resume_files_of_the_user_stay_and_those_of_the_run_go(stopped: Path) -> None:
    """Kept: the copy for other weights, and what cannot be read. Removed: what a killed process of this run left."""
    settings = {"seed": "0", "batch": "8"}
    trainer = go_on(stopped)
    write_resume(stopped / "net_3.resume", trainer, weights="other weights", fingerprint={"seed": "7"})
    (stopped / "net_4.resume").write_text("notes")
    write_resume(stopped / "net_25.resume", trainer, weights="never written", fingerprint=settings)
    Checkpoints(trainer, stopped, INTERVALS, fingerprint=settings).save("_last.weights")
    assert {path.name for path in stopped.glob("*.resume")} == {"net_3.resume", "net_4.resume", "net_20.resume"}
    assert open_resume(stopped / "net_20.resume").fingerprint == settings


def test_array_that_the_network_lacks_is_refused(stopped: Path) -> None:
    path = stopped / "net_20.resume"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["optimizer/layers.9.weights/momentum_buffer"] = np.zeros(3, np.float32)
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    trainer = Trainer(darkpy.load(stopped / "net.cfg", stopped / "net_last.weights"))
    with pytest.raises(DarkpyError, match="does not fit this network"):
        open_resume(path).restore(trainer)


def test_what_is_no_number_is_not_written(tmp_path: Path) -> None:
    trainer = begin(cfg(), tmp_path)
    follow(trainer, tmp_path, 2)
    param = trainer.network.get_parameter("layers.0.weights")
    trainer.optimizer.torch.state[param]["momentum_buffer"][0] = float("nan")
    with pytest.raises(DarkpyError, match=r"optimizer/layers\.0\.weights/momentum_buffer holds NaN or infinity"):
        write_resume(tmp_path / "a.resume", trainer, weights="")
    assert not (tmp_path / "a.resume").exists()


def test_about_is_a_line_of_json_that_other_programs_can_read(stopped: Path) -> None:
    with np.load(stopped / "net_20.resume") as file:
        about = json.loads(str(file["about"]))
    assert about["seen"] == 160 and about["seed"] == 5 and len(about["weights"]) == 64


def test_weights_may_be_moved_with_their_resume_file(stopped: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("net_last.weights", "net_20.resume"):
        shutil.copy(stopped / name, folder)
    assert find_resume(folder / "net_last.weights", "net") is not None
