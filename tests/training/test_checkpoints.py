"""Which files are written after which updates, and that each is whole."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.build import make_plan
from darkpy.config.net import NetSpec
from darkpy.errors import DarkpyError, WeightsError
from darkpy.files import temporary_path
from darkpy.training.checkpoints import Checkpoints, base_name
from darkpy.training.loop import BatchSource, run_updates
from darkpy.training.reports import UpdateReport
from darkpy.training.setup import Intervals
from darkpy.training.trainer import Trainer
from tests.training.stream import Colors, cfg, fixed_size


def net(dialect: str, max_batches: int = 500200) -> NetSpec:
    return make_plan(cfg(max_batches), dialect).net


def report(batch_num: int, images: int = 8) -> UpdateReport:
    return UpdateReport(
        batch_num=batch_num,
        loss=1,
        average=1,
        rate=1,
        seen=batch_num * images,
        images=images,
        seconds=1,
        waited=0,
        size=(8, 8),
        steps=(),
        batches=(),
    )


def written(intervals: Intervals, updates: Iterable[int]) -> dict[int, list[str]]:
    """The files of each update that has some."""
    return {n: names for n in updates if (names := intervals.names_due(report(n)))}


def test_base_is_the_cfgs_name_up_to_its_first_dot() -> None:
    assert base_name("some.where/yolo.v3.cfg") == "yolo"
    assert base_name("tiny") == "tiny"


def test_cfgs_that_begin_with_a_dot_have_bases_of_their_own() -> None:
    assert base_name("cfgs/.tiny.cfg") == ".tiny"
    assert base_name("..old.v1.cfg") == "..old"
    assert base_name(".cfg") == ".cfg"


def test_pjreddies_detector_keeps_every_hundredth_below_a_thousand_then_every_ten_thousandth() -> None:
    intervals = Intervals.of_detector(net("pjreddie"))
    found = written(intervals, range(1, 20001))
    kept = [n for n, names in found.items() if f"_{n}.weights" in names]
    assert kept == [100, 200, 300, 400, 500, 600, 700, 800, 900, 10000, 20000]
    assert [n for n, names in found.items() if ".backup" in names] == list(range(100, 20001, 100))
    assert intervals.final == "_final.weights"


@pytest.mark.parametrize(
    ("max_batches", "keys", "every", "last_every"),
    [
        (500200, {}, 10000, 100),
        (6000, {}, 1000, 100),
        (10000, {}, 10000, 100),
        (500200, {"save_weights": 300, "save_last": 50}, 300, 50),
        (500200, {"save_weights": 100}, 100, None),
    ],
)
def test_alexeyabs_detector_goes_by_its_data_file(
    max_batches: int, keys: dict[str, int], every: int, last_every: int | None
) -> None:
    found = written(Intervals.of_detector(net("alexeyab", max_batches), **keys), range(1, 20001))
    assert [n for n, names in found.items() if f"_{n}.weights" in names] == list(range(every, 20001, every))
    last = [] if last_every is None else list(range(last_every, 20001, last_every))
    assert [n for n, names in found.items() if "_last.weights" in names] == last


def test_pjreddies_classifier_counts_epochs() -> None:
    intervals = Intervals.of_classifier(net("pjreddie"), images=100)
    assert written(intervals, range(1, 51)) == {
        13: ["_1.weights"],
        25: ["_2.weights"],
        38: ["_3.weights"],
        50: ["_4.weights"],
    }
    assert intervals.names_due(report(1000))[-1] == ".backup"
    assert intervals.final == ".weights"


def test_alexeyabs_classifier_counts_updates() -> None:
    intervals = Intervals.of_classifier(net("alexeyab"), images=100)
    assert written(intervals, range(1, 201)) == {100: ["_last.weights"], 200: ["_last.weights"]}
    assert intervals.names_due(report(1000)) == ["_1000.weights", "_last.weights"]


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    path = tmp_path / "small.net.cfg"
    path.write_text(cfg(4000, "ema_alpha=.5"))
    torch.manual_seed(1)
    return Trainer(darkpy.load(path, dialect="alexeyab"))


def run(trainer: Trainer, folder: Path, updates: int) -> Checkpoints:
    intervals = Intervals(last="_last.weights", last_every=5, number=lambda report: None)
    checkpoints = Checkpoints(trainer, folder, intervals)
    for report in run_updates(trainer, BatchSource(dataset=Colors(), size=fixed_size)):
        checkpoints.save_due(report)
        updates -= 1
        if not updates:
            break
    return checkpoints


def test_weights_are_written_with_their_count_of_images(trainer: Trainer, tmp_path: Path) -> None:
    run(trainer, tmp_path, 12)
    network = darkpy.load(tmp_path / "small.net.cfg", tmp_path / "small_last.weights", dialect="alexeyab")
    assert network.header.seen == 80
    assert (tmp_path / "small_10.resume").is_file()


def test_averages_stand_beside_the_last_weights(trainer: Trainer, tmp_path: Path) -> None:
    trainer.network.header = trainer.network.header.with_seen(8 * 1998)
    run(trainer, tmp_path, 7)
    last, averaged = (
        darkpy.load(tmp_path / "small.net.cfg", tmp_path / f"small_{name}.weights", dialect="alexeyab")
        for name in ("last", "ema")
    )
    name = "layers.0.weights"
    assert torch.equal(last.get_buffer("layers.0.rolling_mean"), averaged.get_buffer("layers.0.rolling_mean"))
    assert not torch.equal(last.get_parameter(name), averaged.get_parameter(name))


def test_weights_that_are_no_numbers_are_not_written(trainer: Trainer, tmp_path: Path) -> None:
    checkpoints = run(trainer, tmp_path, 5)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with torch.no_grad():
        trainer.network.get_parameter("layers.2.weights")[0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"layer 2 \[convolutional\].*weights holds NaN or infinity; nothing is"):
        checkpoints.save("_last.weights", "_final.weights")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_momentum_that_is_no_number_is_not_written_either(trainer: Trainer, tmp_path: Path) -> None:
    checkpoints = run(trainer, tmp_path, 5)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    param = trainer.network.get_parameter("layers.2.weights")
    trainer.optimizer.torch.state[param]["momentum_buffer"][0] = float("inf")
    with pytest.raises(DarkpyError, match="momentum_buffer holds NaN or infinity; nothing is written"):
        checkpoints.save("_last.weights")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_a_killed_process_left_half_written_is_removed_and_nothing_else(trainer: Trainer, tmp_path: Path) -> None:
    names = ["small_last.weights", "small_100.resume", "chart_small.png"]
    left = [temporary_path(tmp_path / name) for name in names]
    (tmp_path / "evidence").mkdir()
    half_written = temporary_path(tmp_path / "evidence" / "small_update_7_2")
    others = [
        tmp_path / ".small_last.weights.original",
        tmp_path / ".small_last.weights.0a1b2c3d",
        tmp_path / ".small_notes.txt",
        tmp_path / "small.backup",
        temporary_path(tmp_path / "smaller_last.weights"),
        temporary_path(tmp_path / "chart_smaller.png"),
        temporary_path(tmp_path / "evidence" / "other_update_7"),
    ]
    for path in (*left, *others):
        path.write_text("x")
    half_written.mkdir()
    (half_written / "sheet.png").write_text("x")
    run(trainer, tmp_path, 1)
    assert not any(path.exists() for path in (*left, half_written))
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)


def test_resume_files_of_other_networks_stay(trainer: Trainer, tmp_path: Path) -> None:
    (tmp_path / "small_tiny_10.resume").write_text("x")
    run(trainer, tmp_path, 5)
    assert (tmp_path / "small_tiny_10.resume").exists()
