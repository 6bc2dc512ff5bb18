"""Mutations of files: of any bytes, of the words of a text, of the values of JSON."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

NUMBERS = (
    *("0", "-0", "1", "-1", "2", "7", "255", "65536", "1e9", "-1e9", "2147483647", "2147483648", "-2147483649"),
    *("9999999999", "18446744073709551616", "9" * 400, "9" * 5000, "1e308", "1e999", "-1e999", "1e-320"),
    *("nan", "inf", "-inf", "0x10", "1_000", "1.5", "-0.5", ".", "-", "+5", "", "1,2", "٣", "½", "1e", "NaN"),
)
WORDS = (
    *("\x1b[31mred", "\x1b]0;title\x07", "\u202ereversed", "\x7f", "\x00", "a" * 300, "\x85", "\u2028", "é", "日本"),
    *(
        "..",
        "/",
        "../../outside",
        "/dev/zero",
        "/dev/stdin",
        ".",
        "~",
        "#",
        "=",
        "[",
        "]",
        "-",
        "<script>",
        "%s%n",
        "|",
    ),
    *("\r", "\t", "\\", "C:\\x", "\ufeff", '"', "'", ";", "{", "}", "null", "True"),
)
BLOBS = (
    *(b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0" * 8, b"\xff" * 8, b"\xed\xa0\x80", b"\xff\xfe", b"\xc3"),
    *(b"\0", b"\n", b"\r", b"PK\x03\x04", b"\x1f\x8b\x08\0", b"<html>", b"\xef\xbb\xbf", b"\x80\x02", b"\0\0\xc0\x7f"),
)
DEPTHS = (3, 200, 5_000, 100_000)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, -1.5, 1e308, float("nan")),
    *(
        float("inf"),
        "",
        "x",
        "\ud800",
        "\x1b[31m",
        "\u202e",
        "9" * 400,
        "nan",
        "a" * 2000,
        [],
        {},
        [[]],
        [None],
        [0] * 5,
    ),
    *({"a": 1}, "../../outside", ".", "/", "\n", "a\0b", [1e400], {"id": {}}),
)
_TOKEN = re.compile(r"[\w.+-]+|\s+|.", re.DOTALL)
_NUMBER = re.compile(r"[+-]?[\d.]+(?:e[+-]?\d+)?", re.IGNORECASE)


def mutate(rng: random.Random, data: bytes, others: Sequence[bytes], kind: str) -> bytes:
    """Return a file after a few accidents.

    others: files of the same kind, to splice with. kind: `bytes`, `text`, `json`, `jsonl` or `npz`; but for the first
    most accidents happen to words, to values or inside the archive.
    """
    if kind == "npz":
        return _mutate_npz(rng, data) if rng.random() < 0.7 else _mutate_bytes(rng, bytearray(data), others)
    if kind == "json" and rng.random() < 0.6:
        value = json.loads(data)
        for _ in range(rng.randint(1, 3)):
            value = _mutate_json(rng, value)
        return _dump(value)
    if kind == "jsonl" and rng.random() < 0.7:
        lines = data.splitlines()
        for index in rng.sample(range(len(lines)), min(len(lines), rng.randint(1, 4))):
            lines[index] = _dump(_mutate_json(rng, json.loads(lines[index])))
        return b"\n".join(lines) + b"\n"
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if kind != "bytes" and rng.random() < 0.75:
            data = _mutate_text(rng, data.decode("utf-8", "surrogateescape"), others)
        else:
            data = _mutate_bytes(rng, bytearray(data), others)
    return data


def _mutate_bytes(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    end = min(len(data), at + rng.choice((1, 2, 4, 16, 200)))
    match rng.choice(("flip", "byte", "blob", "insert", "cut", "delete", "repeat", "splice", "swap")):
        case "flip" if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case "byte" if at < len(data):
            data[at] = rng.randrange(256)
        case "blob":
            blob = rng.choice(BLOBS)
            data[at : at + len(blob)] = blob
        case "insert":
            data[at:at] = rng.choice((rng.choice(BLOBS), rng.randbytes(rng.randint(1, 30))))
        case "cut":
            del data[at:]
        case "delete":
            del data[at:end]
        case "repeat":
            data[at:at] = data[at:end] * rng.choice((1, 2, 50))
        case "splice":
            other = rng.choice(others)
            data[at:] = other[rng.randint(0, len(other)) :]
        case _:
            data[at:end] = data[at:end][::-1]
    return bytes(data)


def _mutate_text(rng: random.Random, text: str, others: Sequence[bytes]) -> bytes:
    tokens = _TOKEN.findall(text) or [""]
    numbers = [index for index, token in enumerate(tokens) if _NUMBER.fullmatch(token)]
    index = rng.randrange(len(tokens))
    lines = text.split("\n")
    line = rng.randrange(len(lines))
    match rng.choice(("number", "number", "number", "word", "swap", "line", "move", "drop", "splice", "long", "deep")):
        case "number" if numbers:
            tokens[rng.choice(numbers)] = rng.choice(NUMBERS)
        case "word":
            tokens[index] = rng.choice((rng.choice(WORDS), tokens[index] + rng.choice(WORDS)))
        case "swap":
            tokens[index] = rng.choice(tokens)
        case "line":
            return "\n".join([*lines[:line], *[lines[line]] * rng.choice((2, 3, 40)), *lines[line + 1 :]]).encode(
                errors="surrogateescape"
            )
        case "move":
            lines.insert(rng.randrange(len(lines)), lines.pop(line))
            return "\n".join(lines).encode(errors="surrogateescape")
        case "drop":
            del lines[line : line + rng.choice((1, 1, 1, 8))]
            return "\n".join(lines).encode(errors="surrogateescape")
        case "splice":
            other = rng.choice(others).decode("utf-8", "replace").split("\n")
            lines[line:line] = other[rng.randrange(len(other)) :]
            return "\n".join(lines).encode(errors="surrogateescape")
        case "long" if rng.random() < 0.2:
            tokens[index] = tokens[index] * 3000
        case "deep" if rng.random() < 0.2:
            tokens[index] = rng.choice("[{<(") * rng.choice(DEPTHS)
        case _:
            tokens[index] = rng.choice(NUMBERS)
    return "".join(tokens).encode(errors="surrogateescape")


def _mutate_npz(rng: random.Random, data: bytes) -> bytes:
    """Return an archive with an accident inside a member, and the checksum of what is there."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    name = rng.choice(["about.npy"] * 9 + list(members)) if "about.npy" in members else rng.choice(list(members))
    member = members[name]
    header_end = 10 + int.from_bytes(member[8:10], "little")
    match rng.choice(("header", "header", "body", "all", "drop", "rename")):
        case "body" | "all" if name == "about.npy":
            text = _dump(_mutate_json(rng, json.loads(str(np.load(io.BytesIO(member))))))
            stream = io.BytesIO()
            np.save(stream, np.array(text.decode(errors="surrogateescape")))
            members[name] = stream.getvalue()
        case "header":
            header = _mutate_text(rng, member[10:header_end].decode("latin-1"), [b"{'descr': '|O8'}"])
            length = min(len(header), 65535) if rng.random() < 0.8 else rng.randrange(65536)
            members[name] = member[:8] + length.to_bytes(2, "little") + header + member[header_end:]
        case "body":
            members[name] = member[:header_end] + _mutate_bytes(rng, bytearray(member[header_end:]), [member])
        case "drop":
            del members[name]
        case "rename":
            members[rng.choice((*members, "layer99999999.npy", "../x.npy", "x", "\x1b[31m.npy"))] = members.pop(name)
        case _:
            members[name] = _mutate_bytes(rng, bytearray(member), [member])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED,))) as archive:
        for filename, content in members.items():
            archive.writestr(filename, content)
    return stream.getvalue()


