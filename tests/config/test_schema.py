"""Text to typed keys, with darknet's rules for numbers, lists and words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from darkpy.config.schema import MAX_INT, MAX_LIST, Key, key, keys_of, nearest, read_spec
from darkpy.config.text import FindingCollector, parse
from darkpy.dialect import Dialect
from darkpy.finding import Finding, Severity

AX, PJ = Dialect.ALEXEYAB, Dialect.PJREDDIE


def _kinds(dialect: Dialect) -> tuple[str, ...]:
    return ("plain", "fancy") if dialect is AX else ("plain",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSpec:
    dialect: Dialect = PJ

    from_: tuple[int, ...] = key((-1,), name="from", list_dialect=AX)
    count: int = key(3, alexeyab=4, minimum=1)
    rate: float = key(0.5)
    flag: bool = key(False)
    steps: tuple[int, ...] = key(())
    scales: tuple[float, ...] = key(())
    limit: int | None = key(None)
    kind: str = key("plain", choices=_kinds, aliases={"plian": "plain"})
    name: str = key("")
    map: Path | None = key(None)
    mosaic: bool = key(False, dialect=AX)
    center: bool = key(False, dialect=PJ)


@dataclass(frozen=True, kw_only=True, slots=True)
class NeedySpec:
    dialect: Dialect = PJ

    layers: tuple[int, ...] = key()


def sample(lines: str, dialect: Dialect = PJ) -> tuple[SampleSpec | None, tuple[Finding, ...]]:
    config = parse(f"[net]\n[sample]\n{lines}\n", "x.cfg")
    findings = FindingCollector(config.file, config.findings)
    return read_spec(SampleSpec, config.sections[1], dialect, findings), findings.findings


def value(line: str, field: str, dialect: Dialect = PJ) -> Any:
    """Value of a line, which must have no findings."""
    spec, faults = sample(line, dialect)
    assert faults == ()
    return getattr(spec, field)


def warned(line: str, field: str, dialect: Dialect = PJ) -> tuple[Any, str]:
    """Value of a line, and its only finding, a warning."""
    spec, (finding,) = sample(line, dialect)
    assert finding.severity is Severity.WARNING and spec is not None
    assert (finding.location.line, finding.location.section, finding.location.index) == (3, "sample", 0)
    return getattr(spec, field), finding.message


def refused(line: str, dialect: Dialect = PJ) -> Finding:
    """The one error of a line."""
    spec, (finding,) = sample(line, dialect)
    assert finding.severity is Severity.ERROR and spec is None
    assert (finding.location.line, finding.location.section, finding.location.index) == (3, "sample", 0)
    return finding


def test_empty_section_has_each_forks_defaults() -> None:
    assert sample("") == (SampleSpec(), ())
    assert sample("", AX) == (SampleSpec(dialect=AX, count=4), ())


@pytest.mark.parametrize(("line", "field", "wanted"), [
    ("count=7", "count", 7),
    ("count=+7", "count", 7),
    ("count=007", "count", 7),
    ("count=2#images", "count", 2),
    (f"limit=-{MAX_INT}", "limit", -MAX_INT),
    ("rate=.5", "rate", 0.5),
    ("rate=5.", "rate", 5.0),
    ("rate=-1e-3", "rate", -0.001),
    ("rate=1E+2", "rate", 100.0),
    ("rate=3", "rate", 3.0),
    ("flag=1", "flag", True),
    ("flag=-2", "flag", True),
    ("flag=0", "flag", False),
    ("steps=1", "steps", (1,)),
    ("steps = -1, 100 , 20000", "steps", (-1, 100, 20000)),
    ("steps=1,2,", "steps", (1, 2, 0)),
    ("scales=.1,10,1e-2#half", "scales", (0.1, 10.0, 0.01)),
    ("from=-3", "from_", (-3,)),
    ("kind=plain", "kind", "plain"),
    ("name=a=b,#c", "name", "a=b,#c"),
])  # fmt: skip
def test_value_is_read_as_c_reads_it(line: str, field: str, wanted: object) -> None:
    found = value(line, field)
    assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize(("line", "field", "wanted"), [
    ("count=3.7", "count", 3),
    ("count=1e3", "count", 1),
    ("count=5x", "count", 5),
    ("count=5,6", "count", 5),
    ("rate=.1;half", "rate", 0.1),
    ("flag=0.9", "flag", False),
    ("steps=400,450.5", "steps", (400, 450)),
    ("kind=plian", "kind", "plain"),
])  # fmt: skip
def test_value_that_darknet_reads_otherwise_than_it_looks_warns(line: str, field: str, wanted: object) -> None:
    assert warned(line, field)[0] == wanted


def test_warning_says_what_is_left_of_a_number() -> None:
    assert warned("count=1e3", "count")[1] == "of count=1e3 darknet reads only 1"


@pytest.mark.parametrize("line", [
    "count=abc", "count=-", "count=,", "count=#3", "rate=nan", "rate=inf", "rate=-inf", "rate=1e999",
    "steps=a", "steps=1,,a", "scales=.", "count=٣", f"limit={MAX_INT + 1}",
    f"limit=-{MAX_INT + 2}", "count=" + "9" * 100_000, "rate=" + "1" * 100_000, "count=0", "count=-5",
])  # fmt: skip
def test_value_that_is_no_usable_number_is_an_error(line: str) -> None:
    assert len(refused(line).message) < 120


def test_error_about_a_number_quotes_it_with_its_bound() -> None:
    assert refused("count=0").message == "count=0 is below 1"
    assert refused("count=abc").message == "count=abc is not a number; darknet would use 0"


@pytest.mark.parametrize(("line", "field", "expected"), [
    ("steps=,1", "steps", (0, 1)),
    ("steps=1,,2", "steps", (1, 0, 2)),
    ("steps=,,", "steps", (0, 0, 0)),
    ("scales=.1,,10", "scales", (0.1, 0.0, 10.0)),
])  # fmt: skip
def test_empty_entry_of_a_list_is_0_with_a_warning(line: str, field: str, expected: object) -> None:
    assert warned(line, field) == (expected, f"{line} has an empty entry, which darknet reads as 0")


def test_list_is_bounded() -> None:
    assert len(value("steps=" + "1," * (MAX_LIST - 1), "steps")) == MAX_LIST
    assert refused("steps=" + "1," * MAX_LIST).message == f"steps lists {MAX_LIST + 1} numbers, the limit is {MAX_LIST}"


def test_key_of_the_other_fork_is_ignored_with_a_warning() -> None:
    assert value("mosaic=1", "mosaic", AX) is True
    assert warned("mosaic=1", "mosaic") == (False, "key 'mosaic' is ignored: only dialect alexeyab reads it")
    assert warned("center=1", "center", AX) == (False, "key 'center' is ignored: only dialect pjreddie reads it")


def test_list_that_one_fork_reads_as_a_number_warns_there() -> None:
    assert value("from=-1,-4", "from_", AX) == (-1, -4)
    assert warned("from=-1,-4", "from_") == ((-1,), "of from=-1,-4 darknet reads only -1")


def test_word_of_the_other_fork_names_the_dialect_to_use() -> None:
    finding = refused("kind=fancy")
    assert finding.message == "kind=fancy is only known in dialect alexeyab"
    assert finding.hints == ("use --dialect alexeyab",)
    assert value("kind=fancy", "kind", AX) == "fancy"


def test_misspelled_word_gets_near_names_and_a_strange_one_all_of_them() -> None:
    assert refused("kind=fansy", AX).hints == ("did you mean fancy?",)
    assert refused("kind=1", AX).hints == ("one of fancy, plain",)


def test_comment_behind_a_word_is_dropped_with_a_warning_as_by_darknet_v5() -> None:
    spec, (finding,) = sample("kind=plain # comment")
    assert spec is not None and spec.kind == "plain"
    assert (finding.severity, finding.message) == (Severity.WARNING, "kind=plain#comment is read as plain")
    assert finding.hints[0].startswith("put the comment on a line of its own")


def test_line_without_an_equals_sign_gives_the_default_and_warns() -> None:
    assert warned("count", "count", AX) == (4, "'count' has no '=': darknet uses its default")


def test_unread_key_warns_with_near_names() -> None:
    spec, (finding,) = sample("cuont=1")
    assert spec == SampleSpec()
    assert str(finding) == ("x.cfg:3: [sample] layer 0 unknown key 'cuont' is ignored\n  hint: did you mean count?")


def test_every_bad_key_of_a_section_is_reported() -> None:
    spec, faults = sample("count=0\nrate=x\nkind=none\nhello\n")
    assert spec is None
    assert [(finding.location.line, finding.severity) for finding in faults] == [
        (3, Severity.ERROR),
        (4, Severity.ERROR),
        (5, Severity.ERROR),
        (6, Severity.WARNING),
    ]


@pytest.mark.parametrize("line", ["", "layers"])
def test_missing_key_that_is_needed_is_an_error(line: str) -> None:
    config = parse(f"[net]\n[needy]\n{line}\n", "x.cfg")
    findings = FindingCollector("x.cfg")
    assert read_spec(NeedySpec, config.sections[1], PJ, findings) is None
    assert [str(finding) for finding in findings.findings] == [
        "x.cfg:2: [needy] layer 0 has no layers=, which is required"
    ]


def test_file_is_looked_for_beside_the_cfg(tmp_path: Path) -> None:
    (tmp_path / "names.map").write_text("0\n")
    config = parse("[net]\n[sample]\nmap=names.map\n", str(tmp_path / "x.cfg"))
    spec = read_spec(SampleSpec, config.sections[1], PJ, FindingCollector(config.file))
    assert spec is not None and spec.map == tmp_path / "names.map"


def forks_that_read(name: str, text: str) -> Iterator[Dialect]:
    yield from sorted(keys_of(SampleSpec)[name].readers(text), key=str)


def test_readers_of_a_value_are_the_forks_that_understand_all_of_it() -> None:
    assert list(forks_that_read("count", "1")) == [AX, PJ]
    assert list(forks_that_read("mosaic", "1")) == [AX]
    assert list(forks_that_read("center", "1")) == [PJ]
    assert list(forks_that_read("kind", "fancy")) == [AX]
    assert list(forks_that_read("kind", "plain")) == [AX, PJ]
    assert list(forks_that_read("kind", "strange")) == []
    assert list(forks_that_read("from", "-1,-2")) == [AX]
    assert list(forks_that_read("from", "-1")) == [AX, PJ]


def test_annotation_says_how_a_key_is_read() -> None:
    found: dict[str, Key] = dict(keys_of(SampleSpec))
    kinds = {name: (wanted.field, wanted.element, wanted.is_list) for name, wanted in found.items()}
    assert kinds["from"] == ("from_", int, True)
    assert kinds["limit"] == ("limit", int, False)
    assert kinds["scales"] == ("scales", float, True)
    assert kinds["flag"] == ("flag", bool, False)
    assert kinds["map"] == ("map", Path, False)
    assert "dialect" not in kinds


def test_annotation_of_another_kind_is_refused_when_the_room_is_written() -> None:
    @dataclass(frozen=True, kw_only=True, slots=True)
    class OddSpec:
        odd: complex = key(0)

    with pytest.raises(TypeError, match="complex"):
        keys_of(OddSpec)


def test_near_names_disregard_case() -> None:
    known = ("Gaussian_yolo", "yolo", "convolutional")
    assert nearest("YOLO", known) == "did you mean yolo?"
    assert nearest("gaussian_yolo", known) == "did you mean Gaussian_yolo?"
    assert nearest("convolutionl", known) == "did you mean convolutional?"
    assert nearest("x", known) is None
    assert nearest("yolo" * 100_000, known) is None
