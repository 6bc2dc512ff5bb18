"""The live page of a training follows its log."""

from __future__ import annotations

import io
import math
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from PIL import Image

import darkpy
from darkpy.__main__ import main
from darkpy.cli.serving_options import serving_dashboard
from darkpy.diagnostics.monitor.run_log import LoggedLayer, LoggedMap, LoggedRun, LogWriter
from darkpy.errors import DarkpyError
from darkpy.finding import Finding
from darkpy.serving import dashboard as dashboard_module
from darkpy.serving.dashboard import TrainingDashboard
from darkpy.training.reports import UpdateReport
from tests.serving.browser import browsing, needs_browser
from tests.serving.conftest import get

RUN = LoggedRun(
    cfg="my.cfg",
    dialect="pjreddie",
    time=1.7e9,
    batch_num=0,
    seen=0,
    net={"max_batches": 100},
    layers=(LoggedLayer(index=0, type="convolutional", line=9, place="layer 0 [convolutional] my.cfg:9", learns=True),),
)


def update(n: int, loss: float = 3.0) -> UpdateReport:
    return UpdateReport(batch_num=n, loss=loss, average=loss, rate=0.1, seen=8 * n, images=8, seconds=0.5, norm=1.0)


def started(path: Path, *, resume: object = None, is_main: bool = True) -> Any:
    """A run as `on_start` gets it."""
    trainer = SimpleNamespace(monitor=SimpleNamespace(log_path=path), net=SimpleNamespace(max_chart_loss=10.0))
    return SimpleNamespace(trainer=trainer, is_main=is_main, resume=resume)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainingDashboard]:
    monkeypatch.setattr(dashboard_module, "RENDER_SHARE", 1e9)
    monkeypatch.setattr(dashboard_module, "POLL_SECONDS", 0.02)
    dashboard = TrainingDashboard()
    yield dashboard
    dashboard.close()


def content(dashboard: TrainingDashboard) -> str:
    return get(dashboard.server.port, "/run.html").body.decode()


def test_the_page_follows_the_log(live: TrainingDashboard, tmp_path: Path) -> None:
    assert "Waiting for the first update" in content(live)
    path = tmp_path / "my.health.jsonl"
    live.on_start(started(path))
    writer = LogWriter(path)
    assert "Waiting for the first update" in content(live)
    writer.begin(RUN)
    assert "Waiting for the first update" in content(live)
    for n in range(1, 11):
        writer.update(update(n))
    text = content(live)
    assert "<p class=status>Update 10 of 100 · 16 images/s · 0:45 left</p>" in text
    assert 'id="loss"' in text and 'id="map"' not in text and "Nothing was found wrong" in text
    writer.map(LoggedMap(batch_num=10, mean=0.5))
    writer.finding(Finding(name="Spiking", message="<script>alert(1)</script>", batch_num=10))
    with path.open("a") as stream:
        stream.write('{"kind":"update"')  # is being written
        stream.flush()
        text = content(live)
        stream.write(',"batch_num":11,"loss":1,"average":2.5,"rate":0.1,"seen":88,"images":8}\n')
    assert 'id="map"' in text and "50.00 %" in text and "1 finding" in text and "<script>" not in text
    assert "Update 11 of 100" in content(live) and "cannot be read" not in content(live)
    path.unlink()
    assert get(live.server.port, "/run.html").status == 404


def test_an_unchanged_log_is_not_sent_again(live: TrainingDashboard, tmp_path: Path) -> None:
    path = tmp_path / "my.health.jsonl"
    writer = LogWriter(path)
    live.on_start(started(path))
    writer.begin(RUN)
    writer.update(update(1))
    tag = get(live.server.port, "/run.html").headers["ETag"]
    answer = get(live.server.port, "/run.html", f"If-None-Match: {tag}\r\n")
    assert (answer.status, answer.body) == (304, b"")
    writer.update(update(2))
    assert get(live.server.port, "/run.html", f"If-None-Match: {tag}\r\n").status == 200


def test_drawing_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_module, "RENDER_SHARE", 1e-5)
    path = tmp_path / "my.health.jsonl"
    writer = LogWriter(path)
    dashboard = TrainingDashboard()
    dashboard.on_start(started(path))
    writer.begin(RUN)
    first = content(dashboard)
    writer.update(update(1))
    assert content(dashboard) == first, "it is drawn again at once"
    dashboard.close()


