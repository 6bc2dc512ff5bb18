"""The networks in cfg/ say what the originals say.

tests/golden/zoo.json holds, for each network, a fingerprint of the original as darknet reads it: pjreddie/darknet
f6afaab or AlexeyAB/darknet 59596d7, whichever the entry names.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CFG = ROOT / "cfg"
ZOO = ROOT.parent / "shared" / "zoo"
ORIGINALS: dict[str, dict[str, Any]] = json.loads((ROOT / "tests/golden/zoo.json").read_text())

needs_zoo = pytest.mark.skipif(not ZOO.is_dir(), reason="the original files do not lie beside this checkout")

Sections = list[tuple[str, list[tuple[str, str | None]]]]


def read_as_darknet(path: Path) -> Sections:
    """Sections and keys as darknet sees them: no blanks, no comments, the first of equal keys counts."""
    sections: list[tuple[str, dict[str, str | None]]] = []
    for raw in path.read_text(encoding="latin-1").split("\n"):
        line = "".join(raw.split())
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            sections.append((line, {}))
            continue
        key, equals, value = line.partition("=")
        if value or not equals:
            sections[-1][1].setdefault(key, value if equals else None)
    return [(section, sorted(keys.items())) for section, keys in sections]


def fingerprint(sections: Sections) -> str:
    return hashlib.sha256(json.dumps(sections, separators=(",", ":")).encode()).hexdigest()


def make_cfgs(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.make_cfgs", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ORIGINALS)
def test_network_equals_the_fingerprint_of_its_original(name: str) -> None:
    sections = read_as_darknet(CFG / f"{name}.cfg")
    assert len(sections) == ORIGINALS[name]["sections"]
    assert fingerprint(sections) == ORIGINALS[name]["sha256"]


@needs_zoo
@pytest.mark.parametrize("name", ORIGINALS)
def test_network_equals_its_original_key_by_key(name: str) -> None:
    original = read_as_darknet(ZOO / ORIGINALS[name]["fork"] / f"{name}.cfg")
    assert read_as_darknet(CFG / f"{name}.cfg") == original
    assert fingerprint(original) == ORIGINALS[name]["sha256"]


@pytest.mark.parametrize("name", ORIGINALS)
def test_network_text_reads_the_same_for_strict_parsers(name: str) -> None:
    """No key twice, no comment behind a value, one blank line between sections."""
    text = (CFG / f"{name}.cfg").read_text(encoding="ascii")
    assert text.startswith("# ") and text.endswith("\n") and "\n\n\n" not in text and "\r" not in text
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        keys = [line.partition("=")[0] for line in lines if not line.startswith("[")]
        assert len(keys) == len(set(keys))
        assert not any("#" in line or ";" in line or line != line.strip() for line in lines)
        assert sum(line.startswith("[") for line in lines) <= 1


def test_every_network_in_the_folder_has_a_fingerprint() -> None:
    assert {path.stem for path in CFG.glob("*.cfg")} == set(ORIGINALS)


@pytest.mark.parametrize(("name", "count", "first", "last"), [
    ("coco", 80, "person", "toothbrush"),
    ("voc", 20, "aeroplane", "tvmonitor"),
])  # fmt: skip
def test_data_file_names_as_many_classes_as_it_declares(name: str, count: int, first: str, last: str) -> None:
    lines = (CFG / f"{name}.data").read_text().splitlines()
    options = dict(line.split("=") for line in lines if line and not line.startswith("#"))
    names = (ROOT / options["names"]).read_text().splitlines()
    assert int(options["classes"]) == count == len(names) == len(set(names))
    assert (names[0], names[-1]) == (first, last)
    assert {"train", "valid", "backup"} <= set(options)
    assert not any(Path(value).is_absolute() for value in options.values())


@needs_zoo
def test_coco_names_are_in_the_original_order() -> None:
    assert (CFG / "coco.names").read_text() == (ZOO / "alexeyab/coco.names").read_text()


def test_voc_names_are_in_alphabetical_order_as_their_ids_are() -> None:
    names = (CFG / "voc.names").read_text().splitlines()
    assert names == sorted(names)


def test_folder_is_what_the_generator_writes() -> None:
    run = make_cfgs("--check")
    assert run.returncode == 0, run.stderr


def test_check_fails_and_names_a_file_that_was_edited_or_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "cfg"
    shutil.copytree(CFG, folder)
    edited = folder / "yolov4.cfg"
    edited.write_text(edited.read_text().replace("mosaic=1", "mosaic=0"))
    (folder / "voc.names").unlink()
    check = make_cfgs("--check", str(folder))
    assert check.returncode == 1
    assert "yolov4.cfg" in check.stderr and "voc.names" in check.stderr and "yolov3.cfg" not in check.stderr
    assert "mosaic=0" in edited.read_text(), "a check must not write"

    assert make_cfgs(str(folder)).returncode == 0
    assert make_cfgs("--check", str(folder)).returncode == 0
