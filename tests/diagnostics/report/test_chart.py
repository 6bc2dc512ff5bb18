"""The chart of a training: what was measured is what is drawn, and it grows over a run that goes on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from darkpy.config.net import NetSpec
from darkpy.diagnostics.monitor.run_log import LoggedMap, LogWriter, read_log
from darkpy.diagnostics.report import chart
from darkpy.diagnostics.report.chart import Chart, draw_chart
from darkpy.diagnostics.report.drawing import LIGHT_COLORS, Line
from darkpy.training.reports import UpdateReport
from tests.diagnostics.monitor.test_log_reader import RUN, update

NET = NetSpec(batch=8, max_batches=400)


def report(n: int, average: float) -> UpdateReport:
    return UpdateReport(
        batch_num=n,
        loss=average,
        average=average,
        rate=0.1,
        seen=8 * n,
        images=8,
        seconds=1.0,
        waited=0.0,
        size=(32, 32),
        steps=(),
        batches=(),
    )


def colored(path: Path, color: str) -> np.ndarray:
    """Rows and columns of the pixels of a curve's own color."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    expected = [int(LIGHT_COLORS[color][at : at + 2], 16) for at in (1, 3, 5)]
    inside = pixels[140:900, 90:900]  # without the text around the axes
    return np.argwhere((abs(inside - expected) < 12).all(2))


def test_chart_has_the_size_of_alexeyabs_and_its_loss_falls(tmp_path: Path) -> None:
    drawn = Chart(tmp_path / "chart_net.png", NET)
    for n in range(1, 401):
        drawn(report(n, 18 * (1 - n / 400)))
    assert Image.open(drawn.path).size == (1000, 1000)
    places = colored(drawn.path, chart.LOSS_COLOR)
    first, last = places[places[:, 1].argmin()], places[places[:, 1].argmax()]
    assert first[0] < 120 and last[0] > 700 and last[1] - first[1] > 700


def test_loss_that_is_always_above_the_end_of_its_scale_is_seen(tmp_path: Path) -> None:
    drawn = Chart(tmp_path / "chart_net.png", replace(NET, max_chart_loss=0.5))
    for n in range(1, 401):
        drawn(report(n, 50 - n / 10))
    places = colored(drawn.path, chart.LOSS_COLOR)
    first, last = places[places[:, 1].argmin()], places[places[:, 1].argmax()]
    assert first[0] < 60 and last[0] > 500


def test_precision_is_drawn_when_it_is_known(tmp_path: Path) -> None:
    drawn = Chart(tmp_path / "chart_net.png", NET)
    drawn(report(1, 5.0))
    assert not drawn.path.exists()
    drawn.judge(LoggedMap(batch_num=100, mean=0.25))
    assert len(colored(drawn.path, chart.MAP_COLOR)) > 10 and not len(colored(drawn.path, chart.EMA_COLOR))


def test_precision_of_averaged_weights_is_a_curve_of_its_own(tmp_path: Path) -> None:
    drawn = Chart(tmp_path / "chart_net.png", NET)
    for n, mean, ema in ((100, 0.2, math.nan), (200, 0.3, 0.6), (300, 0.4, 0.7), (400, 0.5, math.nan)):
        drawn.judge(LoggedMap(batch_num=n, mean=mean, ema=ema))
    means, averaged = (colored(drawn.path, color) for color in (chart.MAP_COLOR, chart.EMA_COLOR))
    assert averaged[:, 0].max() < means[:, 0].min()  # above
    assert averaged[:, 1].min() > means[:, 1].min() and averaged[:, 1].max() < means[:, 1].max()


def test_chart_of_a_run_that_goes_on_begins_with_what_its_log_tells(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "net.health.jsonl")
    writer.begin(RUN)
    for n in (1, 2):
        writer.update(replace(update(n), average=float(n)))
    writer.map(LoggedMap(batch_num=2, mean=0.5))
    drawn = Chart(tmp_path / "chart_net.png", NET, read_log(writer.path))
    assert drawn.averages == [(1, 1.0), (2, 2.0)] and drawn.maps == [LoggedMap(batch_num=2, mean=0.5)]


def test_losses_that_are_not_finite_leave_a_gap(tmp_path: Path) -> None:
    losses = [(1, 2.0), (2, 3.0), (3, float("nan")), (4, float("inf")), (5, 2.0), (6, 1.0)]
    drawing = draw_chart(losses, [], max_batches=0, max_loss=20, title="net")
    pieces = [item for item in drawing.items if isinstance(item, Line) and len(item.points) == 2]
    assert [item.color for item in pieces].count("first") == 3  # the legend's, and one on each side of the gap
    assert drawing.png().startswith(b"\x89PNG")
