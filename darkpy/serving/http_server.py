"""HTTP server in a thread of its own: one request a connection, and a limit on everything that a client may take.

asyncio of the standard library, because limits are essential here and a deadline on a whole request is one line
in it. `http.server` keeps a thread for each connection and a deadline for each read only, so that a client sending a
byte now and then holds its thread forever; uvicorn has no deadline on the head of a request, and would be a
dependency of every training page.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from darkpy.errors import DarkpyError
from darkpy.serving.http_messages import Handler, HttpError, HttpRequest, HttpResponse, Routes, parse_head

LOOPBACK_HOST = "127.0.0.1"
MAX_PENDING_CONNECTIONS = 128
SEND_BUFFER_BYTES = 1 << 18
"""Part of an answer that the kernel buffers: little, so that a slow viewer does not lag behind."""
LINGER_SECONDS = 1.0
"""Time in which the rest of a refused body is read: closing the connection earlier would lose the answer."""
CANCEL_TRIES, CANCEL_SECONDS = 10, 0.05
RETRY_HEADERS = {"Retry-After": "1"}

_LISTENING_SOCKETS: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def _close_in_child() -> None:
    """Close the ports in a forked process: a loader's worker that outlives its training would keep them taken."""
    for listener in tuple(_LISTENING_SOCKETS):
        listener.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerLimits:
    """Limits of a server; a client beyond one gets an error or loses its connection.

    connections: at a time; further ones get 503, and beyond twice as many nothing.
    bodies: requests with a body at a time; further ones get 503.
    head_seconds, body_seconds: for the whole head and the whole body. send_seconds: for each chunk of an answer.
    """

    connections: int = 64
    bodies: int = 32
    head_bytes: int = 1 << 14
    body_bytes: int = 20 << 20
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    send_seconds: float = 10.0


DEFAULT_LIMITS = ServerLimits()


