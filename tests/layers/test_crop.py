"""[crop] beyond the goldens: training, and errors."""

from __future__ import annotations

import pytest
import torch

from darkpy.build import make_plan
from darkpy.errors import ConfigError
from darkpy.network import Network


def crop(keys: str) -> Network:
    text = f"[net]\nwidth=7\nheight=6\nchannels=3\n[crop]\ncrop_width=4\ncrop_height=3\n{keys}"
    return Network(make_plan(text))


def places(network: Network, draws: int = 200) -> set[tuple[int, int, bool]]:
    """Top, left and mirroring of windows, read from an image whose values encode their position."""
    image_HW = torch.arange(42, dtype=torch.float32).reshape(6, 7)
    x_BCHW = image_HW.expand(2, 3, 6, 7)
    actual = set()
    for _ in range(draws):
        (window,) = network(x_BCHW)
        assert torch.equal(window[0], window[1]), "one draw for the minibatch"
        is_mirrored = bool(window[0, 0, 0, 0] > window[0, 0, 0, 1])
        corner = int(window[0, 0, 0].min())
        expected = image_HW[corner // 7 :, corner % 7 :][:3, :4]
        assert torch.equal(window[0, 0].flip(1) if is_mirrored else window[0, 0], expected)
        actual.add((corner // 7, corner % 7, is_mirrored))
    return actual


def test_inference_takes_the_window_in_the_middle() -> None:
    assert places(crop("noadjust=1\nflip=1\n"), draws=5) == {(1, 1, False)}


def test_training_takes_every_window_and_mirrors_some() -> None:
    torch.manual_seed(1)
    assert places(crop("noadjust=1\nflip=1\n").train(), draws=1000) == {
        (top, left, is_mirrored) for top in range(4) for left in range(4) for is_mirrored in (False, True)
    }


def test_training_without_flip_mirrors_none() -> None:
    assert not any(is_mirrored for _, _, is_mirrored in places(crop("noadjust=1\n").train()))


def test_values_go_to_minus_one_to_one() -> None:
    x_BCHW = torch.rand(2, 3, 6, 7)
    torch.testing.assert_close(crop("")(x_BCHW)[0], 2 * x_BCHW[:, :, 1:4, 1:5] - 1)


@pytest.mark.parametrize("keys", ["", "noadjust=1\n"])
def test_no_delta_is_passed_on(keys: str) -> None:
    x_BCHW = torch.rand(2, 3, 6, 7, requires_grad=True)
    assert not crop(keys).train()(x_BCHW)[0].requires_grad


def test_a_window_larger_than_the_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="the window, 8 x 3 x 3, is larger than the input, 7 x 6 x 3"):
        make_plan("[net]\nwidth=7\nheight=6\nchannels=3\n[crop]\ncrop_width=8\ncrop_height=3\n")
