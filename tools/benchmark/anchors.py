"""Anchors of a data set: `calc_anchors` from label files to anchors.txt, and k-means alone."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpy.anchors.kmeans import Floats, cluster

from .machine import describe_machine
from .runners import Quartiles

BOXES_PER_IMAGE, NET_PX, QUICK_BOXES = 10, 416, 2000
LOOP_ROUNDS = 2
"""Timed rounds of the loop over boxes, which would need minutes for all of them."""


def bench_anchors(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time `calc_anchors` of darkpy and of AlexeyAB's program on the same label files, in turns."""
    boxes = QUICK_BOXES if arguments.quick else arguments.boxes
    sizes_N2 = _draw_sizes(boxes)
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    programs = {"darkpy": [sys.executable, "-m", "darkpy"]}
    if arguments.alexeyab is not None:
        programs["AlexeyAB"] = [str(arguments.alexeyab.absolute())]
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        _write_labels(Path(folder), sizes_N2)
        sides = ["-width", str(NET_PX), "-height", str(NET_PX)]
        command = ["detector", "calc_anchors", "bench.data", "-num_of_clusters", str(arguments.clusters), *sides]
        for round_index in range(arguments.rounds + 1):
            for name, program in programs.items():
                seed = ["--seed", str(round_index)] if name == "darkpy" else []
                duration = _run([*program, *command, *seed], folder, environment)
                if round_index:  # the files are not cached in the first round
                    seconds[name].append(duration)
    base = seconds["darkpy"]
    return {
        "what": f"calc_anchors, {arguments.clusters} clusters, {boxes} boxes in {boxes // BOXES_PER_IMAGE} files",
        "boxes": boxes,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "machine": describe_machine(),
        "ratios": _time_kmeans(sizes_N2, arguments),
        "runners": {
            name: {
                "version": programs[name][0],
                "ms": Quartiles.of([1000 * duration for duration in durations]),
                "ratio": Quartiles.of_ratios(durations, base),
            }
            for name, durations in seconds.items()
        },
    }


def _run(command: Sequence[str], folder: str, environment: dict[str, str]) -> float:
    start = perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]}: exit code {done.returncode}: {done.stderr[-500:].decode(errors='replace')}")
    return perf_counter() - start


def _time_kmeans(sizes_N2: Floats, arguments: argparse.Namespace) -> dict[str, Quartiles]:
    """Time k-means without files, and a loop over the boxes for as many rounds."""
    seconds: dict[str, list[float]] = {"means": [], "medians": [], "loop": []}
    for seed in range(max(2, arguments.rounds // 4)):
        indices = np.random.default_rng(seed).choice(len(sizes_N2), arguments.clusters, replace=False)
        start_K2 = NET_PX * sizes_N2[indices]
        for kind in ("means", "medians"):
            start = perf_counter()
            clusters = cluster(NET_PX * sizes_N2, start_K2, median=kind == "medians")
            seconds[kind].append(perf_counter() - start)
        seconds["loop"].append(_loop_round(NET_PX * sizes_N2, start_K2) * (clusters.rounds + 1))
    return {
        "k-means alone, means, seconds": Quartiles.of(seconds["means"]),
        "k-means alone, medians, seconds": Quartiles.of(seconds["medians"]),
        "a loop over the boxes, medians, over darkpy": Quartiles.of_ratios(seconds["loop"], seconds["medians"]),
    }


def _loop_round(sizes_N2: Floats, start_K2: Floats) -> float:
    """Return the seconds of a round that compares one box after the other with all centers."""
    centers_K2 = start_K2.copy()
    start = perf_counter()
    for _ in range(LOOP_ROUNDS):
        nearest_N: NDArray[np.intp] = np.empty(len(sizes_N2), np.intp)
        for index, box_2 in enumerate(sizes_N2):
            overlap_K = np.minimum(centers_K2, box_2).prod(1)
            nearest_N[index] = (overlap_K / (box_2.prod() + centers_K2.prod(1) - overlap_K)).argmax()
        for center in set(nearest_N.tolist()):
            centers_K2[center] = np.median(sizes_N2[nearest_N == center], axis=0)
    return (perf_counter() - start) / LOOP_ROUNDS


def _draw_sizes(count: int) -> Floats:
    """Draw sizes of boxes around twenty centers, as fractions of an image."""
    random = np.random.default_rng(0)
    centers_K2 = 0.2 * np.abs(random.normal(size=(20, 2))) + 0.03
    spread_N2 = np.exp(0.4 * random.normal(size=(count, 2)))
    sizes_N2: Floats = np.minimum(centers_K2[random.integers(20, size=count)] * spread_N2, 0.98)
    return sizes_N2


def _write_labels(folder: Path, sizes_N2: Floats) -> None:
    names = []
    for first in range(0, len(sizes_N2), BOXES_PER_IMAGE):
        lines = (f"0 0.5 0.5 {w:.6f} {h:.6f}\n" for w, h in sizes_N2[first : first + BOXES_PER_IMAGE].tolist())
        (folder / f"{first}.txt").write_text("".join(lines), encoding="utf-8")
        names.append(f"{folder}/{first}.jpg\n")
    (folder / "train.list").write_text("".join(names), encoding="utf-8")
    (folder / "bench.data").write_text(f"classes=1\ntrain={folder}/train.list\n", encoding="utf-8")
