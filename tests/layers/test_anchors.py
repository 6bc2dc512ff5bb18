"""Anchors as the heads read them."""

from __future__ import annotations

from darkpy.layers.anchors import chosen_anchors


def test_anchors_the_cfg_leaves_out_are_one_half_and_more_of_them_are_not_read() -> None:
    assert chosen_anchors((10, 14, 20), (1, 0, 2)).tolist() == [[20.0, 0.5], [10.0, 14.0], [0.5, 0.5]]
    assert chosen_anchors((1, 2, 3, 4), (0,)).tolist() == [[1.0, 2.0]]
