"""YOLOv7-tiny: ELAN blocks, which concatenate all their convolutions, in backbone and neck."""

from __future__ import annotations

from .blocks import spp, upsample_beside
from .schedules import DETECTOR_COLORS, falling_steps, images, optimizer
from .writer import Cfg, Keys
from .yolov3 import YOLOV3_ANCHORS
from .yolov4_scaled import head

YOLOV7_PAPER = (
    'Wang, Bochkovskiy, Liao: "YOLOv7: Trainable bag-of-freebies sets new state-of-the-art for real-time object '
    'detectors", 2022'
)
YOLOV7_NET_KEYS: Keys = {
    **images(416, 64, 1),
    **falling_steps("0.00261", 2000200, 1600000, 1800000),
    **optimizer(),
    **DETECTOR_COLORS,
}


def elan(cfg: Cfg, width: int, filters: int) -> int:
    """Add two 1x1 branches, the second with two 3x3 convolutions behind; concatenate all four layers, then 1x1."""
    first = cfg.conv(width, 1)
    cfg.route(-2)
    second = cfg.conv(width, 1)
    third = cfg.conv(width, 3)
    fourth = cfg.conv(width, 3)
    cfg.route(*(cfg.back(layer) for layer in (first, second, third, fourth)))
    return cfg.conv(filters, 1)


def pyramid(cfg: Cfg, filters: int) -> int:
    """Add spatial pyramid pooling on one of two CSP branches."""
    bypass = cfg.conv(filters, 1)
    cfg.route(-2)
    cfg.conv(filters, 1)
    spp(cfg)
    cfg.conv(filters, 1)
    cfg.route(cfg.back(bypass), -1)
    return cfg.conv(filters, 1)


def down_beside(cfg: Cfg, coarse: int, filters: int) -> None:
    """Concatenate the last layer, downsampled by 2, with a coarser one of the neck."""
    cfg.conv(filters, 3, stride=2)
    cfg.route(-1, coarse)


def yolov7_tiny() -> Cfg:
    cfg = Cfg(f"YOLOv7-tiny: COCO (80 classes), 416x416\n{YOLOV7_PAPER}", YOLOV7_NET_KEYS)
    cfg.note("Stem")
    cfg.conv(32, 3, stride=2)
    cfg.conv(64, 3, stride=2)
    cfg.note("ELAN at stride 4")
    stages = [elan(cfg, 32, 64)]
    for width, stride in [(64, 8), (128, 16), (256, 32)]:
        cfg.note(f"ELAN at stride {stride}")
        cfg.maxpool()
        stages.append(elan(cfg, width, 2 * width))
    _, stride8, stride16, _ = stages

    cfg.note("Neck at stride 32")
    neck32 = pyramid(cfg, 256)
    cfg.note("Up to stride 16")
    upsample_beside(cfg, stride16, 128)
    neck16 = elan(cfg, 64, 128)
    cfg.note("Up to stride 8")
    upsample_beside(cfg, stride8, 64)
    neck8 = elan(cfg, 32, 64)
    cfg.note("Down to stride 16")
    down_beside(cfg, neck16, 128)
    end16 = elan(cfg, 64, 128)
    cfg.note("Down to stride 32")
    down_beside(cfg, neck32, 256)
    end32 = elan(cfg, 128, 256)

    for neck, stride, mask in [(neck8, 8, "0,1,2"), (end16, 16, "3,4,5"), (end32, 32, "6,7,8")]:
        cfg.note(f"Where the neck ends at stride {stride}")
        cfg.route(neck)
        head(
            cfg,
            stride,
            16 * stride,
            mask,
            anchors=YOLOV3_ANCHORS,
            obj_normalizer="1.0",
            objectness_smooth=1,
            max_delta=2,
        )
    return cfg
