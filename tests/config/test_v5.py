"""`dialect="v5"`: hank-ai's darknet."""

from __future__ import annotations

import pytest

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.network import Network

CFG = """[net]
width=32
height=32
channels=3
letter_box=1

[convolutional]
filters=7
size=1
stride=1
activation=linear

[yolo]
mask=0
anchors=16,8
classes=2
num=1
nms_kind=diounms
beta_nms=.8
"""


def test_v5_reads_alexeyabs_dialect_and_stretches_and_suppresses_by_plain_iou() -> None:
    alexeyab, v5 = (make_plan(CFG, dialect) for dialect in ("alexeyab", "v5"))
    rules = [Network(plan).heads[-1].nms for plan in (alexeyab, v5)]
    assert (alexeyab.net.letter_box, v5.net.letter_box) == (True, False)
    assert (rules[0], rules[1][0]) == (("diounms", 0.8), "default")
    assert v5.dialect is Dialect.ALEXEYAB
    assert v5.warnings == ()


def test_sections_that_v5_lacks_are_named_once() -> None:
    plan = make_plan(CFG.replace("[yolo]", "[reorg]\nstride=1\n\n[reorg]\nstride=1\n\n[empty]\n\n[yolo]"), "v5")
    assert [(finding.is_note, finding.message) for finding in plan.warnings] == [
        (True, f"darknet V5 has no [{name}], and cannot load this network") for name in ("reorg", "empty")
    ]


def test_unknown_dialect_is_an_error_that_lists_them() -> None:
    with pytest.raises(DarkpyError, match=r"unknown dialect 'v6'\n.*pjreddie, alexeyab, v5"):
        make_plan(CFG, "v6")
