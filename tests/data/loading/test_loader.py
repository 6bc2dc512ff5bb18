"""Minibatches: the same from the same seed, with any number of workers and from any place on."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from darkpy.config.net import NetSpec
from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.augment.sampler import Sampler
from darkpy.data.loading.bad_files import BadLists
from darkpy.data.loading.datasets import DetectionData
from darkpy.data.loading.loader import Batch, BatchRequest, load_batches
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError

IMAGES = 12
NET = NetSpec(dialect=Dialect.ALEXEYAB, mosaic=True, blur=1, gaussian_noise=5, hue=0.1, saturation=1.5, exposure=1.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images with a box each; the last two are unusable."""
    folder = tmp_path_factory.mktemp("set")
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(f"{number % 3} .5 .5 .5 .5\n")
    (folder / "10.png").write_bytes((folder / "10.png").read_bytes()[:200])
    (folder / "11.txt").write_text("7 .5 .5 .5 .5\n")
    return folder


def dataset(folder: Path, seed: int = 1, images: int = IMAGES) -> DetectionData:
    paths = tuple(str(folder / f"{number:02}.png") for number in range(images))
    augment_config = DetectionAugmentConfig.from_net(NET, "yolo", classes=3, max=5, jitter=0.3, resize=1.2)
    return DetectionData(paths, augment_config, Sampler.for_detector(NET, len(paths), seed))


def requests(first: int = 0) -> Iterator[BatchRequest]:
    """Minibatches of four without end, each other one larger."""
    return (BatchRequest(4 * number, 4, 32 + 16 * (number % 2), 48) for number in count(first))


def assert_same(batches: list[Batch], others: list[Batch]) -> None:
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert torch.equal(batch.x_BCHW, other.x_BCHW)
        assert torch.equal(batch.truth, other.truth)
        assert batch[2:] == other[2:]


def test_workers_make_the_same_batches_as_this_process(folder: Path) -> None:
    alone, helped = (list(islice(load_batches(dataset(folder), requests(), workers=workers), 6)) for workers in (0, 2))
    assert_same(alone, helped)
    assert [batch.x_BCHW.shape for batch in alone[:2]] == [(4, 3, 48, 32), (4, 3, 48, 48)]
    assert all(batch.truth.shape == (4, 5, 6) and len(batch.paths) == 4 for batch in alone)


def test_batches_continue_from_any_sample(folder: Path) -> None:
    whole = list(islice(load_batches(dataset(folder), requests()), 6))
    assert_same(list(islice(load_batches(dataset(folder), requests(4)), 2)), whole[4:])
    other = list(islice(load_batches(dataset(folder, seed=2), requests()), 6))
    assert not torch.equal(other[0].x_BCHW, whole[0].x_BCHW)


def test_torchs_own_numbers_are_left_alone(folder: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(islice(load_batches(dataset(folder), requests(), workers=1), 2))
    assert torch.equal(torch.rand(3), expected)


def test_bad_files_are_noted_once_by_this_process(folder: Path, tmp_path: Path) -> None:
    bad = BadLists(tmp_path)
    batches = list(islice(load_batches(dataset(folder), requests(), workers=2, bad=bad), 20))
    assert (tmp_path / "bad.list").read_text() == f"{folder / '10.png'}\n"
    assert (tmp_path / "bad_label.list").read_text() == f"{folder / '11.txt'}:1: class 7 is not from 0 to 2\n"
    assert bad.files[str(folder / "10.png")] > 1
    assert not any(str(folder / "10.png") in paths for batch in batches for paths in batch.paths)


@pytest.mark.parametrize("workers", [0, 1])
def test_hopeless_data_end_in_one_plain_error(tmp_path: Path, workers: int) -> None:
    with pytest.raises(
        DarkpyError, match=r"images in a row could not be used; of the last: .*00.png: no such file"
    ) as told:
        next(load_batches(dataset(tmp_path, images=1), requests(), workers=workers))
    assert "Traceback" not in str(told.value)
    assert "hint: look at the list of images" in str(told.value)


def test_workers_end_with_the_iteration(folder: Path) -> None:
    batches = load_batches(dataset(folder), requests(), workers=1)
    next(batches)
    assert multiprocessing.active_children()
    del batches
    gc.collect()
    assert not multiprocessing.active_children()


def test_objects_sent_to_workers_can_be_pickled(folder: Path) -> None:
    data = dataset(folder)
    assert pickle.loads(pickle.dumps(data)) == data


SPAWN = """
import sys, torch
from itertools import islice
if __name__ == "__main__":
    torch.multiprocessing.set_start_method("spawn")
    sys.path.insert(0, sys.argv[1])
    import pathlib, test_loader as t
    data = t.dataset(pathlib.Path(sys.argv[2]))
    alone, helped = (list(islice(t.load_batches(data, t.requests(), workers=workers), 3)) for workers in (0, 1))
    t.assert_same(alone, helped)
    print("same")
"""


@pytest.mark.slow
def test_spawned_workers_make_the_same(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "spawn.py").write_text(SPAWN)
    command = [sys.executable, str(tmp_path / "spawn.py"), str(Path(__file__).parent), str(folder)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "same\n"


FEW_BYTES = """
import sys, warnings
from itertools import islice
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_loader as t

data = t.dataset(Path(sys.argv[2]), images=10)
alone = list(islice(t.load_batches(data, t.requests()), 4))
with warnings.catch_warnings(record=True) as messages:
    warnings.simplefilter("always")
    helped = list(islice(t.load_batches(data, t.requests(), workers=1), 4))
t.assert_same(alone, helped)
print(*(message.message for message in messages))
"""


@pytest.mark.parametrize(
    ("megabytes", "inodes", "message"),
    [
        (0.1, 100, "batches reach the training through a pipe"),
        pytest.param(1, 1, "this process loads the images itself", marks=pytest.mark.slow),
    ],
)
def test_batches_arrive_although_shared_memory_is_full(
    folder: Path, megabytes: float, inodes: int, message: str
) -> None:
    options = f"size={int(megabytes * 1024)}k,nr_inodes={inodes}"
    mount = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o {options} tmpfs /dev/shm && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    command = [*mount, sys.executable, "-c", FEW_BYTES, str(Path(__file__).parent), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.count(message) == 1
    assert "_feed" not in done.stderr  # the traceback of the queue's thread


@pytest.mark.slow
def test_worker_that_cannot_pass_on_a_batch_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the queue's thread prints a traceback, drops the batch, and the training waits forever."""

    class Unsent(DarkpyError):
        def __reduce__(self) -> str:
            raise OSError("no more descriptors")

    class Maker:
        def make(self, sample_index: int, w: int, h: int) -> None:
            raise Unsent("lost")

    with pytest.raises(DarkpyError, match="a worker process that loads images has died"):
        next(load_batches(Maker(), requests(), workers=1))  # type: ignore[arg-type]


def test_suspended_worker_does_not_hold_up_the_end(folder: Path) -> None:
    batches = load_batches(dataset(folder), requests(), workers=1)
    next(batches)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    begin = time.monotonic()
    batches.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()
    assert time.monotonic() - begin < 4
