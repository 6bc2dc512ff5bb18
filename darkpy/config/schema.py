"""Typed keys: a dataclass field made with `key()` is a cfg key, read with darknet's own rules for numbers and lists.

The field's annotation says how the text is read: `int` (C atoi), `float` (C atof), `bool` (an int that is not 0),
`str`, `tuple[int, ...]`, `tuple[float, ...]`, and each of them `| None`.
Source: AlexeyAB/darknet src/option_list.c option_find_int and its kind; src/parser.c for lists.
Differs: a value without a number is an error where darknet takes 0; NaN, infinity and overflow are errors.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar, get_type_hints

from darkpy.config.text import Entry, Section
from darkpy.dialect import Dialect

Words = Callable[[Dialect], Collection[str]]
T = TypeVar("T")

_INT = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
MAX_INT = 2**31 - 1  # darknet's int
MAX_LIST = 1 << 16  # entries of a list value; the longest in use has some 9,000 (counters_per_class)
_MISSING: Any = dataclasses.MISSING


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """What a key accepts; `only` names the one fork that reads it."""

    name: str
    kind: str
    defaults: Mapping[Dialect, Any]
    required: bool = False
    only: Dialect | None = None
    minimum: float | None = None
    words: Words | None = None
    misread: Mapping[str, str] = dataclasses.field(default_factory=dict)


class ValueFault(Exception):
    """A value that cannot be used (`fatal`), or that darknet reads otherwise than it looks."""

    def __init__(self, message: str, value: Any = None, *, fatal: bool = False, hint: str | None = None) -> None:
        super().__init__(message)
        self.value, self.fatal, self.hint = value, fatal, hint


def key(
    default: Any = _MISSING,
    *,
    alexeyab: Any = _MISSING,
    name: str | None = None,
    only: Dialect | None = None,
    minimum: float | None = None,
    words: Words | Collection[str] | None = None,
    misread: Mapping[str, str] | None = None,
) -> Any:
    """Declare a cfg key as a dataclass field.

    default: value when the key is absent; without one the key is required.
    alexeyab: its default in AlexeyAB's fork, where that differs.
    name: the key's text where it cannot be the field's name (`from`).
    minimum: smaller values are an error (sizes and strides, mostly).
    words: the words a `str` key accepts, or a function from dialect to them.
    misread: words outside it that darknet takes for one of them; any other is an error.
    """
    accepted = words if words is None or callable(words) else (lambda dialect: words)
    metadata = {"key": (name, default, alexeyab, only, minimum, accepted, misread or {})}
    if default is _MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def keys_of(spec: Any) -> Mapping[str, tuple[str, Key]]:
    """The keys of a spec class: cfg name -> (field name, Key)."""
    return _keys_of(spec)


@cache
def _keys_of(spec: Any) -> Mapping[str, tuple[str, Key]]:
    hints = get_type_hints(spec)
    found: dict[str, tuple[str, Key]] = {}
    for item in dataclasses.fields(spec):
        if "key" not in item.metadata:
            continue
        name, default, alexeyab, only, minimum, words, misread = item.metadata["key"]
        other = default if alexeyab is _MISSING else alexeyab
        defaults = {Dialect.PJREDDIE: default, Dialect.ALEXEYAB: other}
        kind = str(hints[item.name]).replace(" | None", "").removeprefix("<class '").removesuffix("'>")
        required = default is _MISSING
        found[name or item.name] = (
            item.name,
            Key(name or item.name, kind, defaults, required, only, minimum, words, misread),
        )
    return found


def convert(entry: Entry, wanted: Key, dialect: Dialect) -> Any:
    """The typed value of one line.

    Raises: ValueFault; when it is not fatal it carries the value that darknet would use.
    """
    if entry.value is None:
        return wanted.defaults[dialect]
    if wanted.kind == "str":
        return _word(entry.value, wanted, dialect)
    values, tail = _numbers(entry.value, wanted)
    if wanted.minimum is not None and any(value < wanted.minimum for value in values):
        raise ValueFault(f"{wanted.name}={entry.value} is below {wanted.minimum:g}", fatal=True)
    value = values if wanted.kind.startswith("tuple") else values[0]
    if wanted.kind == "bool":
        value = bool(value)
    if tail:
        raise ValueFault(f"of {wanted.name}={entry.value} darknet reads only {value}", value)
    return value


def nearest(word: str, known: Collection[str]) -> str | None:
    """A hint for a misspelt word."""
    close = get_close_matches(word, known, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else None


def entries_unknown_to(spec: type, section: Section) -> list[Entry]:
    known = keys_of(spec)
    return [entry for entry in section.entries.values() if entry.key not in known]


def _word(text: str, wanted: Key, dialect: Dialect) -> str:
    if wanted.words is None or text in (known := wanted.words(dialect)):
        return text
    if text in wanted.misread:
        read = wanted.misread[text]
        raise ValueFault(f"darknet does not know {wanted.name}={text} and takes {read}", read)
    for other in Dialect:
        if text in wanted.words(other):
            hint = f"use --dialect {other}"
            raise ValueFault(f"{wanted.name}={text} is a word of the other fork", fatal=True, hint=hint)
    hint = nearest(text, known) or f"one of {', '.join(sorted(known))}"
    raise ValueFault(f"{wanted.name}={text} is not known", fatal=True, hint=hint)


def _numbers(text: str, wanted: Key) -> tuple[tuple[float, ...], bool]:
    """The numbers of a value, and whether something unread is left behind one of them."""
    bare = text.split("#", 1)[0]
    parts = bare.split(",") if wanted.kind.startswith("tuple") else [bare]
    if len(parts) > MAX_LIST:
        raise ValueFault(f"{wanted.name} lists {len(parts)} numbers", fatal=True)
    pattern = _FLOAT if "float" in wanted.kind else _INT
    read: type[float] | type[int] = float if "float" in wanted.kind else int
    values: list[float] = []
    tail = False
    for position, part in enumerate(parts):
        match = pattern.match(part)
        if match is None and not part and position == len(parts) - 1 and position:
            values.append(read(0))  # a comma at the end makes one more element, 0
            continue
        if match is None:
            raise ValueFault(f"{wanted.name}={text} is no number; darknet would take 0", fatal=True)
        digits = match.group()
        # more digits than any number needs: refused before int() spends quadratic time on them
        value = read(digits) if len(digits) < 64 else math.inf
        if not math.isfinite(value) or (read is int and abs(value) > MAX_INT):
            raise ValueFault(f"{wanted.name}={text[:40]} is too large a number", fatal=True)
        tail |= match.end() != len(part)
        values.append(value)
    return tuple(values), tail
