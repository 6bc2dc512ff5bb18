"""Training step: darkpy, plain PyTorch, and AlexeyAB's program."""

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
from typing import Any, NamedTuple

import numpy as np

from .darknet import TrainingProgram
from .machine import describe_machine
from .runners import Opener, Outputs, Quartiles, Run, Runner, Worker, describe, take_turns

PEAK = "peak"  # name of the runner that measures the processor's peak
_REPLACED_KEYS = ("batch", "subdivisions", "max_batches", "constrain", "random")


class TrainingJob(NamedTuple):
    """Input of every runner of a training step: a cfg's text without its own batch, and one minibatch."""

    cfg: str
    batch: int
    threads: int
    arrays: Path

    def text(self, **keys: object) -> str:
        """Return the cfg with more keys in [net]."""
        lines = "".join(f"{key}={value}\n" for key, value in keys.items())
        return self.cfg.replace("[net]\n", f"[net]\nbatch={self.batch}\nsubdivisions=1\n{lines}", 1)


def open_trainer(job: TrainingJob, precision: str = "fp32", **keys: object) -> tuple[Any, str, Any, Any]:
    """Return darkpy's trainer, its version, and the minibatch."""
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


def open_darkpy(job: TrainingJob, precision: str = "fp32", **keys: object) -> tuple[str, Run]:
    trainer, version, x_BCHW, truth = open_trainer(job, precision, **keys)

    def run() -> Outputs:
        return [np.array([trainer.train_minibatch(x_BCHW, truth).cost], np.float32)]

    return version, run


def open_plain(job: TrainingJob, precision: str = "fp32") -> tuple[str, Run]:
    """Open a runner of torch.nn, channels_last, SGD with momentum; the loss is the sum of squares, not a detector's."""
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


class PeakRunner:
    """Measures the processor's peak: a run is the time of 10^12 operations in the fastest of some convolutions."""

    version, fault = "the fastest convolution", None

    def __init__(self, name: str, precision: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.name, self._dtype = name, torch.bfloat16 if precision == "bf16" else torch.float32

    def run(self, times: int) -> list[float]:
        from darkpy.inference.speed_measurement import measure_peak

        return [1000 / measure_peak(self._dtype) for _ in range(times)]

    def close(self) -> None:
        """Do nothing: it runs in this process."""


TRAINING_RUNNERS: dict[str, Opener] = {
    "darkpy": open_darkpy,
    "darkpy, constrain=0": partial(open_darkpy, constrain=0),
    "darkpy bf16": partial(open_darkpy, precision="bf16"),
    "darkpy bf16, constrain=0": partial(open_darkpy, precision="bf16", constrain=0),
    "plain torch": open_plain,
    "plain torch bf16": partial(open_plain, precision="bf16"),
}
PRECISION_BY_SUFFIX = {"": "fp32", " bf16": "bf16"}
ALEXEYAB = "AlexeyAB"


def prepare_training(arguments: argparse.Namespace, folder: Path) -> TrainingJob:
    """Write a minibatch of synthetic images from darkpy's loader, and the files that AlexeyAB's program reads."""
    import darkpy
    from darkpy.data.lists.text_files import read_data
    from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset
    from darkpy.training.setup import open_setup

    warnings.simplefilter("ignore")
    text = arguments.cfg.read_text()
    text = re.sub(rf"(?m)^({'|'.join(_REPLACED_KEYS)}) *=.*\n", "", text)  # random sizes would vary the work
    job = TrainingJob(text, arguments.batch, arguments.threads, folder / "arrays.npz")
    (folder / "net.cfg").write_text(job.text())
    plan = darkpy.plan(folder / "net.cfg")
    for _ in write_synthetic_dataset(
        SyntheticConfig(images=2 * job.batch, valid=1, size=plan.net.width, seed=0), folder / "sample"
    ):
        pass
    classes = max(getattr(node.spec, "classes", 1) for node in plan.nodes)
    (folder / "net.names").write_text("".join(f"{index}\n" for index in range(classes)))
    (folder / "backup").mkdir()
    lines = (f"classes={classes}", f"train={folder}/sample/train.txt", "names=net.names", "backup=backup")
    (folder / "net.data").write_text("".join(f"{line}\n" for line in lines))
    source = open_setup(plan, read_data(folder / "net.data"), seed=0).source
    batch = next(source.batches(plan.net, 0))
    np.savez(job.arrays, x=batch.x_BCHW.numpy(), truth=batch.truth.numpy())
    return job


def bench_training(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time forward, deltas, backward and update, repeated on one minibatch, without loading."""
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    machine = describe_machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        job = prepare_training(arguments, folder)
        workers: list[Runner] = [Worker(name, opener, job) for name, opener in TRAINING_RUNNERS.items()]
        if arguments.alexeyab is not None:
            cfg = job.text(max_batches="{updates}")
            workers.append(TrainingProgram(ALEXEYAB, arguments.alexeyab, folder, cfg, job.threads))
        for worker in workers:
            stack.callback(worker.close)
        able = [worker for worker in workers if worker.fault is None]
        if workers[0] not in able:
            sys.exit(workers[0].fault)
        peaks = [PeakRunner(f"{PEAK}{suffix}", name, job.threads) for suffix, name in PRECISION_BY_SUFFIX.items()]
        times = take_turns([*able, *peaks], arguments.rounds, arguments.seconds)
        floor, ratios = _compare(times, folder / "net.cfg", job)
    times = {name: [duration / job.batch for duration in seconds] for name, seconds in times.items()}
    return {
        "what": f"a training step, ms an image: {arguments.cfg}, batch {job.batch}",
        "cfg": str(arguments.cfg),
        "batch": job.batch,
        "threads": job.threads,
        "rounds": arguments.rounds,
        "machine": machine,
        "floor": floor,
        "ratios": ratios,
        "runners": describe(workers, times),
    }


def _compare(times: dict[str, list[float]], cfg: Path, job: TrainingJob) -> tuple[dict[str, Any], dict[str, Quartiles]]:
    """Return the floor, which is the time of the work at the processor's peak, and the ratios between runners."""
    import darkpy

    weighted_bflops = [node.bflops for node in darkpy.plan(cfg).nodes if node.arrays]
    # 10^12 operations of forward, delta and weight gradient; the first layer needs no delta of the images
    work = job.batch * (3 * sum(weighted_bflops) - weighted_bflops[0]) / 1000
    floor: dict[str, Any] = {}
    ratios: dict[str, Quartiles] = {}
    for suffix, precision in PRECISION_BY_SUFFIX.items():
        peak, own = min(times[f"{PEAK}{suffix}"]), times[f"darkpy{suffix}"]
        floor[precision] = {"gflops": 1000 / peak, "ms": 1000 * work * peak / job.batch}
        pairs = {
            "the constraint, with over without": (own, times.get(f"darkpy{suffix}, constrain=0")),
            "darkpy over plain torch": (own, times.get(f"plain torch{suffix}")),
            "darkpy over the floor": (own, [work * peak] * len(own)),
            f"{ALEXEYAB} over darkpy": (times.get(ALEXEYAB), own),
        }
        for text, (seconds, base) in pairs.items():
            if seconds is not None and base is not None:
                ratios[f"{precision}: {text}"] = Quartiles.of_ratios(seconds, base)
    return floor, ratios
