"""Options that several commands share.

Command lines the way darknet's users write them.

Options may stand anywhere, also before the command, with one dash or two; `_` and `-` inside a name are ignored, so
`-ext_output`, `--ext-output` and `--extoutput` are the same option. Unknown options are errors.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from darkpy.cli import console
from darkpy.cli.darknet_words import (
    COMMANDS_IGNORING_OPTIONS,
    COMMANDS_IGNORING_WORDS,
    DARKNET_OPTIONS,
    GENERAL_OPTIONS,
    SILENT_OPTIONS,
    UNSUPPORTED_OPTIONS,
)
from darkpy.dialect import DIALECT_NAMES
from darkpy.errors import DarkpyError
from darkpy.files import is_input, is_own_output, note_input, with_slashes

Decorator = Callable[[Any], Any]


ADDRESS_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class _File(click.Path):
    """A path, also with the backslashes of Windows.

    An empty one, as scripts with unset variables give, is an error and not the working directory. A file that is not
    for output is an input, which no command writes over.
    """

    def __init__(self, *, is_output: bool = False, is_text: bool = False) -> None:
        super().__init__(path_type=Path, readable=False)  # its reader raises a more precise error
        self.is_output, self.is_text = is_output, is_text

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the file name is empty.", param, ctx)
        if ADDRESS_PATTERN.match(str(value)):
            if self.is_text:
                return value
            raise DarkpyError(f"{value}: is an address, and darkpy reads files", hint="download it, and name the file")
        path = with_slashes(Path(os.fsdecode(super().convert(value, param, ctx))))
        if not self.is_output:
            note_input(path)
        return str(path) if self.is_text else path


class _NetworkFile(_File):
    """A cfg or weight file, or the name of a network that comes with darkpy: its cfg, or its fetched weights."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from darkpy.catalog import find_cfg, find_model, find_weights

        path = value
        if self.kind == "cfg" and not Path(value).suffix:  # also for a word like a name, which is an error
            path = find_cfg(value)
        elif self.kind == "weights" and find_model(value):
            path = find_weights(value)
        if path != value:
            console.info(f"{value}: {self.kind} {path}")
        return super().convert(path, param, ctx)


class UnitFloat(click.types.FloatParamType):
    """A number from 0 to 1, not NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number <= 1:
            self.fail(f"{value} is not a number from 0 to 1.", param, ctx)
        return number


class OptionalNumber(click.IntRange):
    """A number that may be left out behind its option, which then has the value `if_left_out`."""

    def __init__(self, low: int, high: int, *, if_left_out: int) -> None:
        super().__init__(low, high)
        self.if_left_out = str(if_left_out)


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
    tune: str | None = None
    low_memory: bool = False


FILE_PATH = _File()
CFG_PATH, WEIGHTS_PATH = _NetworkFile("cfg"), _NetworkFile("weights")
OUTPUT_PATH = _File(is_output=True)
SOURCE_PATH = _File(is_text=True)
"""A path, a stream's URL or a camera's number, as text: a path would lose a slash of the URL."""


def require_writable(target: Path, *, overwrite: bool, hint: str = "--force overwrites it") -> None:
    """Check that a command may write a file: none of its inputs, and new unless `overwrite`.

    Devices such as /dev/stdout may always be written. Raises: DarkpyError.
    """
    if is_input(target):
        raise DarkpyError(f"{target}: is an input of this command", hint="write to another file")
    if target.is_file() and not overwrite:
        raise DarkpyError(f"{target}: already exists", hint=hint)


def require_own(target: Path, *, overwrite: bool, hint: str = "--force overwrites it") -> None:
    """Check that a drawing or report may be written: new, or over one that darkpy made. Raises: DarkpyError."""
    require_writable(target, overwrite=overwrite or is_own_output(target), hint=f"darkpy did not make it; {hint}")


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


def _gpu_or_cpu(ctx: click.Context, option: click.Parameter, device: str | None) -> str | None:
    """Return the device, or the CPU for the number of a GPU on a machine without one, as darknet's CPU builds do."""
    if device is None or not device.isdecimal():
        return device
    import torch

    if torch.cuda.is_available():
        return device
    console.info(f"-i {device}: torch finds no GPU here; the CPU is used")
    return "cpu"


