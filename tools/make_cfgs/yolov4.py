"""YOLOv4 and YOLOv4-tiny: CSP backbones, and in YOLOv4 a PAN neck that goes up to stride 8 and down again."""

from __future__ import annotations

from . import backbones
from .blocks import spp, squeezes, upsample_beside
from .schedules import DETECTOR_COLORS, falling_steps, images, optimizer
from .writer import Cfg, Keys, Value

YOLOV4_PAPER = 'Bochkovskiy, Wang, Liao: "YOLOv4: Optimal Speed and Accuracy of Object Detection", 2020'
YOLOV4_TINY_PAPER = 'Wang, Bochkovskiy, Liao: "Scaled-YOLOv4: Scaling Cross Stage Partial Network", 2021'

YOLOV4_ANCHORS = "12,16, 19,36, 40,28, 36,75, 76,55, 72,146, 142,110, 192,243, 459,401"
TINY_ANCHORS = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"

YOLOV4_NET_KEYS: Keys = {
    **images(608, 64, 8),
    **falling_steps("0.0013", 500500, 400000, 450000),
    **optimizer(momentum="0.949"),
    **DETECTOR_COLORS,
    "mosaic": 1,
}
YOLOV4_TINY_NET_KEYS: Keys = {
    **images(416, 64, 1),
    **falling_steps("0.00261", 2000200, 1600000, 1800000),
    **optimizer(),
    **DETECTOR_COLORS,
}
MATCHING_KEYS: Keys = {"ignore_thresh": ".7", "truth_thresh": 1}
LOSS_KEYS: Keys = {"iou_loss": "ciou", "iou_normalizer": "0.07", "cls_normalizer": "1.0"}
NMS_KEYS: Keys = {"nms_kind": "greedynms", "beta_nms": "0.6"}


def head(cfg: Cfg, stride: int, mask: str, scale_x_y: str, **keys: Value) -> None:
    cfg.note(f"Head at stride {stride}")
    cfg.plain_conv(255, activation="linear")
    boxes: Keys = {"mask": mask, "anchors": YOLOV4_ANCHORS, "num": 9, "classes": 80, "scale_x_y": scale_x_y}
    matching = {**MATCHING_KEYS, "iou_thresh": "0.213"}
    cfg.add("yolo", **boxes, jitter=".3", **keys, **matching, **LOSS_KEYS, max_delta=5, **NMS_KEYS)


def five_convs(cfg: Cfg, narrow: int) -> int:
    """Add 1x1, 3x3, 1x1, 3x3, 1x1, as behind every concatenation of the neck."""
    squeezes(cfg, narrow, 2 * narrow, times=2)
    return cfg.conv(narrow, 1)


def down_beside(cfg: Cfg, fine: int, coarse: int, filters: int) -> None:
    """Concatenate a finer neck layer, downsampled by 2, with the coarser one of the way up (PAN, downwards)."""
    cfg.route(cfg.back(fine))
    cfg.conv(filters, 3, stride=2)
    cfg.route(-1, cfg.back(coarse))


def yolov4() -> Cfg:
    cfg = Cfg(f"YOLOv4: COCO (80 classes), 608x608\n{YOLOV4_PAPER}", YOLOV4_NET_KEYS, activation="mish")
    *_, stride8, stride16, _ = backbones.csp_darknet53(cfg)

    cfg.activation = "leaky"
    cfg.note("Neck at stride 32")
    squeezes(cfg, 512, 1024)
    cfg.conv(512, 1)
    spp(cfg)
    cfg.conv(512, 1)
    cfg.conv(1024, 3)
    neck32 = cfg.conv(512, 1)
    cfg.note("PAN, up to stride 16")
    upsample_beside(cfg, stride16, 256)
    neck16 = five_convs(cfg, 256)
    cfg.note("PAN, up to stride 8")
    upsample_beside(cfg, stride8, 128)
    neck8 = five_convs(cfg, 128)

    cfg.conv(256, 3)
    head(cfg, 8, "0,1,2", scale_x_y="1.2")
    cfg.note("PAN, down to stride 16")
    down_beside(cfg, neck8, neck16, 256)
    neck16 = five_convs(cfg, 256)
    cfg.conv(512, 3)
    head(cfg, 16, "3,4,5", scale_x_y="1.1")
    cfg.note("PAN, down to stride 32")
    down_beside(cfg, neck16, neck32, 512)
    five_convs(cfg, 512)
    cfg.conv(1024, 3)
    head(cfg, 32, "6,7,8", scale_x_y="1.05", random=1)
    return cfg


def tiny_csp_stage(cfg: Cfg, filters: int) -> int:
    """Add a CSP stage on the second half of the channels. Returns the layer before the last concatenation."""
    whole = cfg.conv(filters, 3)
    cfg.route(-1, groups=2, group_id=1)
    cfg.conv(filters // 2, 3)
    cfg.conv(filters // 2, 3)
    cfg.route(-1, -2)
    mixed = cfg.conv(filters, 1)
    cfg.route(cfg.back(whole), -1)
    cfg.maxpool()
    return mixed


def tiny_head(cfg: Cfg, stride: int, mask: str, anchors: str, classes: int) -> None:
    cfg.note(f"Head at stride {stride}")
    cfg.plain_conv(3 * (4 + 1 + classes), activation="linear")
    boxes: Keys = {"mask": mask, "anchors": anchors, "num": 6, "classes": classes, "scale_x_y": "1.05"}
    cfg.add("yolo", **boxes, jitter=".3", resize="1.5", random=0, **MATCHING_KEYS, **LOSS_KEYS, **NMS_KEYS)


def yolov4_tiny() -> Cfg:
    about = f"YOLOv4-tiny: COCO (80 classes), 416x416\n{YOLOV4_TINY_PAPER}\n"
    return tiny(
        Cfg(
            about + "The second head takes anchors 1,2,3, so that the smallest anchor serves no head",
            YOLOV4_TINY_NET_KEYS,
        )
    )


def tiny(cfg: Cfg, *, classes: int = 80, anchors: str = TINY_ANCHORS, fine_mask: str = "1,2,3") -> Cfg:
    """Add three CSP stages, and a head at strides 32 and 16."""
    cfg.note("Stem")
    cfg.conv(32, 3, stride=2)
    cfg.conv(64, 3, stride=2)
    for filters, stride in [(64, 4), (128, 8), (256, 16)]:
        cfg.note(f"CSP stage at stride {stride}, on the second half of the channels")
        stride16 = tiny_csp_stage(cfg, filters)

    cfg.note("Neck at stride 32")
    cfg.conv(512, 3)
    neck32 = cfg.conv(256, 1)
    cfg.conv(512, 3)
    tiny_head(cfg, 32, "3,4,5", anchors, classes)
    cfg.note("Up to stride 16")
    cfg.route(cfg.back(neck32))
    cfg.conv(128, 1)
    cfg.upsample()
    cfg.route(-1, stride16)
    cfg.conv(256, 3)
    tiny_head(cfg, 16, fine_mask, anchors, classes)
    return cfg