def test_earlier_runs_of_the_log_are_shown_only_where_the_run_goes_on(live: TrainingDashboard, tmp_path: Path) -> None:
    path = tmp_path / "my.health.jsonl"
    writer = LogWriter(path)
    writer.begin(RUN)
    for n in range(1, 51):
        writer.update(update(n))
    live.on_start(started(path))
    assert "Waiting" in content(live)
    live.on_start(started(path, resume="a file"))
    assert "Update 50 of 100" in content(live)


def test_programs_get_the_chart_as_motion_jpeg(live: TrainingDashboard, tmp_path: Path) -> None:
    path = tmp_path / "my.health.jsonl"
    writer = LogWriter(path)
    live.on_start(started(path))
    writer.begin(RUN)
    with urlopen(live.server.url) as stream:
        for n in (1, 2):
            writer.update(update(n, math.inf if n == 1 else 2.0))
            head = [stream.readline() for _ in range(4)]
            assert (head[1], head[3]) == (b"Content-Type: image/jpeg\r\n", b"\r\n")
            data = stream.read(int(head[2].split()[1]) + 2)
            with Image.open(io.BytesIO(data)) as image:
                assert (image.format, image.size) == ("JPEG", (1000, 1000))


def test_a_run_without_a_log_is_an_error_and_other_ranks_do_nothing(live: TrainingDashboard, tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match="the live page shows the log of the monitor\n  hint: leave out --no-monitor"):
        run = started(tmp_path)
        run.trainer.monitor = None
        live.on_start(run)
    live.on_start(started(tmp_path / "none", is_main=False))
    assert "Waiting" in content(live)


def test_other_ranks_open_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with serving_dashboard(0, "127.0.0.1", has_monitor=True) as callbacks:
        assert callbacks == ()


@pytest.mark.slow
@needs_browser
def test_a_real_browser_follows_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "shapes", "--images", "32", "--valid", "4"]) == 0
    cfg = Path("shapes/sample.cfg")
    cfg.write_text(re.sub(r"max_batches=\d+", "max_batches=1000", cfg.read_text()).replace("width=128", "width=64"))
    dashboard = TrainingDashboard()

    class Control:
        def on_start(self, run: Any) -> None:
            self.run = run

    control = Control()
    training = threading.Thread(
        target=darkpy.train,
        args=("shapes/sample.cfg", "shapes/sample.data"),
        kwargs={"device": "cpu", "map_epochs": 1, "callbacks": [control, dashboard], "workers": 0},
    )
    number = "Number(document.querySelector('.status')?.textContent.match(/Update (\\d+)/)?.[1] ?? 0)"
    with browsing(tmp_path / "profile") as browser:
        pages = [browser.open(dashboard.server.url, size=(1000, 1400)), browser.open(dashboard.server.url, dark=True)]
        pages[0].wait_for("document.body.innerText.includes('Waiting for the first update')")
        training.start()
        seen = [int(pages[0].wait_for(number, 60))]
        pages[0].wait_for("!!document.getElementById('layers')")
        pages[0].evaluate("document.querySelector('#layers details').open = true")
        for _ in range(3):
            seen.append(int(pages[0].wait_for(f"{number} > {seen[-1]} && {number}", 60)))
        pages[1].wait_for(f"{number} > {seen[0]}", 60)
        pages[0].wait_for("!!document.getElementById('map')", 120)
        assert pages[0].evaluate("document.querySelector('#layers details').open"), "it was closed by an update"
        assert pages[0].evaluate("document.title") == "sample.cfg"
        sections = pages[0].evaluate("[...document.querySelectorAll('main>section')].map(part => part.id)")
        assert len(sections) == pages[0].evaluate("document.querySelector('main').children.length")
        assert sections[:4] == ["findings", "loss", "map", "rate"] and len(set(sections)) == len(sections)
        pages[0].pixels(tmp_path / "light.png")
        control.run.stop()
        training.join()
        dashboard.close()
        pages[0].wait_for("document.body.innerText.includes('No answer')")
        assert browser.complaints == [] or all("ERR_CONNECTION" in text for text in browser.complaints)
