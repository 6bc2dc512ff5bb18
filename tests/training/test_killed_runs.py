"""Runs of the program that are killed at any moment: what is on the disk is whole, and going on loses nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import darkpy
from darkpy.diagnostics.monitor.run_log import read_log
from darkpy.training.checkpoints import open_resume

CFG = """[net]
batch=4
subdivisions=2
width=32
height=32
channels=3
learning_rate=0.001
burn_in=10
max_batches={updates}
policy=steps
steps=40
scales=.1
saturation=1.5
exposure=1.5
hue=.1
mosaic=1

[convolutional]
batch_normalize=1
filters=8
size=3
stride=4
pad=1
activation=leaky

[dropout]
probability=.2

[convolutional]
filters=14
size=1
stride=4
activation=linear

[yolo]
mask=0,1
anchors=8,8, 16,16
classes=2
num=2
max=10
jitter=.3
random=1
iou_loss=ciou
"""
UPDATES = 60


def make_task(folder: Path, updates: int = UPDATES) -> Path:
    """net.cfg, net.data and eight small images with a bright square each."""
    folder.mkdir(exist_ok=True)
    numbers = np.random.default_rng(1)
    names = [f"{number}.png" for number in range(8)]
    for name in names:
        pixels = numbers.integers(0, 90, (40, 40, 3), np.uint8)
        class_id, left, top = (int(number) for number in numbers.integers((0, 0, 0), (2, 24, 24)))
        pixels[top : top + 16, left : left + 16, class_id] = 250
        Image.fromarray(pixels).save(folder / name)
        line = f"{class_id} {(left + 8) / 40} {(top + 8) / 40} 0.4 0.4\n"
        (folder / name).with_suffix(".txt").write_text(line)
    (folder / "list.txt").write_text("\n".join(names))
    (folder / "net.cfg").write_text(CFG.format(updates=updates))
    (folder / "net.data").write_text("train=list.txt\nsaveweights=25\nsavelast=1\nbackup=backup\n")
    return folder


def started(folder: Path) -> subprocess.Popen[bytes]:
    """The program, from the last checkpoint if there is one."""
    last = folder / "backup/net_last.weights"
    words = [sys.executable, "-m", "darkpy", "train", "net.cfg", "net.data", *([str(last)] if last.exists() else [])]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*words, "--device", "cpu"], cwd=folder, env=environment, stderr=log, stdout=log, start_new_session=True
        )


def finish(folder: Path) -> None:
    process = started(folder)
    assert process.wait(timeout=300) == 0, (folder / "log.txt").read_text()


def kill_while_it_trains(folder: Path, chance: random.Random) -> None:
    """Kill it at a random moment after its next update."""
    last = folder / "backup/net_last.weights"
    before = last.stat().st_mtime_ns if last.exists() else None
    process = started(folder)
    while (last.stat().st_mtime_ns if last.exists() else None) == before:
        assert process.poll() is None, (folder / "log.txt").read_text()
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


def check_files(folder: Path) -> None:
    """Every file under a name of its own can be loaded, and has finite values only."""
    shown = [path for path in (folder / "backup").iterdir() if not path.name.startswith(".")]
    assert {path.suffix for path in shown} <= {".weights", ".resume", ".jsonl", ".png"}
    for path in shown:
        if path.suffix == ".jsonl":
            assert read_log(path).updates
        elif path.suffix == ".weights":
            network = darkpy.load(folder / "net.cfg", path)
            assert all(torch.isfinite(array).all() for array in network.state_dict().values())
        elif path.suffix == ".resume":
            open_resume(path)
            with np.load(path) as file:
                assert all(np.isfinite(file[name]).all() for name in file.files if name != "about")


def end_of(folder: Path) -> dict[str, bytes]:
    """The weight files of a run that is over, and the arrays of its resume file."""
    found = {path.name: path.read_bytes() for path in (folder / "backup").glob("*.weights")}
    (resume,) = (folder / "backup").glob("*.resume")
    with np.load(resume) as file:
        return found | {name: file[name].tobytes() for name in file.files}


def run_with_kills(folder: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(kills):
        kill_while_it_trains(folder, chance)
        check_files(folder)
    finish(folder)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = make_task(tmp_path_factory.mktemp("unbroken"))
    finish(folder)
    return end_of(folder)


def test_killed_run_that_goes_on_ends_as_the_unbroken_one(unbroken: dict[str, bytes], tmp_path: Path) -> None:
    run_with_kills(make_task(tmp_path), kills=3, seed=1)
    assert end_of(tmp_path) == unbroken
    assert {"net_25.weights", "net_50.weights", "net_final.weights", "net_last.weights"} <= unbroken.keys()


@pytest.mark.slow
def test_run_that_was_killed_twenty_times_ends_as_the_unbroken_one(tmp_path: Path) -> None:
    killed, unbroken = (make_task(tmp_path / name, updates=500) for name in ("killed", "unbroken"))
    run_with_kills(killed, kills=20, seed=2)
    finish(unbroken)
    assert end_of(killed) == end_of(unbroken)


def test_run_that_is_asked_to_end_saves_and_goes_on_exactly(unbroken: dict[str, bytes], tmp_path: Path) -> None:
    make_task(tmp_path)
    (tmp_path / "net.data").write_text("train=list.txt\nbackup=backup\n")  # and so no checkpoint before the end
    process = started(tmp_path)
    while b"/60" not in (tmp_path / "log.txt").read_bytes():
        assert process.poll() is None, (tmp_path / "log.txt").read_text()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)  # as schedulers do: its workers hear it too
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert "stopping after this update" in (tmp_path / "log.txt").read_text()
    finish(tmp_path)
    assert end_of(tmp_path)["net_final.weights"] == unbroken["net_final.weights"]
