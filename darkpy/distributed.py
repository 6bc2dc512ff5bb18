"""The processes that share each minibatch: torch.distributed's ranks, of which there is mostly one."""

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
    """This process among those of torch.distributed's default group; it may also be alone.

    What one rank asks for all must ask for, in the same order, and all get the same answer, bit by bit.
    Raises: RankLostError when another one has ended.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes files and talks."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.world == 1

    def part(self, images: int) -> slice:
        """Which images of a minibatch are this rank's."""
        share = images // self.world
        return slice(self.rank * share, (self.rank + 1) * share)

    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in the place of the tensor."""
        if not self.is_alone:
            _ask(lambda: dist.all_reduce(tensor))
        return tensor

    def largest_(self, tensor: Tensor) -> Tensor:
        """The largest numbers of all ranks, in the place of the tensor."""
        if not self.is_alone:
            _ask(lambda: dist.all_reduce(tensor, dist.ReduceOp.MAX))
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, which have one shape, along a new first axis."""
        if self.is_alone:
            return tensor[None]
        gathered = [torch.empty_like(tensor) for _ in range(self.world)]
        _ask(lambda: dist.all_gather(gathered, tensor.contiguous()))
        return torch.stack(gathered)

    def gather_texts(self, text: str) -> list[str]:
        """The texts of all ranks."""
        if self.is_alone:
            return [text]
        coded = text.encode(errors="surrogatepass")
        sizes = self.gather(torch.tensor(len(coded))).tolist()
        padded = torch.tensor(list(coded.ljust(max(sizes), b"\0")), dtype=torch.uint8)
        rows = self.gather(padded).tolist() if max(sizes) else [[]] * self.world
        return [bytes(row[:size]).decode(errors="surrogatepass") for row, size in zip(rows, sizes, strict=True)]


SINGLE_PROCESS = ProcessGroup()


def _ask(collective: Callable[[], object]) -> None:
    try:
        collective()
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise RankLostError(
            f"another process of this training has ended: {reason}", hint="its own message tells why"
        ) from error
