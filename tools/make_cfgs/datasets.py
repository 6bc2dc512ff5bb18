"""Class names in the order of their ids, and the .data templates that point at them."""

from __future__ import annotations

from collections.abc import Iterable


def names(listing: Iterable[str]) -> str:
    """One name a line."""
    return "".join(f"{name}\n" for name in listing)


def data(title: str, classes: int, stem: str, train: str, valid: str, **keys: str) -> str:
    lines = [
        f"# {title}. Paths are relative to the folder the command runs in.",
        "# train and valid list one image a line; its label file lies in labels/ where the image lies in images/.",
        f"classes={classes}",
        f"train=data/{stem}/{train}",
        f"valid=data/{stem}/{valid}",
        f"names=cfg/{stem}.names",
        "# where weights are saved while training",
        "backup=backup",
        *(f"{key}={value}" for key, value in keys.items()),
    ]
    return "\n".join(lines) + "\n"


def coco_data() -> str:
    return data("COCO: 80 classes", 80, "coco", "trainvalno5k.txt", "5k.txt", eval="coco")


def voc_data() -> str:
    return data("PASCAL VOC: 20 classes", 20, "voc", "train.txt", "2007_test.txt", eval="voc")
