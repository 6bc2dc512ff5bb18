"""Clients of the servers: whole requests as bytes."""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(port: int, data: bytes, *, end: bool = False, seconds: float = 10) -> Answer:
    """Send bytes to a server and read its whole answer. end: half-close the connection behind them."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as stream:
            return parse(stream.read())


def parse(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]) if first else 0, headers, body)


def get(port: int, path: str, headers: str = "", method: str = "GET") -> Answer:
    return send(port, f"{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}\r\n".encode())


def post(port: int, path: str, body: bytes, content_type: str | None = "image/jpeg", headers: str = "") -> Answer:
    kind = "" if content_type is None else f"Content-Type: {content_type}\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{kind}{headers}\r\n"
    return send(port, head.encode() + body)
