from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from darkpy.evaluation import nms
from darkpy.evaluation.nms import suppress, suppress_by_objectness
from darkpy.ops import boxes
from darkpy.ops.boxes import Detections

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "boxes.npz")
KINDS = ("default", "greedynms", "diounms", "cornersnms")


def from_rows(rows: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Detections:
    """x, y, w, h, objectness, scores: one image."""
    table = torch.from_numpy(rows)
    return Detections(torch.zeros(len(table), dtype=torch.int64), table[:, :4], table[:, 4], table[:, 5:].contiguous())


def by_box(rows: Tensor) -> dict[tuple[float, ...], tuple[float, ...]]:
    return {tuple(row[:4]): tuple(row[4:]) for row in rows.tolist()}


def table_of(detections: Detections) -> Tensor:
    return torch.cat((detections.boxes_M4, detections.objectness_M[:, None], detections.prob_MK), dim=1)


def random_detections(seed: int, images: int, count: int, classes: int) -> Detections:
    """Boxes in heaps, scores rounded so that many are equal, many zeros.

    The boxes are double so that one pair alone and a pair in a matrix compare alike with thresh.
    """
    rng = torch.Generator().manual_seed(seed)
    heap = torch.rand(max(1, count // 6), 4, generator=rng) * 0.5 + 0.1
    jitter = 0.05 * torch.randn(count, 4, generator=rng)
    prob_MK = (torch.rand(count, classes, generator=rng) * 20).round() / 20
    return Detections(
        torch.randint(images, (count,), generator=rng),
        (heap[torch.randint(len(heap), (count,), generator=rng)] + jitter).abs().double(),
        (torch.rand(count, generator=rng) * 10).round() / 10,
        prob_MK * (torch.rand(count, classes, generator=rng) < 0.6),
    )


def removes(kind: str, beta: float, a: Tensor, b: Tensor, thresh: float) -> bool:
    overlap = boxes.iou(a, b)
    if kind == "greedynms":
        overlap = boxes.diou(a, b)
    if kind == "diounms":
        overlap = boxes.diou(a, b, beta)
    return bool(overlap > thresh)


def greedy(box_M4: Tensor, score_M: Tensor, kind: str, beta: float, thresh: float) -> list[int]:
    """Indices that a plain double loop removes."""
    order = [i for i in score_M.argsort(descending=True, stable=True).tolist() if score_M[i] != 0]
    gone: list[int] = []
    for n, i in enumerate(order):
        if i not in gone:
            gone += [j for j in order[n + 1 :] if removes(kind, beta, box_M4[i], box_M4[j], thresh)]
    return gone


def plain_suppress(detections: Detections, thresh: float, kind: str, beta: float) -> Tensor:
    prob_MK = detections.prob_MK.clone()
    alive = detections.objectness_M != 0
    for image in set(detections.image_M.tolist()):
        for k in range(prob_MK.shape[1]):
            here = alive & (detections.image_M == image)
            gone = greedy(detections.boxes_M4, detections.prob_MK[:, k] * here, kind, beta, thresh)
            prob_MK[gone, k] = 0
    return prob_MK


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("pjreddie/nms_sort_0.45", "default"),
        ("alexeyab/nms_sort_0.45", "default"),
        ("alexeyab/nms_greedy_0.45_beta0.6", "greedynms"),
        ("alexeyab/nms_diou_0.45_beta0.6", "diounms"),
        ("alexeyab/nms_corners_0.45_beta0.6", "cornersnms"),
    ],
)
def test_each_kind_leaves_the_scores_that_darknet_leaves(key: str, kind: str) -> None:
    before = from_rows(GOLDEN[key.split("/")[0] + "/detections"])
    after = suppress(before, 0.45, kind, 0.6)
    assert not torch.equal(after.prob_MK, before.prob_MK)
    assert by_box(table_of(after)) == by_box(torch.from_numpy(GOLDEN[key]))


@pytest.mark.parametrize("fork", ["pjreddie", "alexeyab"])
def test_suppression_by_objectness_leaves_what_darknet_leaves(fork: str) -> None:
    after = suppress_by_objectness(from_rows(GOLDEN[f"{fork}/detections"]), 0.45)
    assert by_box(table_of(after)) == by_box(torch.from_numpy(GOLDEN[f"{fork}/nms_obj_0.45"]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 30), st.integers(1, 4), st.sampled_from(KINDS))
def test_every_kind_equals_a_plain_double_loop(seed: int, images: int, count: int, classes: int, kind: str) -> None:
    detections = random_detections(seed, images, count, classes)
    expected = plain_suppress(detections, 0.4, kind, beta=0.8)
    assert torch.equal(suppress(detections, 0.4, kind, beta=0.8).prob_MK, expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 40))
