"""Posted images are detected or classified, and everything else has its own status and leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import random
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import darkpy
from darkpy.errors import DarkpyError
from darkpy.evaluation.classify import classify, predict_options
from darkpy.evaluation.detect import detect_frames
from darkpy.network import Network
from darkpy.serving import image_tasks
from darkpy.serving.http_server import ServerLimits
from darkpy.serving.image_service import ImageService
from darkpy.serving.image_tasks import ClassificationTask, DetectionTask, ImageTask
from tests.cli.conftest import CFG, LOGITS
from tests.serving.browser import browsing, needs_browser
from tests.serving.conftest import Answer, get, post, send

LIMITS = ServerLimits(body_bytes=200_000, head_seconds=0.5, body_seconds=0.5)
MAX_PIXELS = 1_000_000


def encoded(w: int = 64, h: int = 48, form: str = "JPEG", seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (h, w, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form)
    return data.getvalue()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("service")
    (folder / "net.cfg").write_text(CFG)
    numbers = (*LOGITS, *(0.0,) * len(LOGITS) * 3)
    (folder / "net.weights").write_bytes(struct.pack(f"<3iQ{len(numbers)}f", 0, 2, 0, 0, *numbers))
    return darkpy.load(folder / "net.cfg", folder / "net.weights")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A network whose classes are the mean red and green of the image."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "class.cfg").write_text(CLASSIFIER_CFG)
    numbers = (0.0, 0.0, *(8.0, 0.0, 0.0, 0.0, 8.0, 0.0))
    (folder / "class.weights").write_bytes(struct.pack(f"<3iQ{len(numbers)}f", 0, 2, 0, 0, *numbers))
    return darkpy.load(folder / "class.cfg", folder / "class.weights")


@contextmanager
def serving(network: Network, **options: Any) -> Iterator[tuple[int, list[str]]]:
    log: list[str] = []
    options = {"limits": LIMITS, "max_pixels": MAX_PIXELS, **options}
    task: ImageTask = (DetectionTask if network.heads else ClassificationTask)(network, ("cat", "dog"))
    service = ImageService(task, log=log.append, **options)
    try:
        yield service.server.port, log
    finally:
        service.close()


@pytest.fixture(scope="module")
def port(network: Network) -> Iterator[int]:
    with serving(network) as (port, log):
        yield port
    assert log == []


@pytest.fixture(scope="module")
def classifier_port(classifier: Network) -> Iterator[int]:
    with serving(classifier) as (port, log):
        yield port
    assert log == []


def form(image: bytes, name: str = 'name="image"; filename="a.jpg"') -> tuple[bytes, str]:
    field = b'--XyZ\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    head = f"--XyZ\r\nContent-Disposition: form-data; {name}\r\nContent-Type: image/jpeg\r\n\r\n"
    return field + head.encode() + image + b"\r\n--XyZ--\r\n", "multipart/form-data; boundary=XyZ"


CLASSIFIER_CFG = """[net]
width=8
height=8
channels=3

[avgpool]

[connected]
output=2
activation=linear

