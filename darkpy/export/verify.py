"""Compare a written file with its source on one image: difference of the outputs, and the objects each detects.

Legend: B images, C H W channels, rows, columns, M candidates, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch.nn import functional

from darkpy.build import Plan
from darkpy.errors import DarkpyError
from darkpy.evaluation.detect import (
    DetectOptions,
    decode_heads,
    drop_non_finite,
    postprocess,
    read_input,
    suppress_candidates,
)
from darkpy.evaluation.result import Object, to_objects
from darkpy.export.convert import Target, fill, open_source
from darkpy.export.onnx_graph import raw_outputs
from darkpy.network import Network
from darkpy.ops.boxes import Detections, undo_letterbox

RELATIVE_TOLERANCES: Mapping[str, float] = MappingProxyType({"fp32": 1e-4, "fp16": 2e-2, "int8": 0.5})
"""Largest difference by the file's precision, as a fraction of the largest value of an output."""
_ACCEPT_ALL_THRESH = -1.0


@dataclass(frozen=True, slots=True)
class OutputDiff:
    """Largest difference between the two files in one output, and the source's largest absolute value there."""

    name: str
    difference: float
    largest: float
    tolerance: float = RELATIVE_TOLERANCES["fp32"]

    @property
    def relative(self) -> float:
        return self.difference / self.largest if self.largest else self.difference and math.inf

    @property
    def departs(self) -> bool:
        """True if the difference is above the tolerance, or NaN."""
        return not self.relative <= self.tolerance


@dataclass(frozen=True, slots=True)
class SourceRun:
    """Input and outputs of the source network, computed before it was converted.

    size: (w, h) of the image in pixels. options: resolved ones.
    """

    network: Network
    x_BCHW: torch.Tensor
    size: tuple[int, int]
    names: tuple[str, ...]
    options: DetectOptions
    outputs_BCHW: tuple[torch.Tensor, ...]

    @property
    def objects(self) -> tuple[Object, ...]:
        return self.decode(self.outputs_BCHW)

    def decode(self, outputs_BCHW: Sequence[torch.Tensor]) -> tuple[Object, ...]:
        """Objects in outputs laid out like the network's; none where it has no detection heads."""
        if not self.network.heads:
            return ()
        return self.to_objects(postprocess(self.network, outputs_BCHW, [self.size], self.options))

    def to_objects(self, detections: Detections) -> tuple[Object, ...]:
        """Objects of the image, without NaN and infinite boxes; the differences of the outputs tell of those."""
        return tuple(to_objects(drop_non_finite(detections)[0], 0, self.names, self.options.thresh or 0))

    def to_image(self, detections: Detections) -> Detections:
        """Turn boxes as fractions of the network's input into fractions of the image."""
        if not (self.options.letterbox and self.network.heads[-1].corrects_letterbox):
            return detections
        net = self.network.plan.input_shape
        return undo_letterbox(detections, [self.size], net.w, net.h)


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """Differences of each output (none where the file suppresses by itself), and the objects the file detects."""

    rows: tuple[OutputDiff, ...]
    objects: tuple[Object, ...]


def run_source(network: Network, image: Path, names: Sequence[str], thresh: float | None = None) -> SourceRun:
    """Run the source on an image; to be called before a target folds the network. Raises: ImageError."""
    options = DetectOptions(thresh=thresh).resolved(network)
    loaded, x_BCHW = read_input(network, image, letterbox=bool(options.letterbox))
    network.reset_state()
    with torch.inference_mode():
        outputs_BCHW = tuple(output_BCHW.clone() for output_BCHW in network(x_BCHW))
    return SourceRun(network, x_BCHW, (loaded.w, loaded.h), tuple(names), options, outputs_BCHW)


def verify(source: SourceRun, path: Path, target: Target, plan: Plan, precision: str = "fp32") -> VerifyResult:
    """Run the written file, which is for `plan`. Raises: DarkpyError when it cannot be run."""
    if target.run is not None:
        result = _verify_outputs(source, target.run(path, source.x_BCHW))
        rows = tuple(replace(row, tolerance=RELATIVE_TOLERANCES[precision]) for row in result.rows)
        return VerifyResult(rows, result.objects)
    network = Network(plan)
    loaded = fill(open_source(path), network, allow_partial=True)
    if loaded.cutoff is not None:
        raise DarkpyError(f"{path} is a partial file, which cannot be run", hint="leave --check out")
    with torch.inference_mode():
        outputs_BCHW = tuple(network(source.x_BCHW))
    return VerifyResult(_diff_outputs(source, outputs_BCHW), source.decode(outputs_BCHW))


