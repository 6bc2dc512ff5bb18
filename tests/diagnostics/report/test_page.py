"""A run on one page, from a log as a training writes it."""

from __future__ import annotations

import io
import math
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkpy.diagnostics.monitor.run_log import (
    LoggedLayer,
    LoggedMap,
    LoggedRun,
    LogWriter,
    RunLog,
    read_log,
)
from darkpy.diagnostics.report.page import drawings, sheet_uri, write_page
from darkpy.errors import DarkpyError
from darkpy.finding import Finding, Location
from darkpy.training.reports import UpdateReport

TYPES = ("convolutional", "maxpool", "convolutional", "yolo")
LAYERS = tuple(
    LoggedLayer(
        index=index, type=kind, line=9 + 8 * index, place=f"layer {index} [{kind}] my.cfg:{9 + 8 * index}", learns=True
    )
    for index, kind in enumerate(TYPES)
)
NET = {"batch": 8, "learning_rate": 0.01, "steps": [300, 400], "max_batches": 500}


def update(n: int, *, looked: bool = False) -> UpdateReport:
    layers: dict[str, list[float | None]] = {"zero": [n / 400, 0.25, 1.0, None], "clamped": [None] * 4}
    layers["ratio"] = [1e-3, None, 1e-5 * n, None]
    return UpdateReport(
        batch_num=n,
        seen=8 * n,
        images=8,
        loss=100 / n,
        average=110 / n,
        rate=0.01,
        norm=5 / n,
        largest=1 / n,
        seconds=0.5,
        layers=layers if looked else {},
    )


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    """200 updates, the layers measured in each 10th, one refused, two findings, one of them with evidence."""
    writer = LogWriter(tmp_path / "my.health.jsonl")
    writer.begin(LoggedRun(cfg="my.cfg", dialect="pjreddie", time=1.8e9, batch_num=0, seen=0, net=NET, layers=LAYERS))
    for n in range(1, 201):
        writer.update(update(n, looked=n % 10 == 0))
    writer.update(replace(update(120), loss=math.nan, norm=math.inf, refused=True))
    writer.finding(
        Finding(
            name="DeadUnits",
            batch_num=90,
            message="dead",
            location=Location("my.cfg", 25, "convolutional", 2),
            hints=("activation=leaky",),
        )
    )
    writer.finding(
        Finding(
            name="NonFinite",
            batch_num=120,
            message="<script>alert(1)</script> & more",
            evidence="evidence/update_120",
            paths=("a&b.jpg",),
        )
    )
    evidence = tmp_path / "evidence/update_120"
    evidence.mkdir(parents=True)
    pixels = np.zeros((190, 320, 3), np.uint8)
    pixels[:, :160] = (255, 0, 0)
    Image.fromarray(pixels).save(evidence / "sheet.png")
    return read_log(tmp_path / "my.health.jsonl")


