"""`darkpy anchors` and AlexeyAB's `detector calc_anchors`: anchors for a data set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import darkpy
from darkpy.catalog import find_model
from darkpy.cli import console
from darkpy.cli.options import (
    FILE_PATH,
    OUTPUT_PATH,
    Command,
    collect,
    dialect_option,
    force_option,
    json_option,
    max_pixels_option,
    require_writable,
)
from darkpy.data.lists.text_files import DataFile, read_data
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import write_atomic

if TYPE_CHECKING:
    from darkpy.anchors.kmeans import AnchorMatch
    from darkpy.anchors.recommend import Recommendation
    from darkpy.anchors.search import SearchConfig, SearchResult
    from darkpy.anchors.sources import BoxSizes
    from darkpy.data.lists.labels import LabelTable

MAX_ANCHORS = 1000
DEFAULT_ANCHORS = 9
DEFAULT_INPUT_PX = 416
SAMPLED_BOXES = 100_000
"""Larger sets try each start on this many boxes first."""
ANCHORS_FILE, COUNTERS_FILE, CLOUD_FILE = Path("anchors.txt"), Path("counters_per_class.txt"), Path("cloud.png")
DEFAULT_TRAIN_LIST = "data/train.list"

ANCHORS_HELP = f"""Compute anchors for the boxes of a data set.

\b
  darkpy anchors my.data
  darkpy anchors VOCdevkit/VOC2007 -n 6 --median
  darkpy anchors my.data --cfg yolov4.cfg
  darkpy anchors my.data --cfg yolov4.cfg --write

SOURCE is a .data file, a list of images, a folder of images with labels or of PASCAL VOC's XML, or COCO JSON. Anchors
are k-means centers under the distance 1 - IoU, the best of several random starts; the same --seed gives the same
anchors. With more than {SAMPLED_BOXES:,} boxes each start runs on a sample of that size first, and the best continue on
all boxes.

With --cfg the number of anchors and the input size are the cfg's, its own anchors are scored beside the new ones, and
each head is listed with its anchors (mask=) and the channels it needs (filters=). The finest grid gets the smallest
anchors, whatever the order of the heads. --write edits the lines anchors=, num=, mask= and filters= of the cfg and
nothing else.

Average IoU is the mean, over all boxes, of the IoU with the best-fitting anchor; recall is the share of boxes for which
it is .5 or more.
"""
CALC_ANCHORS_HELP = """AlexeyAB's `detector calc_anchors`: anchors for the boxes of DATA's train= list.

\b
  darkpy detector calc_anchors my.data -num_of_clusters 9 -width 416 -height 416

Output and files are AlexeyAB's: anchors.txt, counters_per_class.txt and, with -show, cloud.png, all in the working
directory. k-means under the distance 1 - IoU, from random boxes, with means, for at most 1000 iterations. The same
--seed gives the same anchors; --restarts N keeps the best of N starts.

