"""Edits of a cfg's text: keys are set, and every other character stays as it is.

text = apply_remedy(Path("my.cfg").read_text(), finding.remedies[0])
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from darkpy.config.text import Section, parse
from darkpy.errors import DarkpyError
from darkpy.finding import CfgEdit, Remedy

BYTE_ORDER_MARK = "\ufeff"
_VALUE_PATTERN = re.compile(r"(?P<start>[^=]*=\s*|[^=]*?(?=\s*$))(?P<value>.*?)(?P<end>\s+#.*|\s*)", re.DOTALL)


def apply_remedy(cfg_text: str, remedy: Remedy) -> str:
    """Return the cfg with the remedy's edits; see `edit_cfg`.

    Raises: DarkpyError when the remedy has no edits, because it is a command line, or as `edit_cfg` does.
    """
    if not remedy.edits:
        raise DarkpyError(f"no key of the cfg fixes this: {remedy}", hint=f"do it by hand: {remedy}")
    return edit_cfg(cfg_text, remedy.edits)


def edit_cfg(cfg_text: str, edits: Iterable[CfgEdit]) -> str:
    """Return the cfg with these keys set; comments, blanks, line ends and all other lines stay.

    A key that the section has is changed in its line, a new one becomes the section's last line. A value that is there
    already stays as it is written.
    Raises: DarkpyError when the cfg has no such layer; ConfigError when the text is not a cfg.
    """
    mark = BYTE_ORDER_MARK if cfg_text.startswith(BYTE_ORDER_MARK) else ""
    lines = cfg_text.removeprefix(mark).split("\n")
    sections = parse(cfg_text.removeprefix(mark)).sections
    line_end = "\r" if "\r\n" in cfg_text else ""
    added: dict[int, dict[str, str]] = {}  # by the line that they follow
    for edit in edits:
        index = 0 if edit.layer is None else edit.layer + 1  # [net] is the first section
        if not 0 <= index < len(sections):
            name = "no section" if edit.layer is None else f"no layer {edit.layer}"
            raise DarkpyError(f"the cfg has {name}, where {edit} should be", hint="use the cfg of the run")
        entry = sections[index].entries.get(edit.key)
        if entry is None:
            added.setdefault(_last_line(lines, sections[index]), {})[edit.key] = f"{edit}{line_end}"
        elif entry.value != "".join(edit.value.split()):
            lines[entry.line - 1] = _with_value(lines[entry.line - 1], edit.value)
    for line in sorted(added, reverse=True):  # from the end, so that line numbers stay valid
        lines[line:line] = added[line].values()
    return mark + "\n".join(lines)


def _with_value(line: str, value: str) -> str:
    """Line with another value; the blanks around it and a comment behind it stay."""
    match = _VALUE_PATTERN.fullmatch(line)
    assert match is not None  # the last group may be empty
    equals = "" if "=" in match["start"] else "="
    return f"{match['start']}{equals}{value}{match['end']}"


def _last_line(lines: list[str], section: Section) -> int:
    """Number of a section's last line that is neither blank nor a comment."""
    last = section.line
    for number, line in enumerate(lines[section.line :], start=section.line + 1):
        text = line.strip()
        if text.startswith("["):
            break
        if text and text[0] not in "#;":
            last = number
    return last
