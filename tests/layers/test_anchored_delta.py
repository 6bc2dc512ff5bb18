"""Deltas of [yolo] and [Gaussian_yolo] against darknet's loops."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from darkpy.build import Plan, make_plan
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError
from darkpy.layers.anchors import AnchoredSpec
from darkpy.layers.loss import Loss, TrainingState
from darkpy.shapes import Shape
from tests.layers.anchored_walk import Walk

PJ, AX = Dialect
H, W, NET_W, NET_H = 3, 2, 64, 96
KEYS = "classes=3\nnum=4\nmask=3,0,1\nanchors=10,14, 23,27, 37,58, 30,20\nignore_thresh=.3\n"
YOLO, GAUSSIAN = f"[yolo]\n{KEYS}", f"[Gaussian_yolo]\n{KEYS}"
CROWD = "iou_thresh=.2\n"
EVERY_IOU = ("mse", "iou", "giou", "diou", "ciou")
ALEXEYAB = (
    "",
    *(f"iou_loss={kind}\n" for kind in EVERY_IOU),
    *(f"{CROWD}iou_thresh_kind={kind}\n" for kind in EVERY_IOU[1:]),
    CROWD + "iou_loss=ciou\nlabel_smooth_eps=.1\n",
    "counters_per_class=10,30,60\ncls_normalizer=.5\n",
    "counters_per_class=10,30,60\nlabel_smooth_eps=.2\n" + CROWD,
    "objectness_smooth=1\nobj_normalizer=.4\n",
    "objectness_smooth=1\ncounters_per_class=10,30,60\nignore_thresh=1\n" + CROWD,
    "truth_thresh=.35\niou_loss=giou\n" + CROWD,
    "truth_thresh=.35\nobjectness_smooth=1\ncounters_per_class=10,30,60\n",
    "scale_x_y=1.5\niou_loss=diou\nmax_delta=.1\n",
    "obj_normalizer=0\niou_loss=iou\n" + CROWD,
)
CASES = [
    *((PJ, YOLO + more) for more in ("", "truth_thresh=.35\n", "ignore_thresh=0\ntruth_thresh=.1\n")),
    *((AX, YOLO + more) for more in ALEXEYAB),
    *((AX, GAUSSIAN + more) for more in ALEXEYAB),
    *(
        (AX, YOLO + more)
        for more in ("focal_loss=1\n", "focal_loss=1\ncounters_per_class=1,2,3\nlabel_smooth_eps=.1\n")
    ),
    *((AX, f"{YOLO}new_coords=1\niou_loss={kind}\n") for kind in EVERY_IOU),
    *((AX, f"{GAUSSIAN}yolo_point={point}\n") for point in ("left_top", "right_bottom")),
    *((AX, f"{GAUSSIAN}yolo_point={point}\niou_loss=giou\n") for point in ("left_top", "right_bottom")),
    (AX, GAUSSIAN + "uc_normalizer=.3\nmax_delta=.2\n"),
]


def planned(dialect: Dialect, section: str) -> tuple[Plan, AnchoredSpec]:
    channels = 3 * ((9 if "Gaussian" in section else 5) + 3)
    net = f"[net]\nbatch=2\nheight={H}\nwidth={W}\nchannels={channels}\nmax_batches=100\n"
    plan = make_plan(net + section, dialect)
    spec = plan.nodes[0].spec
    assert isinstance(spec, AnchoredSpec)
    return plan, spec


def output(plan: Plan, spec: AnchoredSpec, seed: int = 3) -> torch.Tensor:
    """Head output of two images in float64."""
    x_BCHW = torch.randn(2, *plan.input_shape, generator=torch.Generator().manual_seed(seed)).double()
    head = spec.build((plan.input_shape,), plan.net)
    y_BCHW: torch.Tensor = head(x_BCHW.sigmoid() if getattr(spec, "new_coords", False) else x_BCHW)
    return y_BCHW


def truth(spec: AnchoredSpec, *images: list[list[float]]) -> torch.Tensor:
    truth_BTE = torch.zeros(len(images), *spec.truth_shape(Shape(1, 1, 1)), dtype=torch.float64)
    for image, rows in enumerate(images):
        for row, numbers in enumerate(rows):
            truth_BTE[image, row, : len(numbers)] = torch.tensor(numbers, dtype=torch.float64)
    return truth_BTE


def crowd(seed: int = 5) -> list[list[float]]:
    """Nine objects of all sizes, up to four of one or several classes at one prediction."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(4, 2, generator=generator)[torch.tensor((0, 0, 0, 0, 1, 1, 2, 3, 3))]
    sizes = 0.1 + 0.5 * torch.rand(3, 2, generator=generator)[torch.tensor((0, 0, 0, 0, 1, 1, 2, 1, 2))]
    classes = torch.tensor([[2.0], [0], [2], [1], [0], [0], [1], [2], [0]])
    wobble = 0.01 * torch.rand(9, 2, generator=generator)
    rows: list[list[float]] = torch.cat((centers, sizes + wobble, classes), 1).tolist()
    return rows


