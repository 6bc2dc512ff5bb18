"""Best weights by a metric, early stop, evaluated averages, and continuing a run by itself."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import darkpy
from darkpy.data.lists.text_files import read_data
from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.evaluation.average_precision import ClassPrecision, MeanAveragePrecision
from darkpy.evaluation.classify import Accuracy, classify, valid_options
from darkpy.evaluation.ground_truth import read_ground_truth
from darkpy.training import validation
from darkpy.training.auto_resume import find_checkpoint
from darkpy.training.best_weights import BestMetric, BestValue, parse_metric
from darkpy.training.checkpoints import digest_file, open_resume, write_resume
from darkpy.training.reports import UpdateReport
from darkpy.training.setup import open_setup
from darkpy.training.validation import Evaluation
from tests.test_training_run import Recorder, folder, write_cfg
from tests.test_training_run import train as train_monitored

__all__ = ["folder"]
SAMPLE_CFG = Path(__file__).resolve().parents[2] / "weights/sample.cfg"
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")


def train(*arguments: str, **options: Any) -> darkpy.TrainingResult:
    return train_monitored(*arguments, **{"monitor": False, **options})


@pytest.fixture
def means(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Values that the evaluations find, one after each update; the last one is found again and again."""
    values: list[float] = []

    def evaluate(self: Any, report: Any) -> Evaluation:
        value = values.pop(0) if len(values) > 1 else values[0]
        classes = (ClassPrecision(value, 4, 4, 0),) * 2
        result = MeanAveragePrecision(classes=classes, detections=4, iou_sum=4, thresh=0.25, iou_thresh=0.5, points=0)
        return Evaluation(value=value, mean=value, result=result)

    monkeypatch.setattr(validation.Validation, "is_due", lambda self, report: True)
    monkeypatch.setattr(validation.DetectorValidation, "evaluate", evaluate)
    return values


def test_metric_is_computed_from_the_results_of_its_iou_thresholds() -> None:
    results = [
        MeanAveragePrecision(
            classes=(ClassPrecision(ap, 4, 3, 1), ClassPrecision(0.5, 4, 1, 1)),
            detections=9,
            iou_sum=4.0,
            thresh=0.25,
            iou_thresh=iou,
            points=0,
        )
        for ap, iou in ((0.9, 0.5), (0.3, 0.75))
    ]

    def metric(word: str | None, iou_thresh: float = 0.5) -> Any:
        return parse_metric(word, names=("cat", "dog"), kind="detector", iou_thresh=iou_thresh)

    assert metric(None, 0.75).label == metric("map75").label == "mAP@0.75" and metric("mAP50").iou_threshs == (0.5,)
    assert metric("map").iou_threshs == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert metric("map").value(results, 1.0) == pytest.approx((0.7 + 0.4) / 2)
    assert metric("class:dog").value(results, 1.0) == 0.5 and metric("class:cat").label == "AP of cat"
    assert metric("recall").value(results, 1.0) == 4 / 8 and metric("F1").value(results, 1.0) == 8 / 14
    assert metric("loss").value((), 1.5) == -1.5 and metric("loss").format(-1.5) == "average loss = 1.5"


@pytest.mark.parametrize(
    ("word", "kind", "message"),
    [
        ("class:bird", "detector", "no class has this name\n  hint: the classes: cat, dog"),
        ("map500", "detector", "no metric of detectors\n  hint: one of map50, map, f1, recall, loss, class:NAME"),
        ("map50", "classifier", "no metric of classifiers\n  hint: one of accuracy, loss"),
        ("accuracy", "regressor", "no metric of regressors\n  hint: one of loss"),
    ],
)
def test_word_that_is_no_metric_is_refused(word: str, kind: str, message: str) -> None:
    with pytest.raises(DarkpyError) as error:
        parse_metric(word, names=("cat", "dog"), kind=kind, iou_thresh=0.5)
    assert message in str(error.value)


def test_equal_value_is_best_again_but_no_improvement_and_nan_is_neither() -> None:
    best = BestValue(metric="mAP@0.50")
    assert [best.follow(n, value) for n, value in enumerate((0.0, 0.0, math.nan, 0.5))] == [True, True, False, True]
    assert (best.value, best.batch_num, best.stale) == (0.5, 3, 0)


