"""Frames: the images of a source in order, and one function that opens any source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeGuard, cast, runtime_checkable

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from torch import Tensor

from darkpy.data.lists.paths import expand_paths
from darkpy.data.loading.decoding import to_gray
from darkpy.data.loading.images import Image, load_image
from darkpy.errors import DarkpyError, ImageError
from darkpy.finding import printable
from darkpy.sources.pixels import ChannelOrder, Pixels, to_pixels

OneImage = str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[Any] | Tensor | PIL.Image.Image
ImageSource = OneImage | int | np.integer[Any] | Iterable[OneImage]
"""A path (image file, folder, glob, list file, video), a stream's URL, a camera's number, an image in memory, or
several images."""

VIDEO_SUFFIXES = frozenset(
    f".{ending}"
    for ending in "mp4 avi mov mkv webm m4v mpg mpeg wmv flv ts mts m2ts 3gp ogv vob mjpeg h264 y4m".split()  # noqa: SIM905
)
_SOURCE_HINT = "give a path, encoded bytes, a numpy array, a Pillow image, a tensor, or a list of them"


@dataclass(eq=False, slots=True)
class Frame:
    """One image of a source, with its place there.

    content: the image in memory; None for the file `path`.
    path: the image's file, or the video's; empty for an image in memory.
    index: position in the source or the video, counted from 0. time_s: seconds since the start, if there is a clock.
    transient: the content is dropped by `release`, because the source goes on.
    connection: number of times that its stream was reopened before; recurrent layers are then reset.
    """

    content: Pixels | None = None
    path: str = ""
    index: int = 0
    time_s: float | None = None
    channel_order: ChannelOrder = "rgb"
    transient: bool = False
    connection: int = 0
    is_oversized: bool = False
    _channels: int = field(default=3, init=False, repr=False)
    _decoded: Image | None = field(default=None, init=False, repr=False)

    @classmethod
    def of_file(cls, path: str | os.PathLike[str], index: int = 0) -> Frame:
        return cls(path=os.fspath(path), index=index)

    @property
    def name(self) -> str:
        """Name for messages."""
        if self.time_s is not None:
            return f"{printable(self.path)}: frame {self.index}"
        return printable(self.path) if self.path else f"image {self.index}"

    def load(self, channels: int | None = None) -> Image:
        """Decode the image, or return what was decoded before; one thread at a time.

        channels: 3 (RGB) or 1 (gray); None takes those of the last time, at first 3.
        Raises:   ImageError naming the image, whatever is wrong with it; ShapeError for other numbers of channels.
        """
        channels = self._channels if channels is None else channels
        decoded = self._decoded
        if decoded is None or decoded.pixels_HWC.shape[2] != channels:
            if self.content is not None:
                pixels_HWC = to_pixels(self.content, self.name, self.channel_order)
                decoded = Image(Path(self.path or "image"), pixels_HWC if channels == 3 else to_gray(pixels_HWC))
            elif self.path and not self.transient:
                decoded = load_image(self.path, channels=channels)
            else:
                hint = "use it while detect goes on, or call detect with keep_images=True"
                raise ImageError(f"{self.name}: is no longer in memory", hint=hint)
            self._channels, self._decoded = channels, decoded
        return decoded

    def release(self) -> None:
        """Drop the pixels that can be decoded again, and those of a transient frame, which cannot."""
        self._decoded = None
        if self.transient:
            self.content = None


@runtime_checkable
class FrameSource(Protocol):
    """Frames in order, read once.

    count: number of frames; None if it is not known before the end.
    is_stream: the frames are one sequence: recurrent layers keep their state.
    is_live: the frames arrive in real time, and are not loaded ahead.
    max_batch: number of frames that may be waited for to be used together; None if only the user's memory limits it.
    """

    @property
    def count(self) -> int | None: ...

    @property
    def is_stream(self) -> bool: ...

    @property
    def is_live(self) -> bool: ...

    @property
    def max_batch(self) -> int | None: ...

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Release the file, the camera or the connection; may be called at any time, and twice."""


