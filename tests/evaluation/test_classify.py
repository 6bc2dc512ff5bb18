"""Image classification.

The figures of real networks are those that the C programs of both forks print.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import darkpy
from darkpy.errors import DarkpyError
from darkpy.evaluation.classify import (
    Accuracy,
    Ranking,
    class_count,
    classify,
    find_tree,
    predict_options,
    valid_options,
)
from darkpy.evaluation.image_views import OneView
from darkpy.network import Network
from darkpy.ops.resample import center_crop, letterbox, resize_min_crop

CFG = """[net]
width=8
height=8
channels=3

[avgpool]

[connected]
output=6
activation=linear

[softmax]
groups=1
"""
TREE = "animal -1\nplant -1\ncat 0\ndog 0\noak 1\npine 1\n"
TREE_PROB = (0.6, 0.4, 0.25, 0.75, 0.1, 0.9)
"""In each group; down the branches: cat .15, dog .45, oak .04, pine .36."""
DIALECTS = ("pjreddie", "alexeyab")
DOG = {"pjreddie": {14: 0.1418, 59: 0.0613, 252: 0.0548}, "alexeyab": {252: 0.450668, 14: 0.120055, 97: 0.060672}}
"""Output of `classifier predict` for tiny-darknet and the pixels that Pillow makes of dog.jpg."""


def make(prob: tuple[float, ...], cfg: str = CFG, dialect: str = "pjreddie") -> Network:
    """A network with a constant output."""
    network = darkpy.load(cfg, dialect=dialect)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.tensor(prob).log() if parameter.shape == (6,) else torch.zeros(parameter.shape))
    return network


@pytest.fixture
def image_files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    return paths


@pytest.fixture
def tree_cfg(tmp_path: Path) -> str:
    (tmp_path / "life.tree").write_text(TREE)
    return f"{CFG}tree={tmp_path / 'life.tree'}\n"


def test_each_command_of_each_dialect_fits_an_image_in_its_own_way() -> None:
    pjreddie, alexeyab = (darkpy.load(CFG, dialect=dialect) for dialect in DIALECTS)
    assert predict_options(pjreddie, 1).views == OneView(letterbox)
    assert valid_options(pjreddie, 1).views == OneView(center_crop)
    assert predict_options(alexeyab, 1).views == valid_options(alexeyab, 1).views == OneView(resize_min_crop)


def test_the_surest_classes_come_first_and_of_equal_ones_the_first(image_files: list[Path]) -> None:
    network = make((0.1, 0.2, 0.1, 0.3, 0.2, 0.1))
    (ranking,) = classify(network, image_files[:1], predict_options(network, 5))
    assert ranking.class_ids == (3, 1, 4, 0, 2)
    assert ranking.probs == pytest.approx((0.3, 0.2, 0.2, 0.1, 0.1))


def test_no_more_classes_are_returned_than_there_are(image_files: list[Path]) -> None:
    network = make((0.1, 0.2, 0.1, 0.3, 0.2, 0.1))
    (ranking,) = classify(network, image_files[:1], predict_options(network, 99))
    assert sorted(ranking.class_ids) == list(range(6))


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batches_change_nothing_and_unreadable_images_keep_their_place(
    image_files: list[Path], batch_size: int
) -> None:
    torch.manual_seed(1)
    network = darkpy.load(CFG)
    image_files[2].write_text("no image")
    options = valid_options(network, 6)
    rankings = list(classify(network, image_files, options, batch_size=batch_size))
    assert [ranking.path for ranking in rankings] == list(map(str, image_files))
    assert [ranking.error is not None for ranking in rankings] == [number == 2 for number in range(7)]
    for ranking, path in zip(rankings, image_files, strict=True):
        (alone,) = classify(network, [path], options)
        assert ranking.class_ids == alone.class_ids
        assert ranking.probs == pytest.approx(alone.probs, rel=1e-5)
    assert len({ranking.probs for ranking in rankings}) == 7


def test_nothing_readable_is_no_batch(tmp_path: Path) -> None:
    network = darkpy.load(CFG)
    assert [one.error is None for one in classify(network, [tmp_path / "no.png"], valid_options(network, 1))] == [False]


def test_an_output_that_is_no_number_is_an_error(image_files: list[Path]) -> None:
    network = make((float("nan"), 0.2, 0.1, 0.3, 0.2, 0.2))
    with pytest.raises(DarkpyError, match=r"0\.png: .*NaN"):
        list(classify(network, image_files, valid_options(network, 1)))


def test_a_detector_is_no_classifier() -> None:
    network = darkpy.load(
        "[net]\nwidth=8\nheight=8\nchannels=3\n[convolutional]\nfilters=18\n[yolo]\nclasses=1\nnum=3\n"
    )
    with pytest.raises(DarkpyError, match="detection layer"):
        class_count(network)


def test_a_final_cost_layer_says_nothing(image_files: list[Path]) -> None:
    network = make((0.1, 0.2, 0.1, 0.3, 0.2, 0.1), f"{CFG}\n[cost]\ntype=sse\n")
    (ranking,) = classify(network, image_files[:1], valid_options(network, 1))
    assert (class_count(network), ranking.class_ids) == (6, (3,))


def test_pjreddie_tells_only_leaves_of_a_tree(image_files: list[Path], tree_cfg: str) -> None:
    network = make(TREE_PROB, tree_cfg)
    (ranking,) = classify(network, image_files[:1], predict_options(network, 4))
    assert ranking.class_ids == (3, 5, 2, 4)
    assert ranking.probs == pytest.approx((0.45, 0.36, 0.15, 0.04))


def test_alexeyab_predicts_every_class_of_a_tree_and_validates_its_leaves(
    image_files: list[Path], tree_cfg: str
) -> None:
    network = make(TREE_PROB, tree_cfg, "alexeyab")
    (told,) = classify(network, image_files[:1], predict_options(network, 3))
    (judged,) = classify(network, image_files[:1], valid_options(network, 3))
    assert (told.class_ids, judged.class_ids) == ((0, 3, 1), (3, 5, 2))


def test_a_file_may_name_the_leaves(image_files: list[Path], tree_cfg: str, tmp_path: Path) -> None:
    network = make(TREE_PROB, tree_cfg)
    file = tmp_path / "leaves"
    file.write_text("plant\ncat\n")
    (ranking,) = classify(network, image_files[:1], valid_options(network, 2, file))
    assert ranking.class_ids == (1, 2)
    file.write_text("stone\n")
    with pytest.raises(DarkpyError, match="none of its 1 names"):
        valid_options(network, 2, file)


def test_without_a_tree_leaves_mean_nothing() -> None:
    network = darkpy.load(CFG)
    assert find_tree(network) is None
    assert valid_options(network, 2, "nowhere") == valid_options(network, 2)


def test_accuracy_counts_the_first_label_in_the_path() -> None:
    accuracy = Accuracy(("cat", "catfish", "dog"))
    inputs = []
    for path, class_ids in (
        ("x/dog1.png", (2, 0)),  # right
        ("x/cat1.png", (1, 0)),  # right at the second try
        ("x/catfish.png", (1, 2)),  # for darknet that is a cat
        ("x/bird.png", (0, 1)),  # no label
    ):
        accuracy.add(Ranking(path, class_ids, (0.5, 0.5)))
        inputs.append((accuracy.top_1, accuracy.top_k))
    assert inputs == [(1, 1), (1 / 2, 1), (1 / 3, 2 / 3), (1 / 4, 2 / 4)]
    assert (accuracy.unlabeled, accuracy.ambiguous) == (["x/bird.png"], ["x/catfish.png"])


def test_quotients_are_darknets_to_the_last_digit() -> None:
    accuracy = Accuracy(("cat", "dog"))
    for number in range(178):
        accuracy.add(Ranking("cat.png", (0 if number < 138 else 1, 0 if number < 157 else 1), (0.5, 0.5)))
    assert accuracy.line(2) == "177: top 1: 0.775281, top 2: 0.882023"  # 0.8820225 in double precision


def test_what_cannot_be_read_is_wrong() -> None:
    accuracy = Accuracy(("cat", "dog"))
    accuracy.add(Ranking("cat.png", error=darkpy.ImageError("cat.png: broken")))
    assert (accuracy.images, accuracy.top_1, accuracy.top_k) == (1, 0, 0)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("name", "folder", "labels", "expected"),
    [
        ("cifar_small", "cifar/train", "cifar/labels.txt", (3000, "75.67", "88.70")),
        ("mnist_lenet-tz", "mnist/images", "mnist/labels.list", (1000, "95.00", "98.40")),
    ],
)
def test_real_networks_are_as_accurate_as_darknets_figures(
    shared: Path, name: str, folder: str, labels: str, expected: tuple[int, str, str], dialect: str
) -> None:
    data = shared / "data"
    (cfg,), (weights,) = ([*(data / "weights" / name).glob(form)] for form in ("*.cfg", "*.[bw]*"))
    network = darkpy.load(cfg, weights, dialect=dialect).for_inference()
    accuracy = Accuracy((data / labels).read_text().split())
    paths = sorted((data / folder).iterdir())[: expected[0]]
    for ranking in classify(network, paths, valid_options(network, 2), batch_size=32):
        accuracy.add(ranking)
    assert not accuracy.unlabeled
    assert (accuracy.images, f"{100 * accuracy.top_1:.2f}", f"{100 * accuracy.top_k:.2f}") == expected


def tiny_darknet(shared: Path, dialect: str) -> Network:
    folder = shared / "data/weights/tiny-darknet"
    return darkpy.load(folder / "tiny.cfg", folder / "tiny.weights", dialect=dialect).for_inference()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_same_pixels_score_as_in_darknet(shared: Path, dialect: str) -> None:
    """pjreddie's figures have two decimals, and his CPU adds another epsilon in batch norm than his GPU and darkpy."""
    network = tiny_darknet(shared, dialect)
    (ranking,) = classify(network, [shared / "data/images/dog.jpg"], predict_options(network, 3))
    assert ranking.class_ids == tuple(DOG[dialect])
    tolerance = 2e-4 if dialect == "pjreddie" else 3e-6
    assert ranking.probs == pytest.approx(tuple(DOG[dialect].values()), abs=tolerance)


def test_images_score_as_published_but_for_the_jpeg_decoder(shared: Path) -> None:
    """darknet's own decoder makes other pixels of a JPEG file, by up to three levels, than Pillow's does."""
    network = tiny_darknet(shared, "pjreddie")
    paths = [shared / f"data/images/{name}.jpg" for name in ("dog", "eagle")]
    dog, eagle = classify(network, paths, predict_options(network, 3))
    assert dog.class_ids == (14, 59, 252) and eagle.class_ids[0] == 397
    assert (*dog.probs, eagle.probs[0]) == pytest.approx((0.1451, 0.0609, 0.0559, 0.5411), abs=0.005)
