"""A command passes through few files, so that its code path is easy to follow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[2]
COUNT = """
import json, sys, threading
entered, imports = set(), threading.local()

def profile(frame, event, argument):
    code = frame.f_code
    if event not in ("call", "return"):
        return
    if code.co_name == "<module>":  # importing a module runs its decorators and class bodies: that enters no file
        imports.depth = getattr(imports, "depth", 0) + (1 if event == "call" else -1)
    elif event == "call" and not getattr(imports, "depth", 0):
        entered.add(code.co_filename)

threading.setprofile(profile)
sys.setprofile(profile)
from darkpy.__main__ import main
code = main(sys.argv[2:])
sys.setprofile(None)
threading.setprofile(None)
print(json.dumps(sorted(file[len(sys.argv[1]):] for file in entered if file.startswith(sys.argv[1]))))
sys.exit(code)
"""


def files_entered(*words: str) -> list[str]:
    """Files of darkpy with a function that the command calls, in any of its threads."""
    command = [sys.executable, "-c", COUNT, f"{ROOT / 'darkpy'}/", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files: list[str] = json.loads(done.stdout.splitlines()[-1])
    return files


@pytest.fixture
def shapes(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample set, and a cfg that trains for two updates."""
    monkeypatch.chdir(tmp_path)
    assert run("sample", "shapes", "--images", "16", "--valid", "2").code == 0
    cfg = Path("shapes/sample.cfg").read_text()
    lines = ["max_batches=2" if line.startswith("max_batches") else line for line in cfg.splitlines()]
    Path("shapes/sample.cfg").write_text("\n".join(lines))


def test_detect_enters_at_most_50_files(shapes: None) -> None:
    network = (str(ROOT / "weights/sample.cfg"), str(ROOT / "weights/sample.weights"))
    files = files_entered("detect", *network, "shapes/valid/00000.jpg", "--names", "shapes/sample.names", "-nogpu")
    assert len(files) <= 50, files


def test_train_enters_at_most_73_files(shapes: None) -> None:
    files = files_entered("train", "shapes/sample.cfg", "shapes/sample.data", "-nogpu")
    assert len(files) <= 73, files
