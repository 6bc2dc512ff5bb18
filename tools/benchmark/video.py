"""From a video to boxes, and to a drawn video: `darkpy detect`, `detector demo`, and the forward pass alone."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import cycle, islice
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from .end_to_end import (
    DETECT,
    FORWARD,
    NMS_THRESH,
    THRESH,
    DetectionJob,
    image_paths,
    open_detect,
    open_forward,
    open_network,
    weights_file,
)
from .machine import describe_machine
from .runners import Outputs, Quartiles, Run, Runner, Worker, describe

DEMO, STAGES_RUNNER = "detector demo -out_filename", "stages"
VIDEO_RATE, VIDEO_FRAMES = 30, 150
MOSAIC_TILE_PX, PAN_PX = 480, 4
"""Size of an image in the video that is made, and the way from each frame to the next."""
STAGE_ROUNDS = 5
SUMMARY_PATTERN = re.compile(r"(\d+) frames in [\d.]+ s, ([\d.]+) per second")
DETECT_STAGES = ("decode", "convert to RGB", "fit to the network", "forward", "boxes")
ALL_OF_DETECT = "all of darkpy detect"
DRAW_STAGES = ("draw", "encode")
STAGES = (*DETECT_STAGES, ALL_OF_DETECT, *DRAW_STAGES)
DRAWN_FRAMES = 30
"""Frames that are drawn and encoded to measure these stages; they are all in memory."""


def bench_video(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time whole videos, one run of each runner in turn, and the CPU time of each stage by itself."""
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    machine = describe_machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        video = arguments.video or _make_video(folder / "film.mp4", arguments)
        text, frames = _describe(video)
        weights = weights_file(arguments, folder)
        single = DetectionJob(arguments.cfg, weights, (str(video),), frames, 1, arguments.threads)
        job = single._replace(batch=_batch_size(single))
        forward_batches = f"{FORWARD}, {job.batch} frames a call"
        runners: list[Runner] = []
        for name, opener, job_of in (
            (FORWARD, open_forward, single),
            (forward_batches, open_forward, job),
            (DETECT, open_detect, job),
            (STAGES_RUNNER, open_stages, job),
        ):
            runners.append(Worker(name, opener, job_of))
            stack.callback(runners[-1].close)
            if runners[-1].fault is not None:
                sys.exit(runners[-1].fault)
        *runners, stages = runners
        runners.append(DemoCommand(job, folder))
        times = _take_turns(runners, arguments.rounds)
        assert isinstance(stages, Worker)
        ms_RS = [stages.outputs()[0].tolist() for _ in range(STAGE_ROUNDS)]
    cpu_ms: dict[str, list[float]] = dict(zip(STAGES, map(list, zip(*ms_RS, strict=True)), strict=True))
    ratios = {
        f"rate of {name} over that of {base}": Quartiles.of_ratios(times[base], times[name])
        for base in (FORWARD, forward_batches)
        for name in (DETECT, DEMO)
    }
    for name, stages_of in ((DETECT, DETECT_STAGES), (DEMO, (*DETECT_STAGES, *DRAW_STAGES))):
        needed = [sum(values) for values in zip(*(cpu_ms[stage] for stage in stages_of), strict=True)]
        ratios[f"limit: share of the forward pass in the CPU time of {name}"] = Quartiles.of_ratios(
            cpu_ms["forward"], needed
        )
    ratios |= {f"CPU ms a frame: {name}": Quartiles.of(values) for name, values in cpu_ms.items()}
    times = {name: [duration / frames for duration in seconds] for name, seconds in times.items()}
    return {
        "what": f"from a video to boxes, ms a frame: {arguments.cfg}, {text}",
        "cfg": str(arguments.cfg),
        "weights": str(arguments.weights or "random"),
        "frames": frames,
        "batch": job.batch,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "machine": machine,
        "ratios": ratios,
        "runners": describe(runners, times),
    }


def _batch_size(job: DetectionJob) -> int:
    """Return the number of frames that the commands detect at a time."""
    network = open_network(job)
    from darkpy.detection_run import usual_batch_size
    from darkpy.sources.frames import open_frames

    with closing(open_frames(job.paths[0])) as frames:
        return usual_batch_size(network, frames)


def _describe(video: Path) -> tuple[str, int]:
    """Return a description of a video, and its number of frames."""
    import av

    with av.open(str(video)) as container:
        track = container.streams.video[0]
        frames = sum(1 for _ in container.decode(video=0))
        return f"{frames} frames of {track.width} x {track.height}, {track.codec_context.name}", frames