def test_run_without_improvement_ends_as_finished_with_its_best_weights(means: list[float]) -> None:
    means[:] = [0.2, 0.6, 0.5, 0.6, 0.9]
    recorder = Recorder()
    result = train(patience=2, callbacks=[recorder])
    assert (result.batch_num, result.stop_code, result.best_value) == (4, 0, 0.6)
    assert result.weights == Path("out/net_final.weights")
    best = darkpy.load("net.cfg", "out/net_best.weights")
    assert best.header.seen == 4 * 4  # AlexeyAB's program writes equally good ones again, too
    text = "early stop at update 4: 2 evaluations without improvement; mAP@0.50 = 60.00 % of update 4 is in "
    assert result.stop_reason == f"{text}{Path('out/net_best.weights')}"
    assert [report.stale for report in recorder.validations] == [0, 0, 1, 2]


def test_last_update_is_no_early_stop(means: list[float]) -> None:
    means[:] = [0.5]
    result = train(patience=5)
    assert (result.batch_num, result.stop_reason) == (6, "")


def test_resumed_run_ends_at_the_same_update(means: list[float]) -> None:
    means[:] = [0.2, 0.6, 0.5]
    train(patience=3, callbacks=[Recorder(stop_after=4)])
    (resume,) = Path("out").glob("*.resume")
    assert open_resume(resume).best_by == BestValue(metric="mAP@0.50", value=0.6, batch_num=2, stale=2)
    result = train("out/net.backup", patience=3)
    assert (result.batch_num, result.stop_code) == (5, 0)
    again = train("out/net_final.weights", patience=3)
    assert again.batch_num == 5 and again.stop_reason.startswith("early stop at update 5: 3 evaluations")
    assert train("out/net_final.weights", patience=4).batch_num == 6


def test_other_metric_replaces_the_best_weights_of_a_resumed_run(means: list[float]) -> None:
    means[:] = [0.6]
    train(map_epochs=1, callbacks=[Recorder(stop_after=2)])
    recorder = Recorder()
    means[:] = [0.1]
    result = train("out/net.backup", best_by="recall", callbacks=[recorder])
    assert recorder.validations[0].is_best and result.best_value == 0.1
    text = "the best weights were those by mAP@0.50; by recall the next ones replace them"
    assert any(text in message for message in recorder.warnings)


def test_loss_needs_no_valid_list() -> None:
    Path("net.data").write_text("classes=2\ntrain=list.txt\nbackup=out\n")
    recorder = Recorder()
    result = train(best_by="loss", callbacks=[recorder])
    assert result.best_value == -recorder.updates[-1].average and Path("out/net_best.weights").is_file()
    assert recorder.validations[0].value == f"average loss = {recorder.updates[-1].average:.4g}"
    with pytest.raises(DarkpyError, match="has no valid=, on which --patience evaluates") as error:
        train(patience=3)
    assert "--best-by loss needs none" in str(error.value)


def test_averaged_weights_are_evaluated_and_may_be_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = Path("net.cfg").read_text().replace("max_batches=6", "max_batches=4000\nema_alpha=.5")
    Path("net.cfg").write_text(cfg)
    seen: list[torch.Tensor] = []

    def evaluate(self: Any, report: Any) -> Evaluation:
        weights = self.network.get_parameter("layers.0.weights").detach().clone()
        seen.append(weights)
        return Evaluation(value=float(len(seen) % 2 == 0))

    monkeypatch.setattr(validation, "MIN_INTERVAL_UPDATES", 1)
    monkeypatch.setattr(validation.DetectorValidation, "evaluate", evaluate)
    start = darkpy.load("net.cfg", dialect="alexeyab")
    start.header = start.header.with_seen(4 * 2000)
    start.save_weights("start.weights")
    recorder = Recorder(stop_after=2002)
    train("start.weights", map_epochs=1, dialect="alexeyab", callbacks=[recorder])
    live, averaged = seen[-2:]
    assert not torch.equal(live, averaged)
    assert recorder.validations[-1].is_ema_best
    best = darkpy.load("net.cfg", "out/net_best.weights", dialect="alexeyab")
    ema = darkpy.load("net.cfg", "out/net_ema.weights", dialect="alexeyab")
    for network in (best, ema):
        assert torch.equal(network.get_parameter("layers.0.weights"), averaged)


