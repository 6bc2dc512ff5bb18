"""`darkpy serve`: detection over HTTP until a signal ends it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from darkpy.cli.commands import serve as serve_module
from tests.cli.conftest import Run

SERVE = ("serve", "net.cfg", "net.weights", "--names", "pets.names", "--device", "cpu", "--port", "0")


def ask(url: str, path: Path) -> Any:
    request = Request(f"{url}detect", path.read_bytes(), {"Content-Type": "image/png"})
    with urlopen(request, timeout=20) as answer:
        return json.load(answer)


def test_an_image_is_answered_and_a_signal_ends_it(task: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = []

    def client(server: Any) -> None:
        answers.append(ask(server.url, task / "a.png"))
        with pytest.raises(HTTPError, match="413"):
            urlopen(Request(f"{server.url}detect", b"a" * ((1 << 20) + 1)), timeout=20)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(
        serve_module, "tell_address", lambda server: threading.Thread(target=client, args=(server,)).start()
    )
    code, _, err = run(*SERVE, "--max-mb", "1")
    assert code == 128 + signal.SIGTERM
    assert [(found["name"], found["box_px"]) for found in answers[0]["objects"]] == [
        *(("cat", [16, 24, 48, 40]), ("dog", [16, 24, 48, 40]))
    ]
    assert "requests answered: 1 with status 200, 1 with status 413" in err


def test_a_classifier_is_served_and_options_of_the_other_task_are_refused(
    task: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("class.cfg").write_text("[net]\nwidth=8\nheight=8\nchannels=3\n\n[avgpool]\n\n[softmax]\n")
    Path("class.weights").write_bytes(Path("net.weights").read_bytes()[:20])
    answers: list[Any] = []

    def client(server: Any) -> None:
        request = Request(f"{server.url}classify", Path("a.png").read_bytes(), {"Content-Type": "image/png"})
        with urlopen(request, timeout=20) as answer:
            answers.append(json.load(answer))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(
        serve_module, "tell_address", lambda server: threading.Thread(target=client, args=(server,)).start()
    )
    words = ("serve", "class.cfg", "class.weights", "-nogpu", "--port", "0")
    assert run(*words, "--top", "2").code == 128 + signal.SIGTERM
    third = {"confidence": 0.333333}
    assert answers[0]["classes"] == [{"class_id": 0, "name": "0", **third}, {"class_id": 1, "name": "1", **third}]
    for option in (("-thresh", ".3"), ("--tiles", "2x2"), ("-letter_box",), ("--nms", ".45"), ("-hier", ".5")):
        code, _, err = run(*words, *option)
        assert code == 2 and "class.cfg is a classifier, which has no boxes" in err
    code, _, err = run(*SERVE, "--top", "3")
    assert code == 2 and "net.cfg detects: --top is for classifiers" in err


def test_weights_are_those_of_the_catalog_and_a_port_in_use_is_an_error(task: Path, run: Run) -> None:
    assert "missing argument 'WEIGHTS'" in run("serve", "net.cfg").err
    assert "darkpy fetch yolov3-tiny" in run("serve", "yolov3-tiny").err
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, _, err = run(*SERVE[:-1], str(other.getsockname()[1]))
    assert code == 2 and "another program has this port of 127.0.0.1\n  hint: --port 0 takes a free port" in err


@contextmanager
def served() -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([sys.executable, "-m", "darkpy", *SERVE], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        url = re.search(r"http://\S+", process.stderr.readline())
        assert url is not None
        yield process, url[0]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_within_a_second_and_without_a_traceback(task: Path, number: int) -> None:
    with served() as (process, url), socket.create_connection(("127.0.0.1", int(url.split(":")[2][:-1]))) as idle:
        idle.sendall(b"GET / HT")  # and never more
        assert ask(url, task / "a.png")["width"] == 64
        process.send_signal(number)
        _, err = process.communicate(timeout=8)
    assert process.returncode == 128 + number and "Traceback" not in err
