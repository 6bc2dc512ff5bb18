"""The one pipeline from frames to detections.

load and fit (threads) -> forward -> decode heads -> undo letterbox -> non-maximum suppression; with tiles, these steps
for each tile, then their detections are joined. `darkpy.detect` and the commands take results, `run_metrics` the
tensors, and `export.verify` the steps behind the forward pass. Threads load the images ahead of the network: Pillow and
torch release the GIL while they work.

Legend: B images, C H W channels, rows, columns, M candidates, K classes.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Barrier, Lock
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from darkpy.data.loading.images import Image, load_image, new_batch, prepare, stack
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, DarkpyWarning, ImageError
from darkpy.evaluation.nms import suppress, suppress_by_objectness
from darkpy.evaluation.result import Result, to_result
from darkpy.evaluation.tiles import TileGrid, join_tiles
from darkpy.network import Network
from darkpy.ops.boxes import Detections, undo_letterbox
from darkpy.process import count_cpus
from darkpy.sources.frames import Frame

MAX_BOX_FRAC = 1e4  # centers and sides beyond it, in images, come only from ruined weights
BATCH_SIZE = 8
"""Default images at a time: 16 and 32 are no faster."""
MAX_THREADS = 8
_THREAD_COUNT_LOCK = Lock()
"""Held while torch's global number of threads is 1, so that no other caller's thread copies that."""

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def load_in_batches(
    load: Callable[[Item], Loaded],
    items: Iterable[Item],
    batch_size: int,
    device: torch.device,
    *,
    prefetch: bool = True,
    ends_batch: Callable[[Item], bool] = lambda item: False,
) -> Iterator[list[Loaded]]:
    """Load items in batches, in their order.

    If the network leaves cores idle, threads make the next batch while this one is used. If it computes with all cores,
    it would wait for the one that a loading thread takes from it; so each batch is then made by all cores when it is
    asked for. One thread makes an item: several would take longer to wait for each other than for so little work. One
    at a time without prefetch, they are made by the caller.

    prefetch: ask for the items of the next batch early; not where a user types them.
    ends_batch: True for an item behind which no other follows in its batch.
    Raises: the error of `items`, behind the items that came before it; that of an item.
    """
    with _THREAD_COUNT_LOCK:
        torch.get_num_threads()  # a thread copies the global number at its first use
    if batch_size == 1 and not prefetch:
        yield from ([load(item)] for item in items)
        return
    idle = _idle_cores(device)
    threads = min(MAX_THREADS, idle) if idle else min(MAX_THREADS, count_cpus(), batch_size)
    remaining, failures = iter(items), list[Exception]()
    with _pool(threads) as pool:

        def submit() -> list[Future[Loaded]]:
            batch: list[Future[Loaded]] = []
            try:
                for item in islice(() if failures else remaining, batch_size):
                    batch.append(pool.submit(load, item))
                    if ends_batch(item):
                        break
            except Exception as error:  # of the items; raised behind those that came before it
                failures.append(error)
            return batch

        current = submit()
        while current:
            following = submit() if prefetch and idle else None
            yield [future.result() for future in current]
            current = submit() if following is None else following
        if failures:
            raise failures[0]


def _idle_cores(device: torch.device) -> int:
    """Cores that the network does not compute with."""
    return max(0, count_cpus() - (torch.get_num_threads() if device.type == "cpu" else 1))


@contextmanager
def _pool(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in each of which torch computes single-threaded; tasks not yet begun are dropped at the end."""
    ready = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # the global number is copied now, not over the next line's later
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(count, initializer=begin)
    try:
        with _THREAD_COUNT_LOCK:
            threads = torch.get_num_threads()
            for _ in range(count):
                pool.submit(int)  # a pool starts its threads with its tasks
            ready.wait()
            torch.set_num_threads(threads)  # some of torch's libraries have one number for all threads
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectOptions:
    """Selection of boxes; the defaults are those of `detector test`.

    thresh: objectness and class score must be above it; None takes the dialect's (.5 pjreddie, .25 AlexeyAB).
    tree_thresh: darknet's `-hier`, for class trees. class_map: as in `HeadSpec.decode`.
    nms: IoU above which the lower-scored box of a class is suppressed; 0 keeps all.
    by_objectness: suppress across classes, by objectness.
    letterbox: keep the image's proportions; None takes the dialect's (pjreddie yes, AlexeyAB by [net] letter_box).
    darknet_order: return boxes in the order in which darknet's suppression leaves them, not in that of the heads.
    """

    thresh: float | None = None
    tree_thresh: float = 0.5
    class_map: tuple[int, ...] = ()
    nms: float = 0.45
    by_objectness: bool = False
    letterbox: bool | None = None
    darknet_order: bool = False

    def resolved(self, network: Network) -> DetectOptions:
        """The same options with the dialect's values in place of None."""
        is_pjreddie = network.plan.dialect is Dialect.PJREDDIE
        thresh = (0.5 if is_pjreddie else 0.25) if self.thresh is None else self.thresh
        letterbox = (is_pjreddie or network.plan.net.letter_box) if self.letterbox is None else self.letterbox
        return replace(self, thresh=thresh, letterbox=letterbox)


