"""One command line in several processes: the training that they share, how they end, which device each has."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from darkpy.__main__ import main
from darkpy.cli import processes as launching
from darkpy.cli.processes import check_gpus, launch, own_device
from darkpy.errors import DarkpyError

# whole trainings, in processes of their own
pytestmark = pytest.mark.slow

CFG = """[net]
batch=8
subdivisions=2
width=16
height=16
channels=3
learning_rate=.01
max_batches=4

[convolutional]
batch_normalize=1
filters=8
size=3
stride=4
pad=1
activation=leaky

[convolutional]
filters=7
size=1
activation=linear

[yolo]
mask=0
anchors=6,6
classes=2
num=1
"""
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a cfg, and images of which one has no label file."""
    numbers = np.random.default_rng(1)
    for index in range(6):
        Image.fromarray(numbers.integers(0, 255, (20, 20, 3), np.uint8)).save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text(f"{index % 2} .5 .5 .{index + 2} .4\n")
    (tmp_path / "5.txt").unlink()
    (tmp_path / "my.cfg").write_text(CFG)
    (tmp_path / "train.txt").write_text("".join(f"{tmp_path / f'{index}.png'}\n" for index in range(6)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def data(folder: Path, backup: str) -> str:
    (folder / backup).mkdir()
    (folder / f"{backup}.data").write_text(f"classes=2\ntrain=train.txt\nbackup={backup}\n")
    return f"{backup}.data"


def weights(folder: Path, backup: str) -> npt.NDArray[np.float32]:
    return np.fromfile(folder / backup / "my_final.weights", np.float32, offset=20)


def test_two_processes_train_what_one_trains_and_only_one_talks_and_writes(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = ["train", "my.cfg", "--device", "cpu", "--workers", "0"]
    assert main([*line, data(folder, "one")]) == 0
    alone = capfd.readouterr().err
    (folder / "bad.list").unlink()
    assert launch([*line, data(folder, "two")], 2) == 0
    together = capfd.readouterr().err
    assert np.abs(weights(folder, "two") - weights(folder, "one")).max() < 1e-6
    assert (folder / "bad.list").read_text() == f"{folder / '5.txt'}\n"
    wanted = {"my_4.resume", "my_final.weights", "my.health.jsonl"}
    assert {path.name for path in (folder / "two").iterdir()} - {"chart_my.png"} == wanted
    assert together.count("written after update 4") == alone.count("written after update 4") == 1
    assert together.count("warning: ") == alone.count("warning: ") > 0


def test_mistake_ends_all_with_its_exit_code(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert launch(["show", "none.cfg"], 2) == 2
    assert capfd.readouterr().err.count("none.cfg") >= 2


def test_process_that_hangs_is_ended_when_another_has_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(launching, "GRACE_SECONDS", 0.2)
    program = "import os, time\nos.environ['RANK'] == '1' and os._exit(5)\ntime.sleep(600)\n"
    (tmp_path / "darkpy").mkdir()
    (tmp_path / "darkpy" / "__init__.py").touch()
    (tmp_path / "darkpy" / "__main__.py").write_text(program)
    monkeypatch.chdir(tmp_path)
    assert launch([], 2) == 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there are GPUs they are used")
def test_gpus_are_a_cpu_where_there_are_none_and_refused_where_there_are_fewer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check_gpus(("0", "1")) == ()
    assert capsys.readouterr().err == "note: -gpus 0,1: torch finds no GPU here; the CPU is used\n"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_gpus(("0", "1")) == ("0", "1")
    with pytest.raises(DarkpyError, match="-gpus 0,2: torch finds 2 GPUs here\n  hint: -gpus 0,1"):
        check_gpus(("0", "2"))


def test_list_of_gpus_is_one(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "my.cfg", data(folder, "one"), "-gpus", "0,0"]) == 2
    assert "-gpus 0,0: not a list of different GPUs" in capfd.readouterr().err


def test_every_process_has_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_device(None, ()) is None
    assert own_device("cuda:1", ()) == "cuda:1"
    assert own_device(None, ("3",)) == "3"
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert own_device("cpu", ()) == "cpu"
    assert own_device(None, ("3", "5")) == "5"
    with pytest.raises(DarkpyError, match="2 processes share 1 GPUs"):
        own_device(None, ("3",))
    with pytest.raises(DarkpyError, match="--device cuda:1: each process has its own device"):
        own_device("cuda:1", ())
