"""The same command line in several processes of this machine, which share what it asks for."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep

from darkpy.errors import DarkpyError

GRACE = 15.0
"""Seconds that the others get to end by themselves when one has failed."""
_LOOK = 0.1


def launch(arguments: Sequence[str], world: int) -> int:
    """Run darkpy so many times with these arguments. Returns: the exit code of the first one that failed, or 0.

    Signals are passed on: Ctrl-C does not reach the processes by itself.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    processes: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int) -> None:
        for process in processes:
            process.send_signal(number)

    with _caught(pass_on):
        for rank in range(world):
            own = {name: str(value) for name, value in (told | {"RANK": rank, "LOCAL_RANK": rank}).items()}
            command = [sys.executable, "-m", "darkpy", *arguments]
            processes.append(
                subprocess.Popen(command, env={**os.environ, **own}, stdin=subprocess.DEVNULL, start_new_session=True)
            )
        try:
            return _wait(processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Until all have ended, or one has failed and the others have had their time."""
    first, until = 0, float("inf")
    while any(process.poll() is None for process in processes) and monotonic() < until:
        first = first or _failed(processes)
        if first and until == float("inf"):
            until = monotonic() + GRACE
        sleep(_LOOK)
    return first or _failed(processes)


def _failed(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit code of a process that failed, as a shell tells it; 0 when none has."""
    code = next((code for process in processes if (code := process.poll())), 0)
    return 128 - code if code < 0 else code


@contextmanager
def _caught(pass_on: Callable[[int], None]) -> Iterator[None]:
    """Have signals that would end this process handed on instead."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    earlier = {number: signal.signal(number, lambda got, _: pass_on(got)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def check_gpus(gpus: Sequence[str]) -> None:
    """Raises: DarkpyError when this machine does not have these GPUs."""
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    missing = [gpu for gpu in gpus if int(gpu) >= there]
    if missing:
        raise DarkpyError(
            f"-gpus {','.join(gpus)}: torch finds {there or 'no'} GPU{'s' * (there > 1)} here",
            hint=f"without GPUs, torchrun --nproc_per_node {len(gpus)} -m darkpy train ... shares it between processes",
        )


def own_device(device: str | None, gpus: Sequence[str]) -> str | None:
    """The name of the device of this process: of several each has its own GPU.

    Raises: DarkpyError when several would have one GPU, or there are more processes than GPUs.
    """
    import torch

    from darkpy.training.rank_sync import is_launched, local_rank, local_world

    if not is_launched():
        return gpus[0] if gpus else device
    if device is not None and device != "cpu":
        raise DarkpyError(f"--device {device}: each process has its own device", hint="leave --device to torchrun")
    if device == "cpu" or not (gpus or torch.cuda.is_available()):
        return "cpu"
    numbers = gpus or [str(number) for number in range(torch.cuda.device_count())]
    if local_world() > len(numbers):
        raise DarkpyError(
            f"{local_world()} processes share {len(numbers)} GPUs: each needs its own",
            hint=f"torchrun --nproc_per_node {len(numbers)} ...",
        )
    return numbers[local_rank()]
