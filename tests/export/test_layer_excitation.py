"""nightmare against what pjreddie's program made (tests/golden/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError
from darkpy.export.layer_excitation import ExcitationOptions, excite, first_layers, reconstruct, rotate
from darkpy.network import Network

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "nightmare.npz"))
CASES = {
    "default": ExcitationOptions(layer=2, rounds=2, iterations=4),
    "zoom": ExcitationOptions(
        layer=2, rounds=2, iterations=3, zoom=0.9, rotate=0.1, layer_range=3, octaves=2, rate=0.06, thresh=0.5
    ),
    "raw": ExcitationOptions(layer=3, iterations=3, normalize=False, rate=0.3),
    "reconstruct": ExcitationOptions(layer=3, rounds=3, iterations=4, zoom=0.9, rate=0.02, momentum=0.8),
}
MAX_ERROR = 1e-5


def load(case: str, folder: Path) -> Network:
    (folder / "small.weights").write_bytes(GOLDEN[f"{case}weights"].tobytes())
    cfg = GOLDEN[f"{case}cfg"].tobytes().decode()
    return darkpy.load(cfg, folder / "small.weights", dialect="pjreddie").for_inference()


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return load("", tmp_path)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.from_numpy(GOLDEN["image"]).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("case", CASES)
def test_the_image_is_that_of_the_c_program(case: str, network: Network, image: torch.Tensor) -> None:
    make = reconstruct if case == "reconstruct" else excite
    *_, made = make(network, image, CASES[case])
    expected = torch.from_numpy(GOLDEN[f"{case}/image"])
    assert made.shape == expected.shape
    assert float((made - expected).abs().max()) <= MAX_ERROR


def test_random_numbers_start_anew_behind_a_detection_head(image: torch.Tensor, tmp_path: Path) -> None:
    *_, made = excite(load("head/", tmp_path), image, ExcitationOptions(layer=2, rounds=2, iterations=4, octaves=2))
    assert float((made - torch.from_numpy(GOLDEN["head/image"])).abs().max()) <= MAX_ERROR


def test_the_layer_is_excited_more_than_before(network: Network, image: torch.Tensor) -> None:
    *_, made = excite(network, image, ExcitationOptions(layer=2, octaves=1, iterations=5))
    start = first_layers(network, 3)
    start.resize(image.shape[2], image.shape[1])
    before, after = (float(start.trace(pixels[None])[-1].square().mean()) for pixels in (image, made))
    assert after > 1.5 * before


def test_a_layer_that_does_not_exist_is_an_error_that_names_them(network: Network, image: torch.Tensor) -> None:
    with pytest.raises(DarkpyError, match=r"has the layers 0 to 5, and layer 6 is requested\n.*darkpy show"):
        next(excite(network, image, ExcitationOptions(layer=6)))


def test_a_full_turn_changes_nothing_inside(image: torch.Tensor) -> None:
    turned = rotate(image, 2 * torch.pi)
    torch.testing.assert_close(turned[:, 2:-2, 2:-2], image[:, 2:-2, 2:-2], atol=1e-4, rtol=0)
