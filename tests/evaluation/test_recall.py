from __future__ import annotations

import torch
from torch import Tensor

from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.evaluation.metric_tables import recall_line
from darkpy.evaluation.recall import Recall
from darkpy.ops.boxes import Detections

HALF_OVER = (0.5, 0.5, 0.25, 0.1875)
"""Three quarters of the first truth."""


def truths() -> GroundTruth:
    boxes_N4 = torch.tensor([(0.5, 0.5, 0.25, 0.25), (0.25, 0.25, 0.25, 0.25), (0.5, 0.5, 0.5, 0.5)])
    return GroundTruth(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 0]), boxes_N4)


def boxes(*rows: tuple[int, tuple[float, ...], float]) -> Detections:
    objectness_M = torch.tensor([row[2] for row in rows])
    image_M, boxes_M4 = torch.tensor([row[0] for row in rows]), torch.tensor([row[1] for row in rows])
    return Detections(image_M, boxes_M4, objectness_M, no_class(len(rows)))


def no_class(count: int) -> Tensor:
    return torch.zeros(count, 2)


def test_counts_go_up_from_image_to_image() -> None:
    counts = Recall(truths(), 3)
    counts.add(boxes((0, HALF_OVER, 0.5), (0, (0.9, 0.9, 0.1, 0.1), 0.9), (1, HALF_OVER, 0.5)))
    counts.add(boxes((2, (0.5, 0.5, 0.25, 0.25), 0.01)))
    lines = [recall_line(one) for one in counts.result()]
    assert lines == [
        "    0     1     2\tRPs/Img: 2.00\tIOU: 37.50%\tRecall:50.00%",
        "    1     1     2\tRPs/Img: 1.50\tIOU: 37.50%\tRecall:50.00%",
        "    2     1     3\tRPs/Img: 1.33\tIOU: 33.33%\tRecall:33.33%",
    ]


def test_box_without_objectness_is_no_box() -> None:
    counts = Recall(truths(), 3)
    counts.add(boxes((0, HALF_OVER, 0.0), (0, HALF_OVER, 0.001)))
    assert (counts.result()[-1].boxes, counts.result()[-1].iou_sum) == (0, 0)


def test_list_without_objects_has_no_nan() -> None:
    nothing = GroundTruth(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))
    (one,) = Recall(nothing, 1).result()
    assert recall_line(one) == "    0     0     0\tRPs/Img: 0.00\tIOU: 0.00%\tRecall:0.00%"
