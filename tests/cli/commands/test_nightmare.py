"""`darkpy nightmare`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.cli.conftest import Run


def test_an_image_for_each_round_is_written_and_named_as_in_darknet(task: Path, run: Run) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("sky.png")
    words = ["nightmare", "net.cfg", "net.weights", "sky.png", "1", "-rounds", "2", "-iters", "1", "-octaves", "1"]
    code, out, err = run(*words, "-zoom", ".9", "-prefix", "dreams")
    assert (code, err) == (0, "")
    assert out == "0 dreams/sky_net_1_000000\n1 dreams/sky_net_1_000001\n"
    sizes = [Image.open(f"dreams/sky_net_1_00000{number}.jpg").size for number in range(2)]
    assert sizes == [(50, 40), (50, 40)]
    assert run(*words, "-prefix", "dreams").code == 0  # its own images are replaced


def test_options_that_darknet_reads_and_does_not_use_are_noted(task: Path, run: Run) -> None:
    words = ["nightmare", "net.cfg", "net.weights", "a.png", "1", "-reconstruct", "-iters", "1"]
    code, _, err = run(*words, "-smooth", "2", "-lambda", ".1")
    assert (code, err) == (0, "note: -smooth, -lambda have no effect in darkpy nightmare\n")


def test_a_foreign_image_of_that_name_is_not_overwritten(task: Path, run: Run) -> None:
    Image.new("RGB", (4, 4)).save("a_net_1_000000.jpg")
    code, _, err = run("nightmare", "net.cfg", "net.weights", "a.png", "1")
    assert code == 2 and "darkpy did not make it" in err


def test_a_layer_beyond_the_last_one_is_an_error(task: Path, run: Run) -> None:
    code, _, err = run("nightmare", "net.cfg", "net.weights", "a.png", "7")
    assert code == 2 and "has the layers 0 to 2, and layer 7 is requested" in err
