"""Feature extractors shared by classifiers and detectors. The deepest layer is added last."""

from __future__ import annotations

from .blocks import csp_stage, residuals, squeezes
from .writer import Cfg


def darknet19(cfg: Cfg) -> int:
    """Add five maxpools between stages of squeezed 3x3 convolutions. Returns the layer before the fifth maxpool."""
    cfg.note("Stem")
    cfg.conv(32, 3)
    for stage, (filters, count) in enumerate([(64, 0), (128, 1), (256, 1), (512, 2), (1024, 2)], start=1):
        lateral = cfg.last()
        cfg.maxpool()
        cfg.note(f"Stage {stage}, stride {2**stage}")
        cfg.conv(filters, 3)
        squeezes(cfg, filters // 2, filters, count)
    return lateral


def tiny(cfg: Cfg, last_pool_stride: int) -> int:
    """Add six 3x3 convolutions with a maxpool behind each, then 1024 filters. Returns the convolution at stride 16."""
    for stage, filters in enumerate([16, 32, 64, 128, 256]):
        cfg.note(f"Stage {stage}, stride {2**stage}")
        lateral = cfg.conv(filters, 3)
        cfg.maxpool()
    cfg.note("Stage 5, stride 32")
    cfg.conv(512, 3)
    cfg.maxpool(2, stride=last_pool_stride)
    cfg.conv(1024, 3)
    return lateral


def darknet53(cfg: Cfg) -> list[int]:
    """Add five residual stages, each entered by a 3x3 convolution of stride 2. Returns the last layer of each."""
    cfg.note("Stem")
    cfg.conv(32, 3)
    ends: list[int] = []
    for stage, blocks in enumerate([1, 2, 8, 8, 4], start=1):
        filters = 32 * 2**stage
        cfg.note(f"Stage {stage}, stride {2**stage}: residual blocks x {blocks}")
        cfg.conv(filters, 3, stride=2)
        ends.append(residuals(cfg, filters // 2, filters, blocks))
    return ends


def csp_darknet53(cfg: Cfg) -> list[int]:
    """Add Darknet-53 with cross-stage-partial stages. Returns the last layer of each."""
    cfg.note("Stem")
    cfg.conv(32, 3)
    cfg.note("Stage 1, stride 2: CSP, residual blocks x 1")
    ends = [csp_stage(cfg, 64, 1, half=64, narrow=32)]
    return ends + csp_stages(cfg, 128, [2, 8, 8, 4])


def scaled_csp_darknet(cfg: Cfg, filters: int, depths: list[int]) -> list[int]:
    """Add the backbone of Scaled-YOLOv4: a residual block, then CSP stages. Returns the last layer of each."""
    cfg.note("Stem")
    cfg.conv(32, 3)
    cfg.note("Stage 1, stride 2: one residual block")
    cfg.conv(filters, 3, stride=2)
    ends = [residuals(cfg, filters // 2, filters)]
    return ends + csp_stages(cfg, filters * 2, depths)


def csp_stages(cfg: Cfg, filters: int, depths: list[int]) -> list[int]:
    """Add CSP stages from stride 4 on, each with twice the filters of the one before."""
    ends: list[int] = []
    for stage, blocks in enumerate(depths, start=2):
        cfg.note(f"Stage {stage}, stride {2**stage}: CSP, residual blocks x {blocks}")
        ends.append(csp_stage(cfg, filters * 2 ** (stage - 2), blocks))
    return ends
