"""Preview of a training's samples: augmented images, with their targets and augmentation steps.

Letters: C color, H height, W width; N boxes, S cells of a grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.augment.geometry import CLASS_ONLY
from darkpy.data.augment.sampler import CLASSIFIER_PERIOD_UPDATES, DETECTOR_PERIOD_UPDATES
from darkpy.data.lists.image_list import known_names
from darkpy.data.loading.datasets import ClassificationData, DetectionData, RegressionData
from darkpy.data.loading.mask_datasets import MaskData
from darkpy.diagnostics.monitor.artifacts import network_image
from darkpy.diagnostics.report.drawing import as_uri
from darkpy.diagnostics.report.html_frame import html_page, html_text
from darkpy.evaluation.draw import draw, draw_masks
from darkpy.evaluation.result import Object
from darkpy.finding import count_text
from darkpy.training.setup import TrainingSetup

MAX_CLASSES_NAMED = 5
MIN_SHARE_NAMED = 0.01
"""Smallest share of a class in a classifier's target that is named: label smoothing gives each class a little."""
MIN_MASK_SHARE = 0.5
"""Part of a target's pixel from which a mask is drawn there."""
_GRID_RULES = """
main,header,nav{max-width:1600px}
.samples{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:24px}
.samples figcaption ul{list-style:none;margin:6px 0;padding:0;font-size:13px;overflow-wrap:anywhere}
"""


@dataclass(frozen=True, slots=True)
class PreviewSample:
    """Sample of a training. image: with its boxes. steps: of its augmentation.

    target: objects, shares of classes, or numbers.
    sample_index: place in the stream of samples, batch_num: number of the update that trains on it.
    problems: of its files.
    """

    image: PIL.Image.Image
    sample_index: int
    batch_num: int
    paths: tuple[str, ...]
    steps: tuple[str, ...]
    target: str
    problems: tuple[str, ...]


def preview_samples(setup: TrainingSetup, count: int, *, seen: int = 0) -> Iterator[PreviewSample]:
    """Make samples as the loader makes them for a training: the first one of updates that have sizes of their own.

    seen: images before the first one. Raises: DarkpyError when the images cannot be used.
    """
    net, dataset = setup.plan.net, setup.source.dataset
    assert isinstance(dataset, DetectionData | ClassificationData | MaskData | RegressionData)
    net.check_batch()
    images = net.minibatch * net.subdivisions
    period = DETECTOR_PERIOD_UPDATES if setup.is_detector else CLASSIFIER_PERIOD_UPDATES
    names = known_names(setup.data)
    if isinstance(dataset, ClassificationData) and dataset.labels is not None:
        names = dataset.labels
    for number in range(count):
        # with random=1 updates of one period share a size
        update = seen // images + number * period
        w, h = setup.source.size(update)
        steps: list[str] = []
        index = update * images
        sample = dataset.make(index, w, h, steps)
        objects: list[Object] = []
        pixels_HW3 = np.asarray(network_image(sample.x_CHW))
        if isinstance(dataset, DetectionData):
            objects = list(read_objects(sample.truth, dataset.augment_config, names))
            target = count_text(len(objects), "object")
        elif isinstance(dataset, MaskData):
            best_HW = find_mask_classes(sample.truth, dataset, w, h)
            class_ids = np.unique(best_HW[best_HW >= 0]).tolist()
            legend = [(class_id, names[class_id] if class_id < len(names) else str(class_id)) for class_id in class_ids]
            target = ", ".join(name for _, name in legend) or "no mask"
            pixels_HW3 = np.asarray(draw_masks(pixels_HW3, best_HW, legend))
        elif isinstance(dataset, RegressionData):
            target = ", ".join(f"{number:g}" for number in sample.truth.tolist())
        else:
            target = _describe_classes(sample.truth, names)
        image = draw(pixels_HW3, objects, scores=False)
        problems = tuple(problem.message for problem in sample.problems)
        yield PreviewSample(image, index, update + 1, sample.paths, tuple(steps), target, problems)


