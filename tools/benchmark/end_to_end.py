"""From image files to boxes: all of `darkpy detect`, its forward pass alone, and OpenCV 4."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .forward import import_opencv
from .machine import describe_machine
from .runners import Outputs, Quartiles, Run, Worker, describe, take_turns

SYNTHETIC_IMAGE_PX = 640
THRESH, NMS_THRESH = 0.5, 0.45
FORWARD, DETECT, OPENCV = "forward alone", "darkpy detect", "OpenCV"


class DetectionJob(NamedTuple):
    """Input of every runner; a run is all images once. paths: of the images, or of one video with as many frames."""

    cfg: Path
    weights: Path
    paths: tuple[str, ...]
    images: int
    batch: int
    threads: int


def open_network(job: DetectionJob) -> Any:
    from darkpy.process import limit_thread_spinning

    limit_thread_spinning()
    import torch

    import darkpy
    from darkpy.inference.accelerate import InferenceConfig, accelerate
    from darkpy.process import keep_freed_memory

    keep_freed_memory()
    warnings.simplefilter("ignore", darkpy.DarkpyWarning)
    torch.set_num_threads(job.threads)
    return accelerate(darkpy.load(job.cfg, job.weights), InferenceConfig(batch=min(job.batch, job.images)))


def open_forward(job: DetectionJob) -> tuple[str, Run]:
    """Open a runner of the network alone, on as many images, in batches of the same size."""
    network = open_network(job)
    import torch

    x_BCHW = torch.rand(job.batch, *network.plan.input_shape).contiguous(memory_format=torch.channels_last)
    counts = [min(job.batch, job.images - start) for start in range(0, job.images, job.batch)]

    def run() -> Outputs:
        with torch.inference_mode():
            return [network(x_BCHW[:count])[0].numpy() for count in counts][-1:]

    return f"torch {torch.__version__}", run


def open_detect(job: DetectionJob) -> tuple[str, Run]:
    network = open_network(job)
    import darkpy

    names = [str(index) for index in range(max(head.class_count for head in network.heads))]
    source = job.paths if len(job.paths) > 1 else job.paths[0]
    options: dict[str, Any] = {"thresh": THRESH, "nms": NMS_THRESH, "batch_size": job.batch}

    def run() -> Outputs:
        return [
            np.array(
                [len(result) for result in darkpy.detect(network, source, names, **options)],
                np.float32,
            )
        ]

    return darkpy.__version__, run


def open_opencv(job: DetectionJob) -> tuple[str, Run]:
    """Open a runner like OpenCV's own sample: images stretched, boxes of all heads together, NMS class by class."""
    import darkpy

    cv2 = import_opencv(job.threads)
    network = cv2.dnn.readNetFromDarknet(str(job.cfg), str(job.weights))
    heads = network.getUnconnectedOutLayersNames()
    net = darkpy.plan(job.cfg).net

    def run() -> Outputs:
        counts = []
        for path in job.paths:
            image = cv2.imread(path)
            assert image is not None, f"OpenCV cannot read {path}"
            network.setInput(cv2.dnn.blobFromImage(image, 1 / 255, (net.width, net.height), swapRB=True))
            rows = np.concatenate(network.forward(heads))
            best, score = rows[:, 5:].argmax(1), rows[:, 5:].max(1)
            is_object = score > THRESH
            h, w = image.shape[:2]
            boxes = rows[is_object, :4] * (w, h, w, h)
            boxes[:, :2] -= boxes[:, 2:] / 2
            scores, classes = score[is_object].tolist(), best[is_object].tolist()
            kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores, classes, THRESH, NMS_THRESH)
            counts.append(len(kept))
        return [np.array(counts, np.float32)]

    return cv2.__version__, run


DETECTION_RUNNERS = {FORWARD: open_forward, DETECT: open_detect, OPENCV: open_opencv}


def bench_end_to_end(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time whole folders of images: decoding, resizing, the network, decoding of boxes and NMS."""
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    machine = describe_machine()
    from darkpy.evaluation.detect import BATCH_SIZE

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = image_paths(arguments, folder)
        job = DetectionJob(
            arguments.cfg, weights_file(arguments, folder), paths, len(paths), BATCH_SIZE, arguments.threads
        )
        workers = [Worker(name, opener, job) for name, opener in DETECTION_RUNNERS.items()]
        for worker in workers:
            stack.callback(worker.close)
        able = [worker for worker in workers if worker.fault is None]
        for worker in workers[:2]:
            if worker.fault is not None:
                sys.exit(worker.fault)
        object_counts = {worker.name: float(worker.outputs()[0].sum()) for worker in able if worker.name != FORWARD}
        times = take_turns(able, arguments.rounds, arguments.seconds)
    ratios = {"darkpy detect's rate over that of forward alone": Quartiles.of_ratios(times[FORWARD], times[DETECT])}
    if OPENCV in times:
        ratios["darkpy detect's rate over OpenCV's"] = Quartiles.of_ratios(times[OPENCV], times[DETECT])
    times = {name: [duration / len(job.paths) for duration in seconds] for name, seconds in times.items()}
    source = f"{len(job.paths)} images of {arguments.images or 'the sample'}"
    return {
        "what": f"from files to boxes, ms an image: {arguments.cfg}, {source}",
        "cfg": str(arguments.cfg),
        "weights": str(arguments.weights or "random"),
        "images": len(job.paths),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "machine": machine,
        "objects": object_counts,
        "ratios": ratios,
        "runners": describe(workers, times),
    }


def weights_file(arguments: argparse.Namespace, folder: Path) -> Path:
    """Return the weights of the arguments, or a file of random ones."""
    import darkpy

    if arguments.weights is not None:
        return Path(arguments.weights)
    warnings.simplefilter("ignore", darkpy.DarkpyWarning)
    darkpy.load(arguments.cfg).save_weights(folder / "random.weights")
    return folder / "random.weights"


def image_paths(arguments: argparse.Namespace, folder: Path) -> tuple[str, ...]:
    """Return the images of the arguments, or synthetic ones."""
    from darkpy.data.lists.paths import expand_paths
    from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset

    if arguments.images is not None:
        return tuple(map(str, expand_paths([arguments.images])[: arguments.count]))
    config = SyntheticConfig(images=arguments.count, valid=1, size=SYNTHETIC_IMAGE_PX, seed=0)
    return tuple(str(path) for path in write_synthetic_dataset(config, folder / "sample"))[: arguments.count]
