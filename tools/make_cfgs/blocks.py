"""Building blocks of several networks."""

from __future__ import annotations

from .writer import Cfg


def squeezes(cfg: Cfg, narrow: int, wide: int, times: int = 1) -> int:
    """Add pairs of convolutions: 1x1 down to narrow, 3x3 up to wide."""
    for _ in range(times):
        cfg.conv(narrow, 1)
        cfg.conv(wide, 3)
    return cfg.last()


def residuals(cfg: Cfg, narrow: int, wide: int, times: int = 1) -> int:
    """Add pairs of convolutions with a shortcut around each."""
    for _ in range(times):
        source = cfg.last()
        squeezes(cfg, narrow, wide)
        cfg.shortcut(source)
    return cfg.last()


def csp_stage(cfg: Cfg, filters: int, blocks: int, *, half: int = 0, narrow: int = 0) -> int:
    """Add a cross-stage-partial stage: downsample, residual blocks on half of the channels, concatenate the halves."""
    half = half or filters // 2
    cfg.conv(filters, 3, stride=2)
    bypass = cfg.conv(half, 1)
    cfg.route(-2)
    cfg.conv(half, 1)
    residuals(cfg, narrow or half, half, blocks)
    cfg.conv(half, 1)
    cfg.route(-1, cfg.back(bypass))
    return cfg.conv(filters, 1)


def spp(cfg: Cfg) -> int:
    """Add spatial pyramid pooling: the last layer and its maxima over 5x5, 9x9 and 13x13, concatenated."""
    source = cfg.last()
    cfg.note("SPP: maxima over 5x5, 9x9, 13x13, joined with their source")
    pools = [cfg.maxpool(5, stride=1)]
    for size in (9, 13):
        cfg.route(cfg.back(source))
        pools.append(cfg.maxpool(size, stride=1))
    return cfg.route(*(cfg.back(layer) for layer in (*reversed(pools), source)))


def upsample_beside(cfg: Cfg, lateral: int, filters: int) -> int:
    """Narrow and upsample the last layer, and concatenate it with a narrowed layer of the backbone (PAN, upwards)."""
    cfg.conv(filters, 1)
    up = cfg.upsample()
    cfg.route(lateral)
    cfg.conv(filters, 1)
    return cfg.route(-1, cfg.back(up))
