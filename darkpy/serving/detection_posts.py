"""Detections posted to a web server, as AlexeyAB's -http_post_host does."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Sequence
from itertools import groupby
from time import strftime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from darkpy.errors import DarkpyError
from darkpy.sources.handoff import Worker

if TYPE_CHECKING:
    from darkpy.evaluation.result import Object

POST_TIMEOUT_SECONDS = 3.0


class DetectionPosts:
    """Posts the detections of each frame from a thread of its own; while it waits for the host, frames are dropped.

    host: `host/path`, `host:port/path`, or a URL with http:// or https://; without a port it is 80 (443).
    source: name of the video, for the text. once: post the first detections only.
    log: gets one line when posts begin to fail, and one when they succeed again.
    Source:  AlexeyAB/darknet src/http_stream.cpp send_http_post_request
    Differs: his program waits for the host, and takes neither a port nor https.
    Raises:  DarkpyError when `host` is not an address.
    """

    def __init__(self, host: str, source: str, *, once: bool = False, log: Callable[[str], None]) -> None:
        try:
            url = urlsplit(host if "://" in host else f"http://{host}")
            port = url.port
        except ValueError:
            url, port = urlsplit(""), None
        if url.scheme not in ("http", "https") or not url.hostname or " " in host or not host.isprintable():
            hint = "-http_post_host example.com/detections or -http_post_host http://127.0.0.1:8000/detections"
            raise DarkpyError(f"-http_post_host {host}: is not an address of a web server", hint=hint)
        self._connect = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self._host, self._port = url.hostname, port
        self._path = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
        self._source, self._once, self._log = source, once, log
        self._has_posted = self._has_failed = False
        self._worker: Worker[str] = Worker(self._post, capacity=1, drops_oldest=True)

    def finish(self) -> None:
        """Wait a short time for the post in progress."""
        self._worker.finish(POST_TIMEOUT_SECONDS)

    def add(self, objects: Sequence[Object]) -> None:
        """Post the detections of a frame; nothing if there are none."""
        if objects and not (self._once and self._has_posted):
            self._has_posted = True
            self._worker.put(post_text(objects, self._source, strftime("%A %Y-%m-%d %H:%M:%S")))

    def _post(self, text: str) -> None:
        connection = self._connect(self._host, self._port, timeout=POST_TIMEOUT_SECONDS)
        try:
            headers = {"Content-Type": "text/plain; charset=utf-8"}
            connection.request("POST", self._path, text.encode(errors="replace"), headers)
            status = connection.getresponse().status
            problem = "" if status < 400 else f"answers with status {status}"
        except (OSError, http.client.HTTPException) as error:
            problem = str(getattr(error, "strerror", None) or error or type(error).__name__)
        finally:
            connection.close()
        if bool(problem) != self._has_failed:
            self._log(f"-http_post_host {self._host}: {problem or 'answers again'}")
        self._has_failed = bool(problem)


def post_text(objects: Sequence[Object], source: str, time_text: str) -> str:
    """Return the text that AlexeyAB's program posts: one class for each box, the time, and the source."""
    boxes = (next(classes) for _, classes in groupby(objects, key=lambda detected: detected.box_frac))
    lines = "".join(f"{first.name}, id: {first.class_id}\n" for first in boxes)
    return f"{lines}\ntime:\n{time_text}\nvideosource:\n{source}"
