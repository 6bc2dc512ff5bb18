"""Command line of tools/cases.py, which reproduces trainings that went wrong in articles."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from tools.articles import alexnet, anchors, pooling, runs
from tools.articles.images import GrayImages, load_images
from tools.fashion_mnist import IDX_FOLDER


def print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def print_heading(*cells: str) -> None:
    print_row(*cells)
    print_row(*("---" for _ in cells))


def join_values(values: Iterable[float], template: str) -> str:
    """Format the values of all seeds."""
    return ", ".join(template.format(value) for value in values)


def run_alexnet(arguments: argparse.Namespace) -> None:
    images = _images(arguments)
    print_heading("", "outcome", "loss", "largest gradient", "accuracy")
    for name, outcomes in alexnet.run(images, updates=arguments.updates, seeds=arguments.seeds):
        print_row(
            f"`{name}`",
            ", ".join(outcome.verdict for outcome in outcomes),
            join_values((outcome.loss for outcome in outcomes), "{:.2f}"),
            join_values((outcome.norm for outcome in outcomes), "{:.3g}"),
            join_values((outcome.accuracy for outcome in outcomes), "{:.0%}"),
        )
    for name in (alexnet.SUMMED_LOSS, alexnet.MSRA_INIT):
        for seed in range(arguments.seeds):
            print(f"\nthe monitor on {name}, seed {seed}:")
            cfg = alexnet.ALEXNET_CASES[name].cfg
            for finding in runs.find_symptoms(cfg, images, updates=arguments.updates, seed=seed):
                print(f"  {finding.name}: {finding.text}")


def run_pooling(arguments: argparse.Namespace) -> None:
    images = _images(arguments)
    print_heading(
        "", "zeros in the feature", "dead units", "largest value", "largest behind the norm", "loss", "accuracy"
    )
    for name, features in pooling.run(images, updates=arguments.updates, seeds=arguments.seeds):
        print_row(
            f"`{name}`",
            join_values((stats.zeros for stats in features), "{:.0%}"),
            join_values((stats.dead for stats in features), "{:.0%}"),
            join_values((stats.largest for stats in features), "{:.1f}"),
            join_values((stats.normed for stats in features), "{:.1f}"),
            join_values((stats.outcome.loss for stats in features), "{:.2f}"),
            join_values((stats.outcome.accuracy for stats in features), "{:.0%}"),
        )


def run_anchors(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "shapes"
        anchors.write_images(folder)
        for factor in anchors.ANCHOR_FACTORS:
            findings = anchors.find_mismatch(folder, factor, updates=arguments.updates)
            print(f"anchors times {factor}:")
            print(f"  doctor:  {(findings.doctor or 'nothing').replace(f'{folder}/', '')}")
            print(f"  monitor: {(findings.monitor or 'nothing').replace(f'{folder}/', '')}")


def _images(arguments: argparse.Namespace) -> GrayImages:
    images = load_images(arguments.source)
    print(f"{len(images.y_B)} {images.name}, {arguments.updates} updates", file=sys.stderr)
    return images


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="tools/cases.py", description="Reproduce trainings that went wrong in articles."
    )
    commands = parser.add_subparsers(required=True)
    for name, run, updates, text in (
        ("alexnet", run_alexnet, 200, "AlexNet that overflows, and the effect of each remedy"),
        (
            "pooling",
            run_pooling,
            300,
            "a feature's zeros and range behind a maximum, a mean, and a norm",
        ),
        ("anchors", run_anchors, 10, "anchors three times too large, as found by the doctor and the monitor"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        command.add_argument("--updates", type=int, default=updates, help=f"default: {updates}")
        command.add_argument("--threads", type=int, default=torch.get_num_threads())
        if run is not run_anchors:
            command.add_argument("--seeds", type=int, default=3, help="runs of each case, default: 3")
            command.add_argument(
                "--source", type=Path, default=IDX_FOLDER, help=f"Fashion-MNIST's idx files, default: {IDX_FOLDER}"
            )
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    arguments.run(arguments)
