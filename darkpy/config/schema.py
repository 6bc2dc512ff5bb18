"""Typed keys: a dataclass field made with `key()` is a cfg key, parsed by darknet's rules for numbers and lists.

The field's annotation sets the parser: `int` (C atoi), `float` (C atof), `bool` (a nonzero int), `str`, `Path` (a
file, relative to the working directory or else to the cfg's folder), `tuple[int, ...]`, `tuple[float, ...]`, and each
of them `| None`.
Source: AlexeyAB/darknet src/option_list.c option_find_int and its kind; src/parser.c for lists.
Differs: a value that does not start with a number is an error, where darknet takes 0; NaN, infinity and overflow are
errors; a list ends at a `#`, as in some of AlexeyAB's lists.
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

from darkpy.config.text import CFG_FINDING, Entry, FindingCollector, Section, truncate
from darkpy.dialect import Dialect, use_dialect
from darkpy.files import locate
from darkpy.finding import Cause, CfgEdit, Remedy

Choices = Callable[[Dialect], Collection[str]]
Spec = TypeVar("Spec")

MAX_INT = 2**31 - 1  # darknet's int
MAX_LIST = 1 << 16  # entries of a list value; the longest in use has some 9,000 (counters_per_class)
MIN_LIKENESS = 0.7  # difflib's ratio of a misspelled word to a known one; joint and init have 0.67
WORDS_OF_OTHERS = {
    "sigmoid": "logistic",
    "identity": "linear",
    "none": "linear",
    **dict.fromkeys(("batchnorm2d", "bn"), "batchnorm"),
    **dict.fromkeys(("global_avg_pool", "globalavgpool", "gap"), "avgpool"),
    **dict.fromkeys(("dense", "fc", "linear"), "connected"),
    "concat": "route",
    "add": "shortcut",
    "detect": "yolo",
    **dict.fromkeys(("hardswish", "hard_swish", "hswish", "h_swish", "hardsigmoid", "hard_sigmoid"), ""),
}
"""Other programs' words and darknet's equivalents, empty where darknet has none."""
OTHER_DIALECT_FINDING = "other-dialect"  # name of the warnings about keys that only the other dialect reads
MAX_DIGITS = 64  # of one number: the time of int() grows with their square
_INT_PATTERN = re.compile(r"[+-]?\d+", re.ASCII)
_FLOAT_PATTERN = re.compile(r"[+-]?(\d+(?:\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NO_VALUE: Any = dataclasses.MISSING


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
    maximum: float | None = None
    usual: tuple[float, float] | None = None
    choices: Choices | None = None
    fallback: str | None = None
    wraps: bool = False
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extension: bool | Collection[str] = False

    @property
    def is_required(self) -> bool:
        return self.defaults[Dialect.PJREDDIE] is _NO_VALUE

    def readers(self, value: str | None) -> frozenset[Dialect]:
        """Return the dialects that read the whole value."""
        value = self.aliases.get(value or "", value or "")
        return frozenset(
            dialect
            for dialect in Dialect
            if self.dialect in (None, dialect)
            and (self.choices is None or value in self.choices(dialect))
            and (self.list_dialect in (None, dialect) or "," not in value)
        )

    def is_extension(self, value: Any) -> bool:
        """True if darknet does not compute what this value requests."""
        if isinstance(self.extension, bool):
            return self.extension and value not in self.defaults.values()
        return value in self.extension


class _ValueProblem(Exception):
    """A value that cannot be used, or, with `value`, one that darknet reads as something else."""

    def __init__(
        self, message: str, *, value: Any = _NO_VALUE, hint: str | None = None, name: str = CFG_FINDING
    ) -> None:
        super().__init__(message)
        self.value, self.hint, self.name = value, hint, name


def key(
    default: Any = _NO_VALUE,
    *,
    alexeyab: Any = _NO_VALUE,
    name: str = "",
    dialect: Dialect | None = None,
    list_dialect: Dialect | None = None,
    identifies_dialect: bool = True,
    minimum: float | None = None,
    maximum: float | None = None,
    usual: tuple[float, float] | None = None,
    choices: Choices | Collection[str] | None = None,
    fallback: str | None = None,
    wraps: bool = False,
    aliases: Mapping[str, str] | None = None,
    extension: bool | Collection[str] = False,
) -> Any:
    """Declare a cfg key as a dataclass field.

    default: value when the key is absent; without one the key is required.
    alexeyab: default in the AlexeyAB dialect, where it differs.
    name: the key's name in the cfg where it cannot be the field's name (`from`).
    dialect: the only dialect that reads the key.
    list_dialect: the only dialect that reads more than the first number of a list.
    identifies_dialect: a cfg with the key is probably of that dialect; False for keys that files of the other dialect
        contain too, unread.
    minimum, maximum: values beyond them are an error: nothing can be computed with them.
    usual: the smallest and the largest value that makes sense; others, which darknet runs too, are read with a warning.
    choices: the words that a `str` key accepts, or a function from dialect to them.
    aliases: other words for one of the choices, read with a warning.
    fallback: the choice that darknet uses for any further word, with a warning; without it such a word is an error.
    wraps: an int beyond 32 bits is read modulo 2^32 with a warning, as C does; without it such a number is an error.
    extension: the key (or these of its choices) is darkpy's own and changes the network's outputs.
    """
    declaration = Key(
        defaults={Dialect.PJREDDIE: default, Dialect.ALEXEYAB: default if alexeyab is _NO_VALUE else alexeyab},
        name=name,
        dialect=dialect,
        list_dialect=list_dialect,
        identifies_dialect=identifies_dialect,
        minimum=minimum,
        maximum=maximum,
        usual=usual,
        choices=choices if choices is None or callable(choices) else lambda dialect: choices,
        fallback=fallback,
        wraps=wraps,
        aliases=aliases or {},
        extension=extension,
    )
    if default is _NO_VALUE:
        return dataclasses.field(metadata={"key": declaration})
    return dataclasses.field(default=default, metadata={"key": declaration})


def keys_of(spec: Any) -> Mapping[str, Key]:
    """Return the keys of a spec class by their cfg names."""
    return _keys_of(spec)


@cache
def _keys_of(spec: Any) -> Mapping[str, Key]:
    hints = get_type_hints(spec)
    keys = {}
    for item in dataclasses.fields(spec):
        if "key" in item.metadata:
            declared: Key = item.metadata["key"]
            element, is_list = _value_type(hints[item.name])
            name = declared.name or item.name
            keys[name] = dataclasses.replace(declared, name=name, field=item.name, element=element, is_list=is_list)
    return keys


def extension_entries(spec: Any) -> list[str]:
    """List the `key=value` entries of a section that darknet does not read and that change its outputs."""
    values = [(declaration, getattr(spec, declaration.field)) for declaration in keys_of(type(spec)).values()]
    return [f"{declaration.name}={_as_text(value)}" for declaration, value in values if declaration.is_extension(value)]


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_as_text, value))
    return str(value) if isinstance(value, str) else f"{value:g}"


def read_spec(cls: type[Spec], section: Section, dialect: Dialect, findings: FindingCollector) -> Spec | None:
    """Parse the keys of a section. Returns: the spec, or None with the reasons in `findings` if a key is unusable."""
    known = keys_of(cls)
    values: dict[str, Any] = {"dialect": dialect}
    for declaration in known.values():
        entry = section.entries.get(declaration.name)
        values[declaration.field] = _read_key(declaration, entry, section, dialect, findings)
    for entry in section.entries.values():
        if entry.key not in known:
            message = f"unknown key {truncate(entry.key)!r} is ignored"
            findings.warn(message, section, line=entry.line, hint=nearest(entry.key, known))
    return None if any(value is _NO_VALUE for value in values.values()) else cls(**values)


def nearest(word: str, known: Collection[str]) -> str | None:
    """Build the hint for a misspelled word: similar known ones, None without any."""
    meaning = WORDS_OF_OTHERS.get(word.lower())
    if meaning is not None:
        return f"did you mean {meaning}?" if meaning in known else None
    spelling = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), spelling, n=3, cutoff=MIN_LIKENESS) if len(word) <= 40 else []
    return f"did you mean {' or '.join(spelling[name] for name in close)}?" if close else None


def _read_key(
    declaration: Key, entry: Entry | None, section: Section, dialect: Dialect, findings: FindingCollector
) -> Any:
    """Return the value of one key, _NO_VALUE if it is unusable."""
    default = declaration.defaults[dialect]
    if entry is not None and declaration.dialect not in (None, dialect):
        message = f"key {entry.key!r} is ignored: only dialect {declaration.dialect} reads it"
        findings.warn(message, section, line=entry.line, name=OTHER_DIALECT_FINDING)
        return default
    if entry is None or entry.value is None:
        if default is _NO_VALUE:
            findings.error(f"has no {declaration.name}=, which is required", section)
        elif entry is not None:
            findings.warn(f"{entry.key!r} has no '=': darknet uses its default", section, line=entry.line)
        return default
    if declaration.element is Path:
        return locate(Path(entry.value), Path(findings.file).parent)
    try:
        value = _convert(entry.value, declaration, dialect)
    except _ValueProblem as problem:
        if problem.value is _NO_VALUE:
            findings.error(str(problem), section, line=entry.line, hint=problem.hint)
            return problem.value
        findings.warn(str(problem), section, line=entry.line, hint=problem.hint)
        value = problem.value
    _check_usual(value, default, declaration, entry, section, findings)
    return value


def _check_usual(
    value: Any, default: Any, declaration: Key, entry: Entry, section: Section, findings: FindingCollector
) -> None:
    """Report a number outside the usual range of its key; the remedy is the default, or the nearest usual value."""
    if declaration.usual is None:
        return
    low, high = declaration.usual
    numbers = value if isinstance(value, tuple) else (value,)
    outside = next((number for number in numbers if not low <= number <= high), None)
    if outside is None:
        return
    bounds = f"at least {low:g}" if high >= MAX_INT else f"{low:g} to {high:g}"
    subject, remedy, hint = f"{entry.key}= has {outside:g}, which", None, f"values of {bounds}"
    if not declaration.is_list:
        is_default_usual = isinstance(default, int | float) and low <= default <= high
        better = default if is_default_usual else min(max(outside, low), high)
        edit = CfgEdit(entry.key, f"{better:g}", section.index if section.index >= 0 else None)
        subject, remedy, hint = f"{entry.key}={outside:g}", Remedy(edits=(edit,)), ""
    findings.warn(
        f"{subject} is not a usual value: {bounds}",
        section,
        line=entry.line,
        hint=hint,
        name=f"{entry.key}-range",
        cause=Cause.RATES if section.index < 0 else Cause.OPERATIONS,
        remedy=remedy,
    )


def _value_type(hint: Any) -> tuple[type, bool]:
    """Parse a field's annotation. Returns: the element type, and True for a list."""
    if isinstance(hint, UnionType):
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    element, is_list = (get_args(hint)[0], True) if get_origin(hint) is tuple else (hint, False)
    if element not in (int, float, bool, str, Path):
        raise TypeError(f"{hint} is not a type of cfg values")
    return element, is_list


