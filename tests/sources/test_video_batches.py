"""Frames of a video's file are detected several at a time, those of a camera one by one; results are the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import darkpy
from darkpy.detection_run import usual_batch_size
from darkpy.errors import DarkpyError
from darkpy.evaluation.detect import BATCH_SIZE
from darkpy.network import Network
from darkpy.sources import video
from darkpy.sources.frames import FrameList, FrameSource, open_frames
from tests.cli.videos import bar_position, network_camera, picture, write_video
from tests.test_detection_run import random_network

FRAMES = 19
CFG = """[net]
width=64
height=64
channels=3
[convolutional]
filters=6
size=3
stride=16
pad=1
activation=leaky
[convolutional]
filters=6
activation=linear
[yolo]
mask=0
anchors=16,8
classes=1
num=1
"""


class BatchSizes:
    """Number of images in each call of a network."""

    def __init__(self, network: Network) -> None:
        self.sizes: list[int] = []
        network.register_forward_pre_hook(lambda _, arguments: self.sizes.append(len(arguments[0])))


@pytest.fixture
def network() -> Network:
    return random_network(CFG)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_video(tmp_path / "film.mp4", FRAMES)


def results(network: Network, source: Any, **options: Any) -> list[darkpy.Result]:
    return list(darkpy.detect(network, source, ["a"], thresh=0.1, keep_images=True, **options))


@pytest.mark.parametrize("options", [{}, {"track": True}, {"batch_size": 4}, {"batch_size": 50}])
@pytest.mark.parametrize("idle_cores", [0, 3])
def test_batches_of_a_file_give_what_its_frames_give_one_by_one(
    network: Network, film: Path, options: dict[str, Any], idle_cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkpy.evaluation.detect._idle_cores", lambda device: idle_cores)
    calls = BatchSizes(network)
    together = results(network, film, **options)
    size = options.get("batch_size", BATCH_SIZE)
    assert calls.sizes == [min(size, FRAMES - start) for start in range(0, FRAMES, size)]
    alone = results(network, film, **{**options, "batch_size": 1})
    assert [result.frame for result in together] == list(range(FRAMES))
    assert [bar_position(result.image) for result in together] == list(range(FRAMES))
    assert any(map(len, alone)) and len({result.scores.tobytes() for result in alone}) > FRAMES // 2
    for result, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(result.boxes, expected.boxes, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-5)
        assert result.time == expected.time and result.class_ids.tolist() == expected.class_ids.tolist()
        assert (result.track_ids is None) == ("track" not in options)
        if result.track_ids is not None and expected.track_ids is not None:
            assert result.track_ids.tolist() == expected.track_ids.tolist()


def test_the_end_of_a_file_or_an_interruption_does_not_wait_for_a_whole_batch(network: Network, film: Path) -> None:
    calls, frames = BatchSizes(network), open_frames(film)
    detected = darkpy.detect(network, frames, ["a"])
    first = next(detected)
    frames.close()
    rest = [result.frame for result in detected]
    assert first.frame == 0 and rest == list(range(1, sum(calls.sizes))) and len(rest) < 2 * BATCH_SIZE


def test_a_batch_of_one_yields_each_result_before_the_next_frame_is_computed(network: Network, film: Path) -> None:
    calls = BatchSizes(network)
    for count, _ in enumerate(darkpy.detect(network, film, ["a"], batch_size=1), 1):
        assert calls.sizes == [1] * count


def test_a_camera_and_a_generator_never_wait_for_a_batch(network: Network) -> None:
    calls = BatchSizes(network)
    asked: list[int] = []

    def images() -> Iterator[NDArray[np.uint8]]:
        for index in range(3):
            asked.append(index)
            yield picture(index)

    for count, _ in enumerate(darkpy.detect(network, images(), ["a"]), 1):
        assert len(asked) == count
    with network_camera(50) as (address, _):
        assert len(list(itertools.islice(darkpy.detect(network, address, ["a"]), 3))) == 3
    assert set(calls.sizes) == {1}


def test_batches_are_smaller_for_large_networks_and_large_frames(
    network: Network, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def size(source: FrameSource | Path, bflops: float = 1e-3) -> int:
        frames = open_frames(source)
        nodes = (*network.plan.nodes[:-1], replace(network.plan.nodes[-1], bflops=bflops))
        monkeypatch.setattr(network, "plan", replace(network.plan, nodes=nodes))
        frames.close()
        return usual_batch_size(network, frames)

    assert [size(film, bflops) for bflops in (0, 6, 10, 30, 65, 1000)] == [8, 8, 6, 2, 1, 1]
    assert size(FrameList([]), 1000) == BATCH_SIZE
    monkeypatch.setattr(video, "MAX_AHEAD_PIXELS", 96 * 64 * 3 + 1)
    assert size(film) == 3
    monkeypatch.setattr(video, "MAX_AHEAD_PIXELS", 1)
    assert size(film) == 1 and len(results(network, film)) == FRAMES


def test_frames_that_are_larger_than_the_file_announced_are_not_waited_for_together(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [(48, 32)] * 10 + [(96, 64)] * 3 + [(48, 32)] * 2
    monkeypatch.setattr(video, "MAX_AHEAD_PIXELS", 48 * 32 * 8)
    film = tmp_path / "grows.mjpeg"
    with film.open("wb") as stream:
        for w, h in sizes:
            Image.fromarray(picture(0, w, h)).save(stream, "JPEG")
    calls = BatchSizes(network)
    assert [result.size for result in results(network, film)] == sizes
    assert calls.sizes == [8, 3, 1, 1, 2]


def test_the_order_of_colors_is_not_silently_that_of_an_open_source(network: Network) -> None:
    frames = open_frames(iter([picture(0)[:, :, ::-1]]), channel_order="bgr")
    (expected,) = results(network, [picture(0)])
    with pytest.raises(DarkpyError, match="channel_order") as caught:
        darkpy.detect(network, frames, ["a"], channel_order="bgr")
    assert "open_frames" in str(caught.value.hint)
    (turned,) = results(network, frames)
    assert np.array_equal(turned.scores, expected.scores) and len(turned)
