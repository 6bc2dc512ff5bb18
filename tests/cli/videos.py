"""Small videos with a moving shape, made by PyAV, and a camera in the network."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, cast

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

    def play(file: IO[bytes], sent: list[float], is_over: threading.Event) -> None:
        for _ in range(frames_per_connection):
            data = io.BytesIO()
            Image.fromarray(picture(len(sent) % 44)).save(data, "JPEG", quality=95)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data.getvalue())}\r\n\r\n"
            sent.append(time.monotonic())
            file.write(head.encode() + data.getvalue() + b"\r\n")
            file.flush()
            if is_over.wait(1 / rate):
                return

    with _http_camera(play, "multipart/x-mixed-replace; boundary=frame") as camera:
        yield camera


@contextmanager
def mpegts_camera(rate: int) -> Iterator[tuple[str, list[float]]]:
    """Serve H.264 in MPEG-TS by HTTP. Yields: as `network_camera`."""
    with _http_camera(partial(_play_mpegts, rate=rate), "video/mp2t") as camera:
        yield camera


@contextmanager
def pipe_camera(rate: int) -> Iterator[tuple[str, list[float]]]:
    """Write H.264 in MPEG-TS to a named pipe. Yields: its path, and as `network_camera`."""
    sent: list[float] = []
    is_over = threading.Event()

    def play(path: Path) -> None:
        with path.open("wb") as file:
            _play_mpegts(file, sent, is_over, rate=rate)

    with TemporaryDirectory() as folder:
        path = Path(folder) / "camera.ts"
        os.mkfifo(path)
        threading.Thread(target=play, args=(path,), daemon=True).start()
        try:
            yield str(path), sent
        finally:
            is_over.set()


def _play_mpegts(file: IO[bytes], sent: list[float], is_over: threading.Event, *, rate: int) -> None:
    with suppress(OSError, av.FFmpegError), av.open(file, "w", format="mpegts") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = W, H, "yuv420p", 5
        while not is_over.wait(1 / rate):
            frame = av.VideoFrame.from_ndarray(picture(len(sent) % 44), format="rgb24")
            frame.pts, frame.time_base = len(sent), Fraction(1, rate)
            sent.append(time.monotonic())
            container.mux(stream.encode(frame))
            file.flush()


@contextmanager
def _http_camera(
    play: Callable[[IO[bytes], list[float], threading.Event], None], content_type: str
) -> Iterator[tuple[str, list[float]]]:
    """Serve what `play` writes for each connection. Yields: as `network_camera`."""
    sent: list[float] = []
    is_over = threading.Event()

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            with suppress(OSError):
                play(cast("IO[bytes]", self.wfile), sent, is_over)

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


@contextmanager
def rtsp_camera(rate: int, frames_per_connection: int = 10**9) -> Iterator[tuple[str, list[float]]]:
    """Serve H.264 by RTSP over TCP, as cameras do. Yields: as `network_camera`."""
    sent: list[float] = []
    is_over = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def send_packets(connection: socket.socket, packets: socket.socket) -> None:
        """Pass on the RTP packets, each behind its channel and length, as RFC 2326 (10.12) interleaves them."""
        with suppress(OSError):
            while data := packets.recv(65536):
                connection.sendall(b"$\0" + len(data).to_bytes(2, "big") + data)

    def play(connection: socket.socket) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets, suppress(OSError):
            packets.bind(("127.0.0.1", 0))
            packets.settimeout(5)
            threading.Thread(target=send_packets, args=(connection, packets), daemon=True).start()
            address = f"rtp://127.0.0.1:{packets.getsockname()[1]}?rtcpport=9"
            with av.open(address, "w", format="rtp") as container:
                stream: Any = container.add_stream("libx264", rate=rate, options={"tune": "zerolatency"})
                stream.width, stream.height, stream.pix_fmt, stream.gop_size = W, H, "yuv420p", 5
                for index in range(frames_per_connection):
                    if is_over.is_set():
                        break
                    frame = av.VideoFrame.from_ndarray(picture(len(sent) % 44), format="rgb24")
                    frame.pts, frame.time_base = index, Fraction(1, rate)
                    sent.append(time.monotonic())
                    container.mux(stream.encode(frame))
                    time.sleep(1 / rate)
            connection.shutdown(socket.SHUT_RDWR)

    def answer(connection: socket.socket) -> None:
        sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
        sdp += "a=rtpmap:96 H264/90000\r\na=control:track\r\n"
        answers = {
            "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}",
            "SETUP": "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n",
        }
        lines = connection.makefile("r", encoding="latin-1", newline="\r\n")
        with suppress(OSError):
            while request := lines.readline():
                method, number = request.split()[0], ""
                while header := lines.readline().strip():
                    number = header.split()[1] if header.startswith("CSeq") else number
                rest = answers.get(method, "Session: 1\r\n\r\n")
                connection.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{rest}".encode())
                if method == "PLAY":
                    play(connection)
                    return

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"rtsp://127.0.0.1:{server.getsockname()[1]}/live", sent
    finally:
        is_over.set()
        server.close()