@dataclass(frozen=True, slots=True)
class ImageStatus:
    """An image of a list: its (w, h) in pixels, or the reason why it could not be read."""

    index: int
    path: str
    size: tuple[int, int] = (0, 0)
    error: ImageError | None = None


class InputImage(NamedTuple):
    """An image on its way to the network. x_CHW: the network's input, keyed by letterbox; empty if unreadable."""

    status: ImageStatus
    frame: Frame
    x_CHW: dict[bool, Tensor]


class DetectedBatch(NamedTuple):
    """A batch and its detections for each of the options, image_M counting all paths; none if no image was readable."""

    images: list[InputImage]
    detections: list[Detections]


class _NonFiniteCount:
    """Number of boxes that `drop_non_finite` dropped; of several options the one with the most counts."""

    def __init__(self, options: int) -> None:
        self._dropped = [0] * options

    def add(self, option: int, dropped: int) -> None:
        self._dropped[option] += dropped

    def warn(self, file: str) -> None:
        """Warn once of all dropped boxes, if there are any."""
        if count := max(self._dropped, default=0):
            boxes = "box is" if count == 1 else "boxes are"
            reason = f"NaN or infinite values, or farther than {MAX_BOX_FRAC:g} images"
            message = f"{count} {boxes} left out: {reason}; are the weights of {file} ruined?"
            warnings.warn(message, DarkpyWarning, stacklevel=3)


def detect_frames(
    network: Network,
    frames: Iterable[Frame],
    names: Sequence[str],
    options: DetectOptions | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    prefetch: bool = True,
    keep_state: bool = False,
    kept_pixels: float = math.inf,
    tiles: TileGrid | None = None,
) -> Generator[list[Result], None, None]:
    """Yield the detections on each batch of frames, in the order of the heads; an unreadable frame has its error.

    Boxes with NaN or infinite values are left out, and one warning at the end counts them.
    prefetch, keep_state, kept_pixels, tiles: as in `detect_batches`; with batch_size 1 and prefetch False each result
        is yielded before the next frame is requested.
    Raises: DarkpyError when the network has no detection head, or was opened for sequences.
    """
    options = (options or DetectOptions()).resolved(network)
    batches = detect_batches(
        network,
        frames,
        [options],
        batch_size=batch_size,
        prefetch=prefetch,
        keep_state=keep_state,
        kept_pixels=kept_pixels,
        tiles=tiles,
    )
    dialect = network.plan.dialect
    for images, detections in batches:
        yield [
            to_result(detections[0], status.index, names, options.thresh or 0, frame, status.size, dialect)
            if status.error is None
            else Result(source=frame, class_names=tuple(names), dialect=dialect, error=status.error)
            for status, frame, _ in images
        ]


def detect_batches(
    network: Network,
    frames: Iterable[Frame],
    options: Sequence[DetectOptions],
    *,
    batch_size: int,
    prefetch: bool = True,
    keep_state: bool = False,
    kept_pixels: float = 0,
    tiles: TileGrid | None = None,
) -> Iterator[DetectedBatch]:
    """Yield the detections of each batch of images; options with the same `letterbox` share a forward pass.

    prefetch: load the next batch while this one is computed.
    keep_state: let recurrent layers go on from one batch to the next, until a stream is opened again.
    kept_pixels: largest number of pixels of an image that stays decoded; larger ones of streams are lost.
    tiles: cut each image into these; images are then loaded one by one, and `batch_size` counts tiles.
    Boxes with NaN or infinite values are left out; when the images end, one warning counts them.
    Raises: DarkpyError when the network has no detection head, was opened for sequences, or has a memory and is to see
        tiles.
    """
    require_detector(network)
    if tiles is not None and network.has_memory:
        raise DarkpyError(
            f"{network.plan.file} has recurrent layers, and tiles are not a sequence", hint="leave out --tiles (tiles=)"
        )
    options = [option.resolved(network) for option in options]
    letterboxes = {bool(option.letterbox) for option in options}
    network.reset_state()
    non_finite, connection = _NonFiniteCount(len(options)), 0
    count, most = (batch_size, kept_pixels) if tiles is None else (1, math.inf)
    try:
        for images in _load_inputs(network, frames, letterboxes, count, prefetch=prefetch, kept_pixels=most):
            readable = [image for image in images if image.x_CHW]
            if not keep_state or images[0].frame.connection != connection:
                network.reset_state()
                connection = images[0].frame.connection
            if not readable:
                detected = []
            elif tiles is None:
                detected = _forward(network, readable, options, non_finite)
            else:
                detected = _forward_tiles(network, readable[0], options, non_finite, tiles, batch_size)
                if math.prod(readable[0].status.size) > kept_pixels:
                    readable[0].frame.release()
            yield DetectedBatch(images, detected)
    finally:
        non_finite.warn(network.plan.file)


