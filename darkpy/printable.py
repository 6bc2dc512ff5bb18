"""Text from files, made safe to show: on a terminal, in a message, in a table, in HTML, in a file name."""

from __future__ import annotations

import re
import unicodedata

_SUSPECTS = re.compile(r"[^ -~]")
_SUSPECTS_IN_LINES = re.compile(r"[^ -~\n\t]")
_JOINERS = "\u200c\u200d"
"""Format characters that Persian, Indic scripts and emoji need."""


def printable(text: object, *, lines: bool = False) -> str:
    r"""Replace what is not printable by its escape: `\x1b` for the escape character, `\u202e` for reversed text.

    Files of others reach the terminal through messages, and control characters there could hide, recolor or forge text.
    lines: keep line breaks and tabs.
    """
    return (_SUSPECTS_IN_LINES if lines else _SUSPECTS).sub(_escape, str(text))


def _escape(match: re.Match[str]) -> str:
    letter = match[0]
    if letter.isprintable() or letter in _JOINERS or unicodedata.category(letter) == "Zs":  # spaces of all widths
        return letter
    return letter.encode("unicode_escape").decode("ascii")