def test_suppression_by_objectness_equals_a_plain_double_loop(seed: int, images: int, count: int) -> None:
    before = random_detections(seed, images, count, 2)
    after = suppress_by_objectness(before, 0.4)
    gone = [
        place
        for image in range(images)
        for place in greedy(before.boxes_M4, before.objectness_M * (before.image_M == image), "default", 0, 0.4)
    ]
    stays = torch.ones(count).index_fill(0, torch.tensor(gone, dtype=torch.int64), 0)
    assert torch.equal(after.objectness_M, before.objectness_M * stays)
    assert torch.equal(after.prob_MK, before.prob_MK * stays[:, None])


@pytest.mark.parametrize("pairs", [1, 30, 400])
def test_the_size_of_the_pieces_changes_nothing(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    detections = random_detections(5, images=2, count=150, classes=3)
    whole = suppress(detections, 0.4)
    monkeypatch.setattr(nms, "MAX_PAIRS", pairs)
    assert torch.equal(suppress(detections, 0.4).prob_MK, whole.prob_MK)


def test_a_chain_longer_than_the_front_loses_every_second_box() -> None:
    count = 3 * nms.MAX_FRONT
    box_M4 = torch.tensor([[0.3 * i, 0.0, 1.0, 1.0] for i in range(count)])
    score = torch.linspace(1, 0.1, count)
    chain = Detections(torch.zeros(count, dtype=torch.int64), box_M4, torch.ones(count), score[:, None])
    stays = suppress(chain, 0.45).prob_MK[:, 0] != 0
    assert stays.tolist() == [i % 2 == 0 for i in range(count)]


def test_the_same_box_in_another_image_or_class_stays() -> None:
    box = torch.tensor([[0.5, 0.5, 0.2, 0.2]]).repeat(3, 1)
    prob_MK = torch.tensor([[0.9, 0.0], [0.8, 0.7], [0.6, 0.0]])
    after = suppress(Detections(torch.tensor([0, 0, 1]), box, torch.ones(3), prob_MK), 0.45)
    assert after.prob_MK.tolist() == torch.tensor([[0.9, 0.0], [0.0, 0.7], [0.6, 0.0]]).tolist()


def test_overlap_equal_to_thresh_does_not_suppress() -> None:
    box = torch.tensor([[0.25, 0.5, 0.5, 1.0], [0.375, 0.5, 0.25, 1.0]])
    pair = Detections(torch.zeros(2, dtype=torch.int64), box, torch.ones(2), torch.tensor([[0.9], [0.8]]))
    assert suppress(pair, 0.5).prob_MK.count_nonzero() == 2
    assert suppress(pair, 0.49).prob_MK.count_nonzero() == 1


def test_of_equal_scores_the_first_box_stays() -> None:
    box = torch.tensor([[0.5, 0.5, 0.2, 0.2]]).repeat(4, 1)
    equal = Detections(torch.zeros(4, dtype=torch.int64), box, torch.ones(4), torch.full((4, 1), 0.5))
    assert suppress(equal, 0.45).prob_MK[:, 0].tolist() == [0.5, 0, 0, 0]
    assert suppress_by_objectness(equal, 0.45).objectness_M.tolist() == [1, 0, 0, 0]


def test_a_box_without_area_neither_suppresses_nor_is_suppressed() -> None:
    box = torch.zeros(3, 4)
    points = Detections(torch.zeros(3, dtype=torch.int64), box, torch.ones(3), torch.ones(3, 1))
    for kind in KINDS:
        assert suppress(points, 0.45, kind).prob_MK.count_nonzero() == 3


def test_a_box_without_objectness_takes_no_part() -> None:
    box = torch.tensor([[0.5, 0.5, 0.2, 0.2]]).repeat(3, 1)
    prob_MK = torch.tensor([[0.9], [0.8], [0.7]])
    before = Detections(torch.zeros(3, dtype=torch.int64), box, torch.tensor([0.0, 1, 1]), prob_MK)
    assert torch.equal(suppress(before, 0.45).prob_MK, torch.tensor([[0.9], [0.8], [0.0]]))


def test_nothing_in_nothing_out() -> None:
    nothing = random_detections(0, images=1, count=1, classes=3).select(torch.tensor([False]))
    assert len(suppress(nothing, 0.45)) == 0
    assert len(suppress_by_objectness(nothing, 0.45)) == 0


def test_the_detections_given_are_left_as_they_were() -> None:
    before = random_detections(1, images=1, count=60, classes=2)
    table = table_of(before)
    suppress(before, 0.3)
    suppress_by_objectness(before, 0.3)
    assert torch.equal(table_of(before), table)
