"""`darkpy.detect`: detections on any source of images, as a function."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from numbers import Integral, Real
from typing import Any, Literal

from darkpy.catalog import find_names
from darkpy.data.lists.text_files import names_for
from darkpy.errors import DarkpyError
from darkpy.evaluation.detect import BATCH_SIZE, DetectOptions, detect_frames, require_detector
from darkpy.evaluation.result import Result
from darkpy.evaluation.tiles import TileGrid
from darkpy.evaluation.tracker import Tracker
from darkpy.network import Network, require_network
from darkpy.sources.frames import FrameSource, ImageSource, OneImage, is_in_memory, open_frames
from darkpy.sources.pixels import ChannelOrder

MAX_KEPT_PIXELS = 1 << 24
"""Pixels of a file's image above which a batch does not keep it decoded; it is decoded again to be drawn."""
MAX_BATCH_BFLOPS = 64.0
"""Operations of a batch of a video's frames on a CPU: half a second of two slow cores. More would gain little."""


def detect(
    network: Network,
    source: ImageSource | FrameSource,
    names: Sequence[str] | str | os.PathLike[str] | None = None,
    *,
    thresh: float | None = None,
    nms: float = 0.45,
    tree_thresh: float = 0.5,
    letterbox: bool | None = None,
    channel_order: ChannelOrder = "rgb",
    batch_size: int | None = None,
    tiles: str | tuple[int, int] | None = None,
    track: bool = False,
    on_error: Literal["raise", "yield"] = "raise",
    keep_images: bool = False,
) -> Iterator[Result]:
    """Detect objects on every image of a source, and yield a `Result` for each, in order.

    Everything but an image is checked at once; images are read while the results are taken.

    source: a path (image file, folder, glob pattern, or list file .txt or .list), encoded bytes, a numpy array
        (H, W, 3) or (H, W) of uint8, a Pillow image, a tensor (3, H, W), float from 0 to 1 or uint8, a list of these,
        a generator of images, a video file, the number of a camera, the URL of a stream (these three with the extra
        `video`), or what `open_frames` has opened. A generator is advanced when the next result is requested; a
        camera or stream drops the frames that come in the meantime. Recurrent layers keep their state from one frame to
        the next; other images are independent.
    names: class names, or the path of a file with one per line; None takes those of a network that was loaded by name,
        else COCO's for 80 classes, VOC's for 20.
    thresh: score above which a detection counts; None takes the dialect's (.5 pjreddie, .25 AlexeyAB).
    nms: IoU above which the lower-scored box of a class is suppressed; 0 keeps all.
    tree_thresh: darknet's `-hier`, for class trees.
    letterbox: keep the image's proportions; None takes the dialect's (pjreddie yes, AlexeyAB by [net] letter_box).
    channel_order: "bgr" for arrays of OpenCV (cv2); files, bytes and Pillow images know their own.
    batch_size: images at a time, or tiles; None takes a fast one, up to 8 frames of a video's file. 1 yields the result
        of each frame before the next one is computed.
    tiles: detect on overlapping parts of large images, and join the boxes: "auto" for tiles of the network's size, or
        columns and rows as "4x3" or (4, 3).
    track: follow objects from each image to the next, and number them in `Result.track_ids`.
    on_error: an image that cannot be read raises ImageError, or yields a result with `error`.
    keep_images: keep each result's pixels in memory. By default they are released when the next result is taken;
        `Result.image` then decodes a file again, and raises for an image of a generator or video.

    Threads may share a network without recurrent layers; an iterator of results belongs to one thread.
    Raises: DarkpyError for an unknown source, class count or option, and for a network that does not detect.
    """
    _check_arguments(
        network, {"thresh": thresh, "nms": nms, "tree_thresh": tree_thresh}, batch_size, letterbox, on_error
    )
    by_class = names_by_class(network, names)
    options = DetectOptions(thresh=thresh, tree_thresh=tree_thresh, nms=nms, letterbox=letterbox)
    grid = None if tiles is None else TileGrid.parse(tiles)
    frames = open_frames(source, channel_order=channel_order)
    if network.has_memory and frames.is_stream and (batch_size or 1) > 1:
        frames.close()
        message = f"{network.plan.file} has recurrent layers, which need the frames of a sequence one by one"
        raise DarkpyError(message, hint="leave out batch_size")
    tracker = Tracker() if track else None

    size = batch_size or usual_batch_size(network, frames, grid)
    keeps_all = keep_images or frames.is_stream or 1 in (size, frames.count)
    loading: dict[str, Any] = {
        "prefetch": not frames.is_live,
        "keep_state": frames.is_stream,
        "kept_pixels": math.inf if keeps_all else MAX_KEPT_PIXELS,
    }

    def results() -> Iterator[Result]:
        batches = detect_frames(network, frames, by_class, options, batch_size=size, tiles=grid, **loading)
        # closed here, also after an error: the garbage collector would join the loading threads later
        with closing(frames), closing(batches):
            for result in chain.from_iterable(batches):
                if result.error is not None and on_error == "raise":
                    raise result.error
                yield (result if tracker is None else tracker.update(result)).by_score()
                if not keep_images:
                    result.source.release()

    return results()


