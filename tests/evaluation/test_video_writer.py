"""Written videos."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkpy.errors import DarkpyError
from darkpy.evaluation.video_writer import VideoWriter
from darkpy.sources import video
from tests.cli.videos import read_video

NOISE = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full and limits of Linux")
@pytest.mark.parametrize("is_full_at_once", [True, False])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_full_disk_is_one_error_and_no_crash(tmp_path: Path, suffix: str, is_full_at_once: bool) -> None:
    import resource

    path = tmp_path / f"film{suffix}"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if is_full_at_once:
        path.symlink_to("/dev/full")
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        writer = VideoWriter(path, 10)
        with pytest.raises(DarkpyError, match=r"cannot be written: (No space left|File too large)"):
            for index in range(100):
                writer.write(np.roll(NOISE, index, axis=1), index / 10)
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("width", [320, 319])
@pytest.mark.parametrize("first_version", [17, 99])
def test_a_drawing_is_written_as_its_array(
    tmp_path: Path, width: int, first_version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "THREADED_AV_VERSION", first_version)
    pixels_HW3 = np.ascontiguousarray(NOISE[:, :width])
    for name, image in (("array.mp4", pixels_HW3), ("drawing.mp4", Image.fromarray(pixels_HW3))):
        writer = VideoWriter(tmp_path / name, 10)
        writer.write(image)
        writer.close()
    assert (tmp_path / "array.mp4").read_bytes() == (tmp_path / "drawing.mp4").read_bytes()


def test_frames_of_another_size_are_fitted_to_the_first(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "film.mp4", 10)
    writer.write(NOISE)
    writer.write(NOISE[:100, :100])
    writer.close()
    assert [pixels.shape for _, pixels in read_video(tmp_path / "film.mp4")] == [(240, 320, 3)] * 2


@pytest.mark.parametrize("rate", [None, 90_000.0, 29.97, 0.5])
def test_any_rate_is_written_with_the_times_of_the_frames(tmp_path: Path, rate: float | None) -> None:
    writer = VideoWriter(tmp_path / "film.mp4", rate)
    for time_s in (0.0, 0.1, 0.1, 0.05, 3.0):  # equal and earlier times follow at once
        writer.write(NOISE, time_s)
    writer.close()
    assert [at for at, _ in read_video(tmp_path / "film.mp4")] == pytest.approx([0, 0.1, 0.1, 0.1, 3.0], abs=1e-3)
