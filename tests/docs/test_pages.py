"""The documentation: its links lead somewhere, its code blocks work, its generated pages are up to date."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import types
import warnings
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


EXAMPLES = sorted((ROOT / "docs/examples").glob("*.py"))
TRACKER_EXAMPLES = {"mlflow_callback": "mlflow", "wandb_callback": "wandb"}
"""Examples that need a package which the tests do not install, and the package."""


def _signature(*names: str) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind, default=None) for name in names])


SIGNATURES = {
    "mlflow.start_run": _signature("run_id", "experiment_id", "run_name"),
    "mlflow.log_params": _signature("params", "synchronous", "run_id"),
    "mlflow.log_metrics": _signature("metrics", "step", "synchronous", "run_id", "timestamp"),
    "mlflow.log_artifact": _signature("local_path", "artifact_path", "run_id"),
    "mlflow.set_tag": _signature("key", "value", "synchronous"),
    "mlflow.active_run": _signature(),
    "mlflow.end_run": _signature("status"),
    "wandb.init": _signature("entity", "project", "dir", "id", "name", "notes", "tags", "config"),
    "wandb.log": _signature("data", "step", "commit"),
    "wandb.alert": _signature("title", "text", "level"),
    "wandb.save": _signature("glob_str", "base_path", "policy"),
    "wandb.finish": _signature("exit_code", "quiet"),
}


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


@pytest.mark.parametrize("example", [path for path in EXAMPLES if path.stem not in TRACKER_EXAMPLES], ids=name)
def test_examples_run(example: Path, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(example)], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("tracker", TRACKER_EXAMPLES.values())
def test_training_is_recorded_by_a_tracker(tracker: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the signatures of the real package checks each call."""
    calls: list[tuple[str, dict[str, object]]] = []

    class Tracker(types.ModuleType):
        run: object = None

        def __getattr__(self, call: str) -> object:
            if call.startswith("__"):  # inspect asks every module for its file
                raise AttributeError(call)

            def recorded(*values: object, **options: object) -> object:
                bound = SIGNATURES[f"{tracker}.{call}"].bind(*values, **options)
                if call == "active_run":
                    return self.run
                calls.append((call, bound.arguments))
                self.run = self
                return self

            return recorded

    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, tracker, Tracker(tracker))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_path(str(ROOT / f"docs/examples/{tracker}_callback.py"))
    names = [call for call, _ in calls]
    log = "log_metrics" if tracker == "mlflow" else "log"
    assert names[0] == ("start_run" if tracker == "mlflow" else "init") and names.count(log) == 4 + 1  # updates and mAP
    assert [options["step"] for call, options in calls if call == log] == [1, 2, 3, 4, 4]
    assert names[-1] in ("end_run", "finish") and any(call in names for call in ("log_artifact", "save"))


def test_generated_pages_are_up_to_date() -> None:
    assert [name(path) for path, text in pages().items() if path.read_text(encoding="utf-8") != text] == []


def test_every_section_and_key_is_in_the_cfg_reference() -> None:
    text = (ROOT / "docs/reference/cfg.md").read_text(encoding="utf-8")
    for spec in {NetSpec, *SECTION_SPECS.values()}:
        assert all(f"| `{key}` |" in text for key in keys_of(spec))
    assert all(f"[{section}]" in text for section in SECTION_SPECS)


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900
