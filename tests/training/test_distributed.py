"""Two processes with half of each minibatch make what one makes with all of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import darkpy
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup, is_launched
from darkpy.errors import DarkpyError
from darkpy.training.trainer import Trainer
from tests.training.two_ranks import CASES, DIED, NET, YOLO, Arrays, run

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "tests.training.two_ranks"


class Shared(NamedTuple):
    """What two processes have after all the cases, their exit codes and what they said on standard error."""

    arrays: list[Arrays]
    codes: list[int]
    errors: list[str]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    file = tmp_path_factory.mktemp("ranks") / "arrays"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", PROGRAM, file],
            env={**os.environ, **told, "RANK": str(rank)},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    arrays = [dict(np.load(f"{file}.{rank}.npz")) for rank in range(2)]
    return Shared(arrays, [process.returncode for process in processes], errors)


def of(arrays: Arrays, case: str) -> Arrays:
    return {name.removeprefix(f"{case} "): array for name, array in arrays.items() if name.startswith(f"{case} ")}


def distance(one: Any, other: Any) -> float:
    """The largest difference, over the largest number."""
    return float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-30))


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_make_the_numbers_of_one(case: str, shared: Shared) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the ranks have it: how sums are split among threads shows in their last digits
    alone, together = run(case), of(shared.arrays[0], case)
    torch.set_num_threads(threads)
    assert alone.keys() == together.keys()
    for name in alone.keys() - {"told", "found"}:
        assert distance(alone[name], together[name]) < 1e-6, name


@pytest.mark.parametrize("case", CASES)
def test_ranks_have_the_same_weights_bit_by_bit_and_tell_the_same(case: str, shared: Shared) -> None:
    first, second = (of(arrays, case) for arrays in shared.arrays)
    for name in first.keys() - {"written"}:
        assert np.array_equal(first[name], second[name]), name


def test_images_of_any_rank_are_refused_by_all_and_told(shared: Shared) -> None:
    alone, together = run("watched"), of(shared.arrays[0], "watched")
    assert int(alone["skipped"]) == int(together["skipped"]) == 3 * 8
    for arrays in (alone, together, of(shared.arrays[1], "watched")):
        assert list(arrays["found"]) == ["0.png", "37.png", "38.png", "47.png"]


def test_problems_of_all_ranks_are_reported_and_written_down_by_the_main_one(shared: Shared) -> None:
    alone, main, other = run("plain"), of(shared.arrays[0], "plain"), of(shared.arrays[1], "plain")
    assert list(alone["told"]) == list(main["told"]) and len(main["told"]) > 4
    assert (int(main["written"]), int(other["written"])) == (len(main["told"]), 0)


def test_the_late_filter_of_deltas_has_been_at_work(shared: Shared) -> None:
    assert of(shared.arrays[0], "yolo")["filter"][:3].min() > 0


def test_ranks_that_start_from_other_weights_are_reported(shared: Shared) -> None:
    for rank, arrays in enumerate(shared.arrays):
        assert arrays["error"] == f"rank {rank} starts from other numbers than rank {1 - rank}"


def test_rank_that_dies_ends_the_others_with_an_error(shared: Shared) -> None:
    assert shared.codes == [1, DIED]
    assert "another process of this training has ended" in shared.errors[0]


def test_minibatch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(DarkpyError, match=r"a minibatch of 8 \(batch=16 / subdivisions=2\) cannot be shared by 3"):
        Trainer(darkpy.load(CASES["plain"], dialect="alexeyab"), process_group=ProcessGroup(0, 3))


def test_sequences_are_refused() -> None:
    with pytest.raises(DarkpyError, match="time_steps=2 trains on one device only"):
        Trainer(darkpy.load(CASES["normalized"], dialect="alexeyab", time_steps=2), process_group=ProcessGroup(0, 2))


def test_losses_that_compare_images_are_refused() -> None:
    cfg = NET + YOLO + "\n[route]\nlayers=0\n\n[contrastive]\nyolo_layer=1\n"
    with pytest.raises(DarkpyError, match="a loss compares the images of a minibatch"):
        Trainer(darkpy.load(cfg, dialect="alexeyab"), process_group=ProcessGroup(0, 2))


def test_one_process_alone_asks_nobody() -> None:
    texts = SINGLE_PROCESS.gather_texts("a")
    assert (SINGLE_PROCESS.is_main, SINGLE_PROCESS.shard(8), texts) == (True, slice(0, 8), ["a"])


def test_parts_of_the_ranks_are_the_minibatch() -> None:
    assert [ProcessGroup(rank, 4).shard(8) for rank in range(4)] == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]


@pytest.mark.parametrize("text", ["x", "", "-1", "9" * 5000, "2.5"])
def test_environment_variable_of_a_launcher_that_is_no_number_is_named(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", text)
    with pytest.raises(DarkpyError, match=r"the environment variable WORLD_SIZE=.* is not a number") as info:
        is_launched()
    assert len(str(info.value)) < 200
