"""[Gaussian_yolo]: forward, and boxes against loops over darknet's memory."""

from __future__ import annotations

import math

import pytest
import torch

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError
from darkpy.layers.gaussian_yolo import GaussianYoloSpec

KEYS = "classes=2\nnum=3\nmask=2,0\nanchors=10,14, 23,27, 37,58\n"
H, W, NET_W, NET_H = 3, 2, 64, 96
THRESH = 0.125


def plan_text(keys: str, channels: int = 22) -> str:
    return f"[net]\nheight={H}\nwidth={W}\nchannels={channels}\n[Gaussian_yolo]\n{keys}"


def head_and_output(keys: str) -> tuple[GaussianYoloSpec, torch.Tensor, torch.Tensor]:
    plan = make_plan(plan_text(keys))
    (node,) = plan.nodes
    assert isinstance(node.spec, GaussianYoloSpec) and plan.dialect is Dialect.ALEXEYAB
    x_BCHW = 2 * torch.randn(2, 22, H, W, generator=torch.Generator().manual_seed(5))
    return node.spec, x_BCHW, node.spec.build(node.inputs, plan.net)(x_BCHW)


def darknets_boxes(spec: GaussianYoloSpec, memory: list[float]) -> list[tuple[list[float], float, list[float]]]:
    """(box, objectness, class scores) of one image in darknet's order."""
    entries, actual = 9 + spec.classes, []
    for cell in range(H * W):
        row, column = divmod(cell, W)
        for n, anchor in enumerate(spec.mask):
            numbers = [memory[(n * entries + e) * H * W + cell] for e in range(entries)]
            x, sx, y, sy, w, sw, h, sh, objectness, *classes = numbers
            if objectness <= THRESH:
                continue
            width = math.exp(w) * spec.anchors[2 * anchor] / NET_W
            height = math.exp(h) * spec.anchors[2 * anchor + 1] / NET_H
            shift = {"center": 0.0, "left_top": 0.5, "right_bottom": -0.5}[spec.yolo_point]
            box = [(column + x) / W + shift * width, (row + y) / H + shift * height, width, height]
            scores = [objectness * score * (1 - (sx + sy + sw + sh) / 4) for score in classes]
            actual.append((box, objectness, [score if score > THRESH else 0 for score in scores]))
    return actual


@pytest.mark.parametrize("more", ["", "yolo_point=left_top\n", "yolo_point=right_bottom\n", "scale_x_y=1.1\n"])
def test_boxes_are_darknets_in_darknets_order(more: str) -> None:
    spec, _, output_BCHW = head_and_output(KEYS + more)
    actual = spec.decode(output_BCHW, NET_W, NET_H, THRESH)
    for image in range(2):
        expected = darknets_boxes(spec, output_BCHW[image].flatten().tolist())
        assert any(any(scores) for _, _, scores in expected)
        of_image = actual.of(image)
        for place, got in enumerate((of_image.boxes_M4, of_image.objectness_M, of_image.prob_MK)):
            torch.testing.assert_close(got, torch.tensor([candidate[place] for candidate in expected]))


def test_logistic_spares_the_sizes_alone_and_scale_moves_the_centers_alone() -> None:
    _, x_BCHW, y_BCHW = head_and_output(KEYS + "scale_x_y=1.2\n")
    for channel in range(22):
        entry, before, after = channel % 11, x_BCHW[:, channel], y_BCHW[:, channel]
        expected = before if entry in (4, 6) else before.sigmoid()
        torch.testing.assert_close(after, expected * 1.2 - 0.1 if entry in (0, 2) else expected)


def test_a_candidate_at_the_threshold_is_dropped() -> None:
    spec = make_plan(plan_text("classes=1\nanchors=4,4\n", 10)).nodes[0].spec
    assert isinstance(spec, GaussianYoloSpec)
    map_BCHW = torch.zeros(1, 10, H, W)
    map_BCHW[0, 8:, 0, 0] = torch.tensor([0.5, 1.0])
    map_BCHW[0, 8:, 0, 1] = torch.tensor([1.0, 0.5])
    actual = spec.decode(map_BCHW, NET_W, NET_H, 0.5)
    assert (actual.objectness_M.tolist(), actual.prob_MK.tolist()) == ([1.0], [[0.0]])


def test_section_belongs_to_alexeyabs_dialect() -> None:
    with pytest.raises(ConfigError, match="use --dialect alexeyab"):
        make_plan(plan_text(KEYS), Dialect.PJREDDIE)


def test_channels_are_nine_numbers_an_anchor_and_the_classes() -> None:
    with pytest.raises(ConfigError, match=r"reads 21 channels, but 2 anchors x \(9 \+ classes=2\) are 22"):
        make_plan(plan_text(KEYS, 21))


def test_corner_suppression_is_its_own_word() -> None:
    spec, _, _ = head_and_output(KEYS + "nms_kind=cornersnms\nbeta_nms=.7\n")
    assert spec.nms == ("cornersnms", 0.7)
    plan = make_plan("[net]\nheight=2\nwidth=2\nchannels=25\n[yolo]\nscale_x_y=1\nnms_kind=cornersnms\n")
    assert [finding.message for finding in plan.warnings] == ["nms_kind=cornersnms is not known: darknet uses default"]