@dataclass(frozen=True, slots=True)
class FrameList:
    """Frames that are all known, each read by itself."""

    frames: Sequence[Frame]
    is_stream: bool = False
    is_live: bool = False
    max_batch: None = None

    @property
    def count(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def close(self) -> None:
        """Do nothing: a file is open only while it is decoded."""


@dataclass(frozen=True, slots=True)
class GeneratedFrames:
    """Frames of an iterable, which is advanced only on demand."""

    items: Iterable[OneImage]
    channel_order: ChannelOrder
    is_stream: bool = True
    is_live: bool = True
    count: None = None
    max_batch: int = 1

    def __iter__(self) -> Iterator[Frame]:
        for index, item in enumerate(self.items):
            frame = _frame(item, index, self.channel_order)
            if frame.content is None:
                yield frame
            else:
                # the producer may write the next image into the same array
                copied = frame.content.copy() if isinstance(frame.content, np.ndarray) else frame.content
                yield replace(frame, content=copied, transient=True)

    def close(self) -> None:
        """Close a generator, so that its `finally` runs now."""
        close = getattr(self.items, "close", None)
        if callable(close):
            close()


def open_frames(source: ImageSource | FrameSource, *, channel_order: ChannelOrder = "rgb") -> FrameSource:
    """Open a source of images; one that is open is returned as it is.

    source: a path (image file, folder, glob pattern, or list file .txt or .list with a path per line), encoded bytes, a
        numpy array, a Pillow image, a tensor, a sequence of these, a generator of images and paths of images, a video
        file, the number of a camera, or the URL of a stream.
    channel_order: of arrays and tensors; that of an open source cannot be changed.
    Raises: DarkpyError when the source is of no known kind, or a folder, glob or list names no image. An image that
        cannot be read raises where it is loaded.
    """
    if channel_order not in ("rgb", "bgr"):
        raise DarkpyError(
            f"channel_order={channel_order!r} is unknown", hint='use "rgb", or "bgr" for images of OpenCV (cv2)'
        )
    if isinstance(source, FrameSource):
        if channel_order != "rgb":
            message = f"channel_order={channel_order!r} comes too late: the source is open"
            raise DarkpyError(message, hint="give it to open_frames, where the source is opened")
        return source
    if isinstance(source, np.integer):
        source = int(source)
    if isinstance(source, bool):
        raise ImageError("True and False are neither images nor cameras", hint=_SOURCE_HINT)
    if isinstance(source, int) or (isinstance(source, str | os.PathLike) and is_video(source)):
        from darkpy.sources.video import VideoFrames

        return VideoFrames(source)
    if isinstance(source, str | os.PathLike):
        return FrameList(_file_frames(source))
    if is_in_memory(source):
        return FrameList([Frame(source, channel_order=channel_order)])
    if isinstance(source, Sequence):
        frames: list[Frame] = []
        for item in cast("Sequence[OneImage]", source):  # without memoryview, which is a sequence, too
            added = _file_frames(item) if isinstance(item, str | os.PathLike) else [_frame(item, 0, channel_order)]
            frames += [replace(frame, index=len(frames) + offset) for offset, frame in enumerate(added)]
        return FrameList(frames)
    if isinstance(source, Iterable):
        return GeneratedFrames(source, channel_order)
    raise ImageError(f"an object of type {type(source).__name__} is not an image", hint=_SOURCE_HINT)


def is_in_memory(source: object) -> TypeGuard[Pixels]:
    """True for one image in memory."""
    return isinstance(source, bytes | bytearray | memoryview | np.ndarray | Tensor | PIL.Image.Image)


def is_video(path: str | os.PathLike[str]) -> bool:
    """True for the name of a video file, a stream's URL, or the device of a camera."""
    text = os.fspath(path)
    return "://" in text or text.startswith("/dev/video") or Path(text).suffix.lower() in VIDEO_SUFFIXES


def _file_frames(path: str | os.PathLike[str]) -> list[Frame]:
    if os.fspath(path) == "":
        raise ImageError("the path is empty", hint=_SOURCE_HINT)
    if is_video(path):
        raise ImageError(f"{os.fspath(path)}: is a video in a list of images", hint="give each video by itself")
    return [Frame.of_file(file, index) for index, file in enumerate(expand_paths([path]))]


def _frame(item: OneImage, index: int, channel_order: ChannelOrder) -> Frame:
    if isinstance(item, str | os.PathLike):
        return Frame.of_file(item, index)
    if is_in_memory(item):
        return Frame(item, index=index, channel_order=channel_order)
    raise ImageError(f"image {index}: is of type {type(item).__name__}", hint=_SOURCE_HINT)