class DemoCommand:
    """Runner of `darkpy detector demo -out_filename`, whose own summary has the time of the frames."""

    def __init__(self, job: DetectionJob, folder: Path) -> None:
        import darkpy

        self.name, self.version, self.fault = DEMO, darkpy.__version__, None
        (folder / "bench.data").write_text(f"classes = 80\nnames = {folder / 'bench.names'}\n")
        (folder / "bench.names").write_text("".join(f"class {index}\n" for index in range(1000)))
        files = (folder / "bench.data", job.cfg, job.weights, *job.paths)
        target = ("-out_filename", folder / "drawn.mp4", "-thresh", THRESH, "--device", "cpu")
        self._command = [sys.executable, "-m", "darkpy", "detector", "demo", *map(str, (*files, *target))]

    def run(self, times: int) -> list[float]:
        seconds = []
        for _ in range(times):
            done = subprocess.run(self._command, capture_output=True, text=True)
            summary = SUMMARY_PATTERN.search(done.stderr)
            if done.returncode or summary is None:
                sys.exit(f"{self.name}: {done.stderr}")
            seconds.append(int(summary[1]) / float(summary[2]))
        return seconds

    def close(self) -> None:
        """Do nothing: each run has its own process."""


def open_stages(job: DetectionJob) -> tuple[str, Run]:
    """Open a runner whose output is the CPU time in ms that each stage takes for a frame, all threads together.

    Frames are decoded and fitted one by one, and go through the network in batches.
    """
    network = open_network(job)
    import av
    import torch

    import darkpy
    from darkpy.data.loading.images import Image, prepare, stack
    from darkpy.evaluation.detect import DetectOptions, postprocess
    from darkpy.evaluation.result import Result, to_result
    from darkpy.evaluation.video_writer import VideoWriter
    from darkpy.sources.frames import Frame

    options = DetectOptions(thresh=THRESH, nms=NMS_THRESH).resolved(network)
    letterbox = bool(options.letterbox)
    net = network.plan.input_shape
    names = [str(index) for index in range(max(head.class_count for head in network.heads))]
    video = Path(job.paths[0])

    def run() -> Outputs:
        seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        results: list[Result] = []

        @contextmanager
        def stage(name: str) -> Iterator[None]:
            began = process_time()
            yield
            seconds[name] += process_time() - began

        with av.open(str(video)) as container, torch.inference_mode():
            container.streams.video[0].thread_type = "NONE"  # what other threads decode is in no stage
            frames = container.decode(video=0)
            while True:
                with stage("decode"):
                    decoded = list(islice(frames, job.batch))
                if not decoded:
                    break
                with stage("convert to RGB"):
                    images = [Image(video, frame.to_ndarray(format="rgb24")) for frame in decoded]
                with stage("fit to the network"):
                    x_BCHW = stack([prepare(image, net.w, net.h, letterbox=letterbox) for image in images])
                with stage("forward"):
                    outputs_BCHW = network(x_BCHW)
                with stage("boxes"):
                    sizes = [(image.w, image.h) for image in images]
                    detections = postprocess(network, outputs_BCHW, sizes, options)
                    found = [
                        to_result(detections, index, names, THRESH, Frame(image.pixels_HWC), sizes[index])
                        for index, image in enumerate(images)
                    ]
                results += found[: DRAWN_FRAMES - len(results)]
        with stage(ALL_OF_DETECT):
            for _ in darkpy.detect(network, video, names, thresh=THRESH, nms=NMS_THRESH, batch_size=job.batch):
                pass
        with stage("draw"):
            drawn = [result.draw() for result in results]
        with tempfile.TemporaryDirectory() as folder, stage("encode"):
            writer = VideoWriter(Path(folder, "stages.mp4"), VIDEO_RATE)
            for drawing in drawn:
                writer.write(drawing)
            writer.close()
        frames_of = dict.fromkeys(STAGES, job.images) | dict.fromkeys(DRAW_STAGES, len(results))
        return [np.array([1000 * seconds[name] / frames_of[name] for name in STAGES], np.float32)]

    return darkpy.__version__, run


def _take_turns(runners: Sequence[Runner], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of a run by runner and round; the first round, with cold caches, is left out."""
    times: dict[str, list[float]] = {runner.name: [] for runner in runners}
    for round_index in range(-1, rounds):
        first = round_index % len(runners)
        for runner in (*runners[first:], *runners[:first]):
            (seconds,) = runner.run(1)
            if round_index >= 0:
                times[runner.name].append(seconds)
    return times


def _make_video(path: Path, arguments: argparse.Namespace) -> Path:
    """Write a video in H.264 that moves over a mosaic of the images."""
    import av
    from PIL import Image

    w, h = map(int, arguments.size.split("x"))
    mosaic = Image.new("RGB", (w + MOSAIC_TILE_PX, h + MOSAIC_TILE_PX))
    images = cycle(image_paths(arguments, path.parent))
    for top in range(0, mosaic.height, MOSAIC_TILE_PX):
        for left in range(0, mosaic.width, MOSAIC_TILE_PX):
            with Image.open(next(images)) as image:
                mosaic.paste(image.convert("RGB").resize((MOSAIC_TILE_PX, MOSAIC_TILE_PX)), (left, top))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=VIDEO_RATE)
        stream.width, stream.height, stream.pix_fmt = w, h, "yuv420p"
        for index in range(arguments.frames):
            place = MOSAIC_TILE_PX - abs(index * PAN_PX % (2 * MOSAIC_TILE_PX) - MOSAIC_TILE_PX)
            view = mosaic.crop((place, place // 2, place + w, place // 2 + h))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(view), format="rgb24")))
        container.mux(stream.encode(None))
    return path
