"""Images in the packets of live streams."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from darkpy.sources.image_packets import ImagePackets, holds_one_image
from tests.cli.videos import bar_position, write_video

H264 = {"first": b"\0\0\1\x65\x88aa", "next": b"\0\0\0\1\x61\x40aa", "set": b"\0\0\0\1\x67\x64aa", "cut": b"aaaa"}
HEVC = {"first": b"\0\0\1\x26\x01\xaf", "next": b"\0\0\1\x02\x01\x4f", "set": b"\0\0\0\1\x40\x01\x0c", "cut": b"aaaa"}


@pytest.mark.parametrize(("codec", "units"), [("h264", H264), ("hevc", HEVC)])
@pytest.mark.parametrize(
    ("names", "is_one"),
    [
        ("first", True),
        ("set set first next next", True),
        ("first set", True),
        ("", False),
        ("cut", False),
        ("set", False),
        ("next", False),
        ("next first", False),
        ("first first", False),
        ("first next first", False),
    ],
)
def test_one_image_begins_with_its_first_slice(codec: str, units: dict[str, bytes], names: str, is_one: bool) -> None:
    assert holds_one_image(b"".join(units[name] for name in names.split()), codec) == is_one
    assert not holds_one_image(b"\0\0\1", codec)


@pytest.mark.parametrize("cuts", [1, 2])
def test_images_are_whole_however_a_sender_cuts_them(tmp_path: Path, cuts: int) -> None:
    """Only the first image, whose parts were taken for images, may be lost."""
    with av.open(str(write_video(tmp_path / "film.ts", 20))) as container:
        track = container.streams.video[0]
        images = ImagePackets(container, track)
        frames = []
        for packet in container.demux(track):
            data, size = bytes(packet), -(-packet.size // cuts)
            cut: list[Any] = [av.Packet(data[start : start + size]) for start in range(0, len(data), size or 1)] or [
                packet
            ]
            frames += [frame for piece in cut for part in images.split(piece) for frame in track.decode(part)]
    bars = [bar_position(frame.to_ndarray(format="rgb24")) for frame in frames]
    assert bars[-(20 - cuts + 1) :] == list(range(cuts - 1, 20))


def test_server_that_refuses_another_position_is_no_error() -> None:
    def refuse(*_: object, **__: object) -> None:
        raise av.error.HTTPServerError(500, "Server returned 5XX Server Error reply")

    container: Any = SimpleNamespace(format=SimpleNamespace(name="mpegts"), flags=0, seek=refuse)
    track: Any = SimpleNamespace(codec_context=SimpleNamespace(name="h264"))
    packet: Any = H264["first"]
    assert ImagePackets(container, track).split(packet) == [packet]
