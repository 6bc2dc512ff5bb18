"""Artifacts of a refused update: its images and labels, the loss of each, and a contact sheet."""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from darkpy.build import Plan
from darkpy.diagnostics.monitor.label_symptoms import has_boxes
from darkpy.diagnostics.monitor.root_cause import SuspectSample
from darkpy.diagnostics.report.contact_sheet import SHEET_FILE, Tile, contact_sheet
from darkpy.errors import DarkpyError
from darkpy.files import temporary_path
from darkpy.training.checkpoints import ARTIFACTS_FOLDER, base_name

SHEET_TILE_SIZE, SHEET_COLUMNS, MAX_SHEET_IMAGES = (150, 150), 8, 64
MAX_EXACT_IMAGES = 16
"""Images whose arrays are saved unchanged, the worst ones."""
MAX_LABEL_NUMBERS = 10_000
"""Numbers of a class label that are written."""
NONFINITE_COLOR = (255, 0, 255)
"""Magenta, which marks pixels that are NaN or infinite."""


def write_evidence(run: Path, batch_num: int, plan: Plan, samples: Sequence[SuspectSample], text: str) -> Path:
    """Write the folder `evidence/update_N` of the run; N gets a suffix if the folder exists.

    It holds samples.csv (worst first), images/ and labels/ as the network saw them, sheet.png, finding.txt, and
    exact.npz with the arrays of the worst. The folder appears whole or not at all.
    samples: the worst first.
    Returns: the folder.
    Raises: DarkpyError when it cannot be written.
    """
    parent = run / ARTIFACTS_FOLDER
    try:
        parent.mkdir(parents=True, exist_ok=True)
        names = (f"update_{batch_num}" + (f"_{number}" if number > 1 else "") for number in count(1))
        target = next(parent / name for name in names if not (parent / name).exists())
        # with the run's name, by which its next start removes what a killed process has left
        temporary = temporary_path(parent / f"{base_name(plan.file)}_{target.name}")
        temporary.mkdir()
        try:
            _fill(temporary, plan, samples, text)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise DarkpyError(f"{parent}: cannot be written: {error.strerror or error}") from error
    return target


def _fill(folder: Path, plan: Plan, samples: Sequence[SuspectSample], text: str) -> None:
    (folder / "finding.txt").write_text(f"{text}\n", encoding="utf-8", errors="replace")
    (folder / "labels").mkdir()
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(("rank", "image", "loss", "largest_pixel", "what"))
    tiles: list[Tile] = []
    for rank, sample in enumerate(samples):
        rows.writerow((rank, sample.name, f"{sample.loss:.6g}", f"{sample.largest:.6g}", sample.nonfinite))
        stem = f"{rank:03}_{_stem(sample)}"
        truth = sample.kept.truth[sample.image].detach().cpu()
        if has_boxes(plan, sample.kept.truth):  # as in darknet's label file, in fractions of the network's input
            boxes = truth[truth[:, 0] != 0].tolist()
            label = "".join(f"{class_id:g} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for x, y, w, h, class_id, *_ in boxes)
        else:
            label = " ".join(f"{number:g}" for number in truth.flatten()[:MAX_LABEL_NUMBERS].tolist()) + "\n"
        (folder / "labels" / f"{stem}.txt").write_text(label, encoding="utf-8")
        if sample.kept.x_BCHW.dim() == 4:
            image = network_image(sample.kept.x_BCHW[sample.image])
            (folder / "images").mkdir(exist_ok=True)
            image.save(folder / "images" / f"{stem}.png")
            if len(tiles) < MAX_SHEET_IMAGES:
                tiles.append(_tile(plan, sample, image, is_worst=not rank))
    (folder / "samples.csv").write_text(table.getvalue(), encoding="utf-8", errors="replace")
    if tiles:
        sheet = contact_sheet(tiles, columns=SHEET_COLUMNS, tile_size=SHEET_TILE_SIZE)
        sheet.save(folder / SHEET_FILE)
    worst = samples[:MAX_EXACT_IMAGES]
    arrays = {f"x_{rank:03}": sample.kept.x_BCHW[sample.image] for rank, sample in enumerate(worst)}
    arrays |= {f"truth_{rank:03}": sample.kept.truth[sample.image] for rank, sample in enumerate(worst)}
    members: dict[str, Any] = {name: array.detach().cpu().numpy() for name, array in arrays.items()}
    np.savez(folder / "exact.npz", **members)


def _stem(sample: SuspectSample) -> str:
    """File name without suffix, after the first file that the image was made of."""
    paths = sample.kept.paths[sample.image] if sample.image < len(sample.kept.paths) else ()
    name = Path(paths[0]).stem if paths else f"image_{sample.image}"
    return re.sub(r"[^\w.-]", "_", name)[:60]


def network_image(x_CHW: Tensor) -> Image.Image:
    """Image as the network saw it, non-finite pixels in magenta. Of other channel counts than 3 the first is shown.

    Black and white are 0 and 1, darknet's, unless the values go far beyond them.
    """
    x_CHW = x_CHW.detach().float().cpu()
    nonfinite_HW = ~x_CHW.isfinite().all(0)
    colors_CHW = x_CHW[:3] if len(x_CHW) >= 3 else x_CHW[:1].expand(3, -1, -1)
    finite = colors_CHW[colors_CHW.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    low, high = (0.0, 1.0) if low >= -0.5 and high <= 1.5 else (low, max(high, low + 1e-6))
    pixels_HWC = ((colors_CHW.nan_to_num(0, 0, 0) - low) / (high - low)).clamp(0, 1).mul(255).byte().permute(1, 2, 0)
    pixels_HWC = pixels_HWC.contiguous()
    pixels_HWC[nonfinite_HW] = torch.tensor(NONFINITE_COLOR, dtype=torch.uint8)
    return Image.fromarray(pixels_HWC.numpy())


def _tile(plan: Plan, sample: SuspectSample, image: Image.Image, *, is_worst: bool) -> Tile:
    boxes_N5 = torch.zeros(0, 5)
    if has_boxes(plan, sample.kept.truth):
        truth_TE = sample.kept.truth[sample.image].detach().cpu()
        boxes_N5 = truth_TE[truth_TE[:, 0] != 0][:, :5].nan_to_num(0)
        boxes_N5[:, :4].clamp_(-9, 9)  # a box of any size must be drawable
        boxes_N5[:, 4].clamp_(0, 1e6)
    loss = "loss NaN" if math.isnan(sample.loss) else f"loss {sample.loss:.4g}"
    caption = (_stem(sample), sample.nonfinite or loss)
    return Tile(np.asarray(image), boxes_N5, caption, highlighted=is_worst or bool(sample.nonfinite))
