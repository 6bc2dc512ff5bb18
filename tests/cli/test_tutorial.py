"""The four commands of docs/tutorial.md, taken from the page, from a bare folder of images and text files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[2]


def tutorial_commands() -> list[list[str]]:
    page = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- tutorial: begin -->\n```sh\n(.*?)```", page, re.DOTALL)
    assert block is not None
    return [shlex.split(line)[1:] for line in block[1].splitlines()]


def test_tutorial_leads_from_a_bare_folder_to_a_judged_network(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smaller network and two updates stand for yolov4-tiny and its thousands."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(10):
        pixels = np.full((64, 80, 3), 90, np.uint8)
        pixels[16:48, 20:60, number % 2] = 250
        Image.fromarray(pixels).save(f"photos/{number:04}.png")
        Path(f"photos/{number:04}.txt").write_text(f"{number % 2} 0.5 0.5 0.5 0.5\n")
    Path("photos/classes.txt").write_text("cat\ndog\n")

    convert, new, train, evaluate = tutorial_commands()
    assert run(*convert).code == 0
    small = {"yolov4-tiny": str(ROOT / "weights/sample.cfg"), "416": "64"}
    result = run(*(small.get(word, word) for word in new))
    assert result.code == 0, result.err
    cfg = Path("pets.cfg").read_text()
    assert "classes=2" in cfg and "width=64" in cfg
    Path("pets.cfg").write_text(
        re.sub(r"(?m)^(max_batches|batch|subdivisions|burn_in)=\d+", lambda key: f"{key[1]}={SMALL[key[1]]}", cfg)
    )
    result = run(*train, "-nogpu", "--workers", "0")
    assert result.code == 0 and "mean_average_precision (mAP@0.50) = " in result.out, result.err
    result = run(*evaluate, "-nogpu")
    assert result.code == 0, result.err
    page = Path("report/evaluation.html").read_text(encoding="utf-8")
    assert "cat" in page and "dog" in page


SMALL = {"max_batches": 2, "batch": 4, "subdivisions": 1, "burn_in": 0}
