"""Training in several processes, of one machine or of many: each rank has its part of every minibatch.

The equivalence: with the same batch, subdivisions and rate, n ranks make the weights that one makes, up to rounding.
Gradients are summed over ranks before an update divides them by the batch; batch norm has the statistics of the whole
minibatch; costs, reports and the filter of late deltas are those of all its images. Random numbers drawn on a device
([dropout], [crop], the first boxes of `random` in [detection]) differ from rank to rank.
Differs: darknet's devices each take a whole batch, at a rate times their number, and average their weights every four
updates; another number of devices is another training.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

from darkpy.errors import DarkpyError

RANK_TIMEOUT = timedelta(minutes=30)
"""Longest wait of a rank for the others: only the main rank validates and writes checkpoints."""


class RankLostError(DarkpyError):
    """Another process of the training has ended or does not answer."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process among those of torch.distributed's default group; it may be the only one.

    All ranks must call the same methods in the same order, and all get the same answer, bit by bit.
    Raises: RankLostError when another process has ended.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """True on the rank that writes files and prints."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.world_size == 1

    def shard(self, images: int) -> slice:
        """Return this rank's images of a minibatch."""
        size = images // self.world_size
        return slice(self.rank * size, (self.rank + 1) * size)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum over all ranks, in place."""
        if not self.is_alone:
            _run_collective(lambda: dist.all_reduce(tensor))
        return tensor

    def sum_all_(self, tensors: Sequence[Tensor | None]) -> None:
        """Sums over all ranks, in place, in a single message; None is left out."""
        present = [tensor for tensor in tensors if tensor is not None]
        if self.is_alone or not present:
            return
        total = self.sum_(torch.cat([tensor.flatten() for tensor in present]))
        for tensor, part in zip(present, torch.split(total, [tensor.numel() for tensor in present]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def max_(self, tensor: Tensor) -> Tensor:
        """Elementwise maximum over all ranks, in place."""
        if not self.is_alone:
            _run_collective(lambda: dist.all_reduce(tensor, dist.ReduceOp.MAX))
        return tensor

    def agree(self, code: int) -> int:
        """Largest code of any rank, so that all end after the same update."""
        return code if self.is_alone else int(self.max_(torch.tensor(code)))

    def gather(self, tensor: Tensor) -> Tensor:
        """Tensors of all ranks, which have one shape, stacked along a new first axis."""
        if self.is_alone:
            return tensor[None]
        gathered = [torch.empty_like(tensor) for _ in range(self.world_size)]
        _run_collective(lambda: dist.all_gather(gathered, tensor.contiguous()))
        return torch.stack(gathered)

    def gather_texts(self, text: str) -> list[str]:
        """Texts of all ranks, in the order of the ranks."""
        if self.is_alone:
            return [text]
        encoded = text.encode(errors="surrogatepass")
        sizes = self.gather(torch.tensor(len(encoded))).tolist()
        padded = torch.tensor(list(encoded.ljust(max(sizes), b"\0")), dtype=torch.uint8)
        rows = self.gather(padded).tolist() if max(sizes) else [[]] * self.world_size
        return [bytes(row[:size]).decode(errors="surrogatepass") for row, size in zip(rows, sizes, strict=True)]

    def gather_paths(self, paths: Sequence[str]) -> list[str]:
        """Paths of all ranks in one list."""
        return [path for text in self.gather_texts(json.dumps(paths)) for path in json.loads(text)]


SINGLE_PROCESS = ProcessGroup()


def _run_collective(collective: Callable[[], object]) -> None:
    try:
        collective()
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise RankLostError(
            f"another process of this training has ended: {reason}", hint="see its own error message"
        ) from error


def is_launched() -> bool:
    """True if torchrun, or darkpy itself, has started this process as one of several."""
    return _environment_int("WORLD_SIZE", 1) > 1 and "RANK" in os.environ


def is_main_process() -> bool:
    """True in the process that will be the main rank, before the processes have joined."""
    return not is_launched() or _environment_int("RANK", 0) == 0


def local_rank() -> int:
    """Index of this process among those of this machine."""
    return _environment_int("LOCAL_RANK", 0)


def local_world() -> int:
    """Number of processes of the training on this machine."""
    return _environment_int("LOCAL_WORLD_SIZE", _environment_int("WORLD_SIZE", 1))


def _environment_int(name: str, default: int) -> int:
    """Integer of an environment variable that torchrun sets. Raises: DarkpyError when it is none."""
    text = os.environ.get(name, str(default))
    if not re.fullmatch(r"\d{1,6}", text, re.ASCII):
        raise DarkpyError(
            f"the environment variable {name}={text[:40]} is not a number", hint=f"unset {name}, or use torchrun"
        )
    return int(text)


@contextmanager
def joined(device: torch.device, timeout: timedelta = RANK_TIMEOUT) -> Iterator[ProcessGroup]:
    """Process group of the processes that were launched together: NCCL between GPUs, gloo between CPUs.

    Raises: DarkpyError when the others cannot be reached.
    """
    if not is_launched():
        yield SINGLE_PROCESS
        return
    backend = "cpu:gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend += ",cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=timeout)
    except (RuntimeError, ValueError) as error:  # torch's DistErrors are the former, missing variables the latter
        reason = str(error).partition("\n")[0]
        raise RankLostError(f"the other processes of this training cannot be reached: {reason}") from error
    process_group = ProcessGroup(dist.get_rank(), dist.get_world_size())
    yield process_group
    process_group.agree(0)  # no rank leaves while the main one is still writing
    dist.destroy_process_group()  # a rank that failed ends without this, which the others see at once
