"""Typed keys: a dataclass field made with `key()` is a cfg key, read with darknet's own rules for numbers and lists.

The field's annotation says how the text is read: `int` (C atoi), `float` (C atof), `bool` (an int that is not 0),
`str`, `Path` (a file, looked for from the working directory, then from the cfg's folder), `tuple[int, ...]`,
`tuple[float, ...]`, and each of them `| None`.
Source: AlexeyAB/darknet src/option_list.c option_find_int and its kind; src/parser.c for lists.
Differs: a value without a number is an error where darknet takes 0; NaN, infinity and overflow are errors; a list
ends at a `#`, as in some of AlexeyAB's lists.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from darkpy.config.text import Entry, FindingCollector, Section, truncate
from darkpy.dialect import Dialect
from darkpy.files import locate

Choices = Callable[[Dialect], Collection[str]]
Spec = TypeVar("Spec")

MAX_INT = 2**31 - 1  # darknet's int
MAX_LIST = 1 << 16  # entries of a list value; the longest in use has some 9,000 (counters_per_class)
MAX_DIGITS = 64  # of one number: int() takes quadratic time
_INT = re.compile(r"[+-]?\d+", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MISSING: Any = dataclasses.MISSING


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """Declaration of a cfg key.

    field: the spec's field that holds its value.
    element: int, float, bool, str or Path; in a tuple where `is_list`.
    The other fields are the arguments of `key`.
    """

    defaults: Mapping[Dialect, Any]
    name: str = ""
    field: str = ""
    element: type = int
    is_list: bool = False
    dialect: Dialect | None = None
    list_dialect: Dialect | None = None
    identifies_dialect: bool = True
    minimum: float | None = None
    choices: Choices | None = None
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extension: bool | Collection[str] = False

    @property
    def is_required(self) -> bool:
        return self.defaults[Dialect.PJREDDIE] is _MISSING

    def readers(self, value: str | None) -> frozenset[Dialect]:
        """The forks that read all of this value."""
        return frozenset(dialect for dialect in Dialect if self._is_read_by(dialect, value or ""))

    def is_extension(self, value: Any) -> bool:
        """Whether no darknet computes what this value asks for."""
        if isinstance(self.extension, bool):
            return self.extension and value not in self.defaults.values()
        return value in self.extension

    def _is_read_by(self, dialect: Dialect, value: str) -> bool:
        if self.dialect not in (None, dialect) or (self.choices and value not in self.choices(dialect)):
            return False
        return self.list_dialect in (None, dialect) or "," not in value


class _ValueFault(Exception):
    """A value that cannot be used, or (with `value`, what darknet makes of it) that is read otherwise than it looks."""

    def __init__(self, message: str, *, value: Any = _MISSING, hint: str | None = None) -> None:
        super().__init__(message)
        self.value, self.hint = value, hint


def key(
    default: Any = _MISSING,
    *,
    alexeyab: Any = _MISSING,
    name: str = "",
    dialect: Dialect | None = None,
    list_dialect: Dialect | None = None,
    identifies_dialect: bool = True,
    minimum: float | None = None,
    choices: Choices | Collection[str] | None = None,
    aliases: Mapping[str, str] | None = None,
    extension: bool | Collection[str] = False,
) -> Any:
    """Declare a cfg key as a dataclass field.

    default: value when the key is absent; without one the key is required.
    alexeyab: its default in AlexeyAB's fork, where that differs.
    name: the key's text where it cannot be the field's name (`from`).
    only: the one fork that reads it.
    list_dialect: of a list, the one fork that reads more than the first number.
    is_telling: whether it tells for whom a cfg was written: not so where files of the other fork hold it, unread.
    minimum: smaller values are an error (sizes and strides, mostly).
    words: the words a `str` key accepts, or a function from dialect to them.
    misread: words outside it that darknet takes for one of them; any other is an error.
    extension: darkpy's own key (or words of a key) without which a network computes something else.
    """
    wanted = Key(
        defaults={Dialect.PJREDDIE: default, Dialect.ALEXEYAB: default if alexeyab is _MISSING else alexeyab},
        name=name,
        dialect=dialect,
        list_dialect=list_dialect,
        identifies_dialect=identifies_dialect,
        minimum=minimum,
        choices=choices if choices is None or callable(choices) else lambda dialect: choices,
        aliases=aliases or {},
        extension=extension,
    )
    if default is _MISSING:
        return dataclasses.field(metadata={"key": wanted})
    return dataclasses.field(default=default, metadata={"key": wanted})


def keys_of(spec: Any) -> Mapping[str, Key]:
    """The keys of a spec class by their cfg names."""
    return _keys_of(spec)


@cache
def _keys_of(spec: Any) -> Mapping[str, Key]:
    hints = get_type_hints(spec)
    found = {}
    for item in dataclasses.fields(spec):
        if "key" in item.metadata:
            declared: Key = item.metadata["key"]
            element, is_list = _kind(hints[item.name])
            name = declared.name or item.name
            found[name] = dataclasses.replace(declared, name=name, field=item.name, element=element, is_list=is_list)
    return found


def extension_entries(spec: Any) -> list[str]:
    """What a section says that no darknet reads and that changes the outputs, as a cfg would say it."""
    found = [(wanted, getattr(spec, wanted.field)) for wanted in keys_of(type(spec)).values()]
    return [f"{wanted.name}={_as_text(value)}" for wanted, value in found if wanted.is_extension(value)]


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_as_text, value))
    return str(value) if isinstance(value, str) else f"{value:g}"


def read_spec(cls: type[Spec], section: Section, dialect: Dialect, findings: FindingCollector) -> Spec | None:
    """The typed keys of a section; None, with the reasons in `findings`, when one of them is unusable."""
    known = keys_of(cls)
    values: dict[str, Any] = {"dialect": dialect}
    for wanted in known.values():
        entry = section.entries.get(wanted.name)
        values[wanted.field] = _read_key(wanted, entry, section, dialect, findings)
    for entry in section.entries.values():
        if entry.key not in known:
            said = f"nothing reads the key {truncate(entry.key)!r}; ignored"
            findings.warn(said, section, line=entry.line, hint=nearest(entry.key, known))
    return None if any(value is _MISSING for value in values.values()) else cls(**values)


def nearest(word: str, known: Collection[str]) -> str | None:
    """A hint for a misspelt word."""
    spelling = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), spelling, n=3, cutoff=0.6) if len(word) <= 40 else []
    return f"did you mean {' or '.join(spelling[name] for name in close)}?" if close else None


def _read_key(wanted: Key, entry: Entry | None, section: Section, dialect: Dialect, findings: FindingCollector) -> Any:
    """The value of one key, _MISSING when there is none to use."""
    default = wanted.defaults[dialect]
    if entry is not None and wanted.dialect not in (None, dialect):
        findings.warn(f"only {wanted.dialect}'s fork reads {entry.key!r}; ignored", section, line=entry.line)
        return default
    if entry is None or entry.value is None:
        if default is _MISSING:
            findings.error(f"has no {wanted.name}=, which it needs", section)
        elif entry is not None:
            findings.warn(f"{entry.key!r} has no '='; darknet takes its default", section, line=entry.line)
        return default
    if wanted.element is Path:
        return locate(Path(entry.value), Path(findings.file).parent)
    try:
        return _convert(entry.value, wanted, dialect)
    except _ValueFault as fault:
        report = findings.error if fault.value is _MISSING else findings.warn
        report(str(fault), section, line=entry.line, hint=fault.hint)
        return fault.value


def _kind(hint: Any) -> tuple[type, bool]:
    """Element type, and whether there is a list of them, of a field's annotation."""
    if isinstance(hint, UnionType):
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    element, is_list = (get_args(hint)[0], True) if get_origin(hint) is tuple else (hint, False)
    if element not in (int, float, bool, str, Path):
        raise TypeError(f"{hint} is no kind of cfg value")
    return element, is_list


