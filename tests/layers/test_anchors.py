"""Anchors as the heads read them."""

from __future__ import annotations

import pytest

from darkpy.build import make_plan
from darkpy.layers.anchors import chosen_anchors


def test_anchors_the_cfg_leaves_out_are_one_half_and_more_of_them_are_not_read() -> None:
    assert chosen_anchors((10, 14, 20), (1, 0, 2)).tolist() == [[20.0, 0.5], [10.0, 14.0], [0.5, 0.5]]
    assert chosen_anchors((1, 2, 3, 4), (0,)).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(("key", "used"), [("nms_kind", "default"), ("iou_loss", "iou"), ("iou_thresh_kind", "iou")])
def test_unknown_word_has_the_meaning_that_alexeyabs_program_gives_it(key: str, used: str) -> None:
    text = f"[net]\nheight=2\nwidth=2\nchannels=6\n[yolo]\nclasses=1\nanchors=1,1\n{key}=typo\n"
    plan = make_plan(text, "alexeyab")
    assert getattr(plan.nodes[0].spec, key) == used
    assert [finding.message for finding in plan.warnings] == [f"{key}=typo is not known: darknet uses {used}"]