[softmax]
"""
GOOD = encoded()
HEALTH = {"network": "net.cfg", "task": "detect", "classes": 2, "waiting": 0}


QUOTED_FORM = 'multipart/form-data; boundary="XyZ"'


def head(path: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n".encode()


def large_png(w: int, h: int) -> bytes:
    """The beginning of an image of this size."""
    chunks = (b"IHDR" + struct.pack(">2I5B", w, h, 1, 0, 0, 0, 0), b"IDAT" + bytes(99))
    framed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


REQUESTS: dict[str, tuple[int, Callable[[int, str], Answer]]] = {
    "jpeg": (200, lambda port, path: post(port, path, GOOD)),
    "png": (200, lambda port, path: post(port, path, encoded(form="PNG"), "image/png")),
    "webp as bytes": (200, lambda port, path: post(port, path, encoded(form="WEBP"), "application/octet-stream")),
    "without a type": (200, lambda port, path: post(port, path, GOOD, None)),
    "form": (200, lambda port, path: post(port, path, *form(GOOD))),
    "form with quotes": (200, lambda port, path: post(port, path, form(GOOD)[0], QUOTED_FORM)),
    "form without a file": (400, lambda port, path: post(port, path, *form(GOOD, 'name="image"'))),
    "form without a boundary": (400, lambda port, path: post(port, path, form(GOOD)[0], "multipart/form-data")),
    "form with another boundary": (400, lambda port, path: post(port, path, GOOD, "multipart/form-data; boundary=a")),
    "empty": (400, lambda port, path: post(port, path, b"")),
    "text": (400, lambda port, path: post(port, path, b"hello")),
    "truncated": (400, lambda port, path: post(port, path, encoded(form="PNG")[:-3000], "image/png")),
    "video": (400, lambda port, path: post(port, path, b"\0\0\0\x20ftypisom" + b"\0" * 500)),
    "other type": (415, lambda port, path: post(port, path, GOOD, "application/x-www-form-urlencoded")),
    "json": (415, lambda port, path: post(port, path, b"{}", "application/json")),
    "many bytes": (413, lambda port, path: post(port, path, b"a" * 300_000)),
    "many pixels": (413, lambda port, path: post(port, path, large_png(1001, 1000))),
    "decompression bomb": (413, lambda port, path: post(port, path, large_png(20_000, 20_000))),
    "no length": (411, lambda port, path: send(port, head(path) + b"\r\n")),
    "slow body": (408, lambda port, path: send(port, head(path) + b"Content-Length: 9\r\n\r\nab")),
    "slow head": (408, lambda port, path: send(port, b"POST /x HT")),
    "get": (405, lambda port, path: get(port, path)),
    "unknown path": (404, lambda port, path: get(port, f"{path}/../../etc/passwd")),
    "garbage": (400, lambda port, path: send(port, b"\xff" * 500 + b"\r\n\r\n")),
    "health": (200, lambda port, path: get(port, "/health")),
    "page": (200, lambda port, path: get(port, "/")),
    "description": (200, lambda port, path: get(port, "/openapi.json")),
    "other task": (404, lambda port, path: post(port, "/classify" if path == "/detect" else "/detect", GOOD)),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/detect", "/classify"])
@pytest.mark.parametrize("name", REQUESTS)
def test_each_request_has_its_status(port: int, classifier_port: int, name: str, path: str) -> None:
    status, request = REQUESTS[name]
    answer = request(port if path == "/detect" else classifier_port, path)
    assert answer.status == status, answer
    assert "Traceback" not in answer.body.decode() and "darkpy/" not in answer.body.decode()
    if status != 200:
        assert answer.json["error"]


def test_the_answer_is_that_of_detect(port: int, network: Network) -> None:
    expected = darkpy.detect_image(network, GOOD, ("cat", "dog")).to_dict()
    del expected["filename"]
    assert post(port, "/detect", GOOD).json == expected
    assert [detected["name"] for detected in expected["objects"]] == ["cat", "dog"]
    assert get(port, "/health").json == {"status": "ok", **HEALTH}


def test_urllib_posts_and_reads_the_description(port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    request = urllib.request.Request(f"{url}/detect", GOOD, {"Content-Type": "image/jpeg"})
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["objects"][0]["name"] == "cat"
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        description = json.load(answer)
    schema = description["paths"]["/detect"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(schema["required"]) == post(port, "/detect", GOOD).json.keys()
    assert (
        set(schema["properties"]["objects"]["items"]["required"])
        == post(port, "/detect", GOOD).json["objects"][0].keys()
    )
    request.add_header("Content-Type", "text/plain")
    with pytest.raises(urllib.error.HTTPError, match="415"):
        urllib.request.urlopen(request)


def test_a_classifier_answers_as_classify_does(classifier: Network, classifier_port: int, tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 30), (51, 204, 0))
    image.save(tmp_path / "green.png")
    answer = post(classifier_port, "/classify", (tmp_path / "green.png").read_bytes(), "image/png").json
    (ranking,) = classify(classifier, [tmp_path / "green.png"], predict_options(classifier, 5))
    assert ranking.class_ids == (1, 0) and ranking.probs[0] > 0.9
    assert answer == {
        "width": 40,
        "height": 30,
        "classes": [
            {"class_id": class_id, "name": ("cat", "dog")[class_id], "confidence": round(prob, 6)}
            for class_id, prob in zip(ranking.class_ids, ranking.probs, strict=True)
        ],
    }
    health = get(classifier_port, "/health").json
    assert health == {"status": "ok", **HEALTH, "network": "class.cfg", "task": "classify"}
    paths = get(classifier_port, "/openapi.json").json["paths"]
    assert set(paths) == {"/classify", "/health"}
    described = paths["/health"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(described["required"]) == set(health) and described["properties"]["task"]["const"] == "classify"
    schema = paths["/classify"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(schema["required"]) == set(answer)
    assert set(schema["properties"]["classes"]["items"]["required"]) == set(answer["classes"][0])


def test_a_classifier_with_nan_weights_is_500_with_the_reason_in_the_log(tmp_path: Path) -> None:
    network = darkpy.load(CLASSIFIER_CFG)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))
    with serving(network) as (port, log):
        assert post(port, "/classify", GOOD).status == 500
    assert log[0].startswith("POST: DarkpyError: image: the network's output is NaN\n  hint: the weights are damaged")


@pytest.mark.parametrize("batch_size", [1, 4])
def test_many_clients_at_a_time_get_their_own_answers(network: Network, batch_size: int) -> None:
    sizes = [(20 + index, 30 + 2 * index) for index in range(12)]
    answers: dict[tuple[int, int], Any] = {}

    def ask(port: int, size: tuple[int, int]) -> None:
        answers[size] = post(port, "/detect", encoded(*size))

    with serving(network, batch_size=batch_size) as (port, _):
        clients = [threading.Thread(target=ask, args=(port, size)) for size in sizes]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert all(answers[size].status == 200 for size in sizes), answers
    assert all((answers[size].json["width"], answers[size].json["height"]) == size for size in sizes)


def test_requests_beyond_the_queue_are_503_and_those_on_their_way_are_answered_at_the_end(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_free = threading.Event()

    def blocked(*args: Any, **options: Any) -> Any:
        is_free.wait(10)
        return detect_frames(*args, **options)

    monkeypatch.setattr(image_tasks, "detect_frames", blocked)
    answers: list[Answer] = []
    limits = ServerLimits(bodies=3)
    with serving(network, limits=limits) as (port, log):
        clients = [threading.Thread(target=lambda: answers.append(post(port, "/detect", GOOD))) for _ in range(3)]
        for client in clients:
            client.start()
        while get(port, "/health").json["waiting"] < 2:
            time.sleep(0.01)
        refused = post(port, "/detect", GOOD)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        is_free.set()
    for client in clients:
        client.join()
    assert [answer.status for answer in answers] == [200] * 3 and log == []


def test_a_failing_network_is_reported_to_clients_without_a_traceback(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), ValueError("a secret")]

    def fail(*_: Any, **__: Any) -> Any:
        raise errors.pop(0)

    with serving(network) as (port, log):
        monkeypatch.setattr(image_tasks, "detect_frames", fail)
        assert post(port, "/detect", GOOD).status == 503
        answer = post(port, "/detect", GOOD)
        monkeypatch.undo()
        assert answer.status == 500 and "secret" not in answer.body.decode()
        assert log == ["out of memory: CUDA out of memory. Tried to allocate 2 GiB", "POST: ValueError: a secret"]
        assert post(port, "/detect", GOOD).status == 200


def test_a_network_of_another_task_is_refused(network: Network, classifier: Network, tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match="has no detection layer"):
        DetectionTask(classifier, ())
    with pytest.raises(DarkpyError, match="has a detection layer"):
        ClassificationTask(network, ())
    (tmp_path / "text.cfg").write_text("[net]\nwidth=1\nheight=1\nchannels=9\n\n[softmax]\n")
    with pytest.raises(DarkpyError, match="takes 9 channels, an image has 1 or 3"):
        ClassificationTask(darkpy.load(tmp_path / "text.cfg"), ())


def resources() -> tuple[int, int, int]:
    """Megabytes, threads and file descriptors of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20, threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def stress(port: int, path: str, count: int, workers: int) -> Counter[str]:
    """Send requests of all kinds, some broken off. Returns: how many of each kind had another status than theirs."""
    order = [list(REQUESTS)[index % len(REQUESTS)] for index in range(count)]
    random.Random(0).shuffle(order)
    wrong: Counter[str] = Counter()

    def work(names: list[str]) -> None:
        for index, name in enumerate(names):
            status, request = REQUESTS[name]
            answer = request(port, path)
            wrong[name] += answer.status not in (status, 503)
            if index % 5 == 0:  # a client that leaves before its answer
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(head(path) + b"Content-Length: 5000\r\n\r\nabc")

    threads = [threading.Thread(target=work, args=(order[start::workers],)) for start in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return +wrong


@pytest.mark.parametrize("path", ["/detect", "/classify"])
def test_thirty_requests_of_all_kinds_leave_nothing_behind(network: Network, classifier: Network, path: str) -> None:
    _, threads, files = resources() if Path("/proc/self/statm").exists() else (0, threading.active_count(), 0)
    with serving(network if path == "/detect" else classifier) as (port, log):
        assert stress(port, path, 30, 6) == Counter() and log == []
    time.sleep(0.05)
    if Path("/proc/self/statm").exists():
        assert (resources()[1], resources()[2]) <= (threads + 8, files)  # asyncio keeps its threads for a while


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="counts memory with /proc")
@pytest.mark.parametrize("path", ["/detect", "/classify"])
def test_a_thousand_requests_of_all_kinds_leak_nothing(network: Network, classifier: Network, path: str) -> None:
    with serving(network if path == "/detect" else classifier) as (port, log):
        assert stress(port, path, 300, 8) == Counter()
        time.sleep(1.5)
        before = resources()
        assert stress(port, path, 1000, 8) == Counter()
        time.sleep(1.5)
        after = resources()
    print(before, after)
    assert log == []
    assert after[0] <= before[0] + 20 and after[1] <= before[1] + 1 and after[2] <= before[2] + 1, (before, after)


