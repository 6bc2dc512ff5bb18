"""Recommended anchors for a cfg."""

from __future__ import annotations

import pytest

from darkpy.anchors.cfg_heads import assign_anchors, find_heads
from darkpy.anchors.recommend import default_count
from darkpy.build import make_plan

NET = "[net]\nwidth=64\nheight=64\nchannels=3\n\n"
CONV = "[convolutional]\nfilters={}\nsize=1\nstride=1\nactivation=linear\n\n"
YOLO = "[yolo]\nclasses=1\n{}\n"


@pytest.mark.parametrize(
    ("coarse", "fine", "count"),
    [
        ("anchors=1,2, 3,4, 5,6\nnum=3\nmask=1,2", "anchors = 1,2, 3,4, 5,6\nnum=3\nmask=0", 3),
        ("anchors=1,2, 3,4, 5,6\nnum=3\nmask=1,2", "anchors=1,2,3,4,5,6\nnum=3\nmask=0,1", 3),
        ("anchors=3,4, 5,6\nnum=2\nmask=0,1", "anchors=1,2\nnum=1\nmask=0", 3),
        ("anchors=30,40, 50,60, 9,9\nnum=3\nmask=0,1", "anchors=1,2, 3,4\nnum=2\nmask=0,1", 4),
    ],
)
def test_a_cfg_keeps_its_number_of_anchors_whether_its_heads_share_a_list_or_not(
    coarse: str, fine: str, count: int
) -> None:
    kept = coarse.partition("mask=")[2].count(",") + 1, fine.partition("mask=")[2].count(",") + 1
    first, second = (CONV.format(6 * many) + YOLO.format(keys) for many, keys in zip(kept, (coarse, fine), strict=True))
    heads = find_heads(make_plan(f"{NET}{first}[route]\nlayers=-2\n\n{second}"))
    assert default_count(heads) == count
    assert sum(len(one.mask) for one in assign_anchors(count, heads)) == count
