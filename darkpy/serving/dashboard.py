"""Live page of a training: the report of `darkpy report`, updated during the run, and its chart as a stream."""

from __future__ import annotations

import asyncio
import io
import math
import os
import threading
from collections.abc import AsyncGenerator, Callable
from html import escape
from http import HTTPStatus
from pathlib import Path
from time import perf_counter, thread_time, time_ns
from typing import TYPE_CHECKING

import PIL.Image

from darkpy.diagnostics.monitor.run_log import LogReader, RunLog
from darkpy.diagnostics.report.chart import draw_chart
from darkpy.diagnostics.report.page import page_content
from darkpy.errors import DarkpyError
from darkpy.process import format_clock
from darkpy.serving.broadcast import mjpeg_response
from darkpy.serving.http_messages import HTML_TYPE, HttpError, HttpRequest, HttpResponse, Routes
from darkpy.serving.http_server import LOOPBACK_HOST, HttpServer
from darkpy.serving.web_pages import is_browser, training_page

if TYPE_CHECKING:
    from darkpy.training_session import TrainingRun

MAX_SHOWN_UPDATES = 5000
"""Updates of which curves are drawn; longer runs are thinned out, keeping the extremes."""
POLL_SECONDS = 1.0
"""Between two reads of the log, for the chart's stream."""
RENDER_SHARE = 0.05
"""Largest share of the time for drawing the page: it holds the GIL, which the training needs."""
PACE_UPDATES = 50
"""Updates over which the time of an update is averaged."""

_RENDERING_LOCK = threading.Lock()
if hasattr(os, "register_at_fork"):  # no process of the loader inherits a lock that a drawing thread holds
    os.register_at_fork(
        before=_RENDERING_LOCK.acquire, after_in_parent=_RENDERING_LOCK.release, after_in_child=_RENDERING_LOCK.release
    )


class TrainingDashboard:
    """Callback of a training that serves its live page until `close`.

    The log of the monitor is read while there are viewers, by another thread, and never for more than a twentieth of
    the time: a viewer hardly delays the training.

    host, port, log, option: as in `HttpServer`. Raises: DarkpyError when the port cannot be taken.
    """

    def __init__(
        self,
        *,
        host: str = LOOPBACK_HOST,
        port: int = 0,
        log: Callable[[str], None] = lambda line: None,
        option: str = "--dashboard",
    ) -> None:
        self._reader: LogReader | None = None
        self._max_loss, self._began = 0.0, time_ns()
        self._page = _Rendering(self._render_page)
        self._chart = _Rendering(self._render_chart)
        routes: Routes = {
            "/": {"GET": self._start},
            "/run.html": {"GET": self._content},
            "/stream.mjpg": {"GET": self._stream},
        }
        self.server = HttpServer(routes, host=host, port=port, log=log, option=option)
        self.close = self.server.close

    def on_start(self, run: TrainingRun) -> None:
        """Find the log of the run. Raises: DarkpyError for a run without a monitor, which has none."""
        path = getattr(run.trainer.monitor, "log_path", None)
        if not run.is_main:
            return
        if path is None:
            raise DarkpyError("the live page shows the log of the monitor", hint="leave out --no-monitor")
        self._max_loss = run.trainer.net.max_chart_loss
        start = 0 if run.resume is not None or not path.exists() else path.stat().st_size  # behind earlier runs
        self._reader = LogReader(path, start=start, most=MAX_SHOWN_UPDATES)

    async def _start(self, request: HttpRequest, body: bytes) -> HttpResponse:
        # AlexeyAB's program answers every request with the stream
        return training_page() if is_browser(request) else await self._stream(request, body)

    async def _content(self, request: HttpRequest, _: bytes) -> HttpResponse:
        try:
            content, version = await asyncio.to_thread(self._page.current, self._reader)
        except DarkpyError as error:  # it may be moved or removed during the run
            raise HttpError(HTTPStatus.NOT_FOUND, "the log of the run cannot be read") from error
        headers = {"ETag": f'"{self._began:x}-{version}"'}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return HttpResponse(status=HTTPStatus.NOT_MODIFIED, content_type=HTML_TYPE, headers=headers)
        return HttpResponse(body=content, content_type=HTML_TYPE, headers=headers)

    async def _stream(self, _: HttpRequest, __: bytes) -> HttpResponse:
        async def charts() -> AsyncGenerator[bytes, None]:
            shown = -1
            while True:
                try:
                    chart, version = await asyncio.to_thread(self._chart.current, self._reader)
                except DarkpyError:
                    return
                if chart and version != shown:
                    yield chart
                    shown = version
                await asyncio.sleep(POLL_SECONDS)

        return mjpeg_response(charts())

    def _render_page(self, log: RunLog | None) -> bytes:
        if log is None:
            return b'<p class="status idle">Waiting for the first update</p>'
        return f"<p class=status>{escape(_progress(log))}</p>{page_content(log)}".encode(errors="replace")

    def _render_chart(self, log: RunLog | None) -> bytes:
        if log is None:
            return b""
        drawing = draw_chart(
            [(update.batch_num, update.average) for update in log.updates],
            log.maps,
            max_batches=_max_batches(log),
            max_loss=self._max_loss,
            title=Path(log.run.cfg).stem,
        )
        data = io.BytesIO()
        with PIL.Image.open(io.BytesIO(drawing.png())) as image:
            image.save(data, "JPEG", quality=85)
        return data.getvalue()


class _Rendering:
    """Drawing of a log that is redrawn when the log has grown, within a limit of time."""

    def __init__(self, render: Callable[[RunLog | None], bytes]) -> None:
        self._render = render
        self._data = b""
        self._version, self._reads = -1, -1
        self._due = -math.inf

    def current(self, reader: LogReader | None) -> tuple[bytes, int]:
        """Return the drawing and its version. Raises: DarkpyError when the log cannot be read."""
        with _RENDERING_LOCK:
            if perf_counter() >= self._due:
                began = thread_time()
                if reader is not None:
                    reader.read_new()
                reads = 0 if reader is None else reader.lines
                if reads != self._reads:
                    self._reads = reads
                    self._data = self._render(reader.log() if reader is not None and reader.lines else None)
                    self._version += 1
                self._due = perf_counter() + (thread_time() - began) / RENDER_SHARE
            return self._data, self._version


def _max_batches(log: RunLog) -> int:
    batches = log.run.net.get("max_batches")
    return batches if isinstance(batches, int) else 0


def _progress(log: RunLog) -> str:
    """`Update 120 of 6000 · 31.2 images/s · 1:02:10 left`."""
    if not log.updates:
        return "Waiting for the first update"
    last, recent = log.updates[-1], log.updates[-PACE_UPDATES:]
    end = _max_batches(log)
    parts = [f"Update {last.batch_num} of {end}" if end else f"Update {last.batch_num}"]
    seconds = sum(update.seconds for update in recent[1:]) / max(last.batch_num - recent[0].batch_num, 1)
    if seconds > 0 and math.isfinite(seconds):
        parts.append(f"{last.images / seconds:.3g} images/s")
        if end > last.batch_num:
            parts.append(f"{format_clock(seconds * (end - last.batch_num))} left")
    return " · ".join(parts)
