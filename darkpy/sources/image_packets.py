"""Images of a live stream in its packets, passed on without waiting for the next one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

START_CODE = b"\0\0\1"
UNIT_HEADER_BYTES: Mapping[str, int] = {"h264": 1, "hevc": 2}
"""Length of the header of a unit, behind the start code. The bit after it says whether a slice is an image's first."""
IS_SLICE: Mapping[str, Callable[[int], bool]] = {
    "h264": lambda header: header & 31 in (1, 2, 5),
    "hevc": lambda header: header >> 1 & 63 < 32,
}
"""Test of the first byte of a unit's header for a part of an image."""


class ImagePackets:
    """Packets of the images of a live stream, for the decoder.

    FFmpeg's parser sees the end of an image where the next one begins, a frame later. In MPEG-TS a packet is one image,
    as a rule; there they are taken as they come, until one is a part of an image, or several.

    Source: ITU-T H.264 and H.265, 7.3 (units, first_mb_in_slice, first_slice_segment_in_pic_flag).
    """

    def __init__(self, container: InputContainer, track: VideoStream) -> None:
        self._codec = track.codec_context
        self._is_unparsed = container.format.name == "mpegts" and self._codec.name in IS_SLICE
        self._parses = False
        if self._is_unparsed:
            from av.container.core import Flags
            from av.error import FFmpegError

            container.flags |= cast("int", Flags.no_parse.value)
            # a stream has no positions, and its server may refuse, but the parser in use is dropped first
            with suppress(FFmpegError, OSError, ValueError):
                container.seek(0, unsupported_byte_offset=True)

    def split(self, packet: Packet[VideoStream]) -> list[Packet[VideoStream]]:
        """Return the packets of whole images that are complete with this one."""
        if not self._is_unparsed:
            return [packet]
        data = bytes(packet)
        self._parses = self._parses or (bool(data) and not holds_one_image(data, self._codec.name))
        if not self._parses:
            return [packet]
        return [*self._codec.parse(data), *([] if data else [packet])]  # the last packet is empty, and ends the stream


def holds_one_image(data: bytes, codec: str) -> bool:
    """True for a packet that begins with an image of H.264 or HEVC, and in which no other image begins."""
    firsts = []
    position = data.find(START_CODE)
    while position >= 0:
        header = position + len(START_CODE)
        rest = header + UNIT_HEADER_BYTES[codec]
        if rest < len(data) and IS_SLICE[codec](data[header]):
            firsts.append(data[rest] >> 7)
        position = data.find(START_CODE, header)
    return firsts[:1] == [1] and sum(firsts) == 1