@pytest.mark.slow
@needs_browser
def test_a_real_browser_shows_the_boxes_of_a_chosen_image(network: Network, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(200, 100))
    (tmp_path / "b.jpg").write_bytes(b"hello")
    state = "document.getElementById('state').textContent"
    with serving(network) as (port, _), browsing(tmp_path / "profile") as browser:
        page = browser.open(f"http://127.0.0.1:{port}/")
        page.wait_for("!!document.getElementById('file')")
        root = page.call("DOM.getDocument")["root"]["nodeId"]
        node = page.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        page.call("DOM.setFileInputFiles", nodeId=node, files=[str(tmp_path / "a.jpg")])
        page.wait_for(f"{state}.startsWith('2 objects in ')")
        assert page.evaluate("document.querySelector('tbody').innerText").split() == [
            *("cat", "94.6", "%", "50", "25", "150", "75", "dog", "72.6", "%", "50", "25", "150", "75")
        ]
        page.call("DOM.setFileInputFiles", nodeId=node, files=[str(tmp_path / "b.jpg")])
        page.wait_for(f"{state}.includes('not an image format')")
        assert [text for text in browser.complaints if "400" not in text] == []


@pytest.mark.slow
@needs_browser
def test_a_real_browser_shows_the_classes_of_a_chosen_image(classifier: Network, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (51, 204, 0)).save(tmp_path / "a.png")
    with serving(classifier) as (port, _), browsing(tmp_path / "profile") as browser:
        page = browser.open(f"http://127.0.0.1:{port}/")
        page.wait_for("!!document.getElementById('file')")
        root = page.call("DOM.getDocument")["root"]["nodeId"]
        node = page.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        page.call("DOM.setFileInputFiles", nodeId=node, files=[str(tmp_path / "a.png")])
        page.wait_for("document.getElementById('state').textContent.startsWith('dog in ')")
        cells = page.evaluate("document.querySelector('table').innerText").split()
        assert cells == ["class", "confidence", "dog", "97.3", "%", "cat", "2.7", "%"]
        assert browser.complaints == []
