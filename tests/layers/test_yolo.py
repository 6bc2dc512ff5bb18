"""[yolo]: forward, and boxes against loops over darknet's memory."""

from __future__ import annotations

import math

import pytest
import torch

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError
from darkpy.layers.yolo import YoloSpec

PJ, AX = Dialect
KEYS = "classes=3\nnum=4\nmask=3,1\nanchors=10,14, 23,27, 37,58, 81,82\n"
H, W, NET_W, NET_H = 2, 3, 96, 64
THRESH = 0.25


def yolo(dialect: Dialect, keys: str = KEYS, channels: int = 16) -> YoloSpec:
    cfg = f"[net]\nheight={H}\nwidth={W}\nchannels={channels}\n[yolo]\n{keys}"
    spec = make_plan(cfg, dialect).nodes[0].spec
    assert isinstance(spec, YoloSpec)
    return spec


def output(spec: YoloSpec, x_BCHW: torch.Tensor) -> torch.Tensor:
    plan = make_plan(f"[net]\nheight={H}\nwidth={W}\nchannels={x_BCHW.shape[1]}\n[yolo]\n{KEYS}", spec.dialect)
    head = spec.build(plan.nodes[0].inputs, plan.net)
    y_BCHW = head(x_BCHW)
    assert isinstance(y_BCHW, torch.Tensor)
    return y_BCHW


def noise(batch: int = 2, channels: int = 16) -> torch.Tensor:
    return 2 * torch.randn(batch, channels, H, W, generator=torch.Generator().manual_seed(3))


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def darknets_boxes(spec: YoloSpec, memory: list[float]) -> list[tuple[list[float], float, list[float]]]:
    """(box, objectness, class scores) of one image in darknet's order."""
    entries, actual = 5 + spec.classes, []
    for cell in range(H * W):
        row, column = divmod(cell, W)
        for n, anchor in enumerate(spec.mask):
            x, y, w, h, objectness, *classes = (memory[(n * entries + e) * H * W + cell] for e in range(entries))
            if objectness <= THRESH:
                continue
            shares = [4 * w * w, 4 * h * h] if spec.new_coords else [math.exp(w), math.exp(h)]
            box = [
                (column + x) / W,
                (row + y) / H,
                shares[0] * spec.anchors[2 * anchor] / NET_W,
                shares[1] * spec.anchors[2 * anchor + 1] / NET_H,
            ]
            scores = [objectness * score for score in classes]
            actual.append((box, objectness, [score if score > THRESH else 0 for score in scores]))
    return actual


@pytest.mark.parametrize(("dialect", "more"), [(PJ, ""), (AX, ""), (AX, "scale_x_y=1.2\n"), (AX, "new_coords=1\n")])
def test_boxes_are_darknets_in_darknets_order(dialect: Dialect, more: str) -> None:
    spec = yolo(dialect, KEYS + more)
    output_BCHW = output(spec, noise())
    actual = spec.decode(output_BCHW, NET_W, NET_H, THRESH)
    for image in range(2):
        expected = darknets_boxes(spec, output_BCHW[image].flatten().tolist())
        assert len(expected) > 2
        of_image = actual.of(image)
        for place, got in enumerate((of_image.boxes_M4, of_image.objectness_M, of_image.prob_MK)):
            torch.testing.assert_close(got, torch.tensor([candidate[place] for candidate in expected]))
    assert actual.image_M.tolist() == sorted(actual.image_M.tolist())


