"""`darkpy anchors`: anchors for a data set, and for a cfg."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import darkpy
from darkpy.cli import console
from darkpy.cli.commands.calc_anchors import MAX_CLUSTERS
from darkpy.cli.options import FILE_PATH, dialect_option, force_option, require_writable
from darkpy.cli.parsing import Command
from darkpy.errors import DarkpyError
from darkpy.files import write_atomic

if TYPE_CHECKING:
    from darkpy.anchors.kmeans import AnchorFit, Floats
    from darkpy.anchors.recommend import Recommendation
    from darkpy.anchors.search import SearchConfig, SearchResult
    from darkpy.anchors.sources import BoxSizes

DEFAULT_COUNT, DEFAULT_SIZE, DEFAULT_RESTARTS = 9, 416, 10
SAMPLE = 100_000

HELP = f"""Find anchors for the boxes of a data set.

\b
  darkpy anchors my.data
  darkpy anchors VOCdevkit/VOC2007 -n 6 --median
  darkpy anchors my.data --cfg yolov4.cfg
  darkpy anchors my.data --cfg yolov4.cfg --write

SOURCE is a .data file, a list of images, a folder of images with labels or of PASCAL VOC's XML, or COCO's JSON.
k-means with 1 - IoU from several starts, of which the best is kept; the same --seed finds the same anchors. Of more
than {SAMPLE:,} boxes so many are tried first, and what is better than the starts before goes on with all.

With --cfg the number of anchors and the size of the input are the cfg's, its own anchors are measured beside the new
ones, and for each head it is told which anchors are its own (mask=) and how many channels it needs (filters=). The
finest map gets the smallest anchors, in whatever order the heads stand. --write puts that into the cfg, the lines
anchors=, num=, mask= and filters= alone.

