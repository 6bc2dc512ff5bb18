"""Detection pipeline: letterbox, thresholds, several heads, batches, unreadable images, recurrent layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

import darkpy
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.evaluation.detect import DetectOptions, detect_frames, postprocess
from darkpy.evaluation.result import Result
from darkpy.network import Network
from darkpy.ops.boxes import Detections
from darkpy.ops.resample import letterbox_geometry
from darkpy.sources.frames import Frame
from tests.pretended_gpu import GPU, pretended_gpu

NAMES = ("cat", "dog", "cow", "hen", "pig")
HEAD = "[convolutional]\nfilters={filters}\nactivation=linear\n[yolo]\nmask=0\nanchors=16,8\nclasses={classes}\nnum=1\n"
POOL = "[maxpool]\nsize=32\nstride=32\n"
ALL = DetectOptions(thresh=0.0, nms=0)


def head(classes: int) -> str:
    return HEAD.format(filters=5 + classes, classes=classes)


def network(*sections: str, dialect: str = "pjreddie", net: str = "", size: int = 32, time_steps: int = 1) -> Network:
    """A network with random weights."""
    text = f"[net]\nwidth={size}\nheight={size}\nchannels=3\n{net}" + "".join(sections)
    model = darkpy.load(text, dialect=dialect, time_steps=time_steps)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.detach().uniform_(-1, 1, generator=generator)
    return model


def set_output(model: Network, layer: int, *logits: float) -> None:
    """Make a layer's output constant."""
    model.layers[layer].get_parameter("weights").detach().fill_(0)
    model.layers[layer].get_parameter("biases").detach().copy_(torch.tensor(logits))


def center_detector(dialect: str = "pjreddie", net: str = "", size: int = 32) -> Network:
    """Detect one cat in the middle of every image, half as wide and a quarter as high as the network's input."""
    model = network(POOL.replace("32", str(size)), head(1), dialect=dialect, net=net, size=size)
    set_output(model, 1, 0, 0, 0, 0, 9, 9)
    return model


def write_image(path: Path, w: int, h: int, seed: int | None = None) -> Path:
    noise_HWC = np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)
    pixels_HWC = np.full_like(noise_HWC, 128) if seed is None else noise_HWC
    PillowImage.fromarray(pixels_HWC).save(path)
    return path


def detect(
    model: Network,
    paths: Iterable[str | Path],
    names: Sequence[str],
    options: DetectOptions | None = None,
    **batches: Any,
) -> Iterator[Result]:
    return itertools.chain.from_iterable(detect_frames(model, map(Frame.of_file, paths), names, options, **batches))


def boxes(results: Iterable[Result]) -> list[tuple[float, float, float, float]]:
    return [one.box_frac for result in results for one in result.objects]


# letterbox


def test_odd_border_is_halved_as_a_float_so_that_the_middle_stays_the_middle(tmp_path: Path) -> None:
    path = write_image(tmp_path / "odd.png", 64, 62)
    assert letterbox_geometry(64, 62, 32, 32) == (32, 31, 0, 0)
    (box,) = boxes(detect(center_detector(), [path], NAMES))
    assert box == pytest.approx((0.5, 0.5, 0.5, 0.25 * 32 / 31))


@pytest.mark.parametrize(
    ("dialect", "net", "asked", "height"),
    [
        ("pjreddie", "", None, 0.5),
        ("pjreddie", "", False, 0.25),
        ("alexeyab", "", None, 0.25),
        ("alexeyab", "", True, 0.5),
        ("alexeyab", "letter_box=1\n", None, 0.5),
        ("alexeyab", "letter_box=1\n", False, 0.25),
    ],
)
def test_images_are_letterboxed_as_asked_or_as_the_dialect_does(
    tmp_path: Path, dialect: str, net: str, asked: bool | None, height: float
) -> None:
    path = write_image(tmp_path / "wide.png", 64, 32)
    (box,) = boxes(detect(center_detector(dialect, net), [path], NAMES, DetectOptions(letterbox=asked)))
    assert box == pytest.approx((0.5, 0.5, 0.5, height))


