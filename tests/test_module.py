"""A network as an ordinary torch module: gradients, text, devices, errors for other inputs."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import darkpy
from darkpy.errors import DarkpyError, ShapeError
from darkpy.layers.loss import TrainingState

CFG = """[net]
width=32
height=32
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky
smooth=0.1
[convolutional]
filters=6
activation=tanh
[shortcut]
from=-1
activation=linear
[convolutional]
filters=14
activation=linear
[yolo]
mask=0,1
anchors=4,4, 9,9
classes=2
num=2
"""
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")


def gradients(module: nn.Module, x_BCHW: torch.Tensor, scale: float) -> list[torch.Tensor]:
    module.zero_grad()
    (scale * module(x_BCHW)[0].square().sum()).backward()
    return [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_a_network_in_a_larger_module_follow_the_loss(training: bool) -> None:
    class Larger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Conv2d(3, 3, 1)
            self.network = darkpy.load(CFG, dialect="pjreddie")

        def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
            outputs: list[torch.Tensor] = self.network(self.before(x_BCHW))
            return outputs

    torch.manual_seed(0)
    module = Larger().double().train(training)
    x_BCHW = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    small, large = gradients(module, x_BCHW, 1.0), gradients(module, x_BCHW, 1e6)
    assert len(small) == len(list(module.parameters()))
    for one, other in zip(small, large, strict=True):
        torch.testing.assert_close(other, one * 1e6)


def test_gradients_are_those_of_torch() -> None:
    network = darkpy.load(CFG, dialect="pjreddie").double()
    x_BCHW = torch.rand(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: network(x)[0].flatten()[:40] * 1e3, (x_BCHW,), fast_mode=True)


def test_training_step_still_constrains_deltas() -> None:
    network = darkpy.load(CFG.replace("smooth=0.1\n", ""), dialect="pjreddie").train()
    generator = torch.Generator().manual_seed(0)
    x_BCHW, truth = torch.rand(2, 3, 32, 32, generator=generator), torch.zeros(2, 90, 5)
    largest = []
    for scale in (1.0, 1e6):
        network.zero_grad()
        inputs, _ = network.losses(x_BCHW, truth, TrainingState(network.plan.net, 0))
        torch.autograd.backward(inputs, [scale * torch.ones_like(x) for x in inputs])
        largest.append(float(network.built[0].get_parameter("weights").grad.abs().max()))  # type: ignore[union-attr]
    assert largest[1] < 1e3 * largest[0]


def test_text_of_a_network_shows_sizes() -> None:
    text = repr(darkpy.load(CFG, dialect="pjreddie"))
    for line in (
        "(0): Convolutional(3 -> 4, 3x3, stride 2, leaky)",
        "(1): Convolutional(4 -> 6, 1x1, stride 1, tanh)",
        "(2): Shortcut(6 + 6 -> 6)",
        "(3): Convolutional(6 -> 14, 1x1, stride 1)",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("dog.jpg", "not str"),
        (Path("dog.jpg"), "not PosixPath"),
        (np.zeros((32, 32, 3), np.uint8), "not ndarray"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "tensor of torch.uint8, not of float"),
    ],
)
def test_input_of_another_kind_says_what_to_do(image: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message) as caught:
        darkpy.load(CFG, dialect="pjreddie")(image)
    assert caught.value.hint is not None and ("detect_image" in caught.value.hint or "255" in caught.value.hint)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a computer without a GPU")
@pytest.mark.parametrize("device", ["cuda", "gpu", 0, "0", "cuda:1", torch.device("cuda")])
def test_device_that_is_not_there_is_one_clear_error(device: Any) -> None:
    with pytest.raises(DarkpyError, match=f"device {device}: torch finds no GPU here"):
        darkpy.load(CFG, dialect="pjreddie", device=device)


def test_monitor_takes_text_and_makes_its_folder(tmp_path: Path) -> None:
    network = darkpy.load(CFG, dialect="pjreddie")
    monitor = darkpy.Monitor(str(tmp_path / "deep/run"))
    darkpy.Trainer(network, monitor=monitor)
    assert monitor.log_path is not None and monitor.log_path.parent == tmp_path / "deep/run"
    assert monitor.log_path.exists()


def test_copy_of_an_accelerated_network_computes_the_same() -> None:
    network = darkpy.accelerate(darkpy.load(CFG, dialect="pjreddie"))
    x_BCHW = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(copy.deepcopy(network)(x_BCHW), network(x_BCHW), rtol=0, atol=0)


def test_network_is_pickled_and_an_accelerated_one_says_why_not() -> None:
    network = darkpy.load(CFG, dialect="pjreddie")
    x_BCHW = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(pickle.loads(pickle.dumps(network))(x_BCHW), network(x_BCHW), rtol=0, atol=0)
    with pytest.raises(DarkpyError, match="an accelerated network cannot be pickled") as caught:
        pickle.dumps(darkpy.accelerate(network))
    assert "before darkpy.accelerate" in (caught.value.hint or "")