def _convert(text: str, declaration: Key, dialect: Dialect) -> Any:
    """Parse a value. Raises: _ValueProblem."""
    name = declaration.name
    if declaration.element is str:
        return _choice(text, declaration, dialect)
    parts = text.split("#", 1)[0].split(",")
    if len(parts) > MAX_LIST:
        raise _ValueProblem(f"{name} lists {len(parts)} numbers, the limit is {MAX_LIST}")
    reads_list = declaration.is_list and declaration.list_dialect in (None, dialect)
    has_gap = reads_list and len(parts) > 1 and "" in parts[:-1]
    if reads_list and len(parts) > 1:
        parts = [part or "0" for part in parts]  # C's atoi and atof of an empty entry, also behind a trailing comma
    numbers = [_number(part, declaration) for part in (parts if reads_list else parts[:1])]
    values = tuple(value for value, _ in numbers)
    value = values if declaration.is_list else bool(values[0]) if declaration.element is bool else values[0]
    if len(numbers) < len(parts) or not all(is_whole for _, is_whole in numbers):
        used = ",".join(str(number) for number in values)
        raise _ValueProblem(f"of {name}={truncate(text)} darknet reads only {truncate(used)}", value=value)
    if has_gap:
        raise _ValueProblem(f"{name}={truncate(text)} has an empty entry, which darknet reads as 0", value=value)
    return value


