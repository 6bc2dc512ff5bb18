"""Processes of a training: several that share one command line, and signals that stop them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from types import FrameType
from typing import Any, Protocol

from darkpy.cli import console
from darkpy.errors import DarkpyError

GRACE_SECONDS = 15.0
"""Time for the other processes to end by themselves when one has failed."""
_POLL_SECONDS = 0.1
HANGUP_SIGNAL: Any = getattr(signal, "SIGHUP", 0)  # of a terminal that is closed; Windows has none


def launch(arguments: Sequence[str], world: int) -> int:
    """Run darkpy in `world` processes with these arguments. Returns: the first exit code that is not 0, or 0.

    Signals are passed on: Ctrl-C does not reach the processes by itself. The second one ends them at once: a process
    that is suspended, or waits for one that is, does not answer.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    processes: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def pass_on(number: int) -> None:
        is_second = number != HANGUP_SIGNAL and bool(set(received) - {HANGUP_SIGNAL})
        received.append(number)
        for process in processes:
            process.send_signal(signal.SIGKILL if is_second else number)

    with catch_signals(pass_on):
        for rank in range(world):
            own = {name: str(value) for name, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()}
            command = [sys.executable, "-m", "darkpy", *arguments]
            processes.append(
                subprocess.Popen(command, env={**os.environ, **own}, stdin=subprocess.DEVNULL, start_new_session=True)
            )
        try:
            # until all have ended, or one has failed and the grace period of the others is over
            code, deadline = 0, float("inf")
            while any(process.poll() is None for process in processes) and monotonic() < deadline:
                code = code or _failed(processes)
                if code and deadline == float("inf"):
                    deadline = monotonic() + GRACE_SECONDS
                sleep(_POLL_SECONDS)
            code = code or _failed(processes)
            return 128 + received[0] if received and code == 128 + signal.SIGKILL else code
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _failed(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Return the exit code of a process that failed, as a shell reports it; 0 when none has."""
    code = next((code for process in processes if (code := process.poll())), 0)
    return 128 - code if code < 0 else code


@contextmanager
def catch_signals(pass_on: Callable[[int], None]) -> Iterator[None]:
    """Pass on signals that would end this process; in the main thread, which alone receives them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, lambda received, _: pass_on(received)) for number in _ending_signals()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def close_on_signals(close: Callable[[], None]) -> Iterator[list[int]]:
    """Let a signal that would end this process call `close`, and the command finish its files; a second one ends it.

    Yields: the signals received so far.
    """
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt
        # by a thread, as the code that is interrupted may hold the lock that `close` needs
        threading.Thread(target=close, daemon=True).start()

    with catch_signals(stop):
        yield received


def _ending_signals() -> list[int]:
    """Signals that end this process, without a hangup under nohup."""
    numbers: list[int] = [signal.SIGINT, signal.SIGTERM]
    if HANGUP_SIGNAL and signal.getsignal(HANGUP_SIGNAL) is not signal.SIG_IGN:
        numbers.append(HANGUP_SIGNAL)
    return numbers


def check_gpus(gpus: Sequence[str]) -> tuple[str, ...]:
    """Return the GPUs to use: these, or none on a machine without a GPU, as darknet's CPU builds do.

    Raises: DarkpyError for no numbers, for one twice, and when this machine has GPUs, but not these.
    """
    gpus = tuple(gpu.strip() for gpu in gpus)
    if not all(gpu.isdecimal() for gpu in gpus) or len(set(gpus)) < len(gpus):
        raise DarkpyError(f"-gpus {','.join(gpus)}: not a list of different GPUs", hint="-gpus 0,1 for the first two")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        console.info(f"-gpus {','.join(gpus)}: torch finds no GPU here; the CPU is used")
        return ()
    if any(int(gpu) >= count for gpu in gpus):
        raise DarkpyError(
            f"-gpus {','.join(gpus)}: torch finds {count} GPU{'s' * (count > 1)} here",
            hint=f"-gpus {','.join(map(str, range(count)))}",
        )
    return gpus


def own_device(device: str | None, gpus: Sequence[str]) -> str | None:
    """Return the name of this process's device; None for `darkpy.train` to choose it.

    Raises: DarkpyError when --device names one for several processes, or there are more processes than GPUs.
    """
    from darkpy.distributed import is_launched, local_rank, local_world

    if not is_launched():
        return gpus[0] if gpus else device
    if device is not None and device != "cpu":
        raise DarkpyError(f"--device {device}: each process has its own device", hint="leave --device to torchrun")
    if device == "cpu" or not gpus:
        return device
    if local_world() > len(gpus):
        raise DarkpyError(
            f"{local_world()} processes share {len(gpus)} GPUs: each needs its own",
            hint=f"torchrun --nproc_per_node {len(gpus)} ...",
        )
    return gpus[local_rank()]


class StoppableRun(Protocol):
    """A training that ends after the current update."""

    def stop(self, reason: str, *, code: int) -> None: ...


class StopRequest:
    """Callback that lets Ctrl-C, a closed terminal, and the signal that schedulers send, end a run between two updates.

    Signals are handled from the start of the run to the end of the `with` block. The second one ends the process at
    once, by the system's own action, whatever it is waiting for.
    """

    def __init__(self) -> None:
        self._previous: dict[int, signal._HANDLER] = {}

    def on_start(self, run: StoppableRun) -> None:
        self._run = run
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._stop) for number in _ending_signals()}

    def _stop(self, number: int, frame: FrameType | None) -> None:
        for handled in self._previous:
            # a terminal that is closed may send its signal twice: by the shell and by the kernel
            signal.signal(handled, signal.SIG_IGN if handled == HANGUP_SIGNAL else signal.SIG_DFL)
        self._run.stop(signal.Signals(number).name, code=128 + number)
        console.info("stopping after this update; Ctrl-C again stops at once")

    def __enter__(self) -> StopRequest:
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            if signal.getsignal(number) == self._stop:  # else a stop was requested: the next one still ends it at once
                signal.signal(number, handler)
