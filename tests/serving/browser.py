"""A headless browser, driven through the pipe of its DevTools protocol."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None or os.name == "nt", reason="no chromium")


class Browser:
    """Chromium with any number of open pages."""

    def __init__(self, profile: Path) -> None:
        commands, self._commands = os.pipe()
        self._events, events = os.pipe()
        descriptors = [os.dup(descriptor) for descriptor in (commands, events)]  # above 3 and 4 for sure

        def place() -> None:  # where the browser expects them
            for descriptor, number in zip([os.dup2(old, 50 + old) for old in descriptors], (3, 4), strict=True):
                os.dup2(descriptor, number)

        arguments = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")
        self._process = subprocess.Popen(
            [str(CHROMIUM), *arguments, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=place,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for descriptor in (commands, events, *descriptors):
            os.close(descriptor)
        self._answers = os.fdopen(self._events, "rb", buffering=0)
        self._buffer, self._count = b"", 0
        self.messages: list[dict[str, Any]] = []
        """Events that were not asked for: errors of pages among them."""

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        self._answers.close()

    def call(self, method: str, session: str | None = None, **parameters: object) -> dict[str, Any]:
        self._count += 1
        request = {"id": self._count, "method": method, "params": parameters}
        os.write(self._commands, json.dumps(request | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self._count:
                assert "error" not in message, message
                answer: dict[str, Any] = message["result"]
                return answer
            self.messages.append(message)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = self._answers.read(1 << 16)
            assert data, "the browser has ended"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def open(self, url: str, *, dark: bool = False, size: tuple[int, int] = (900, 700)) -> Page:
        target = self.call("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        page.call("Log.enable")
        page.call("Runtime.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Page.navigate", url=url)
        return page

    @property
    def complaints(self) -> list[str]:
        """Errors of the pages: of their scripts, of their policies."""
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown")
        return [json.dumps(message["params"]) for message in self.messages if message.get("method") in kinds]


class Page:
    """One open page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 20) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression} stays {value}: {self.evaluate('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def pixels(self, target: Path | None = None) -> NDArray[np.uint8]:
        data = base64.b64decode(self.call("Page.captureScreenshot")["data"])
        if target is not None:
            target.write_bytes(data)
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    browser = Browser(profile)
    try:
        yield browser
    finally:
        browser.close()
