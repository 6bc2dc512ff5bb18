"""A converted file beside its source on one image: how far are the outputs apart, and what does each see?

Legend: B images, C H W channels, rows, columns, M candidates, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn import functional

from darkpy.build import Plan
from darkpy.errors import DarkpyError
from darkpy.evaluation.detect import DetectOptions, decode_heads, detections_of, undo_letterbox
from darkpy.evaluation.nms import suppress
from darkpy.evaluation.objects import Object, objects
from darkpy.evaluation.onnx_outputs import run_onnx
from darkpy.export.convert import fill, open_source
from darkpy.network import Network
from darkpy.ops.detections import Detections

TOLERANCE = 1e-4  # of the largest number
_ALL = -1.0  # a threshold that every candidate passes


@dataclass(frozen=True, slots=True)
class OutputDiff:
    """One output: how far the two files are apart at most, and the source's largest number."""

    name: str
    difference: float
    largest: float

    @property
    def relative(self) -> float:
        return self.difference / self.largest if self.largest else self.difference and math.inf

    @property
    def departs(self) -> bool:
        return not self.relative <= TOLERANCE


@dataclass(frozen=True, slots=True)
class SourceRun:
    """What the source said of an image, before it was converted.

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
        return self.objects_of(self.outputs_BCHW)

    def objects_of(self, outputs_BCHW: Sequence[torch.Tensor]) -> tuple[Object, ...]:
        """What outputs like the network's mean; nothing where it has no detection heads."""
        if not self.network.heads:
            return ()
        return self.named(detections_of(self.network, outputs_BCHW, [self.size], self.options))

    def named(self, found: Detections) -> tuple[Object, ...]:
        return tuple(objects(found, 0, self.names, self.options.thresh or 0))


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """rows: by output; there are none where suppression is part of the file. objects: what the result sees."""

    rows: tuple[OutputDiff, ...]
    objects: tuple[Object, ...]


def see(
    network: Network, x_BCHW: torch.Tensor, size: tuple[int, int], names: Sequence[str], options: DetectOptions
) -> SourceRun:
    """Run the source; to be called before a target folds the network."""
    network.reset_state()
    with torch.inference_mode():
        outputs = network(x_BCHW)
    chosen = options.resolved(network)
    return SourceRun(network, x_BCHW, size, tuple(names), chosen, tuple(output.clone() for output in outputs))


def check(seen: SourceRun, target: Path, plan: Plan, *, is_onnx: bool) -> VerifyResult:
    """Run the written file, which is for `plan`. Raises: DarkpyError when it cannot be run."""
    if is_onnx:
        return _check_onnx(seen, run_onnx(target, seen.x_BCHW))
    again = Network(plan)
    filled = fill(open_source(target), again, allow_partial=True)
    if filled.cutoff is not None:
        raise DarkpyError(f"{target} is a partial file, which cannot be run", hint="leave --check out")
    with torch.inference_mode():
        outputs = tuple(again(seen.x_BCHW))
    return VerifyResult(_rows(seen.network, seen.outputs_BCHW, outputs), seen.objects_of(outputs))


def _check_onnx(seen: SourceRun, found: Mapping[str, torch.Tensor]) -> VerifyResult:
    network = seen.network
    by_layer = [found.get(f"layer{index}") for index in network.outputs]
    if "detections" in found:
        return VerifyResult((), seen.named(_moved(seen, _read_detections(seen, found["detections"]))))
    if "boxes" in found:
        theirs = {"boxes": found["boxes"].flatten(0, 1), "scores": found["scores"].flatten(0, 1)}
        ours = _candidates(seen)
        rows = (_apart("boxes", ours.boxes_M4, theirs["boxes"]), _apart("scores", ours.prob_MK, theirs["scores"]))
        return VerifyResult(rows, _chosen(seen, replace(ours, boxes_M4=theirs["boxes"], prob_MK=theirs["scores"])))
    outputs = [output for output in by_layer if output is not None]
    if len(outputs) == len(by_layer) and all(output.dim() == 2 for output in outputs) and network.heads:
        return _check_rows(seen, outputs)
    shaped = [theirs.reshape(ours.shape) for theirs, ours in zip(outputs, seen.outputs_BCHW, strict=True)]
    return VerifyResult(_rows(network, seen.outputs_BCHW, shaped), seen.objects_of(shaped))


