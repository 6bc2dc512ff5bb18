"""Faults planted in the cfg of a detector with two heads: each is found once, and the remedy removes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from darkpy.config.edit import apply_remedy
from darkpy.diagnostics.doctor import examine
from darkpy.finding import Finding

ROOT = Path(__file__).resolve().parents[3]
HEALTHY = re.sub(r"(?m)^batch *=.*", "batch=64", (ROOT / "cfg/yolov3-tiny.cfg").read_text())
FILTERS = 255


def findings(text: str, tmp_path: Path) -> list[Finding]:
    (tmp_path / "my.cfg").write_text(text)
    return [finding for finding in examine(tmp_path / "my.cfg", None).findings if not finding.is_note]


def replaced(pattern: str, new: str, *, nth: int = 0) -> str:
    """HEALTHY with the n-th match of a pattern replaced."""
    match = list(re.finditer(rf"(?m)^{pattern}", HEALTHY))[nth]
    return HEALTHY[: match.start()] + new + HEALTHY[match.end() :]


# kind, the cfg, and whether a remedy cures it without a person
PLANTED: dict[str, tuple[str, str, bool]] = {
    "filters of a hidden layer": ("filters-of-head", replaced(r"filters=128", "filters=255", nth=1), False),
    "filters of all layers": ("filters-of-head", re.sub(r"(?m)^filters=.*", "filters=255", HEALTHY), False),
    "anchors negative": ("anchors-range", HEALTHY.replace("81,82", "81,-82"), False),
    "anchors zero": ("anchors-range", HEALTHY.replace("81,82", "81,0"), False),
    "anchors odd": ("odd-anchors", HEALTHY.replace("344,319", "344"), False),
    "anchors joined": ("joined-numbers", HEALTHY.replace("81,82,", "81,82 "), False),
    "jitter negative": ("jitter-range", replaced("jitter=.*", "jitter=-.3"), True),
    "jitter large": ("jitter-range", replaced("jitter=.*", "jitter=30"), True),
    "ignore_thresh": ("ignore_thresh-range", HEALTHY.replace("ignore_thresh=.7", "ignore_thresh=70"), True),
    "truth_thresh": ("truth_thresh-range", HEALTHY.replace("truth_thresh=1", "truth_thresh=-1"), True),
    "momentum": ("momentum-range", HEALTHY.replace("momentum=0.9", "momentum=9"), True),
    "decay": ("decay-range", HEALTHY.replace("decay=0.0005", "decay=5"), True),
    "saturation": ("saturation-range", HEALTHY.replace("saturation=1.5", "saturation=0"), True),
    "hue": ("hue-range", HEALTHY.replace("hue=.1", "hue=36"), True),
    "burn_in": ("burn_in-range", HEALTHY.replace("burn_in=1000", "burn_in=-1000"), False),
    "anchors of one head": ("anchors-differ", replaced("anchors.*", "anchors=1,2, 3,4, 5,6, 7,8, 9,10, 11,12"), True),
    "num of one head": ("num-differs", replaced("num=6", "num=9"), True),
    "masks overlap": ("masks", HEALTHY.replace("mask=0,1,2", "mask=2,3,4"), True),
    "masks exchanged": (
        "masks",
        HEALTHY.replace("mask=0,1,2", "mask=X").replace("mask=3,4,5", "mask=0,1,2").replace("X", "3,4,5"),
        True,
    ),
    "classes of one head": (
        "classes-differ",
        replaced("classes=80", "classes=79").replace("filters=255", "filters=252", 1),
        False,
    ),
    "no batch norm at a high rate": (
        "deep-without-norm",
        HEALTHY.replace("batch_normalize=1\n", "").replace("learning_rate=0.001", "learning_rate=0.02"),
        True,
    ),
}


def test_the_cfg_without_a_fault_is_healthy(tmp_path: Path) -> None:
    assert findings(HEALTHY, tmp_path) == []


@pytest.mark.parametrize("name", PLANTED)
def test_fault_is_found_and_the_remedy_cures_it(name: str, tmp_path: Path) -> None:
    kind, text, is_curable = PLANTED[name]
    assert text != HEALTHY
    first = next(finding for finding in findings(text, tmp_path) if finding.name == kind)
    assert first.hints
    if is_curable:
        cured = apply_remedy(text, first.remedies[0])
        assert [finding.name for finding in findings(cured, tmp_path) if finding.name == kind] == []


def test_published_masks_of_yolov4_tiny_are_a_note(tmp_path: Path) -> None:
    text = HEALTHY.replace("mask=0,1,2", "mask=1,2,3")
    (tmp_path / "my.cfg").write_text(text)
    notes = [finding for finding in examine(tmp_path / "my.cfg", None).findings if finding.name == "masks"]
    assert [finding.is_note for finding in notes] == [True]


def test_scale_of_centers_below_1_is_found(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^scale_x_y *=.*", "scale_x_y=0", (ROOT / "cfg/yolov4-tiny.cfg").read_text())
    found = [finding for finding in findings(text, tmp_path) if finding.name == "scale_x_y-range"]
    assert len(found) == 1
    assert findings(apply_remedy(text, found[0].remedies[0]), tmp_path) == []


def test_classifier_without_batch_norm_at_half_is_found(tmp_path: Path) -> None:
    layer = "[convolutional]\nfilters=8\nsize=3\npad=1\nactivation=leaky\n"
    net = "[net]\nwidth=32\nheight=32\nchannels=3\nbatch=64\nlearning_rate=.5\npolicy=poly\nmax_batches=900\n"
    text = f"{net}{layer * 3}[convolutional]\nfilters=4\nsize=1\nactivation=linear\n[avgpool]\n[softmax]\n"
    (finding,) = findings(text, tmp_path)
    assert finding.name == "deep-without-norm"
    assert findings(apply_remedy(text, finding.remedies[0]), tmp_path) == []


@pytest.mark.parametrize("activation", ["linear", "logistic"])
def test_yolov1_head_accepts_fractions(activation: str, tmp_path: Path) -> None:
    net = "[net]\nwidth=32\nheight=32\nchannels=3\nbatch=64\nlearning_rate=.001\nmax_batches=900\nburn_in=100\n"
    head = "[detection]\nclasses=2\ncoords=4\nside=3\nnum=1\n"
    assert findings(f"{net}[connected]\noutput=63\nactivation={activation}\n{head}", tmp_path) == []
