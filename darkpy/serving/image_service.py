"""A network as a service: it answers posted images with JSON."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from PIL.Image import DecompressionBombError

from darkpy.data.loading.decoding import UnsupportedImage, layout_of_bytes
from darkpy.errors import ImageError, is_out_of_memory
from darkpy.serving.http_messages import HttpError, HttpRequest, HttpResponse, Routes, json_response
from darkpy.serving.http_server import LOOPBACK_HOST, RETRY_HEADERS, HttpServer, ServerLimits
from darkpy.serving.image_tasks import ImageTask
from darkpy.serving.openapi import service_description
from darkpy.serving.web_pages import image_page
from darkpy.sources.frames import Frame

MAX_SERVED_PIXELS = 50_000_000
"""Default of the largest image: 150 MB of RGB, and several are in memory at a time."""
MAX_ANSWER_SECONDS = 60.0
"""Longest wait of a request for the network."""
CLOSE_SECONDS = 5.0
"""Time for the requests that are being answered when the service ends."""
POST_EXAMPLES = "curl -F image=@dog.jpg, or curl -H 'Content-Type: image/jpeg' --data-binary @dog.jpg"
_FORM_TYPE = re.compile(r'multipart/form-data\s*;.*?boundary="?([^";,\s]{1,70})"?.*', re.IGNORECASE)


class _Job(NamedTuple):
    frame: Frame
    future: Future[dict[str, Any]]


class ImageService:
    """Answers `POST /detect` or `POST /classify`, by its task, with a record of the image, until `close`.

    Images wait in one queue; a thread runs the network on up to `batch_size` of them at a time.

    max_pixels: of an image. limits: `bodies` is the number of images that may wait.
    host, port, log: as in `HttpServer`.
    Raises: DarkpyError when the port cannot be taken.
    """

    def __init__(
        self,
        task: ImageTask,
        *,
        batch_size: int = 1,
        max_pixels: int = MAX_SERVED_PIXELS,
        host: str = LOOPBACK_HOST,
        port: int = 0,
        limits: ServerLimits | None = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        limits = limits or ServerLimits()
        self._task, self._batch_size, self._max_pixels, self._log = task, batch_size, max_pixels, log
        self._jobs: deque[_Job] = deque()
        self._changed, self._is_closed = threading.Condition(), False
        self._decoded = asyncio.Semaphore(batch_size + 2)  # images in memory: those of the network, and the next ones
        title = Path(task.network.plan.file).name
        page = image_page(title, task.verb, task.noun)
        description = service_description(
            f"{task.noun} with {title}", task.verb, task.schema, limits.body_bytes, max_pixels
        )

        async def start(_: HttpRequest, __: bytes) -> HttpResponse:
            return page

        async def describe(_: HttpRequest, __: bytes) -> HttpResponse:
            return json_response(description)

        async def health(_: HttpRequest, __: bytes) -> HttpResponse:
            counts = {"classes": len(task.names), "waiting": len(self._jobs)}
            return json_response({"status": "ok", "network": title, "task": task.verb, **counts})

        routes: Routes = {
            "/": {"GET": start},
            f"/{task.verb}": {"POST": self._respond},
            "/health": {"GET": health},
            "/openapi.json": {"GET": describe},
        }
        self.server = HttpServer(routes, host=host, port=port, limits=limits, log=log)
        self._thread = threading.Thread(target=self._run, name="darkpy network", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, answer the requests that wait, for a short time, and end the thread of the network."""
        self.server.close(CLOSE_SECONDS)
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS)

    async def _respond(self, request: HttpRequest, body: bytes) -> HttpResponse:
        image = image_of(request.headers.get("content-type", ""), body)
        try:
            return json_response(await asyncio.wait_for(self._answer(image), MAX_ANSWER_SECONDS))
        except asyncio.TimeoutError as error:
            raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "the network is busy", RETRY_HEADERS) from error
        except ImageError as error:
            raise HttpError(HTTPStatus.BAD_REQUEST, error.message) from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._log(f"out of memory: {str(error).partition(chr(10))[0]}")
            raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "out of memory", RETRY_HEADERS) from error

    async def _answer(self, image: bytes) -> dict[str, Any]:
        async with self._decoded:
            frame = await asyncio.to_thread(self._decode, image)
            job = _Job(frame, Future())
            with self._changed:
                self._jobs.append(job)
                self._changed.notify_all()
            return await asyncio.wrap_future(job.future)

    def _decode(self, image: bytes) -> Frame:
        """Decode an image. Raises: HttpError when it is too large, ImageError when it is none."""
        try:
            layout = layout_of_bytes(image, "image")
        except ImageError as error:
            if not isinstance(error.__cause__, UnsupportedImage | DecompressionBombError):
                raise
            raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error.message) from error
        if layout.w * layout.h > self._max_pixels:
            message = f"the image has {layout.w} x {layout.h} pixels, the limit is {self._max_pixels}"
            raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        frame = Frame(image, path="image")  # for messages
        frame.load(self._task.network.plan.input_shape.c)
        return frame

    def _run(self) -> None:
        """Run the network on images of the queue until the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._is_closed)
                if not self._jobs:
                    return
                jobs = [self._jobs.popleft() for _ in range(min(len(self._jobs), self._batch_size))]
            jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if not jobs:
                continue
            try:
                records = self._task.records([job.frame for job in jobs], self._batch_size)
                for job, record in zip(jobs, records, strict=True):
                    if isinstance(record, ImageError):
                        job.future.set_exception(record)
                    else:
                        job.future.set_result(record)
            except Exception as error:  # reported to each client; the next images may be fine
                for job in jobs:
                    if not job.future.done():
                        job.future.set_exception(error)


def image_of(content_type: str, body: bytes) -> bytes:
    """Return the image of a request: its body, or the file of a form. Raises: HttpError."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        boundary = _FORM_TYPE.fullmatch(content_type)
        if boundary is None:
            raise HttpError(HTTPStatus.BAD_REQUEST, "the form has no boundary")
        delimiter = b"\r\n--" + boundary[1].encode("latin-1")
        parts = [part.partition(b"\r\n\r\n") for part in (b"\r\n" + body).split(delimiter)[1:]]
        files = [content for head, _, content in parts if b"filename=" in head.lower()]
        if not files:
            raise HttpError(HTTPStatus.BAD_REQUEST, "the form has no file")
        body = files[0]
    elif not (kind.startswith("image/") or kind in ("", "application/octet-stream")):
        raise HttpError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{kind or 'no type'} is not an image; {POST_EXAMPLES}")
    if not body:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"the image is empty; {POST_EXAMPLES}")
    return body