def _verify_outputs(source: SourceRun, outputs: Mapping[str, torch.Tensor]) -> VerifyResult:
    """Recognize by the outputs' names and ranks which form of `OnnxOptions` the file has."""
    if "detections" in outputs:
        rows_N7 = outputs["detections"]  # image, class, score, x, y, w, h
        classes = max(head.class_count for head in source.network.heads)
        score_N = rows_N7[:, 2]
        prob_NK = torch.zeros(len(rows_N7), classes).scatter(1, rows_N7[:, 1:2].long(), score_N[:, None])
        detections = Detections(rows_N7[:, 0].long(), rows_N7[:, 3:], score_N, prob_NK)
        return VerifyResult((), source.to_objects(source.to_image(detections)))
    if "boxes" in outputs:
        boxes_M4, scores_MK = outputs["boxes"].flatten(0, 1), outputs["scores"].flatten(0, 1)
        ours = _all_candidates(source)
        rows = (_diff("boxes", ours.boxes_M4, boxes_M4), _diff("scores", ours.prob_MK, scores_MK))
        return VerifyResult(rows, _select_objects(source, replace(ours, boxes_M4=boxes_M4, prob_MK=scores_MK)))
    if "output" in outputs:
        return _verify_corners(source, outputs["output"].flatten(0, 1))
    network = source.network
    raw = {index: f"layer{layer}" for index, layer in zip(network.outputs, raw_outputs(network), strict=True)}
    if all(name in outputs and outputs[name].dim() == 4 for name in raw.values()):
        outputs = {  # the heads' outputs, computed here of what they read
            f"layer{index}": outputs[name] if name == f"layer{index}" else network.built[index](outputs[name])
            for index, name in raw.items()
        }
    by_layer = [outputs.get(f"layer{index}") for index in network.outputs]
    present = [output for output in by_layer if output is not None]
    if len(present) < len(by_layer):
        raise DarkpyError(f"the file's outputs ({', '.join(outputs)}) are not those of the network")
    if all(output.dim() < 4 for output in present) and network.heads:
        return _verify_rows(source, [output.flatten(0, -2) for output in present])  # (B, M, E) where images are apart
    shaped = [theirs.reshape(ours.shape) for theirs, ours in zip(present, source.outputs_BCHW, strict=True)]
    return VerifyResult(_diff_outputs(source, shaped), source.decode(shaped))


def _verify_rows(source: SourceRun, outputs_ME: Sequence[torch.Tensor]) -> VerifyResult:
    """Compare rows of x, y, w, h, objectness and class scores; objectness is not part of what `decode` returns."""
    ours, counts = _all_candidates(source), [len(output_ME) for output_ME in outputs_ME]
    parts = zip(torch.split(ours.boxes_M4, counts), torch.split(ours.prob_MK, counts), strict=True)
    rows = []
    for index, theirs_ME, (box_M4, prob_MK) in zip(source.network.outputs, outputs_ME, parts, strict=True):
        classes = theirs_ME.shape[1] - 5
        ours_ME = torch.cat((box_M4, prob_MK[:, :classes]), dim=1)
        theirs_ME = theirs_ME[:, [0, 1, 2, 3, *range(5, 5 + classes)]]
        rows.append(_diff(_name(source.network, index), ours_ME, theirs_ME))
    width = ours.prob_MK.shape[1]
    theirs = Detections(
        ours.image_M,
        torch.cat([output_ME[:, :4] for output_ME in outputs_ME]),
        torch.cat([output_ME[:, 4] for output_ME in outputs_ME]),
        torch.cat([functional.pad(output_ME[:, 5:], (0, width - output_ME.shape[1] + 5)) for output_ME in outputs_ME]),
    )
    return VerifyResult(tuple(rows), _select_objects(source, theirs))


def _verify_corners(source: SourceRun, rows_M6: torch.Tensor) -> VerifyResult:
    """Compare rows of x1, y1, x2, y2 in pixels of the input, the best score and its class."""
    ours, net = _all_candidates(source), source.network.plan.input_shape
    side_2 = torch.tensor((net.w, net.h))
    low_M2, high_M2 = rows_M6[:, :2] / side_2, rows_M6[:, 2:4] / side_2
    boxes_M4 = torch.cat(((low_M2 + high_M2) / 2, high_M2 - low_M2), dim=1)
    prob_MK = torch.zeros_like(ours.prob_MK).scatter(1, rows_M6[:, 5:].long(), rows_M6[:, 4:5])
    best_M = ours.prob_MK.amax(1)
    rows = (_diff("boxes", ours.boxes_M4, boxes_M4), _diff("scores", best_M, rows_M6[:, 4]))
    return VerifyResult(rows, _select_objects(source, replace(ours, boxes_M4=boxes_M4, prob_MK=prob_MK)))


def _all_candidates(source: SourceRun) -> Detections:
    """All candidates of the source's heads, boxes as fractions of the network's input."""
    options = replace(source.options, thresh=_ACCEPT_ALL_THRESH, letterbox=False)
    return decode_heads(source.network, source.outputs_BCHW, [source.size], options)


def _select_objects(source: SourceRun, candidates: Detections) -> tuple[Object, ...]:
    """Objects above the threshold that no better one overlaps."""
    thresh = source.options.thresh or 0
    above = candidates.select(candidates.objectness_M > thresh)
    above = replace(above, prob_MK=torch.where(above.prob_MK > thresh, above.prob_MK, 0.0))
    return source.to_objects(suppress_candidates(source.network, source.to_image(above), source.options))


def _diff_outputs(source: SourceRun, theirs_BCHW: Sequence[torch.Tensor]) -> tuple[OutputDiff, ...]:
    outputs = zip(source.network.outputs, source.outputs_BCHW, theirs_BCHW, strict=True)
    return tuple(_diff(_name(source.network, index), ours, theirs) for index, ours, theirs in outputs)


def _name(network: Network, index: int) -> str:
    return f"layer {index} [{network.plan.nodes[index].type}]"


def _diff(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> OutputDiff:
    if ours.shape != theirs.shape:
        raise DarkpyError(f"{name}: is {tuple(theirs.shape)} in the result and {tuple(ours.shape)} in the source")
    if not ours.numel():
        return OutputDiff(name, 0.0, 0.0)
    difference = float((ours - theirs).abs().nan_to_num(nan=math.inf).max())
    return OutputDiff(name, difference, float(ours.abs().max()))
