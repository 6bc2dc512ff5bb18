"""Choice of the fastest engine that is installed, by measuring each on one batch of random images.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter, sleep

import torch

from darkpy.errors import DarkpyError
from darkpy.network import Runner

ENGINE_SECONDS = 0.15
"""Time of each engine's runs, after a warm-up; with a handful of engines about a second."""
FEWEST_ENGINE_RUNS = 2
ENGINE_REST_SECONDS = 0.1
"""Pause before each engine, in which the threads of the last one stop spinning."""
ENGINE_TOLERANCE = 1e-4
"""Largest difference of an output, as a fraction of the largest value that the layers compute."""


@dataclass(frozen=True, slots=True)
class ChosenEngine:
    """The fastest engine, and a sentence with the times of all."""

    name: str
    runner: Runner
    summary: str


def choose_engine(
    openers: Mapping[str, Callable[[], Runner]], x_BCHW: torch.Tensor, expected_BCHW: Sequence[torch.Tensor]
) -> ChosenEngine:
    """Open and time engine after engine, and keep the fastest within the tolerance.

    Raises: DarkpyError if none can run the network.
    """
    best: tuple[float, str, Runner] | None = None
    texts: list[str] = []
    for name, open_engine in openers.items():
        try:
            runner = open_engine()
            error = largest_error(runner(x_BCHW), expected_BCHW)
        except (DarkpyError, RuntimeError, ValueError) as refusal:  # engines raise exceptions of their own
            texts.append(f"{name} cannot run it ({str(refusal).splitlines()[0]})")
            continue
        if not error <= ENGINE_TOLERANCE:
            texts.append(f"{name} is off by {error:.1g}")
            continue
        sleep(ENGINE_REST_SECONDS)
        seconds = _fastest_run(runner, x_BCHW)
        texts.append(f"{name} {1000 * seconds / len(x_BCHW):.3g} ms an image")
        if best is None or seconds < best[0]:
            best = seconds, name, runner
    if best is None:
        raise DarkpyError(f"no engine computes what the layers do: {', '.join(texts)}", hint="leave --engine out")
    _, name, runner = best
    return ChosenEngine(name, runner, f"engine {name}: {', '.join(texts)}")


def largest_error(outputs: Sequence[torch.Tensor], expected_outputs: Sequence[torch.Tensor]) -> float:
    """Return the largest error of any output, inf if one is NaN."""
    pairs = zip(outputs, expected_outputs, strict=True)
    tiny = torch.finfo().tiny
    errors = [(output - expected).abs().max() / expected.abs().max().clamp(min=tiny) for output, expected in pairs]
    return float(torch.stack(errors).nan_to_num(nan=math.inf).max())


def _fastest_run(runner: Runner, x_BCHW: torch.Tensor) -> float:
    """Return the seconds of the fastest of the runs within ENGINE_SECONDS."""
    fastest, runs, deadline = math.inf, 0, perf_counter() + ENGINE_SECONDS
    while runs < FEWEST_ENGINE_RUNS or perf_counter() < deadline:
        started = perf_counter()
        runner(x_BCHW)
        fastest, runs = min(fastest, perf_counter() - started), runs + 1
    return fastest
