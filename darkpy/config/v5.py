"""darknet V5 (hank-ai): the sections that it has, and the keys that its library does not read.

Source: hank-ai/darknet src-lib/darknet_cfg.cpp create_network, src-lib/darknet.cpp predict
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from darkpy.config.text import Config
from darkpy.finding import Cause, Finding, Location, Severity

V5_SECTIONS = frozenset({
    *("net", "network", "convolutional", "conv", "connected", "conn", "maxpool", "max", "avgpool", "avg"),
    *("local_avgpool", "local_avg", "softmax", "soft", "dropout", "route", "cost", "shortcut", "scale_channels", "sam"),
    *("rnn", "lstm", "crnn", "region", "yolo", "Gaussian_yolo", "reorg3d", "upsample", "contrastive"),
})  # fmt: skip
_UNREAD_KEYS = frozenset({"letter_box", "nms_kind", "beta_nms"})


def without_unread_keys(config: Config) -> Config:
    """Return a cfg as V5's library reads it: it stretches all images, and suppresses boxes by their plain IoU."""
    sections = [
        replace(section, entries={key: entry for key, entry in section.entries.items() if key not in _UNREAD_KEYS})
        for section in config.sections
    ]
    return replace(config, sections=type(config.sections)(sections))


def absent_sections(config: Config) -> Iterator[Finding]:
    """Yield a note for each kind of section that V5 has not."""
    first_by_type = {section.type: section for section in reversed(config.sections)}
    for type_name, section in sorted(first_by_type.items(), key=lambda item: item[1].line):
        if type_name not in V5_SECTIONS:
            yield Finding(
                name="dialect",
                message=f"darknet V5 has no [{type_name}], and cannot load this network",
                severity=Severity.NOTE,
                cause=Cause.DETAILS,
                location=Location(config.file, section.line, section.type, section.index),
            )
