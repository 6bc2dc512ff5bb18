"""Unpack Fashion-MNIST for darkpy's classifier commands, with a network that learns it in a few minutes.

    python tools/fashion_mnist.py FOLDER [--source DIR]

The source has the four idx files (Debian: apt-get install dataset-fashion-mnist). FOLDER gets a PNG for each image,
lists, labels, fashion.data, and cifar_small.cfg: the network of darknet's tutorial on CIFAR-10, trained from scratch.
"""

from __future__ import annotations

import argparse
import gzip
import struct
import sys
from pathlib import Path

import numpy as np
from PIL import Image

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, it finds tools/make_cfgs there

from darkpy.files import write_atomic
from tools.make_cfgs.schedules import falling_polynomial, images, optimizer
from tools.make_cfgs.writer import Cfg, Keys

IDX_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASS_NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
CLASS_LABELS = tuple(f"{index}-{name}" for index, name in enumerate(CLASS_NAMES))
"""Substrings of the images' paths that name their class; no label contains another one."""
IDX_STEM_BY_SPLIT = {"train": "train", "test": "t10k"}
IMAGE_PX = 28
IDX_MAGIC = {1: 2049, 3: 2051}
"""First four bytes of an idx file of bytes, by its number of dimensions."""


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read a gzipped idx file, (images,) or (images, 28, 28). Raises: SystemExit for any other file."""
    try:
        content = gzip.decompress(path.read_bytes())
        magic, *shape = struct.unpack(f">{1 + dimensions}I", content[: 4 + 4 * dimensions])
    except (OSError, EOFError, struct.error) as error:
        sys.exit(
            f"error: {path}: not an idx file: {error}\n  hint: apt-get install dataset-fashion-mnist, or --source DIR"
        )
    if magic != IDX_MAGIC[dimensions] or len(content) != 4 + 4 * dimensions + np.prod(shape, dtype=np.int64):
        sys.exit(f"error: {path}: not an idx file of {dimensions} dimensions")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def unpack(source: Path, folder: Path, split: str, stem: str) -> None:
    """Write the images of a split, named by index and label, and their list."""
    image_arrays = read_idx(source / f"{stem}-images-idx3-ubyte.gz", 3)
    class_ids = read_idx(source / f"{stem}-labels-idx1-ubyte.gz", 1)
    (folder / split).mkdir(parents=True, exist_ok=True)
    paths = [folder / split / f"{index:05}_{CLASS_LABELS[class_id]}.png" for index, class_id in enumerate(class_ids)]
    for path, image in zip(paths, image_arrays, strict=True):
        Image.fromarray(image).save(path)
    write_atomic(folder / f"{split}.txt", ["".join(f"{path}\n" for path in paths).encode()])


def cifar_small(max_batches: int) -> Cfg:
    """Return darknet's cifar_small for ten classes, without color distortion, as the images are gray."""
    crop: Keys = {"min_crop": IMAGE_PX, "max_crop": IMAGE_PX + 2}
    schedule: Keys = {**falling_polynomial("0.1", max_batches), "power": 2}
    net = {**images(IMAGE_PX, 128, 1), **schedule, **optimizer(), **crop}
    cfg = Cfg(f"cifar_small on Fashion-MNIST (10 classes), {IMAGE_PX}x{IMAGE_PX} crops", net)
    cfg.conv(32, 3)
    for narrow, wide in ((16, 64), (32, 128)):
        cfg.maxpool()
        cfg.conv(narrow, 1)
        cfg.conv(wide, 3)
    cfg.conv(64, 1)
    cfg.plain_conv(10, activation="leaky")
    cfg.add("avgpool")
    cfg.add("softmax")
    return cfg


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/fashion_mnist.py", description="Unpack Fashion-MNIST for darkpy.")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--source", type=Path, default=IDX_FOLDER, help=f"folder of the idx files, default: {IDX_FOLDER}"
    )
    parser.add_argument("--max-batches", type=int, default=6000, help="updates of 128 images, default: 6000")
    arguments = parser.parse_args()
    folder = arguments.folder
    for split, stem in IDX_STEM_BY_SPLIT.items():
        unpack(arguments.source, folder, split, stem)
    keys = {
        "classes": len(CLASS_LABELS),
        "train": folder / "train.txt",
        "valid": folder / "test.txt",
        "labels": folder / "labels.txt",
        "names": folder / "labels.txt",
        "backup": folder / "backup",
        "top": 2,
    }
    texts = {
        "labels.txt": "".join(f"{label}\n" for label in CLASS_LABELS),
        "fashion.data": "".join(f"{key}={value}\n" for key, value in keys.items()),
        "cifar_small.cfg": cifar_small(arguments.max_batches).text(),
    }
    for name, text in texts.items():
        write_atomic(folder / name, [text.encode()])
    print(f"darkpy classifier train {folder}/fashion.data {folder}/cifar_small.cfg")
    print(f"darkpy classifier valid {folder}/fashion.data {folder}/cifar_small.cfg {folder}/backup/cifar_small.weights")


if __name__ == "__main__":
    main()
