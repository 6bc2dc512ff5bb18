"""Recurrent layers get the frames of a video or stream in order, and are reset where another one begins."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import darkpy
from darkpy.errors import DarkpyError
from darkpy.network import Network
from darkpy.sources import video
from tests.cli.videos import network_camera, picture, write_video

LAYERS = {
    "crnn": "[crnn]\noutput=4\nhidden=4\nsize=3\npad=1\nactivation=leaky\nbatch_normalize=0",
    "conv_lstm": "[conv_lstm]\noutput=4\nsize=3\npad=1\nactivation=leaky\nbatch_normalize=0",
}
CFG = """[net]
width=32
height=32
channels=3
[convolutional]
filters=4
size=8
stride=8
activation=leaky
{layer}
[convolutional]
filters=6
activation=linear
[yolo]
mask=0
anchors=9,9
classes=1
num=1
"""
FRAMES = 6


@pytest.fixture(params=LAYERS)
def network(request: pytest.FixtureRequest) -> Network:
    model = darkpy.load(CFG.format(layer=LAYERS[request.param]), dialect="alexeyab")
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.detach().uniform_(-0.6, 0.6, generator=generator)
    return model


def scores(network: Network, source: object, **options: object) -> list[NDArray[np.float32]]:
    results = darkpy.detect(network, source, ["a"], thresh=0, nms=0, **options)  # type: ignore[arg-type]
    return [result.scores.copy() for result in results]


def differ(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    return first.shape != second.shape or not np.allclose(first, second, atol=1e-5)


def test_frames_are_a_sequence_that_each_file_begins_anew(network: Network, tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.avi", FRAMES)
    images = [result.image for result in darkpy.detect(network, str(film), ["a"], keep_images=True)]
    of_file = scores(network, str(film))

    def camera() -> Iterator[NDArray[np.uint8]]:
        yield from images

    for again in (scores(network, camera()), scores(network, str(film)), scores(network, camera(), batch_size=1)):
        assert len(again) == FRAMES and not any(map(differ, of_file, again))
    alone = [scores(network, [image])[0] for image in images]
    assert not differ(of_file[0], alone[0]) and all(map(differ, of_file[1:], alone[1:]))
    backwards = scores(network, iter(images[::-1]))
    assert differ(of_file[-1], backwards[0])


def test_images_of_a_list_are_no_sequence(network: Network) -> None:
    images = [picture(index) for index in range(4)]
    alone = [scores(network, [image])[0] for image in images]
    for batch_size in (1, 2, 4):
        assert not any(map(differ, alone, scores(network, images, batch_size=batch_size)))


def test_a_stream_that_is_opened_again_begins_anew(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "FIRST_RECONNECT_PAUSE_SECONDS", 0.01)
    before = None
    with network_camera(60, frames_per_connection=60) as (address, _), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for result in darkpy.detect(network, address, ["a"], thresh=0, nms=0, keep_images=True):
            if result.source.connection == 1:
                break
            before = result
    assert before is not None and result.frame > before.frame
    alone = scores(network, [before.image])[0], scores(network, [result.image])[0]
    assert differ(before.scores, alone[0]) and not differ(result.scores, alone[1])


def test_frames_of_a_sequence_are_not_batched(network: Network) -> None:
    with pytest.raises(DarkpyError, match="one by one") as caught:
        darkpy.detect(network, iter([picture(0)]), ["a"], batch_size=4)
    assert caught.value.hint == "leave out batch_size"
