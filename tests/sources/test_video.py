"""Videos, cameras and streams as frames."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from darkpy.errors import DarkpyError, DarkpyWarning, ImageError
from darkpy.sources import video
from darkpy.sources.frames import Frame, open_frames
from darkpy.sources.video import VideoFrames
from tests.cli.videos import (
    H,
    W,
    bar_position,
    mpegts_camera,
    network_camera,
    picture,
    pipe_camera,
    rtsp_camera,
    write_video,
)


def all_frames(path: Path | str) -> list[Frame]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return list(open_frames(path))


def test_a_file_gives_every_frame_in_order_with_its_time(tmp_path: Path) -> None:
    frames = all_frames(write_video(tmp_path / "film.mp4", 30))
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 10 for index in range(30)])
    assert [bar_position(frame.load().pixels_HWC) for frame in frames] == list(range(30))


def test_colors_are_red_green_blue(tmp_path: Path) -> None:
    pixels = all_frames(write_video(tmp_path / "film.mkv", 3))[0].load().pixels_HWC
    assert pixels.shape == (H, W, 3) and pixels.dtype == np.uint8
    assert pixels[4, 4].astype(int) == pytest.approx(picture(0)[4, 4].astype(int), abs=12)


def test_a_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    times_ms = [0, 40, 80, 500, 540, 2000, 2033]
    frames = all_frames(write_video(tmp_path / "film.mp4", 7, times_ms=times_ms))
    assert [frame.time_s for frame in frames] == pytest.approx([time_ms / 1000 for time_ms in times_ms], abs=1e-3)


@pytest.mark.parametrize(("name", "kept"), [("film.mkv", 0.7), ("film.avi", 0.9), ("film.mov", 0.7)])
def test_a_truncated_file_gives_the_frames_that_are_there_and_one_warning(
    tmp_path: Path, name: str, kept: float
) -> None:
    path = write_video(tmp_path / name, 40)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.warns(DarkpyWarning, match=r"is truncated or damaged: \d+ frames could be read") as caught:
        frames = list(open_frames(path))
    assert len(caught) == 1
    assert 5 < len(frames) < 40
    assert [bar_position(frame.load().pixels_HWC) for frame in frames[:5]] == list(range(5))


def test_a_file_that_lost_its_index_is_one_error_with_a_hint(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mp4", 10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=r"film.mp4: cannot be opened") as caught:
        open_frames(path)
    assert "cut off" in str(caught.value.hint)


def test_a_file_without_frames_is_one_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mkv", 1)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # what follows is the first cluster
    with pytest.raises(ImageError, match=r"film.mkv: (holds no frames|cannot be opened)"):
        list(open_frames(path))


def test_a_file_with_sound_alone_is_one_error(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    path = (tmp_path / "sound.wav").rename(tmp_path / "film.avi")
    with pytest.raises(ImageError, match=r"film.avi: has no video track"):
        open_frames(path)


def test_the_cover_image_of_a_music_file_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        sound: Any = container.add_stream("aac", rate=8000)
        cover: Any = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = W, H, "rgb24", Disposition.attached_pic
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 8000
        container.mux(sound.encode(samples) + cover.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")))
        container.mux(sound.encode(None))
    with pytest.raises(ImageError, match=r"film.mp4: has no video track"):
        open_frames(tmp_path / "film.mp4")


def test_frames_above_the_limit_of_pixels_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKPY_MAX_PIXELS", "1000000")
    with pytest.warns(DarkpyWarning, match="2 frames could be read"):
        frames = list(open_frames(_write_pngs(tmp_path / "larger-later.avi", 64, 64, 4000, 64)))
    assert [frame.load().w for frame in frames] == [64] * len(frames)
    with pytest.raises(ImageError, match="none of its frames can be decoded") as caught:
        list(open_frames(_write_pngs(tmp_path / "larger.avi", 4000)))
    assert "of more than 1000000 pixels" in str(caught.value.hint)


def _write_pngs(path: Path, *sides: int) -> Path:
    """Write a video of PNG images of these sides, whose header says 64."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "gray"
        for index, side in enumerate(sides):
            data = io.BytesIO()
            Image.new("L", (side, side)).save(data, "PNG")
            packet = av.Packet(data.getvalue())
            packet.stream, packet.pts, packet.dts = stream, index, index
            container.mux(packet)
    return path


@pytest.mark.parametrize(("degrees", "corner"), [(90, "top right"), (180, "bottom right"), (270, "bottom left")])
def test_rotation_of_the_file_is_applied(tmp_path: Path, degrees: int, corner: str) -> None:
    """A telephone that is turned writes the image as its sensor sees it, and how players turn it (clockwise)."""
    path = write_video(tmp_path / "film.mp4", 3)
    turn = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    rows = (turn[0] << 16, turn[1] << 16, 0, turn[2] << 16, turn[3] << 16, 0, 0, 0, 1 << 30)
    data = path.read_bytes()
    matrix = data.index(b"tkhd") + 4 + 40  # of version 0: flags, times, track, duration, layer, volume
    path.write_bytes(data[:matrix] + np.array(rows, ">i4").tobytes() + data[matrix + 36 :])
    pixels = all_frames(path)[0].load().pixels_HWC
    assert pixels.shape == ((H, W, 3) if degrees == 180 else (W, H, 3))
    reds = {
        "top left": pixels[4, 4],
        "top right": pixels[4, -5],
        "bottom left": pixels[-5, 4],
        "bottom right": pixels[-5, -5],
    }
    assert max(reds, key=lambda name: int(reds[name][0]) - int(reds[name][1])) == corner


