"""Edits of a cfg's text: set values are read, and everything else stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.config.edit import apply_remedy, edit_cfg
from darkpy.config.text import parse
from darkpy.errors import DarkpyError
from darkpy.finding import CfgEdit, Finding, Remedy

ROOT = Path(__file__).resolve().parents[2]
CFG = """# mine
[net]
batch = 8   # images
learning_rate=0.02
;steps=1

[convolutional]
filters=8
# the head
[yolo]
anchors = 1,2,  3,4
"""


@pytest.mark.parametrize(
    ("edit", "old", "new"),
    [
        (CfgEdit("learning_rate", "0.001"), "learning_rate=0.02\n", "learning_rate=0.001\n"),
        (CfgEdit("batch", "64"), "batch = 8   # images", "batch = 64   # images"),
        (CfgEdit("burn_in", "10"), "learning_rate=0.02\n", "learning_rate=0.02\nburn_in=10\n"),
        (CfgEdit("filters", "9", 0), "filters=8\n", "filters=9\n"),
        (CfgEdit("batch_normalize", "1", 0), "filters=8\n", "filters=8\nbatch_normalize=1\n"),
        (CfgEdit("anchors", "5,6, 7,8", 1), "anchors = 1,2,  3,4\n", "anchors = 5,6, 7,8\n"),
        (CfgEdit("mask", "0", 1), "anchors = 1,2,  3,4\n", "anchors = 1,2,  3,4\nmask=0\n"),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_one_line_changes_and_all_others_stay(edit: CfgEdit, old: str, new: str, line_end: str) -> None:
    text = CFG.replace("\n", line_end)
    edited = edit_cfg(text, [edit])
    assert edited == CFG.replace(old, new).replace("\n", line_end)


def test_key_without_a_value_and_a_repeated_key_are_set_where_the_parser_reads_them() -> None:
    text = "[net]\nburn_in\nbatch=\nbatch=8\nbatch=9"
    edited = edit_cfg(text, [CfgEdit("burn_in", "5"), CfgEdit("batch", "64"), CfgEdit("decay", "0")])
    assert edited == "[net]\nburn_in=5\nbatch=\nbatch=64\nbatch=9\ndecay=0"


def test_byte_order_mark_and_a_value_that_is_there_already_stay() -> None:
    text = "\ufeff[net]\nanchors = 1,2,  3,4\n"
    assert edit_cfg(text, [CfgEdit("anchors", "1,2, 3,4"), CfgEdit("batch", "8")]) == f"{text}batch=8\n"


@pytest.mark.parametrize("path", sorted((ROOT / "cfg").glob("*.cfg")), ids=lambda path: path.stem)
def test_every_section_of_a_cfg_is_found_by_its_layer_number(path: Path) -> None:
    text = path.read_text()
    sections = parse(text).sections
    edited = parse(edit_cfg(text, [CfgEdit("darkpy_mark", str(one.index), max(one.index, 0)) for one in sections]))
    for before, after in zip(sections[1:], edited.sections[1:], strict=True):
        assert after.entries.pop("darkpy_mark").value == str(before.index)
        assert {name: one.value for name, one in after.entries.items()} == {
            name: one.value for name, one in before.entries.items()
        }


def test_layer_that_there_is_not_and_a_remedy_without_edits_are_errors() -> None:
    with pytest.raises(DarkpyError, match="no layer 2"):
        edit_cfg(CFG, [CfgEdit("filters", "1", 2)])
    with pytest.raises(DarkpyError, match="no key of the cfg fixes this: darkpy anchors 'my data'"):
        apply_remedy(CFG, Remedy(command=("darkpy", "anchors", "my data")))


@pytest.mark.parametrize(("key", "value"), [("a b", "1"), ("a", ""), ("a", "1\n[net]"), ("a", "1 # x"), ("[net]", "1")])
def test_what_is_no_line_of_a_cfg_is_no_edit(key: str, value: str) -> None:
    with pytest.raises(ValueError, match="no line of a cfg"):
        CfgEdit(key, value)


def test_hints_of_a_finding_begin_with_its_remedies() -> None:
    remedies = (
        Remedy(edits=(CfgEdit("learning_rate", "0.001"), CfgEdit("burn_in", "10")), reason="a tenth"),
        Remedy(edits=tuple(CfgEdit("batch_normalize", "1", layer) for layer in (0, 2))),
    )
    finding = Finding(name="x", message="y", hints=("look",), remedies=remedies)
    assert finding.hints == (
        "learning_rate=0.001 with burn_in=10: a tenth",
        "batch_normalize=1 in layers 0, 2",
        "look",
    )
    assert Finding(name="x", message="y", hints=finding.hints, remedies=remedies).hints == finding.hints
