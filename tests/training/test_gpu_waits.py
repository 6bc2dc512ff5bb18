"""A training step tells a GPU what to do and goes on: nothing is fetched from it that the next step could wait for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import darkpy
from darkpy.build import Plan
from darkpy.diagnostics.monitor.monitor import Monitor
from darkpy.network import Network
from darkpy.training.trainer import Trainer
from tests.pretended_gpu import GPU, There, pretended_gpu

NET = """[net]
batch=4
subdivisions=2
width=32
height=32
channels=3
learning_rate=.01
decay=.0005
momentum=.9
"""
CONV = "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=4\npad=1\nactivation=leaky\n[maxpool]\nstride=2\n"
ANCHORS = "anchors=4,6, 9,9, 14,20\nnum=3\nclasses=3\n"
HEADS = {
    "yolo": "[convolutional]\nfilters=24\nsize=1\n[yolo]\nmask=0,1,2\nignore_thresh=.5\n" + ANCHORS,
    "yolo of AlexeyAB": "[convolutional]\nfilters=24\nsize=1\n[yolo]\nmask=0,1,2\nignore_thresh=.5\niou_thresh=.2\n"
    "iou_loss=ciou\nscale_x_y=1.1\nmax_delta=5\nobjectness_smooth=1\n" + ANCHORS,
    "Gaussian_yolo": "[convolutional]\nfilters=36\nsize=1\n[Gaussian_yolo]\nmask=0,1,2\nignore_thresh=.5\n" + ANCHORS,
    "region": "[convolutional]\nfilters=24\nsize=1\n[region]\nsoftmax=1\nthresh=.6\nrescore=1\n" + ANCHORS,
    "detection": "[connected]\noutput=117\n[detection]\nclasses=3\ncoords=4\nrescore=1\nside=3\nnum=2\nsqrt=1\n",
    "softmax": "[avgpool]\n[connected]\noutput=5\n[softmax]\n",
    "cost": "[avgpool]\n[connected]\noutput=5\n[softmax]\nnoloss=1\n[cost]\n",
    "logistic": "[avgpool]\n[connected]\noutput=5\n[logistic]\n",
}


def _truth(plan: Plan) -> torch.Tensor:
    node = next(node for node in plan.nodes if getattr(node.spec, "has_loss", False))
    shape: tuple[int, ...] = node.spec.truth_shape(node.shape)  # type: ignore[attr-defined]
    truth = torch.zeros(2, *shape)
    if len(shape) == 1:
        truth[:, 1] = 1
    elif node.type == "detection":
        truth[:, 4] = torch.tensor((1, 0, 1, 0, 0.5, 0.5, 0.3, 0.4))
    else:
        truth[0, :3, :5] = torch.tensor([(0.5, 0.5, 0.2, 0.3, 1), (0.5, 0.5, 0.2, 0.3, 2), (0.2, 0.7, 0.5, 0.6, 0)])
        truth[1, 0, :5] = torch.tensor((0.9, 0.1, 0.1, 0.1, 2))
    return truth


def _loaded(head: str) -> Network:
    torch.manual_seed(1)
    return darkpy.load(NET + CONV + head)


def _train(
    net: Network, look: Callable[[Trainer], object] = lambda trainer: None, monitor: Monitor | None = None
) -> Trainer:
    """Two updates of two minibatches each."""
    x_BCHW = torch.rand((2, *net.plan.input_shape), generator=torch.Generator().manual_seed(0))
    trainer = Trainer(net, monitor=monitor)
    look(trainer)
    for _ in range(4):
        trainer.train_minibatch(x_BCHW, _truth(net.plan))
    return trainer


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_step_waits_for_a_gpu_nowhere_and_learns_what_it_learns_on_a_processor(head: str) -> None:
    wanted, found = _train(_loaded(head)), _loaded(head)
    with pretended_gpu() as gpu:
        trainer = _train(found.to(GPU), look=lambda trainer: gpu.waits.clear())
        assert not gpu.waits, gpu.waits
    assert trainer.batch_num == 2
    for one, other in zip(found.parameters(), wanted.network.parameters(), strict=True):
        assert isinstance(one, There)
        torch.testing.assert_close(one.here, other.detach(), rtol=1e-4, atol=1e-6)


def test_watch_waits_once_for_a_minibatch_and_once_for_an_update() -> None:
    net = _loaded(HEADS["yolo"])
    with pretended_gpu() as gpu:
        trainer = _train(net.to(GPU), monitor=Monitor(first=1))
        for _ in range(2):
            gpu.waits.clear()
            trainer.train_minibatch(torch.rand((2, *net.plan.input_shape)), _truth(net.plan))
    assert trainer.batch_num == 3
    assert sum(gpu.waits.values()) == 1 + 1, gpu.waits
