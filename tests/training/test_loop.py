"""The run: its updates, their reports, and its end."""

from __future__ import annotations

import math
import multiprocessing
import time
from dataclasses import replace

import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError
from darkpy.training.loop import BatchSource, run_updates
from darkpy.training.reports import next_average
from darkpy.training.trainer import Trainer
from tests.training.stream import Colors, cfg, changing_size, fixed_size

PLAIN = """[net]
width=8
height=8
channels=3
learning_rate=0.1
{}
[convolutional]
filters=3
size=8
[softmax]
"""


def trainer(max_batches: int = 12, net: str = "") -> Trainer:
    torch.manual_seed(3)
    return Trainer(darkpy.load(cfg(max_batches, net)))


def source(workers: int = 0) -> BatchSource:
    return BatchSource(dataset=Colors(), size=fixed_size, workers=workers)


def test_run_ends_at_max_batches_and_goes_on_where_the_weights_are() -> None:
    one = trainer()
    assert [report.batch_num for report in run_updates(one, source())] == list(range(1, 13))
    one.network.header = one.network.header.with_seen(10 * 8)
    assert [report.batch_num for report in run_updates(one, source())] == [11, 12]


def test_without_max_batches_there_is_no_end() -> None:
    reports = run_updates(trainer(0), source())
    assert [next(reports).batch_num for _ in range(50)][-1] == 50


def test_update_takes_the_images_after_those_that_were_seen() -> None:
    reports = list(run_updates(trainer(3), source()))
    paths = [path for report in reports for batch in report.batches for (path,) in batch.paths]
    assert paths == [f"{number}.png" for number in range(24)]
    assert [(report.seen, report.images, len(report.steps)) for report in reports] == [
        (8, 8, 2),
        (16, 8, 2),
        (24, 8, 2),
    ]


def test_loss_is_the_mean_cost_of_an_image_and_the_average_follows_it() -> None:
    first, second, *_ = run_updates(trainer(), source())
    costs = [float(step.losses[0].cost) for step in second.steps]
    assert second.loss == pytest.approx(sum(costs) / 8)
    assert first.average == first.loss
    assert second.average == pytest.approx(0.9 * first.loss + 0.1 * second.loss)


def test_average_starts_anew_where_it_is_no_number() -> None:
    assert next_average(math.nan, 3) == next_average(math.inf, 3) == next_average(-1, 3) == 3
    assert next_average(2, 3) == pytest.approx(2.1)


def test_network_takes_the_size_of_the_images() -> None:
    one = trainer(21)
    sizes = [report.size for report in run_updates(one, BatchSource(dataset=Colors(), size=changing_size))]
    assert sizes == [(8, 8)] * 7 + [(12, 12)] * 7 + [(16, 16)] * 7
    assert one.network.plan.net.width == 16


def test_dynamic_minibatch_grows_with_smaller_images_and_takes_each_image_once() -> None:
    one = trainer(21)
    one.network.plan = replace(one.network.plan, net=replace(one.net, dynamic_minibatch=True))
    source = BatchSource(
        dataset=Colors(), size=changing_size, images=lambda minibatch, w, h: minibatch * 256 // (w * h)
    )
    reports = list(run_updates(one, source))
    assert [report.images for report in reports] == [32] * 7 + [14] * 7 + [8] * 7
    assert [report.seen for report in reports] == [8 * n for n in range(1, 22)], "the schedule goes by [net]'s"
    paths = [path for report in reports for batch in report.batches for (path,) in batch.paths]
    assert len(set(paths)) == len(paths) == sum(report.images for report in reports)
    assert reports[0].loss == pytest.approx(sum(step.cost for step in reports[0].steps) / 32)


def test_update_of_a_dynamic_minibatch_divides_by_its_images() -> None:
    """Also where a refused one lets those of two sizes meet in an update."""
    images = torch.rand(12, 3, 8, 8)
    truth = torch.eye(3)[torch.arange(12) % 3]
    weights = []
    dynamic = "batch=8\nsubdivisions=2\ndynamic_minibatch=1"
    for sizes, words in (([4, 4, 4], "batch=12\nsubdivisions=3"), ([6, 6], dynamic), ([4, 8], dynamic)):
        torch.manual_seed(3)
        one = Trainer(darkpy.load(PLAIN.format(words), dialect="alexeyab"))
        for x_BCHW, wanted in zip(torch.split(images, sizes), torch.split(truth, sizes), strict=True):
            one.train_minibatch(x_BCHW, wanted)
        weights.append(one.network.get_parameter("layers.0.weights").detach())
    for other in weights[1:]:
        torch.testing.assert_close(weights[0], other, rtol=1e-6, atol=1e-7)


def test_workers_change_nothing() -> None:
    alone, helped = ([report.loss for report in run_updates(trainer(6), source(workers))] for workers in (0, 2))
    assert alone == helped


def test_it_learns() -> None:
    losses = [report.loss for report in run_updates(trainer(60), source())]
    assert sum(losses[-5:]) < 0.25 * sum(losses[:5])


def test_rate_is_the_schedules() -> None:
    rates = [report.rate for report in run_updates(trainer(31), source())]
    assert rates[0] == pytest.approx(0.02 / 5**4)
    assert rates[10] == pytest.approx(0.02)
    assert rates[30] == pytest.approx(0.002)


def test_gradients_that_are_no_numbers_end_the_run_and_name_the_images() -> None:
    one = trainer(net="max_crop=9")
    reports = run_updates(one, source())
    next(reports)
    with torch.no_grad():
        one.network.get_parameter("layers.2.weights").fill_(math.inf)
    with pytest.raises(DarkpyError, match=r"update 2: the gradients are non-finite; its 8 images: 10\.png, 11"):
        next(reports)


def test_dead_worker_is_reported_when_its_image_is_requested() -> None:
    reports = run_updates(trainer(), source(workers=1))
    assert next(reports).batch_num == 1
    (worker,) = multiprocessing.active_children()
    worker.kill()
    worker.join()
    time.sleep(0.1)  # whatever runs meanwhile is not disturbed
    with pytest.raises(DarkpyError, match=r"a worker process that loads images has died: "):
        list(reports)
