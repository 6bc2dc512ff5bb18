"""What the commands run: a network for single images, whatever it was trained with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.cli import load
from darkpy.cli.load import open_network
from darkpy.cli.options import LoadOptions
from darkpy.inference import accelerate
from darkpy.inference.accelerate import InferenceConfig
from tests.cli.conftest import CFG, Run, write_image

FILM = CFG.replace("channels=3", "channels=3\ntime_steps=4").replace(
    "[convolutional]", "[conv_lstm]\noutput=2\nsize=1\n\n[convolutional]"
)


def save_film(folder: Path) -> tuple[Path, Path]:
    """A recurrent network that trains with sequences of four frames."""
    cfg, weights = folder / "film.cfg", folder / "film.weights"
    cfg.write_text(FILM)
    network = darkpy.load(cfg)
    assert network.plan.net.time_steps == 4
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.detach().uniform_(0, 1, generator=generator)
    network.save_weights(weights)
    return cfg, weights


def test_network_for_films_takes_single_images(task: Path, run: Run) -> None:
    cfg, weights = save_film(task)
    write_image(task / "b.png", 40, 20)
    images = ("a.png", "b.png", "a.png")
    code, out, err = run("detect", str(cfg), str(weights), *images, "--names=pets.names", "--json", "-thresh=.01")
    assert (code, err) == (0, "")
    first, second, third = json.loads(out)
    assert first["objects"] and first == third != second


def test_network_for_films_takes_them_one_by_one_layer_by_layer(task: Path) -> None:
    network = open_network(*save_film(task), LoadOptions(device="cpu"), accelerated=False)
    assert network.plan.net.time_steps == 1
    assert all(output.shape[0] == 1 for output in network.trace(torch.rand(1, 3, 32, 32)))


@pytest.mark.parametrize(("count", "image_count"), [(0, None), (9, 9)])
def test_network_is_prepared_for_the_images_to_come_and_uses_huge_pages_later(
    count: int, image_count: int | None, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs: list[InferenceConfig] = []
    started: list[bool] = []
    monkeypatch.setattr(accelerate, "accelerate", lambda network, config, images: configs.append(config))
    monkeypatch.setattr(load, "use_huge_pages_later", lambda: started.append(True))
    open_network(*save_film(task), LoadOptions(device="cpu"), examples=[task / "a.png"] * count)
    assert [(config.image_count, config.batch) for config in configs] == [(image_count, max(1, min(count, 8)))]
    assert started == [True]
