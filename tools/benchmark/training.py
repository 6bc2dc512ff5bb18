"""A training step: darkpy, plain PyTorch, and AlexeyAB's program."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from .darknet import TrainingProgram
from .machine import describe_machine
from .turns import Opener, Outputs, Quartiles, Run, Runner, Worker, report, take_turns

OBJECTS = 5
PEAK = "peak"
PEAK_SHAPES = ((1, 256, 512, 52), (8, 256, 256, 26), (1, 64, 64, 112))
"""Batch, channels, filters and side of 3 x 3 convolutions that come near what the processor can do at all."""
_OWN_KEYS = ("batch", "subdivisions", "max_batches", "constrain", "random")


class Training(NamedTuple):
    """What every runner of a training step gets: a cfg without its own batch, and one minibatch."""

    cfg: str
    batch: int
    threads: int
    arrays: Path

    def text(self, **keys: object) -> str:
        """The cfg with more keys in [net]."""
        lines = "".join(f"{key}={value}\n" for key, value in keys.items())
        return self.cfg.replace("[net]\n", f"[net]\nbatch={self.batch}\nsubdivisions=1\n{lines}", 1)


def open_trainer(job: Training, precision: str = "fp32", **keys: object) -> tuple[Any, str, Any, Any]:
    """darkpy's trainer, its version, and the minibatch."""
    import torch

    import darkpy
    from darkpy.process import keep_freed_memory

    warnings.simplefilter("ignore", darkpy.DarkpyWarning)
    keep_freed_memory()
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        cfg = Path(folder) / "net.cfg"
        cfg.write_text(job.text(**keys))
        trainer = darkpy.Trainer(darkpy.load(cfg), precision=precision)
    arrays = np.load(job.arrays)
    version = f"{darkpy.__version__} on torch {torch.__version__}"
    return trainer, version, torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["truth"])


def open_darkpy(job: Training, precision: str = "fp32", **keys: object) -> tuple[str, Run]:
    trainer, version, x_BCHW, truth = open_trainer(job, precision, **keys)

    def run() -> Outputs:
        return [np.array([trainer.train_minibatch(x_BCHW, truth).cost], np.float32)]

    return version, run


def open_plain(job: Training, precision: str = "fp32") -> tuple[str, Run]:
    """torch.nn, channels_last, SGD with momentum; instead of a detector's loss the sum of squares."""
    import torch

    import darkpy
    from darkpy.process import keep_freed_memory

    from .plain import PlainNet

    keep_freed_memory()
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        cfg = Path(folder) / "net.cfg"
        cfg.write_text(job.text())
        network = PlainNet(darkpy.plan(cfg))
    for array in network.parameters():
        if array.dim() == 4:
            array.data = array.detach().contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-9, momentum=0.9, weight_decay=0.0005)
    x_BCHW = torch.from_numpy(np.load(job.arrays)["x"]).contiguous(memory_format=torch.channels_last)

    def run() -> Outputs:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            outputs = network(x_BCHW)
        loss = torch.stack([output.float().square().sum() for output in outputs]).sum()
        torch.autograd.backward(loss)
        optimizer.step()
        return [loss.detach().numpy()]

    return f"torch {torch.__version__}", run


