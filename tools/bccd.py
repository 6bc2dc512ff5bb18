"""Write two cfgs that learn blood cells (the BCCD images, 3 classes) from scratch on a CPU.

    darkpy dataset from-voc BCCD bccd
    python tools/bccd.py bccd
    darkpy train bccd/yolov3-tiny.cfg bccd/bccd.data -map

They are the tiny networks of YOLOv3 and YOLOv4 at 256x192 pixels, the images' aspect ratio of 4:3, with anchors from
darkpy detector calc_anchors bccd/bccd.data -num_of_clusters 6 -width 256 -height 192.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, it finds tools/make_cfgs there

from darkpy.files import write_atomic
from tools.make_cfgs import yolov3, yolov4
from tools.make_cfgs.schedules import DETECTOR_COLORS, falling_steps, images, optimizer
from tools.make_cfgs.writer import Cfg, Keys

BCCD_CLASSES = 3
BCCD_ANCHORS = "16,15, 35,34, 45,36, 39,43, 49,46, 86,78"


def net(rate: str, max_batches: int) -> Keys:
    """Return [net] with batches of 16; as AlexeyAB advises, the rate drops at 80 and 90 % of the updates."""
    schedule = falling_steps(rate, max_batches, max_batches * 8 // 10, max_batches * 9 // 10, burn_in=100)
    size = {**images(256, 16, 1), "height": 192}
    return {**size, **schedule, **optimizer(), **DETECTOR_COLORS}


def networks(max_batches: int) -> Mapping[str, Cfg]:
    about = "{}: BCCD (3 classes), 256x192"
    v3 = Cfg(about.format("Tiny YOLOv3"), net("0.001", max_batches))
    v4 = Cfg(about.format("YOLOv4-tiny"), net("0.00261", max_batches))
    return {
        "yolov3-tiny.cfg": yolov3.two_scales(v3, classes=BCCD_CLASSES, anchors=BCCD_ANCHORS, random=0),
        "yolov4-tiny.cfg": yolov4.tiny(v4, classes=BCCD_CLASSES, anchors=BCCD_ANCHORS, fine_mask="0,1,2"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/bccd.py", description="Write two cfgs that learn blood cells.")
    parser.add_argument("folder", type=Path, help="output folder of darkpy dataset from-voc")
    parser.add_argument("--max-batches", type=int, default=1000, help="updates of 16 images, default: 1000")
    arguments = parser.parse_args()
    for name, cfg in networks(arguments.max_batches).items():
        write_atomic(arguments.folder / name, [cfg.text().encode()])
        print(f"darkpy train {arguments.folder / name} {arguments.folder / 'bccd.data'} -map")


if __name__ == "__main__":
    main()
