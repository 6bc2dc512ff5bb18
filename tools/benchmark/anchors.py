"""Anchors for a data set: the whole command from label files to anchors.txt, and k-means alone."""

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
from .turns import Quartiles

ON_IMAGE, SIDE, FEW = 10, 416, 2000
"""Boxes on an image, the network's input in pixels, and the boxes of a quick run."""
LOOP_ROUNDS = 2
"""How many rounds of the plain loop are timed; it would need minutes for all."""


def bench_anchors(arguments: argparse.Namespace) -> dict[str, Any]:
    """Let `calc_anchors` of darkpy and of AlexeyAB's program find anchors for the same label files, in turns."""
    boxes = FEW if arguments.quick else arguments.boxes
    sizes_N2 = _draw_sizes(boxes)
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    programs = {"darkpy": [sys.executable, "-m", "darkpy"]}
    if arguments.alexeyab is not None:
        programs["AlexeyAB"] = [str(arguments.alexeyab.absolute())]
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        _write_labels(Path(folder), sizes_N2)
        for number in range(arguments.rounds + 1):
            seed = ["--seed", str(number)]
            for name, program in programs.items():
                took = _run(
                    [*program, *_words(arguments.clusters), *(seed if name == "darkpy" else [])], folder, environment
                )
                if number:  # the first round finds the files cold
                    seconds[name].append(took)
    base = seconds["darkpy"]
    return {
        "what": f"calc_anchors, {arguments.clusters} clusters, {boxes} boxes in {boxes // ON_IMAGE} files",
        "boxes": boxes,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "machine": describe_machine(),
        "ratios": dict(_alone(sizes_N2, arguments)),
        "runners": {
            name: {
                "version": programs[name][0],
                "ms": Quartiles.of([1000 * one for one in taken]),
                "ratio": Quartiles.of([one / other for one, other in zip(taken, base, strict=True)]),
            }
            for name, taken in seconds.items()
        },
    }


def _words(clusters: int) -> list[str]:
    side = str(SIDE)
    words = ["detector", "calc_anchors", "bench.data", "-num_of_clusters", str(clusters), "-width", side]
    return [*words, "-height", side]


def _run(command: Sequence[str], folder: str, environment: dict[str, str]) -> float:
    began = perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:].decode(errors='replace')}")
    return perf_counter() - began


def _alone(sizes_N2: Floats, arguments: argparse.Namespace) -> list[tuple[str, Quartiles]]:
    """k-means without files: rounds a second, and how much longer a loop over the boxes takes for as many rounds."""
    taken: dict[str, list[float]] = {"means": [], "medians": [], "loop": []}
    for number in range(max(2, arguments.rounds // 4)):
        places = np.random.default_rng(number).choice(len(sizes_N2), arguments.clusters, replace=False)
        start_K2 = SIDE * sizes_N2[places]
        for kind in ("means", "medians"):
            began = perf_counter()
            made = cluster(SIDE * sizes_N2, start_K2, median=kind == "medians")
            taken[kind].append(perf_counter() - began)
        taken["loop"].append(_loop_round(SIDE * sizes_N2, start_K2) * (made.rounds + 1))
    loop = [whole / ours for whole, ours in zip(taken["loop"], taken["medians"], strict=True)]
    return [
        ("k-means alone, means, seconds", Quartiles.of(taken["means"])),
        ("k-means alone, medians, seconds", Quartiles.of(taken["medians"])),
        ("a loop over the boxes, medians, over darkpy", Quartiles.of(loop)),
    ]


def _loop_round(sizes_N2: Floats, start_K2: Floats) -> float:
    """The seconds of a round that compares one box after the other with all centers."""
    centers_K2 = start_K2.copy()
    began = perf_counter()
    for _ in range(LOOP_ROUNDS):
        nearest_N: NDArray[np.intp] = np.empty(len(sizes_N2), np.intp)
        for place, box_2 in enumerate(sizes_N2):
            overlap_K = np.minimum(centers_K2, box_2).prod(1)
            nearest_N[place] = (overlap_K / (box_2.prod() + centers_K2.prod(1) - overlap_K)).argmax()
        for number in set(nearest_N.tolist()):
            centers_K2[number] = np.median(sizes_N2[nearest_N == number], axis=0)
    return (perf_counter() - began) / LOOP_ROUNDS


def _draw_sizes(count: int) -> Floats:
    """Boxes of twenty kinds, as fractions of an image."""
    chance = np.random.default_rng(0)
    kinds_K2 = 0.2 * np.abs(chance.normal(size=(20, 2))) + 0.03
    spread_N2 = np.exp(0.4 * chance.normal(size=(count, 2)))
    sizes_N2: Floats = np.minimum(kinds_K2[chance.integers(20, size=count)] * spread_N2, 0.98)
    return sizes_N2


def _write_labels(folder: Path, sizes_N2: Floats) -> None:
    names = []
    for first in range(0, len(sizes_N2), ON_IMAGE):
        lines = (f"0 0.5 0.5 {w:.6f} {h:.6f}\n" for w, h in sizes_N2[first : first + ON_IMAGE].tolist())
        (folder / f"{first}.txt").write_text("".join(lines), encoding="utf-8")
        names.append(f"{folder}/{first}.jpg\n")
    (folder / "train.list").write_text("".join(names), encoding="utf-8")
    (folder / "bench.data").write_text(f"classes=1\ntrain={folder}/train.list\n", encoding="utf-8")
