"""Scaled-YOLOv4: CSP in the neck, too, and heads whose boxes need no exponential (new_coords)."""

from __future__ import annotations

from dataclasses import dataclass

from . import backbones
from .blocks import spp, upsample_beside
from .schedules import DETECTOR_COLORS, falling_steps, images, optimizer
from .writer import Cfg, Keys, Value
from .yolov4 import MATCHING_KEYS, YOLOV4_ANCHORS, down_beside

SCALED_YOLOV4_PAPER = 'Wang, Bochkovskiy, Liao: "Scaled-YOLOv4: Scaling Cross Stage Partial Network", 2021'


@dataclass(frozen=True, slots=True)
class ModelScale:
    """Width and depth of a member of the family."""

    filters: int  # of the first stage; each further stage doubles them
    depths: list[int]  # residual blocks of the stages from stride 4 on
    pyramid_tail: int  # convolutions behind the spatial pyramid pooling
    neck_pairs: int  # pairs of 1x1 and 3x3 in a CSP block of the neck
    frozen_batches: int = 0  # first updates in which the gradient stops at the neck's finest layer


YOLOV4_CSP_SCALE = ModelScale(filters=64, depths=[2, 8, 8, 4], pyramid_tail=2, neck_pairs=2)
YOLOV4X_MISH_SCALE = ModelScale(filters=80, depths=[3, 10, 10, 5], pyramid_tail=4, neck_pairs=3, frozen_batches=800)


def net(size: int, **keys: Value) -> Keys:
    schedule = falling_steps("0.001", 500500, 400000, 450000)
    training = {**schedule, **optimizer(momentum="0.949"), **DETECTOR_COLORS, "mosaic": 1}
    return {**images(size, 64, 8), **training, "letter_box": 1, **keys}


def pyramid(cfg: Cfg, filters: int, tail: int) -> int:
    """Add spatial pyramid pooling on one of two CSP branches."""
    bypass = cfg.conv(filters, 1)
    cfg.route(-2)
    cfg.conv(filters, 1)
    cfg.conv(filters, 3)
    cfg.conv(filters, 1)
    spp(cfg)
    for layer in range(tail):
        cfg.conv(filters, 3 if layer % 2 else 1)
    cfg.route(-1, cfg.back(bypass))
    return cfg.conv(filters, 1)


def csp_block(cfg: Cfg, filters: int, pairs: int) -> int:
    """Add a CSP block of the neck, without shortcuts inside."""
    cfg.conv(filters, 1)
    bypass = cfg.conv(filters, 1)
    cfg.route(-2)
    for _ in range(pairs):
        cfg.conv(filters, 1)
        cfg.conv(filters, 3)
    cfg.route(-1, cfg.back(bypass))
    return cfg.conv(filters, 1)


def head(
    cfg: Cfg,
    stride: int,
    filters: int,
    mask: str,
    *,
    anchors: str = YOLOV4_ANCHORS,
    obj_normalizer: str,
    objectness_smooth: int,
    max_delta: int,
) -> None:
    cfg.note(f"Head at stride {stride}")
    cfg.conv(filters, 3)
    cfg.plain_conv(255, activation="logistic")
    boxes: Keys = {
        "mask": mask,
        "anchors": anchors,
        "num": 9,
        "classes": 80,
        "new_coords": 1,
        "scale_x_y": "2.0",
    }
    matching: Keys = {**MATCHING_KEYS, "iou_thresh": "0.2", "objectness_smooth": objectness_smooth}
    weights: Keys = {"iou_normalizer": "0.05", "obj_normalizer": obj_normalizer, "cls_normalizer": "0.5"}
    nms: Keys = {"nms_kind": "diounms", "beta_nms": "0.6"}
    loss: Keys = {"iou_loss": "ciou", **weights, "max_delta": max_delta}
    cfg.add("yolo", **boxes, jitter=".1", resize="1.5", **matching, **loss, **nms)


def build(cfg: Cfg, scale: ModelScale) -> Cfg:
    *_, stride8, stride16, _ = backbones.scaled_csp_darknet(cfg, scale.filters, scale.depths)
    fine, middle, coarse = (scale.filters * width for width in (2, 4, 8))

    cfg.note("Neck at stride 32")
    neck32 = pyramid(cfg, coarse, scale.pyramid_tail)
    cfg.note("PAN, up to stride 16")
    upsample_beside(cfg, stride16, middle)
    neck16 = csp_block(cfg, middle, scale.neck_pairs)
    cfg.note("PAN, up to stride 8")
    upsample_beside(cfg, stride8, fine)
    neck8 = csp_block(cfg, fine, scale.neck_pairs)
    if scale.frozen_batches:
        cfg.extend(stopbackward=scale.frozen_batches)

    head(cfg, 8, 2 * fine, "0,1,2", obj_normalizer="4.0", objectness_smooth=0, max_delta=5)
    cfg.note("PAN, down to stride 16")
    down_beside(cfg, neck8, neck16, middle)
    neck16 = csp_block(cfg, middle, scale.neck_pairs)
    head(cfg, 16, 2 * middle, "3,4,5", obj_normalizer="1.0", objectness_smooth=1, max_delta=5)
    cfg.note("PAN, down to stride 32")
    down_beside(cfg, neck16, neck32, coarse)
    csp_block(cfg, coarse, scale.neck_pairs)
    head(cfg, 32, 2 * coarse, "6,7,8", obj_normalizer="0.4", objectness_smooth=1, max_delta=2)
    return cfg


def yolov4_csp() -> Cfg:
    about = f"YOLOv4-CSP: COCO (80 classes), 512x512\n{SCALED_YOLOV4_PAPER}"
    return build(Cfg(about, net(512, ema_alpha="0.9998"), activation="mish"), YOLOV4_CSP_SCALE)


def yolov4x_mish() -> Cfg:
    about = f"YOLOv4x-mish, YOLOv4-CSP made wider and deeper: COCO (80 classes), 640x640\n{SCALED_YOLOV4_PAPER}"
    return build(Cfg(about, net(640), activation="mish"), YOLOV4X_MISH_SCALE)