def learn(plan: Plan, spec: AnchoredSpec, output_BCHW: torch.Tensor, truth_BTE: torch.Tensor) -> Loss:
    net = type(plan.net)(dialect=plan.net.dialect, batch=2, width=NET_W, height=NET_H)
    return spec.loss(output_BCHW, output_BCHW, truth_BTE, TrainingState(net, 2))


def walks(spec: AnchoredSpec, output_BCHW: torch.Tensor, *images: list[list[float]]) -> list[Walk]:
    walked = []
    for said_CHW, rows in zip(output_BCHW, images, strict=True):
        walked.append(Walk(spec, said_CHW.view(3, spec.entries, H, W), rows, NET_W, NET_H))
        walked[-1].walk()
    return walked


@pytest.mark.parametrize(("dialect", "section"), CASES)
def test_deltas_are_those_of_the_walk(dialect: Dialect, section: str) -> None:
    plan, spec = planned(dialect, section)
    for seed in range(4):
        output_BCHW, images = output(plan, spec, seed), (crowd(seed), crowd(seed + 7)[:3])
        loss = learn(plan, spec, output_BCHW, truth(spec, *images))
        walked = walks(spec, output_BCHW, *images)
        wanted_BCHW = torch.stack([walk.delta.reshape(-1, H, W) for walk in walked])
        torch.testing.assert_close(loss.delta, wanted_BCHW, atol=1e-6, rtol=1e-6)
        assert int(loss.report["total_bbox"]) == sum(walk.boxes for walk in walked)
        assert int(loss.report["count"]) == sum(len(walk.overlaps) for walk in walked)


@pytest.mark.parametrize(
    ("dialect", "section"), [(PJ, YOLO), (AX, YOLO + CROWD), (AX, YOLO + "truth_thresh=.1\n"), (AX, GAUSSIAN)]
)
def test_what_the_log_says_is_counted_as_on_the_walk(dialect: Dialect, section: str) -> None:
    plan, spec = planned(dialect, section)
    output_BCHW, images = output(plan, spec), (crowd(), crowd(9)[:3])
    report = learn(plan, spec, output_BCHW, truth(spec, *images)).report
    walked = walks(spec, output_BCHW, *images)
    overlaps = [overlap for walk in walked for overlap in walk.overlaps]
    assert int(report["rewritten_bbox"]) == sum(walk.rewritten for walk in walked) > 0
    assert float(report["iou"]) == pytest.approx(sum(overlaps))
    assert int(report["recall50"]) == sum(overlap > 0.5 for overlap in overlaps)
    objectness_BAHW = output_BCHW.view(2, 3, spec.entries, H, W)[:, :, spec.box_entries - 1]
    assert float(report["no_obj"]) == pytest.approx(float(objectness_BAHW.mean()))


@pytest.mark.parametrize(
    "row",
    [
        [0.3, 0.3, 0.2, 0.2, 3],
        [0.3, 0.3, 0.2, 0.2, -1],
        [0.3, 0.3, 0.2, 0.2, 1e30],
        [0.3, 0.3, 0.2, 0.2, math.nan],
        [0.3, 0.3, 0.0, 0.2, 1],
        [0.3, 0.3, 0.2, -0.2, 1],
        [0.3, math.nan, 0.2, 0.2, 1],
        [0.3, 0.3, math.inf, 0.2, 1],
        [-0.1, 0.3, 0.2, 0.2, 1],
        [0.3, 1.1, 0.2, 0.2, 1],
        [999999, 999999, 999999, 999999, 1],
    ],
)
@pytest.mark.parametrize(("dialect", "section"), [(PJ, YOLO), (AX, YOLO), (AX, GAUSSIAN)])
def test_a_row_that_is_no_object_is_counted_and_nothing_else(dialect: Dialect, section: str, row: list[float]) -> None:
    plan, spec = planned(dialect, section)
    output_BCHW, rows = output(plan, spec), crowd()
    clean = learn(plan, spec, output_BCHW, truth(spec, rows, []))
    actual = learn(plan, spec, output_BCHW, truth(spec, [*rows[:4], row, *rows[4:]], [row]))
    assert torch.equal(actual.delta, clean.delta)
    assert (int(clean.report["rejected"]), int(actual.report["rejected"])) == (0, 2)


