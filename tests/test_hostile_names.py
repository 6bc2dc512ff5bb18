"""Names out of files of others are printable on the terminal, text in HTML, and harmless as file names."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch

from darkpy.diagnostics.monitor.run_log import LoggedLayer, LoggedRun, LogWriter, read_log
from darkpy.diagnostics.report.contact_sheet import Tile, contact_sheet, legend_tile
from darkpy.diagnostics.report.page import drawings, write_page
from darkpy.evaluation.draw import draw
from darkpy.evaluation.result import Object
from darkpy.finding import Finding, Location
from tests.cli.conftest import Outcome, Run, run, task
from tests.diagnostics.report.test_page import update

__all__ = ["run", "task"]

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]")
NAMES = (
    "\x1b[2J\x1b]0;owned\x07",
    "gpj.\u202eexe",
    "<script>alert(1)</script>",
    "\"><img src=x onerror='x'>",
    "../../up",
    "/etc/passwd",
    "..",
    "a\\b",
    "CON",
    "-rf",
    "$(id)`id`;&|*?",
    "%s%n{0}",
)
MARKUP_TAGS = {"script", "img", "b"}
"""Tags of the names above; the page itself has none of them without evidence."""


def printable(outcome: Outcome) -> bool:
    return not CONTROL.search(outcome.out + outcome.err)


class _Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)


@pytest.mark.parametrize("name", NAMES)
def test_every_text_of_a_log_is_text_in_the_report(name: str, tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "my.health.jsonl")
    layers = tuple(LoggedLayer(index=index, type=name, line=1, place=name, learns=True) for index in range(2))
    net = {name: name, "steps": [name], "max_batches": name}
    writer.begin(LoggedRun(cfg=name, dialect=name, time=1.8e9, batch_num=0, seen=0, net=net, layers=layers))
    for batch_num in (1, 2):
        figures = {"zero": [0.5, 0.25], "ratio": [0.5, 0.25], name: [0.5, 0.25]}
        writer.update(replace(update(batch_num), layers=figures))
    location = Location(name, 1, name, 2)
    writer.finding(
        Finding(name=name, batch_num=1, message=name, location=location, hints=(name,), evidence=name, paths=(name,))
    )
    log = read_log(tmp_path / "my.health.jsonl")
    text = write_page(log)
    page = _Page(text)
    assert not CONTROL.search(text)
    assert not page.tags & MARKUP_TAGS and not any(attribute.startswith("on") for attribute in page.attributes)
    assert all(drawing.png() for drawing in drawings(log).values())


def test_class_names_name_no_file_outside_the_folders_given(task: Path, run: Run) -> None:
    """Names of results, crops and labels, with the network's two classes named like every pair of hostile names."""
    work = task / "work"
    work.mkdir()
    Path("list.txt").write_text(f"{task}/a.png\n")
    Path("a.txt").write_text("0 .5 .5 .5 .25\n")
    for first, second in zip(NAMES[::2], NAMES[1::2], strict=True):
        # a byte below 32 would make it a binary file
        first, second = (re.sub("[\x00-\x1f]", "\x9b", name) for name in (first, second))
        Path("pets.names").write_text(f"{first}\n{second}\n", encoding="utf-8")
        data = f"classes=2\nvalid={task}/list.txt\nnames={task}/pets.names\nresults={work}\nbackup={work}\n"
        Path("pets.data").write_text(data)
        before = {path for path in task.parent.rglob("*") if work not in path.parents}
        detect = ("detect", "net.cfg", "net.weights", "a.png", "--names", "pets.names")
        outcomes = [
            run(*detect, "--out", f"{work}/o", "--crop", f"{work}/c", "--save-labels", f"{work}/l", "--json"),
            run(*detect, "--csv"),
            run("detector", "valid", "pets.data", "net.cfg", "net.weights"),
            run("detector", "map", "pets.data", "net.cfg", "net.weights"),
            run("evaluate", "net.cfg", "pets.data", "net.weights", "--report", f"{work}/r", "--force"),
        ]
        assert [outcome.code for outcome in outcomes] == [0] * len(outcomes), outcomes
        assert all(map(printable, outcomes))
        page_text = (work / "r" / "evaluation.html").read_text()
        assert not CONTROL.search(page_text) and not _Page(page_text).tags & {"script"}
        assert json.loads(outcomes[0].out) and len(list(csv.reader(StringIO(outcomes[1].out)))) == 3
        after = {path for path in task.parent.rglob("*") if work not in path.parents}
        assert after == before
        assert not any(CONTROL.search(path.name) for path in work.rglob("*"))