def read_input(network: Network, path: str | os.PathLike[str], *, letterbox: bool) -> tuple[Image, Tensor]:
    """Read one image: its pixels, and the network's input x_BCHW, a batch of one. Raises: ImageError."""
    net = network.plan.input_shape
    image = load_image(path, channels=net.c)
    return image, prepare(image, net.w, net.h, letterbox=letterbox)[None]


def _load_inputs(
    network: Network,
    frames: Iterable[Frame],
    letterboxes: Collection[bool],
    batch_size: int,
    *,
    prefetch: bool,
    kept_pixels: float,
) -> Iterator[list[InputImage]]:
    net = network.plan.input_shape

    def places() -> Iterator[InputImage]:
        """Yield each frame with the memory for its inputs, side by side for those of a batch."""
        batches, count, used = {}, min(batch_size, BATCH_SIZE), 0
        for index, frame in enumerate(frames):
            if used % count == 0:
                batches = {letterbox: new_batch(count, net, network.prefers_channels_last) for letterbox in letterboxes}
            x_CHW = {letterbox: x_BCHW[used % count] for letterbox, x_BCHW in batches.items()}
            yield InputImage(ImageStatus(index, frame.path), frame, x_CHW)
            used = 0 if frame.is_oversized else used + 1

    def load(place: InputImage) -> InputImage:
        try:
            image = place.frame.load(net.c)
        except ImageError as error:
            return place._replace(status=replace(place.status, error=error), x_CHW={})
        for letterbox, x_CHW in place.x_CHW.items():
            prepare(image, net.w, net.h, letterbox=letterbox, out_CHW=x_CHW)
        if image.w * image.h > kept_pixels:
            place.frame.release()
        return place._replace(status=replace(place.status, size=(image.w, image.h)))

    return load_in_batches(
        load, places(), batch_size, network.device, prefetch=prefetch, ends_batch=lambda place: place.frame.is_oversized
    )


@torch.inference_mode()
def _forward(
    network: Network, images: Sequence[InputImage], options: Sequence[DetectOptions], non_finite: _NonFiniteCount
) -> list[Detections]:
    """Detect on a batch of readable images, with one forward pass for letterboxed and one for stretched inputs."""
    index_B = torch.tensor([image.status.index for image in images])
    sizes = [image.status.size for image in images]
    detections: dict[int, Detections] = {}
    for letterbox in images[0].x_CHW:
        outputs_BCHW = network(stack([image.x_CHW[letterbox] for image in images]).to(network.device))
        for position, option in enumerate(options):
            if option.letterbox is letterbox:
                in_batch = _postprocess(network, outputs_BCHW, sizes, option, non_finite, position)
                detections[position] = replace(in_batch, image_M=index_B[in_batch.image_M])
    return [detections[position] for position in range(len(options))]


def _forward_tiles(
    network: Network,
    image: InputImage,
    options: Sequence[DetectOptions],
    non_finite: _NonFiniteCount,
    tiles: TileGrid,
    batch_size: int,
) -> list[Detections]:
    """Detect on the tiles of one image, in batches, and join their detections."""
    net = network.plan.input_shape
    edges_T4 = tiles.cut(*image.status.size, net.w, net.h)
    pixels_HWC = image.frame.load(net.c).pixels_HWC

    def inputs() -> Iterator[InputImage]:
        for tile, (left, top, right, bottom) in enumerate(edges_T4[:-1].tolist()):
            cut = Image(Path(image.status.path), np.ascontiguousarray(pixels_HWC[top:bottom, left:right]))
            fit = partial(prepare, cut, net.w, net.h, channels_last=network.prefers_channels_last)
            x_CHW = {letterbox: fit(letterbox=letterbox) for letterbox in image.x_CHW}
            yield InputImage(ImageStatus(tile, image.status.path, (cut.w, cut.h)), image.frame, x_CHW)
        yield image._replace(status=replace(image.status, index=len(edges_T4) - 1))

    remaining = inputs()
    batches = []
    while batch := list(islice(remaining, batch_size)):
        batches.append(_forward(network, batch, options, non_finite))
    detections = []
    for option, parts in zip(options, zip(*batches, strict=True), strict=True):
        joined = join_tiles(Detections.cat(parts), edges_T4)
        kept = suppress_candidates(network, joined, option)
        kept = kept.select(_darknet_order(joined)) if option.darknet_order else kept
        detections.append(replace(kept, image_M=torch.full_like(kept.image_M, image.status.index)))
    return detections


