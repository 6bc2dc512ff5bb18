"""Streams of `detector demo`: a page with the frames as motion JPEG, AlexeyAB's JSON stream and posts."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from darkpy.errors import DarkpyError
from darkpy.serving.broadcast import JSON_BACKLOG_FRAMES, Broadcast, json_array_response, mjpeg_response
from darkpy.serving.detection_posts import DetectionPosts
from darkpy.serving.http_messages import HttpRequest, HttpResponse, Routes, json_response
from darkpy.serving.http_server import LOOPBACK_HOST, HttpServer
from darkpy.serving.web_pages import is_browser, video_page
from darkpy.sources.handoff import Worker

if TYPE_CHECKING:
    import PIL.Image

    from darkpy.evaluation.result import Result

STREAM_JPEG_QUALITY = 75
"""AlexeyAB's program has 40, with visible blocks."""
STREAM_CLOSE_SECONDS = 0.5
"""Time for the last bytes of the streams: the end of the JSON array."""


class VideoStreams:
    """Passes each frame's detections to viewers, clients and a host to post to. None of them delays the network.

    title, source: of the page. mjpeg_port, json_port: None opens none, 0 a free one.
    post_host: `host`, `host:port` or a URL, with the path to post to; None posts nothing.
    post_once: post the first detections only, as AlexeyAB's program with a time limit does.
    log: gets one line for each thing that goes wrong.
    Raises: DarkpyError when a port cannot be taken, or `post_host` is not an address.
    """

    def __init__(
        self,
        title: str,
        source: str,
        *,
        mjpeg_port: int | None = None,
        json_port: int | None = None,
        host: str = LOOPBACK_HOST,
        post_host: str | None = None,
        post_once: bool = False,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.images, self.records = Broadcast(), Broadcast(JSON_BACKLOG_FRAMES)
        self.servers: list[HttpServer] = []
        self._log, self._page = log, video_page(title, source)
        self._status: dict[str, Any] = {"frame": None, "rate": 0.0, "objects": {}}
        self._has_failed = False
        self._closing = ExitStack()
        self._encoder: Worker[Callable[[], PIL.Image.Image]] = Worker(
            self._publish_image, capacity=1, drops_oldest=True
        )
        with ExitStack() as closing:  # open ones are closed if the next cannot be opened
            closing.callback(self._encoder.finish)
            self._posts = None
            if post_host is not None:
                self._posts = DetectionPosts(post_host, source, once=post_once, log=log)
                closing.callback(self._posts.finish)
            ports = {"-mjpeg_port": (mjpeg_port, self._image_routes()), "-json_port": (json_port, self._json_routes())}
            for option, (port, routes) in ports.items():
                if port is not None:
                    server = HttpServer(routes, host=host, port=port, log=log, option=option)
                    closing.callback(server.close, STREAM_CLOSE_SECONDS)
                    self.servers.append(server)
            closing.callback(self.records.finish)
            closing.callback(self.images.finish)
            self._closing = closing.pop_all()

    def __enter__(self) -> VideoStreams:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def has_viewers(self) -> bool:
        """True while images are wanted."""
        return self.images.viewers > 0

    def add(self, result: Result, record: str, rate: float) -> None:
        """Pass on the detections of a frame. record: as JSON. rate: frames per second, for the page."""
        objects = result.objects
        counts = Counter(detected.name for detected in objects)
        self._status = {"frame": result.frame + 1, "rate": rate, "objects": dict(counts.most_common())}
        self.records.publish(record.encode(errors="replace"))
        if self._posts is not None:
            self._posts.add(objects)

    def show(self, draw: Callable[[], PIL.Image.Image]) -> None:
        """Pass on the drawing of a frame, if there are viewers; `draw` runs in another thread, or not at all."""
        if self.has_viewers:
            self._encoder.put(draw)

    def _publish_image(self, draw: Callable[[], PIL.Image.Image]) -> None:
        try:
            data = io.BytesIO()
            draw().save(data, "JPEG", quality=STREAM_JPEG_QUALITY)
            self.images.publish(data.getvalue())
        except (DarkpyError, OSError, ValueError, MemoryError) as error:  # too large for a JPEG, for example
            if not self._has_failed:
                self._log(f"-mjpeg_port: a frame cannot be shown: {error}")
            self._has_failed = True

    def _image_routes(self) -> Routes:
        async def start(request: HttpRequest, _: bytes) -> HttpResponse:
            # AlexeyAB's program answers every request with the stream
            return self._page if is_browser(request) else mjpeg_response(self.images.subscribe())

        async def stream(_: HttpRequest, __: bytes) -> HttpResponse:
            return mjpeg_response(self.images.subscribe())

        async def status(_: HttpRequest, __: bytes) -> HttpResponse:
            return json_response({**self._status, "viewers": self.images.viewers})

        return {"/": {"GET": start}, "/stream.mjpg": {"GET": stream}, "/status.json": {"GET": status}}

    def _json_routes(self) -> Routes:
        async def stream(_: HttpRequest, __: bytes) -> HttpResponse:
            return json_array_response(self.records.subscribe())

        return {"/": {"GET": stream}}
