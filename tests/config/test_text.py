"""Parser of the cfg language, against the rules of both darknets."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.config.text import MAX_FINDINGS, MAX_SECTIONS, MAX_SIZE, Config, parse, read
from darkpy.errors import ConfigError
from darkpy.finding import Finding, Severity


def values(config: Config, section: int = 0) -> dict[str, str | None]:
    return {key: entry.value for key, entry in config.sections[section].entries.items()}


def only_fault(config: Config) -> Finding:
    (finding,) = config.findings
    return finding


def refusal(cfg: str | Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read(cfg)
    return str(caught.value)


def test_every_blank_of_a_line_is_dropped_inner_ones_too() -> None:
    config = parse("[ n e t ]\n  b a t c h =\t16 \n[route]\nlayers = -1, -3\n")
    assert [section.type for section in config.sections] == ["net", "route"]
    assert values(config) == {"batch": "16"}
    assert values(config, 1) == {"layers": "-1,-3"}
    assert config.findings == ()


def test_crlf_and_a_byte_order_mark_read_like_neither(tmp_path: Path) -> None:
    plain, windows = tmp_path / "plain.cfg", tmp_path / "windows.cfg"
    plain.write_bytes(b"[net]\nbatch=1\n\n# note\n[yolo]\nmask = 0,1\n")
    windows.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n"))
    assert read(windows).sections == read(plain).sections
    assert read(windows).findings == ()


def test_last_line_needs_no_line_break() -> None:
    assert values(parse("[net]\nbatch=4")) == {"batch": "4"}


@pytest.mark.parametrize("comment", ["# batch=1", "; batch=1", "   #batch=1", "\t;", "#[yolo]"])
def test_number_sign_and_semicolon_in_the_first_place_make_a_comment(comment: str) -> None:
    config = parse(f"[net]\n{comment}\nwidth=8\n")
    assert values(config) == {"width": "8"}
    assert len(config.sections) == 1


def test_first_equals_sign_splits_and_the_value_keeps_the_others() -> None:
    assert values(parse("[net]\na=b=c\n")) == {"a": "b=c"}


def test_comment_behind_a_value_is_part_of_the_text() -> None:
    assert values(parse("[net]\nbatch=2 # images\n")) == {"batch": "2#images"}


def test_first_of_equal_keys_counts_and_the_other_line_is_named() -> None:
    config = parse("[net]\nbatch=1\nbatch=64\n[dropout]\nprobability=.1\n\nprobability=.2\n", "x.cfg")
    assert values(config) == {"batch": "1"}
    assert values(config, 1) == {"probability": ".1"}
    assert [
        (finding.location.line, finding.location.section, finding.location.index) for finding in config.findings
    ] == [
        (3, "net", None),
        (7, "dropout", 0),
    ]
    assert all(finding.severity is Severity.WARNING for finding in config.findings)
    assert "line 2" in config.findings[0].message and "line 5" in config.findings[1].message


def test_key_with_an_empty_value_is_dropped_so_that_a_later_one_counts() -> None:
    config = parse("[net]\nbatch=\nbatch=8\n")
    assert values(config) == {"batch": "8"}
    assert only_fault(config).location.line == 2


def test_line_without_an_equals_sign_hides_later_lines_of_that_key() -> None:
    config = parse("[net]\nbatch\nbatch=8\n")
    assert values(config) == {"batch": None}
    assert "line 2 already" in only_fault(config).message


def test_names_are_case_sensitive() -> None:
    config = parse("[Yolo]\nBatch=1\nbatch=2\n")
    assert config.sections[0].type == "Yolo"
    assert values(config) == {"Batch": "1", "batch": "2"}


def test_layers_count_from_the_second_section() -> None:
    config = parse("[net]\n[dropout]\n\n[yolo]\n")
    assert [(section.index, section.line) for section in config.sections] == [(-1, 1), (0, 2), (1, 4)]


@pytest.mark.parametrize("line", ["anchors = 61,45    62,75", "steps=400000 450000", "layers= -1 61", "size=3 -3"])
def test_blanks_between_numbers_are_dropped_with_a_warning(line: str) -> None:
    config = parse(f"[net]\n{line}\n")
    (finding,) = config.findings
    joined = line.replace(" ", "")
    assert (finding.name, finding.location.line) == ("joined-numbers", 2)
    assert f"it is read as {joined}" in finding.message
    assert parse(f"[net]\n{joined}\n# 1 2\nname=a b # 1 2\n").findings == ()


def test_comment_behind_a_section_name_is_dropped_with_a_warning_as_by_darknet_v5() -> None:
    config = parse("[net]\n[dropout] # drop\nprobability=.5\n")
    assert config.sections[1].type == "dropout"
    assert [finding.message for finding in config.findings] == ["'[dropout]#drop' is read as [dropout]"]


@pytest.mark.parametrize("line", ["[dropout", "[dropout]]", "[dropout]drop"])
def test_section_line_with_anything_else_is_one_error_and_keeps_its_name(line: str) -> None:
    config = parse(f"[net]\n{line}\nprobability=.5\n", "x.cfg")
    assert config.sections[1].type == "dropout"
    finding = only_fault(config)
    assert (finding.severity, finding.location.line, finding.location.index) == (Severity.ERROR, 2, 0)


def test_lines_before_the_first_section_are_one_error() -> None:
    finding = only_fault(parse("classes=80\ntrain=train.txt\n[net]\nbatch=1\n", "coco.data"))
    assert (finding.severity, finding.location.line) == (Severity.ERROR, 1)
    assert str(finding) == ("coco.data:1: 'classes=80' is before the first section\n  hint: a cfg starts with [net]")


def test_string_with_a_line_break_is_the_cfg_itself() -> None:
    config = read("[net]\nbatch=1")
    assert config.file == "<cfg>"
    assert values(config) == {"batch": "1"}


def test_bytes_that_are_no_utf8_do_not_stop_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "latin.cfg"
    path.write_bytes(b"[net]\n# caf\xe9\nbatch=1\n")
    assert values(read(path)) == {"batch": "1"}


def test_missing_file_is_named() -> None:
    assert refusal("no/such.cfg").startswith(
        "no/such.cfg: cannot be read: No such file or directory\n  hint: it was looked for in /"
    )


@pytest.mark.parametrize(("data", "words"), [
    (b"\0\0\0\0\x02\0\0\0\0\0\0\0", "is a binary file, not a cfg"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 12\n", "git lfs pull"),
    (b"\n\n<!DOCTYPE html>\n<html><body>Not found</body></html>", "is a web page"),
    ("[net]\nbatch=1\n".encode("utf-16"), "save it as UTF-8"),
    (b"PK\x03\x04rest", "is a zip archive"),
    (b"", "is an empty file"),
])  # fmt: skip
def test_file_that_is_no_cfg_is_said_to_be_what_it_is(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "yolo.cfg"
    path.write_bytes(data)
    assert words in refusal(path)


def test_text_of_any_size_is_refused_before_it_is_split() -> None:
    assert "larger than any cfg" in refusal("a=1\n" * (MAX_SIZE // 4 + 1))


def test_file_is_not_read_beyond_the_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "huge.cfg"
    with path.open("wb") as stream:
        stream.write(b"[net]\n" * 100)
        stream.truncate(1 << 40)
    assert "huge.cfg" in refusal(path)


def test_hundreds_of_thousands_of_sections_are_refused_at_once() -> None:
    text = refusal("[a]\n" * 250_000)
    assert f"more than {MAX_SECTIONS} sections" in text
    assert len(text) < 200


def test_file_of_nothing_but_faults_is_given_up() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("[net]\n" + "batch=\n" * 100_000)
    assert str(MAX_FINDINGS) in str(caught.value)


def test_quoted_text_is_abridged() -> None:
    finding = only_fault(parse("x" * 100_000 + "\n[net]\n"))
    assert len(finding.message) < 100