class _Raw(str):
    """Text that stands in JSON as it is."""

    __slots__ = ()


def _mutate_json(rng: random.Random, value: Any) -> Any:
    """Return a JSON value after an accident somewhere inside it."""
    root = [value]
    holder: Any = root
    key: Any = 0
    while isinstance(inner := holder[key], dict | list) and inner and rng.random() < 0.85:
        holder, key = inner, rng.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
    match rng.choice(("value", "value", "value", "delete", "repeat", "rename", "deep")):
        case "delete" if holder is not root:
            del holder[key]
        case "rename" if isinstance(holder, dict):
            holder[rng.choice(("id", "x", "\x1b[0m", "name", ""))] = holder.pop(key)
        case "repeat" if isinstance(holder, list) and holder is not root:
            holder.insert(0, holder[key])
        case "deep" if rng.random() < 0.2:
            opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
            depth = rng.choice(DEPTHS)
            holder[key] = _Raw(opening * depth + "1" + closing * depth)
        case _:
            holder[key] = deepcopy(rng.choice(VALUES))  # a shared one would come to contain itself
    return root[0]


def _dump(value: Any) -> bytes:
    """JSON with the raw texts in it, among them nesting that json.dumps could not write."""
    raw: list[str] = []

    def mark(inner: Any) -> Any:
        if isinstance(inner, _Raw):
            raw.append(str(inner))
            return f"\0raw{len(raw) - 1}\0"
        if isinstance(inner, dict):
            return {key: mark(part) for key, part in inner.items()}
        return [mark(part) for part in inner] if isinstance(inner, list) else inner

    text = json.dumps(mark(value))
    for index, part in enumerate(raw):
        text = text.replace(json.dumps(f"\0raw{index}\0"), part)
    return text.encode(errors="surrogatepass")
