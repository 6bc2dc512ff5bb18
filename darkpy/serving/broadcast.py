"""Streams for any number of viewers, none of which delays the sender; slow viewers miss items."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from darkpy.serving.http_messages import JSON_TYPE, HttpResponse

MJPEG_BOUNDARY = "darkpyframe"
JSON_BACKLOG_FRAMES = 32
"""Frames that wait for a client of a JSON stream; beyond them the oldest is dropped."""


class _Subscriber:
    def __init__(self, backlog: int) -> None:
        self.items: deque[bytes] = deque(maxlen=backlog)
        self.is_woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def wake(self) -> None:
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(self.is_woken.set)


class Broadcast:
    """Passes items from any thread to all subscribers of a server.

    backlog: items queued for a subscriber; beyond it the oldest are dropped.
    """

    def __init__(self, backlog: int = 1) -> None:
        self._backlog = backlog
        self._subscribers: list[_Subscriber] = []
        self._lock = threading.Lock()
        self._is_finished = False

    @property
    def viewers(self) -> int:
        return len(self._subscribers)

    def publish(self, item: bytes) -> None:
        with self._lock:
            for subscriber in self._subscribers:
                subscriber.items.append(item)
                subscriber.wake()

    def finish(self) -> None:
        """End the streams of all subscribers behind the items that wait."""
        with self._lock:
            self._is_finished = True
            for subscriber in self._subscribers:
                subscriber.wake()

    async def subscribe(self) -> AsyncGenerator[bytes, None]:
        """Yield the items to come; in the server's thread."""
        subscriber = _Subscriber(self._backlog)
        with self._lock:
            self._subscribers.append(subscriber)
        try:
            while True:
                while subscriber.items:
                    yield subscriber.items.popleft()
                if self._is_finished:
                    return
                await subscriber.is_woken.wait()
                subscriber.is_woken.clear()
        finally:
            with self._lock:
                self._subscribers.remove(subscriber)


def mjpeg_response(images: AsyncGenerator[bytes, None]) -> HttpResponse:
    """Answer with JPEG images that replace each other: motion JPEG, as browsers, OpenCV and FFmpeg read it."""

    async def parts() -> AsyncGenerator[bytes, None]:
        yield f"--{MJPEG_BOUNDARY}\r\n".encode()
        async with aclosing(images):
            async for image in images:
                # the boundary is sent with the image before it: browsers show an image when they receive it
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
                yield b"".join((head.encode(), image, f"\r\n--{MJPEG_BOUNDARY}\r\n".encode()))

    return HttpResponse(body=parts(), content_type=f"multipart/x-mixed-replace; boundary={MJPEG_BOUNDARY}")


def json_array_response(records: AsyncGenerator[bytes, None]) -> HttpResponse:
    """Answer with a JSON array that grows record by record, in the form of AlexeyAB's JSON stream.

    Source: AlexeyAB/darknet src/http_stream.cpp JSON_sender
    """

    async def chunks() -> AsyncGenerator[bytes, None]:
        separator = b"[\n"
        async with aclosing(records):
            async for record in records:
                yield separator + record
                separator = b", \n"
        yield b"[\n\n]" if separator == b"[\n" else b"\n]"

    return HttpResponse(body=chunks(), content_type=JSON_TYPE)
