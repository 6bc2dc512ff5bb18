"""Streams of a video: AlexeyAB's JSON and posts, and images for viewers that never delay the frames."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkpy.errors import DarkpyError
from darkpy.evaluation import formats
from darkpy.evaluation.result import Object, Result
from darkpy.serving.detection_posts import post_text
from darkpy.serving.video_streams import VideoStreams
from darkpy.sources.frames import Frame
from tests.serving.browser import Page, browsing, needs_browser
from tests.serving.conftest import get

NAMES = ("cat", "dog")
BOX, OTHER_BOX = (0.5, 0.5, 0.25, 0.25), (0.2, 0.2, 0.1, 0.1)


def result(index: int) -> Result:
    boxes = np.array([BOX, BOX, OTHER_BOX], np.float32)
    scores, class_ids = np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 1])
    frame = Frame(index=index)
    return Result(source=frame, size=(64, 64), boxes_frac=boxes, scores=scores, class_ids=class_ids, class_names=NAMES)


def drawing(index: int, size: int = 64) -> Image.Image:
    """An image whose brightness is twice its number."""
    return Image.new("RGB", (size, size), (2 * index % 256,) * 3)


@contextmanager
def running(streams: VideoStreams, rate: float = 50, size: int = 64) -> Iterator[list[float]]:
    """Feed the streams from a thread, as a network would. Yields: the time that each frame took the network."""
    times: list[float] = []
    is_over = threading.Event()

    def feed() -> None:
        while not is_over.wait(1 / rate):
            began, index = time.perf_counter(), len(times)
            detected = result(index)
            streams.add(detected, formats.frame_json(index + 1, None, detected.objects), rate)
            streams.show(partial(drawing, index, size))
            times.append(time.perf_counter() - began)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield times
    finally:
        is_over.set()
        thread.join()
        streams.__exit__()


def watch(port: int, seconds: float, path: str = "/stream.mjpg") -> int:
    """Number of frames that a viewer gets in some time."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        data, end = b"", time.monotonic() + seconds
        while time.monotonic() < end:
            data += connection.recv(1 << 16)
    return data.count(b"Content-Type: image/jpeg")


def stuck_viewer(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


def test_two_viewers_see_frames_and_one_that_does_not_read_changes_nothing() -> None:
    streams = VideoStreams("net", "film.mp4", mjpeg_port=0)
    port = streams.servers[0].port
    with running(streams, 100, size=640) as times:
        stuck = stuck_viewer(port)
        counts: list[int] = []
        viewers = [threading.Thread(target=lambda: counts.append(watch(port, 0.4))) for _ in range(2)]
        for viewer in viewers:
            viewer.start()
        for viewer in viewers:
            viewer.join()
        assert get(port, "/status.json").json["viewers"] >= 1
        stuck.close()
    assert min(counts) > 8, counts
    assert np.median(times) < 2e-3, "the network waits for a viewer"


def test_the_root_is_a_page_for_browsers_and_the_stream_for_programs() -> None:
    streams = VideoStreams("<net>", "film & co", mjpeg_port=0)
    port = streams.servers[0].port
    page = get(port, "/", "Accept: text/html,*/*;q=0.8\r\n")
    assert "<h1>&lt;net&gt;</h1>" in page.body.decode() and "film &amp; co" in page.body.decode()
    assert not re.search(r"(src|href)=.?(https?:)?//", page.body.decode()), "something from elsewhere"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert get(port, "/status.json").json == {"frame": None, "rate": 0.0, "objects": {}, "viewers": 0}
    with running(streams):
        assert watch(port, 0.2, "/") > 2
        assert get(port, "/status.json").json["objects"] == {"dog": 2, "cat": 1}


def test_json_stream_is_alexeyabs_array_with_one_object_a_frame() -> None:
    streams = VideoStreams("net", "film.mp4", json_port=0)
    port = streams.servers[0].port
    answers = []
    client = threading.Thread(target=lambda: answers.append(get(port, "/")))
    with running(streams):
        client.start()
        time.sleep(0.2)
    client.join()
    assert answers[0].headers["Content-Type"] == "application/json"
    assert answers[0].body.startswith(b'[\n{\n "frame_id":') and answers[0].body.endswith(b" \n}\n]")
    assert b' \n}, \n{\n "frame_id":' in answers[0].body
    records = answers[0].json
    ids = [record["frame_id"] for record in records]
    assert ids == list(range(ids[0], ids[0] + len(ids))) and len(ids) > 3
    assert [entry["name"] for entry in records[0]["objects"]] == ["cat", "dog", "dog"]


def test_post_has_alexeyabs_text() -> None:
    objects = [Object(1, "dog", 0.7, OTHER_BOX), Object(0, "cat", 0.9, BOX), Object(1, "dog", 0.8, BOX)]
    expected = "dog, id: 1\ncat, id: 0\n\ntime:\nMonday 2026-11-30 03:00:00\nvideosource:\nfilm.mp4"
    assert post_text(objects, "film.mp4", "Monday 2026-11-30 03:00:00") == expected


@contextmanager
def web_server(status: int, seconds: float = 0) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    posts: list[tuple[str, str]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
            time.sleep(seconds)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *values: Any) -> None:
            """Print nothing."""

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}/found?key=1", posts
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("once", [False, True])
def test_detections_are_posted_and_a_slow_host_delays_no_frame(once: bool) -> None:
    with web_server(200, 0.05) as (host, posts):
        streams = VideoStreams("net", "film.mp4", post_host=host, post_once=once)
        with running(streams) as times:
            time.sleep(0.2)
    assert len(posts) == 1 if once else 2 <= len(posts) < len(times)
    assert posts[0][0] == "/found?key=1" and posts[0][1].startswith("cat, id: 0\ndog, id: 1\n\ntime:\n")
    assert np.median(times) < 2e-3


