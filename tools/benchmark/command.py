"""Times darkpy against its peers on this machine; tools/bench.py runs it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkpy.cores import count_cores
from darkpy.errors import DarkpyError
from darkpy.files import write_whole

from .forward import bench_forward
from .turns import Quartiles

ROOT = Path(__file__).resolve().parents[2]


def print_table(result: Mapping[str, Any]) -> None:
    machine, runners = result["machine"], result["runners"]
    print("{cpu}, {cores} cores, {system}, Python {python}, load {load}".format(**machine))
    print("{cfg}, weights {weights}, batch {batch}, {threads} threads, {rounds} rounds\n".format(**result))
    base = next(name for name, runner in runners.items() if "ms" in runner)
    print(f"{'median [quartiles]':20}{'ms':>26}{'ratio to ' + base:>26}   version")
    for name, runner in runners.items():
        ms, ratio = (runner[key].text() if key in runner else "-" for key in ("ms", "ratio"))
        print(f"{name:20}{ms:>26}{ratio:>26}   {runner.get('version') or runner['absent']}")


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--threads", type=int, default=count_cores(), help="default: the physical cores")
    common.add_argument("--rounds", type=int, default=21)
    common.add_argument("--quick", action="store_true", help="3 short rounds: shows that it works, not how fast")
    common.add_argument("--json", type=Path, metavar="FILE", help="write the result for programs as well")
    parser = argparse.ArgumentParser(prog="tools/bench.py", description="Times darkpy against its peers.")
    commands = parser.add_subparsers(required=True)
    forward = commands.add_parser("forward", parents=[common], help="a forward pass: ONNX Runtime, darkpy, OpenCV 4")
    forward.set_defaults(bench=bench_forward)
    forward.add_argument("--cfg", type=Path, default=ROOT / "cfg" / "yolov3-tiny.cfg", help="default: yolov3-tiny")
    forward.add_argument("--weights", type=Path, help="default: random numbers")
    forward.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args(words)
    if min(arguments.batch, arguments.threads) < 1 or arguments.rounds < 2:
        parser.error("batch and threads are at least 1, rounds at least 2")
    arguments.rounds, arguments.seconds = (3, 0.02) if arguments.quick else (arguments.rounds, 0.3)
    return arguments


def main(words: Sequence[str] | None = None) -> None:
    arguments = parse(words)
    try:
        result = arguments.bench(arguments)
    except DarkpyError as error:
        sys.exit(f"error: {error}")
    print_table(result)
    if arguments.json:
        plain = {**result, "runners": {name: _plain(runner) for name, runner in result["runners"].items()}}
        write_whole(arguments.json, [json.dumps(plain, indent=2).encode() + b"\n"])


def _plain(runner: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value._asdict() if isinstance(value, Quartiles) else value for key, value in runner.items()}
