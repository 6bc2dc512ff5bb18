"""Speed of the training data loader, and the time that a training waits for it."""

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
from .runners import Quartiles

SYNTHETIC_IMAGES, SYNTHETIC_IMAGES_QUICK, SYNTHETIC_IMAGE_PX = 64, 4, 640
SAMPLES_PER_ROUND = 16  # of the loader alone
WARMUP_UPDATES = 3


def bench_loader(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time the loader alone on one core, then a training on the samples of worker processes."""
    import torch

    from darkpy.process import keep_freed_memory

    warnings.simplefilter("ignore")
    machine = describe_machine()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or _write_images(
            Path(folder), SYNTHETIC_IMAGES_QUICK if arguments.quick else SYNTHETIC_IMAGES
        )
        cfg = Path(folder) / "net.cfg"
        text = re.sub(r"(?m)^(batch|subdivisions|max_batches|random) *=.*\n", "", arguments.cfg.read_text())
        cfg.write_text(text.replace("[net]\n", f"[net]\nbatch={arguments.batch}\nsubdivisions=1\n", 1))
        torch.set_num_threads(1)
        sample_seconds = list(_time_loader(cfg, data, arguments))
        torch.set_num_threads(arguments.threads)
        without_loader, updates = _time_training(cfg, data, arguments)
    waiting_percent = [100 * waited / seconds for seconds, waited in updates]
    with_loader = [1000 * seconds / arguments.batch for seconds, _ in updates]
    base = median(with_loader)
    return {
        "what": f"training data, ms an image: {arguments.cfg}, {arguments.data or 'synthetic images'}",
        "cfg": str(arguments.cfg),
        "data": str(arguments.data or "synthetic"),
        "batch": arguments.batch,
        "workers": arguments.workers,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "machine": machine,
        "ratios": {
            "samples a second on one core": Quartiles.of([1 / seconds for seconds in sample_seconds]),
            "% of an update spent waiting for data": Quartiles.of(waiting_percent),
            "an update with the loader over one without": Quartiles.of(
                [ms / median(without_loader) for ms in with_loader]
            ),
        },
        "runners": {
            name: {"version": version, "ms": Quartiles.of(ms), "ratio": Quartiles.of([value / base for value in ms])}
            for name, version, ms in (
                ("training with the loader", f"{arguments.workers} workers", with_loader),
                ("training without it", "the same minibatch each time", without_loader),
                ("loader alone", "processor time of one core", [1000 * seconds for seconds in sample_seconds]),
            )
        },
    }


def _write_images(folder: Path, count: int) -> Path:
    from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset

    config = SyntheticConfig(images=count, valid=1, size=SYNTHETIC_IMAGE_PX, seed=0)
    for _ in write_synthetic_dataset(config, folder / "sample"):
        pass
    return folder / "sample" / "sample.data"


def _open(cfg: Path, data: Path, workers: int) -> Any:
    import darkpy
    from darkpy.data.lists.text_files import read_data
    from darkpy.training.setup import open_setup

    return open_setup(darkpy.plan(cfg), read_data(data), seed=0, workers=workers)


def _time_loader(cfg: Path, data: Path, arguments: argparse.Namespace) -> Iterator[float]:
    """Yield the processor seconds of a sample, round by round."""
    setup = _open(cfg, data, 0)
    net, dataset = setup.plan.net, setup.source.dataset
    for round_index in range(arguments.rounds + 1):
        start = process_time()
        for offset in range(SAMPLES_PER_ROUND):
            dataset.make(round_index * SAMPLES_PER_ROUND + offset, net.width, net.height)
        if round_index:  # the first round has cold caches
            yield (process_time() - start) / SAMPLES_PER_ROUND


def _time_training(
    cfg: Path, data: Path, arguments: argparse.Namespace
) -> tuple[list[float], list[tuple[float, float]]]:
    """Return milliseconds an image without a loader; with one, the seconds of each update and those that it waited."""
    import torch

    import darkpy
    from darkpy.training.loop import run_updates

    torch.manual_seed(0)
    trainer = darkpy.Trainer(darkpy.load(cfg))
    setup = _open(cfg, data, arguments.workers)
    reports = run_updates(trainer, setup.source)
    first = list(islice(reports, WARMUP_UPDATES))
    updates = [(report.seconds, report.waited) for report in islice(reports, arguments.rounds)]
    batch = first[-1].batches[0]
    reports.close()  # type: ignore[attr-defined]
    without_loader = []
    for _ in range(arguments.rounds):
        start = perf_counter()
        trainer.train_minibatch(batch.x_BCHW, batch.truth)
        without_loader.append(1000 * (perf_counter() - start) / arguments.batch)
    return without_loader, updates
