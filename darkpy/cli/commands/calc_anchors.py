"""`darkpy detector calc_anchors`: AlexeyAB's command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.options import FILE_PATH, dialect_option, require_writable
from darkpy.cli.parsing import Command
from darkpy.data.lists.data_file import DataFile, read_data
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import write_atomic

if TYPE_CHECKING:
    from darkpy.data.lists.labels import LabelTable

ANCHORS, COUNTERS, CLOUD = Path("anchors.txt"), Path("counters_per_class.txt"), Path("cloud.png")
MAX_CLUSTERS = 1000
DEFAULT_LIST = "data/train.list"

HELP = """darknet's `detector calc_anchors`: anchors for the boxes of the list that train= in DATA names.

\b
  darkpy detector calc_anchors my.data -num_of_clusters 9 -width 416 -height 416

What is printed and written is AlexeyAB's: anchors.txt, counters_per_class.txt, and with -show cloud.png, all in the
working directory. k-means with 1 - IoU, random boxes to start from, means, at most 1000 rounds. The same --seed finds
the same anchors; --restarts N keeps the best of N starts.

darkpy anchors does more: medians, VOC's and COCO's files, masks and filters for a cfg.
"""


@click.command("calc_anchors", cls=Command, help=HELP, short_help="Anchors for the boxes of a data set.")
@click.argument("data", type=FILE_PATH)
@click.option(
    "-num_of_clusters",
    "count",
    type=click.IntRange(1, MAX_CLUSTERS),
    metavar="N",
    default=5,
    show_default=True,
    help="How many anchors.",
)
@click.option("-width", type=click.IntRange(1), metavar="N", help="Width of the network's input.")
@click.option("-height", type=click.IntRange(1), metavar="N", help="Height of the network's input.")
@click.option("-show", "is_shown", is_flag=True, help="Draw the boxes and their anchors: cloud.png.")
@click.option("--restarts", type=click.IntRange(1), metavar="N", default=1, show_default=True, help="Starts to try.")
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Which starts.")
@dialect_option
def calc_anchors(
    data: Path,
    count: int,
    width: int | None,
    height: int | None,
    is_shown: bool,
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

    for target in (ANCHORS, COUNTERS, CLOUD):
        require_writable(target, data, overwrite=True)
    task = read_data(data)
    click.echo(f"\n num_of_clusters = {count}, width = {width}, height = {height} ")
    table = _read(task, Dialect(dialect) if dialect else None)
    sizes_N2 = pixels(table, width, height)
    counters = counters_text(class_counts(table, _class_count(task.entries.get("classes"))))
    found = find_anchors(sizes_N2, SearchConfig(count=count, restarts=restarts, seed=seed))
    text = anchors_text(found.anchors_K2, width)
    click.echo(f"\n calculating k-means++ ...\n\n iterations = {found.rounds} \n\n\n{counters}")
    click.echo(f"\n avg IoU = {100 * found.fit.average_iou:2.2f} % \n\nSaving anchors to the file: {ANCHORS} ")
    click.echo(f"anchors = {text}")
    write_atomic(COUNTERS, [counters.encode()])
    write_atomic(ANCHORS, [text.encode()])
    if is_shown:
        from darkpy.anchors.plot import draw_anchor_plot

        write_atomic(CLOUD, [draw_anchor_plot(sizes_N2, found.anchors_K2, (width, height))])


def _read(task: DataFile, dialect: Dialect | None) -> LabelTable:
    """The labels of the list to train on; what is wrong with them is told as AlexeyAB's program does."""
    from darkpy.anchors.format import wrong_boxes
    from darkpy.data.lists.labels import read_label_table
    from darkpy.data.lists.paths import read_list_lines
    from darkpy.data.loading.bad_files import BadLists, Problem

    file = task.find("train", DEFAULT_LIST)
    assert file is not None
    images = read_list_lines(file)
    click.echo(f" read labels from {len(images)} images ")
    table = read_label_table(images, file.parent, dialect)
    bad = BadLists(Path())
    for number in table.missing:
        click.echo(f"Can't open label file. (This can be normal only if you use MSCOCO): {table.files[number]} ")
        bad.add([Problem(False, table.files[number], "")])
    for line in wrong_boxes(table):
        click.echo(f"\n\n{line} ")
        bad.add([Problem(True, line, line)])
    if table.problems:
        console.warn(f"{len(table.problems)} lines of label files are no boxes; the first: {table.problems[0]}")
    click.echo(f"\r loaded \t image: {len(images)} \t box: {len(table)}\n all loaded. ")
    return table


def _class_count(said: str | None) -> int:
    """`classes=` of the `.data` file, darknet's default without one."""
    if said is None:
        return 1
    if not said.isdecimal():
        raise DarkpyError(f"classes={said[:40]} is no number of classes")
    return int(said)