def _check_rows(seen: SourceRun, outputs_ME: Sequence[torch.Tensor]) -> VerifyResult:
    ours, places = _candidates(seen), [len(output) for output in outputs_ME]
    parts = zip(torch.split(ours.boxes_M4, places), torch.split(ours.prob_MK, places), strict=True)
    rows = []
    for index, theirs_ME, (box_M4, prob_MK) in zip(seen.network.outputs, outputs_ME, parts, strict=True):
        classes = theirs_ME.shape[1] - 5
        ours_ME = torch.cat((box_M4, prob_MK[:, :classes]), dim=1)
        rows.append(_apart(_name(seen.network, index), ours_ME, theirs_ME[:, [0, 1, 2, 3, *range(5, 5 + classes)]]))
    width = ours.prob_MK.shape[1]
    theirs = Detections(
        ours.image_M,
        torch.cat([output[:, :4] for output in outputs_ME]),
        torch.cat([output[:, 4] for output in outputs_ME]),
        torch.cat([functional.pad(output[:, 5:], (0, width - output.shape[1] + 5)) for output in outputs_ME]),
    )
    return VerifyResult(tuple(rows), _chosen(seen, theirs))


def _candidates(seen: SourceRun) -> Detections:
    """All that the source's heads say, as fractions of the network's input."""
    return decode_heads(seen.network, seen.outputs_BCHW, [seen.size], thresh=_ALL, letterbox=False)


def _chosen(seen: SourceRun, said: Detections) -> tuple[Object, ...]:
    """The objects among all candidates: those above the threshold that no better one overlaps."""
    thresh, nms = seen.options.thresh or 0, seen.options.nms
    above = said.select(said.objectness_M > thresh)
    above = replace(above, prob_MK=torch.where(above.prob_MK > thresh, above.prob_MK, 0.0))
    found = _moved(seen, above)
    return seen.named(suppress(found, nms, *seen.network.heads[-1].nms) if nms else found)


def _moved(seen: SourceRun, found: Detections) -> Detections:
    """Boxes as fractions of the image."""
    is_moved = seen.options.letterbox and seen.network.heads[-1].corrects_letterbox
    net = seen.network.plan.input_shape
    return undo_letterbox(found, [seen.size], net.w, net.h) if is_moved else found


def _read_detections(seen: SourceRun, found_N7: torch.Tensor) -> Detections:
    classes = max(head.class_count for head in seen.network.heads)
    score_N, boxes_N4 = found_N7[:, 2], found_N7[:, 3:]
    prob_NK = torch.zeros(len(found_N7), classes).scatter(1, found_N7[:, 1:2].long(), score_N[:, None])
    return Detections(found_N7[:, 0].long(), boxes_N4, score_N, prob_NK)


def _rows(
    network: Network, ours_BCHW: Sequence[torch.Tensor], theirs_BCHW: Sequence[torch.Tensor]
) -> tuple[OutputDiff, ...]:
    return tuple(
        _apart(_name(network, index), ours, theirs)
        for index, ours, theirs in zip(network.outputs, ours_BCHW, theirs_BCHW, strict=True)
    )


def _name(network: Network, index: int) -> str:
    return f"layer {index} [{network.plan.nodes[index].type}]"


def _apart(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> OutputDiff:
    if ours.shape != theirs.shape:
        raise DarkpyError(f"{name}: is {tuple(theirs.shape)} in the result and {tuple(ours.shape)} in the source")
    if not ours.numel():
        return OutputDiff(name, 0.0, 0.0)
    difference = float((ours - theirs).abs().nan_to_num(nan=math.inf).max())
    return OutputDiff(name, difference, float(ours.abs().max()))
