"""The wheel, built and used outside the checkout."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def call(*words: str, cwd: Path, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and source distribution, built from the tracked files."""
    if importlib.util.find_spec("build") is None or importlib.util.find_spec("twine") is None:
        pytest.skip("build and twine are not installed")
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    source.mkdir()
    call("sh", "-c", f"git -C {ROOT} archive HEAD | tar x -C {source}", cwd=folder)
    call(sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(source), cwd=folder)
    return folder / "dist"


def test_wheel_and_source_are_complete_and_their_metadata_is_valid(dist: Path) -> None:
    call(sys.executable, "-m", "twine", "check", "--strict", *map(str, sorted(dist.iterdir())), cwd=dist)
    (wheel,) = dist.glob("darkpy_yolo-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"darkpy/{path.relative_to(ROOT / 'darkpy').as_posix()}" for path in (ROOT / "darkpy").rglob("*.py")}
    expected |= {f"darkpy/zoo/{path.name}" for path in (ROOT / "cfg").iterdir()} | {"darkpy/py.typed"}
    assert expected <= names
    assert not any(name.startswith(("tests/", "tools/", "cfg/")) for name in names)


def test_wheel_works_in_a_new_environment_outside_the_checkout(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    call(sys.executable, "-m", "venv", "--system-site-packages", "new", cwd=tmp_path)
    python = str(tmp_path / "new/bin/python")
    # torch and the others come from this environment: they are large, and not what is tested
    parent = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.__path__[0])"], capture_output=True, text=True, check=True
    )
    site = Path(parent.stdout.strip()).parent
    (link,) = (tmp_path / "new/lib").glob("python3*/site-packages")
    (link / "others.pth").write_text(f"{site}\n")
    call(python, "-m", "pip", "install", "--no-deps", "--quiet", str(wheel), cwd=tmp_path)
    darkpy = str(tmp_path / "new/bin/darkpy")
    assert "darkpy_yolo" in call(python, "-m", "pip", "show", "--files", "darkpy-yolo", cwd=tmp_path)
    place = call(python, "-c", "import darkpy; print(darkpy.__file__)", cwd=tmp_path)
    assert place.startswith(str(tmp_path))
    assert "yolov4-tiny" in call(darkpy, "models", cwd=tmp_path)
    assert "convolutional" in call(darkpy, "show", "yolov3", cwd=tmp_path)
    make = "import darkpy, darkpy.catalog as c; from PIL import Image; Image.new('RGB', (64, 48)).save('photo.jpg');"
    make += "m = c.catalog()['yolov3-tiny']; m.cached_weights.parent.mkdir(parents=True);"
    make += "darkpy.load(m.cfg).save_weights(m.cached_weights)"
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    call(python, "-c", make, cwd=tmp_path, **cache)
    found = call(darkpy, "detect", "yolov3-tiny", "photo.jpg", "-nogpu", cwd=tmp_path, **cache)
    assert found.startswith("photo.jpg: ")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "cache/darkpy/yolov3-tiny.weights").rename(elsewhere / "mine.weights")
    for weights in ("mine.weights", str(elsewhere / "mine.weights")):
        assert call(darkpy, "detect", "yolov3-tiny", weights, "../photo.jpg", "-nogpu", cwd=elsewhere, **cache) == (
            found.replace("photo.jpg", "../photo.jpg")
        )
    load = "import darkpy; network = darkpy.load('yolov3-tiny', 'mine.weights');"
    load += "print(len(darkpy.detect_image(network, '../photo.jpg')))"
    objects = call(python, "-c", load, cwd=elsewhere, **cache)
    assert found.startswith(f"photo.jpg: {int(objects)} object")
