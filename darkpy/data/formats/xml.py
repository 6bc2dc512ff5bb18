"""Safe reader of XML from unknown sources: no document types and entities, limited size and depth."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from darkpy.errors import DarkpyError
from darkpy.files import open_regular

MAX_FILE_BYTES = 1 << 22  # an annotation of this size would hold 10,000 objects
MAX_DEPTH = 32


class _UnsafeXml(Exception):
    """XML with something that no annotation contains."""


def read_xml(path: Path) -> ElementTree.Element:
    """Read an XML file. Returns: its root.

    Raises: DarkpyError when it cannot be read, is broken, larger or deeper than annotations are, or declares a
        document type: entities can grow without bound and name other files.
    """
    try:
        with open_regular(path) as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise DarkpyError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise DarkpyError(f"{path}: is larger than any annotation, {MAX_FILE_BYTES >> 20} MB")
    try:
        return _parse(data)
    except expat.ExpatError as error:
        raise DarkpyError(f"{path}:{error.lineno}: is not XML: {expat.ErrorString(error.code)}") from error
    except (_UnsafeXml, ValueError, LookupError) as error:  # the latter two: an unknown encoding
        raise DarkpyError(f"{path}: {error}", hint="an annotation is plain XML without DOCTYPE") from error


def _parse(data: bytes) -> ElementTree.Element:
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise _UnsafeXml(f"its elements lie more than {MAX_DEPTH} deep in each other")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise _UnsafeXml("declares a document type, which may hold entities; these are not read")

    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(data, True)
    return builder.close()