def test_a_list_ends_at_the_first_x_of_0() -> None:
    plan, spec = planned(PJ, YOLO)
    output_BCHW, rows = output(plan, spec), crowd()
    short, cut = ([*rows[:2]], [*rows[:2], [0.0, 0.5, 0.1, 0.1, 1], *rows[2:]])
    first, second = (learn(plan, spec, output_BCHW, truth(spec, some, some)) for some in (short, cut))
    assert torch.equal(first.delta, second.delta)


@pytest.mark.parametrize(("dialect", "section"), [(PJ, YOLO), (AX, YOLO + CROWD), (AX, GAUSSIAN)])
def test_a_center_on_the_far_edge_is_learned_in_the_last_cell(dialect: Dialect, section: str) -> None:
    plan, spec = planned(dialect, section)
    loss = learn(plan, spec, output(plan, spec), truth(spec, [[1.0, 1.0, 0.36, 0.28, 1]], []))
    classes_BAKHW = loss.delta.view(2, 3, spec.entries, H, W)[:, :, spec.box_entries :]
    assert {tuple(place[-2:]) for place in classes_BAKHW.nonzero().tolist()} == {(H - 1, W - 1)}


@pytest.mark.parametrize(
    ("dialect", "section"), [(PJ, YOLO), (PJ, YOLO.replace("=.3", "=0")), (AX, YOLO + CROWD), (AX, GAUSSIAN)]
)
def test_without_objects_every_objectness_goes_down_and_nothing_else_moves(dialect: Dialect, section: str) -> None:
    plan, spec = planned(dialect, section)
    output_BCHW = output(plan, spec)
    loss = learn(plan, spec, output_BCHW, truth(spec, [], []))
    wanted_BAEHW = torch.zeros(2, 3, spec.entries, H, W, dtype=torch.float64)
    objectness = spec.box_entries - 1
    wanted_BAEHW[:, :, objectness] = -output_BCHW.view(wanted_BAEHW.shape)[:, :, objectness]
    assert torch.equal(loss.delta, wanted_BAEHW.view(output_BCHW.shape))
    assert int(loss.report["count"]) == 0


def test_pjreddies_log_has_no_mean_over_nothing() -> None:
    plan, spec = planned(PJ, YOLO)
    loss = learn(plan, spec, torch.full((2, *plan.input_shape), 0.25), truth(spec, [], []))
    target = "Region 7 Avg IOU: -nan, Class: -nan, Obj: -nan, No Obj: 0.250000, .5R: -nan, .75R: -nan,  count: 0"
    assert spec.log_line(7, loss) == target


def test_classes_of_a_saturated_logistic_join_like_others() -> None:
    """A case in which darknet's test for a class delta of 0 would lose the truth of class 1."""
    plan, spec = planned(AX, YOLO)
    output_BCHW = torch.full((2, *plan.input_shape), 0.25)
    output_BCHW.view(2, 3, 8, H, W)[:, :, 5] = 1.0
    rows = [[0.4, 0.4, 0.36, 0.28, which] for which in (0, 1, 0)]
    loss = learn(plan, spec, output_BCHW, truth(spec, rows, []))
    second_anchors_EHW = loss.delta.view(2, 3, 8, H, W)[0, 2]
    assert second_anchors_EHW[5:, 1, 0].tolist() == [0.0, 0.75, -0.25]


@pytest.mark.parametrize(
    ("dialect", "section"), [(PJ, YOLO), (AX, YOLO), (AX, YOLO + "iou_loss=ciou\n"), (AX, GAUSSIAN)]
)
def test_nonfinite_deltas_are_counted_and_set_to_0_in_alexeyabs_dialect(dialect: Dialect, section: str) -> None:
    plan, spec = planned(dialect, section)
    output_BCHW = output(plan, spec)
    output_BCHW[0, :, 1, 1] = math.nan
    loss = learn(plan, spec, output_BCHW, truth(spec, [[0.6, 0.5, 0.36, 0.28, 1]], []))
    assert int(loss.report["nonfinite"]) > 0
    assert bool(loss.delta.isfinite().all()) is (dialect is AX)
    assert bool(loss.delta[1].isfinite().all())


