"""Dialect of a cfg that fits both: the header of the weight file decides, everywhere and once."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import pytest

import darkpy
from darkpy.build import make_plan, weights_dialect
from darkpy.dialect import EXTENSION_REVISION, Dialect
from darkpy.errors import DarkpyNote
from darkpy.training.trainer import Trainer
from tests.cli.conftest import CFG, Run, run, task

__all__ = ["run", "task"]

AX, PJ = Dialect.ALEXEYAB, Dialect.PJREDDIE
NET = ("net.cfg", "net.weights")


def set_version(major: int, minor: int, revision: int, path: str = "net.weights") -> None:
    data = Path(path).read_bytes()
    Path(path).write_bytes(struct.pack("<3i", major, minor, revision) + data[12:])


@pytest.fixture
def by_alexeyab(task: Path) -> Path:
    """net.cfg, which fits both dialects, and weights as AlexeyAB's program writes them."""
    set_version(0, 2, 5)
    return task


@pytest.mark.parametrize(
    ("version", "dialect"),
    [
        ((0, 2, 5), AX),
        ((0, 2, 5 | EXTENSION_REVISION), AX),
        ((0, 2, 0), None),
        ((0, 1, 0), None),
        ((0, 1, 5), None),
        ((1, 2, 5), None),
        ((0, 2, -5), None),
    ],
)
def test_header_of_version_0_2_5_is_alexeyabs(
    task: Path, version: tuple[int, int, int], dialect: Dialect | None
) -> None:
    set_version(*version)
    assert weights_dialect("net.weights") is dialect
    assert make_plan(Path("net.cfg"), weights="net.weights").dialect is (dialect or PJ)


def test_file_without_a_header_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"\0" * 11)
    assert [weights_dialect(path) for path in (tmp_path / "short", tmp_path, tmp_path / "no", "a\0b", "/dev/zero")] == [
        None
    ] * 5


@pytest.mark.parametrize(
    ("keys", "given", "expected", "noted"),
    [
        ("", None, AX, 1),
        ("", "pjreddie", PJ, 0),
        ("numload=2\n", None, PJ, 0),
        ("activation=mish\n", None, AX, 0),
        ("activation=mish\nnumload=2\n", None, AX, 1),  # as much evidence for one as for the other
    ],
)
def test_option_and_cfg_rule_over_the_header(
    by_alexeyab: Path, keys: str, given: str | None, expected: Dialect, noted: int
) -> None:
    text = CFG.replace("activation=linear\n", keys or "activation=linear\n")
    plan = make_plan(text, given, weights="net.weights")
    notes = [finding for finding in plan.warnings if finding.name == "dialect"]
    assert (plan.dialect, len(notes)) == (expected, noted)


def test_load_notes_the_decision_once(by_alexeyab: Path) -> None:
    with pytest.warns(
        DarkpyNote, match=r"dialect alexeyab, by the header of net\.weights \(version 0\.2\.5\)"
    ) as caught:
        network = darkpy.load("net.cfg", "net.weights")
    assert len(caught) == 1 and network.plan.dialect is AX
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert darkpy.load("net.cfg", "net.weights", dialect="pjreddie").plan.dialect is PJ
        assert darkpy.load("net.cfg").plan.dialect is PJ


@pytest.mark.parametrize(
    "command",
    [
        ("detect", *NET, "a.png", "--names", "pets.names"),
        ("detector", "test", "pets.data", *NET, "a.png"),
        ("detector", "map", "pets.data", *NET),
        ("detector", "valid", "pets.data", *NET),
        ("detector", "recall", "pets.data", *NET),
        ("evaluate", "net.cfg", "pets.data", "net.weights"),
        ("compare", *NET, "--dump", "dump.npz"),
        ("convert", "net.weights", "net.pt"),
        ("statistics", *NET),
        ("print", *NET, "1"),
        ("rgbgr", *NET, "out.weights"),
        ("average", "net.cfg", "out.weights", "net.weights", "net.weights"),
        ("doctor", "net.cfg", "pets.data", "net.weights"),
        ("train", "net.cfg", "pets.data", "net.weights"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_commands_that_open_weights_follow_their_header(by_alexeyab: Path, run: Run, command: tuple[str, ...]) -> None:
    Path("a.txt").write_text("0 .5 .5 .5 .25\n")
    Path("list.txt").write_text("a.png\n")
    Path("pets.data").write_text("names=pets.names\nclasses=2\ntrain=list.txt\nvalid=list.txt\nbackup=backup\n")
    Path("net.cfg").write_text(CFG.replace("channels=3", "channels=3\nmax_batches=1"))
    shown = run(*command)
    text = shown.out + shown.err
    assert text.count("by the header of net.weights") == 1, text
    assert "warning: net.cfg: dialect" not in text
    assert "by the header of" not in run(*command, "--dialect", "pjreddie").err


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("revision", [0, 5])
def test_training_saves_the_header_of_its_dialect(task: Path, dialect: Dialect, revision: int) -> None:
    set_version(0, 2, revision)
    trainer = Trainer(darkpy.load("net.cfg", "net.weights", dialect=dialect))
    trainer.network.save_weights("saved.weights")
    assert make_plan(Path("net.cfg"), weights="saved.weights").dialect is dialect
