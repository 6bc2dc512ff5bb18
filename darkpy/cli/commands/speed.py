"""`darkpy speed`: the time of a network on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import darkpy
from darkpy.cli import console
from darkpy.cli.options import CFG_PATH, WEIGHTS_PATH, Command, LoadOptions, json_option, network_options
from darkpy.process import count_cores, cpu_name, keep_freed_memory, use_physical_cores

if TYPE_CHECKING:
    from collections.abc import Iterable

    from darkpy.inference.speed_measurement import LayerKernel, SpeedRow

SPEED_HELP = """Measure the time of a network on this machine with each available engine and precision.

\b
  darkpy speed yolov3.cfg
  darkpy speed yolov3.cfg yolov3.weights --batch-size 8 --json
  darkpy speed yolov3.cfg --kernels

Each of these ways runs on random images for --seconds, after loading and preparation; `darkpy detector map` shows the
accuracy lost. Without WEIGHTS, weights are random, which takes the same time; a number in place of WEIGHTS is the
number of runs, as in darknet. The percentage is that of this processor's peak, measured with direct convolutions;
Winograd's algorithm needs fewer operations and may exceed 100.
--json prints cpu, cores, threads, batch, bflops and ways: way, ms (quartiles of milliseconds an image),
images_per_second, percent_of_peak (null for int8), or absent with the reason. With --kernels it prints layers: index,
task, kernel, and ms by kernel, null for one that does not fit, or where there is nothing to choose; and ms of the
network layer by layer and as one program, null where only the first is possible. The times are stored; see --tune of
darkpy detect.
"""
MAX_SPEED_SECONDS = 3600.0
MAX_DIGITS = 6
"""Digits of the number of runs."""


@click.command(cls=Command, help=SPEED_HELP)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH, required=False)
@click.option("--batch-size", type=click.IntRange(1, 1024), default=1, metavar="N", show_default=True, help="Images.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, MAX_SPEED_SECONDS),
    default=3.0,
    show_default=True,
    help="Time of each way's runs, at least five.",
)
@click.option("--compile", "with_compiled", is_flag=True, help="Include compiled networks (needs g++ and 5-30 s each).")
@click.option("--kernels", is_flag=True, help="Show the time of each convolution's kernels instead.")
@click.option("--again", is_flag=True, help="Measure kernels again, ignoring stored times.")
@json_option
@network_options
def speed(
    cfg: Path,
    weights: Path | None,
    batch_size: int,
    seconds: float,
    with_compiled: bool,
    kernels: bool,
    again: bool,
    as_json: bool,
    load: LoadOptions,
) -> None:
    from dataclasses import replace

    from darkpy.inference.accelerate import InferenceConfig
    from darkpy.inference.speed_measurement import (
        FEWEST_RUNS,
        choose_kernels,
        level_weights,
        measure_speed,
        speed_ways,
    )
    from darkpy.network import Network
    from darkpy.ops.device import find_device

    fewest_runs = FEWEST_RUNS
    if weights is not None and str(weights).isdecimal() and not weights.exists():  # darknet's `speed CFG RUNS`
        fewest_runs, seconds, weights = max(FEWEST_RUNS, int(str(weights)[:MAX_DIGITS])), 0, None
    use_physical_cores()
    keep_freed_memory()

    def open_network() -> Network:
        network = darkpy.load(
            cfg,
            weights,
            dialect=load.dialect,
            device=find_device(load.device),
            strict=load.strict,
            allow_partial=load.allow_partial,
            mapped=weights is not None,
            time_steps=1,
        )
        if weights is None:
            level_weights(network)
        return network

    tune = "again" if again else "on"
    if kernels:
        layers, times = choose_kernels(open_network(), InferenceConfig(tune=tune, batch=batch_size))
        if as_json:
            console.echo(json.dumps({"layers": list(map(_kernel_record, layers)), "ms": times and dict(times)}))
        else:
            console.echo(_kernel_table(layers))
            for way, ms in (times or {}).items():
                if ms is not None:
                    console.echo(f"the network {way}: {ms:.3g} ms")
        return
    ways = speed_ways(compiled=with_compiled)
    ways = {
        way: replace(config, batch=batch_size, tune=tune if config.tune is None else config.tune)
        for way, config in ways.items()
    }
    measured = measure_speed(open_network, ways, batch=batch_size, seconds=seconds, fewest_runs=fewest_runs)
    rows = list(console.track(measured, len(ways)))
    machine = _machine(cfg, batch_size)
    if as_json:
        console.echo(json.dumps({**machine, "ways": list(map(_speed_record, rows))}))
    else:
        console.echo(
            "{cpu}, {cores} cores, {threads} threads; {bflops:.3f} BF an image, batch {batch}".format(**machine)
        )
        console.echo(_speed_table(rows))


def _machine(cfg: Path, batch_size: int) -> dict[str, Any]:
    import torch

    bflops = sum(node.bflops for node in darkpy.plan(cfg).nodes)
    threads = torch.get_num_threads()
    return {"cpu": cpu_name(), "cores": count_cores(), "threads": threads, "batch": batch_size, "bflops": bflops}


def _speed_record(row: SpeedRow) -> dict[str, Any]:
    if row.absent is not None:
        return {"way": row.way, "absent": row.absent}
    rate, percent = row.images_per_second, row.percent_of_peak
    return {"way": row.way, "ms": row.ms, "images_per_second": rate, "percent_of_peak": percent}


def _speed_table(rows: Iterable[SpeedRow]) -> str:
    lines = [f"{'way':24}{'ms an image':>12}  {'quartiles':20}{'images/s':>9}{'% of peak':>11}"]
    for row in rows:
        if row.ms is None:
            lines.append(f"{row.way:24}  {row.absent}")
            continue
        low, middle, high = row.ms
        percent = "-" if row.percent_of_peak is None else f"{row.percent_of_peak:.0f}"
        quartiles = f"[{low:.2f}-{high:.2f}]"
        lines.append(f"{row.way:24}{middle:12.2f}  {quartiles:20}{row.images_per_second:9.1f}{percent:>11}")
    return "\n".join(lines)


def _kernel_record(layer: LayerKernel) -> dict[str, Any]:
    ms = None if layer.times is None else dict(layer.times)
    return {"index": layer.index, "task": layer.task, "kernel": layer.kernel, "ms": ms}


def _kernel_table(layers: Iterable[LayerKernel]) -> str:
    lines = [f"{'layer':6}{'convolution: batch x input -> filters, size/stride':60}{'kernel':15}ms"]
    for layer in layers:
        times = [(ms, name) for name, ms in (layer.times or {}).items() if ms is not None]
        text = ", ".join(f"{name} {ms:.3g}" for ms, name in sorted(times))
        lines.append(f"{layer.index:<6}{layer.task:60}{layer.kernel:15}{text}")
    return "\n".join(lines)