def test_a_host_that_fails_is_reported_once() -> None:
    log: list[str] = []
    with web_server(500) as (host, posts):
        streams = VideoStreams("net", "film.mp4", post_host=host, log=log.append)
        with running(streams):
            time.sleep(0.1)
    assert len(posts) > 1 and log == ["-http_post_host 127.0.0.1: answers with status 500"]
    with running(VideoStreams("net", "film.mp4", post_host=host, log=log.append)):
        time.sleep(0.1)
    assert log[1:] == ["-http_post_host 127.0.0.1: Connection refused"]


@pytest.mark.parametrize("host", ["", "http://", "ftp://a/b", "a:b/c", "a b/c", "a\r\nb/c", "http://[::1"])
def test_a_host_that_is_none_is_an_error(host: str) -> None:
    with pytest.raises(DarkpyError, match="is not an address of a web server"):
        VideoStreams("net", "film.mp4", post_host=host)


def test_the_second_port_taken_closes_the_first() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        threads = threading.active_count()
        with pytest.raises(DarkpyError, match=r"-json_port \d+: another program has this port"):
            VideoStreams("net", "film.mp4", mjpeg_port=0, json_port=other.getsockname()[1])
        assert threading.active_count() == threads


@pytest.mark.slow
@needs_browser
def test_a_real_browser_shows_moving_images_to_two_viewers(tmp_path: Path) -> None:
    streams = VideoStreams("yolov3-tiny", "camera 0", mjpeg_port=0)
    port = streams.servers[0].port
    url = f"http://127.0.0.1:{port}/"

    def frame_shown(page: Page) -> int:
        sent = len(times)
        index = int(page.pixels()[400, 450, 0]) // 2
        assert sent - 10 <= index <= len(times), "the image is late"
        return index

    with running(streams, 10, size=300) as times, browsing(tmp_path / "profile") as browser:
        pages = [browser.open(url), browser.open(url, dark=True)]
        for page in pages:
            page.wait_for("document.getElementById('state').textContent.startsWith('Frame ')")
        shown = []
        for _ in range(4):
            time.sleep(0.7)
            shown.append([frame_shown(page) for page in pages])
        assert get(port, "/status.json").json["viewers"] == 2
        assert all(later[viewer] > earlier[viewer] + 3 for earlier, later in pairwise(shown) for viewer in (0, 1))
        corners = [tuple(page.pixels()[5, 5].tolist()) for page in pages]
        assert corners == [(255, 255, 255), (20, 24, 31)]
        assert browser.complaints == []
        streams.servers[0].close()
        pages[0].wait_for("document.getElementById('state').textContent.startsWith('No answer')")