class Peak:
    """What the processor can do at all: a run is 10^12 operations of the fastest of some convolutions."""

    version, fault = "the fastest convolution", None

    def __init__(self, name: str, precision: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.name, self._dtype = name, torch.bfloat16 if precision == "bf16" else torch.float32

    def run(self, times: int) -> list[float]:
        return [min(self._seconds(*shape) for shape in PEAK_SHAPES) for _ in range(times)]

    def close(self) -> None:
        """It has no process of its own."""

    def _seconds(self, batch: int, channels: int, filters: int, side: int) -> float:
        import torch
        from torch.nn import functional

        form = torch.channels_last
        x_BCHW = torch.rand(batch, channels, side, side).to(self._dtype, memory_format=form)
        weights_FCKK = torch.rand(filters, channels, 3, 3).to(self._dtype, memory_format=form)
        operations = 2 * x_BCHW.numel() * weights_FCKK[:, 0].numel()
        with torch.inference_mode():
            functional.conv2d(x_BCHW, weights_FCKK, padding=1)
            began = perf_counter()
            functional.conv2d(x_BCHW, weights_FCKK, padding=1)
        return 1e12 / operations * (perf_counter() - began)


RUNNERS: dict[str, Opener] = {
    "darkpy": open_darkpy,
    "darkpy, constrain=0": partial(open_darkpy, constrain=0),
    "darkpy bf16": partial(open_darkpy, precision="bf16"),
    "darkpy bf16, constrain=0": partial(open_darkpy, precision="bf16", constrain=0),
    "plain torch": open_plain,
    "plain torch bf16": partial(open_plain, precision="bf16"),
}
PRECISIONS = {"": "fp32", " bf16": "bf16"}
PROGRAM = "AlexeyAB"


def prepare(arguments: argparse.Namespace, folder: Path) -> Training:
    """A minibatch of drawn images, as darkpy's own loader hands it out, with the files that a program reads."""
    import darkpy
    from darkpy.data.lists.data_file import read_data
    from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset
    from darkpy.training.setup import open_setup

    warnings.simplefilter("ignore")
    text = arguments.cfg.read_text()
    text = re.sub(rf"(?m)^({'|'.join(_OWN_KEYS)}) *=.*\n", "", text)  # random sizes would be another work each time
    job = Training(text, arguments.batch, arguments.threads, folder / "arrays.npz")
    (folder / "net.cfg").write_text(job.text())
    plan = darkpy.plan(folder / "net.cfg")
    for _ in write_synthetic_dataset(
        SyntheticConfig(images=2 * job.batch, valid=1, size=plan.net.width, seed=0), folder / "sample"
    ):
        pass
    classes = max(getattr(node.spec, "classes", 1) for node in plan.nodes)
    (folder / "net.names").write_text("".join(f"{number}\n" for number in range(classes)))
    (folder / "backup").mkdir()
    lines = (f"classes={classes}", f"train={folder}/sample/train.txt", "names=net.names", "backup=backup")
    (folder / "net.data").write_text("".join(f"{line}\n" for line in lines))
    source = open_setup(plan, read_data(folder / "net.data"), seed=0).source
    batch = next(source.batches(plan.net, 0))
    np.savez(job.arrays, x=batch.x_BCHW.numpy(), truth=batch.truth.numpy())
    return job


def bench_training(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time forward, deltas, backward and update, on one minibatch again and again, without loading."""
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    machine = describe_machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        job = prepare(arguments, folder)
        workers: list[Runner] = [Worker(name, opener, job) for name, opener in RUNNERS.items()]
        if arguments.alexeyab is not None:
            cfg = job.text(max_batches="{updates}")
            workers.append(TrainingProgram(PROGRAM, arguments.alexeyab, folder, cfg, job.threads))
        for worker in workers:
            stack.callback(worker.close)
        able = [worker for worker in workers if worker.fault is None]
        if workers[0] not in able:
            sys.exit(workers[0].fault)
        peaks = [Peak(f"{PEAK}{suffix}", precision, job.threads) for suffix, precision in PRECISIONS.items()]
        times = take_turns([*able, *peaks], arguments.rounds, arguments.seconds)
        floor, ratios = _compare(times, folder / "net.cfg", job)
    measured = report({name: [one / job.batch for one in seconds] for name, seconds in times.items()})
    return {
        "what": f"a training step, ms an image: {arguments.cfg}, batch {job.batch}",
        "cfg": str(arguments.cfg),
        "batch": job.batch,
        "threads": job.threads,
        "rounds": arguments.rounds,
        "machine": machine,
        "floor": floor,
        "ratios": ratios,
        "runners": {
            worker.name: {"version": worker.version, **measured[worker.name]}
            if worker.name in measured
            else {"absent": worker.fault}
            for worker in workers
        },
    }


def _compare(times: dict[str, list[float]], cfg: Path, job: Training) -> tuple[dict[str, Any], dict[str, Quartiles]]:
    """The floor, which is the work at the processor's best speed of all rounds, and the ratios that matter."""
    import darkpy

    products = [node.bflops for node in darkpy.plan(cfg).nodes if node.arrays]
    work = job.batch * (3 * sum(products) - products[0]) / 1000  # nobody asks for the gradient of the images
    floor: dict[str, Any] = {}
    ratios: dict[str, Quartiles] = {}
    for suffix, precision in PRECISIONS.items():
        peak, own = min(times[f"{PEAK}{suffix}"]), times[f"darkpy{suffix}"]
        floor[precision] = {"gflops": 1000 / peak, "ms": 1000 * work * peak / job.batch}
        others = {
            "the constraint, with over without": (own, times.get(f"darkpy{suffix}, constrain=0")),
            "darkpy over plain torch": (own, times.get(f"plain torch{suffix}")),
            "darkpy over the floor": (own, [work * peak] * len(own)),
            f"{PROGRAM} over darkpy": (times.get(PROGRAM), own),
        }
        for text, (ones, twos) in others.items():
            if ones is not None and twos is not None:
                ratios[f"{precision}: {text}"] = Quartiles.of([one / two for one, two in zip(ones, twos, strict=True)])
    return floor, ratios
