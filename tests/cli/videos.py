"""Small videos with a moving shape, made by PyAV, and a camera in the network."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

W, H = 96, 64


def picture(index: int, w: int = W, h: int = H) -> NDArray[np.uint8]:
    """Gray, with a bright bar whose left edge is at 2 * index, and a red upper left corner."""
    pixels = np.full((h, w, 3), 60, np.uint8)
    pixels[h // 2 :, 2 * index : 2 * index + 8] = 240
    pixels[: h // 4, : w // 4] = (220, 20, 20)
    return pixels


def bar_position(pixels: NDArray[np.uint8]) -> int:
    """Number of the frame, as its bar says."""
    return round(int(np.argmax(pixels[-8:, :, 1].mean(axis=0) > 150)) / 2)


def write_video(
    path: Path, count: int, *, rate: int = 10, times_ms: Sequence[int] | None = None, size: tuple[int, int] = (W, H)
) -> Path:
    """Write a video; times_ms: of its frames, for a variable rate."""
    options = {"movflags": "faststart"} if path.suffix == ".mov" else {}  # the index before the frames
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream("libx264" if path.suffix != ".avi" else "mpeg4", rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 5
        stream.codec_context.time_base = Fraction(1, 1000) if times_ms else Fraction(1, rate)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")
            frame.pts = times_ms[index] if times_ms else index
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_video(path: Path) -> list[tuple[float, NDArray[np.uint8]]]:
    """Time and pixels of each frame."""
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


@contextmanager
def network_camera(rate: float, frames_per_connection: int = 10**9) -> Iterator[tuple[str, list[float]]]:
    """Serve motion JPEG on the loopback interface.

    Yields: the address, and the list of times at which frames were sent; the bar of a frame is its number there.
    """
    sent: list[float] = []
    is_over = threading.Event()

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with suppress(OSError):
                for _ in range(frames_per_connection):
                    if is_over.is_set():
                        return
                    data = io.BytesIO()
                    Image.fromarray(picture(len(sent) % 44)).save(data, "JPEG", quality=95)
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data.getvalue())}\r\n\r\n"
                    sent.append(time.monotonic())
                    self.wfile.write(head.encode() + data.getvalue() + b"\r\n")
                    self.wfile.flush()
                    time.sleep(1 / rate)

        def log_message(self, format: str, *values: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/camera", sent
    finally:
        is_over.set()
        server.shutdown()
        server.server_close()
