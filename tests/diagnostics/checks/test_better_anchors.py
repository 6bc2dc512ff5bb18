"""Anchors that would fit the boxes much better are a note with their cost."""

from __future__ import annotations

from darkpy.config.edit import apply_remedy
from darkpy.finding import Finding
from tests.diagnostics.conftest import Case


def notes(case: Case) -> list[Finding]:
    return [finding for finding in case.examine().findings if finding.name == "anchors-better"]


def test_better_anchors_are_noted_with_what_they_cost_and_the_remedy_sets_them(case: Case) -> None:
    assert notes(case) == []
    case.edit("sample.cfg", "24,24, 31,31, 42,42", "20,34, 62,50, 25,60")
    (note,) = notes(case)
    assert note.is_note
    assert "better after a full schedule, worse after a short one" in note.message
    case.cfg.write_text(apply_remedy(case.cfg.read_text(), note.remedies[0]))
    assert notes(case) == [] and case.findings() == []
