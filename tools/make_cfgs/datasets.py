"""Class names in the order of their ids, and the .data templates that point at them."""

from __future__ import annotations

COCO = """
person, bicycle, car, motorbike, aeroplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, sofa, pottedplant, bed, diningtable, toilet, tvmonitor, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
"""

VOC = """
aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike, person,
pottedplant, sheep, sofa, train, tvmonitor
"""


def names(listing: str) -> str:
    """One name a line."""
    return "".join(f"{name}\n" for name in " ".join(listing.split()).split(", "))


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