@pytest.mark.parametrize("more", ["", "scale_x_y=1.2\n", "new_coords=1\nscale_x_y=2\n"])
def test_logistic_spares_the_sizes_and_scale_moves_the_centers(more: str) -> None:
    spec, x_BCHW = yolo(AX, KEYS + more), noise(1)
    y_BCHW = output(spec, x_BCHW)
    for channel in range(16):
        entry = channel % 8
        for before, after in zip(
            x_BCHW[0, channel].flatten().tolist(), y_BCHW[0, channel].flatten().tolist(), strict=True
        ):
            expected = before if entry in (2, 3) or spec.new_coords else logistic(before)
            if entry < 2:
                expected = expected * spec.scale_x_y - (spec.scale_x_y - 1) / 2
            assert after == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_an_objectness_or_score_at_the_threshold_is_not_above_it() -> None:
    spec = yolo(PJ, "classes=1\nanchors=4,4\n", 6)
    map_BCHW = torch.zeros(1, 6, H, W)
    map_BCHW[0, 4:, 0, 0] = torch.tensor([0.5, 1.0])  # objectness as large as thresh
    map_BCHW[0, 4:, 0, 1] = torch.tensor([1.0, 0.5])  # score as large as thresh
    map_BCHW[0, 4:, 1, 2] = torch.tensor([1.0, 0.75])
    actual = spec.decode(map_BCHW, NET_W, NET_H, 0.5)
    assert actual.objectness_M.tolist() == [1.0, 1.0]
    assert actual.prob_MK.tolist() == [[0.0], [0.75]]


def test_nothing_above_the_threshold_gives_no_candidates() -> None:
    actual = yolo(PJ).decode(torch.zeros(2, 16, H, W), NET_W, NET_H, 0.5)
    assert (actual.boxes_M4.shape, actual.prob_MK.shape, len(actual)) == ((0, 4), (0, 3), 0)


def test_layout_in_memory_and_half_precision_change_nothing_but_digits() -> None:
    spec = yolo(PJ)
    output_BCHW = output(spec, noise())
    plain = spec.decode(output_BCHW, NET_W, NET_H, THRESH)
    strided = spec.decode(output_BCHW.contiguous(memory_format=torch.channels_last), NET_W, NET_H, THRESH)
    assert torch.equal(strided.boxes_M4, plain.boxes_M4) and torch.equal(strided.prob_MK, plain.prob_MK)
    half = spec.decode(output_BCHW.bfloat16(), NET_W, NET_H, THRESH)
    assert half.boxes_M4.dtype == torch.float32
    torch.testing.assert_close(half.boxes_M4, plain.boxes_M4, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("more", ["", "scale_x_y=1.2\n", "new_coords=1\n"])
def test_gradients_flow_through_the_head(more: str) -> None:
    spec = yolo(AX, KEYS + more)
    x_BCHW = noise(1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: output(spec, x), x_BCHW)


@pytest.mark.parametrize(("keys", "channels", "message"), [
    (KEYS, 17, r"reads 17 channels, but 2 anchors x \(5 \+ classes=3\) are 16\n.*filters=16"),
    ("classes=2147483647\n", 16, r"reads 16 channels, but 1 anchors x"),
    ("num=2147483647\nclasses=3\n", 16, r"reads 16 channels, but 2147483647 anchors"),
    ("classes=3\nnum=2147483647\nmask=0,1\n", 16, r"num=2147483647 anchors, but a list holds 32768"),
    ("classes=3\nnum=3\nmask=1,3\nanchors=1,2,3,4,5,6\n", 16, r"mask has anchor 3, but num=3, and anchors lists 3"),
])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused_before_anything_is_allocated(keys: str, channels: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        yolo(PJ, keys, channels)


def test_a_mask_beyond_num_finds_its_anchors_in_the_list() -> None:
    spec = yolo(AX, KEYS.replace("num=4", "num=2"))
    assert spec.anchors_px(torch.tensor([0, 1])).tolist() == [[81, 82], [23, 27]]


def test_dialects_have_their_own_defaults() -> None:
    mine, other = yolo(PJ), yolo(AX)
    assert (mine.max, mine.iou_normalizer, other.max, other.iou_normalizer) == (90, 1.0, 200, 0.75)
    assert yolo(PJ, KEYS + "scale_x_y=2\nnew_coords=1\n") == mine