def test_run_continues_from_its_newest_checkpoint_by_itself() -> None:
    recorder = Recorder()
    train(auto_resume=True, callbacks=[recorder])
    whole = Path("out/net_final.weights").read_bytes()
    assert recorder.findings[0].message == "--resume auto: no checkpoint of net in out: a new run starts"
    shutil.rmtree("out")
    train(auto_resume=True, callbacks=[Recorder(stop_after=4)])
    recorder = Recorder()
    train(auto_resume=True, clear=True, callbacks=[recorder])
    path = Path("out/net.backup")
    assert recorder.findings[0].message == f"--resume auto: the run continues from {path}, after 16 images"
    assert Path("out/net_final.weights").read_bytes() == whole


def test_finished_run_is_not_continued() -> None:
    train(callbacks=[Recorder()])
    with pytest.raises(DarkpyError, match=r"--resume auto: the run is finished: .*final\.weights has seen 24 images"):
        train(auto_resume=True)


@pytest.mark.parametrize("damage", ["cut", "flipped", "nan"])
def test_damaged_newest_checkpoint_gives_way_to_the_one_before(damage: str) -> None:
    write_cfg(300)
    trainer = darkpy.Trainer(darkpy.load("net.cfg"))
    Path("out").mkdir()
    older, newest = Path("out/net_100.weights"), Path("out/net.backup")
    for path, seen in ((older, 400), (newest, 408)):
        trainer.network.header = trainer.network.header.with_seen(seen)
        trainer.network.save_weights(path)
    write_resume(Path("out/net_102.resume"), trainer, weights=digest_file(newest))
    os.utime(older, (1, 1))
    assert find_checkpoint(Path("net.cfg"), read_data("net.data"))[0] == newest
    data = bytearray(newest.read_bytes())
    if damage == "cut":
        data = data[:-10]
    else:
        data[-4:] = np.array([math.nan if damage == "nan" else 7.5], "<f4").tobytes()
    newest.write_bytes(data)
    with pytest.warns(DarkpyWarning, match=rf"--resume auto: {newest}.*; the checkpoint before it is tried"):
        taken, note = find_checkpoint(Path("net.cfg"), read_data("net.data"))
    assert taken == older and note == f"--resume auto: the run continues from {older}, after 400 images"


def test_best_and_healthy_weights_are_no_checkpoints() -> None:
    network = darkpy.load("net.cfg")
    Path("out").mkdir()
    for name in ("best", "ema", "healthy", "1.resume"):
        network.save_weights(f"out/net_{name}.weights")
    network.save_weights("out/net.weights")  # another program's, of a network with the name of this one
    assert find_checkpoint(Path("net.cfg"), read_data("net.data"))[0] is None


def test_frozen_layers_keep_their_weights_and_statistics_through_a_resume() -> None:
    train(callbacks=[Recorder(stop_after=1)])
    shutil.move("out/net.backup", "start.weights")
    recorder = Recorder(stop_after=3)
    train("start.weights", freeze=1, clear=True, callbacks=[recorder])
    assert "layer 0 is frozen, batch norm statistics too: 35 of 151 weights learn" in str(recorder.findings[0])
    train("out/net.backup", freeze=1)
    before, after = darkpy.load("net.cfg", "start.weights"), darkpy.load("net.cfg", "out/net_final.weights")
    states = before.layers[0].state_dict(), after.layers[0].state_dict()
    assert all(torch.equal(array, states[1][name]) for name, array in states[0].items())
    assert not torch.equal(before.get_parameter("layers.1.weights"), after.get_parameter("layers.1.weights"))


def test_freezing_that_ends_in_a_resumed_run_is_named() -> None:
    train(callbacks=[Recorder(stop_after=1)])
    train("out/net.backup", freeze=1, clear=True, callbacks=[Recorder(stop_after=2)])
    recorder = Recorder()
    train("out/net.backup", callbacks=[recorder])
    assert recorder.run.changes == ("freeze=0 (was 1)",)