class _Page(HTMLParser):
    """External resources and content of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        self.ids.add(named.get("id") or "")
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "img", "br"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing(log: RunLog) -> None:
    page = _Page(write_page(log))
    assert page.open == []
    assert not {"script", "link", "iframe", "canvas", "form"} & set(page.tags)
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= page.ids


def test_findings_stand_in_order_with_what_to_try_and_the_evidence(log: RunLog) -> None:
    text = write_page(log)
    assert text.index("DeadUnits, update 90") < text.index("NonFinite, update 120")
    assert "<li>activation=leaky</li>" in text
    assert 'src="data:image/jpeg;base64,' in text
    assert "2 findings, 1 minibatch refused." in text


def test_what_the_log_holds_is_text_and_never_markup(log: RunLog) -> None:
    text = write_page(log)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text
    assert "a&amp;b.jpg" in text


def test_all_that_the_log_tells_is_drawn(log: RunLog) -> None:
    assert list(drawings(log)) == ["loss", "rate", "gradient", "layers_zero", "layers_ratio"]
    with_map = replace(log, maps=(LoggedMap(batch_num=100, mean=0.5),))
    assert "map" in drawings(with_map)
    assert "50.00 %" in write_page(with_map)


def test_heat_maps_of_zeros_are_one_line_and_columns_say_what_they_are(log: RunLog) -> None:
    figures: dict[str, list[float | None]] = {"zero": [0.0, 0.0, None, 0.0], "dead": [0.0] * 4, "clamped": [None] * 4}
    updates = tuple(
        replace(one, layers=figures | {"ratio": [1e-3, None, 1e-5, None]} if one.batch_num in (1, 2, 9) else {})
        for one in log.updates
    )
    text = write_page(replace(log, updates=updates))
    assert "0 in every measurement of every layer: Zeros, Dead units." in text
    assert "update; each column is a measurement, at unequal distances" in text and "layers_zero" not in text
    assert "at unequal distances" not in write_page(log) and "Not drawn" not in write_page(log)


def test_drawing_has_a_text_alternative(log: RunLog) -> None:
    labels = {name: drawing.label for name, drawing in drawings(log).items()}
    assert labels["loss"].startswith("Loss over updates: loss of an update from 0.5 to 100, at the end 0.5")
    assert "highest at the end: 1 in layer 2 [convolutional]" in labels["layers_zero"]
    assert write_page(log).count('role="img"') == 5


def test_drawings_are_images_too(log: RunLog) -> None:
    for drawing in drawings(log).values():
        image = Image.open(io.BytesIO(drawing.png()))
        assert image.size == (round(2 * drawing.w), round(2 * drawing.h))
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_a_run_that_has_not_begun_and_one_without_a_number_have_a_page(log: RunLog) -> None:
    none = replace(log, updates=(), refused=(), findings=())
    assert "Nothing was found wrong." in write_page(none)
    spoilt = tuple(
        replace(one, loss=math.nan, average=math.nan, norm=math.inf, largest=math.inf) for one in log.updates
    )
    text = write_page(replace(log, updates=spoilt))
    assert 'aria-label="Loss over updates: no values"' in text
    assert ">nan</dd>" in text


def test_nothing_outside_the_run_is_shown(log: RunLog, tmp_path: Path) -> None:
    folder = log.path.parent
    assert sheet_uri(folder, "evidence/update_120") is not None
    shutil.copytree(folder / "evidence/update_120", tmp_path.parent / "outside", dirs_exist_ok=True)
    for evidence in ("../outside", str(tmp_path.parent / "outside"), "evidence/none", "evidence\0", "."):
        assert sheet_uri(folder, evidence) is None
    (folder / "evidence/update_120/sheet.png").write_bytes(b"\x89PNG but no image")
    assert sheet_uri(folder, "evidence/update_120") is None


def test_a_log_with_odd_numbers_has_a_page(log: RunLog) -> None:
    run = replace(log.run, time=1e300, net={"max_batches": "<b>", "batch": None, "steps": [math.nan, 1e300]})
    odd = {"zero": [math.inf, -math.inf, 1e300], "ratio": [0.0, -1.0], "none": [1.0] * 90}
    updates = (*log.updates, replace(update(2_000_000_000), loss=1e300, norm=-1.0, layers=odd))
    text = write_page(replace(log, run=run, starts=(run,), updates=updates))
    assert "<dd>-</dd>" in text
    assert "of &lt;b&gt;" in text


def test_events_without_tensorboard_are_one_clear_error(
    log: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from darkpy.diagnostics.report.events import write_events

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DarkpyError, match=r'pip install "darkpy-yolo\[tensorboard\]"'):
        write_events(log, tmp_path / "events")
    assert not (tmp_path / "events").exists()


def test_a_long_run_of_many_layers_stays_a_page(log: RunLog) -> None:
    layers = tuple(replace(LAYERS[0], index=index, place=f"layer {index}") for index in range(160))
    looked = {"zero": [0.5] * 160, "gradient": [1e-3] * 160}
    updates = tuple(replace(update(n), layers=looked if n % 5 == 0 else {}) for n in range(1, 5001))
    began = time.process_time()
    text = write_page(replace(log, run=replace(log.run, layers=layers), updates=updates))
    assert len(text) < 600_000
    assert time.process_time() - began < 5


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_real_browser_shows_it_in_light_and_in_dark(log: RunLog, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(write_page(log))
    backgrounds = []
    for scheme in ("1", "0"):  # Blink's numbers for light and dark
        target = tmp_path / f"{scheme}.png"
        command = [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={tmp_path / f'profile{scheme}'}", "--enable-logging=stderr"),
            *(f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1000,2400"),
            *(f"--screenshot={target}", (tmp_path / "page.html").as_uri()),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert not re.search(r"Refused to|CONSOLE", done.stderr), done.stderr
        pixels_HW3 = np.asarray(Image.open(target).convert("RGB")).astype(int)
        backgrounds.append(tuple(pixels_HW3[5, 5]))
        red_HW = (pixels_HW3 - (255, 0, 0)).__abs__().sum(2) < 60
        assert red_HW.sum() > 5000, "the evidence"
        yellow_HW = abs(pixels_HW3 - (253, 231, 37)).sum(2) < 30
        assert yellow_HW.sum() > 3000, "the layer that is all zeros"
    assert backgrounds == [(255, 255, 255), (20, 24, 31)]
