"""Ranges of the keys: values that cannot be computed with are errors, senseless ones warnings with a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from darkpy.build import make_plan
from darkpy.config.net import NetSpec
from darkpy.config.schema import MAX_INT, Key, keys_of, read_spec
from darkpy.config.text import FindingCollector, parse
from darkpy.dialect import Dialect
from darkpy.finding import Finding, Severity
from darkpy.layers.base import SECTION_SPECS

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT.parent / "shared/zoo"
SPECS: dict[str, Any] = {"net": NetSpec, **{spec.type: spec for spec in SECTION_SPECS.values()}}
UNBOUNDED = {
    *("from", "layers", "share_index", "embedding_layer", "yolo_layer"),  # the plan checks what they refer to
    *("mean", "std"),  # checked together with the channels
    "max_batches",  # doctor and train check it together with the classes: the default, 0, is no remedy
    *("stream", "wait_stream", "dot"),  # read without effect
    *("max_chart_loss", "optimized_memory", "workspace_size_limit_MB"),
}


def number_keys() -> Iterator[tuple[str, Key]]:
    for section, spec in SPECS.items():
        for key in keys_of(spec).values():
            if key.element in (int, float) and key.name not in UNBOUNDED:
                yield section, key


KEYS = list(number_keys())


def read(section: str, line: str, key: Key) -> tuple[Finding, ...]:
    collector = FindingCollector("x.cfg")
    config = parse(f"[net]\n{line}\n" if section == "net" else f"[net]\n[{section}]\n{line}\n")
    dialect = key.dialect or Dialect.ALEXEYAB
    read_spec(SPECS[section], config.sections[-1], dialect, collector)
    return tuple(finding for finding in collector.findings if "which is required" not in finding.message)


@pytest.mark.parametrize(("section", "key"), KEYS, ids=lambda part: part if isinstance(part, str) else part.name)
def test_key_of_a_number_has_a_range(section: str, key: Key) -> None:
    low = key.minimum if key.usual is None else key.usual[0]
    assert low is not None
    for dialect in Dialect:
        default = key.defaults[dialect]
        if isinstance(default, int | float):
            assert low <= default <= (key.usual[1] if key.usual else MAX_INT)


@pytest.mark.parametrize(("section", "key"), KEYS, ids=lambda part: part if isinstance(part, str) else part.name)
def test_value_outside_the_range_is_one_finding_and_the_remedy_makes_it_go(section: str, key: Key) -> None:
    """Values that cannot be computed with are errors, others warnings; the remedy is a line of the cfg."""
    values: list[float] = [-MAX_INT, -1, 0, MAX_INT]
    if key.element is float:
        values += [-0.5, 1e38]
    for value in values:
        is_error = (key.minimum is not None and value < key.minimum) or (
            key.maximum is not None and value > key.maximum
        )
        is_unusual = key.usual is not None and not key.usual[0] <= value <= key.usual[1]
        findings = read(section, f"{key.name}={value}", key)
        assert len(findings) == (is_error or is_unusual)
        for finding in findings:
            assert finding.severity is (Severity.ERROR if is_error else Severity.WARNING)
            assert finding.name == ("cfg" if is_error else f"{key.name}-range")
            if not is_error and not key.is_list:
                ((edit,),) = (remedy.edits for remedy in finding.remedies)
                assert edit.layer == (None if section == "net" else 0)
                assert read(section, str(edit), key) == ()


@pytest.mark.skipif(not ZOO.is_dir(), reason="the original files do not lie beside this checkout")
def test_no_value_of_an_original_is_outside_its_range() -> None:
    for path in (*sorted(ZOO.rglob("*.cfg")), *sorted((ROOT / "cfg").glob("*.cfg"))):
        assert [str(finding) for finding in make_plan(path).warnings if finding.name.endswith("-range")] == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("jitter=-1", "jitter=-1 is not a usual value: 0 to 1"),
        ("ignore_thresh=70", "ignore_thresh=70 is not a usual value: 0 to 1"),
        ("scale_x_y=0", "scale_x_y=0 is not a usual value: 1 to 4"),
        ("anchors=10,13,-16,30", "anchors= has -16, which is not a usual value: 0.001 to 65536"),
        ("anchors=10,0,16,30", "anchors= has 0, which is not a usual value: 0.001 to 65536"),
    ],
)
def test_message_names_the_value_and_the_range(line: str, message: str) -> None:
    (finding,) = read("yolo", line, keys_of(SPECS["yolo"])[line.partition("=")[0]])
    assert finding.message == message
