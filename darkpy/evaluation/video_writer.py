"""Video files, written frame by frame with PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from darkpy.errors import DarkpyError
from darkpy.sources.video import PixelConverter, import_av

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

DEFAULT_RATE, MAX_RATE = 25.0, 1000.0
"""Frames per second."""
KEYFRAME_SECONDS = 2
"""Largest distance of frames at which playing can start, and the end that an interrupted file may lose."""
CLOCK_HZ = 90_000
"""Resolution of frame times, as in MPEG."""
_H264 = ("libx264", "libopenh264", "h264_videotoolbox", "mpeg4")
CODECS_BY_SUFFIX = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv"), _H264),
    ".webm": ("libvpx-vp9", "libvpx"),
    ".avi": ("mpeg4",),
}
"""Encoders in order of preference; which of them there are depends on the build of PyAV."""
FRAGMENTED_SUFFIXES = (".mp4", ".m4v", ".mov")
"""Formats whose index is at the end: until there is one, they are written in fragments that have their own."""
CONSTANT_RATE_SUFFIXES = (".avi",)
"""Formats without a time for each frame."""


class VideoWriter:
    """A video file: H.264 in .mp4 (which every browser plays), .m4v, .mov and .mkv, VP9 in .webm, MPEG-4 in .avi.

    An existing file is replaced. A process that is killed leaves an .mp4 that plays up to its last seconds.

    rate: frames per second; None, or more than 1000, as containers without a rate have it, takes 25. Formats that store
        times keep those of the frames, whatever the rate.
    Raises: DarkpyError when PyAV is not installed, the ending is of no video format, or the file cannot be written.
    """

    def __init__(self, path: Path, rate: float | None) -> None:
        self.path, self.frames = path, 0
        self._av = import_av()
        self._rate = Fraction(rate if rate and rate <= MAX_RATE else DEFAULT_RATE).limit_denominator(1001)
        suffix = path.suffix.lower()
        if suffix not in CODECS_BY_SUFFIX:
            hint = f"darkpy writes {' '.join(CODECS_BY_SUFFIX)}"
            raise DarkpyError(f"{path}: no video is written with the ending {suffix!r}", hint=hint)
        encoders = [name for name in CODECS_BY_SUFFIX[suffix] if name in self._av.codecs_available]
        if not encoders:
            raise DarkpyError(f"{path}: PyAV was built without an encoder for {suffix}", hint="use .avi")
        self._codec = encoders[0]
        self._has_times = suffix not in CONSTANT_RATE_SUFFIXES
        self._converter = PixelConverter()
        self._last_tick = -1
        self._has_failed = False
        self._stream: VideoStream | None = None
        options = {"flush_packets": "1"}  # a fragment reaches the disk when it is complete
        if suffix in FRAGMENTED_SUFFIXES:
            options["movflags"] = "+hybrid_fragmented+frag_keyframe"
        try:
            with path.open("wb"):  # fail before the network runs
                pass
            self._container: OutputContainer = self._av.open(f"file:{path}", "w", options=options)
        except OSError as error:
            raise DarkpyError(f"{path}: {error.strerror or error}") from error

    def write(self, image: NDArray[np.uint8] | PIL.Image.Image, time_s: float | None = None) -> None:
        """Add an RGB frame. All are resized to the first one. Raises: DarkpyError when it cannot be written."""
        if isinstance(image, PIL.Image.Image):
            # as Pillow keeps it, without taking the fourth byte of each pixel out
            pixels_HWC = np.frombuffer(image.tobytes("raw", "RGBX"), np.uint8).reshape(image.height, image.width, 4)
        else:
            pixels_HWC = image
        height, width, channels = pixels_HWC.shape
        if height % 2 or width % 2:  # H.264 halves the resolution of colors: an odd edge is repeated
            pixels_HWC = np.pad(pixels_HWC, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        try:
            if self._stream is None:
                self._stream = self._add_stream(pixels_HWC.shape[1], pixels_HWC.shape[0])
            stream = self._stream
            pixel_format = "rgb24" if channels == 3 else "rgba"
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels_HWC), format=pixel_format)
            frame = self._converter.convert(frame, "yuv420p", stream.width, stream.height)
            if self._has_times and time_s is not None:
                tick = max(round(time_s * CLOCK_HZ), self._last_tick + 1)
            else:
                tick = self._last_tick + 1
            frame.pts, frame.time_base, self._last_tick = tick, stream.codec_context.time_base, tick
            self._container.mux(stream.encode(frame))
        except (self._av.FFmpegError, OSError) as error:
            self._has_failed = True
            raise DarkpyError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        self.frames += 1

    def close(self) -> None:
        """Finish the file; one without frames is removed. Raises: DarkpyError when it cannot be written."""
        try:
            if self._stream is not None and not self._has_failed:  # FFmpeg crashes if its header was not written
                self._container.mux(self._stream.encode(None))
            self._container.close()
        except (self._av.FFmpegError, OSError) as error:
            if not self._has_failed:  # `write` has raised
                raise DarkpyError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        if self.frames == 0:
            self.path.unlink(missing_ok=True)

    def _add_stream(self, w: int, h: int) -> VideoStream:
        options = {"preset": "superfast"} if self._codec == "libx264" else {}
        stream: Any = self._container.add_stream(self._codec, rate=self._rate, options=options)
        stream.width, stream.height = w, h
        stream.pix_fmt = "yuv420p"
        stream.max_b_frames = 0  # they would delay the first frame, and an .mp4 in fragments cannot say so
        stream.gop_size = max(1, round(KEYFRAME_SECONDS * self._rate))
        stream.codec_context.time_base = Fraction(1, CLOCK_HZ) if self._has_times else 1 / self._rate
        if self._codec != "libx264":
            stream.bit_rate = int(w * h * self._rate * 0.2)  # bits per pixel, near the quality of the H.264 files
        return stream  # type: ignore[no-any-return]