def _number(text: str, declaration: Key) -> tuple[float, bool]:
    """Parse the number that a text starts with. Returns: the number, and True if it is the whole text."""
    entry = f"{declaration.name}={truncate(text)}"
    is_float = declaration.element is float
    match = (_FLOAT_PATTERN if is_float else _INT_PATTERN).match(text)
    if match is None:
        raise _ValueProblem(f"{entry} is not a number; darknet would use 0")
    digits = match.group()
    value: float = math.inf if len(digits) > MAX_DIGITS else float(digits) if is_float else int(digits)
    if declaration.wraps and MAX_INT < abs(value) < 2**63:  # strtol has 64 bits; its result is cast to an int
        return (int(value) + 2**31) % 2**32 - 2**31, False
    if not math.isfinite(value) or (not is_float and abs(value) > MAX_INT):
        raise _ValueProblem(f"{entry} is too large")
    if declaration.minimum is not None and value < declaration.minimum:
        raise _ValueProblem(f"{entry} is below {declaration.minimum:g}")
    if declaration.maximum is not None and value > declaration.maximum:
        raise _ValueProblem(f"{entry} is above {declaration.maximum:g}")
    return value, match.end() == len(text)


def _choice(text: str, declaration: Key, dialect: Dialect) -> str:
    if declaration.choices is None or text in (known := declaration.choices(dialect)):
        return text
    entry = f"{declaration.name}={truncate(text)}"
    word, comment, _ = text.partition("#")
    value = word if word in known else declaration.aliases.get(word)
    if value in known:
        hint = "put the comment on a line of its own: only darknet V5 reads one behind a value" if comment else None
        raise _ValueProblem(f"{entry} is read as {value}", value=value, hint=hint)
    for other in declaration.readers(word):
        raise _ValueProblem(f"{entry} is only known in dialect {other}", hint=use_dialect(other))
    meaning = declaration.aliases.get(text.lower())
    hint = f"did you mean {meaning}?" if meaning else nearest(text, known)
    if declaration.fallback in known:
        value = declaration.fallback
        raise _ValueProblem(f"{entry} is not known: darknet uses {value}", value=value, hint=hint)
    raise _ValueProblem(f"{entry} is not known", hint=hint or f"one of {', '.join(sorted(known))}")
