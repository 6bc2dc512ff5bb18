"""Write cfg/, or with --check fail if a file differs from what would be written: python -m tools.make_cfgs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from darkpy.data.lists.text_files import COCO_NAMES, VOC_NAMES

from . import classifiers, datasets, recurrent, yolo_early, yolov3, yolov4, yolov4_scaled, yolov7
from .writer import Cfg

CFG_FOLDER = Path(__file__).resolve().parents[2] / "cfg"

NETWORK_BY_NAME: dict[str, Callable[[], Cfg]] = {
    "yolov1": yolo_early.yolov1,
    "yolov1-tiny": yolo_early.yolov1_tiny,
    "yolov2": yolo_early.yolov2,
    "yolov2-tiny": yolo_early.yolov2_tiny,
    "yolov2-voc": yolo_early.yolov2_voc,
    "yolov3": yolov3.yolov3,
    "yolov3-tiny": yolov3.yolov3_tiny,
    "yolov3-spp": yolov3.yolov3_spp,
    "yolov3-voc": yolov3.yolov3_voc,
    "yolov4": yolov4.yolov4,
    "yolov4-tiny": yolov4.yolov4_tiny,
    "yolov4-csp": yolov4_scaled.yolov4_csp,
    "yolov4x-mish": yolov4_scaled.yolov4x_mish,
    "yolov7-tiny": yolov7.yolov7_tiny,
    "darknet19": classifiers.darknet19,
    "darknet53": classifiers.darknet53,
    "resnet18": classifiers.resnet18,
    "resnet50": classifiers.resnet50,
    "densenet201": classifiers.densenet201,
    "alexnet": classifiers.alexnet,
    "vgg-16": classifiers.vgg16,
    "cifar": classifiers.cifar,
    "tiny": classifiers.tiny,
    "rnn": recurrent.rnn,
    "gru": recurrent.gru,
}


def make_texts() -> dict[str, str]:
    """Return the text of every file, by file name."""
    texts = {f"{name}.cfg": network().text() for name, network in NETWORK_BY_NAME.items()}
    texts["coco.names"] = datasets.names(COCO_NAMES)
    texts["voc.names"] = datasets.names(VOC_NAMES)
    texts["coco.data"] = datasets.coco_data()
    texts["voc.data"] = datasets.voc_data()
    return texts


def find_differences(folder: Path, texts: dict[str, str]) -> list[str]:
    """Return the names of the files that are missing or differ."""
    return [
        name
        for name, text in texts.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != text.encode()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.make_cfgs", description="Write the networks of cfg/.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    parser.add_argument("folder", nargs="?", type=Path, default=CFG_FOLDER, help="default: cfg/ of this repository")
    arguments = parser.parse_args()
    texts = make_texts()
    differing = find_differences(arguments.folder, texts)
    if arguments.check:
        for name in differing:
            print(f"{arguments.folder / name} differs from what python -m tools.make_cfgs writes", file=sys.stderr)
        return 1 if differing else 0
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in differing:
        (arguments.folder / name).write_bytes(texts[name].encode())
    print(f"{len(differing)} of {len(texts)} files rewritten in {arguments.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