def test_a_slow_network_loses_no_frame_of_a_file(tmp_path: Path) -> None:
    frames = VideoFrames(write_video(tmp_path / "film.mp4", 20))
    indices = []
    for frame in frames:
        time.sleep(0.01)
        indices.append(frame.index)
    assert indices == list(range(20)) and frames.dropped == 0 and not frames.is_live


def test_skip_passes_over_frames_and_keeps_their_numbers(tmp_path: Path) -> None:
    frames = list(VideoFrames(write_video(tmp_path / "film.mp4", 10), skip=3))
    assert [frame.index for frame in frames] == [0, 4, 8]


def test_a_slow_network_gets_a_later_frame_of_a_camera() -> None:
    with network_camera(100) as (address, sent):
        frames = VideoFrames(address)
        assert frames.is_live
        source = iter(frames)
        first = next(source)
        deadline = time.monotonic() + 60
        while len(sent) < 8 or frames.dropped < 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert next(source).index >= first.index + 4
        frames.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("camera", "most_frames"), [(network_camera, 2), (mpegts_camera, 3), (pipe_camera, 3), (rtsp_camera, 3)]
)
def test_a_network_gets_the_latest_frame_of_a_camera(camera: Any, most_frames: int) -> None:
    """At 10 frames per second. In RTSP and MPEG-TS an image of H.264 has ended when the next one begins.

    A slow network takes the latest one when the next is nearly there, so that it is a frame older.
    """
    rate, taken = 10, []
    with camera(rate) as (address, sent):
        frames = VideoFrames(address)
        assert frames.is_live
        for frame in frames:
            bar = bar_position(frame.load().pixels_HWC)
            latest = len(sent) - 1
            taken.append((frame.index, (latest - bar) % 44, time.monotonic() - sent[bar]))
            if len(taken) == 12:
                break
            time.sleep(2.5 / rate if len(taken) < 6 else 0)
        frames.close()
    assert max(delay for _, _, delay in taken[1:]) < most_frames / rate, taken
    assert max(behind for _, behind, _ in taken[1:]) < most_frames, taken
    assert max(delay for _, _, delay in taken[6:]) < 2 / rate, taken
    assert frames.dropped >= 4
    assert taken[5][0] >= 10


@pytest.mark.parametrize(
    ("camera", "frames_per_connection"),
    [(network_camera, 30), pytest.param(rtsp_camera, 400, marks=pytest.mark.slow)],
)
def test_a_stream_that_breaks_off_is_opened_again(
    monkeypatch: pytest.MonkeyPatch, camera: Any, frames_per_connection: int
) -> None:
    monkeypatch.setattr(video, "FIRST_RECONNECT_PAUSE_SECONDS", 0.01)
    with camera(200, frames_per_connection) as (address, _):
        frames = VideoFrames(address)
        with pytest.warns(DarkpyWarning, match=r"no frame after .* s: .*; reconnecting, try 1 of 5"):
            seen = []
            for frame in frames:
                seen.append((frame.index, frame.connection))
                if frame.connection == 1:
                    break
        frames.close()
    assert seen == sorted(seen) and {connection for _, connection in seen} == {0, 1}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_ends_with_its_writer(tmp_path: Path) -> None:
    data = write_video(tmp_path / "film.mkv", 12).read_bytes()
    os.mkfifo(tmp_path / "pipe.mkv")
    threading.Thread(target=(tmp_path / "pipe.mkv").write_bytes, args=(data,), daemon=True).start()
    assert all_frames(tmp_path / "pipe.mkv")[-1].index == 11


def test_a_stream_that_stays_away_is_an_error_after_some_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "FIRST_RECONNECT_PAUSE_SECONDS", 0.001)
    with pytest.warns(DarkpyWarning) as caught:
        with network_camera(200, frames_per_connection=30) as (address, _):
            frames = VideoFrames(address)
            source = iter(frames)
            next(source)
        with pytest.raises(ImageError, match="no connection after 5 tries"):
            list(source)
    tries = [warning for warning in caught if "reconnecting, try" in str(warning.message)]
    assert "try 5 of 5" in str(tries[-1].message)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(ImageError) as caught:
        open_frames("rtsp://user:secret@127.0.0.1:9/live")
    assert "secret" not in str(caught.value) and "rtsp://127.0.0.1:9/live" in caught.value.message


def test_a_missing_camera_is_one_error() -> None:
    with pytest.raises(ImageError, match="camera 97: cannot be opened"):
        open_frames(97)


def test_without_pyav_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DarkpyError) as caught:
        open_frames("film.mp4")
    assert "darkpy-yolo[video]" in str(caught.value.hint)


def test_a_playlist_opens_no_connection(tmp_path: Path) -> None:
    with network_camera(10) as (address, sent):
        (tmp_path / "film.ts").write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}/a.ts\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(ImageError):
            list(open_frames(tmp_path / "film.ts"))
        assert not sent


def test_a_video_among_images_is_one_error() -> None:
    with pytest.raises(ImageError, match=r"film.mp4: is a video in a list of images"):
        open_frames(["a.png", "film.mp4"])
