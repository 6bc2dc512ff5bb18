"""Compute mAP and the precision of each class on the `valid` list of a data set."""

from pathlib import Path

import darkpy
from darkpy.data.lists.paths import read_image_list
from darkpy.data.lists.text_files import read_data
from darkpy.evaluation.average_precision import AveragePrecision, map_options
from darkpy.evaluation.ground_truth import read_ground_truth
from darkpy.evaluation.runner import Metric, run_metrics

data = read_data(Path("shapes/sample.data"))
network = darkpy.accelerate(darkpy.load("sample.cfg", "sample.weights"))
valid = data.find("valid")
assert valid is not None, "the .data file has no valid="
paths = read_image_list(valid)
names = Path("sample.names").read_text().split()

precision = AveragePrecision(read_ground_truth(paths, network.plan.dialect, len(names)), len(names))
for status in run_metrics(network, paths, [Metric(map_options(network), precision.add)]):
    if status.error:
        print(status.error)

result = precision.result()
for name, of_class in zip(names, result.classes, strict=True):
    print(f"{name:>10}: AP {100 * of_class.average_precision:.1f} %")
print(f"      mAP: {100 * result.mean:.1f} %")
