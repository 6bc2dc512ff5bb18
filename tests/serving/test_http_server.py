"""The server's limits: whatever a client sends or does not, it gets one clear answer and keeps nothing."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress

import pytest

from darkpy.cli.serving_options import tell_address
from darkpy.errors import DarkpyError
from darkpy.serving.broadcast import Broadcast, json_array_response, mjpeg_response
from darkpy.serving.http_messages import HttpRequest, HttpResponse, Routes, json_response
from darkpy.serving.http_server import HttpServer, ServerLimits
from tests.serving.conftest import get, post, send

LIMITS = ServerLimits(connections=6, bodies=2, body_bytes=1000, head_seconds=0.1, body_seconds=0.1, send_seconds=0.15)
OK = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def hello(request: HttpRequest, body: bytes) -> HttpResponse:
    return json_response({"path": request.path, "bytes": len(body)})


async def fail(_: HttpRequest, __: bytes) -> HttpResponse:
    raise RuntimeError("a secret of the server")


async def sleep(_: HttpRequest, __: bytes) -> HttpResponse:
    await asyncio.sleep(0.2)
    return json_response("slept")


async def flood(_: HttpRequest, __: bytes) -> HttpResponse:
    async def chunks() -> AsyncGenerator[bytes, None]:
        while True:
            yield b"x" * (1 << 16)

    return HttpResponse(body=chunks())


ROUTES: Routes = {
    "/hello": {"GET": hello, "POST": hello},
    "/fail": {"GET": fail},
    "/sleep": {"POST": sleep},
    "/flood": {"GET": flood},
}


@contextmanager
def serving(limits: ServerLimits = LIMITS, host: str = "127.0.0.1") -> Iterator[tuple[HttpServer, list[str]]]:
    log: list[str] = []
    server = HttpServer(ROUTES, limits=limits, host=host, log=log.append)
    try:
        yield server, log
    finally:
        server.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as (server, _):
        yield server.port


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (OK, 200),
        (OK.replace(b"/hello", b"/hello?a=../b"), 200),
        (OK.replace(b"/hello", b"http://localhost/hello"), 200),
        (b"GET /hello HTTP/1.0\r\n\r\n", 200),
        (OK.replace(b"/hello", b"/../../etc/passwd"), 404),
        (OK.replace(b"/hello", b"/%2e%2e/etc/passwd"), 404),
        (OK.replace(b"/hello", b"/hello/"), 404),
        (OK.replace(b"GET", b"DELETE"), 405),
        (OK.replace(b"GET", b"OPTIONS"), 405),
        (OK.replace(b"GET", b"get"), 400),
        (OK.replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /hello\r\n\r\n", 400),
        (b"GET hello HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\nA: \x00\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 20000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: loc", 408),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\n\r\n", 411),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1_0\r\n\r\n", 400),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n" + b"a" * 1001, 413),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc", 408),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 200),
        (b"GET /hello HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET /hello HTTP/1.1\r\nHost: localhost.evil.example:80\r\n\r\n", 421),
        (b"GET /hello HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n", 200),
        (b"GET /hello HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 200),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nContent-Length: 0\r\n\r\n", 403),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\nContent-Length: 0\r\n\r\n", 403),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nContent-Length: 0\r\n\r\n", 403),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Length: 0\r\n\r\n", 200),
    ],
)  # fmt: skip
def test_each_request_has_its_status(port: int, request_bytes: bytes, status: int) -> None:
    answer = send(port, request_bytes)
    assert answer.status == status, answer
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert (status == 200) != ("error" in answer.json)


def test_a_broken_off_request_is_400_and_none_gets_no_answer(port: int) -> None:
    assert send(port, b"GET /hel", end=True).status == 400
    assert send(port, b"", end=True).status == 0


def test_a_head_request_gets_the_head_alone(port: int) -> None:
    answer = get(port, "/hello", method="HEAD")
    assert (answer.status, answer.body) == (200, b"") and answer.headers["Content-Length"] != "0"
    assert get(port, "/flood", method="HEAD").body == b""


def test_405_names_the_methods_that_are_allowed(port: int) -> None:
    assert get(port, "/sleep").headers["Allow"] == "POST"


def test_a_defect_is_500_without_its_text_and_the_server_goes_on() -> None:
    with serving() as (server, log):
        answer = get(server.port, "/fail")
        assert answer.status == 500 and "secret" not in answer.body.decode()
        assert log == ["GET: RuntimeError: a secret of the server"]
        assert get(server.port, "/hello").status == 200
        assert server.statuses == {500: 1, 200: 1}


def test_expect_continue_is_answered_before_the_body_and_not_for_one_too_large(port: int) -> None:
    head = "POST /hello HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.format(3).encode())
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert b" 200 " in connection.recv(1000)
    assert send(port, head.format(10**9).encode()).status == 413


def test_connections_and_bodies_beyond_the_limit_are_503() -> None:
    with serving(ServerLimits(connections=3, bodies=1, head_seconds=5)) as (server, _):
        first = threading.Thread(target=post, args=(server.port, "/sleep", b""))
        first.start()
        time.sleep(0.05)
        answer = post(server.port, "/hello", b"abc")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        assert get(server.port, "/hello").status == 503
        # one more than fill the double limit: the first request may have ended
        idle += [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        time.sleep(0.02)
        with suppress(ConnectionError):
            assert get(server.port, "/hello").status == 0, "a connection beyond the double limit is answered"
        for connection in idle:
            connection.close()
        first.join()
        assert get(server.port, "/hello").status == 200


def test_a_client_that_does_not_read_is_dropped_and_nothing_waits_for_it() -> None:
    with serving() as (server, log):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(OK.replace(b"/hello", b"/flood"))
            assert get(server.port, "/hello").status == 200
            time.sleep(0.3)
            assert len(server._connections) == 0
        assert log == []


def test_closing_is_quick_and_frees_the_port_and_its_thread() -> None:
    threads = threading.active_count()
    with serving(ServerLimits(head_seconds=60)) as (server, _):
        connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        connections[0].sendall(OK.replace(b"/hello", b"/flood"))
        get(server.port, "/hello")
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 2
    assert threading.active_count() == threads
    HttpServer(ROUTES, port=server.port).close()
    for connection in connections:
        connection.close()


def test_close_waits_for_answers_that_are_on_their_way() -> None:
    with serving() as (server, _):
        answers = []
        thread = threading.Thread(target=lambda: answers.append(post(server.port, "/sleep", b"").status))
        thread.start()
        time.sleep(0.05)
        server.close(grace_seconds=3)
        thread.join()
    assert answers == [200]


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("127.0.0.1", None, r"--port \d+: another program has this port of 127.0.0.1\n  hint: --port 0 takes a free"),
        ("192.0.2.1", 0, "--host 192.0.2.1: is not an address of this machine\n  hint: --host 0.0.0.0 listens"),
        ("no such host", 0, "--host no such host: is not an address: .*\n  hint: --host 0.0.0.0 listens"),
    ],
)
def test_a_port_that_cannot_be_taken_is_one_clear_error(host: str, port: int | None, message: str) -> None:
    with serving() as (server, _), pytest.raises(DarkpyError) as raised:
        HttpServer(ROUTES, host=host, port=server.port if port is None else port)
    assert re.match(message, str(raised.value))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_does_not_keep_the_port() -> None:
    with serving(), serving() as (closed, _):
        closed.close()
    with serving() as (server, _):
        descriptor = server._socket.fileno()
        child = os.fork()
        if child == 0:
            try:
                os.fstat(descriptor)
            except OSError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert get(server.port, "/hello").status == 200


def test_the_note_tells_when_other_machines_can_connect(capsys: pytest.CaptureFixture[str]) -> None:
    for host, count in (("127.0.0.1", 0), ("0.0.0.0", 1)):
        with serving(host=host) as (server, _):
            tell_address(server)
        assert capsys.readouterr().err.count("is open to other machines, without a password") == count


def test_a_server_for_other_machines_answers_to_any_name() -> None:
    with serving(host="0.0.0.0") as (server, _):
        assert server.url == f"http://localhost:{server.port}/" and not server.is_loopback
        assert send(server.port, b"GET /hello HTTP/1.1\r\nHost: my.server.example\r\n\r\n").status == 200


def test_streams_end_with_their_broadcast() -> None:
    images, records = Broadcast(), Broadcast(2)

    async def motion(_: HttpRequest, __: bytes) -> HttpResponse:
        return mjpeg_response(images.subscribe())

    async def array(_: HttpRequest, __: bytes) -> HttpResponse:
        return json_array_response(records.subscribe())

    routes: Routes = {"/motion": {"GET": motion}, "/array": {"GET": array}}
    server = HttpServer(routes)
    answers = {}
    threads = [
        threading.Thread(target=lambda path=path: answers.update({path: get(server.port, path)}))
        for path in ("/motion", "/array")
    ]
    for thread in threads:
        thread.start()
    while not (images.viewers and records.viewers):
        time.sleep(0.01)
    for number in b"123":
        records.publish(b"%c" % number)
        images.publish(b"image%c" % number)
        time.sleep(0.02)
    for source in (images, records):
        source.finish()
    for thread in threads:
        thread.join()
    server.close()
    assert answers["/array"].json == [1, 2, 3]
    motion_answer = answers["/motion"]
    assert motion_answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=darkpyframe"
    parts = motion_answer.body.split(b"--darkpyframe\r\n")
    assert parts == [b"", *(
        b"Content-Type: image/jpeg\r\nContent-Length: 6\r\n\r\nimage%c\r\n" % number for number in b"123"
    ), b""]  # fmt: skip
    assert images.viewers == records.viewers == 0


def test_a_subscriber_that_is_behind_misses_the_oldest() -> None:
    async def watch() -> list[bytes]:
        source = Broadcast(2)
        stream = source.subscribe()
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        for number in b"12345":
            source.publish(b"%c" % number)
        source.finish()
        return [await first, *[item async for item in stream]]

    assert asyncio.run(watch()) == [b"4", b"5"]
