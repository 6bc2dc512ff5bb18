"""What is kept of an update that was refused: its images and labels, what each of them cost, and all on one sheet."""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from darkpy.build import Plan
from darkpy.diagnostics.monitor.label_symptoms import has_boxes
from darkpy.diagnostics.monitor.root_cause import Sample
from darkpy.errors import DarkpyError
from darkpy.files import publish

FOLDER = "evidence"
THUMB = 160
"""Pixels of an image on the sheet."""
COLUMNS = 8
ON_SHEET = 64
EXACT = 16
"""Images whose numbers are kept as they were, the worst ones."""
_CAPTION = 30  # pixels below an image
_SPOILT = (255, 0, 255)
_BOX = (255, 220, 0)
_WORST = (200, 30, 30)


def write_evidence(run: Path, batch_num: int, plan: Plan, samples: Sequence[Sample], text: str) -> Path:
    """A folder `evidence/update_N` of the run, with a number behind it where there is one already.

    In it lie samples.csv (worst first), images/ and labels/ as the network saw them, sheet.png, finding.txt, and
    exact.npz with the numbers of the worst. The folder appears whole or not at all.
    samples: the worst first.
    Returns: where it lies.
    Raises: DarkpyError when it cannot be written.
    """
    parent = run / FOLDER
    try:
        parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".update_", dir=parent))
        try:
            _fill(made, plan, samples, text)
            target = _free(parent, batch_num)
            publish(made, target)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as error:
        raise DarkpyError(f"{parent}: cannot be written: {error.strerror or error}") from error
    return target


def _fill(folder: Path, plan: Plan, samples: Sequence[Sample], text: str) -> None:
    (folder / "finding.txt").write_text(f"{text}\n", encoding="utf-8", errors="replace")
    (folder / "labels").mkdir()
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(("rank", "image", "loss", "largest_pixel", "what"))
    images: list[Image.Image] = []
    for rank, sample in enumerate(samples):
        rows.writerow((rank, sample.name, f"{sample.loss:.6g}", f"{sample.largest:.6g}", sample.spoilt))
        stem = f"{rank:03}_{_stem(sample)}"
        label = _label(plan, sample)
        (folder / "labels" / f"{stem}.txt").write_text("".join(f"{line}\n" for line in label), encoding="utf-8")
        if sample.kept.x_BCHW.dim() == 4:
            picture = _image(sample.kept.x_BCHW[sample.image])
            (folder / "images").mkdir(exist_ok=True)
            picture.save(folder / "images" / f"{stem}.png")
            if len(images) < ON_SHEET:
                images.append(_thumb(plan, sample, picture, is_worst=not rank))
    (folder / "samples.csv").write_text(table.getvalue(), encoding="utf-8", errors="replace")
    if images:
        _sheet(images).save(folder / "sheet.png")
    worst = samples[:EXACT]
    arrays = {f"x_{rank:03}": sample.kept.x_BCHW[sample.image] for rank, sample in enumerate(worst)}
    arrays |= {f"truth_{rank:03}": sample.kept.truth[sample.image] for rank, sample in enumerate(worst)}
    members: dict[str, Any] = {name: array.detach().cpu().numpy() for name, array in arrays.items()}
    np.savez(folder / "exact.npz", **members)


def _stem(sample: Sample) -> str:
    """A file name that tells of the first file that the image was made of."""
    paths = sample.kept.paths[sample.image] if sample.image < len(sample.kept.paths) else ()
    name = Path(paths[0]).stem if paths else f"image_{sample.image}"
    return re.sub(r"[^\w.-]", "_", name)[:60]


def _label(plan: Plan, sample: Sample) -> list[str]:
    """darknet's own lines, in fractions of the image as the network saw it; or the numbers of a class label."""
    truth = sample.kept.truth[sample.image].detach().cpu()
    if has_boxes(plan, sample.kept.truth):
        rows = truth[truth[:, 0] != 0].tolist()
        return [f"{row[4]:g} {row[0]:.6f} {row[1]:.6f} {row[2]:.6f} {row[3]:.6f}" for row in rows]
    return [" ".join(f"{number:g}" for number in truth.flatten()[:10000].tolist())]


def _image(x_CHW: Tensor) -> Image.Image:
    """As the network saw it; what is no number is magenta. Other numbers of channels than 1 and 3 show their first."""
    x_CHW = x_CHW.detach().float().cpu()
    is_spoilt_HW = ~x_CHW.isfinite().all(0)
    colors_CHW = x_CHW[:3] if len(x_CHW) >= 3 else x_CHW[:1].expand(3, -1, -1)
    low, high = _range(colors_CHW)
    pixels_HWC = ((colors_CHW.nan_to_num(0, 0, 0) - low) / (high - low)).clamp(0, 1).mul(255).byte().permute(1, 2, 0)
    pixels_HWC = pixels_HWC.contiguous()
    pixels_HWC[is_spoilt_HW] = torch.tensor(_SPOILT, dtype=torch.uint8)
    return Image.fromarray(pixels_HWC.numpy())


def _range(x_CHW: Tensor) -> tuple[float, float]:
    """Black and white: 0 and 1, darknet's, unless the image goes far beyond them."""
    finite = x_CHW[x_CHW.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if low >= -0.5 and high <= 1.5:
        return 0.0, 1.0
    return low, max(high, low + 1e-6)


def _thumb(plan: Plan, sample: Sample, picture: Image.Image, *, is_worst: bool) -> Image.Image:
    card = Image.new("RGB", (THUMB, THUMB + _CAPTION), "white")
    times = max(1, THUMB // max(picture.size))
    small = picture.resize((times * picture.width, times * picture.height), Image.Resampling.NEAREST)
    small.thumbnail((THUMB, THUMB))
    draw = ImageDraw.Draw(small)
    if has_boxes(plan, sample.kept.truth):
        truth = sample.kept.truth[sample.image].detach().cpu()
        for x, y, w, h in truth[truth[:, 0] != 0][:, :4].clamp(-9, 9).nan_to_num(0).tolist():
            left, right = sorted(((x - w / 2) * small.width, (x + w / 2) * small.width))
            top, bottom = sorted(((y - h / 2) * small.height, (y + h / 2) * small.height))
            draw.rectangle((left, top, right, bottom), outline=_BOX)
    card.paste(small, ((THUMB - small.width) // 2, (THUMB - small.height) // 2))
    draw = ImageDraw.Draw(card)
    if is_worst:
        draw.rectangle((0, 0, THUMB - 1, THUMB - 1), outline=_WORST, width=3)
    loss = "no number" if math.isnan(sample.loss) else f"loss {sample.loss:.4g}"
    for line, said in enumerate((_stem(sample)[-26:], sample.spoilt[:26] or loss)):
        draw.text((3, THUMB + 2 + 13 * line), said, fill=_WORST if sample.spoilt else "black", font=_font())
    return card


def _font() -> Any:
    return ImageFont.load_default()


def _sheet(cards: Sequence[Image.Image]) -> Image.Image:
    columns = min(COLUMNS, len(cards))
    rows = -(-len(cards) // columns)
    sheet = Image.new("RGB", (columns * THUMB, rows * (THUMB + _CAPTION)), "white")
    for number, card in enumerate(cards):
        row, column = divmod(number, columns)
        sheet.paste(card, (column * THUMB, row * (THUMB + _CAPTION)))
    return sheet


def _free(parent: Path, batch_num: int) -> Path:
    """The name for an update's folder: it may be refused more than once."""
    number = 1
    while True:
        path = parent / (f"update_{batch_num}" + (f"_{number}" if number > 1 else ""))
        if not path.exists():
            return path
        number += 1
