from __future__ import annotations

import json

from darkpy.evaluation.average_precision import ClassPrecision, MeanAveragePrecision
from darkpy.evaluation.coco import COCO_STATS, CocoPrecision
from darkpy.evaluation.metric_tables import evaluation_lines, evaluation_record, map_lines

FOUND = MeanAveragePrecision(
    classes=(ClassPrecision(0.75, 4, 3, 1), ClassPrecision(0.0, 0, 0, 2)),
    detections=9,
    iou_sum=2.25,
    thresh=0.25,
    iou_thresh=0.5,
    points=0,
)
COCO = CocoPrecision(dict.fromkeys(COCO_STATS, 0.5) | {"AP_small": None}, ((0.25, 0.5), (None, None)))
NAMES = ("cat", "hot dog")


def test_both_programs_numbers_stand_side_by_side() -> None:
    assert list(evaluation_lines(FOUND, COCO, NAMES)) == [
        "class  objects     TP     FP  darknet AP50     COCO AP50       COCO AP",
        "cat          4      3      1       75.00 %       50.00 %       25.00 %",
        "",
        "darknet's mAP@0.50    37.50 %   all 2 classes, area under the curve",
        "COCO's AP             50.00 %   IoU .50 to .95, classes with objects (1 of 2)",
        "COCO's AP50           50.00 %   IoU .50",
        "COCO's AP75           50.00 %   IoU .75",
    ]


def test_records_can_be_written_as_json() -> None:
    both = json.loads(json.dumps(evaluation_record(FOUND, COCO, NAMES), allow_nan=False))
    assert both["darknet"]["mean_average_precision"] == 0.375
    assert both["darknet"]["classes"][1] == {
        "class_id": 1,
        "name": "hot dog",
        "average_precision": 0.0,
        "truths": 0,
        "tp": 0,
        "fp": 2,
    }
    assert both["coco"]["AP_small"] is None
    assert both["coco"]["classes"][0] == {"class_id": 0, "name": "cat", "AP": 0.25, "AP50": 0.5}


def test_last_digit_is_that_of_single_precision() -> None:
    """89 of 200 is a little below .445 in a float, and a little above in a double."""
    actual = MeanAveragePrecision(
        classes=(ClassPrecision(0.0, 89, 89, 111),), detections=200, iou_sum=0, thresh=0.25, iou_thresh=0.5, points=11
    )
    assert f"{actual.precision:.2f}" == "0.45"
    line = " for conf_thresh = 0.25, precision = 0.44, recall = 1.00, F1-score = 0.62 "
    assert line in list(map_lines(actual, ["a"]))
