"""Requests, responses and errors of HTTP: strict parsing, and heads with the headers that every answer has."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import urlsplit

from darkpy.finding import printable

JSON_TYPE, HTML_TYPE = "application/json", "text/html; charset=utf-8"
COMMON_HEADERS: Mapping[str, str] = {
    "Server": "darkpy",
    "Connection": "close",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # other sites can neither read nor embed the answers; pages of this host can, on any port
    "Cross-Origin-Resource-Policy": "same-site",
}
MAX_TARGET_BYTES = 2048
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,%d}) HTTP/(\d)\.(\d)" % MAX_TARGET_BYTES)
_HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_SINGLE_HEADERS = ("content-length", "content-type", "host", "origin", "transfer-encoding")
"""Headers whose repetition makes a request ambiguous."""


class HttpError(Exception):
    """An answer other than success: its status, and a message for the client without details of the server."""

    def __init__(self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}

    def response(self) -> HttpResponse:
        return json_response({"error": printable(self.message, lines=True)}, self.status, self.headers)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request without its body. path: without the query. headers: by their names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def has_body(self) -> bool:
        return "transfer-encoding" in self.headers or self.headers.get("content-length", "0") != "0"

    def body_length(self, max_bytes: int) -> int:
        """Length of the body. Raises: HttpError when it is missing, malformed or too large."""
        text = self.headers.get("content-length")
        if text is None or "transfer-encoding" in self.headers:
            raise HttpError(HTTPStatus.LENGTH_REQUIRED, "the request needs a Content-Length, not a chunked body")
        if not re.fullmatch(r"[0-9]{1,15}", text):
            raise HttpError(HTTPStatus.BAD_REQUEST, "Content-Length is not a count of bytes")
        if int(text) > max_bytes:
            message = f"the body has {text} bytes, the limit is {max_bytes}"
            raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        return int(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpResponse:
    """An answer; a body of several chunks has no length and ends with the connection."""

    body: bytes | AsyncGenerator[bytes, None] = b""
    content_type: str = JSON_TYPE
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)

    def head(self) -> bytes:
        length = {"Content-Length": str(len(self.body))} if isinstance(self.body, bytes) else {}
        headers = {"Date": formatdate(usegmt=True), **COMMON_HEADERS, "Content-Type": self.content_type, **length}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **self.headers}.items())
        return f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n{lines}\r\n".encode("latin-1")


Handler = Callable[[HttpRequest, bytes], Awaitable[HttpResponse]]
"""Function that answers a request with its body."""
Routes = Mapping[str, Mapping[str, Handler]]
"""Handlers by path and method. Paths are compared as a whole: none of them leads to a file."""


def json_response(
    value: object, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    body = json.dumps(value, allow_nan=False).encode() + b"\n"
    return HttpResponse(body=body, status=status, headers=headers or {})


def parse_head(head: bytes) -> HttpRequest:
    """Parse a request line and its headers. Raises: HttpError for anything that is not plain HTTP/1."""
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise HttpError(HTTPStatus.BAD_REQUEST, "not an HTTP request; the address begins with http://")
    if line[3] != b"1":
        raise HttpError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this server supports HTTP/1.0 and HTTP/1.1")
    headers: dict[str, str] = {}
    for text in lines:
        header = _HEADER_LINE.fullmatch(text)
        if header is None:
            raise HttpError(HTTPStatus.BAD_REQUEST, "a header is malformed")
        name, value = header[1].decode("ascii").lower(), header[2].decode("latin-1").strip(" \t")
        if name in headers and name in _SINGLE_HEADERS:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"{name} is given twice")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if "host" not in headers and line[4] != b"0":
        raise HttpError(HTTPStatus.BAD_REQUEST, "the Host header is missing")
    try:
        target = urlsplit(line[2].decode("ascii"))
    except ValueError as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, "the target is not a path") from error
    if not target.path.startswith("/"):
        raise HttpError(HTTPStatus.BAD_REQUEST, "the target is not a path")
    return HttpRequest(line[1].decode("ascii"), target.path, headers)
