"""Command line of tools/bench.py, which times darkpy and its peers on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkpy.errors import DarkpyError
from darkpy.files import write_atomic
from darkpy.process import count_cores

from .anchors import bench_anchors
from .end_to_end import bench_end_to_end
from .forward import DARKPY_CONFIGS, bench_forward
from .loader import bench_loader
from .loading import bench_loading
from .memory import bench_memory
from .monitor import bench_monitor
from .runners import Quartiles
from .training import bench_training
from .video import VIDEO_FRAMES, bench_video

CFG_FOLDER = Path(__file__).resolve().parents[2] / "cfg"


def print_table(result: Mapping[str, Any]) -> None:
    machine, runners = result["machine"], result["runners"]
    print("{cpu}, {cores} cores, {system}, Python {python}, load {load}".format(**machine))
    print("{what}, {threads} threads, {rounds} rounds\n".format(**result))
    unit = result.get("unit", "ms")
    base = next(name for name, runner in runners.items() if unit in runner)
    width = max(map(len, ("median [quartiles]", *runners))) + 2
    print(f"{'median [quartiles]':{width}}{unit:>26}   {'ratio to ' + base:<26}version")
    for name, runner in runners.items():
        ms, ratio = (runner[key].text() if key in runner else "-" for key in (unit, "ratio"))
        print(f"{name:{width}}{ms:>26}   {ratio:<26}{runner.get('version') or runner['absent']}")
    for precision, floor in result.get("floor", {}).items():
        print(f"floor {precision}: {floor['ms']:.2f} ms, the work at {floor['gflops']:.0f} GFLOP/s")
    for text, ratio in result.get("ratios", {}).items():
        print(f"{text}: {ratio.text()}")


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--threads", type=int, default=count_cores(), help="default: physical cores")
    common.add_argument("--rounds", type=int, default=21)
    common.add_argument("--quick", action="store_true", help="3 short rounds, to check that it works")
    common.add_argument("--json", type=Path, metavar="FILE", help="also write the result as JSON")
    parser = argparse.ArgumentParser(prog="tools/bench.py", description="Times darkpy against its peers.")
    commands = parser.add_subparsers(required=True)
    forward = commands.add_parser(
        "forward", parents=[common], help="forward pass: darkpy, ONNX Runtime, OpenVINO, OpenCV 4, ncnn, MNN"
    )
    _add_forward(forward)
    for name, bench, text in (
        ("load", bench_loading, "loading time of a network: numpy, darkpy, ONNX Runtime, OpenCV 4"),
        ("memory", bench_memory, "peak memory of a process: load and three forward passes"),
    ):
        other = commands.add_parser(name, parents=[common], help=text)
        other.set_defaults(bench=bench, configs=(), batch=1, size=None)
        other.add_argument("--cfg", type=Path, default=CFG_FOLDER / "yolov3.cfg", help="default: yolov3")
        other.add_argument("--weights", type=Path, help="default: random weights")
    train = commands.add_parser("train", parents=[common], help="training step: darkpy, plain PyTorch, AlexeyAB")
    train.set_defaults(bench=bench_training)
    train.add_argument("--cfg", type=Path, default=CFG_FOLDER / "yolov3-tiny.cfg", help="default: yolov3-tiny")
    train.add_argument("--batch", type=int, default=8)
    train.add_argument("--alexeyab", type=Path, metavar="PATH", help="AlexeyAB's `darknet`, built for the CPU")
    monitor = commands.add_parser(
        "monitor", aliases=["watch"], parents=[common], help="training step with and without the live monitor"
    )
    monitor.set_defaults(bench=bench_monitor)
    monitor.add_argument("--cfg", type=Path, default=CFG_FOLDER / "yolov3-tiny.cfg", help="default: yolov3-tiny")
    monitor.add_argument("--batch", type=int, default=8)
    loader = commands.add_parser(
        "loader", parents=[common], help="training data loader, and the time that training waits for it"
    )
    loader.set_defaults(bench=bench_loader)
    loader.add_argument("--cfg", type=Path, default=CFG_FOLDER / "yolov3-tiny.cfg", help="default: yolov3-tiny")
    loader.add_argument(
        "--data", type=Path, metavar="FILE", help="a .data file; default: synthetic images of 640 x 640"
    )
    loader.add_argument("--batch", type=int, default=8)
    loader.add_argument("--workers", type=int, default=1, help="loader processes; default: 1")
    end = commands.add_parser(
        "end", parents=[common], help="from image files to boxes: darkpy, its forward pass alone, OpenCV 4"
    )
    end.set_defaults(bench=bench_end_to_end, batch=1)
    end.add_argument("--cfg", type=Path, default=CFG_FOLDER / "yolov3-tiny.cfg", help="default: yolov3-tiny")
    end.add_argument("--weights", type=Path, help="default: random weights")
    end.add_argument("--images", type=Path, metavar="PATH", help="a folder or list; default: synthetic images")
    end.add_argument("--count", type=int, default=200, metavar="N", help="maximum number of images; default: 200")
    video = commands.add_parser(
        "video", parents=[common], help="from a video to boxes, and to a drawn video: darkpy, its forward pass alone"
    )
    video.set_defaults(bench=bench_video, batch=1, rounds=9, count=12)
    video.add_argument("--cfg", type=Path, default=CFG_FOLDER / "yolov3-tiny.cfg", help="default: yolov3-tiny")
    video.add_argument("--weights", type=Path, help="default: random weights")
    video.add_argument("--video", type=Path, metavar="FILE", help="default: made of the images, which move by")
    video.add_argument("--images", type=Path, metavar="PATH", help="a folder or list; default: synthetic images")
    video.add_argument("--size", default="640x360", metavar="WxH", help="of the video that is made; default: 640x360")
    video.add_argument(
        "--frames", type=int, default=VIDEO_FRAMES, metavar="N", help="of the video that is made; default: %(default)s"
    )
    _add_anchors(
        commands.add_parser("anchors", parents=[common], help="calc_anchors: darkpy, AlexeyAB, a loop over the boxes")
    )
    arguments = parser.parse_args(words)
    if min(arguments.batch, arguments.threads) < 1 or arguments.rounds < 2:
        parser.error("batch and threads are at least 1, rounds at least 2")
    arguments.rounds, arguments.seconds = (3, 0.02) if arguments.quick else (arguments.rounds, 0.3)
    return arguments


def _add_forward(forward: argparse.ArgumentParser) -> None:
    forward.set_defaults(bench=bench_forward)
    forward.add_argument("--cfg", type=Path, default=CFG_FOLDER / "yolov3-tiny.cfg", help="default: yolov3-tiny")
    forward.add_argument("--weights", type=Path, help="default: random weights")
    forward.add_argument("--size", type=int, metavar="N", help="width and height of the input; default: the cfg's")
    forward.add_argument("--batch", type=int, default=1)
    forward.add_argument(
        "--busy",
        type=int,
        default=0,
        metavar="N",
        help="while N other processes compute (not under chrt: they inherit it)",
    )
    forward.add_argument(
        "--configs",
        "--ways",
        nargs="*",
        choices=tuple(DARKPY_CONFIGS),
        default=(),
        help="more configurations of darkpy",
    )
    forward.add_argument("--alexeyab", type=Path, metavar="PATH", help="AlexeyAB's `darknet`, built for the CPU")


def _add_anchors(anchors: argparse.ArgumentParser) -> None:
    anchors.set_defaults(bench=bench_anchors, batch=1)
    anchors.add_argument("--boxes", type=int, default=100_000, metavar="N", help="default: 100000")
    anchors.add_argument("--clusters", type=int, default=9, metavar="N", help="default: 9")
    anchors.add_argument("--alexeyab", type=Path, metavar="PATH", help="AlexeyAB's `darknet`, built for the CPU")


def main(words: Sequence[str] | None = None) -> None:
    arguments = parse(words)
    try:
        result = arguments.bench(arguments)
    except DarkpyError as error:
        sys.exit(f"error: {error}")
    print_table(result)
    if arguments.json:
        write_atomic(arguments.json, [json.dumps(_to_json(result), indent=2).encode() + b"\n"])


def _to_json(value: Any) -> Any:
    if isinstance(value, Quartiles):
        return value._asdict()
    return {key: _to_json(item) for key, item in value.items()} if isinstance(value, dict) else value