def read_objects(truth: Tensor, config: DetectionAugmentConfig, names: Sequence[str]) -> Iterator[Object]:
    """Read the objects of a detector's target, in either of its layouts. Objects without a box are left out."""
    if config.head == "detection":
        cell_S = truth[:, 0].nonzero().flatten()
        rows_SE = truth[cell_S]
        column_row_S2 = torch.stack((cell_S % config.side, cell_S // config.side), 1)
        boxes_N4 = torch.cat(((rows_SE[:, -4:-2] + column_row_S2) / config.side, rows_SE[:, -2:]), 1)
        class_N = rows_SE[:, 1 : 1 + config.classes].argmax(1)
    else:
        rows_NE = truth[(truth[:, 0] != 0) & (truth[:, 0] != CLASS_ONLY)]
        boxes_N4, class_N = rows_NE[:, :4], rows_NE[:, 4].long()
    for (x, y, w, h), class_id in zip(boxes_N4.tolist(), class_N.tolist(), strict=True):
        name = names[class_id] if class_id < len(names) else str(class_id)
        yield Object(class_id, name, 1.0, (x, y, w, h))


def find_mask_classes(truth: Tensor, data: MaskData, w: int, h: int) -> NDArray[np.int64]:
    """Return the class of each pixel of an input of w x h, -1 for none, from a target of masks."""
    map_w, map_h = w // data.divisor, h // data.divisor
    if data.max_instances:
        truth = truth[truth[:, 0] >= 0]
        class_I, mask_IHW = truth[:, 0].long(), truth[:, 1:].reshape(-1, map_h, map_w)
    else:
        class_I, mask_IHW = torch.arange(data.classes), truth
    best_HW = torch.full((map_h, map_w), -1)
    if len(class_I):
        share_HW, index_HW = mask_IHW.max(0)
        best_HW = torch.where(share_HW >= MIN_MASK_SHARE, class_I[index_HW], -1)
    large_HW: NDArray[np.int64] = best_HW.numpy().repeat(data.divisor, 0).repeat(data.divisor, 1)
    return large_HW


def _describe_classes(truth_K: Tensor, names: Sequence[str]) -> str:
    """Name the classes of a classifier's target, with their shares where images are mixed: `cat 0.70, dog 0.30`."""
    share_K, class_K = truth_K.sort(descending=True, stable=True)
    shown = [
        f"{names[class_id] if class_id < len(names) else class_id}{'' if share == 1 else f' {share:.2f}'}"
        for class_id, share in zip(class_K[:MAX_CLASSES_NAMED].tolist(), share_K.tolist(), strict=False)
        if share >= MIN_SHARE_NAMED
    ]
    return ", ".join(shown) or "no class"


def preview_figure(sample: PreviewSample) -> str:
    """Return a sample as HTML."""
    size = f"{sample.image.width} x {sample.image.height}"
    lines = (f"update {sample.batch_num}, {size}: {sample.target}", *sample.steps)
    items = "".join(f"<li>{html_text(line)}</li>" for line in lines)
    paths = "".join(f"<li><code>{html_text(path)}</code></li>" for path in sample.paths)
    problems = "".join(f"<li><strong>{html_text(problem)}</strong></li>" for problem in sample.problems)
    alt = html_text(f"sample {sample.sample_index}: {sample.target}")
    return (
        f'<figure><img alt="{alt}" src="{as_uri(sample.image, form="JPEG")}">'
        f"<figcaption><ul>{items}{paths}{problems}</ul></figcaption></figure>"
    )


def preview_page(figures: Sequence[str], setup: TrainingSetup, seed: int) -> str:
    """Return the figures of samples as one HTML page, without scripts and other files."""
    title = f"{Path(setup.plan.file).name}: augmented images"
    intro = f"{len(setup.paths)} images of {setup.data.path}; {setup.plan.dialect}; seed {seed}"
    header = f'<header><h1>{html_text(title)}</h1><p class="muted">{html_text(intro)}</p></header>'
    samples = f'<div class="samples">{"".join(figures)}</div>'
    return html_page(title, header, [("samples", "Samples", samples)], _GRID_RULES)
