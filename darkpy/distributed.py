"""The processes that share each minibatch: the ranks of torch.distributed, usually a single one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from darkpy.errors import DarkpyError


class RankLostError(DarkpyError):
    """Another process of the training has ended or does not answer."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process in torch.distributed's default group, possibly alone.

    Collectives must be called by all ranks in the same order; all get the same result, bit for bit.
    Raises: RankLostError in a collective when another rank has ended.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """True for the rank that writes files and prints."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.world_size == 1

    def shard(self, images: int) -> slice:
        """Return this rank's images of a minibatch."""
        size = images // self.world_size
        return slice(self.rank * size, (self.rank + 1) * size)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all ranks, in place."""
        if not self.is_alone:
            _run_collective(lambda: dist.all_reduce(tensor))
        return tensor

    def max_(self, tensor: Tensor) -> Tensor:
        """Take the element-wise maximum over all ranks, in place."""
        if not self.is_alone:
            _run_collective(lambda: dist.all_reduce(tensor, dist.ReduceOp.MAX))
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """Stack the tensors of all ranks, which have the same shape, along a new first axis."""
        if self.is_alone:
            return tensor[None]
        tensors = [torch.empty_like(tensor) for _ in range(self.world_size)]
        _run_collective(lambda: dist.all_gather(tensors, tensor.contiguous()))
        return torch.stack(tensors)

    def gather_texts(self, text: str) -> list[str]:
        """Gather the texts of all ranks."""
        if self.is_alone:
            return [text]
        encoded = text.encode(errors="surrogatepass")
        sizes = self.gather(torch.tensor(len(encoded))).tolist()
        padded = torch.tensor(list(encoded.ljust(max(sizes), b"\0")), dtype=torch.uint8)
        rows = self.gather(padded).tolist() if max(sizes) else [[]] * self.world_size
        return [bytes(row[:size]).decode(errors="surrogatepass") for row, size in zip(rows, sizes, strict=True)]


SINGLE_PROCESS = ProcessGroup()


def _run_collective(collective: Callable[[], object]) -> None:
    try:
        collective()
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise RankLostError(
            f"another process of this training has ended: {reason}", hint="see its own error message"
        ) from error
