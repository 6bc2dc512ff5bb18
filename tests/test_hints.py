"""Every hint can be followed: the commands, options and keys that the package's messages name exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import click
import pytest

import darkpy.layers
from darkpy.cli.app import app
from darkpy.cli.darknet_words import ABSENT_COMMANDS
from darkpy.cli.groups import Group
from darkpy.config.net import NetSpec
from darkpy.config.schema import keys_of
from darkpy.data.lists.text_files import KNOWN_KEYS
from darkpy.layers.base import SECTION_SPECS

PACKAGE = Path(darkpy.layers.__file__).parents[1]
HINT_ARGUMENTS = {"hint", "hints"}
OTHER_KEYS = {
    *("X", "OLD", "drop", "allow_partial", "clear", "keep_images", "outputs", "overwrite", "tiles"),
}
"""Words before `=` in hints that are no key of a file: arguments of Python functions, fields of other files."""
OPTION = re.compile(r"(?<![\w`'-])--?[A-Za-z][\w-]+")
KEY = re.compile(r"(?<![\w-])([A-Za-z_]\w*)=")


class Hint(NamedTuple):
    file: str
    line: int
    text: str


def text_of(node: ast.expr) -> Iterator[str]:
    """Texts of a hint's expression; what is filled in is a letter."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
        yield "".join(map(str, parts))
    elif isinstance(node, ast.Tuple | ast.List):
        for item in node.elts:
            yield from text_of(item)
    elif isinstance(node, ast.BoolOp):
        for item in node.values:
            yield from text_of(item)
    elif isinstance(node, ast.IfExp):
        yield from text_of(node.body)
        yield from text_of(node.orelse)


def hints() -> Iterator[Hint]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            values: list[ast.expr] = []
            line = getattr(node, "lineno", 0)
            if isinstance(node, ast.Call):
                values = [argument.value for argument in node.keywords if argument.arg in HINT_ARGUMENTS]
                if isinstance(node.func, ast.Name) and node.func.id in ("FileKind", "AbsentCommand"):
                    values += node.args[1:]
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                is_hint = isinstance(target, ast.Name) and "hint" in target.id.lower()
                values = [node.value] if is_hint and node.value is not None else []
            for value in values:
                for text in text_of(value):
                    yield Hint(path.relative_to(PACKAGE).as_posix(), line, text)


HINTS = sorted(set(hints()))


def commands(group: Group = app) -> Iterator[click.Command]:
    for listed in group.subcommands.values():
        if isinstance(listed, Group):
            yield from commands(listed)
        else:
            yield listed.load()


@cache
def option_names() -> set[str]:
    names = {
        name.strip("-").replace("_", "-")
        for command in commands()
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    return names | {"help", "version", "nogpu"}


@cache
def keys() -> set[str]:
    specs = [NetSpec, *SECTION_SPECS.values()]
    found = {name for spec in specs for key in keys_of(spec).values() for name in (key.name,)}
    return found | KNOWN_KEYS | OTHER_KEYS


def command_lines(text: str) -> Iterator[list[str]]:
    """Words after `darkpy`, up to the first that belongs to the sentence and not to the command."""
    for start in re.finditer(r"(?<![\w/-])darkpy (?!did |does |writes |reads )(?=[a-z-])", text):
        words: list[str] = []
        group: Group | None = app
        for word in text[start.end() :].split():
            bare = word.rstrip(".,;:)`")
            if isinstance(group, Group) and bare in group.subcommands:
                below = group.subcommands[bare]
                group = below if isinstance(below, Group) else None
            elif not re.fullmatch(r"--?[A-Za-z][\w-]*(=\S+)?|\d+|[A-Z][A-Z_]*(\.\w+)?|\S*[./]\S*|X\S*", bare):
                if isinstance(group, Group):
                    words.append(bare)  # the test reports it
                break
            words.append(bare)
            if bare != word:
                break
        yield words


def test_hints_are_collected() -> None:
    assert len(HINTS) > 150 and any("darkpy" in hint.text for hint in HINTS)


@pytest.mark.parametrize("hint", HINTS, ids=lambda hint: f"{hint.file}:{hint.line}")
def test_commands_options_and_keys_of_a_hint_exist(hint: Hint) -> None:
    for words in command_lines(hint.text):
        check_command(words)
    for option in OPTION.findall(hint.text):
        if not re.search(r"ffmpeg|torchrun|docker|Get-Content", hint.text):
            assert option.strip("-").replace("_", "-") in option_names(), option
    for key in KEY.findall(hint.text):
        assert key in keys(), key


def test_extras_are_in_quotes() -> None:
    """Shells such as zsh take brackets as a pattern of file names, and find none."""
    extras = [hint for hint in HINTS if "darkpy-yolo[" in hint.text]
    assert len(extras) >= 7 and all('pip install "darkpy-yolo[' in hint.text for hint in extras)


def check_command(words: list[str]) -> None:
    command: Group | click.Command = app
    context = click.Context(app, info_name="darkpy", **app.context_settings)
    while isinstance(command, Group) and words and words[0][0] != "-":
        assert words[0] in command.subcommands, words
        listed = command.subcommands[words[0]]
        command = listed if isinstance(listed, Group) else listed.load()
        context = click.Context(command, info_name=words.pop(0), parent=context)
    if isinstance(command, Group) or not words:
        return
    is_number = click.types.IntParamType
    numbers = {parameter.metavar for parameter in command.params if isinstance(parameter.type, is_number)}
    try:
        command.parse_args(context, ["1" if word in numbers or word == "N" else word for word in words])
    except click.exceptions.Exit:  # --help
        pass
    except click.MissingParameter:  # of a command that is only named, with an option
        if any("-" not in (before[:1], word[0]) for before, word in pairwise(["", *words])):
            raise


def test_command_that_does_not_parse_is_found() -> None:
    for line in ("detect CFG --nosuch", "detector tset DATA", "partial CFG", "nosuch"):
        with pytest.raises((AssertionError, darkpy.DarkpyError, click.UsageError)):
            check_command(line.split())


def test_commands_that_darkpy_lacks_have_hints_that_it_has() -> None:
    for absent in ABSENT_COMMANDS.values():
        assert list(command_lines(absent.hint)) or "darkpy.load(" in absent.hint or "image editor" in absent.hint