def _convert(text: str, wanted: Key, dialect: Dialect) -> Any:
    """Raises: _ValueFault."""
    if wanted.element is str:
        return _word(text, wanted, dialect)
    parts = text.split("#", 1)[0].split(",")
    if len(parts) > MAX_LIST:
        raise _ValueFault(f"{wanted.name} lists {len(parts)} numbers")
    has_list = wanted.is_list and wanted.list_dialect in (None, dialect)
    if has_list and len(parts) > 1 and not parts[-1]:
        parts[-1] = "0"  # what darknet makes of a comma at the end
    numbers = [_number(part, wanted) for part in (parts if has_list else parts[:1])]
    values = tuple(value for value, _ in numbers)
    value = values if wanted.is_list else bool(values[0]) if wanted.element is bool else values[0]
    if len(numbers) < len(parts) or not all(is_whole for _, is_whole in numbers):
        said = ",".join(str(number) for number in values)
        raise _ValueFault(f"of {wanted.name}={truncate(text)} darknet reads only {truncate(said)}", value=value)
    return value


def _number(text: str, wanted: Key) -> tuple[float, bool]:
    """A number, and whether that was all of the text."""
    is_float = wanted.element is float
    match = (_FLOAT if is_float else _INT).match(text)
    if match is None:
        raise _ValueFault(f"{wanted.name}={truncate(text)} is no number; darknet would take 0")
    digits = match.group()
    value: float = math.inf if len(digits) > MAX_DIGITS else float(digits) if is_float else int(digits)
    if not math.isfinite(value) or (not is_float and abs(value) > MAX_INT):
        raise _ValueFault(f"{wanted.name}={truncate(text)} is too large a number")
    if wanted.minimum is not None and value < wanted.minimum:
        raise _ValueFault(f"{wanted.name}={truncate(text)} is below {wanted.minimum:g}")
    return value, match.end() == len(text)


def _word(text: str, wanted: Key, dialect: Dialect) -> str:
    if wanted.choices is None or text in (known := wanted.choices(dialect)):
        return text
    if text in wanted.aliases:
        read = wanted.aliases[text]
        raise _ValueFault(f"darknet does not know {wanted.name}={text} and takes {read}", value=read)
    shown = f"{wanted.name}={truncate(text)}"
    for other in wanted.readers(text):
        raise _ValueFault(f"{shown} is a word of {other}'s fork only", hint=f"use --dialect {other}")
    if text.split("#", 1)[0] in known:
        raise _ValueFault(f"{shown} is not known", hint="a comment needs a line of its own")
    raise _ValueFault(f"{shown} is not known", hint=nearest(text, known) or f"one of {', '.join(sorted(known))}")
