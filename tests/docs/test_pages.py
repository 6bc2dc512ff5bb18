"""The documentation: its links lead somewhere, its code blocks work, its generated pages are up to date."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from darkpy.__main__ import main
from darkpy.config.net import NetSpec
from darkpy.config.schema import keys_of
from darkpy.layers.base import SECTION_SPECS
from tools.make_docs import pages

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
]
BLOCK = re.compile(r"(?P<before>[^\n]*\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Code blocks of a language with their page and line; those marked `<!-- not run: reason -->` are left out."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match["language"] == language and not (match["before"] or "").startswith("<!-- not run:"):
                yield f"{name(page)}:{text[: match.start('code')].count(chr(10)) + 1}", match["code"]


def commands() -> Iterator[tuple[str, str]]:
    for place, code in blocks("sh"):
        for line in code.replace("\\\n", " ").splitlines():
            yield place, line


def slug(heading: str) -> str:
    """Anchor of a heading, as Markdown renderers make it."""
    words = re.sub(r"[^\w\s-]", "", heading.strip().lower())
    return re.sub(r"[\s]+", "-", words)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


@pytest.mark.parametrize(("place", "line"), [
    pytest.param(place, line, id=f"{place} {line[:60]}")
    for place, line in commands() if re.match(r"(darkpy|darknet) ", line)
])  # fmt: skip
def test_command_lines_are_accepted(place: str, line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(click.Command, "invoke", lambda self, context: 0)  # parse all, run nothing
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(line, comments=True)[1:]) == 0


@pytest.mark.parametrize(("place", "line"), [
    pytest.param(place, line, id=f"{place} {line[:60]}") for place, line in commands() if " tools/" in line
])  # fmt: skip
def test_tools_that_are_named_exist(place: str, line: str) -> None:
    for file in re.findall(r"tools/[\w./]+", line):
        assert (ROOT / file).exists()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`([\w]+/[\w/]+\.py)`", page.read_text(encoding="utf-8"))
    places = (ROOT, ROOT / "darkpy", ROOT / "darkpy/config", ROOT / "darkpy/inference")
    assert [file for file in named if not any((place / file).exists() for place in places)] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory as the pages assume it: cfg/, tools/, weights/, a small data set."""
    folder = tmp_path_factory.mktemp("docs")
    for part in ("cfg", "tools", "weights"):
        (folder / part).symlink_to(ROOT / part)
    assert main(["sample", str(folder / "shapes"), "--images", "32", "--valid", "8"]) == 0
    cfg = (folder / "shapes/sample.cfg").read_text()
    (folder / "shapes/sample.cfg").write_text(re.sub(r"max_batches=\d+", "max_batches=4", cfg))
    for suffix in ("weights", "cfg", "names"):
        shutil.copy(ROOT / f"weights/sample.{suffix}", folder)
    return folder


@pytest.mark.parametrize(("place", "code"), [
    pytest.param(place, code, id=place) for place, code in blocks("python")
])  # fmt: skip
def test_python_blocks_run(place: str, code: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("example", sorted((ROOT / "docs/examples").glob("*.py")), ids=name)
def test_examples_run(example: Path, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(example)], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_generated_pages_are_up_to_date() -> None:
    assert [name(path) for path, text in pages().items() if path.read_text(encoding="utf-8") != text] == []


def test_every_section_and_key_is_in_the_cfg_reference() -> None:
    text = (ROOT / "docs/reference/cfg.md").read_text(encoding="utf-8")
    for spec in {NetSpec, *SECTION_SPECS.values()}:
        assert all(f"| `{key}` |" in text for key in keys_of(spec))
    assert all(f"[{section}]" in text for section in SECTION_SPECS)


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900
