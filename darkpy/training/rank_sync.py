"""Training on several devices, of one machine or of many: each rank has its part of every minibatch.

The equivalence: with the same batch, subdivisions and rate, n ranks make the weights that one makes, up to rounding.
Gradients are summed over ranks before an update divides them by the batch; batch norm has the statistics of the whole
minibatch; costs, reports and the filter of late deltas are those of all its images. What a device draws ([dropout],
[crop], the first boxes of `random` in [detection]) is as random but not the same: each rank draws its own.
Differs: darknet's devices each take a whole batch, at a rate times their number, and average their weights every four
updates; another number of devices is another training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch import distributed as dist

from darkpy.data.loading.bad_files import Problem
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup, RankLostError
from darkpy.errors import DarkpyError
from darkpy.network import Network

if TYPE_CHECKING:
    from darkpy.data.loading.loader import Batch
    from darkpy.training.trainer import Trainer

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for the others: validation and checkpoints are the main one's alone."""
_LARGEST_SEED = 2**63


def is_launched() -> bool:
    """Whether torchrun, or darkpy itself, has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def local_rank() -> int:
    """Which process of this machine this one is, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world() -> int:
    """How many of the processes are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))


@contextmanager
def joined(device: torch.device, patience: timedelta = PATIENCE) -> Iterator[ProcessGroup]:
    """This process among those it was started with, over NCCL between GPUs and gloo between CPUs.

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
        dist.init_process_group(backend, timeout=patience)
    except (RuntimeError, ValueError) as error:  # torch's DistErrors are the former, what is missing the latter
        reason = str(error).partition("\n")[0]
        raise RankLostError(f"the other processes of this training cannot be reached: {reason}") from error
    process_group = ProcessGroup(dist.get_rank(), dist.get_world_size())
    yield process_group
    agree(0, process_group)  # nobody goes while the main rank is still writing
    dist.destroy_process_group()  # a rank that failed leaves by ending, which the others hear of at once


def check_shares(network: Network, process_group: ProcessGroup) -> None:
    """Raises: DarkpyError when the ranks cannot share the minibatches of a network."""
    net, file = network.plan.net, network.plan.file
    if process_group.is_alone:
        return
    if net.minibatch % process_group.world_size:
        raise DarkpyError(
            f"{file}: a minibatch of {net.minibatch} (batch={net.batch} / subdivisions={net.subdivisions})"
            f" cannot be shared by {process_group.world_size} devices",
            hint=f"make batch / subdivisions a multiple of {process_group.world_size}",
        )
    if net.time_steps > 1:
        raise DarkpyError(f"{file}: time_steps={net.time_steps} trains on one device only", hint="give one device")
    if any(spec.compares_images for spec in network.loss_specs):
        raise DarkpyError(
            f"{file}: a loss compares the images of a minibatch: it trains on one device only", hint="give one device"
        )


def match(trainer: Trainer) -> None:
    """Make sure that all ranks start from the same numbers, after a resume file has been read.

    Gradients whose update was put off stay with the main rank.
    Raises: DarkpyError when another machine has read other files.
    """
    if trainer.process_group.is_alone:
        return
    if not trainer.process_group.is_main:
        trainer.network.zero_grad()
    state = trainer.optimizer.torch.state
    moments = [one for kept in state.values() for one in kept.values() if isinstance(one, Tensor)]
    arrays = [*trainer.network.parameters(), *trainer.network.buffers(), *moments, *trainer.ema.arrays.values()]
    sums = [float(array.detach().double().abs().sum()) for array in arrays]
    figures = torch.tensor([trainer.seed, trainer.seen, len(sums), sum(sums)], dtype=torch.float64)
    different = (trainer.process_group.gather(figures) != figures).any(1)
    if different.any():
        raise DarkpyError(
            f"rank {trainer.process_group.rank} starts from other numbers than rank {int(different.int().argmax())}",
            hint="give every machine the same cfg, weights, resume file and --seed",
        )


def seed_chance(process_group: ProcessGroup, seed: int, seen: int) -> None:
    """What is drawn on a rank's device follows from the seed, the images seen and the rank, so that runs can go on."""
    if not process_group.is_alone:
        torch.manual_seed((seed * 1_000_003 + seen * process_group.world_size + process_group.rank) % _LARGEST_SEED)


def sum_gradients(gradients: Sequence[Tensor | None], process_group: ProcessGroup) -> None:
    """Put the sums over all ranks in the gradients' place, all in one message."""
    present = [gradient for gradient in gradients if gradient is not None]
    if process_group.is_alone or not present:
        return
    total = process_group.sum_(torch.cat([gradient.flatten() for gradient in present]))
    for gradient, part in zip(present, torch.split(total, [one.numel() for one in present]), strict=True):
        gradient.copy_(part.view(gradient.shape))


def share_problems(batches: Sequence[Batch], process_group: ProcessGroup) -> list[Batch]:
    """These parts of minibatches, with the problems that all ranks met in theirs."""
    if process_group.is_alone:
        return list(batches)
    told = process_group.gather_texts(json.dumps([batch.problems for batch in batches]))
    parts = [[[Problem(*one) for one in problems] for problems in json.loads(text)] for text in told]
    return [
        batch._replace(problems=tuple(problem for part in parts for problem in part[place]))
        for place, batch in enumerate(batches)
    ]


def share_paths(paths: Sequence[str], process_group: ProcessGroup) -> list[str]:
    """The paths of all ranks."""
    return [path for text in process_group.gather_texts(json.dumps(paths)) for path in json.loads(text)]


def agree(code: int, process_group: ProcessGroup) -> int:
    """The largest of what the ranks say, so that all end after the same update."""
    return int(process_group.max_(torch.tensor(code)))
