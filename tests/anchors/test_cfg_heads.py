"""Anchors and the heads of a cfg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from darkpy.anchors.cfg_heads import CfgHead, assign_anchors, current_anchors, find_heads, rewrite, round_anchors
from darkpy.build import make_plan
from darkpy.errors import DarkpyError

CFG_FOLDER = Path(__file__).resolve().parents[2] / "cfg"
NET = "[net]\nwidth=64\nheight=64\nchannels=3\n\n"
POOL = "[maxpool]\nsize=2\nstride=2\n\n"
CONV = "[convolutional]\n filters = {}  \nsize=1\nstride=1\nactivation=linear\n\n"
YOLO = "[yolo]\n{}classes=1\n"
ANCHORS = "anchors = 1,2, 3,4, 5,6\nnum=3\n"
FINE_FIRST = (
    NET
    + POOL
    + CONV.format(6)
    + YOLO.format(f"mask=2\n{ANCHORS}")
    + ("[route]\nlayers=-3\n\n" + POOL + CONV.format(12) + YOLO.format(f"mask = 0,1\n{ANCHORS}"))
)


def heads(cfg: str) -> tuple[CfgHead, ...]:
    return find_heads(make_plan(cfg))


def masks(count: int, cfg: str) -> list[Sequence[int]]:
    return [one.mask for one in assign_anchors(count, heads(cfg))]


@pytest.mark.parametrize(
    ("cfg", "strides", "masks"),
    [
        ("yolov3.cfg", [32, 16, 8], [(6, 7, 8), (3, 4, 5), (0, 1, 2)]),
        ("yolov4.cfg", [8, 16, 32], [(0, 1, 2), (3, 4, 5), (6, 7, 8)]),
        ("yolov4-tiny.cfg", [32, 16], [(3, 4, 5), (0, 1, 2)]),
        ("yolov2.cfg", [32], [(0, 1, 2, 3, 4)]),
    ],
)
def test_finest_map_gets_the_smallest_in_the_order_of_the_cfg(
    cfg: str, strides: list[int], masks: list[Sequence[int]]
) -> None:
    plan = make_plan(CFG_FOLDER / cfg)
    found = find_heads(plan)
    assert [head.stride for head in found] == [(stride, stride) for stride in strides]
    head_anchors = assign_anchors(sum(map(len, masks)), found)
    assert [one.mask for one in head_anchors] == masks
    text = (CFG_FOLDER / cfg).read_bytes()
    assert [str(one.filters) for one in head_anchors] == [
        head.source.section.entries["filters"].value for head in found if head.source
    ]
    assert rewrite(text, round_anchors(current_anchors(found), found), head_anchors).count(b"\n") == text.count(b"\n")


def test_each_head_keeps_its_number_of_anchors_or_gets_as_many_as_the_others() -> None:
    assert masks(3, FINE_FIRST) == [(0,), (1, 2)]
    assert masks(2, FINE_FIRST) == [(0,), (1,)]
    assert masks(5, FINE_FIRST) == [(0, 1, 2), (3, 4)]
    with pytest.raises(DarkpyError, match="1 anchors for 2 heads"):
        masks(1, FINE_FIRST)


def test_current_anchors_are_those_that_predict_in_pixels() -> None:
    assert current_anchors(heads(FINE_FIRST)).tolist() == [[1, 2], [3, 4], [5, 6]]
    region = NET + POOL + CONV.format(18) + "[region]\nanchors=1,2, 3\nnum=3\nclasses=1\n"
    assert current_anchors(heads(region)).tolist() == [[1, 1], [2, 4], [6, 1]]  # .5 where the list ends


def test_only_lines_that_change_are_changed() -> None:
    text = FINE_FIRST.replace("\n", "\r\n").encode() + b"# the end\xff"
    head_anchors = assign_anchors(4, heads(FINE_FIRST))
    written = rewrite(text, np.array([(1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0)]), head_anchors)
    before, after = text.split(b"\n"), written.split(b"\n")
    changes = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changes == [
        (b" filters = 6  \r", b" filters = 12  \r"),
        (b"mask=2\r", b"mask=0,1\r"),
        (b"anchors = 1,2, 3,4, 5,6\r", b"anchors = 1,2, 3,4, 5,6, 7,8\r"),
        (b"num=3\r", b"num=4\r"),
        (b"mask = 0,1\r", b"mask = 2,3\r"),
        (b"anchors = 1,2, 3,4, 5,6\r", b"anchors = 1,2, 3,4, 5,6, 7,8\r"),
        (b"num=3\r", b"num=4\r"),
    ]


def test_lines_that_are_missing_end_the_section() -> None:
    one_head = NET + POOL + CONV.format(6) + YOLO.format("anchors=1,2\n")
    written = rewrite(
        one_head.encode(), np.array([(1.0, 2.0), (3.0, 4.0)]), assign_anchors(2, heads(one_head))
    ).decode()
    assert "[yolo]\nanchors=1,2, 3,4\nclasses=1\nnum=2\n" in written and " filters = 12  \n" in written
    assert find_heads(make_plan(written))[0].keys.indices == (0, 1)


def test_same_anchors_change_nothing() -> None:
    found = heads(FINE_FIRST)
    cfg = FINE_FIRST.replace("mask=2", "mask=0").replace("mask = 0,1", "mask = 1, 2")
    assert rewrite(cfg.encode(), current_anchors(found), assign_anchors(3, heads(cfg))) == cfg.encode()


def test_anchors_are_written_in_integer_pixels_or_cells() -> None:
    assert round_anchors(np.array([(0.2, 7.6)]), heads(FINE_FIRST)).tolist() == [[1, 8]]
    region = heads(NET + POOL + POOL + CONV.format(6) + "[region]\nanchors=1,2\nnum=1\nclasses=1\n")
    anchors_K2 = round_anchors(np.array([(10.0, 7.77777)]), region)
    np.testing.assert_allclose(anchors_K2, [(10, 4 * 1.9444)])
    cfg = NET + POOL + POOL + CONV.format(6) + "[region]\nanchors=1,2\nnum=1\nclasses=1\n"
    assert b"anchors=2.5,1.9444\n" in rewrite(cfg.encode(), anchors_K2, assign_anchors(1, region))


def test_network_without_anchors_is_an_error() -> None:
    with pytest.raises(DarkpyError, match="has no layer with anchors="):
        find_heads(make_plan(NET + POOL))