def usual_batch_size(network: Network, frames: FrameSource, tiles: TileGrid | None = None) -> int:
    """Return the number of images, or tiles, that are detected at a time where the user names none.

    Frames of a camera or stream, and those for recurrent layers, are detected one by one. Of a video's file there are
    as many as the CPU computes in a moment, so that an interruption or a viewer does not wait long.
    """
    if tiles is not None:
        return BATCH_SIZE
    if network.has_memory and frames.is_stream:
        return 1
    largest = BATCH_SIZE if frames.max_batch is None else min(BATCH_SIZE, frames.max_batch)
    if frames.is_stream and network.device.type == "cpu":
        largest = min(largest, int(MAX_BATCH_BFLOPS / max(network.plan.bflops, 1)))
    return max(1, largest)


def _check_arguments(
    network: Network, shares: Mapping[str, object], batch_size: object, letterbox: object, on_error: object
) -> None:
    """Raises: DarkpyError for a network that cannot detect, and for an argument of a wrong type or value."""
    require_network(network, "detect")
    if network.training:
        raise DarkpyError(f"{network.plan.file} is in training mode", hint="call network.eval() before detect")
    for name, value in shares.items():
        if value is not None and not (isinstance(value, Real) and 0 <= float(value) <= 1):
            raise DarkpyError(f"{name}={value!r} is not from 0 to 1")
    if batch_size is not None and not (isinstance(batch_size, Integral) and int(batch_size) >= 1):
        raise DarkpyError(f"batch_size={batch_size!r} is not a number of images from 1")
    if letterbox is not None and not isinstance(letterbox, bool):
        raise DarkpyError(f"letterbox={letterbox!r} is neither True nor False", hint="None takes the dialect's")
    if on_error not in ("raise", "yield"):
        raise DarkpyError(f"on_error={on_error!r} is unknown", hint='use "raise" or "yield"')
    require_detector(network)


def names_by_class(network: Network, names: Sequence[str] | str | os.PathLike[str] | None) -> tuple[str, ...]:
    """Return a name for each class of a network; names as in `detect`. Raises: DarkpyError for too few names."""
    class_count = max(head.class_count for head in network.heads)
    if names is None:
        names = find_names(network.plan.file)
    if names is None or isinstance(names, str | os.PathLike):
        names = names_for(class_count, names, stacklevel=4)  # the caller of `detect`
    if not (isinstance(names, Sequence) and all(isinstance(name, str) for name in names)):
        hint = "give a list of names, or the path of a file with one per line"
        raise DarkpyError(f"names={str(names)[:80]} is not a list of class names", hint=hint)
    if len(names) < class_count:
        hint = "give the names that the network was trained with"
        raise DarkpyError(f"names holds {len(names)} names, the network has {class_count} classes", hint=hint)
    return tuple(names)


def detect_image(
    network: Network,
    image: OneImage,
    names: Sequence[str] | str | os.PathLike[str] | None = None,
    *,
    thresh: float | None = None,
    nms: float = 0.45,
    tree_thresh: float = 0.5,
    letterbox: bool | None = None,
    channel_order: ChannelOrder = "rgb",
    tiles: str | tuple[int, int] | None = None,
) -> Result:
    """Detect objects on one image: a file, encoded bytes, a numpy array, a Pillow image or a tensor.

    Arguments as in `detect`. Raises: as `detect`, ImageError when the image cannot be read.
    """
    if not (isinstance(image, str | os.PathLike) or is_in_memory(image)):
        raise DarkpyError(f"detect_image takes one image, not {type(image).__name__}", hint="use darkpy.detect")
    results = list(
        detect(
            network,
            image,
            names,
            thresh=thresh,
            nms=nms,
            tree_thresh=tree_thresh,
            letterbox=letterbox,
            channel_order=channel_order,
            tiles=tiles,
            keep_images=True,
        )
    )
    if len(results) != 1:
        raise DarkpyError(f"{image!r} stands for {len(results)} images", hint="use darkpy.detect for several")
    return results[0]
