"""Weight files that darkpy writes are read by both C programs, which then find what they found before.

The environment variables DARKNET_PJREDDIE and DARKNET_ALEXEYAB name the programs, in the folders they were built in;
without them the tests are skipped.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from darkpy.__main__ import main

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")]
NETWORKS = {"pjreddie": ("yolov3-tiny",), "alexeyab": ("yolov3-tiny", "yolo-fastest")}
CASES = [(fork, name) for fork, names in NETWORKS.items() for name in names]


class Program:
    """One of the two C programs."""

    def __init__(self, fork: str, folder: Path) -> None:
        named = os.environ.get(f"DARKNET_{fork.upper()}")
        if not named:
            pytest.skip(f"DARKNET_{fork.upper()} does not name {fork}'s program")
        self.fork, self.path, self.folder = fork, Path(named).resolve(), folder

    def run(self, *words: str | Path) -> str:
        """Run a program in the folder with its data/labels. Returns: its output."""
        words = tuple(str(word) for word in words)
        return subprocess.run(
            [self.path, *words], cwd=self.path.parent, capture_output=True, text=True, check=True
        ).stdout

    def detect(self, cfg: Path, weights: Path, names: Path, image: Path) -> list[str]:
        """The lines that name what is on the image."""
        data = self.folder / "net.data"
        data.write_text(f"classes=80\nnames={names}\n")
        words = ("-thresh", ".25", "-out", str(self.folder / "drawn"))
        own = ("-dont_show", "-ext_output") if self.fork == "alexeyab" else ()
        printed = self.run("detector", "test", data, cfg, weights, image, *words, *own)
        return [line for line in printed.splitlines() if "%" in line]


@pytest.fixture
def files(shared: Path, request: pytest.FixtureRequest) -> tuple[Path, Path, Path, Path]:
    """cfg, weights, names and an image of a real network."""
    folder = shared / "data" / "weights" / request.param
    names = next(iter(folder.glob("*names*")))
    (cfg,), (weights,) = folder.glob("*.cfg"), folder.glob("*.weights")
    return cfg, weights, names, shared / "data" / "images" / "dog.jpg"


def darkpy(*words: str | Path) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.mark.parametrize(("fork", "files"), CASES, indirect=["files"])
def test_a_file_that_went_through_other_formats_detects_the_same(
    fork: str, files: tuple[Path, Path, Path, Path], tmp_path: Path
) -> None:
    program = Program(fork, tmp_path)
    cfg, weights, names, image = files
    expected = program.detect(cfg, weights, names, image)
    assert expected
    for kind in ("pt", "safetensors"):
        darkpy("convert", weights, tmp_path / f"x.{kind}", "--cfg", cfg)
        darkpy("convert", tmp_path / f"x.{kind}", tmp_path / f"{kind}.weights", "--for", fork)
        assert program.detect(cfg, tmp_path / f"{kind}.weights", names, image) == expected


@pytest.mark.parametrize(("fork", "files"), CASES, indirect=["files"])
def test_tools_that_keep_what_a_network_computes_keep_what_the_programs_find(
    fork: str, files: tuple[Path, Path, Path, Path], tmp_path: Path
) -> None:
    program = Program(fork, tmp_path)
    cfg, weights, names, image = files
    expected = program.detect(cfg, weights, names, image)
    out, other = tmp_path / "out.weights", tmp_path / "other.cfg"
    darkpy("reset", cfg, weights, out)
    assert program.detect(cfg, out, names, image) == expected
    for tool in ("denormalize", "normalize"):
        darkpy(tool, cfg, weights, out, "--write-cfg", other, "--force")
        assert program.detect(other, out, names, image) == expected
    darkpy("average", cfg, out, weights, weights, "--force")
    assert program.detect(cfg, out, names, image) == expected


@pytest.mark.parametrize(("fork", "files"), CASES, indirect=["files"])
@pytest.mark.parametrize("tool", ["partial", "rgbgr", "average", "denormalize", "reset"])
def test_tools_write_the_programs_bytes(
    fork: str, tool: str, files: tuple[Path, Path, Path, Path], tmp_path: Path
) -> None:
    if fork == "alexeyab" and tool in ("denormalize", "reset"):
        pytest.skip("AlexeyAB's code multiplies beyond the weights")
    if files[0].name.startswith("yolo-fastest") and tool == "average":
        pytest.skip("darknet adds up beyond the weights of grouped convolutions")
    program = Program(fork, tmp_path)
    cfg, weights, *_ = files
    mine, theirs = tmp_path / "mine.weights", tmp_path / "theirs.weights"
    second = tmp_path / "second.weights"
    data = bytearray(weights.read_bytes())
    numbers = np.frombuffer(data, "<f4", offset=20)
    numbers *= 1.5
    second.write_bytes(data)
    for run, out in ((darkpy, mine), (program.run, theirs)):
        words = (tool, cfg, out, weights, second) if tool == "average" else (tool, cfg, weights, out)
        more = ("15",) if tool == "partial" else ()
        dialect = ("--dialect", fork) if run is darkpy else ()
        run(*words, *more, *dialect)
    assert mine.read_bytes() == theirs.read_bytes()


HEAD = (
    "[net]\nwidth=2\nheight=2\nchannels=1\n[convolutional]\nfilters=1\nactivation=linear\n[convolutional]\nfilters={}\n"
)


def test_oneoff_puts_the_classes_where_pjreddies_program_does(tmp_path: Path) -> None:
    program, classes, box = Program("pjreddie", tmp_path), 11921, 5
    cfg, weights = tmp_path / "net.cfg", tmp_path / "in.weights"
    cfg.write_text(
        HEAD.format(3 * (classes + box))
        + f"activation=linear\n[region]\nnum=3\nclasses={classes}\nanchors=1,1,2,2,3,3\n"
    )
    numbers = np.arange(2 + 2 * classes, dtype="<f4")
    weights.write_bytes(struct.pack("<3iQ", 0, 2, 0, 9) + numbers.tobytes())
    darkpy("oneoff", cfg, weights, tmp_path / "mine", "--dialect", "pjreddie")
    program.run("oneoff", cfg, weights, tmp_path / "theirs")
    mine, theirs = ((tmp_path / name).read_bytes() for name in ("mine", "theirs"))
    assert len(mine) == len(theirs) and mine[:28] == theirs[:28]
    rows = [torch.frombuffer(bytearray(data[28:]), dtype=torch.float32).reshape(2, 3, -1) for data in (mine, theirs)]
    assert torch.equal(rows[0][:, :, box:], rows[1][:, :, box:])
    assert not rows[0][0, :, :box].any() and not rows[1][0, :, :box].any()
