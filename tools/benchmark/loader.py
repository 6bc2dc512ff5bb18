"""The training data alone, and what a training waits for them."""

from __future__ import annotations

import argparse
import re
import tempfile
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from .machine import describe_machine
from .turns import Quartiles

PICTURES, FEW, SIDE = 64, 4, 640
IMAGES = 16
"""Made in each round of the loader alone."""
FIRST = 3
"""Updates that are not counted: workers and caches are cold."""


def bench_loader(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make training images on one core, then train on what worker processes make of the same images."""
    import torch

    from darkpy.process import keep_freed_memory

    warnings.simplefilter("ignore")
    machine = describe_machine()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or _draw(Path(folder), FEW if arguments.quick else PICTURES)
        cfg = Path(folder) / "net.cfg"
        text = re.sub(r"(?m)^(batch|subdivisions|max_batches|random) *=.*\n", "", arguments.cfg.read_text())
        cfg.write_text(text.replace("[net]\n", f"[net]\nbatch={arguments.batch}\nsubdivisions=1\n", 1))
        torch.set_num_threads(1)
        made = list(_make(cfg, data, arguments))
        torch.set_num_threads(arguments.threads)
        alone, updates = _train(cfg, data, arguments)
    shares = [100 * waited / seconds for seconds, waited in updates]
    images = [1000 * seconds / arguments.batch for seconds, _ in updates]
    base = median(images)
    return {
        "what": f"training data, ms an image: {arguments.cfg}, {arguments.data or 'drawn pictures'}",
        "cfg": str(arguments.cfg),
        "data": str(arguments.data or "drawn"),
        "batch": arguments.batch,
        "workers": arguments.workers,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "machine": machine,
        "ratios": {
            "images made in a second of one core": Quartiles.of([1 / one for one in made]),
            "% of an update spent waiting for data": Quartiles.of(shares),
            "an update with the loader over one without": Quartiles.of([one / median(alone) for one in images]),
        },
        "runners": {
            name: {"version": version, "ms": Quartiles.of(ms), "ratio": Quartiles.of([one / base for one in ms])}
            for name, version, ms in (
                ("training with the loader", f"{arguments.workers} workers", images),
                ("training without it", "the same minibatch each time", alone),
                ("loader alone", "processor time of one core", [1000 * one for one in made]),
            )
        },
    }


def _draw(folder: Path, count: int) -> Path:
    from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset

    for _ in write_synthetic_dataset(SyntheticConfig(images=count, valid=1, size=SIDE, seed=0), folder / "sample"):
        pass
    return folder / "sample" / "sample.data"


def _open(cfg: Path, data: Path, workers: int) -> Any:
    import darkpy
    from darkpy.data.lists.data_file import read_data
    from darkpy.training.setup import open_setup

    return open_setup(darkpy.plan(cfg), read_data(data), seed=0, workers=workers)


def _make(cfg: Path, data: Path, arguments: argparse.Namespace) -> Iterator[float]:
    """Processor seconds of an image, round by round."""
    setup = _open(cfg, data, 0)
    net, dataset = setup.plan.net, setup.source.dataset
    for number in range(arguments.rounds + 1):
        began = process_time()
        for array_spec in range(IMAGES):
            dataset.make(number * IMAGES + array_spec, net.width, net.height)
        if number:  # the first round finds everything cold
            yield (process_time() - began) / IMAGES


def _train(cfg: Path, data: Path, arguments: argparse.Namespace) -> tuple[list[float], list[tuple[float, float]]]:
    """Milliseconds of an image without a loader; the seconds of each update with one, and those it waited."""
    import torch

    import darkpy
    from darkpy.training.loop import train

    torch.manual_seed(0)
    trainer = darkpy.Trainer(darkpy.load(cfg))
    setup = _open(cfg, data, arguments.workers)
    reports = train(trainer, setup.source)
    first = list(islice(reports, FIRST))
    updates = [(report.seconds, report.waited) for report in islice(reports, arguments.rounds)]
    batch = first[-1].batches[0]
    reports.close()  # type: ignore[attr-defined]
    alone = []
    for _ in range(arguments.rounds):
        began = perf_counter()
        trainer.train_minibatch(batch.x_BCHW, batch.truth)
        alone.append(1000 * (perf_counter() - began) / arguments.batch)
    return alone, updates
