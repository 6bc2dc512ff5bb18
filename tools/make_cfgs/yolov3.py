"""YOLOv3: [yolo] heads at several scales, the deepest first, each fed by an upsampled neck."""

from __future__ import annotations

from functools import partial

from . import backbones
from .blocks import spp, squeezes
from .schedules import DETECTOR_COLORS, falling_steps, images, optimizer
from .writer import Cfg, Keys, Value

YOLOV3_PAPER = 'Redmon, Farhadi: "YOLOv3: An Incremental Improvement", 2018'

YOLOV3_ANCHORS = "10,13, 16,30, 33,23, 30,61, 62,45, 59,119, 116,90, 156,198, 373,326"
TINY_ANCHORS = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"
COCO_SCHEDULE = falling_steps("0.001", 500200, 400000, 450000)
VOC_SCHEDULE = falling_steps("0.001", 50200, 40000, 45000)


def net(size: int, schedule: dict[str, Value], batch: int = 1, subdivisions: int = 1) -> dict[str, Value]:
    return {**images(size, batch, subdivisions), **schedule, **optimizer(), **DETECTOR_COLORS}


def yolo_head(
    cfg: Cfg, stride: int, mask: str, anchors: str, classes: int, ignore_thresh: str, random: int = 1
) -> None:
    """Add a head with three anchors of the list: a box, an objectness and independent class scores for each."""
    num = len(anchors.split(",")) // 2
    cfg.note(f"Head at stride {stride}: 3 anchors x (4 coordinates + objectness + {classes} classes)")
    cfg.plain_conv(3 * (4 + 1 + classes), activation="linear")
    boxes: Keys = {"mask": mask, "anchors": anchors, "num": num, "classes": classes}
    cfg.add("yolo", **boxes, jitter=".3", random=random, ignore_thresh=ignore_thresh, truth_thresh=1)


def up_to(cfg: Cfg, lateral: int, neck: int, filters: int, stride: int) -> None:
    """Upsample a neck's narrow layer, and concatenate it with the next finer stage of the backbone."""
    cfg.note(f"Up to stride {stride}")
    cfg.route(cfg.back(neck))
    cfg.conv(filters, 1)
    cfg.upsample()
    cfg.route(-1, lateral)


def neck_and_head(
    cfg: Cfg, filters: int, stride: int, mask: str, *, classes: int, ignore_thresh: str, pyramid: bool = False
) -> int:
    """Add three squeezed pairs and a head. Returns the neck's last narrow layer, from which it goes up."""
    squeezes(cfg, filters, 2 * filters)
    if pyramid:
        cfg.conv(filters, 1)
        spp(cfg)
    squeezes(cfg, filters, 2 * filters)
    neck = cfg.conv(filters, 1)
    cfg.conv(2 * filters, 3)
    yolo_head(cfg, stride, mask, YOLOV3_ANCHORS, classes, ignore_thresh)
    return neck


def three_scales(cfg: Cfg, *, classes: int = 80, ignore_thresh: str = ".7", pyramid: bool = False) -> Cfg:
    """Add Darknet-53, then a neck and a head at strides 32, 16 and 8."""
    *_, stride8, stride16, _ = backbones.darknet53(cfg)
    scale = partial(neck_and_head, cfg, classes=classes, ignore_thresh=ignore_thresh)
    cfg.note("Neck at stride 32")
    neck = scale(512, 32, "6,7,8", pyramid=pyramid)
    up_to(cfg, stride16, neck, 256, stride=16)
    neck = scale(256, 16, "3,4,5")
    up_to(cfg, stride8, neck, 128, stride=8)
    scale(128, 8, "0,1,2")
    return cfg


def yolov3() -> Cfg:
    about = f"YOLOv3: COCO (80 classes), 608x608\n{YOLOV3_PAPER}\n"
    forks = "pjreddie's file. AlexeyAB's differs in [net] only: 416x416, and batch=1, subdivisions=1"
    return three_scales(Cfg(about + forks, net(608, COCO_SCHEDULE, batch=64, subdivisions=16)))


def yolov3_spp() -> Cfg:
    about = f"YOLOv3 with spatial pyramid pooling: COCO (80 classes), 608x608\n{YOLOV3_PAPER}\n"
    training = "To train: batch=64, subdivisions=16"
    return three_scales(Cfg(about + training, net(608, COCO_SCHEDULE)), pyramid=True)


def yolov3_voc() -> Cfg:
    about = f"YOLOv3: PASCAL VOC 2007 + 2012 (20 classes), 416x416\n{YOLOV3_PAPER}\n"
    training = "To train: batch=64, subdivisions=16"
    return three_scales(Cfg(about + training, net(416, VOC_SCHEDULE)), classes=20, ignore_thresh=".5")


def yolov3_tiny() -> Cfg:
    about = f"Tiny YOLOv3: COCO (80 classes), 416x416\n{YOLOV3_PAPER}\n"
    caution = "The published yolov3-tiny.weights were trained with mask=1,2,3 in the second head; this file has 0,1,2"
    return two_scales(Cfg(f"{about}To train: batch=64, subdivisions=2\n{caution}", net(416, COCO_SCHEDULE)))


def two_scales(cfg: Cfg, *, classes: int = 80, anchors: str = TINY_ANCHORS, random: int = 1) -> Cfg:
    """Add the tiny backbone, and a head at strides 32 and 16."""
    stride16 = backbones.tiny(cfg, last_pool_stride=1)
    cfg.note("Neck at stride 32")
    neck = cfg.conv(256, 1)
    cfg.conv(512, 3)
    yolo_head(cfg, 32, "3,4,5", anchors, classes, ".7", random)
    up_to(cfg, stride16, neck, 128, stride=16)
    cfg.conv(256, 3)
    yolo_head(cfg, 16, "0,1,2", anchors, classes, ".7", random)
    return cfg
