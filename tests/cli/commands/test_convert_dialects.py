"""`darkpy convert` between old files and today's, the two darknets, and other programs' state dicts."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.weightfile import Header, read_header
from tests.cli.conftest import Run

CFG = "[net]\nwidth=4\nheight=4\nchannels=1\n[convolutional]\nfilters=2\nbatch_normalize=1\n[connected]\noutput=3\n"
GRU = "[net]\nwidth=4\nheight=4\nchannels=1\n[gru]\noutput=3\n"
COUNT = 2 * 4 + 2 + 3 + 3 * 32


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.cfg").write_text(CFG)


def write(name: str, header: bytes, count: int = COUNT) -> None:
    Path(name).write_bytes(header + struct.pack(f"<{count}f", *range(1, count + 1)))


@pytest.mark.parametrize("header", [struct.pack("<3iI", 0, 1, 0, 500), struct.pack("<3iI", 2000, 1, 0, 500)])
def test_an_old_file_becomes_one_of_today(run: Run, header: bytes) -> None:
    write("old.weights", header)
    assert run("convert", "old.weights", "new.weights", "--cfg", "net.cfg").code == 0
    assert read_header("new.weights")[0] == Header(0, 2, 0, 500)
    old, new = (darkpy.load("net.cfg", name).state_dict() for name in ("old.weights", "new.weights"))
    assert all(torch.equal(array, new[name]) for name, array in old.items())
    is_transposed = header.startswith(struct.pack("<i", 2000))
    assert (Path("new.weights").read_bytes()[20:] == Path("old.weights").read_bytes()[16:]) is not is_transposed


def test_the_other_darknets_order_is_written_and_comes_back(run: Run) -> None:
    Path("net.cfg").write_text(GRU)
    write("pj.weights", struct.pack("<3iQ", 0, 2, 0, 9), count := 3 * (3 + 9) + 3 * (3 + 48))
    words = ("--cfg", "net.cfg", "--dialect")
    assert run("convert", "pj.weights", "ax.weights", *words, "pjreddie", "--for", "alexeyab").code == 0
    assert read_header("ax.weights") == (Header(0, 2, 5, 9), count)
    assert Path("ax.weights").read_bytes()[20:] != Path("pj.weights").read_bytes()[20:]
    assert run("convert", "ax.weights", "back.weights", *words, "alexeyab", "--for", "pjreddie").code == 0
    assert Path("back.weights").read_bytes() == Path("pj.weights").read_bytes()


def test_what_the_other_darknet_does_not_have_is_one_error_and_nothing_is_written(run: Run) -> None:
    Path("net.cfg").write_text("[net]\nwidth=4\nheight=4\nchannels=1\n[deconvolutional]\n")
    write("pj.weights", struct.pack("<3iQ", 0, 2, 0, 9), 2)
    outcome = run("convert", "pj.weights", "ax.weights", "--cfg", "net.cfg", "--for", "alexeyab")
    assert outcome.code == 2 and outcome.err.count("error: ") == 1
    assert "[deconvolutional] is not a section of dialect alexeyab" in outcome.err
    assert not Path("ax.weights").exists()


def test_a_state_dict_of_another_program_becomes_weights_and_what_differs_is_reported(run: Run) -> None:
    cfg = CFG.partition("[connected]")[0]
    Path("net.cfg").write_text(cfg)
    names = {"Conv2d.weight": (2, 1, 1, 1), **{f"BatchNorm2d.{name}": (2,) for name in NORM}}
    torch.save({"model": {f"module_list.0.{name}": torch.full(shape, 0.5) for name, shape in names.items()}}, "u.pt")
    outcome = run("convert", "u.pt", "u.weights", "--cfg", "net.cfg", "--bn-eps", "1e-4")
    assert outcome.code == 0 and "since April 2020" in outcome.err
    layer = darkpy.load("net.cfg", "u.weights").layers[0]
    torch.testing.assert_close(layer.rolling_variance, torch.full((2,), 0.5 + 9e-5))


NORM = ("weight", "bias", "running_mean", "running_var")
