"""[history]: no golden has it."""

from __future__ import annotations

import torch

from darkpy.build import make_plan
from darkpy.network import Network


def test_the_newest_frame_comes_first_and_the_past_starts_at_zero() -> None:
    network = Network(make_plan("[net]\nwidth=2\nheight=1\nchannels=1\ntime_steps=4\n[history]\nhistory_size=3\n"))
    frames = torch.arange(1.0, 9.0).reshape(4, 1, 1, 2)
    assert network(frames)[0].flatten(2).tolist() == [
        [[1, 2], [0, 0], [0, 0]],
        [[3, 4], [1, 2], [0, 0]],
        [[5, 6], [3, 4], [1, 2]],
        [[7, 8], [5, 6], [3, 4]],
    ]


def test_a_history_of_one_frame_is_the_frame() -> None:
    network = Network(make_plan("[net]\nwidth=2\nheight=1\nchannels=1\n[history]\nhistory_size=1\n"))
    x = torch.rand(3, 1, 1, 2)
    assert torch.equal(network(x)[0], x)
