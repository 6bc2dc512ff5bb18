"""`darkpy dataset preview` and `train -show_imgs`: what the loader makes, and how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import darkpy
from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.lists.text_files import read_data
from darkpy.data.loading.targets import fill_boxes, fill_cells
from darkpy.diagnostics.monitor.artifacts import network_image
from darkpy.diagnostics.report.augment_preview import preview_samples, read_objects
from darkpy.training.setup import open_setup
from tests.cli.conftest import Run
from tests.test_training_run import CFG, folder

__all__ = ["folder"]
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
CLASSIFIER = """[net]
batch=2
width=16
height=16
channels=3
max_batches=2
angle=7
hue=.1
saturation=.75
exposure=.75
{}

[convolutional]
filters=2
size=1
activation=linear

[avgpool]

[softmax]
"""


def write_cfg(net: str, head: str = "") -> None:
    text = CFG.format(updates=6000 if "mosaic" in net else 2, rate=0.001).replace("[net]\n", f"[net]\n{net}\n")
    Path("net.cfg").write_text(text.replace("[yolo]\n", f"[yolo]\n{head}\n"))


def test_detectors_samples_are_the_loaders_and_say_how_they_were_made(run: Run) -> None:
    write_cfg("mosaic=1\nhue=.1\nsaturation=1.5\nexposure=1.5", "random=1\njitter=.3")
    code, out, err = run("dataset", "preview", "net.cfg", "net.data", "--count", "8", "--html", "page.html")
    assert (code, out) == (0, "page.html: 8 samples\n"), err
    page = Path("page.html").read_text()
    assert page.count("<img ") == 8 and not Path("preview").exists()
    for step in ("mosaic of four images, cut at ", "cropped: left ", ", flipped", "saturation x ", "0.png", "objects"):
        assert step in page, step
    plan = darkpy.plan("net.cfg")
    setup = open_setup(plan, read_data("net.data"), seed=0)
    samples = list(preview_samples(setup, 4))
    assert len({sample.image.size for sample in samples}) > 1  # random=1
    batch = next(setup.source.batches(plan.net, samples[1].sample_index))
    assert samples[1].paths == batch.paths[0] and samples[1].image.size == batch.x_BCHW.shape[3:1:-1]
    assert samples[1].target.startswith(str(int((batch.truth[0, :, 0] != 0).sum())))


@pytest.mark.parametrize(
    ("net", "step"),
    [("letter_box=1", "cropped: left -"), ("mixup=1", "mixup of two images"), ("gaussian_noise=9", "gaussian noise 9")],
)
def test_step_of_each_key_is_named(net: str, step: str) -> None:
    Image.new("RGB", (32, 64)).save("0.png")
    Path("list.txt").write_text("0.png\n")
    write_cfg(net)
    setup = open_setup(darkpy.plan("net.cfg", "alexeyab"), read_data("net.data"), seed=0)
    steps = [text for sample in preview_samples(setup, 6) for text in sample.steps]
    assert any(step in text for text in steps), steps


def test_classifiers_samples_are_the_loaders_with_their_classes(run: Run, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        pixels = np.full((24, 30, 3), 90, np.uint8)
        pixels[4:9, 3:20, len(name) % 2] = 250
        Image.fromarray(pixels).save(f"{name}.png")
    Path("pets.list").write_text("cat.png\ndog.png\n")
    Path("labels.list").write_text("cat\ndog\n")
    Path("pets.data").write_text("classes=2\ntrain=pets.list\nlabels=labels.list\nbackup=out\n")
    Path("pets.cfg").write_text(CLASSIFIER.format("mosaic=1"))
    result = run(
        "dataset", "preview", "pets.cfg", "pets.data", "--out", "seen", "--count", "4", "--dialect", "alexeyab"
    )
    assert (result.code, result.out) == (0, f"{Path('seen/index.html')}: 4 samples\n"), result.err
    page = Path("seen/index.html").read_text()
    assert "scaled by " in page and "mosaic of four images" in page and "cat 0." in page
    plan = darkpy.plan("pets.cfg", "alexeyab")
    batch = next(open_setup(plan, read_data("pets.data"), seed=0).source.batches(plan.net, 0))
    drawn = np.asarray(Image.open("seen/000.png"))
    assert np.array_equal(drawn, np.asarray(network_image(batch.x_BCHW[0])))
    assert len(list(Path("seen").glob("*.png"))) == 4


@pytest.mark.parametrize("head", ["yolo", "detection"])
def test_objects_of_either_layout_of_a_target_are_read(head: str) -> None:
    boxes_N5 = torch.tensor([[0.3, 0.6, 0.2, 0.1, 1.0], [0.9, 0.1, 0.15, 0.3, 0.0]])
    config = DetectionAugmentConfig(
        dialect=darkpy.plan("net.cfg").dialect, head=head, classes=2, max=9, jitter=0.0, side=5
    )
    truth = fill_boxes(boxes_N5, 9, 5) if head == "yolo" else fill_cells(boxes_N5, 5, 2)
    objects = sorted(read_objects(truth, config, ("cat", "dog")), key=lambda found: found.box_frac)
    assert [found.name for found in objects] == ["dog", "cat"]
    assert np.allclose([found.box_frac for found in objects], boxes_N5[:, :4])


def test_training_writes_what_it_will_see(run: Run) -> None:
    write_cfg("")
    code, _, err = run("train", "net.cfg", "net.data", "-show_imgs", "-nogpu", "--workers", "0")
    assert code == 0, err
    assert f"{Path('out/preview_net/index.html')}: samples of this training" in err
    assert Path("out/preview_net/000.png").is_file()


def test_files_of_others_are_not_overwritten(run: Run) -> None:
    Path("seen").mkdir()
    Path("seen/001.png").write_text("mine")
    result = run("dataset", "preview", "net.cfg", "net.data", "--out", "seen", "--count", "2")
    assert result.code == 2 and "seen/001.png: already exists" in result.err
    assert run("dataset", "preview", "net.cfg", "net.data", "--out", "seen", "--count", "2", "--force").code == 0


def test_batch_without_an_image_for_a_pass_is_one_error(run: Run) -> None:
    Path("net.cfg").write_text(Path("net.cfg").read_text().replace("subdivisions=2", "subdivisions=8"))
    result = run("dataset", "preview", "net.cfg", "net.data", "--count", "2")
    assert result.code == 2 and "batch=4 / subdivisions=8 leaves no images for a forward pass" in result.err