def _set_max_pixels(ctx: click.Context, option: click.Parameter, pixels: int | None) -> None:
    """Set the limit for this process and those that it starts."""
    if pixels is not None:
        from darkpy.data.loading.decoding import MAX_PIXELS_VARIABLE

        os.environ[MAX_PIXELS_VARIABLE] = str(pixels)


force_option = click.option("--force", "overwrite", is_flag=True, help="Overwrite existing files.")
json_option = click.option(
    "--json", "as_json", is_flag=True, callback=console.reserve_stdout, help="Print JSON instead of text."
)
dialect_option = click.option(
    "--dialect",
    type=click.Choice(DIALECT_NAMES),
    help="Darknet dialect of the cfg; v5 is alexeyab without the keys that darknet V5 does not read.  [default: "
    "detected from its keys, then from the weights]",
)
strict_option = click.option("--strict", is_flag=True, help="Treat cfg warnings (unknown keys, for example) as errors.")
letterbox_option = click.option(
    "letterbox",
    "-letter_box/--stretch",
    default=None,
    help="Letterbox images (keep the aspect ratio) or stretch them.  [default: letterbox in pjreddie's dialect; "
    "letter_box= of the cfg in alexeyab's]",
)
copy_option = click.option("--copy", is_flag=True, help="Copy the images instead of linking to them.")
corners_option = click.option(
    "--corners",
    type=click.Choice(["darknet", "voc", "edges"]),
    default="darknet",
    show_default=True,
    help="Meaning of xmin, ymin, xmax, ymax.",
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    metavar="N",
    expose_value=False,
    callback=_set_max_pixels,
    help="Refuse images of more pixels.  [default: 178956970, and fewer for files that may be decompression bombs]",
)
device_option = click.option(
    "-i",
    "--device",
    metavar="NAME",
    callback=_gpu_or_cpu,
    help="cpu, cuda, cuda:1, mps, or the number of a GPU; -nogpu means cpu.  [default: a GPU if available]",
)
_network_options = (
    dialect_option,
    strict_option,
    device_option,
    click.option("--allow-partial", is_flag=True, help="Accept partial weights; the last layers stay random."),
)
_speed_options = (
    click.option(
        "--engine",
        type=click.Choice(["torch", "auto", "onnxruntime", "openvino", "ncnn", "mnn"]),
        default="torch",
        show_default=True,
        help="Inference engine. auto measures those that are installed for about a second and selects the fastest; the "
        "others must be installed and run the exported network.",
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
    click.option(
        "--tune",
        type=click.Choice(["off", "on", "again"]),
        help="Measure which convolution kernels are fastest on this CPU: once, again, or never; the result is stored "
        "in ~/.cache/darkpy.  [default: on; off for few images]",
    ),
    click.option(
        "--low-memory",
        is_flag=True,
        help="Use no kernel that needs more memory than the weights; the fastest need up to seven times as much.",
    ),
)
network_options = collect(LoadOptions, "load", *_network_options)
"""Options for loading a network; the command gets a LoadOptions as `load`."""
fast_network_options = collect(LoadOptions, "load", *_network_options, *_speed_options, max_pixels_option)
"""`network_options`, how fast the network runs, and the largest images."""
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
OPTION_ALIASES = {"nogpu": ("--device", "cpu")}
MIN_SPELLING_LIKENESS = 0.75
"""Ratio of difflib from which another option's name is suggested for an unknown one."""
_FLAG_VALUE = re.compile(r"-?\d*\.?\d+|true|false|yes|no|on|off", re.IGNORECASE)


class Command(click.Command):
    """A command that accepts darknet's command lines.

    Options may be spelled and placed as darknet's users do. Where darknet has the command, options that it reads for
    every command are accepted without effect, a number after a flag and words after the last argument are ignored.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _DarknetLine(self, ctx).normalize(args))


class _DarknetLine:
    """Words of a command line, on their way to click."""

    def __init__(self, command: Command, ctx: click.Context) -> None:
        parameters = command.get_params(ctx)
        options = [option for option in parameters if isinstance(option, click.Option)]
        names = [(name, option) for option in options for name in (*option.opts, *option.secondary_opts)]
        self.exact = dict(names)
        self.known = {_strip_dashes(name): (name, option) for name, option in reversed(names)}
        self.ctx = ctx
        self.first = next(iter(ctx.command_path.split()[1:]), "")
        darknet = DARKNET_OPTIONS.get(self.first, GENERAL_OPTIONS)
        self.darknet = {_strip_dashes(name): (name, is_valued) for name, is_valued in darknet.items()}
        arguments = [argument for argument in parameters if isinstance(argument, click.Argument)]
        is_open = any(argument.nargs < 0 for argument in arguments) or self.first not in COMMANDS_IGNORING_WORDS
        self.capacity = None if is_open else len(arguments)
        self.without_effect: dict[str, None] = {}

    def normalize(self, args: Sequence[str]) -> list[str]:
        """Spell every option as click knows it; leave out what darknet ignores, with a note.

        Raises: DarkpyError for an unknown option.
        """
        normalized: list[str] = []
        words = deque(args)
        count = 0
        while words:
            word = words.popleft()
            if word == "--":
                normalized += [word, *words]
                break
            if is_option(word):
                normalized += self._option(word, words)
                continue
            count += 1
            if self.capacity is None or count <= self.capacity:
                normalized.append(word)
            else:
                console.warn(f"{word!r} is ignored: {self.ctx.command_path} takes {self.capacity} words before it")
        if self.without_effect:
            verb = "have" if len(self.without_effect) > 1 else "has"
            console.info(f"{', '.join(self.without_effect)} {verb} no effect in {self.ctx.command_path}")
        return normalized

    def _option(self, word: str, words: deque[str]) -> Sequence[str]:
        """Return an option with its values, taken from the words after it, as click knows them."""
        name, equals, value = word.partition("=")
        bare = _strip_dashes(name)
        spelling, option = (name, self.exact[name]) if name in self.exact else self.known.get(bare, ("", None))
        if option is not None:
            if option.is_flag or option.count:
                if bare in self.darknet:
                    self._drop_value(name, words)
                return (spelling, value) if equals else (spelling,)
            if isinstance(option.type, OptionalNumber) and not equals and not (words and words[0].isdecimal()):
                return (spelling, option.type.if_left_out)
            count = 0 if equals else min(option.nargs, len(words))
            return (spelling, *([value] if equals else [words.popleft() for _ in range(count)]))
        if bare in OPTION_ALIASES and "device" in self.known:
            return OPTION_ALIASES[bare]
        is_video = self.ctx.info_name == "demo"  # there they have an effect in darknet
        is_ignored = self.first in COMMANDS_IGNORING_OPTIONS and not is_video
        is_supported = bare not in UNSUPPORTED_OPTIONS or is_ignored
        if bare in self.darknet and is_supported:
            spelling, is_valued = self.darknet[bare]
            if not is_valued:
                self._drop_value(name, words)
            elif not equals and words:
                words.popleft()
            if spelling not in SILENT_OPTIONS:
                self.without_effect[spelling] = None
            return ()
        if self.ctx.resilient_parsing:  # shell completion of an unfinished word
            return (word,)
        raise unknown_option(name, self.ctx.command_path, [*self.exact, *(name for name, _ in self.darknet.values())])

    def _drop_value(self, flag: str, words: deque[str]) -> None:
        """Drop a number after one of darknet's flags, unless it names a file."""
        if words and _FLAG_VALUE.fullmatch(words[0]) and not Path(words[0]).exists():
            console.info(f"{flag} takes no value: the {words.popleft()} after it is ignored")


def _strip_dashes(name: str) -> str:
    return name.replace("-", "").replace("_", "")


def is_option(word: str) -> bool:
    """True for a word with a dash; a single dash is a file name."""
    return word.startswith("-") and word != "-"


def unknown_option(name: str, command: str, known: Sequence[str]) -> DarkpyError:
    """Build the error for an option that a command lacks, with the one that may be meant."""
    if _strip_dashes(name) in UNSUPPORTED_OPTIONS:
        purpose, replacement = UNSUPPORTED_OPTIONS[_strip_dashes(name)]
        return DarkpyError(f"{name} {purpose}", hint=replacement)
    spellings = {_strip_dashes(spelling).lower(): spelling for spelling in reversed(known)}
    close = get_close_matches(_strip_dashes(name).lower(), spellings, n=1, cutoff=MIN_SPELLING_LIKENESS)
    hint = f"did you mean {spellings[close[0]]}?" if close else f"{command} --help lists them"
    return DarkpyError(f"{command} has no option {name}", hint=hint)
