"""Compute mAP and the precision of each class on the `valid` list of a data set."""

from pathlib import Path

import darkpy

network = darkpy.accelerate(darkpy.load("sample.cfg", "sample.weights"))
result = darkpy.evaluate(network, "shapes/sample.data")

names = Path("sample.names").read_text().split()
for name, of_class in zip(names, result.classes, strict=True):
    print(f"{name:>10}: AP {100 * of_class.average_precision:.1f} %")
print(f"      mAP: {100 * result.mean:.1f} %")