The average IoU is the mean, over all boxes, of the IoU with the anchor that fits best; recall is the share of boxes
that some anchor fits with an IoU of .5 or more.
"""


@click.command(cls=Command, help=HELP, short_help="Find anchors for a data set.")
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.option(
    "-n",
    "-num_of_clusters",
    "--count",
    "count",
    type=click.IntRange(1, MAX_CLUSTERS),
    metavar="N",
    help=f"How many.  [default: as many as the cfg has; without one {DEFAULT_COUNT}]",
)
@click.option("--cfg", type=FILE_PATH, metavar="CFG", help="Fit them to the heads of this network.")
@click.option("--write", "is_written", is_flag=True, help="Put them into CFG.")
@click.option("-width", type=click.IntRange(1), metavar="N", help=f"Of the input.  [default: CFG's; or {DEFAULT_SIZE}]")
@click.option("-height", type=click.IntRange(1), metavar="N", help="Likewise.")
@click.option("--median/--mean", "median", help="Where a center goes among its boxes.  [default: mean, as darknet's]")
@click.option(
    "--start",
    type=click.Choice(["random", "plus-plus"]),
    default="random",
    show_default=True,
    help="Boxes to start from: any, or such as are far from each other (k-means++).",
)
@click.option(
    "--restarts",
    type=click.IntRange(1, 10_000),
    metavar="N",
    default=DEFAULT_RESTARTS,
    show_default=True,
    help="Starts to try.",
)
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Which starts.")
@click.option(
    "--sort", type=click.Choice(["area", "width"]), default="area", show_default=True, help="The order of anchors."
)
@click.option(
    "--list", "key", metavar="KEY", default="train", show_default=True, help="Which list of a .data file: train, valid."
)
@click.option(
    "--corners",
    type=click.Choice(["darknet", "voc", "edges"]),
    default="darknet",
    show_default=True,
    help="What VOC's numbers mean; see darkpy dataset from-voc.",
)
@click.option(
    "--plot", "--picture", "image", type=FILE_PATH, metavar="PNG", help="Draw the boxes in the colors of their anchors."
)
@force_option
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
@dialect_option
def anchors(
    source: Path,
    cfg: Path | None,
    is_written: bool,
    width: int | None,
    height: int | None,
    key: str,
    corners: str,
    image: Path | None,
    overwrite: bool,
    is_json: bool,
    dialect: str | None,
    **searching: Any,
) -> None:
    from darkpy.anchors.sources import read_sizes
    from darkpy.data.formats.voc import Corners
    from darkpy.dialect import Dialect

    _check(source, cfg, is_written, bool(width or height), image, overwrite)
    boxes = read_sizes(source, key=key, corners=Corners(corners), dialect=Dialect(dialect) if dialect else None)
    if boxes.problems:
        console.warn(f"{len(boxes.problems)} labels or boxes cannot be used; the first: {boxes.problems[0]}")
    if cfg is None:
        size = (width or height or DEFAULT_SIZE, height or width or DEFAULT_SIZE)
        found, recommendation = _search(boxes.sizes_N2 * size, **searching), None
    else:
        recommendation = _recommend(boxes.sizes_N2, cfg, dialect, **searching)
        size, found = (recommendation.plan.net.width, recommendation.plan.net.height), recommendation.found
    if is_json:
        click.echo(json.dumps(_record(boxes, size, found, recommendation)))
    else:
        _tell(boxes, size, found, recommendation)
    if image is not None:
        from darkpy.anchors.plot import draw_anchor_plot

        write_atomic(image, [draw_anchor_plot(boxes.sizes_N2 * size, found.anchors_K2, size, labeled=True)])
    if recommendation is not None and cfg is not None:
        _finish(recommendation, boxes, cfg, is_written)


def _check(
    source: Path, cfg: Path | None, is_written: bool, is_sized: bool, image: Path | None, overwrite: bool
) -> None:
    """Refuse what does not go together, before anything is read."""
    if is_written and cfg is None:
        raise DarkpyError("--write needs a cfg to write into", hint="name it with --cfg")
    if is_sized and cfg is not None:
        raise DarkpyError("the cfg tells the size of the input", hint="leave -width and -height out")
    if image is not None:
        require_writable(image, source, cfg, overwrite=overwrite)


def _wanted(count: int, *, median: bool, start: str, restarts: int, seed: int, sort: str) -> SearchConfig:
    from darkpy.anchors.search import SearchConfig

    kind = {"median": median, "plus_plus": start == "plus-plus", "by_width": sort == "width"}
    return SearchConfig(count=count, restarts=restarts, seed=seed, sample=SAMPLE, **kind)


def _search(sizes_N2: Floats, count: int | None, **searching: Any) -> SearchResult:
    from darkpy.anchors.search import find_anchors

    return find_anchors(sizes_N2, _wanted(count or DEFAULT_COUNT, **searching), _watch)


def _recommend(sizes_N2: Floats, cfg: Path, dialect: str | None, count: int | None, **searching: Any) -> Recommendation:
    from darkpy.anchors.cfg_heads import find_heads
    from darkpy.anchors.recommend import default_count, recommend

    plan = darkpy.plan(cfg, dialect)
    return recommend(plan, sizes_N2, _wanted(count or default_count(find_heads(plan)), **searching), _watch)


def _watch(starts: Sequence[int]) -> Iterable[int]:
    return console.track(starts, len(starts))


def _tell(boxes: BoxSizes, size: tuple[int, int], found: SearchResult, recommendation: Recommendation | None) -> None:
    from darkpy.anchors.format import anchors_text

    classes = ", ".join(f"{name} {count}" for name, count in boxes.classes.items() if count)
    click.echo(f"{len(boxes.sizes_N2)} boxes on {boxes.images} images: {classes}")
    starts = f"; {len(found.fits)} starts led to {_percent(min(found.fits))} to {_percent(max(found.fits))}"
    click.echo(f"{size[0]} x {size[1]}: {_fit_text(found.fit)}{starts if len(found.fits) > 1 else ''}")
    if recommendation is None:
        click.echo(f"anchors = {anchors_text(found.anchors_K2, size[0])}")
        return
    from darkpy.anchors.recommend import as_record

    click.echo(f"{recommendation.plan.file} as it is: {_fit_text(recommendation.now)}")
    click.echo(f"with these, rounded: {_fit_text(recommendation.new)}")
    for head in as_record(recommendation)["heads"]:
        stride = " x ".join(f"{side:g}" for side in head["stride"])
        click.echo(f"layer {head['layer']} [{head['type']}], line {head['line']}, cells of {stride} pixels:")
        for key in ("anchors", "mask", "num"):
            if key in head:
                click.echo(f"  {key}={head[key]}")
        place = f"line {head['filters_line']}" if head["filters_line"] else "no such key before it: see to it yourself"
        click.echo(f"  filters={head['filters']} ({place})")


def _fit_text(fit: AnchorFit) -> str:
    return f"average IoU {_percent(fit.average_iou)}, recall {_percent(fit.recall)}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _record(
    boxes: BoxSizes, size: tuple[int, int], found: SearchResult, recommendation: Recommendation | None
) -> dict[str, Any]:
    """What a program wants to know."""
    record: dict[str, Any] = {
        "boxes": len(boxes.sizes_N2),
        "images": boxes.images,
        "classes": dict(boxes.classes),
        "width": size[0],
        "height": size[1],
        "anchors": found.anchors_K2.tolist(),
        **found.fit._asdict(),
        "rounds": found.rounds,
        "starts": list(found.fits),
    }
    if recommendation is not None:
        from darkpy.anchors.recommend import as_record

        record |= as_record(recommendation)
    return record


def _finish(recommendation: Recommendation, boxes: BoxSizes, cfg: Path, is_written: bool) -> None:
    """What the cfg's owner should know, and the cfg itself."""
    from darkpy.anchors.recommend import write_recommendation

    if recommendation.too_small:
        share = _percent(recommendation.too_small / len(boxes.sizes_N2))
        console.warn(f"{recommendation.too_small} boxes ({share}) are smaller than a cell of the finest map")
    if not recommendation.is_better:
        console.info("the cfg's own anchors fit these boxes as well")
    for classes in {one.head.classes for one in recommendation.head_anchors}:
        if classes != len(boxes.classes):
            console.warn(f"{cfg}: classes={classes}, and the data has {len(boxes.classes)}; filters= go with the cfg's")
    if is_written:
        said = "is written" if write_recommendation(recommendation, cfg) else "says all that already"
        console.info(f"{cfg}: {said}")