def test_names_in_coco_and_voc_name_no_file_outside_the_folder(task: Path, run: Run) -> None:
    for index, name in enumerate(NAMES):
        source, made = task / f"s{index}", task / f"m{index}"
        source.mkdir()
        (source / "a.png").write_bytes(Path("a.png").read_bytes())
        box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
        images = [
            {"id": number, "file_name": file, "width": 64, "height": 64}
            for number, file in enumerate(("a.png", name), start=1)
        ]
        coco = {"images": images, "categories": [{"id": 1, "name": name}], "annotations": [box]}
        (source / "coco.json").write_text(json.dumps(coco))
        element = name.replace("&", "&amp;").replace("<", "&lt;")
        element = re.sub("[\x00-\x08\x0b-\x1f]", "", element)  # XML cannot hold them
        (source / "a.xml").write_text(
            f"<annotation><filename>a.png</filename><size><width>64</width><height>64</height></size><object>"
            f"<name>{element}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
            "</object></annotation>",
            encoding="utf-8",
        )
        before = set(task.parent.rglob("*"))
        outcomes = [
            run("dataset", "from-coco", f"{source}/coco.json", f"{made}/coco", "--images", f"{source}"),
            run("dataset", "from-voc", f"{source}", f"{made}/voc"),
            run("dataset", "stats", f"{made}/voc/voc.data"),
            run("dataset", "draw", f"{made}/voc/voc.data", f"{made}/sheet.png"),
        ]
        assert all(map(printable, outcomes))
        assert all(outcome.code in (0, 2) and "Traceback" not in outcome.err for outcome in outcomes)
        assert all(made == path or made in path.parents for path in set(task.parent.rglob("*")) - before)


@pytest.mark.parametrize("name", NAMES)
def test_names_in_weights_of_other_formats(name: str, task: Path, run: Run) -> None:
    torch.save({f"{name}.weight": torch.zeros(7, 3, 1, 1), name: torch.zeros(2)}, "net.pt")
    onnx = pytest.importorskip("onnx")
    tensor = onnx.numpy_helper.from_array(np.zeros((7, 3, 1, 1), np.float32), name=name)
    node = onnx.helper.make_node(name, [name], [name + "1"], name=name)
    graph = onnx.helper.make_graph([node], name, [], [], initializer=[tensor])
    onnx.save(onnx.helper.make_model(graph, producer_name=name), "net.onnx")
    before = set(task.parent.rglob("*"))
    for file in ("net.pt", "net.onnx"):
        for command in (("convert", file, "out.weights", "--cfg", "net.cfg"), ("detect", "net.cfg", file, "a.png")):
            outcome = run(*command)
            assert outcome.code == 2 and printable(outcome), outcome
    assert set(task.parent.rglob("*")) == before


@pytest.mark.parametrize("name", [*NAMES, "two\nlines", "\udc80", "\0"])
def test_names_are_drawn_as_one_printable_line(name: str) -> None:
    pixels = np.zeros((200, 400, 3), np.uint8)
    shown = name.encode("unicode_escape").decode() if CONTROL.search(name) or not name.isprintable() else name
    drawn, expected = (np.asarray(draw(pixels, [Object(0, text, 0.5, (0.5, 0.5, 0.5, 0.5))])) for text in (name, shown))
    assert np.array_equal(drawn, expected)
    tiles = [Tile(pixels, np.zeros((0, 5)), (name,)), legend_tile(Counter([0]), (name,))]
    assert contact_sheet(tiles).height > 200
