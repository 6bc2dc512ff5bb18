"""Video files, cameras and network streams as frames, decoded by a thread ahead of the network.

PyAV, an optional package, decodes them.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkpy.data.loading.decoding import find_max_pixels, how_to_accept
from darkpy.errors import DarkpyError, DarkpyWarning, ImageError
from darkpy.files import is_file
from darkpy.finding import printable
from darkpy.sources.frames import Frame
from darkpy.sources.handoff import Handoff
from darkpy.sources.image_packets import ImagePackets

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_AHEAD_FRAMES, MAX_AHEAD_PIXELS = 8, 1 << 24
"""Frames of a file that are decoded ahead, and as many again that are used together: eight of 1920 x 1080."""
MAX_RECONNECT_TRIES = 5
FIRST_RECONNECT_PAUSE_SECONDS = 0.5
"""Pause before the first try to reconnect; each one is twice as long as the one before."""
STREAM_TIMEOUT_SECONDS = 10.0
JOIN_SECONDS = 1.0
"""Time that `close` waits for the decoding thread, which may be waiting for a camera."""
TOLERATED_SECONDS, TOLERATED_SHARE = 0.1, 0.01
"""Part at the end of a file that may lack without a warning: containers round their durations."""
_STREAM_OPTIONS = {
    "fflags": "nobuffer",
    "analyzeduration": "1000000",
    "rtsp_flags": "prefer_tcp",
}
_FILE_OPTIONS = {"protocol_whitelist": "file,crypto,data"}  # a playlist must not open a connection
_PIPE_OPTIONS = _FILE_OPTIONS | {"analyzeduration": "1000000"}
THREADED_AV_VERSION = 17
"""First version of PyAV that converts a frame with several threads."""
_MAX_PIXELS = 2**31 - 1
"""Largest limit that FFmpeg takes."""


def import_av() -> Any:
    """Import PyAV. Raises: DarkpyError naming the extra when it is not installed."""
    try:
        import av
    except ImportError as error:
        hint = 'pip install "darkpy-yolo[video]"'
        raise DarkpyError("videos and cameras need the package av (PyAV)", hint=hint) from error
    av.logging.set_level(None)  # the decoders' own messages, by the hundred for one damaged file
    return av


class PixelConverter:
    """Conversion of frames to another format and size, by one thread: several wait longer than they work."""

    def __init__(self) -> None:
        av = import_av()
        self._reformatter = av.video.reformatter.VideoReformatter()
        # earlier versions use one thread
        self._threads = {"threads": 1} if int(av.__version__.partition(".")[0]) >= THREADED_AV_VERSION else {}

    def convert(self, frame: VideoFrame, pixel_format: str, w: int | None = None, h: int | None = None) -> VideoFrame:
        """Return a frame in FFmpeg's `pixel_format`; one that is so already is returned as it is."""
        converted: VideoFrame = self._reformatter.reformat(frame, w, h, pixel_format, **self._threads)
        return converted


