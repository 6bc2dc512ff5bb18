"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from darkpy.cli import console
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError

Decorator = Callable[[Any], Any]


class _File(click.Path):
    """A path; darknet's `""` is an error that says so, and not the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the name is empty.", param, ctx)
        return super().convert(value, param, ctx)


class UnitFloat(click.types.FloatParamType):
    """A number from 0 to 1."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number <= 1:
            self.fail(f"{value} is no number from 0 to 1.", param, ctx)
        return number


FILE_PATH = _File(path_type=Path)


def require_writable(
    target: Path, *inputs: str | Path | None, overwrite: bool, hint: str = "--force overwrites it"
) -> None:
    """Check that a command may write a file: it is none of its inputs, and new unless `overwrite`.

    A device such as /dev/stdout always may be written. Raises: DarkpyError.
    """
    for file in inputs:
        if file is not None and target.exists() and Path(file).exists() and target.samefile(file):
            raise DarkpyError(f"{target}: is an input of this command", hint="write to another file")
    if target.is_file() and not overwrite:
        raise DarkpyError(f"{target}: already exists", hint=hint)


def compose(*decorators: Decorator) -> Decorator:
    """Several options as one decorator; --help shows them in this order."""

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _explain(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        console.info(f"{option.opts[0]} changes nothing in darkpy")


force_option = click.option("--force", "overwrite", is_flag=True, help="Overwrite existing files.")
dialect_option = click.option(
    "--dialect",
    type=click.Choice([str(dialect) for dialect in Dialect]),
    help="Whose darknet the cfg is written for.  [default: as its keys tell]",
)
strict_option = click.option(
    "--strict", is_flag=True, help="Stop at what is only warned of in a cfg, such as a key that nothing reads."
)
letterbox_option = click.option(
    "letterbox",
    "-letter_box/--stretch",
    default=None,
    help="Keep an image's proportions, or not.  [default: pjreddie does; alexeyab if the cfg says so]",
)
device_option = click.option(
    "-i",
    "--device",
    metavar="NAME",
    help="cpu, cuda, cuda:1, mps, or a GPU's number; -nogpu means cpu.  [default: a GPU if there is one]",
)
network_options = compose(
    dialect_option,
    strict_option,
    device_option,
    click.option("--allow-partial", is_flag=True, help="Run weights that end early; the last layers start new."),
)
speed_options = compose(
    click.option(
        "--engine",
        type=click.Choice(["torch", "onnxruntime", "openvino"]),
        default="torch",
        show_default=True,
        help="What runs the network; the others by way of ONNX, where they are installed.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16", "int8"]),
        default="fp32",
        show_default=True,
        help="Of the products. Less is faster and finds a little less: detector map says how much.",
    ),
    click.option(
        "--compile",
        "compiled",
        is_flag=True,
        help="5 to 30 s of C++ first, for each size of a batch: for long runs. Needs g++.",
    ),
    click.option(
        "--calibrate",
        type=FILE_PATH,
        metavar="IMAGES",
        help="A folder or list of images for int8 to see how large numbers become.  [default: those at hand]",
    ),
)
box_options = compose(
    click.option(
        "-thresh",
        "--thresh",
        type=UnitFloat(),
        metavar="0..1",
        help="Show what is surer than this.  [default: as in that darknet]",
    ),
    click.option(
        "-hier",
        "--hier",
        type=UnitFloat(),
        default=0.5,
        metavar="0..1",
        show_default=True,
        help="In class trees, how sure a class must be for its kinds to be told apart.",
    ),
    click.option(
        "--nms", type=UnitFloat(), default=0.45, metavar="0..1", show_default=True, help="How much boxes may overlap."
    ),
    letterbox_option,
)
ignored_options = compose(
    click.option("-dont_show", is_flag=True, expose_value=False, hidden=True),
    *(
        click.option(name, is_flag=True, expose_value=False, hidden=True, callback=_explain)
        for name in ("-fullscreen", "-benchmark_layers", "-cuda_debug_sync", "-show")
    ),
)
"""What darknet's command lines hold and what means nothing here: darkpy never opens a window."""
