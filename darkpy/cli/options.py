"""Options that several commands share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from darkpy.cli import console
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError

Decorator = Callable[[Any], Any]


class _File(click.Path):
    """A path. An empty one, as scripts with unset variables give, is an error and not the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the file name is empty.", param, ctx)
        return super().convert(value, param, ctx)


class UnitFloat(click.types.FloatParamType):
    """A number from 0 to 1; NaN is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number <= 1:
            self.fail(f"{value} is not a number from 0 to 1.", param, ctx)
        return number


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Choices for loading a network and running it: the values of `network_options` and `speed_options`."""

    dialect: str | None = None
    strict: bool = False
    device: str | None = None
    allow_partial: bool = False
    engine: str = "torch"
    precision: str = "fp32"
    compiled: bool = False
    calibrate: Path | None = None


FILE_PATH = _File(path_type=Path)


def require_writable(
    target: Path, *inputs: str | Path | None, overwrite: bool, hint: str = "--force overwrites it"
) -> None:
    """Check that a command may write a file: none of its inputs, and new unless `overwrite`.

    Devices such as /dev/stdout may always be written. Raises: DarkpyError.
    """
    for file in inputs:
        if file is not None and target.exists() and Path(file).exists() and target.samefile(file):
            raise DarkpyError(f"{target}: is an input of this command", hint="write to another file")
    if target.is_file() and not overwrite:
        raise DarkpyError(f"{target}: already exists", hint=hint)


def compose(*decorators: Decorator) -> Decorator:
    """Combine options into one decorator; --help lists them in this order."""

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def collect(record: type, argument: str, *decorators: Decorator) -> Decorator:
    """Combine options into one decorator; the command gets their values as one dataclass, named `argument`."""
    names = [field.name for field in fields(record)]

    def gather(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(**values: object) -> Any:
            chosen = {name: values.pop(name) for name in names if name in values}
            return function(**values, **{argument: record(**chosen)})

        return wrapper

    return compose(*decorators, gather)


def _say_ignored(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        console.info(f"{option.opts[0]} has no effect in darkpy")


force_option = click.option("--force", "overwrite", is_flag=True, help="Overwrite existing files.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
dialect_option = click.option(
    "--dialect",
    type=click.Choice([str(dialect) for dialect in Dialect]),
    help="Darknet dialect of the cfg.  [default: detected from its keys, then from the weights]",
)
strict_option = click.option("--strict", is_flag=True, help="Treat cfg warnings (unknown keys, for example) as errors.")
letterbox_option = click.option(
    "letterbox",
    "-letter_box/--stretch",
    default=None,
    help="Letterbox images (keep the aspect ratio) or stretch them.  [default: letterbox in pjreddie's dialect; "
    "letter_box= of the cfg in alexeyab's]",
)
device_option = click.option(
    "-i",
    "--device",
    metavar="NAME",
    help="cpu, cuda, cuda:1, mps, or the number of a GPU; -nogpu means cpu.  [default: a GPU if available]",
)
_network_options = (
    dialect_option,
    strict_option,
    device_option,
    click.option("--allow-partial", is_flag=True, help="Accept weights that end early; the last layers stay random."),
)
_speed_options = (
    click.option(
        "--engine",
        type=click.Choice(["torch", "onnxruntime", "openvino"]),
        default="torch",
        show_default=True,
        help="Inference engine; onnxruntime and openvino must be installed and run the ONNX export.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16", "int8"]),
        default="fp32",
        show_default=True,
        help="Arithmetic precision. Lower is faster and slightly less accurate; measure the loss with `detector map`.",
    ),
    click.option(
        "--compile",
        "compiled",
        is_flag=True,
        help="Compile with torch.compile (5-30 s per batch size; needs g++). Worth it for long runs.",
    ),
    click.option(
        "--calibrate",
        type=FILE_PATH,
        metavar="IMAGES",
        help="Folder or list of images that calibrate int8 quantization.  [default: the input images]",
    ),
)
network_options = collect(LoadOptions, "load", *_network_options)
"""Options for loading a network; the command gets a LoadOptions as `load`."""
fast_network_options = collect(LoadOptions, "load", *_network_options, *_speed_options)
"""`network_options`, and how fast the network runs."""
box_options = compose(
    click.option(
        "-thresh",
        "--thresh",
        type=UnitFloat(),
        metavar="0..1",
        help="Show detections above this score.  [default: the dialect's]",
    ),
    click.option(
        "-hier",
        "--hier",
        type=UnitFloat(),
        default=0.5,
        metavar="0..1",
        show_default=True,
        help="In class trees (yolo9000), the score at which a class is split into its children.",
    ),
    click.option(
        "--nms",
        type=UnitFloat(),
        default=0.45,
        metavar="0..1",
        show_default=True,
        help="Suppress boxes that overlap a better one by more than this IoU.",
    ),
    letterbox_option,
)
ignored_options = compose(
    click.option("-dont_show", is_flag=True, expose_value=False, hidden=True),
    *(
        click.option(name, is_flag=True, expose_value=False, hidden=True, callback=_say_ignored)
        for name in ("-fullscreen", "-benchmark_layers", "-cuda_debug_sync", "-show")
    ),
)
"""darknet's options without effect here: darkpy never opens a window."""