class VideoFrames:
    """Frames of a video file, a camera (its number) or the URL of a stream, in order; read once.

    A file gives every frame, with the time the file has for it. A live source gives the latest frame when one is asked
    for and drops those before it; `Frame.index` counts them, and times are those of arrival. A stream that breaks off
    is opened again.

    rate, size: frames per second and (w, h) requested from a camera. skip: frames passed over after each one.
    Raises: ImageError when the source cannot be opened or has no video track; DarkpyError without PyAV.
    """

    is_stream = True
    count = None

    def __init__(
        self,
        source: str | int | os.PathLike[str],
        *,
        rate: float | None = None,
        size: tuple[int, int] | None = None,
        skip: int = 0,
    ) -> None:
        self._av = import_av()
        self._source = source if isinstance(source, int) else os.fspath(source)
        self._camera_options = {
            **({"framerate": f"{rate:g}"} if rate else {}),
            **({"video_size": f"{size[0]}x{size[1]}"} if size else {}),
        }
        self._skip = skip
        self.path = f"camera {source}" if isinstance(source, int) else _without_password(os.fspath(source))
        """The source as it was given, without a password."""
        self.name = printable(self.path)
        self._container: InputContainer | None = self._open()
        track = _tracks(self._container)[0]
        self.rate = float(track.average_rate) if track.average_rate else None
        """Frames per second; None if the source does not say. Those of a file may be spaced unevenly."""
        has_end = track.duration is not None or self._container.duration is not None
        is_image = self._container.format.name.endswith("_pipe")
        self.is_live = not has_end and not is_image and self._address()[2] is not _FILE_OPTIONS
        self._can_reconnect = self.is_live and isinstance(self._source, str) and "://" in self._source
        self._frame_pixels = track.width * track.height
        ahead = min(MAX_AHEAD_FRAMES, MAX_AHEAD_PIXELS // max(1, self._frame_pixels))
        self.max_batch = 1 if self.is_live else max(1, ahead)
        """Number of frames that may be waited for to be used together: one of a live source."""
        self._queue: Handoff[Frame] = Handoff(self.max_batch, drops_oldest=self.is_live)
        self._converter = PixelConverter()
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """Number of frames of a live source that came while the network was busy."""
        return self._queue.dropped

    def __iter__(self) -> Iterator[Frame]:
        if self._thread is not None or self._container is None:
            raise DarkpyError(f"{self.name}: is read once", hint="open it again")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return iter(self._queue)

    def close(self) -> None:
        """End the iteration, and close the file or the connection."""
        self._queue.close()
        if self._thread is None:
            self._close_container()
        elif self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)

    def _close_container(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self) -> InputContainer:
        """Open the source. Raises: ImageError."""
        address, format_name, options = self._address()
        timeout = None if options in (_FILE_OPTIONS, _PIPE_OPTIONS) or format_name else STREAM_TIMEOUT_SECONDS
        # a decoder then refuses larger frames before it takes the memory
        limit = {"max_pixels": str(min(find_max_pixels(), _MAX_PIXELS))}
        try:
            container: InputContainer = self._av.open(
                address, format=format_name, options=options | limit, timeout=timeout
            )
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise ImageError(f"{self.name}: cannot be opened: {_reason(error)}", hint=self._hint(error)) from error
        if not _tracks(container):
            container.close()
            raise ImageError(f"{self.name}: has no video track")
        track = _tracks(container)[0]
        if getattr(track, "codec_context", None) is None:
            container.close()
            raise ImageError(f"{self.name}: its codec is unknown to the installed PyAV")
        if not self._fits(track.width, track.height):
            size = f"{track.width} x {track.height}"
            container.close()
            raise ImageError(f"{self.name}: frames of {size} pixels", hint=how_to_accept(track.width * track.height))
        with suppress(AttributeError, ValueError):
            # threads that take whole frames delay each by as many frames as there are threads
            track.thread_type = "AUTO" if options is _FILE_OPTIONS else "SLICE"
            track.codec_context.options = limit
        return container

    def _address(self) -> tuple[str, str | None, dict[str, str]]:
        """Address, format (None if the content tells) and options for FFmpeg."""
        source = self._source
        if isinstance(source, str) and "://" in source:
            return source, None, _STREAM_OPTIONS
        if isinstance(source, str) and not source.startswith("/dev/video"):
            return f"file:{source}", None, _FILE_OPTIONS if is_file(source) else _PIPE_OPTIONS
        options = _STREAM_OPTIONS | self._camera_options
        if sys.platform == "darwin":
            return str(source), "avfoundation", options
        if sys.platform == "win32":
            hint = "pass its frames as arrays: darkpy.detect(network, generator)"
            raise DarkpyError(f"{self.name}: cameras of Windows cannot be opened by number", hint=hint)
        return f"/dev/video{source}" if isinstance(source, int) else source, "v4l2", options

    @staticmethod
    def _fits(w: int, h: int) -> bool:
        return w * h <= find_max_pixels()

    def _hint(self, error: Exception) -> str:
        if isinstance(self._source, int):
            return "darkpy opens /dev/video0 as camera 0: is it connected, and free?"
        if "://" in self._source:
            return "check the address, and that the sender is running"
        if isinstance(error, self._av.InvalidDataError):
            return "the file is not a video, or a download or recording that was cut off before its index was written"
        return "check the path"

    def _run(self) -> None:
        """Decode into the queue; the body of the thread."""
        try:
            for frame in self._read_live() if self.is_live else self._read_file():
                if not self._queue.put(frame, alone=frame.is_oversized):
                    break
        except Exception as error:
            self._queue.finish(error)
        else:
            self._queue.finish()
        finally:
            self._close_container()

    def _read_file(self) -> Iterator[Frame]:
        """Yield the frames of a file. Raises: ImageError when there is none."""
        assert self._container is not None
        track = _tracks(self._container)[0]
        duration_s = float(track.duration * track.time_base) if track.duration and track.time_base else None
        if duration_s is None and self._container.duration and len(self._container.streams) == 1:
            duration_s = self._container.duration / self._av.time_base
        first_s: float | None = None
        count, end_s, step_s = 0, 0.0, 1 / (self.rate or 25)
        damage = _Damage()
        for decoded in self._decode(self._container, damage):
            time_s = decoded.time if decoded.pts is not None else None
            if first_s is None:
                first_s = time_s or 0.0
            since_start_s = count * step_s if time_s is None else time_s - first_s
            length = getattr(decoded, "duration", None)
            end_s = since_start_s + (float(length * decoded.time_base) if length and decoded.time_base else step_s)
            if count % (self._skip + 1) == 0:
                yield self._frame(decoded, count, since_start_s)
            count += 1
        if count == 0:
            if damage.packets:
                hint = (
                    f"the frames are damaged, coded as PyAV cannot decode, or of more than {find_max_pixels()} pixels"
                )
                raise ImageError(f"{self.name}: none of its frames can be decoded", hint=hint)
            raise ImageError(f"{self.name}: holds no frames", hint="is it cut off, or an empty recording?")
        missing_s = 0.0 if duration_s is None else duration_s - end_s
        if damage.packets or damage.error or missing_s > max(TOLERATED_SECONDS, TOLERATED_SHARE * (duration_s or 0)):
            parts = f"{count} frame{'' if count == 1 else 's'} could be read, {end_s:.1f} s"
            if duration_s is not None:
                parts += f" of {duration_s:.1f} s"
            warnings.warn(f"{self.name}: is truncated or damaged: {parts}", DarkpyWarning, stacklevel=2)

    def _read_live(self) -> Iterator[Frame]:
        """Yield the frames of a camera or stream, reconnecting when it breaks off.

        Raises: ImageError when it cannot be opened again.
        """
        index, tries, connection, start = 0, 0, 0, monotonic()
        while True:
            damage = _Damage()
            if self._container is None:
                try:
                    self._container, connection = self._open(), connection + 1
                except ImageError as error:
                    damage.error = error.message.removeprefix(f"{self.name}: ")
            for decoded in self._decode(self._container, damage) if self._container is not None else ():
                if index == 0:
                    start = monotonic()
                if index % (self._skip + 1) == 0:
                    yield self._frame(decoded, index, monotonic() - start, connection)
                index, tries = index + 1, 0
            self._close_container()
            reason = damage.error or "it ended"
            if not self._can_reconnect:
                if not damage.error and index:
                    return  # a pipe whose writer is done
                raise ImageError(f"{self.name}: gives no more frames: {reason}")
            if tries == MAX_RECONNECT_TRIES:
                hint = "is the sender running, and the network up?"
                raise ImageError(f"{self.name}: no connection after {tries} tries: {reason}", hint=hint)
            if self._queue.wait_closed(0):
                return
            tries, at_s = tries + 1, monotonic() - start
            warnings.warn(
                f"{self.name}: no frame after {at_s:.1f} s: {reason}; reconnecting, "
                f"try {tries} of {MAX_RECONNECT_TRIES}",
                DarkpyWarning,
                stacklevel=2,
            )
            if self._queue.wait_closed(FIRST_RECONNECT_PAUSE_SECONDS * 2 ** (tries - 1)):
                return

    def _decode(self, container: InputContainer, damage: _Damage) -> Iterator[VideoFrame]:
        """Yield the decoded frames; packets that cannot be decoded, and the error that ended it, go to `damage`."""
        track = _tracks(container)[0]
        images = ImagePackets(container, track) if self.is_live else None
        packets = container.demux(track)
        while True:
            try:
                packet = next(packets, None)
            except (self._av.FFmpegError, OSError) as error:
                if not isinstance(error, self._av.EOFError):
                    damage.error = _reason(error)
                packet = None
            try:
                for part in (packet,) if images is None or packet is None else images.split(packet):
                    yield from track.decode(part)
            except self._av.EOFError:
                return
            except (self._av.FFmpegError, OSError):
                damage.packets += 1
            if packet is None:
                return

    def _frame(self, decoded: VideoFrame, index: int, time_s: float, connection: int = 0) -> Frame:
        """Convert to RGB, the right way up. Raises: ImageError for a frame above the limit of pixels."""
        if not self._fits(decoded.width, decoded.height):
            raise ImageError(f"{self.name}: frame {index} has {decoded.width} x {decoded.height} pixels")
        pixels_HWC: NDArray[Any] = self._converter.convert(decoded, "rgb24").to_ndarray()
        quarter_turns = round((getattr(decoded, "rotation", 0) or 0) / 90) % 4  # counterclockwise
        if quarter_turns:
            pixels_HWC = np.ascontiguousarray(np.rot90(pixels_HWC, quarter_turns))
        pixels = decoded.width * decoded.height
        return Frame(
            pixels_HWC,
            path=self.path,
            index=index,
            time_s=time_s,
            transient=True,
            connection=connection,
            is_oversized=pixels > max(self._frame_pixels, MAX_AHEAD_PIXELS // self.max_batch),
        )


class _Damage:
    """Defects met in reading a source: packets that cannot be decoded, and the error behind which nothing follows."""

    def __init__(self) -> None:
        self.packets = 0
        self.error = ""


def _tracks(container: InputContainer) -> list[VideoStream]:
    """Video tracks of a container, without the cover image of a music file."""
    from av.stream import Disposition

    return [track for track in container.streams.video if not track.disposition & Disposition.attached_pic]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _without_password(address: str) -> str:
    """The address of a stream without `user:password@`."""
    return re.sub(r"(://)[^/@]*@", r"\1", address)
