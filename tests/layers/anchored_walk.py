"""Deltas of [yolo] and [Gaussian_yolo] as darknet computes them: loops over cells, truths and entries."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import product

import torch

from darkpy.dialect import Dialect
from darkpy.layers.anchors import AnchoredSpec
from darkpy.layers.gaussian_yolo import GaussianYoloSpec
from darkpy.layers.yolo import YoloSpec
from darkpy.ops.box_gradients import overlap_gradient
from darkpy.ops.boxes import OVERLAP_MEASURES

TO_CENTER = {"center": 0.0, "left_top": 0.5, "right_bottom": -0.5}
Box = list[float]


def overlap(a: Box, b: Box, kind: str = "iou") -> float:
    return float(OVERLAP_MEASURES[kind](double(a), double(b)))


def double(numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


@dataclass
class Walk:
    """One image. `pred` and `delta` are [anchor of the mask][entry][row][column]; a truth is x, y, w, h, class."""

    spec: AnchoredSpec
    pred: torch.Tensor
    truths: list[list[float]]
    net_w: int
    net_h: int
    delta: torch.Tensor = field(init=False)
    overlaps: list[float] = field(default_factory=list)
    boxes: int = 0
    rewritten: int = 0

    def __post_init__(self) -> None:
        self.delta = torch.zeros_like(self.pred)
        self.is_gaussian = isinstance(self.spec, GaussianYoloSpec)
        self.squared_size = isinstance(self.spec, YoloSpec) and self.spec.new_coords
        self.is_focal = isinstance(self.spec, YoloSpec) and self.spec.focal_loss
        self.shift = TO_CENTER[self.spec.yolo_point] if isinstance(self.spec, GaussianYoloSpec) else 0.0
        self.numbers = [0, 2, 4, 6] if self.is_gaussian else [0, 1, 2, 3]
        self.objectness = 8 if self.is_gaussian else 4
        counters = self.spec.counters_per_class
        self.weight = [min(max(counters) / counter, self.spec.max_delta) for counter in counters]
        self.weight = self.weight or [1.0] * self.spec.classes
        self.height, self.width = self.pred.shape[2:]

    def walk(self) -> torch.Tensor:
        predictions = list(product(range(len(self.pred)), range(self.height), range(self.width)))
        for index in predictions:
            self.walk_prediction(*index)
        for truth in self.truths:
            self.walk_truth(truth)
        for a, j, i in predictions:
            self.average(self.delta[a, :, j, i])
        return self.delta

    def walk_prediction(self, a: int, j: int, i: int) -> None:
        spec, delta, pred = self.spec, self.delta[a, :, j, i], self.pred[a, :, j, i].tolist()
        o = pred[self.objectness]
        ious = [overlap(self.box(a, j, i), truth[:4]) for truth in self.truths]
        best = max(ious, default=0.0)
        truth = self.truths[ious.index(best)] if ious else []
        is_confident = spec.dialect is Dialect.PJREDDIE or max(pred[self.objectness + 1 :]) > 0.25
        delta[self.objectness] = spec.obj_normalizer * (0 - o)
        if best > spec.ignore_thresh and is_confident:
            target = best**2 if self.is_gaussian else best
            delta[self.objectness] = spec.obj_normalizer * (target - o) if spec.objectness_smooth else 0
            if spec.objectness_smooth and self.is_gaussian:
                self.write_class(a, j, i, int(truth[4]))
        if best > spec.truth_thresh:
            c, target = int(truth[4]), best**2 if spec.objectness_smooth else 1
            delta[self.objectness] = spec.obj_normalizer * (target - o)
            self.write_class(a, j, i, c)
            own = self.objectness + 1 + c
            if spec.objectness_smooth:
                delta[own] = self.weight[c] * (target - pred[own])
            self.write_box(a, j, i, truth)

    def walk_truth(self, truth: list[float]) -> None:
        spec, (x, y, w, h), c = self.spec, truth[:4], int(truth[4])
        i = min(self.width - 1, max(0, int((x - self.shift * w) * self.width)))
        j = min(self.height - 1, max(0, int((y - self.shift * h) * self.height)))
        anchors = [[0, 0, self.anchor(n)[0] / self.net_w, self.anchor(n)[1] / self.net_h] for n in range(spec.num)]
        ious = [overlap(anchor, [0, 0, w, h]) for anchor in anchors]
        chosen = [ious.index(max(ious))]
        for n, anchor in enumerate(anchors):
            is_alike = overlap(anchor, [0, 0, w, h], spec.iou_thresh_kind) > spec.iou_thresh
            if n != chosen[0] and spec.iou_thresh < 1 and is_alike:
                chosen.append(n)
        for a in (spec.mask.index(n) for n in chosen if n in spec.mask):
            self.write_box(a, j, i, truth)
            self.overlaps.append(overlap(self.box(a, j, i), truth[:4]))
            delta, o = self.delta[a, self.objectness], float(self.pred[a, self.objectness, j, i])
            if self.is_gaussian or not spec.objectness_smooth or delta[j, i] == 0:
                delta[j, i] = self.weight[c] * spec.obj_normalizer * (1 - o)
            self.write_class(a, j, i, c)

    def write_box(self, a: int, j: int, i: int, truth: list[float]) -> None:
        spec, delta, pred = self.spec, self.delta[a, :, j, i], self.pred[a, :, j, i].tolist()
        self.boxes += 1
        self.rewritten += bool(delta[self.numbers].any())
        scale, small = spec.iou_normalizer * self.weight[int(truth[4])], 2 - truth[2] * truth[3]
        gradient = None if spec.iou_loss == "mse" else self.gradient(a, j, i, truth)
        for n, (e, target) in enumerate(zip(self.numbers, self.target(a, j, i, truth), strict=True)):
            away = target - pred[e]
            if isinstance(spec, GaussianYoloSpec):
                sigma = pred[e + 1]
                q = away / sigma
                normal = math.exp(-q * q / 2) / (math.sqrt(2 * math.pi) * (sigma + 0.3))
                temp = 0.5 * small * normal / (normal + 1e-9)
                delta[e] += self.bound(scale * (temp * q / sigma if gradient is None else gradient[n]))
                delta[e + 1] += self.bound(spec.uc_normalizer * temp * (q * q / sigma - 1 / (sigma + 0.3)))
            elif gradient is not None:
                delta[e] += self.bound(scale * gradient[n])
            else:
                previous = 0 if spec.dialect is Dialect.PJREDDIE else delta[e]
                delta[e] = previous + scale * small * away

    def write_class(self, a: int, j: int, i: int, c: int) -> None:
        spec = self.spec
        delta = self.delta[a, self.objectness + 1 :, j, i]
        prob = self.pred[a, self.objectness + 1 :, j, i].tolist()
        tested = 0 if self.is_gaussian or spec.dialect is Dialect.PJREDDIE else c
        if delta[tested] != 0:
            delta[c] = self.weight[c] * (1 - spec.label_smooth_eps / 2 - prob[c])
            return
        for k in range(spec.classes):
            true = float(k == c)
            if self.is_focal:
                gradient = -(1 - prob[c]) * (2 * prob[c] * math.log(prob[c]) + prob[c] - 1)
                delta[k] = (true - prob[k]) * 0.5 * gradient
            else:
                delta[k] = true * (1 - spec.label_smooth_eps) + spec.label_smooth_eps / 2 - prob[k]
        if spec.counters_per_class and not self.is_focal:
            delta[c] *= self.weight[c] * spec.cls_normalizer

    def average(self, delta: torch.Tensor) -> None:
        positive = int((delta[self.objectness + 1 :] > 0).sum())
        if positive and (self.is_gaussian or (self.spec.iou_thresh < 1 and delta[self.objectness] != 0)):
            delta[: self.objectness] /= positive

    def anchor(self, n: int) -> tuple[float, float]:
        return self.spec.anchors[2 * n], self.spec.anchors[2 * n + 1]

    def box(self, a: int, j: int, i: int) -> Box:
        x, y, w, h = self.pred[a, self.numbers, j, i].tolist()
        shares = (4 * w * w, 4 * h * h) if self.squared_size else (math.exp(w), math.exp(h))
        anchor_w, anchor_h = self.anchor(self.spec.mask[a])
        width, height = shares[0] * anchor_w / self.net_w, shares[1] * anchor_h / self.net_h
        return [(i + x) / self.width + self.shift * width, (j + y) / self.height + self.shift * height, width, height]

    def target(self, a: int, j: int, i: int, truth: list[float]) -> list[float]:
        (x, y, w, h), (anchor_w, anchor_h) = truth[:4], self.anchor(self.spec.mask[a])
        sizes = [w * self.net_w / anchor_w, h * self.net_h / anchor_h]
        sizes = [math.sqrt(size / 4) if self.squared_size else math.log(size) for size in sizes]
        return [(x - self.shift * w) * self.width - i, (y - self.shift * h) * self.height - j, *sizes]

    def gradient(self, a: int, j: int, i: int, truth: list[float]) -> list[float]:
        gradient = overlap_gradient(double(self.box(a, j, i)), double(truth[:4]), self.spec.iou_loss)
        dx, dy, dw, dh = gradient.tolist()
        dx, dy = dx - self.shift * dw, dy - self.shift * dh
        if self.squared_size:
            return [dx, dy, dw, dh]
        w, h = self.pred[a, self.numbers[2:], j, i].tolist()
        return [dx, dy, dw * math.exp(w), dh * math.exp(h)]

    def bound(self, value: float) -> float:
        return max(-self.spec.max_delta, min(self.spec.max_delta, value)) if math.isfinite(value) else 0.0
