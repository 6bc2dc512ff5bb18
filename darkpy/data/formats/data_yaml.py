"""Reader of ultralytics' data.yaml: its keys that describe a data set, in the part of YAML that such files use."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from darkpy.data.formats.annotations import ImportReport
from darkpy.data.lists.text_files import read_lines

SPLIT_KEYS = ("train", "val", "test")
_YAML_HINT = "a data.yaml has train: and val: with folders or lists of images, and names: with the classes"
SUPPORTED_HINT = "write a text on one line, a list as [a, b] or lines `- a`, a mapping as {0: a} or lines `0: a`"
_QUOTED_PATTERN = r"""(?<![^\s,\[{:])(?:'(?:[^']|'')*'|"(?:[^"\\]|\\.)*")"""
_WITHOUT_COMMENT = re.compile(rf"(?:{_QUOTED_PATTERN}|(?<=\S)#|[^#])*")
_FLOW_TOKEN = re.compile(rf"{_QUOTED_PATTERN}|[^,\[\]{{}}'\"]+|.")
_TOP_LEVEL_KEY = re.compile(r"""(['"]?)([\w.-]+)\1\s*:(?:\s+|$)(.*)""")
_UNSUPPORTED_STARTS = tuple("&*!|>%@`[]{}")


@dataclass(frozen=True, slots=True)
class DataYaml:
    """Content of a data.yaml.

    root: `path`, empty if it is not given. splits: paths of the images of each split, as written.
    names: classes in order; their numbers where only `nc` is given; empty for neither.
    has_key_points: `kpt_shape` is given, and labels continue with key points behind the box.
    """

    root: str
    splits: Mapping[str, Sequence[str]]
    names: tuple[str, ...]
    has_key_points: bool


_YamlValue = str | list[str] | dict[str, str]
_Item = tuple[int, str]
"""Number of a line of the file, and a text on it."""


@dataclass(slots=True)
class _YamlBlock:
    """Top-level key of a file, the text behind it, and the lines below it. number: its line in the file.

    Errors are added to `faults`; the rest of the value is still read.
    """

    path: Path
    number: int
    key: str
    text: str
    faults: list[str]
    lines: list[_Item] = field(default_factory=list)

    def fault(self, problem: str, number: int | None = None) -> None:
        """Add a fault. number: its line, by default that of the key."""
        self.faults.append(f"{self.path}:{number or self.number}: {self.key}: {problem}")

    def value(self) -> _YamlValue:
        """Parse a text, list or mapping of texts."""
        text, lines = self.text, self.lines
        if text[:1] in ("[", "{"):
            items = self.flow_items()
            is_list = text[0] == "["
        elif text:
            if lines:
                self.fault("continues below", lines[0][0])
            return self.scalar(self.number, text)
        else:
            indents = {line[: len(line) - len(line.lstrip())] for _, line in lines}
            items = [(number, line.strip()) for number, line in lines]
            is_list = all(item == "-" or item.startswith("- ") for _, item in items)
            if len(indents) > 1 or "\t" in "".join(indents):
                self.fault("its lines are nested, or indented differently")
                return ""
            if not items:
                return ""
            if is_list:
                items = [(number, item[1:].strip()) for number, item in items]
        if is_list:
            return [self.scalar(number, item) for number, item in items]
        mapping: dict[str, str] = {}
        for number, item in items:
            if (pair := self.pair(number, item)) is None:
                continue
            if pair[0] in mapping:
                self.fault(f"has {pair[0][:40]!r} twice", number)
            mapping.setdefault(*pair)
        return mapping

    def flow_items(self) -> list[_Item]:
        """Split `[a, b]` or `{0: a, 1: b}` at its commas."""
        text = " ".join([self.text, *(line for _, line in self.lines)]).strip()
        if len(text) < 2 or text[-1] != {"[": "]", "{": "}"}[text[0]]:
            self.fault(f"{text[0]} is not closed")
            return []
        items: list[list[str]] = [[]]
        for token in _FLOW_TOKEN.findall(text[1:-1]):
            if token == ",":
                items.append([])
            elif token in ("[", "]", "{", "}"):
                self.fault("has brackets within brackets")
                return []
            else:
                items[-1].append(token)
        texts = ["".join(tokens).strip() for tokens in items]
        return [(self.number, text) for text in (texts if texts[-1] else texts[:-1])]  # a comma may stand at the end

    def pair(self, number: int, item: str) -> tuple[str, str] | None:
        """Split `key: value`, the key of which may be quoted."""
        quoted = re.match(_QUOTED_PATTERN, item)
        end = quoted.end() if quoted else max(item.find(":"), 0)
        rest = item[end:].lstrip()
        if rest[:1] != ":" or (len(rest) > 1 and not rest[1].isspace()):
            self.fault(f"{item[:40]!r} is neither `- value` nor `key: value`", number)
            return None
        return self.scalar(number, item[:end].strip()), self.scalar(number, rest[1:].strip())

    def scalar(self, number: int, text: str) -> str:
        """Parse a plain or quoted text; null is empty, and so is one with a fault."""
        if text[:1] in ("'", '"'):
            if re.fullmatch(_QUOTED_PATTERN, text) is None:
                self.fault(f"{text[:40]!r} is not one quoted text", number)
                return ""
            if text[0] == "'":
                return text[1:-1].replace("''", "'")
            try:
                return str(json.loads(text))
            except ValueError:
                self.fault(f"{text[:40]!r} has an escape that is not read", number)
                return ""
        if text.startswith(_UNSUPPORTED_STARTS):
            self.fault(f"{text[:40]!r} uses more of YAML than is read", number)
            return ""
        return "" if text in ("~", "null", "Null", "NULL") else text

    def names(self) -> tuple[str, ...]:
        """Parse the classes, in order, from a list or from a mapping of their numbers."""
        known_faults = len(self.faults)
        value = self.value()
        is_sound = len(self.faults) == known_faults
        if isinstance(value, str):
            if value:
                self.fault("is neither a list nor a mapping")
            return ()
        if isinstance(value, dict):
            if not all(re.fullmatch(r"\d{1,7}", key, re.ASCII) for key in value):
                self.fault("the keys of its mapping are not the numbers of classes")
                return ()
            by_number = {int(key): name for key, name in value.items()}
            missing = next((class_id for class_id in range(len(by_number)) if class_id not in by_number), None)
            if missing is not None and is_sound:
                self.fault(f"has no class {missing}, and one with a higher number")
            value = [by_number[class_id] for class_id in sorted(by_number)]
        names = tuple(name.strip() for name in value)
        known: set[str] = set()
        for class_id, name in enumerate(names):
            if (not name and is_sound) or not name.isprintable():
                self.fault(f"class {class_id} has no name that a line can hold")
            elif name and name in known:
                self.fault(f"two classes are {name!r}")
            known.add(name)
        return names


def read_data_yaml(path: Path, report: ImportReport) -> DataYaml:
    """Read a data.yaml; keys that do not describe the data set are skipped.

    More of YAML than data sets need, and contradictions, are faults; the rest is still read.
    Raises: DarkpyError when the file cannot be read.
    """
    blocks = _read_blocks(path, report.faults)
    names = blocks["names"].names() if "names" in blocks else ()
    texts: dict[str, str] = {}
    for key in ("path", "nc"):
        value = blocks[key].value() if key in blocks else ""
        if not isinstance(value, str):
            blocks[key].fault("is not a single text")
        texts[key] = value if isinstance(value, str) else ""
    splits: dict[str, list[str]] = {}
    for key in SPLIT_KEYS:
        value = blocks[key].value() if key in blocks else ""
        if isinstance(value, dict):
            blocks[key].fault("is not a path or a list of paths")
        elif value:
            splits[key] = [value] if isinstance(value, str) else list(filter(None, value))
    if count := texts["nc"]:
        if not re.fullmatch(r"[1-9]\d{0,6}", count, re.ASCII):
            blocks["nc"].fault(f"{count[:20]!r} is not a number of classes")
        elif not names:
            names = tuple(map(str, range(int(count))))
        elif int(count) != len(names):
            blocks["nc"].fault(f"is {count}, and names: has {len(names)} classes")
    return DataYaml(texts["path"], splits, names, "kpt_shape" in blocks)


def _read_blocks(path: Path, faults: list[str]) -> dict[str, _YamlBlock]:
    """Divide the file into its top-level keys, without comments and blank lines."""
    blocks: dict[str, _YamlBlock] = {}
    current: _YamlBlock | None = None
    for number, line in enumerate(read_lines(path, hint=_YAML_HINT), start=1):
        match = _WITHOUT_COMMENT.match(line)
        text = match[0].rstrip() if match else ""
        if not text or text in ("---", "...") or (text[0] == "%" and current is None):
            continue
        if text[0] in " \t-]}" and current is not None:
            current.lines.append((number, text))
            continue
        key = _TOP_LEVEL_KEY.fullmatch(text)
        if key is None:
            faults.append(f"{path}:{number}: {text[:40]!r} is not `key: value`")
            continue
        current = _YamlBlock(path, number, key[2], key[3].strip(), faults)
        if key[2] in blocks:
            current.fault(f"was given before, on line {blocks[key[2]].number}")
        else:
            blocks[key[2]] = current
    return blocks