darkpy anchors does more: medians, VOC and COCO files, masks and filters for a cfg.
"""


@dataclass(frozen=True, kw_only=True)
class _SearchOptions:
    """Anchor search settings: the values of `_search_options`."""

    count: int | None
    median: bool
    start: str
    restarts: int
    seed: int
    sort: str

    def config(self, default_count: int) -> SearchConfig:
        from darkpy.anchors.search import SearchConfig

        return SearchConfig(
            count=self.count or default_count,
            restarts=self.restarts,
            seed=self.seed,
            median=self.median,
            plus_plus=self.start == "plus-plus",
            by_width=self.sort == "width",
            sample=SAMPLED_BOXES,
        )


_search_options = collect(
    _SearchOptions,
    "search",
    click.option(
        "-n",
        "-num_of_clusters",
        "--count",
        "count",
        type=click.IntRange(1, MAX_ANCHORS),
        metavar="N",
        help=f"Number of anchors.  [default: as in the cfg; {DEFAULT_ANCHORS} without --cfg]",
    ),
    click.option(
        "--median/--mean",
        "median",
        help="Cluster center: median or mean of its boxes.  [default: mean, as darknet]",
    ),
    click.option(
        "--start",
        type=click.Choice(["random", "plus-plus"]),
        default="random",
        show_default=True,
        help="Initial centers: random boxes, or boxes far from each other (k-means++).",
    ),
    click.option(
        "--restarts",
        type=click.IntRange(1, 10_000),
        metavar="N",
        default=10,
        show_default=True,
        help="Number of random starts.",
    ),
    click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Random seed."),
    click.option(
        "--sort", type=click.Choice(["area", "width"]), default="area", show_default=True, help="Order of the anchors."
    ),
)


@click.command(cls=Command, help=ANCHORS_HELP)
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.option("--cfg", type=FILE_PATH, metavar="CFG", help="Fit the anchors to the heads of this network.")
@click.option("--write", is_flag=True, help="Write the anchors into CFG.")
@click.option(
    "-width",
    type=click.IntRange(1),
    metavar="N",
    help=f"Width of the network's input.  [default: CFG's, or {DEFAULT_INPUT_PX}]",
)
@click.option("-height", type=click.IntRange(1), metavar="N", help="Height of the network's input, likewise.")
@_search_options
@click.option(
    "--list", "key", metavar="KEY", default="train", show_default=True, help="List of a .data file: train or valid."
)
@click.option(
    "--corners",
    type=click.Choice(["darknet", "voc", "edges"]),
    default="darknet",
    show_default=True,
    help="Meaning of VOC's box numbers; see darkpy dataset from-voc.",
)
@click.option(
    "--plot",
    "--picture",
    "plot",
    type=OUTPUT_PATH,
    metavar="PNG",
    help="Plot the boxes in the colors of their anchors.",
)
@force_option
@json_option
@dialect_option
@max_pixels_option
def anchors(
    source: Path,
    cfg: Path | None,
    write: bool,
    width: int | None,
    height: int | None,
    search: _SearchOptions,
    key: str,
    corners: str,
    plot: Path | None,
    overwrite: bool,
    as_json: bool,
    dialect: str | None,
) -> None:
    from darkpy.anchors.search import find_anchors
    from darkpy.anchors.sources import read_sizes
    from darkpy.data.formats.voc import Corners

    if write and cfg is None:
        raise DarkpyError("--write needs a cfg to write into", hint="name it with --cfg")
    if write and cfg is not None and find_model(cfg):
        hint = f"darkpy new {cfg} --data DATA writes your own"
        raise DarkpyError(f"{cfg}: is a cfg that comes with darkpy, and stays as it is", hint=hint)
    if (width or height) and cfg is not None:
        raise DarkpyError("the cfg has the input size", hint="leave -width and -height out")
    if plot is not None:
        require_writable(plot, overwrite=overwrite)
    boxes = read_sizes(source, key=key, corners=Corners(corners), dialect=Dialect(dialect) if dialect else None)
    if boxes.problems:
        console.warn(f"problems in the labels: {len(boxes.problems)}; first: {boxes.problems[0]}")
    if cfg is None:
        recommendation = None
        size = (width or height or DEFAULT_INPUT_PX, height or width or DEFAULT_INPUT_PX)
        result = find_anchors(boxes.sizes_N2 * size, search.config(DEFAULT_ANCHORS), _track)
    else:
        from darkpy.anchors.cfg_heads import find_heads
        from darkpy.anchors.recommend import default_count, recommend

        plan = darkpy.plan(cfg, dialect)
        config = search.config(default_count(find_heads(plan)))
        recommendation = recommend(plan, boxes.sizes_N2, config, _track)
        size, result = (plan.net.width, plan.net.height), recommendation.found
    if as_json:
        console.echo(json.dumps(_as_record(boxes, size, result, recommendation)))
    else:
        _print_anchors(boxes, size, result, recommendation)
    if plot is not None:
        from darkpy.anchors.scatter import draw_anchor_plot

        write_atomic(plot, [draw_anchor_plot(boxes.sizes_N2 * size, result.anchors_K2, size, labeled=True)])
    if recommendation is not None and cfg is not None:
        _finish_cfg(recommendation, boxes, cfg, write)


def _track(starts: Sequence[int]) -> Iterable[int]:
    return console.track(starts, len(starts))


def _print_anchors(
    boxes: BoxSizes, size: tuple[int, int], result: SearchResult, recommendation: Recommendation | None
) -> None:
    from darkpy.anchors.format import anchors_text

    classes = ", ".join(f"{name} {count}" for name, count in boxes.classes.items() if count)
    console.echo(f"{len(boxes.sizes_N2)} boxes on {boxes.images} images: {classes}")
    starts = f"; {len(result.fits)} starts led to {_percent(min(result.fits))} to {_percent(max(result.fits))}"
    console.echo(f"{size[0]} x {size[1]}: {_fit_text(result.fit)}{starts if len(result.fits) > 1 else ''}")
    if recommendation is None:
        console.echo(f"anchors = {anchors_text(result.anchors_K2, size[0])}")
        return
    from darkpy.anchors.recommend import as_record

    console.echo(f"{recommendation.plan.file} as it is: {_fit_text(recommendation.now)}")
    console.echo(f"with these, rounded: {_fit_text(recommendation.new)}")
    for head in as_record(recommendation)["heads"]:
        stride = " x ".join(f"{side:g}" for side in head["stride"])
        console.echo(f"layer {head['layer']} [{head['type']}], line {head['line']}, cells of {stride} pixels:")
        for key in ("anchors", "mask", "num"):
            if key in head:
                console.echo(f"  {key}={head[key]}")
        line = f"line {head['filters_line']}" if head["filters_line"] else "no such key before it: edit it by hand"
        console.echo(f"  filters={head['filters']} ({line})")


def _fit_text(fit: AnchorMatch) -> str:
    return f"average IoU {_percent(fit.average_iou)}, recall {_percent(fit.recall)}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _as_record(
    boxes: BoxSizes, size: tuple[int, int], result: SearchResult, recommendation: Recommendation | None
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "boxes": len(boxes.sizes_N2),
        "images": boxes.images,
        "classes": dict(boxes.classes),
        "width": size[0],
        "height": size[1],
        "anchors": result.anchors_K2.tolist(),
        **result.fit._asdict(),
        "rounds": result.rounds,
        "starts": list(result.fits),
    }
    if recommendation is not None:
        from darkpy.anchors.recommend import as_record

        record |= as_record(recommendation)
    return record


def _finish_cfg(recommendation: Recommendation, boxes: BoxSizes, cfg: Path, write: bool) -> None:
    """Print notes on the anchors, and write them into the cfg on demand."""
    from darkpy.anchors.recommend import write_recommendation

    if recommendation.too_small:
        share = _percent(recommendation.too_small / len(boxes.sizes_N2))
        console.warn(f"{recommendation.too_small} boxes ({share}) are smaller than a cell of the finest grid")
    if not recommendation.is_better:
        console.info("the cfg's own anchors fit these boxes as well")
    for classes in {assigned.head.classes for assigned in recommendation.head_anchors}:
        if classes != len(boxes.classes):
            console.warn(f"{cfg}: classes={classes}, but the data has {len(boxes.classes)}; filters= follow the cfg")
    if write:
        changed = write_recommendation(recommendation, cfg)
        console.info(f"wrote {cfg}" if changed else f"{cfg}: already has these anchors")


@click.command("calc_anchors", cls=Command, help=CALC_ANCHORS_HELP)
@click.argument("data", type=FILE_PATH)
@click.option(
    "-num_of_clusters",
    "count",
    type=click.IntRange(1, MAX_ANCHORS),
    metavar="N",
    default=5,
    show_default=True,
    help="Number of anchors.",
)
@click.option("-width", type=click.IntRange(1), metavar="N", help="Width of the network's input.")
@click.option("-height", type=click.IntRange(1), metavar="N", help="Height of the network's input.")
@click.option("-show", is_flag=True, help="Plot the boxes and their anchors into cloud.png.")
@click.option(
    "--restarts", type=click.IntRange(1), metavar="N", default=1, show_default=True, help="Number of random starts."
)
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Random seed.")
@dialect_option
def calc_anchors(
    data: Path,
    count: int,
    width: int | None,
    height: int | None,
    show: bool,
    restarts: int,
    seed: int,
    dialect: str | None,
) -> None:
    if width is None or height is None:
        raise DarkpyError(
            "the size of the network's input is not given", hint="set it as in the cfg: -width 416 -height 416"
        )
    from darkpy.anchors.format import anchors_text, class_counts, counters_text, pixels
    from darkpy.anchors.search import SearchConfig, find_anchors
    from darkpy.data.lists.labels import MAX_CLASS

    for target in (ANCHORS_FILE, COUNTERS_FILE, CLOUD_FILE):
        require_writable(target, overwrite=True)
    data_file = read_data(data)
    console.echo(f"\n num_of_clusters = {count}, width = {width}, height = {height} ")
    labels = _read_train_labels(data_file, Dialect(dialect) if dialect else None)
    sizes_N2 = pixels(labels, width, height)
    classes = data_file.entries.get("classes", "1")  # darknet's default
    if not classes.isdecimal() or len(classes) > 7 or int(classes) > MAX_CLASS:
        raise DarkpyError(f"{data}: classes={classes[:40]} is not a number of classes up to {MAX_CLASS}")
    counters = counters_text(class_counts(labels, int(classes)))
    result = find_anchors(sizes_N2, SearchConfig(count=count, restarts=restarts, seed=seed, repeat_sizes=True))
    text = anchors_text(result.anchors_K2, width)
    # to the character what AlexeyAB's program prints
    console.echo(f"\n calculating k-means++ ...\n\n iterations = {result.rounds} \n\n\n{counters}")
    console.echo(f"\n avg IoU = {100 * result.fit.average_iou:2.2f} % \n\nSaving anchors to the file: {ANCHORS_FILE} ")
    console.echo(f"anchors = {text}")
    write_atomic(COUNTERS_FILE, [counters.encode()])
    write_atomic(ANCHORS_FILE, [text.encode()])
    if show:
        from darkpy.anchors.scatter import draw_anchor_plot

        write_atomic(CLOUD_FILE, [draw_anchor_plot(sizes_N2, result.anchors_K2, (width, height))])


def _read_train_labels(data: DataFile, dialect: Dialect | None) -> LabelTable:
    """Read the labels of the train= list, reporting bad ones the way AlexeyAB's program does."""
    from darkpy.anchors.format import wrong_boxes
    from darkpy.data.lists.image_list import ImageList
    from darkpy.data.lists.paths import read_list_lines
    from darkpy.data.loading.bad_files import BadLists, Problem

    file = data.find("train", DEFAULT_TRAIN_LIST)
    assert file is not None
    images = read_list_lines(file)
    console.echo(f" read labels from {len(images)} images ")
    table = ImageList(tuple(images), file.parent).read_labels(dialect)
    bad = BadLists(Path())
    for index in table.missing:
        console.echo(f"Can't open label file. (This can be normal only if you use MSCOCO): {table.files[index]} ")
        bad.add([Problem(False, table.files[index], "")])
    for line in wrong_boxes(table):
        console.echo(f"\n\n{line} ")
        bad.add([Problem(True, line, line)])
    if table.problems:
        console.warn(f"problems in label files: {len(table.problems)}; the first: {table.problems[0]}")
    console.control("\r")
    console.echo(f" loaded \t image: {len(images)} \t box: {len(table)}\n all loaded. ")
    return table
