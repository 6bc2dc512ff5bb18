"""Programs of fixed shapes are compiled for few sizes of a batch, and compute batches of any size in pieces."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import torch

from darkpy.inference.fixed_shapes import FILLED_PIECES, FixedShapeRunner, Program

WAIT_SECONDS = 30.0


def counting_runner(largest_batch: int) -> tuple[FixedShapeRunner, list[int], list[int]]:
    """Return a runner that doubles its input, and lists of the sizes that it compiles and runs."""
    compiled: list[int] = []
    ran: list[int] = []

    def compile_program(x_BCHW: torch.Tensor) -> Program:
        compiled.append(len(x_BCHW))

        def run(x_BCHW: torch.Tensor) -> list[torch.Tensor]:
            ran.append(len(x_BCHW))
            return [2 * x_BCHW]

        return run

    return FixedShapeRunner(compile_program, largest_batch=largest_batch), compiled, ran


def test_batches_of_any_size_run_in_pieces_of_known_sizes() -> None:
    runner, compiled, ran = counting_runner(8)
    for count, pieces in ((0, [0]), (2, [2]), (3, [3]), (1, [2]), (20, [8, 8, 3, 2]), (5, [3, 2]), (4, [3, 2])):
        ran.clear()
        x_BCHW = torch.rand(count, 1, 2, 2).contiguous(memory_format=torch.channels_last)
        (y_BCHW,) = runner(x_BCHW)
        assert torch.equal(y_BCHW, 2 * x_BCHW)
        assert ran == pieces
    assert compiled == [0, 2, 3, 8]


def test_batches_smaller_than_every_program_are_filled_up_before_one_is_compiled_for_single_images() -> None:
    runner, compiled, ran = counting_runner(8)
    runner(torch.rand(8, 1, 2, 2))
    for _ in range(FILLED_PIECES):
        assert len(runner(torch.rand(3, 1, 2, 2))[0]) == 3
    assert (compiled, ran) == ([8], [8] * (1 + FILLED_PIECES))
    runner(torch.rand(3, 1, 2, 2))
    assert (compiled, ran[-3:]) == ([8, 1], [1, 1, 1])


def test_thousands_of_pieces_are_no_recursion() -> None:
    runner, _, ran = counting_runner(1)
    x_BCHW = torch.rand(3000, 1, 1, 1)
    assert torch.equal(runner(x_BCHW)[0], 2 * x_BCHW)
    assert len(ran) == 3000


def test_what_is_compiled_runs_while_another_network_is_compiled() -> None:
    ready, _, _ = counting_runner(8)
    x_BCHW = torch.rand(1, 1, 2, 2)
    ready(x_BCHW)
    started, finish = Event(), Event()

    def compile_slowly(x_BCHW: torch.Tensor) -> Program:
        started.set()
        assert finish.wait(WAIT_SECONDS)
        return lambda x_BCHW: [x_BCHW]

    with ThreadPoolExecutor(2) as pool:
        compiling = pool.submit(FixedShapeRunner(compile_slowly), x_BCHW)
        try:
            assert started.wait(WAIT_SECONDS)
            pool.submit(ready, x_BCHW).result(WAIT_SECONDS)
            assert not compiling.done()
        finally:
            finish.set()