def postprocess(
    network: Network, outputs_BCHW: Sequence[Tensor], sizes: Sequence[tuple[int, int]], options: DetectOptions
) -> Detections:
    """Decode and suppress the outputs of a batch; boxes as fractions of each image.

    sizes: (w, h) of each image in pixels, before it was fitted. options: resolved ones.
    Boxes with NaN or infinite values are left out, and a warning counts them.
    Source: AlexeyAB/darknet src/network.c get_network_boxes.
    Differs: darknet prints and writes boxes with `nan` and `inf`.
    """
    non_finite = _NonFiniteCount(1)
    detections = _postprocess(network, outputs_BCHW, sizes, options, non_finite)
    non_finite.warn(network.plan.file)
    return detections


def _postprocess(
    network: Network,
    outputs_BCHW: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    options: DetectOptions,
    non_finite: _NonFiniteCount,
    position: int = 0,
) -> Detections:
    """Like `postprocess`, with the dropped boxes counted for the options at `position`."""
    decoded = decode_heads(network, outputs_BCHW, sizes, options)
    candidates, dropped = drop_non_finite(decoded)
    non_finite.add(position, dropped)
    detections = suppress_candidates(network, candidates, options)
    return detections.select(_darknet_order(candidates)) if options.darknet_order else detections


def drop_non_finite(candidates: Detections) -> tuple[Detections, int]:
    """Drop the candidates with NaN, infinity or an absurd size in the box, or NaN or infinity in a score.

    Returns: the others, and the number of those dropped, not counting boxes whose scores are all 0.
    """
    is_finite_M = (candidates.boxes_M4.abs() <= MAX_BOX_FRAC).all(dim=1) & candidates.objectness_M.isfinite()
    is_finite_M &= candidates.prob_MK.isfinite().all(dim=1)
    if bool(is_finite_M.all()):
        return candidates, 0
    is_detection_M = candidates.objectness_M.isnan() | (candidates.prob_MK != 0).any(dim=1)
    return candidates.select(is_finite_M), int((~is_finite_M & is_detection_M).sum())


def decode_heads(
    network: Network, outputs_BCHW: Sequence[Tensor], sizes: Sequence[tuple[int, int]], options: DetectOptions
) -> Detections:
    """Decode all heads of a batch into candidates, before suppression; boxes as fractions of each image.

    They are moved to the CPU: suppression reads sizes in each round, and each read would wait for a GPU.
    sizes, options: as in `postprocess`.
    """
    assert options.thresh is not None and options.letterbox is not None
    net = network.plan.input_shape
    parts = []
    for head, output_BCHW in zip(network.heads, outputs_BCHW, strict=True):
        part = head.decode(output_BCHW, net.w, net.h, options.thresh, options.tree_thresh, options.class_map).to("cpu")
        if options.letterbox and head.corrects_letterbox:
            part = undo_letterbox(part, sizes, net.w, net.h)
        parts.append(part)
    classes = max(part.prob_MK.shape[1] for part in parts)
    return Detections.cat(
        [replace(part, prob_MK=functional.pad(part.prob_MK, (0, classes - part.prob_MK.shape[1]))) for part in parts]
    )


def suppress_candidates(network: Network, candidates: Detections, options: DetectOptions) -> Detections:
    """Non-maximum suppression by the options and the last head's nms_kind."""
    if not options.nms:
        return candidates
    if options.by_objectness:
        return suppress_by_objectness(candidates, options.nms)
    return suppress(candidates, options.nms, *network.heads[-1].nms)


def _darknet_order(candidates: Detections) -> Tensor:
    """The order in which darknet's suppression leaves its boxes, image by image.

    It sorts them by the scores of one class after the other: those of the last class count most, and equal boxes stay
    as they were. mAP depends on it, which counts only the first detection of an object and breaks ties by order.
    Source: pjreddie/darknet src/box.c do_nms_sort
    """
    level_M: Tensor
    _, level_M = torch.unique(candidates.prob_MK.flip(1), dim=0, return_inverse=True)
    by_level = level_M.argsort(descending=True, stable=True)
    return by_level[candidates.image_M[by_level].argsort(stable=True)]


def require_detector(network: Network) -> None:
    """Raises: DarkpyError when the network has no detection head, or was opened for sequences."""
    plan = network.plan
    if not network.heads:
        raise DarkpyError(
            f"{plan.file} has no detection layer", hint="networks that end in [softmax] classify, not detect"
        )
    if plan.net.time_steps > 1:
        raise DarkpyError(
            f"{plan.file} takes sequences of {plan.net.time_steps} images (time_steps)",
            hint="darkpy.load(..., time_steps=1) takes them one by one",
        )
