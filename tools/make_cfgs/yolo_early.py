"""YOLO of 2016: one grid of cells, with a [detection] head (v1) or a [region] head with anchors (v2)."""

from __future__ import annotations

from . import backbones
from .blocks import squeezes
from .schedules import DETECTOR_COLORS, falling_steps, images, optimizer
from .writer import Cfg, Keys, Value

V1_PAPER = 'Redmon, Divvala, Girshick, Farhadi: "You Only Look Once: Unified, Real-Time Object Detection", 2016'
V2_PAPER = 'Redmon, Farhadi: "YOLO9000: Better, Faster, Stronger", 2016'

COCO_ANCHORS = "0.57273,0.677385, 1.87446,2.06253, 3.33843,5.47434, 7.88282,3.52778, 9.77052,9.16828"
VOC_ANCHORS = "1.3221,1.73145, 3.19275,4.00944, 5.05587,8.09892, 9.47112,4.84053, 11.2364,10.0071"

# The rate climbs in the first hundreds of batches: v1 knew no burn_in.
V1_STEPS = {"steps": "200,400,600,20000,30000", "scales": "2.5,2,2,.1,.1"}
V1_TINY_STEPS = {"steps": "200,400,600,800,20000,30000", "scales": "2.5,2,2,2,.1,.1"}


def v1_net(steps: Keys, color: str) -> dict[str, Value]:
    schedule = {"learning_rate": "0.0005", "policy": "steps", **steps, "max_batches": 40000}
    augmentation = {"hue": ".1", "saturation": color, "exposure": color}
    return {**images(448, 1, 1), **schedule, **optimizer(), **augmentation}


def v1_head(cfg: Cfg, boxes: int) -> None:
    """Add a head on a 7x7 grid behind a connected layer: classes once a cell, then boxes with an objectness each."""
    side, classes, coords = 7, 20, 4
    cfg.add("connected", output=side * side * (classes + boxes * (1 + coords)), activation="linear")
    cfg.note(f"Head: {side}x{side} cells, {boxes} boxes a cell")
    grid: Keys = {"side": side, "num": boxes, "classes": classes, "coords": coords}
    loss: Keys = {"object_scale": 1, "noobject_scale": ".5", "class_scale": 1, "coord_scale": 5}
    cfg.add("detection", **grid, softmax=0, sqrt=1, rescore=1, jitter=".2", **loss)


def yolov1() -> Cfg:
    about = "YOLO, the first version: PASCAL VOC 2007 + 2012 (20 classes), 448x448\n" + V1_PAPER
    cfg = Cfg(about + "\nTo train: batch=64, subdivisions=8", v1_net(V1_STEPS, "1.5"))
    cfg.note("Stem, down to stride 8")
    cfg.conv(64, 7, stride=2)
    cfg.maxpool()
    cfg.conv(192, 3)
    cfg.maxpool()

    cfg.note("Squeezed 3x3 convolutions at strides 8, 16 and 32")
    squeezes(cfg, 128, 256)
    squeezes(cfg, 256, 512)
    cfg.maxpool()
    squeezes(cfg, 256, 512, times=4)
    squeezes(cfg, 512, 1024)
    cfg.maxpool()
    squeezes(cfg, 512, 1024, times=2)

    cfg.note("What detection adds to the classifier, down to stride 64")
    cfg.conv(1024, 3)
    cfg.conv(1024, 3, stride=2)
    cfg.conv(1024, 3)
    cfg.conv(1024, 3)
    cfg.add("local", filters=256, size=3, stride=1, pad=1, activation="leaky")
    cfg.add("dropout", probability=".5")
    v1_head(cfg, boxes=3)
    return cfg


def yolov1_tiny() -> Cfg:
    about = "Tiny YOLO, the first version: PASCAL VOC 2007 + 2012 (20 classes), 448x448\n" + V1_PAPER
    cfg = Cfg(about + "\nTo train: batch=64, subdivisions=8", v1_net(V1_TINY_STEPS, ".75"))
    backbones.tiny(cfg, last_pool_stride=2)
    cfg.conv(256, 3)
    v1_head(cfg, boxes=2)
    return cfg


def region_head(cfg: Cfg, anchors: str, classes: int, *, jitter: str = ".3", rescore: int = 1) -> None:
    """Add a head with five anchors a cell, sizes in cells, each with its own softmax over the classes."""
    num, coords = 5, 4
    cfg.note(f"Head: {num} anchors x ({coords} coordinates + objectness + {classes} classes)")
    cfg.plain_conv(num * (coords + 1 + classes), activation="linear")
    boxes: Keys = {"anchors": anchors, "num": num, "classes": classes, "coords": coords, "softmax": 1}
    matching: Keys = {"bias_match": 1, "rescore": rescore, "thresh": ".6", "absolute": 1}
    loss: Keys = {"object_scale": 5, "noobject_scale": 1, "class_scale": 1, "coord_scale": 1}
    cfg.add("region", **boxes, **matching, **loss, jitter=jitter, random=1)


def v2_body(cfg: Cfg) -> None:
    """Add Darknet-19, two more convolutions, and the stride-16 features reorganized into the stride-32 grid."""
    lateral = backbones.darknet19(cfg)
    cfg.note("What detection adds to the classifier")
    cfg.conv(1024, 3)
    deep = cfg.conv(1024, 3)
    cfg.note("Passthrough: stride 16 features, 2x2 pixels to channels, beside the deep ones")
    cfg.route(cfg.back(lateral))
    cfg.conv(64, 1)
    cfg.add("reorg", stride=2)
    cfg.route(-1, cfg.back(deep))
    cfg.conv(1024, 3)


def v2_net(size: int, max_batches: int, first: int, second: int) -> dict[str, Value]:
    schedule = falling_steps("0.001", max_batches, first, second)
    return {**images(size, 1, 1), **schedule, **optimizer(), **DETECTOR_COLORS}


def yolov2() -> Cfg:
    about = f"YOLOv2: COCO (80 classes), 608x608\n{V2_PAPER}\n"
    training = "To train: batch=64, subdivisions=8. AlexeyAB's file differs in width and height only: 416x416"
    cfg = Cfg(about + training, v2_net(608, 500200, 400000, 450000))
    v2_body(cfg)
    region_head(cfg, COCO_ANCHORS, classes=80)
    return cfg


def yolov2_voc() -> Cfg:
    about = f"YOLOv2: PASCAL VOC 2007 + 2012 (20 classes), 416x416\n{V2_PAPER}\n"
    cfg = Cfg(about + "To train: batch=64, subdivisions=8", v2_net(416, 80200, 40000, 60000))
    v2_body(cfg)
    region_head(cfg, VOC_ANCHORS, classes=20)
    return cfg


def yolov2_tiny() -> Cfg:
    about = f"Tiny YOLOv2: COCO (80 classes), 416x416\n{V2_PAPER}\n"
    cfg = Cfg(about + "To train: batch=64, subdivisions=2", v2_net(416, 500200, 400000, 450000))
    backbones.tiny(cfg, last_pool_stride=1)
    cfg.conv(512, 3)
    region_head(cfg, COCO_ANCHORS, classes=80, jitter=".2", rescore=0)
    return cfg