@pytest.mark.parametrize("score", [0.25, 0.26])
@pytest.mark.parametrize(("dialect", "section"), [(PJ, YOLO), (AX, YOLO), (AX, GAUSSIAN)])
def test_alexeyabs_predictions_are_ignored_when_they_are_confident_of_a_class_pjreddies_always(
    dialect: Dialect, section: str, score: float
) -> None:
    plan, spec = planned(dialect, section)
    output_BCHW = torch.full((2, *plan.input_shape), 0.125)
    entries_BAEHW = output_BCHW.view(2, 3, spec.entries, H, W)
    entries_BAEHW[:, :, spec.box_entries] = score
    # the second prediction of the first cell is the truth, whose size is an anchor of another head
    entries_BAEHW[0, 1, spec.xywh, 0, 0] = torch.tensor([0.5, 0.5, math.log(3.5), math.log(4.2)])
    loss = learn(plan, spec, output_BCHW, truth(spec, [[0.25, 1 / 6, 35 / 64, 58.8 / 96, 2]], []))
    actual = loss.delta.view(entries_BAEHW.shape)[0, 1, spec.box_entries - 1, 0, 0]
    assert float(actual) == (0 if dialect is PJ or score > 0.25 else -0.125)


@pytest.mark.parametrize(("dialect", "section"), [(PJ, YOLO), (AX, YOLO), (AX, GAUSSIAN)])
def test_thresholds_below_0_make_no_objects_of_nothing(dialect: Dialect, section: str) -> None:
    low = "truth_thresh=-1\n" + ("" if dialect is PJ else "objectness_smooth=1\n")
    plan, spec = planned(dialect, section.replace("ignore_thresh=.3", "ignore_thresh=-1") + low)
    loss = learn(plan, spec, output(plan, spec), truth(spec, [], []))
    assert not loss.delta.view(2, 3, spec.entries, H, W)[:, :, spec.box_entries :].any()


def test_anchors_of_the_mask_beyond_num_are_matched_too() -> None:
    plan, spec = planned(AX, YOLO.replace("num=4", "num=2"))
    loss = learn(plan, spec, output(plan, spec), truth(spec, [[0.5, 0.5, 30 / 64, 20 / 96, 1]], []))
    classes_AKHW = loss.delta.view(2, 3, spec.entries, H, W)[0, :, spec.box_entries :]
    assert classes_AKHW.flatten(1).any(1).tolist() == [True, False, False]


def test_a_map_gives_labels_the_heads_classes(tmp_path: Path) -> None:
    (tmp_path / "some.map").write_text("2\n2\n0\n1\n")
    plan, spec = planned(PJ, YOLO)
    _, mapped = planned(PJ, f"{YOLO}map={tmp_path}/some.map\n")
    output_BCHW, rows = output(plan, spec), crowd()
    direct = learn(plan, spec, output_BCHW, truth(spec, [[*row[:4], (2, 2, 0)[int(row[4])]] for row in rows], []))
    assert torch.equal(learn(plan, mapped, output_BCHW, truth(spec, rows, [])).delta, direct.delta)
    assert int(learn(plan, mapped, output_BCHW, truth(spec, [[*rows[0][:4], 3]], [])).report["rejected"]) == 0


def test_counters_for_other_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="counters_per_class lists 2 classes, but classes=3"):
        planned(AX, YOLO + "counters_per_class=10,20\n")


@pytest.mark.parametrize("section", [YOLO, GAUSSIAN])
def test_delta_normalizer_is_for_the_layer_before(section: str) -> None:
    plan, spec = planned(AX, section + "delta_normalizer=.25\n")
    loss = learn(plan, spec, output(plan, spec), truth(spec, crowd(), []))
    assert torch.equal(loss.input_delta, 0.25 * loss.delta)


def test_a_row_of_a_truth_has_the_numbers_its_dialect_writes() -> None:
    assert [planned(dialect, YOLO)[1].truth_shape(Shape(1, 1, 1)) for dialect in (PJ, AX)] == [(90, 5), (200, 6)]


@pytest.mark.parametrize("section", [YOLO, GAUSSIAN])
def test_memory_format_is_no_matter(section: str) -> None:
    plan, spec = planned(AX, section)
    output_BCHW, truth_BTE = output(plan, spec), truth(spec, crowd(), crowd(9))
    plain = learn(plan, spec, output_BCHW, truth_BTE)
    other = learn(plan, spec, output_BCHW.contiguous(memory_format=torch.channels_last), truth_BTE)
    assert torch.equal(plain.delta, other.delta)
