"""The contact sheets of refused updates, as large as a page needs them."""

from __future__ import annotations

from pathlib import Path

import PIL.Image

from darkpy.data.loading.images import load_image
from darkpy.diagnostics.report.drawing import as_uri
from darkpy.errors import ImageError

SHEET = "sheet.png"
WIDTH, HEIGHT = 1280, 1520
"""Pixels of a sheet on the page, which shows it narrower where there is less room."""


def sheet_uri(folder: Path, evidence: str) -> str | None:
    """The contact sheet of a finding as an address that holds it; None where there is none that can be read.

    folder: the run's; nothing outside it is read.
    evidence: what was kept, relative to the folder.
    """
    try:
        path = (folder / evidence / SHEET).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            return None
        sheet = PIL.Image.fromarray(load_image(path).pixels_HWC)
    except (ImageError, OSError, ValueError):
        return None
    if sheet.height > HEIGHT * sheet.width / WIDTH:
        sheet = sheet.crop((0, 0, sheet.width, round(HEIGHT * sheet.width / WIDTH)))
    sheet.thumbnail((WIDTH, HEIGHT))
    return as_uri(sheet, form="JPEG")
