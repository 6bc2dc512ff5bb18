"""The cases of articles on trainings that went wrong, with the numbers of this machine; tools/cases.py runs it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from tools.articles import alexnet, anchors, pooling, runs
from tools.articles.images import Images, find
from tools.fashion_mnist import SOURCE


def print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def print_heading(*cells: str) -> None:
    print_row(*cells)
    print_row(*("---" for _ in cells))


def spread(numbers: Iterable[float], form: str) -> str:
    """The numbers of all seeds."""
    return ", ".join(form.format(number) for number in numbers)


def run_alexnet(arguments: argparse.Namespace) -> None:
    images = _images(arguments)
    print_heading("", "what became of it", "loss", "largest gradient", "accuracy")
    for name, outcomes in alexnet.run(images, updates=arguments.updates, seeds=arguments.seeds):
        print_row(
            f"`{name}`",
            ", ".join(outcome.verdict for outcome in outcomes),
            spread((outcome.loss for outcome in outcomes), "{:.2f}"),
            spread((outcome.norm for outcome in outcomes), "{:.3g}"),
            spread((outcome.accuracy for outcome in outcomes), "{:.0%}"),
        )
    for name in (alexnet.SUMMED, alexnet.STEEP):
        for seed in range(arguments.seeds):
            print(f"\nthe watch on {name}, seed {seed}:")
            cfg = alexnet.CASES[name].cfg
            for finding in runs.watched(cfg, images, updates=arguments.updates, seed=seed):
                print(f"  {finding.name}: {finding.text}")


def run_pooling(arguments: argparse.Namespace) -> None:
    images = _images(arguments)
    print_heading(
        "", "zeros in the feature", "dead units", "its largest", "largest behind the norm", "loss", "accuracy"
    )
    for name, features in pooling.run(images, updates=arguments.updates, seeds=arguments.seeds):
        print_row(
            f"`{name}`",
            spread((one.zeros for one in features), "{:.0%}"),
            spread((one.dead for one in features), "{:.0%}"),
            spread((one.largest for one in features), "{:.1f}"),
            spread((one.given for one in features), "{:.1f}"),
            spread((one.outcome.loss for one in features), "{:.2f}"),
            spread((one.outcome.accuracy for one in features), "{:.0%}"),
        )


def run_anchors(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "shapes"
        anchors.draw(folder)
        for factor in anchors.FACTORS:
            told = anchors.look(folder, factor, updates=arguments.updates)
            print(f"anchors times {factor}:")
            print(f"  the doctor: {(told.doctor or 'nothing').replace(f'{folder}/', '')}")
            print(f"  the watch:  {(told.watch or 'nothing').replace(f'{folder}/', '')}")


def _images(arguments: argparse.Namespace) -> Images:
    images = find(arguments.source)
    print(f"{images.name}, {len(images.y_B)} of them, {arguments.updates} updates", file=sys.stderr)
    return images


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tools/cases.py", description="Cases of trainings that went wrong.")
    commands = parser.add_subparsers(required=True)
    for name, run, updates, text in (
        ("alexnet", run_alexnet, 200, "AlexNet that overflows, and what each remedy does"),
        (
            "pooling",
            run_pooling,
            300,
            "a feature's zeros and range behind a maximum and a mean, and what a norm changes",
        ),
        ("anchors", run_anchors, 10, "anchors three times too large: what the doctor and the watch say"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        command.add_argument("--updates", type=int, default=updates, help=f"default: {updates}")
        command.add_argument("--threads", type=int, default=torch.get_num_threads())
        if run is not run_anchors:
            command.add_argument("--seeds", type=int, default=3, help="runs of each case, default: 3")
            command.add_argument(
                "--source", type=Path, default=SOURCE, help=f"Fashion-MNIST's idx files, else drawn ones: {SOURCE}"
            )
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    arguments.run(arguments)