class HttpServer:
    """Answers requests by `routes` until `close`.

    host: address to listen on. On a loopback address, requests under other host names are refused: a web page could
        otherwise lead its own name here and read the answers (DNS rebinding). port: 0 takes a free one.
    log: gets one line for each failure of the server itself.
    statuses: how many answers had each status.
    Raises: DarkpyError when the port cannot be taken.
    """

    def __init__(
        self,
        routes: Routes,
        *,
        host: str = LOOPBACK_HOST,
        port: int = 0,
        limits: ServerLimits = DEFAULT_LIMITS,
        log: Callable[[str], None] = lambda line: None,
        option: str = "--port",
    ) -> None:
        self.limits, self.statuses = limits, Counter[int]()
        self.option, self._routes, self._log = option, routes, log
        self._socket = _listen(host, port, option)
        address, self.port = self._socket.getsockname()[:2]
        self.is_loopback = ipaddress.ip_address(address.partition("%")[0]).is_loopback
        self._host_names = {"localhost", host.lower(), address}
        shown = "localhost" if address in ("0.0.0.0", "::") else address
        self.url = f"http://[{shown}]:{self.port}/" if ":" in shown else f"http://{shown}:{self.port}/"
        self._connections: set[asyncio.Task[Any]] = set()
        self._answering: set[asyncio.Task[Any]] = set()  # those whose request has arrived
        self._bodies = 0
        self._loop = asyncio.new_event_loop()
        self._closing, self._grace_seconds = asyncio.Event(), 0.0
        self._thread = threading.Thread(target=self._run, name="darkpy http", daemon=True)
        self._thread.start()

    def close(self, grace_seconds: float = 0.0) -> None:
        """Stop listening and end all connections. grace_seconds: time for answers that are on their way."""
        self._grace_seconds = grace_seconds
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _run(self) -> None:
        self._loop.set_exception_handler(
            lambda _, context: self._log(str(context.get("exception", context["message"])))
        )
        try:
            self._loop.run_until_complete(self._listen_until_closed())
        finally:
            self._loop.close()

    async def _listen_until_closed(self) -> None:
        listener = await asyncio.start_server(
            self._connected, sock=self._socket, limit=self.limits.head_bytes, backlog=MAX_PENDING_CONNECTIONS
        )
        await self._closing.wait()
        listener.close()
        if self._answering and self._grace_seconds:
            await asyncio.wait(self._answering, timeout=self._grace_seconds)
        for _ in range(CANCEL_TRIES):
            for task in self._connections:
                task.cancel()
            if self._connections:  # `wait_for` of Python before 3.12 may lose a cancellation
                await asyncio.wait(self._connections, timeout=CANCEL_SECONDS)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close the connection."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writer.transport.set_write_buffer_limits(high=0)
        try:
            if len(self._connections) > 2 * self.limits.connections:
                writer.transport.abort()
            elif len(self._connections) > self.limits.connections:
                error = HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections", RETRY_HEADERS)
                await self._send(writer, error.response(), has_body=True)
                await _discard(reader)
            else:
                await self._serve(reader, writer, task)
        except (OSError, EOFError, asyncio.TimeoutError, asyncio.CancelledError):
            writer.transport.abort()  # the client has disconnected or is too slow, or the server ends
        finally:
            self._connections.discard(task)
            self._answering.discard(task)
            with suppress(OSError):  # a forked process may hold a copy of the socket, which `close` would leave open
                writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[Any]) -> None:
        method, is_unread = "GET", True
        try:
            request = await self._read_head(reader)
            self._answering.add(task)
            method, is_unread = request.method, request.has_body
            handler = self._route(request)
            if method != "POST":
                response = await handler(request, b"")
            elif self._bodies >= self.limits.bodies:
                raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are waiting", RETRY_HEADERS)
            else:
                self._bodies += 1
                try:
                    body = await self._read_body(request, reader, writer)
                    is_unread = False
                    response = await handler(request, body)
                finally:
                    self._bodies -= 1
        except HttpError as error:
            response = error.response()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # a defect must not end the server, and its details are not for the client
            self._log(f"{method}: {type(error).__name__}: {error}")
            response = HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed on this request").response()
        await self._send(writer, response, has_body=method != "HEAD")
        self._answering.discard(task)
        if is_unread:
            await _discard(reader)

    async def _read_head(self, reader: asyncio.StreamReader) -> HttpRequest:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.limits.head_seconds)
        except asyncio.TimeoutError as error:
            raise HttpError(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time") from error
        except asyncio.LimitOverrunError as error:
            raise HttpError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too long") from error
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                raise
            raise HttpError(HTTPStatus.BAD_REQUEST, "the request is incomplete") from error
        return parse_head(head)

    def _route(self, request: HttpRequest) -> Handler:
        """Find the handler of a request. Raises: HttpError."""
        host = request.headers.get("host", "")
        if self.is_loopback and host and not self._is_own_name(host):
            message = "this server is for localhost; --host ADDRESS makes it listen for other machines"
            raise HttpError(HTTPStatus.MISDIRECTED_REQUEST, message)
        origin = request.headers.get("origin")
        if request.method == "POST" and origin is not None and origin.lower().partition("://")[2] != host.lower():
            raise HttpError(HTTPStatus.FORBIDDEN, "requests from pages of other sites are not answered")
        by_method = self._routes.get(request.path)
        if by_method is None:
            raise HttpError(HTTPStatus.NOT_FOUND, f"unknown path; there are {', '.join(self._routes)}")
        handler = by_method.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join([*by_method, *(["HEAD"] if "GET" in by_method else [])])
            message = f"{request.path} has the methods {allowed}"
            raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, message, {"Allow": allowed})
        return handler

    def _is_own_name(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self._host_names or ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    async def _read_body(
        self, request: HttpRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        length = request.body_length(self.limits.body_bytes)
        if request.headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            return await asyncio.wait_for(reader.readexactly(length), self.limits.body_seconds)
        except asyncio.TimeoutError as error:
            raise HttpError(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time") from error

    async def _send(self, writer: asyncio.StreamWriter, response: HttpResponse, *, has_body: bool) -> None:
        """Send an answer. Raises: TimeoutError when the client does not read it."""
        self.statuses[response.status.value] += 1
        writer.write(response.head())
        if isinstance(response.body, bytes):
            writer.write(response.body if has_body else b"")
            await self._drain(writer)
        else:
            async with aclosing(response.body) as chunks:
                if has_body:
                    await self._drain(writer)
                    async for chunk in chunks:
                        writer.write(chunk)
                        await self._drain(writer)
        writer.write_eof()

    async def _drain(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.wait_for(writer.drain(), self.limits.send_seconds)


async def _discard(reader: asyncio.StreamReader) -> None:
    """Read and drop what a client still sends, for a short time."""

    async def read_all() -> None:
        while await reader.read(1 << 16):
            continue

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(read_all(), LINGER_SECONDS)


def _listen(host: str, port: int, option: str) -> socket.socket:
    """Take a port. option: that names the port, for messages. Raises: DarkpyError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        hint = f"--host 0.0.0.0 listens on all addresses of this machine, --host {LOOPBACK_HOST} on none of the network"
        raise DarkpyError(
            f"--host {host}: is not an address: {getattr(error, 'strerror', None) or error}", hint=hint
        ) from error
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ports of closed connections are free
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.bind(address)
        listener.listen(MAX_PENDING_CONNECTIONS)
    except OSError as error:
        listener.close()
        hint = f"{option} 0 takes a free port"
        if error.errno == errno.EADDRINUSE:
            raise DarkpyError(f"{option} {port}: another program has this port of {host}", hint=hint) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise DarkpyError(f"{option} {port}: ports below 1024 are for root", hint=hint) from error
        if error.errno == errno.EADDRNOTAVAIL:
            hint = f"--host 0.0.0.0 listens on all addresses, --host {LOOPBACK_HOST} for this machine alone"
            raise DarkpyError(f"--host {host}: is not an address of this machine", hint=hint) from error
        raise DarkpyError(f"{option} {port}: {error.strerror or error}") from error
    listener.setblocking(False)
    _LISTENING_SOCKETS.add(listener)
    return listener