def test_what_the_network_sees_is_letterboxed_too(tmp_path: Path) -> None:
    path, seen = write_image(tmp_path / "wide.png", 64, 32), []
    model = center_detector()
    model.layers[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    list(itertools.chain(detect(model, [path], NAMES), detect(model, [path], NAMES, DetectOptions(letterbox=False))))
    gray, drawn = 0.5, 128 / 255
    assert seen[0][0, 0, :, 0].tolist() == pytest.approx([gray] * 8 + [drawn] * 16 + [gray] * 8)
    assert seen[1][0, 0, :, 0].tolist() == pytest.approx([drawn] * 32)


def test_boxes_of_yolov1_are_not_moved(tmp_path: Path) -> None:
    """pjreddie's program letterboxes the image nevertheless."""
    model = network("[connected]\noutput=6\nactivation=linear\n", "[detection]\nside=1\ncoords=4\n")
    set_output(model, 0, 0.9, 0.9, 0.5, 0.25, 0.5, 0.25)  # class, objectness, box
    actual = boxes(detect(model, [write_image(tmp_path / "tall.png", 32, 64)], NAMES))
    assert actual == [pytest.approx((0.5, 0.25, 0.5, 0.25))]


# thresholds


@pytest.mark.parametrize(("dialect", "shown"), [("pjreddie", 0), ("alexeyab", 1)])
def test_threshold_is_the_dialects_unless_another_is_given(tmp_path: Path, dialect: str, shown: int) -> None:
    model, path = center_detector(dialect), write_image(tmp_path / "a.png", 32, 32)
    set_output(model, 1, 0, 0, 0, 0, 20, math.log(0.4 / 0.6))
    (default,) = detect(model, [path], NAMES)
    (low,) = detect(model, [path], NAMES, DetectOptions(thresh=0.39))
    (high,) = detect(model, [path], NAMES, DetectOptions(thresh=0.41))
    assert [len(result.objects) for result in (default, low, high)] == [shown, 1, 0]


def test_suppression_is_left_out_when_it_is_zero(tmp_path: Path) -> None:
    twice = network(POOL, head(1), "[route]\nlayers=0\n", head(1))
    for layer, score in ((1, 3.0), (4, 2.0)):
        set_output(twice, layer, 0, 0, 0, 0, 9, score)
    path = write_image(tmp_path / "a.png", 32, 32)
    counts = [len(next(detect(twice, [path], NAMES, DetectOptions(nms=nms))).objects) for nms in (0.45, 0)]
    assert counts == [1, 2]


def test_class_tree_is_descended_as_far_as_tree_thresh_allows(tmp_path: Path) -> None:
    (tmp_path / "pets.tree").write_text("pet -1\nthing -1\ncat 0\ndog 0\n")
    region = f"[region]\nclasses=4\nanchors=1,1\nsoftmax=1\ntree={tmp_path / 'pets.tree'}\n"
    model = network(POOL, "[convolutional]\nfilters=9\nactivation=linear\n", region)
    set_output(model, 1, 0, 0, 0, 0, 9, 2, 0, 1, 0)  # a pet: 88 %; then a cat: 73 %
    path = write_image(tmp_path / "a.png", 32, 32)
    names = ("pet", "thing", "cat", "dog")
    seen = [
        next(detect(model, [path], names, DetectOptions(tree_thresh=tree_thresh))).objects[0].name
        for tree_thresh in (0.5, 0.7)
    ]
    assert seen == ["cat", "pet"]


# several heads


def test_heads_of_different_class_counts_are_seen_together(tmp_path: Path) -> None:
    model = network(POOL, head(2), "[route]\nlayers=0\n", head(5), "[route]\nlayers=0\n", head(1))
    set_output(model, 1, 0, 0, 0, 0, 9, -9, 2)
    set_output(model, 4, 0, 0, 0, 0, 9, -9, -9, -9, -9, 3)
    set_output(model, 7, 0, 0, 0, 0, 9, 1)
    (result,) = detect(model, [write_image(tmp_path / "a.png", 32, 32)], NAMES, DetectOptions(nms=0))
    assert [(one.class_id, one.name) for one in result.objects] == [(1, "dog"), (4, "pig"), (0, "cat")]


@pytest.mark.parametrize(("first", "last", "count"), [("default", "greedynms", 2), ("greedynms", "default", 1)])
def test_last_head_decides_how_boxes_are_suppressed(tmp_path: Path, first: str, last: str, count: int) -> None:
    """Two boxes whose centers lie apart: an overlap of .67, of which greedynms takes .11 off."""
    sections = (POOL, f"{head(1)}nms_kind={first}\n", "[route]\nlayers=0\n", f"{head(1)}nms_kind={last}\n")
    model = network(*sections, dialect="alexeyab")
    for layer, x in ((1, 0.45), (4, 0.55)):
        set_output(model, layer, math.log(x / (1 - x)), 0, 0, 0, 9, 9)
    (result,) = detect(model, [write_image(tmp_path / "a.png", 32, 32)], NAMES, DetectOptions(nms=0.6))
    assert len(result.objects) == count


def test_detections_have_a_column_for_each_class_of_the_largest_head() -> None:
    model = network(POOL, head(2), "[route]\nlayers=0\n", head(5))
    outputs_BCHW = model(torch.rand(3, 3, 32, 32))
    options = DetectOptions(thresh=0.0, nms=0, letterbox=False)
    actual = postprocess(model, outputs_BCHW, [(32, 32)] * 3, options)
    assert actual.prob_MK.shape == (6, 5)
    assert actual.image_M.tolist() == [0, 1, 2, 0, 1, 2]
    assert not actual.prob_MK[:3, 2:].any()


# non-finite boxes


@pytest.mark.parametrize(
    "values", [(math.nan, 0, 0, 0, 9), (0, 0, 1000, 0, 9), (0, 0, 0, 0, math.nan), (0, 0, 70, 70, 9), (0, 0, 0, 12, 9)]
)
def test_non_finite_and_absurd_boxes_are_left_out_and_counted_once(tmp_path: Path, values: tuple[float, ...]) -> None:
    model = network(POOL, head(1), "[route]\nlayers=0\n", head(1))
    set_output(model, 1, *values, 9)
    set_output(model, 4, 0, 0, 0, 0, 9, 9)
    paths = [write_image(tmp_path / f"{name}.png", 32, 32) for name in "abc"]
    with pytest.warns(DarkpyWarning, match="3 boxes are left out: NaN or infinite") as caught:
        results = list(detect(model, paths, NAMES, batch_size=2))
    assert len(caught) == 1
    assert boxes(results) == [(0.5, 0.5, 0.5, 0.25)] * 3


# batches and images


def test_batch_gives_what_each_image_gives_alone(tmp_path: Path) -> None:
    model = network("[convolutional]\nfilters=4\nsize=3\nstride=8\nactivation=leaky\n", head(2), size=64)
    shapes = [(64, 64), (50, 90), (120, 30), (64, 63), (7, 9)]
    paths = [write_image(tmp_path / f"{n}.png", w, h, seed=n) for n, (w, h) in enumerate(shapes)]
    alone = list(detect(model, paths, NAMES, ALL))
    assert len({result.objects for result in alone}) == 5 and all(len(result.objects) > 9 for result in alone)
    for batch_size in (2, 5, 9):
        together = list(detect(model, paths, NAMES, ALL, batch_size=batch_size))
        assert [result.path for result in together] == [str(path) for path in paths]
        for one, other in zip(alone, together, strict=True):
            assert [seen.class_id for seen in one.objects] == [seen.class_id for seen in other.objects]
            np.testing.assert_allclose(boxes([one]), boxes([other]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_image_that_cannot_be_read_yields_its_error_and_the_others_go_on(tmp_path: Path, batch_size: int) -> None:
    (tmp_path / "text.png").write_text("no image")
    good = write_image(tmp_path / "a.png", 32, 32)
    paths = [tmp_path / "none.png", good, tmp_path / "text.png", good, tmp_path]
    results = list(detect(center_detector(), paths, NAMES, batch_size=batch_size))
    assert [result.path for result in results] == [str(path) for path in paths]
    assert [len(result.objects) for result in results] == [0, 1, 0, 1, 0]
    assert [result.error is None for result in results] == [False, True, False, True, False]
    assert [result.size for result in results] == [(0, 0), (32, 32), (0, 0), (32, 32), (0, 0)]


def test_images_are_read_when_they_are_wanted(tmp_path: Path) -> None:
    paths = (write_image(tmp_path / f"{n}.png", 32, 32) for n in itertools.count())
    results = detect(center_detector(), paths, NAMES, batch_size=1, prefetch=False)
    assert [len(result.objects) for result in itertools.islice(results, 3)] == [1, 1, 1]
    assert len(list(tmp_path.iterdir())) == 3


def test_no_images_give_no_results() -> None:
    assert list(detect(center_detector(), [], NAMES)) == []


def test_network_of_one_channel_sees_gray_images(tmp_path: Path) -> None:
    model = darkpy.load("[net]\nwidth=32\nheight=32\nchannels=1\n" + POOL + head(1), dialect="pjreddie")
    set_output(model, 1, 0, 0, 0, 0, 9, 9)
    assert len(boxes(detect(model, [write_image(tmp_path / "a.png", 32, 32)], NAMES))) == 1


def test_network_without_weights_is_run_all_the_same(tmp_path: Path) -> None:
    model = network(POOL, "[route]\nlayers=0,0\n", "[yolo]\nclasses=1\nanchors=16,8\n")
    assert not list(model.parameters())
    assert len(boxes(detect(model, [write_image(tmp_path / "a.png", 32, 32)], NAMES, ALL))) == 1


@pytest.mark.parametrize("sections", [(POOL,), (POOL, "[softmax]\n")])
def test_network_that_detects_nothing_is_refused(sections: Sequence[str]) -> None:
    with pytest.raises(DarkpyError, match="has no detection layer"):
        next(detect(network(*sections), ["a.png"], NAMES))


# recurrent layers

FILM = (
    "[convolutional]\nfilters=2\nsize=3\nstride=8\n",
    "[conv_lstm]\noutput=3\nsize=3\npad=1\n",
    head(1),
)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_images_are_no_film(tmp_path: Path, batch_size: int) -> None:
    model = network(*FILM, dialect="alexeyab", net="time_steps=3\n")
    paths = [write_image(tmp_path / f"{n}.png", 32, 32, seed=n) for n in range(4)]
    alone = [boxes(detect(model, [path], NAMES, ALL)) for path in paths]
    assert all(alone) and alone[0] != alone[1]
    together = detect(model, [*paths, *paths], NAMES, ALL, batch_size=batch_size)
    for result, expected in zip(together, alone * 2, strict=True):
        np.testing.assert_allclose(boxes([result]), expected, rtol=1e-4, atol=1e-5)


def test_network_opened_for_films_is_refused_with_a_way_out(tmp_path: Path) -> None:
    text = "[net]\nwidth=32\nheight=32\nchannels=3\ntime_steps=3\n" + "".join(FILM)
    film = darkpy.load(text, dialect="alexeyab")
    with pytest.raises(DarkpyError, match=r"takes sequences of 3 images \(time_steps\)") as caught:
        next(detect(film, [write_image(tmp_path / "a.png", 32, 32)], NAMES))
    assert caught.value.hint == "darkpy.load(..., time_steps=1) takes them one by one"
    assert darkpy.load(text, dialect="alexeyab", time_steps=1).plan.net.time_steps == 1


def test_candidates_are_fetched_from_a_gpu_once_however_many_they_are() -> None:
    model = network(POOL, head(5))
    x_BCHW = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    options = DetectOptions(thresh=0.0).resolved(model)
    sizes = [(50, 60), (70, 40)]
    with torch.no_grad():
        expected = postprocess(model, model(x_BCHW), sizes, options)
        with pretended_gpu() as gpu:
            outputs_BCHW = model.to(GPU)(x_BCHW.to(GPU))
            gpu.waits.clear()
            actual = postprocess(model, outputs_BCHW, sizes, options)
    assert len(actual.image_M) > 0
    assert sum(gpu.waits.values()) == 1 + 4, gpu.waits  # which they are, and their four arrays
    for one, other in zip(_arrays(actual), _arrays(expected), strict=True):
        torch.testing.assert_close(one, other)


def _arrays(actual: Detections) -> tuple[torch.Tensor, ...]:
    return actual.image_M, actual.boxes_M4, actual.objectness_M, actual.prob_MK