def test_freezing_every_layer_and_layers_without_statistics_is_refused() -> None:
    with pytest.raises(DarkpyError, match=r"--freeze 2: no layer of net\.cfg would learn\n  hint: --freeze 1 leaves"):
        train(freeze=2)
    with pytest.raises(DarkpyError, match="batch norm that --freeze freezes at the statistics of a new layer"):
        train(freeze=1)


def test_classifiers_best_weights_are_those_of_the_best_accuracy() -> None:
    for number in range(8):
        Path(f"{number}.png").rename(f"{'red' if number % 2 else 'green'}{number}.png")
    Path("list.txt").write_text("".join(f"{name}\n" for name in sorted(map(str, Path().glob("*.png")))))
    Path("labels.list").write_text("green\nred\n")
    Path("net.data").write_text("classes=2\ntrain=list.txt\nvalid=list.txt\nlabels=labels.list\nbackup=out\n")
    head = Path("net.cfg").read_text().partition("[convolutional]\nfilters=7")[0]
    Path("net.cfg").write_text(f"{head}[convolutional]\nfilters=2\nsize=1\nactivation=linear\n[avgpool]\n[softmax]\n")
    recorder = Recorder()
    result = train(patience=1, callbacks=[recorder])
    network = darkpy.load("net.cfg", "out/net_best.weights")
    accuracy = Accuracy(["green", "red"])
    for ranking in classify(network, Path("list.txt").read_text().split(), valid_options(network, 1)):
        accuracy.add(ranking)
    assert result.best_value == accuracy.top_1 and recorder.validations[-1].result is None
    assert recorder.validations[-1].value == f"top-1 accuracy = {100 * accuracy.top_1:.2f} %"
    assert recorder.validations[-1].mean == accuracy.top_1


def test_value_over_several_iou_thresholds_is_the_mean_of_their_maps() -> None:
    network = darkpy.load(SAMPLE_CFG, SAMPLE_CFG.with_suffix(".weights"))
    list(write_synthetic_dataset(SyntheticConfig(images=1, valid=3, size=128, seed=0), Path("shapes")))
    means = [darkpy.evaluate(network, "shapes/valid", iou_thresh=iou).mean for iou in (0.5, 0.75, 0.9)]
    paths = [str(path) for path in sorted(Path("shapes/valid").glob("*.jpg"))]
    evaluation = validation.DetectorValidation(
        network,
        BestMetric(label="mAP", iou_threshs=(0.5, 0.75, 0.9)),
        1,
        paths=paths,
        ground_truth=read_ground_truth(paths, network.plan.dialect, 4),
        classes=4,
        thresh=0.25,
        iou_thresh=0.5,
    ).evaluate(UpdateReport(batch_num=1, loss=1, average=1, rate=1, seen=1, images=1))
    assert evaluation is not None and evaluation.mean == means[0] > means[2]
    assert evaluation.value == pytest.approx(sum(means) / 3)


def test_difficult_objects_count_while_training_as_in_detector_map() -> None:
    network = darkpy.load(SAMPLE_CFG, SAMPLE_CFG.with_suffix(".weights"))
    list(write_synthetic_dataset(SyntheticConfig(images=1, valid=3, size=128, seed=0), Path("shapes")))
    data, labels = Path("shapes/sample.data"), sorted(Path("shapes/valid").glob("*.txt"))
    Path("hard").mkdir()
    Path("hard.list").write_text("".join(f"hard/{file.stem}.jpg\n" for file in labels))
    for file in labels:
        first, *others = file.read_text().splitlines(keepends=True)
        Path("hard", file.name).write_text(first)
        file.write_text("".join(others))
    setup = open_setup(network.plan, read_data(data), seed=0)
    means = []
    for more in ("", "difficult=hard.list\n"):
        data.write_text(data.read_text() + more)
        setup = replace(setup, data=read_data(data))
        judge = validation.open_validation(network, setup, 1, thresh=0.25, iou_thresh=0.5)
        evaluation = judge.evaluate(UpdateReport(batch_num=1, loss=1, average=1, rate=1, seen=1, images=1))
        assert evaluation is not None and evaluation.result == darkpy.evaluate(network.eval(), data)
        means.append(evaluation.mean)
    assert means[0] < means[1]
